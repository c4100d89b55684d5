"""The command run: classify a camera, a video, or pictures."""

import argparse
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from tqdm import tqdm

from ..errors import printable
from ..machine.signals import StopSignals
from ..machine.systemd import notify
from ..pipeline.pipeline import classify
from ..records.record import Record
from .open_run import OpenRun
from .run_options import RunOptions, add_run_arguments

__all__ = ["add_run_arguments", "run"]


_LABELS_SHOWN = 10


@dataclass
class Summary:
    """Counts of a run.

    Attributes:
        frames: Frames that have a record.
        failed: Those of them that could not be read.
        labels: Frames by label; those below the threshold are counted as ``unsure``, those of the label that means
            none of the others as ``no label`` with its name.
        seconds: Duration from the first frame asked for to the last record.
    """

    frames: int = 0
    failed: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def count(self, record: Record) -> None:
        """Count one record; the event of a camera is no frame."""
        if record.event is not None:
            return
        self.frames += 1
        self.failed += record.error is not None
        if record.prediction is not None:
            name = record.prediction.shown_label
            missing = f"no label ({name})" if record.rejected else record.missing_label
            self.labels[missing or name] += 1

    def text(self) -> str:
        """Return the counts as one line, and a second one with the most frequent labels where there are any."""
        rate = f", {self.frames / self.seconds:.1f} a second" if self.seconds and self.frames else ""
        ranked = self.labels.most_common()
        shown = [f"{printable(label, 40)}: {count}" for label, count in ranked[:_LABELS_SHOWN]]
        hidden = len(ranked) - len(shown)
        others = [f"{hidden} other label{'s' * (hidden > 1)}"] if hidden else []
        labels = f"\nlabels: {', '.join(shown + others)}" if shown else ""
        return f"{self.frames} frames, {self.failed} failed{rate}{labels}"


def run(args: argparse.Namespace) -> int:
    """Classify every frame of a source; return 0, 1 when frames failed, or 130 when a signal ended the run."""
    options = RunOptions.from_arguments(args)
    with StopSignals() as signals:
        with OpenRun(options) as opened:
            name = printable(opened.classifier.manifest.name)
            rule = opened.classifier.manifest.label_rule(options.threshold)
            providers = ", ".join(opened.classifier.providers)
            sys.stderr.write(f"{name} runs on {providers}{f'; {rule}' if rule else ''}\n")
            signals.ends(opened.interrupt)
            summary = _write_records(opened)
        _report(summary, opened)
    if signals.happened:
        return 130
    return 1 if summary.failed else 0


def _write_records(opened: OpenRun) -> Summary:
    """Write a record for each frame and event."""
    summary, started = Summary(), time.monotonic()
    options, source = opened.options, opened.source
    total = source.total if options.limit is None else min(options.limit, source.total or options.limit)
    records = classify(
        source,
        opened.classifier,
        threshold=options.threshold,
        smooth_seconds=options.smooth_seconds,
        limit=options.limit,
        views=opened.views,
    )
    with closing(records), tqdm(total=total, unit=" frames", leave=False, disable=None) as progress:
        notify("READY=1")
        for record in records:
            opened.writer.write(record)
            notify()
            summary.count(record)
            progress.update(record.event is None)
            summary.seconds = time.monotonic() - started
    return summary


def _report(summary: Summary, opened: OpenRun) -> None:
    sys.stderr.write(f"{summary.text()}\n")
    if opened.options.save:
        sys.stderr.write(f"annotated in {opened.options.save}\n")
    for worker in opened.workers:
        if worker.dropped:
            sys.stderr.write(f"{worker.name}: {worker.dropped} dropped: disk, command or reader too slow\n")
