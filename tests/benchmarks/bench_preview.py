"""Cost of the preview's clients to the pipeline: no clients against many, some of which never read.

``python -m tests.benchmarks.bench_preview`` prints a Markdown table: frames a second, (n - 1) / span, as medians over
rounds, for a camera at 30 frames a second and for frames as fast as they are classified; milliseconds a frame without
and with clients; and the memory of the process. Each client opens the page's two streams; all clients run in one
process of their own.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stn_runtime import Classifier
from stn_runtime.images.reading import read_image
from stn_runtime.pipeline.pipeline import classify
from stn_runtime.preview.preview import Preview, parse_address
from stn_runtime.records.writers import JsonLines
from stn_runtime.sources.frame import Frame
from stn_runtime.sources.source import Source

HEIGHT, WIDTH, RATE = 480, 640, 30.0
SAMPLES = Path(__file__).parents[2] / "models" / "stn_zoo" / "samples"


class GeneratedSource(Source):
    """A live source of the sample pictures at several angles.

    Args:
        rate: Frames a second; None for frames as fast as the pipeline takes them.
        seconds: Duration after which the source ends.

    Attributes:
        moments: Time of each frame in seconds.
        taken_ms: Milliseconds that the pipeline took for each frame.
    """

    live = True

    def __init__(self, rate: float | None, seconds: float) -> None:
        self.rate, self.seconds = rate, seconds
        self.moments: list[float] = []
        self.taken_ms: list[float] = []
        samples = [read_image(path) for path in sorted(SAMPLES.iterdir()) if path.suffix in (".jpg", ".png")]
        self._pictures = [_rotated(sample, angle) for sample in samples for angle in range(-20, 21, 10)]

    def __iter__(self) -> Iterator[Frame]:
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + self.seconds:
            index = len(self.moments)
            if self.rate is not None:
                time.sleep(max(0.0, started + index / self.rate - now))
            self.moments.append(time.perf_counter())
            yield Frame("generated", index, time.time(), self._pictures[index % len(self._pictures)].copy())
            self.taken_ms.append(1000 * (time.perf_counter() - self.moments[-1]))

    def close(self) -> None:
        self.seconds = 0.0

    @property
    def measured_rate(self) -> float:
        """Frames a second, (n - 1) / span."""
        return (len(self.moments) - 1) / (self.moments[-1] - self.moments[0])


def _rotated(sample: np.ndarray, angle: float) -> np.ndarray:
    colour = sample if sample.ndim == 3 else cv2.cvtColor(sample, cv2.COLOR_GRAY2RGB)
    height, width = colour.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, HEIGHT / min(height, width))
    matrix[:, 2] += ((WIDTH - width) / 2, (HEIGHT - height) / 2)
    return cv2.warpAffine(colour, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)


def run_clients(port: int, clients: int, idle: int, byte_counts: "multiprocessing.Queue[int]") -> None:
    """Run clients until this process is killed, and put the number of bytes received in each second.

    Args:
        port: Port of the preview on loopback.
        clients: Number of clients.
        idle: Number of these clients that never read.
        byte_counts: Gets the bytes that all clients together received in each second.
    """
    os.nice(10)
    asyncio.run(_run_clients(port, clients, idle, byte_counts))


async def _run_clients(port: int, clients: int, idle: int, byte_counts: "multiprocessing.Queue[int]") -> None:
    received = 0

    async def client(path: str, reads: bool) -> None:
        nonlocal received
        # A client that never reads has a small buffer, so that the system's large one does not take what is sent.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << (20 if reads else 12))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while not reads:
            await asyncio.sleep(1)
        while data := await reader.read(1 << 20):
            received += len(data)

    streams = [client(path, index >= idle) for index in range(clients) for path in ("/stream.mjpg", "/events")]
    tasks = [asyncio.create_task(stream) for stream in streams]
    while True:
        await asyncio.sleep(1)
        byte_counts.put(received)
        received = 0
        for task in tasks:
            if task.done() and task.exception():
                raise task.exception() or RuntimeError


@contextlib.contextmanager
def connected_clients(port: int, clients: int, idle: int) -> Iterator["multiprocessing.Queue[int]"]:
    """Keep clients connected while the block runs; yield the queue of bytes received in each second."""
    context = multiprocessing.get_context("spawn")
    byte_counts: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=run_clients, args=(port, clients, idle, byte_counts))
    process.start()
    byte_counts.get(timeout=60)
    try:
        yield byte_counts
    finally:
        process.kill()
        process.join()


def resident_megabytes() -> float:
    """Return the resident memory of this process in megabytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def preview_seconds() -> float:
    """Return the CPU seconds that the preview's threads have used (Linux, proc(5))."""
    threads = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("stn-preview")]
    stats = [Path(f"/proc/self/task/{number}/stat").read_text().rpartition(")")[2].split() for number in threads]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """Figures of one run of a source.

    Attributes:
        rate: Frames a second.
        p95_ms: 95th percentile of milliseconds a frame.
        cpu_percent: CPU time of the preview's threads in percent of the run's duration.
    """

    rate: float
    p95_ms: float
    cpu_percent: float


def measure(classifier: Classifier, preview: Preview, rate: float | None, seconds: float) -> Round:
    """Run a generated source through the classifier and the preview; return its figures."""
    source, used, started = GeneratedSource(rate, seconds), preview_seconds(), time.perf_counter()
    with Path(os.devnull).open("w") as results:
        writer = JsonLines(results)
        for record in classify(source, classifier, views=[preview]):
            writer.write(record)
    percent = 100 * (preview_seconds() - used) / (time.perf_counter() - started)
    return Round(source.measured_rate, float(np.percentile(source.taken_ms, 95)), percent)


def table_row(name: str, alone: list[Round], watched: list[Round]) -> str:
    """Return a row of the table: medians over rounds without and with clients."""

    def median(rounds: list[Round], figure: str) -> float:
        return statistics.median(getattr(entry, figure) for entry in rounds)

    rates = [median(rounds, "rate") for rounds in (alone, watched)]
    p95s = [median(rounds, "p95_ms") for rounds in (alone, watched)]
    return (
        f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[1] / rates[0]:.3f} | {p95s[0]:.1f} / {p95s[1]:.1f} ms | "
        f"{median(watched, 'cpu_percent'):.0f} % |\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50, help="number of clients (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=10, help="number of clients that never read (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each round (default: %(default)s)")
    args = parser.parse_args()
    classifier = Classifier("digits", spin=False)
    preview = Preview(parse_address("0"), None, "digits", live=True)
    measure(classifier, preview, None, args.seconds)  # warm-up
    memory = [resident_megabytes()]
    rounds: dict[tuple[float | None, bool], list[Round]] = defaultdict(list)
    received: list[float] = []
    for _ in tqdm(range(args.rounds), "rounds", leave=False, disable=None):
        for rate in (RATE, None):
            rounds[rate, False].append(measure(classifier, preview, rate, args.seconds))
            with connected_clients(preview.address.port, args.clients, args.idle) as byte_counts:
                rounds[rate, True].append(measure(classifier, preview, rate, args.seconds))
                received += [byte_counts.get() / 1e6 for _ in range(byte_counts.qsize())]
                memory.append(resident_megabytes())
    preview.close()
    sys.stdout.write(
        f"| frames a second | no clients | {args.clients} clients | ratio | p95 of a frame | the preview's CPU |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
    )
    for rate, name in ((RATE, f"camera at {RATE:g}"), (None, "as fast as classified")):
        sys.stdout.write(table_row(name, rounds[rate, False], rounds[rate, True]))
    sys.stdout.write(
        f"\nThe clients received {statistics.median(received or [0]):.1f} MB a second. Memory: {memory[0]:.0f} MB "
        f"before them, {memory[1]:.0f} MB with the first clients, {memory[-1]:.0f} MB with the last.\n"
    )


if __name__ == "__main__":
    main()
