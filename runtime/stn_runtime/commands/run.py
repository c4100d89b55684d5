"""The command run: classify a camera, a video, or pictures."""

import argparse
import os
import sys
from contextlib import ExitStack
from typing import TextIO

from ..arguments import MOST_THREADS, above_zero, place, share, size, text, whole
from ..errors import InputError
from ..machine.signals import Interruption
from ..machine.systemd import notify
from ..machine.worker import Worker
from ..model.classifier import Classifier
from ..model.tuning import tuned_threads
from ..model.zoo import find_model
from ..pipeline.pipeline import Judgement, Summary
from ..pipeline.pipeline import run as run_pipeline
from ..preview.metrics import STALE_SECONDS
from ..records.resuming import open_results, writer_for
from ..records.writers import JsonLines, Readable, RecordSink
from ..sources.cameras import Live
from ..sources.captures import CameraOptions
from ..sources.frame import Selection
from ..sources.opening import has_time, open_source
from ..sources.result_folders import ResultsFolder, check_place
from ..sources.source import Source
from ..sources.video import VIDEO_SUFFIXES, Video
from ..views.background import BackgroundView, BackgroundWriter
from ..views.event_command import Hook
from ..views.saving import Crops, open_saver
from ..views.view import View
from ..views.window import Window

_IDLE_SECONDS = 0.05  # between looks for a key, while a camera sends nothing
_SERVED_SIDE = 480  # pixels that the shorter side of a served picture keeps
_LEAST_STALL = 0.2  # seconds, in which any camera sends a picture
_SAVING = "--save"  # the worker of all that is saved
_VIEW_LIMIT, _EVENT_LIMIT, _RECORD_LIMIT = 2, 100, 10_000  # that may wait for a slow disk, command or reader


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn run`` takes."""
    parser.usage = "stn run SOURCE ... [options]"  # the whole list would bury the sentence about a wrong one
    parser.add_argument(
        "source",
        nargs="+",
        help="camera number, /dev path or picam; picture, folder, glob, video; list of pictures (.txt, or - for "
        "standard input); http or rtsp address. Several cameras are read at once, several files in turn",
    )
    parser.add_argument("-m", "--model", default="digits", help="released model or .onnx file (default: %(default)s)")
    _add_selection(parser.add_argument_group("which frames"))
    _add_camera(parser.add_argument_group("cameras"))
    _add_results(parser.add_argument_group("results"))
    _add_engine(parser.add_argument_group("engine"))


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--stride", type=whole(), default=1, metavar="N", help="take every Nth frame or picture")
    group.add_argument("--max-fps", type=above_zero(), metavar="F", help="at most F frames a second of video or camera")
    group.add_argument("--limit", type=whole(), metavar="N", help="end after N frames")
    group.add_argument("--loop", action="store_true", help="start over at the end of the file or folder")
    group.add_argument("--watch", action="store_true", help="wait for new pictures in the folder")
    group.add_argument("--resume", action="store_true", help="continue after what --output already holds")


def _add_camera(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backend", metavar="NAME", help="v4l2, gstreamer, dshow, msmf, avfoundation or ffmpeg")
    group.add_argument("--size", type=size, metavar="WxH", help="ask for pictures of this size, such as 1280x720")
    group.add_argument("--rate", type=above_zero(), metavar="F", help="ask for F frames a second")
    group.add_argument("--mjpg", action="store_true", help="ask for Motion JPEG: USB cameras are slow without it")
    group.add_argument(
        "--stall-seconds",
        type=above_zero(),
        default=CameraOptions.stall_seconds,
        metavar="S",
        help="reopen a camera that sends no new picture for so long (default: %(default)g)",
    )
    group.add_argument("--wait", action="store_true", help="wait for a camera that cannot be opened yet")


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--output", type=place, metavar="FILE", help="write records to this .jsonl or .csv file")
    group.add_argument(
        "--save", type=place, metavar="PATH", help="save annotated pictures (folder) or video (.mp4, .avi)"
    )
    group.add_argument(
        "--save-crops", type=place, metavar="FOLDER", help="save what the classifier saw, a folder for each label"
    )
    group.add_argument(
        "--show", action="store_true", help="open a window: q or Esc ends, space pauses, s snapshot, t theta"
    )
    group.add_argument("--serve", metavar="[HOST:]PORT", help="serve a page with the picture and the records")
    group.add_argument(
        "--token",
        help="secret for clients of --serve, required beyond this machine (better: environment variable STN_TOKEN)",
    )
    group.add_argument(
        "--on-event", type=text, metavar="COMMAND", help="run this when a label changes, or a camera is lost or back"
    )
    group.add_argument("--topk", type=whole(), default=5, metavar="K", help="number of labels in a record (default: 5)")
    group.add_argument("--conf", type=share, default=0.0, metavar="P", help="below this probability a label is null")
    group.add_argument(
        "--smooth", type=above_zero(), default=0.0, metavar="S", help="average a video or camera over about S seconds"
    )


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--full-decode", action="store_true", help="decode JPEGs at full size even if not needed")
    threads = group.add_mutually_exclusive_group()
    threads.add_argument(
        "--threads", type=whole(MOST_THREADS), metavar="N", help="onnxruntime threads (default: 1 per usable CPU)"
    )
    threads.add_argument(
        "--tune", action="store_true", help="measure how many threads are fastest, and remember it for the next start"
    )
    group.add_argument(
        "--providers", nargs="+", metavar="EP", help="execution providers to use; it is an error if one is missing"
    )


def run(args: argparse.Namespace) -> int:
    """Classify every frame of a source."""
    _check(args)
    with Interruption() as interruption, ExitStack() as stack:
        selection = Selection(args.stride, args.max_fps, args.loop, args.watch)
        options = CameraOptions(args.backend, args.size, args.rate, args.mjpg, args.stall_seconds, args.wait)
        source = open_source(args.source, options, selection)
        stack.callback(source.close)
        classifier = _classifier(args, source.live)
        workers: list[Worker] = []
        views = _views(args, source, classifier, stack, workers, interruption)
        if not (_needs_whole(args) or classifier.manifest.export.form == "split"):  # which samples the frame itself
            source.reduce_for(classifier.manifest.preprocess, _SERVED_SIDE if args.serve else 0)
        writer = _writer(args, source, stack, workers)  # last: a typing error must not empty yesterday's results
        sys.stderr.write(f"{classifier.manifest.name} runs on {', '.join(classifier.providers)}\n")
        notify("READY=1")
        judgement = Judgement(args.conf, args.smooth)
        summary = run_pipeline(source, classifier, writer, views, judgement, args.limit, interruption)
    _report(summary, args, workers)
    if interruption.happened:
        return 130
    return 1 if summary.failed else 0


def _check(args: argparse.Namespace) -> None:
    if args.output is not None:
        writer_for(args.output)
    elif args.resume:
        raise InputError("--resume goes on with a results file: name it with --output")
    if args.resume and args.loop:
        raise InputError("--loop reads everything again: leave --resume out")
    if args.token is not None and args.serve is None:
        raise InputError("--token is for --serve: name its port")
    if args.stall_seconds < _LEAST_STALL:
        raise InputError(f"--stall-seconds {args.stall_seconds:g}: a camera needs at least {_LEAST_STALL:g} s")
    for folder in filter(None, (args.save, args.save_crops)):
        for name in args.source:
            check_place(folder, name)


def _classifier(args: argparse.Namespace, live: bool) -> Classifier:
    threads = args.threads
    # Threads that spin would take the CPUs from those that read and decode.
    if args.tune:
        threads = tuned_threads(find_model(args.model), args.providers)
    classifier = Classifier(args.model, threads=threads, providers=args.providers, topk=args.topk, live=True)
    if args.save_crops and "rectified" not in classifier.manifest.outputs:
        raise InputError(f"{args.model}: gives no rectified picture for --save-crops; export it with that output")
    if args.tune:
        sys.stderr.write(f"fastest with --threads {threads} here\n")
    if live:
        classifier.warm_up()
    return classifier


def _needs_whole(args: argparse.Namespace) -> bool:
    return bool(args.save or args.show or args.full_decode)


def _writer(args: argparse.Namespace, source: Source, stack: ExitStack, workers: list[Worker]) -> RecordSink:
    writer: RecordSink
    stream: TextIO | None = None
    if args.output is None:
        writer = Readable(sys.stdout) if sys.stdout.isatty() else JsonLines(sys.stdout)
    else:
        writer, stream, done = open_results(args.output, args.resume)
        if args.resume:
            sys.stderr.write(f"{args.output}: {done.records} records are there already\n")
            source.skip(done)
    # A record is written when what it tells of has been saved.
    worker = next((worker for worker in workers if worker.name == _SAVING), None)
    if source.live:
        worker = Worker("records", _RECORD_LIMIT, drops=True)
        workers.append(worker)
    if stream is not None:
        stack.callback(_close_results, stream, worker)
    if worker is None:
        return writer
    background = BackgroundWriter(writer, worker)
    stack.callback(background.close)
    return background


def _close_results(stream: TextIO, worker: Worker | None) -> None:
    """Close a results file.

    Raises:
        InputError: It cannot be written to the end, or was deleted while it was written.
    """
    if worker is not None and not worker.ended:  # a disk that does not answer would hold this up for ever
        return
    is_deleted = not os.fstat(stream.fileno()).st_nlink and not os.path.exists(stream.name)  # and not moved
    try:
        stream.close()
    except OSError as error:
        raise InputError(f"{stream.name}: cannot be written ({error.strerror or error})") from error
    if is_deleted:
        raise InputError(f"{stream.name}: was deleted during the run, and its records with it")


def _views(
    args: argparse.Namespace,
    source: Source,
    classifier: Classifier,
    stack: ExitStack,
    workers: list[Worker],
    interruption: Interruption,
) -> list[View]:
    views: list[View] = []

    def worker(name: str, limit: int) -> Worker:
        workers.append(Worker(name, limit, drops=source.live))
        return workers[-1]

    # What is opened first is closed last: commands and clients may take their time, and what is saved is whole by then.
    if args.on_event:
        events = worker("--on-event", _EVENT_LIMIT)
        hook = Hook(args.on_event, events.put)
        stack.callback(hook.close)
        stack.callback(events.close)
        interruption.ends(events.forget, hook.end_soon)
        views.append(hook)
    if args.serve is not None:
        from ..preview.preview import Preview, parse_address  # the packages that it needs are an extra

        token = args.token if args.token is not None else os.environ.get("STN_TOKEN")
        preview = Preview(parse_address(args.serve), token, classifier.manifest.name, source.live, _stale_seconds(args))
        stack.callback(preview.close)
        shown = preview.url if args.token is not None else preview.url.partition("?")[0]  # a secret stays out of logs
        sys.stderr.write(f"serving {shown}\n")
        views.append(preview)
    if savers := _savers(args, source):
        saver = worker(_SAVING, 3 * _VIEW_LIMIT)
        for view in savers:
            views.append(BackgroundView(view, saver))
            stack.callback(views[-1].close)
    if args.show:
        window = Window(not has_time(source), source.live, classifier.manifest)
        stack.callback(window.close)
        views.append(window)
        if isinstance(source, Live):
            source.when_idle(window.pump, _IDLE_SECONDS)
    return views


def _savers(args: argparse.Namespace, source: Source) -> list[View]:
    savers: list[View] = []
    if args.save and args.save_crops and args.save.suffix.lower() not in VIDEO_SUFFIXES:
        for folder in sorted((args.save, args.save_crops), key=lambda path: len(path.parts)):
            ResultsFolder(folder)  # the outer one first, while it is empty
    if args.save_crops:
        savers.append(Crops(args.save_crops))
    if args.save:
        is_one_film = source.live or isinstance(source, Video)
        savers.append(open_saver(args.save, args.source, is_one_film, source.live, args.resume))
    return savers


def _stale_seconds(args: argparse.Namespace) -> float:
    """Return how old a camera's newest result may be before the run counts as stalled."""
    stall: float = args.stall_seconds
    return max(STALE_SECONDS, 1.5 * stall, 3 / args.max_fps if args.max_fps else 0.0)


def _report(summary: Summary, args: argparse.Namespace, workers: list[Worker]) -> None:
    place = f", annotated in {args.save}" if args.save else ""
    sys.stderr.write(f"{summary.frames} frames, {summary.failed} failed{place}\n")
    for worker in workers:
        if worker.dropped:
            sys.stderr.write(f"{worker.name}: {worker.dropped} dropped: disk, command or reader too slow\n")
