"""A 1080p camera at 30 pictures a second: ``stn run`` against the loop that one writes by hand.

``python -m tests.benchmarks.bench_live`` prints a Markdown table. Camera, contender and clock are processes of
their own on one machine. Latency is the time from the first byte of a picture to its record in the hands of the reader;
age is, at any moment, how long ago the picture was sent of which the newest record tells.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stn_runtime.model.zoo import find_model
from tests.support.process import usage_of
from tests.support.streams import MjpegCamera

from .bench_folder import HEIGHT, SAMPLES, WIDTH, make_pictures

RATE = 30.0
PICTURES = 90  # shown again and again
QUALITY = 80  # of the JPEGs, as cameras send them
WARM_UP = 3.0  # seconds
CONTENDERS = {
    "by hand": [sys.executable, "-c", "from tests.benchmarks.bench_live import plain_loop; plain_loop()"],
    "stn run": [sys.executable, "-m", "stn_runtime", "run", "-m", "digits"],
}
Line = tuple[float, bytes]  # Unix time of its arrival, JSON


@dataclass(frozen=True)
class Watched:
    """What a contender did in one turn; times are Unix times in seconds.

    Attributes:
        sent: (M,), when the camera began to send the picture of each record.
        told: (M,), when each record arrived.
        right: Share of the records with the label of the picture that they should be of.
        dropped: Share of the pictures without a record.
        cpu: Share of one core, of the contender and of the camera.
    """

    sent: NDArray[np.float64]
    told: NDArray[np.float64]
    right: float
    dropped: float
    cpu: tuple[float, float]

    @property
    def latencies(self) -> NDArray[np.float64]:
        """(M,) in milliseconds."""
        return 1000 * (self.told - self.sent)

    @property
    def ages(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Moments in minutes, and the age of the newest record at each in milliseconds."""
        # By chance, since regular ones would beat with the pictures: a slope that is none.
        moments = np.sort(np.random.default_rng(0).uniform(self.told[0], self.told[-1], 10 * len(self.told)))
        newest = np.searchsorted(self.told, moments, side="right") - 1
        return (moments - moments[0]) / 60, 1000 * (moments - self.sent[newest])


def plain_loop() -> None:
    """Read, crop, resize, convert, run and print, one picture after the other, as in tutorials."""
    session = ort.InferenceSession(find_model("digits"), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    capture = cv2.VideoCapture(sys.argv[1])
    for number in range(10**9):
        done, picture = capture.read()
        if not done:
            return
        left = (WIDTH - HEIGHT) // 2
        small = cv2.resize(picture[:, left : left + HEIGHT], (size, size), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        probabilities = session.run(["probabilities"], {"image": grey[None, :, :, None]})[0]
        sys.stdout.write(json.dumps({"frame": number, "label": str(int(probabilities[0].argmax()))}) + "\n")
        sys.stdout.flush()


def play(jpegs: Sequence[bytes], sent: Any, port: Any) -> None:  # noqa: ANN401  (shared memory of multiprocessing)
    """Be a camera that shows the pictures in turn, for ever."""
    port.value = MjpegCamera(RATE, lambda stamp: jpegs[stamp.number % len(jpegs)], sent).port
    threading.Event().wait()


@contextmanager
def camera(jpegs: Sequence[bytes], capacity: int) -> Iterator[tuple[str, int, Sequence[float]]]:
    """Play a camera in another process: its address, its process, and when it sent each picture (0: not yet)."""
    context = multiprocessing.get_context("spawn")
    sent, port = context.Array("d", capacity, lock=False), context.Value("i", 0)
    process = context.Process(target=play, args=(jpegs, sent, port), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port.value}/stream.mjpg", process.pid or 0, sent
    process.terminate()
    process.join()


def collect(stream: IO[bytes], lines: list[Line]) -> None:
    """Note when each line arrives."""
    for line in stream:
        lines.append((time.time(), line))


def watch(command: list[str], seconds: float, jpegs: Sequence[bytes], labels: Sequence[str]) -> Watched:
    """Let a contender look at a camera."""
    lines: list[Line] = []
    with camera(jpegs, int((seconds + 60) * RATE)) as (url, camera_pid, sent):
        child = subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout is not None
        threading.Thread(target=collect, args=(child.stdout, lines), daemon=True).start()
        while not lines:
            if child.poll() is not None:
                sys.exit(f"ended with status {child.poll()}: {' '.join(child.args)}")
            time.sleep(0.05)
        time.sleep(WARM_UP)
        begin, before = time.time(), (usage_of(child.pid), usage_of(camera_pid))
        time.sleep(seconds)
        end, after = time.time(), (usage_of(child.pid), usage_of(camera_pid))
        child.terminate()
        child.wait()
        records = [(told, json.loads(line)) for told, line in lines if begin <= told <= end]
        numbers = [int(record["frame"]) for _, record in records]
        taken = np.array([sent[number] for number in numbers])
    right = [record["label"] == labels[record["frame"] % len(labels)] for _, record in records]
    own, cameras = ((b.cpu_seconds - a.cpu_seconds) / (end - begin) for a, b in zip(before, after, strict=True))
    dropped = 1 - len(numbers) / (numbers[-1] - numbers[0] + 1)
    return Watched(taken, np.array([told for told, _ in records]), float(np.mean(right)), dropped, (own, cameras))


def row(name: str, turns: Sequence[Watched]) -> str:
    """Return a contender's row of the table; the worst turn's slope, and the medians or shares of all turns."""
    latencies = np.concatenate([turn.latencies for turn in turns])
    ages = np.concatenate([turn.ages[1] for turn in turns])
    slope = max((float(np.polyfit(*turn.ages, 1)[0]) for turn in turns), key=abs)
    cpu, cameras = np.mean([turn.cpu for turn in turns], axis=0)
    right, dropped = (100 * np.mean([getattr(turn, key) for turn in turns]) for key in ("right", "dropped"))
    p50, p99 = np.percentile(latencies, (50, 99))
    return (
        f"| {name} | {p50:.1f} | {p99:.1f} | {np.median(ages):.0f} | {ages.max():.0f} | {slope:+.2f} "
        f"| {dropped:.1f} % | {right:.1f} % | {100 * cpu:.0f} % | {100 * cameras:.0f} % |\n"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="of each contender (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="into which they are parted (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = [cv2.imread(str(path)) for path in make_pictures(Path(folder), PICTURES)]
    jpegs = [cv2.imencode(".jpg", entry, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes() for entry in pictures]
    samples = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in (".jpg", ".png"))
    labels = [samples[index % len(samples)][0] for index in range(PICTURES)]
    turns: dict[str, list[Watched]] = {name: [] for name in CONTENDERS}
    for _ in range(args.turns):
        for name, command in CONTENDERS.items():
            turns[name].append(watch(command, 60 * args.minutes / args.turns, jpegs, labels))
    size, load = sum(map(len, jpegs)) / len(jpegs) / 1000, os.getloadavg()[1]
    sys.stdout.write(
        f"{WIDTH} x {HEIGHT} at {RATE:g} a second, {size:.0f} kB a picture; {os.cpu_count()} cores, load {load:.1f}\n\n"
        "| | latency p50 ms | p99 ms | age p50 ms | most ms | age ms/minute | dropped | right | CPU | camera's CPU |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )
    for name, watched in turns.items():
        sys.stdout.write(row(name, watched))


if __name__ == "__main__":
    main()
