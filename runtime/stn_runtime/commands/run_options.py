"""What ``stn run`` is asked for: its arguments, and what they mean as one value."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from ..arguments import MOST_THREADS, above_zero, did_you_mean, place, share, size, text, whole
from ..errors import InputError
from ..model.zoo import DEFAULT_MODEL
from ..records.results_file import writer_for
from ..records.writers import CSV_COLUMNS
from ..sources.captures import CameraOptions
from ..sources.frame import Selection
from ..sources.result_folders import check_place

_LEAST_STALL = 0.2  # seconds, in which any camera sends a picture


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked for.

    Attributes:
        sources: Names of cameras, files, folders, lists or addresses, as the user wrote them.
        model: Name of a released model, or path of an .onnx file.
        selection: Says which frames are wanted.
        camera: Says how cameras are asked for pictures, and watched.
        limit: Number of frames after which the run ends; None is endless.
        threshold: Confidence below which a label is null; None takes the model's.
        smooth_seconds: Time constant of averaging, seconds; 0 does not average.
        topk: Number of labels in a record.
        output: Results file; None writes to standard output.
        resume: Whether the run goes on behind what the results file holds.
        fields: Names of the fields of a record that are written; None writes all.
        save: Folder or video file for annotated pictures.
        crops: Folder for what the classifier saw.
        show: Whether a window opens.
        serve: Address of the preview's page, ``[HOST:]PORT``.
        token: Access token of the preview.
        is_token_secret: Whether the token came in the environment, so that it stays out of logs.
        event_command: Shell command for changes of the label and of cameras.
        full_decode: Whether JPEGs are decoded at full size.
        threads: onnxruntime's threads; None takes one for each usable CPU.
        tune: Whether the number of threads is measured.
        providers: onnxruntime's execution providers; None chooses.
    """

    sources: tuple[str, ...]
    model: str
    selection: Selection
    camera: CameraOptions
    limit: int | None
    threshold: float | None
    smooth_seconds: float
    topk: int
    output: Path | None
    resume: bool
    fields: tuple[str, ...] | None
    save: Path | None
    crops: Path | None
    show: bool
    serve: str | None
    token: str | None
    is_token_secret: bool
    event_command: str | None
    full_decode: bool
    threads: int | None
    tune: bool
    providers: tuple[str, ...] | None

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> "RunOptions":
        """Return the options that the command line holds.

        Raises:
            InputError: Two of them do not go together.
        """
        options = cls(
            sources=tuple(args.source),
            model=args.model,
            selection=Selection(args.stride, args.max_fps, args.loop, args.watch, args.all_files),
            camera=CameraOptions(
                args.backend,
                args.size,
                args.rate,
                args.mjpg,
                still_ok=args.still_ok,
                stall_seconds=args.stall_seconds,
                wait=args.wait,
            ),
            limit=args.limit,
            threshold=args.conf,
            smooth_seconds=args.smooth,
            topk=args.topk,
            output=args.output,
            resume=args.resume,
            fields=args.fields,
            save=args.save,
            crops=args.save_crops,
            show=args.show,
            serve=args.serve,
            token=args.token if args.token is not None else os.environ.get("STN_TOKEN"),
            is_token_secret=args.token is None,
            event_command=args.on_event,
            full_decode=args.full_decode,
            threads=args.threads,
            tune=args.tune,
            providers=tuple(args.providers) if args.providers is not None else None,
        )
        if args.address is not None or args.workers is not None:
            raise InputError("--address and --workers are for --engine ray: add it, or leave them out")
        if args.token is not None and args.serve is None:
            raise InputError("--token is for --serve: name its port")
        options.check()
        return options

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            InputError: Two of them do not.
        """
        if isinstance(self.output, str):
            raise InputError(f"--output {self.output}: is an address, where only --engine ray writes")
        if self.output is not None:
            writer_for(self.output)
        elif self.resume:
            raise InputError("--resume goes on with a results file: name it with --output")
        if self.resume and self.selection.loop:
            raise InputError("--loop reads everything again: leave --resume out")
        stall = self.camera.stall_seconds
        if stall < _LEAST_STALL:
            raise InputError(f"--stall-seconds {stall:g}: a camera needs at least {_LEAST_STALL:g} s")
        for folder in filter(None, (self.save, self.crops)):
            for name in self.sources:
                check_place(folder, name)

    @property
    def needs_whole_pictures(self) -> bool:
        """Whether pictures are wanted at their full size, by a person or by the user's word."""
        return bool(self.save or self.show or self.full_decode)


def fields(text: str) -> tuple[str, ...]:
    """Read names of fields, separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in CSV_COLUMNS:
            hint = did_you_mean(name, CSV_COLUMNS) or f"; there are {', '.join(CSV_COLUMNS)}"
            raise argparse.ArgumentTypeError(f"has no field '{name}'{hint}")
    return names


def place_or_address(value: str) -> Path | str:
    """Read the path of a file or folder, or an address such as ``s3://bucket/folder``."""
    return text(value) if "://" in value else place(value)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn run`` takes."""
    parser.usage = "stn run SOURCE ... [options]"  # the whole list would bury the sentence about a wrong one
    parser.add_argument(
        "source",
        nargs="+",
        help="camera number, /dev path or picam; picture, folder, glob, video; list of pictures (.txt, or - for "
        "standard input); http or rtsp address. Several cameras are read at once, several files in turn. NAME=CAMERA "
        "gives a camera the name that its records bear",
    )
    parser.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help="released model or .onnx file (default: %(default)s)"
    )
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
    group.add_argument(
        "--all-files", action="store_true", help="take also what other programs left in folders, such as ._IMG.jpg"
    )
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
    group.add_argument(
        "--still-ok", action="store_true", help="a camera without a clock may repeat one picture, as of a slide"
    )
    group.add_argument("--wait", action="store_true", help="wait for a camera that cannot be opened yet")


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-o", "--output", type=place_or_address, metavar="FILE", help="write records to this .jsonl or .csv file"
    )
    group.add_argument(
        "--fields",
        type=fields,
        metavar="NAMES",
        help="fields of a record, such as source,label (default: all)",
    )
    group.add_argument(
        "--save",
        type=place,
        metavar="PATH",
        help="save annotated pictures in a folder, one picture (.jpg, .png), or a video (.mp4, .mkv, .avi, .webm)",
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
    group.add_argument(
        "--conf", type=share, metavar="P", help="below this probability a label is null (default: the model's, if any)"
    )
    group.add_argument(
        "--smooth", type=above_zero(), default=0.0, metavar="S", help="average a video or camera over about S seconds"
    )


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray classifies folders, parquet files and s3://, gs:// or file:// addresses on a Ray cluster, or on all "
        "CPUs of this machine, into --output, a folder of parquet files (default: local)",
    )
    group.add_argument(
        "--address", metavar="ADDRESS", help="of --engine ray: a cluster's (default: one on this machine)"
    )
    group.add_argument(
        "--workers", type=whole(), metavar="N", help="of --engine ray: processes (default: 1 for each CPU there)"
    )
    group.add_argument("--full-decode", action="store_true", help="decode JPEGs at full size even if not needed")
    threads = group.add_mutually_exclusive_group()
    threads.add_argument(
        "--threads", type=whole(MOST_THREADS), metavar="N", help="onnxruntime threads (default: 1 per usable CPU)"
    )
    threads.add_argument(
        "--tune", action="store_true", help="use the fastest engine and number of threads here, measured the first time"
    )
    group.add_argument(
        "--providers", nargs="+", metavar="EP", help="execution providers to use; it is an error if one is missing"
    )
