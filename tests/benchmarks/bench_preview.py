"""What watchers of the preview cost the pipeline: nobody against a crowd of which some never read.

``python -m tests.benchmarks.bench_preview`` prints a Markdown table: frames a second, (n - 1) / span, medians of turns,
for a camera at 30 frames a second and for frames as fast as they are classified; how long a frame takes without and
with the crowd; and the memory of the process. Each client has a page's two streams, in a process of their own.
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
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stn_runtime import Classifier
from stn_runtime.images.reading import read_image
from stn_runtime.pipeline.pipeline import run
from stn_runtime.preview.preview import Preview, parse_address
from stn_runtime.records.writers import JsonLines
from stn_runtime.sources.frame import Frame

HEIGHT, WIDTH, RATE = 480, 640, 30.0
SAMPLES = Path(__file__).parents[2] / "models" / "stn_zoo" / "samples"


class Generated:
    """A source that shows the samples, turning, for some seconds.

    Args:
        rate: Frames a second; None as fast as they are taken.
        seconds: Until it ends.
    """

    live = True
    total = None

    def __init__(self, rate: float | None, seconds: float) -> None:
        self.rate, self.seconds = rate, seconds
        self.moments: list[float] = []
        self.taken_ms: list[float] = []
        samples = [read_image(path) for path in sorted(SAMPLES.iterdir()) if path.suffix in (".jpg", ".png")]
        self._pictures = [_turned(sample, angle) for sample in samples for angle in range(-20, 21, 10)]

    def __iter__(self) -> Iterator[Frame]:
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + self.seconds:
            index = len(self.moments)
            if self.rate is not None:
                time.sleep(max(0.0, started + index / self.rate - now))
            self.moments.append(time.perf_counter())
            yield Frame("generated", index, time.time(), self._pictures[index % len(self._pictures)].copy())
            self.taken_ms.append(1000 * (time.perf_counter() - self.moments[-1]))

    def ready(self, timeout: float) -> bool:
        return True

    def close(self) -> None:
        self.seconds = 0.0

    @property
    def measured_rate(self) -> float:
        return (len(self.moments) - 1) / (self.moments[-1] - self.moments[0])


def _turned(sample: np.ndarray, angle: float) -> np.ndarray:
    colour = sample if sample.ndim == 3 else cv2.cvtColor(sample, cv2.COLOR_GRAY2RGB)
    height, width = colour.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, HEIGHT / min(height, width))
    matrix[:, 2] += ((WIDTH - width) / 2, (HEIGHT - height) / 2)
    return cv2.warpAffine(colour, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)


def watch(port: int, clients: int, idle: int, taken: "multiprocessing.Queue[int]") -> None:
    """Be so many clients, of which ``idle`` never read, until this process is ended; tell the bytes of each second."""
    os.nice(10)
    asyncio.run(_watch(port, clients, idle, taken))


async def _watch(port: int, clients: int, idle: int, taken: "multiprocessing.Queue[int]") -> None:
    received = 0

    async def client(path: str, reads: bool) -> None:
        nonlocal received
        # A client that never reads has a small buffer, so that the server is not spared by the system's large ones.
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
        taken.put(received)
        received = 0
        for task in tasks:
            if task.done() and task.exception():
                raise task.exception() or RuntimeError


@contextlib.contextmanager
def crowd(port: int, clients: int, idle: int) -> Iterator["multiprocessing.Queue[int]"]:
    """Have clients connected while the block runs."""
    context = multiprocessing.get_context("spawn")
    taken: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=watch, args=(port, clients, idle, taken))
    process.start()
    taken.get(timeout=60)
    try:
        yield taken
    finally:
        process.kill()
        process.join()


def resident_megabytes() -> float:
    """Return the memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def preview_seconds() -> float:
    """Return the CPU time that the preview's threads have used (Linux, proc(5))."""
    threads = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("stn-preview")]
    stats = [Path(f"/proc/self/task/{number}/stat").read_text().rpartition(")")[2].split() for number in threads]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--idle", type=int, default=10, help="of which so many never read (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn (default: %(default)s)")
    args = parser.parse_args()
    classifier = Classifier("digits", live=True)
    preview = Preview(parse_address("0"), None, "digits", live=True)

    def turn(rate: float | None) -> tuple[float, float, float]:
        """Return frames a second, the 95th percentile of milliseconds a frame, and the preview's CPU in percent."""
        source, used, started = Generated(rate, args.seconds), preview_seconds(), time.perf_counter()
        with Path(os.devnull).open("w") as results:
            run(source, classifier, JsonLines(results), [preview])  # type: ignore[list-item]
        share = 100 * (preview_seconds() - used) / (time.perf_counter() - started)
        return source.measured_rate, float(np.percentile(source.taken_ms, 95)), share

    turn(None)
    memory = [resident_megabytes()]
    turns: dict[tuple[float | None, bool], list[tuple[float, float, float]]] = {}
    received: list[float] = []
    for _ in tqdm(range(args.turns), "turns", leave=False, disable=None):
        for rate in (RATE, None):
            turns.setdefault((rate, False), []).append(turn(rate))
            with crowd(preview.address.port, args.clients, args.idle) as taken:
                turns.setdefault((rate, True), []).append(turn(rate))
                received += [taken.get() / 1e6 for _ in range(taken.qsize())]
                memory.append(resident_megabytes())
    preview.close()
    sys.stdout.write(
        f"| frames a second | nobody | {args.clients} clients | ratio | p95 of a frame | the preview's CPU |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
    )
    for rate, name in ((RATE, f"camera at {RATE:g}"), (None, "as fast as classified")):
        (alone, alone_ms, _), (watched, watched_ms, share) = (
            map(statistics.median, zip(*turns[rate, crowded], strict=True)) for crowded in (False, True)
        )
        sys.stdout.write(
            f"| {name} | {alone:.1f} | {watched:.1f} | {watched / alone:.3f} | {alone_ms:.1f} / {watched_ms:.1f} ms | "
            f"{share:.0f} % |\n"
        )
    sys.stdout.write(
        f"\nThe clients took {statistics.median(received or [0]):.1f} MB a second. Memory: {memory[0]:.0f} MB before, "
        f"{memory[1]:.0f} MB with the first crowd, {memory[-1]:.0f} MB with the last.\n"
    )


if __name__ == "__main__":
    main()
