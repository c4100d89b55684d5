"""The command run: classify a camera, a video, or pictures."""

import argparse
import sys
import time
from contextlib import closing

from tqdm import tqdm

from ..errors import printable
from ..machine.signals import StopSignals
from ..machine.systemd import notify
from ..pipeline.pipeline import classify
from .open_run import OpenRun
from .run_options import RunOptions, add_run_arguments
from .summary import Summary

__all__ = ["add_run_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Classify every frame of a source; return 0, 1 when frames failed, or 130 when a signal ended the run."""
    if args.engine == "ray":
        from .cluster_run import run_cluster  # the packages that it needs are an extra

        return run_cluster(args)
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
