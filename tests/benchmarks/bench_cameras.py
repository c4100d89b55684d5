"""Many 720p cameras on one machine: which share of their pictures `stn run` sees, and how late.

    python -m tests.benchmarks.bench_cameras --cameras 16 --seconds 30

Prints a Markdown table. The cameras are one process on this machine, `stn run` another. Latency is the time from the
first byte of a picture to its record in the hands of the reader.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.support.process import usage_of
from tests.support.streams import MjpegCamera

from .bench_folder import make_pictures
from .bench_live import Line, collect

PICTURES = 40  # shown again and again, by each camera from another one on
QUALITY = 80
WARM_UP = 5.0  # seconds
RUNS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (2, ()),
    (5, ()),
    (15, ()),
    (30, ()),
    (30, ("--max-fps", "2")),
    (30, ("--threads", "1")),
)
"""Pictures a second of each camera, and the options of ``stn run``."""


def play(jpegs: Sequence[bytes], rate: float, sent: Sequence[Any], ports: Any) -> None:  # noqa: ANN401
    """Be all cameras, for ever."""
    for number in range(len(sent)):

        def encode(stamp: Any, first: int = number) -> bytes:  # noqa: ANN401
            return jpegs[(first + stamp.number) % len(jpegs)]

        ports[number] = MjpegCamera(rate, encode, sent[number]).port
    threading.Event().wait()


@contextmanager
def cameras(jpegs: Sequence[bytes], count: int, rate: float, seconds: float) -> Iterator[tuple[list[str], Any]]:
    """Play cameras in another process: their addresses, and when each sent its pictures (0: not yet)."""
    context = multiprocessing.get_context("spawn")
    capacity = int((seconds + 60) * rate)
    sent = [context.Array("d", capacity, lock=False) for _ in range(count)]
    ports = context.Array("i", count, lock=False)
    process = context.Process(target=play, args=(jpegs, rate, sent, ports), daemon=True)
    process.start()
    while not all(ports):
        time.sleep(0.05)
    yield [f"camera{number}=http://127.0.0.1:{port}/stream.mjpg" for number, port in enumerate(ports)], sent
    process.terminate()
    process.join()


def row(jpegs: Sequence[bytes], count: int, rate: float, options: Sequence[str], seconds: float) -> str:
    """Let ``stn run`` look at all cameras; return a row of the table."""
    lines: list[Line] = []
    with cameras(jpegs, count, rate, seconds) as (addresses, sent):
        command = [sys.executable, "-m", "stn_runtime", "run", *addresses, *options]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout is not None
        threading.Thread(target=collect, args=(child.stdout, lines), daemon=True).start()
        while not lines:
            if child.poll() is not None:
                sys.exit(f"ended with status {child.poll()}: {' '.join(command)}")
            time.sleep(0.05)
        time.sleep(WARM_UP)
        begin, before = time.time(), usage_of(child.pid)
        time.sleep(seconds)
        end, after = time.time(), usage_of(child.pid)
        child.terminate()
        child.wait()
        records = [(told, json.loads(line)) for told, line in lines if begin <= told <= end]
        shown = [sum(begin <= moment <= end for moment in moments) for moments in sent]
        late = [told - sent[int(record["source"].removeprefix("camera"))][record["frame"]] for told, record in records]
    seen = Counter(record["source"] for _, record in records)
    shares = [100 * seen[f"camera{number}"] / shown[number] for number in range(count)]
    p50, p99 = 1000 * np.percentile(late, (50, 99))
    cpu = (after.cpu_seconds - before.cpu_seconds) / (end - begin)
    return (
        f"| {sum(shown) / count / seconds:.1f} | {' '.join(options) or '-'} | {len(records) / seconds:.0f} "
        f"| {100 * len(records) / sum(shown):.0f} % | {min(shares):.0f} to {max(shares):.0f} % "
        f"| {p50:.0f} | {p99:.0f} | {100 * cpu:.0f} % | {after.resident_mb:.0f} |\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30, help="of each row (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = [cv2.imread(str(path)) for path in make_pictures(Path(folder), PICTURES)]
    pictures = [cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_AREA) for picture in pictures]
    jpegs = [cv2.imencode(".jpg", entry, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes() for entry in pictures]
    sys.stdout.write(
        f"{args.cameras} cameras of 1280 x 720, {sum(map(len, jpegs)) / len(jpegs) / 1000:.0f} kB a picture; "
        f"{os.cpu_count()} CPUs\n\n"
        "| pictures a second each | options | records a second | seen | by camera | p50 ms | p99 ms | CPU of a core "
        "| MB |\n"
        "| ---: | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n"
    )
    for rate, options in RUNS:
        sys.stdout.write(row(jpegs, args.cameras, rate, options, args.seconds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
