"""Everything that a run has open: its source, classifier, views and writer, and the order in which they close."""

import sys
from contextlib import ExitStack

from ..errors import InputError
from ..machine.worker import Worker
from ..model.classifier import Classifier
from ..model.zoo import find_model
from ..preview.metrics import STALE_SECONDS
from ..records.results_file import ResultsFile
from ..records.writers import JsonLines, Readable, RecordWriter
from ..sources.opening import open_source
from ..sources.result_folders import ResultsFolder
from ..sources.video import VIDEO_SUFFIXES
from ..views.background import BackgroundView, BackgroundWriter
from ..views.event_command import EventCommand
from ..views.saving import Crops, open_saver
from ..views.view import View
from ..views.window import Window
from .run_options import RunOptions
from .tuning import tuned

_SERVED_SIDE = 480  # pixels that the shorter side of a served picture keeps
_VIEW_LIMIT, _EVENT_LIMIT, _RECORD_LIMIT = 6, 100, 10_000  # that may wait for a slow disk, command or reader


class OpenRun:
    """A run whose parts are open; a context manager, at whose end they are closed in the reverse order.

    The source opens first, since what saves and shows asks it. The writer opens last, so that a typing error in
    another option does not empty yesterday's results; it closes first. Views that save close before commands and
    clients, which may take their time: what is saved is whole by then.

    Args:
        options: Say what is opened.

    Attributes:
        source: Gives the frames.
        classifier: Runs on every frame.
        views: Are shown each frame with its record.
        writer: Takes the records.
        workers: Threads of slow views and writers, each with the number of what it dropped.

    Raises:
        InputError: Something cannot be opened; what was open already is closed again.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.views: list[View] = []
        self.workers: list[Worker] = []
        with ExitStack() as stack:
            self._closing = stack
            self.source = open_source(options.sources, options.camera, options.selection)
            stack.callback(self.source.close)
            self.classifier = _open_classifier(options)
            self._open_event_command()
            self._open_preview()
            saving = self._open_savers()
            self._open_window()
            self._reduce_pictures()
            self.writer = self._open_writer(saving)
            self._closing = stack.pop_all()

    def __enter__(self) -> "OpenRun":
        """Return the run itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the parts."""
        self._closing.close()

    def interrupt(self) -> None:
        """Let the run end after the frame that is under way; may be called from a signal handler."""
        self.source.close()
        for view in self.views:
            view.interrupt()

    def _add(self, view: View) -> None:
        self._closing.callback(view.close)
        self.views.append(view)

    def _worker(self, name: str, limit: int) -> Worker:
        self.workers.append(Worker(name, limit, drops=self.source.live))
        return self.workers[-1]

    def _open_event_command(self) -> None:
        if self.options.event_command:
            self._add(EventCommand(self.options.event_command, self._worker("--on-event", _EVENT_LIMIT)))

    def _open_preview(self) -> None:
        options = self.options
        if options.serve is None:
            return
        from ..preview.preview import Preview, parse_address  # the packages that it needs are an extra

        stall, rate = options.camera.stall_seconds, options.selection.max_fps
        stale = max(STALE_SECONDS, 1.5 * stall, 3 / rate if rate else 0.0)
        name = self.classifier.manifest.name
        preview = Preview(parse_address(options.serve), options.token, name, self.source.live, stale)
        self._add(preview)
        shown = preview.url.partition("?")[0] if options.is_token_secret else preview.url
        sys.stderr.write(f"serving {shown}\n")

    def _open_savers(self) -> Worker | None:
        """Open what saves pictures; return the worker of all that is saved."""
        save, crops = self.options.save, self.options.crops
        if save and crops and save.suffix.lower() not in VIDEO_SUFFIXES:
            for folder in sorted((save, crops), key=lambda path: len(path.parts)):
                ResultsFolder(folder)  # the outer one first, while it is empty
        savers: list[View] = [Crops(crops)] if crops else []
        if save:
            savers.append(open_saver(save, self.options.sources, self.source, keep=self.options.resume))
        if not savers:
            return None
        worker = self._worker("--save", _VIEW_LIMIT)
        for saver in savers:
            self._add(BackgroundView(saver, worker))
        return worker

    def _open_window(self) -> None:
        if self.options.show:
            self._add(Window(not self.source.timed, self.source.live, self.classifier.manifest))

    def _reduce_pictures(self) -> None:
        manifest = self.classifier.manifest
        if not (self.options.needs_whole_pictures or manifest.export.form == "split"):  # which samples the frame itself
            self.source.reduce_for(manifest.preprocess, _SERVED_SIDE if self.options.serve is not None else 0)

    def _open_writer(self, saving: Worker | None) -> RecordWriter:
        writer: RecordWriter
        if self.options.output is None:
            writer = Readable(sys.stdout) if sys.stdout.isatty() else JsonLines(sys.stdout, self.options.fields)
        else:
            writer = results = ResultsFile(self.options.output, self.options.resume, self.options.fields)
            if self.options.resume:
                sys.stderr.write(f"{self.options.output}: {results.done.records} records are there already\n")
                self.source.skip(results.done)
        # A record is written when what it tells of has been saved.
        worker = self._worker("records", _RECORD_LIMIT) if self.source.live else saving
        if worker is not None:
            writer = BackgroundWriter(writer, worker)
        self._closing.callback(writer.close)
        return writer


def _open_classifier(options: RunOptions) -> Classifier:
    threads, providers = options.threads, options.providers
    if options.tune:
        fastest = tuned(find_model(options.model), providers)
        threads, providers = fastest.threads, fastest.providers
        sys.stderr.write(
            f"fastest here: {fastest}, measured {fastest.measured}; 'stn bench {options.model}' measures anew\n"
        )
    # Threads that spin would take the CPUs from those that read and decode.
    classifier = Classifier(options.model, threads=threads, providers=providers, topk=options.topk, spin=False)
    if options.crops and "rectified" not in classifier.manifest.outputs:
        raise InputError(f"{options.model}: gives no rectified picture for --save-crops; export it with that output")
    return classifier
