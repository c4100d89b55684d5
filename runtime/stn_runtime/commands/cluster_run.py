"""``stn run --engine ray``: what its arguments mean there, and what it says at the end."""

import argparse
import os
import sys
import time

from tqdm import tqdm

from ..cluster.ray_run import ClusterOptions, classify_on_ray
from ..errors import InputError
from ..machine.redaction import without_secrets
from ..sources.captures import CameraOptions
from ..sources.frame import Selection
from .summary import Summary

_OF_LIVE_RUNS = {
    "max_fps": None,
    "loop": False,
    "watch": False,
    "backend": None,
    "size": None,
    "rate": None,
    "mjpg": False,
    "stall_seconds": CameraOptions.stall_seconds,
    "still_ok": False,
    "wait": False,
    "fields": None,
    "save": None,
    "save_crops": None,
    "show": False,
    "serve": None,
    "token": None,
    "on_event": None,
    "smooth": 0.0,
    "tune": False,
}
"""Arguments of ``stn run`` that mean nothing to a cluster, and what they are when they are not given."""


def run_cluster(args: argparse.Namespace) -> int:
    """Classify stored pictures on a Ray cluster; return 0, or 1 when some could not be read.

    Raises:
        InputError: An option does not go with a cluster, or something that it needs cannot be had.
    """
    for name, default in _OF_LIVE_RUNS.items():
        if getattr(args, name) != default:
            raise InputError(
                f"--{name.replace('_', '-')} is for --engine local: leave it out, or leave --engine ray out"
            )
    if args.output is None:
        raise InputError("--engine ray writes a folder of parquet files: name it with --output, such as labels.parquet")
    options = ClusterOptions(
        sources=tuple(args.source),
        output=str(args.output),
        model=args.model,
        address=args.address or os.environ.get("RAY_ADDRESS"),
        workers=args.workers,
        threads=args.threads or 1,
        providers=tuple(args.providers) if args.providers is not None else None,
        topk=args.topk,
        threshold=args.conf,
        full_decode=args.full_decode,
        selection=Selection(args.stride, all_files=args.all_files),
        limit=args.limit,
        resume=args.resume,
    )
    summary, started = Summary(), time.monotonic()
    count, partitions = classify_on_ray(options)
    for done in tqdm(partitions, "partitions", count, leave=False, disable=None):
        summary.frames += done.frames
        summary.failed += done.failed
        summary.labels.update(done.labels)
        summary.seconds = time.monotonic() - started
    sys.stderr.write(f"{summary.text()}\nrecords in {without_secrets(options.output)}\n")
    return 1 if summary.failed else 0
