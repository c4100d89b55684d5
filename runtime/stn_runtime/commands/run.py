"""The command run: classify a camera, a video, or pictures."""

import argparse
import sys
from contextlib import closing

from tqdm import tqdm

from ..errors import printable
from ..machine.signals import StopSignals
from ..machine.systemd import notify
from ..pipeline.pipeline import classify
from .open_run import OpenRun
from .run_options import RunOptions, add_run_arguments

__all__ = ["add_run_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Classify every frame of a source; return 0, 1 when frames failed, or 130 when a signal ended the run."""
    options = RunOptions.from_arguments(args)
    with StopSignals() as signals:
        with OpenRun(options) as opened:
            name = printable(opened.classifier.manifest.name)
            sys.stderr.write(f"{name} runs on {', '.join(opened.classifier.providers)}\n")
            signals.ends(opened.interrupt)
            frames, failed = _write_records(opened)
        _report(frames, failed, opened)
    if signals.happened:
        return 130
    return 1 if failed else 0


def _write_records(opened: OpenRun) -> tuple[int, int]:
    """Write a record for each frame; return how many frames there were, and how many failed."""
    frames = failed = 0
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
    with closing(records), tqdm(total=total, unit="frame", leave=False, disable=None) as progress:
        notify("READY=1")
        for record in records:
            opened.writer.write(record)
            notify()
            if record.event is None:
                frames += 1
                failed += record.error is not None
                progress.update()
    return frames, failed


def _report(frames: int, failed: int, opened: OpenRun) -> None:
    place = f", annotated in {opened.options.save}" if opened.options.save else ""
    sys.stderr.write(f"{frames} frames, {failed} failed{place}\n")
    for worker in opened.workers:
        if worker.dropped:
            sys.stderr.write(f"{worker.name}: {worker.dropped} dropped: disk, command or reader too slow\n")
