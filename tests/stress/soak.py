"""``stn run`` for hours: does it come back after every failure of its camera, and does it keep its size?

``python -m tests.stress.soak`` prints what a run on a failing camera and a run over a large folder used, once a
second: memory, threads and open files. Drift is the median slope of memory after the warm-up times the duration.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.process import Usage, usage_of
from tests.support.streams import Act, MjpegCamera

RUN = [sys.executable, "-m", "stn_runtime", "run"]
STALL_SECONDS = 2
WARM_UP = 0.2  # share of the samples that count as warm-up
FILES = 300  # different pictures of the folder; the others are links to them
Samples = list[tuple[float, Usage]]


def main() -> None:
    """Run both and print what they used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="with the camera (default: %(default)s)")
    parser.add_argument("--images", type=int, default=5000, help="in the folder (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10, help="seconds between failures (default: %(default)s)")
    parser.add_argument("--absence", type=float, default=5, help="seconds unplugged (default: %(default)s)")
    args = parser.parse_args()
    if args.minutes:
        live(60 * args.minutes, args.every, args.absence)
    if args.images:
        folder(args.images)


def live(seconds: float, every: float, absence: float) -> None:
    """Watch a camera that fails now and then, in every way in turn."""
    counts: Counter[str] = Counter()
    with MjpegCamera() as camera:
        camera.height, camera.width = 480, 640
        command = [*RUN, camera.url, "--stall-seconds", str(STALL_SECONDS)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout is not None
        reading = threading.Thread(target=count, args=(child.stdout, counts), daemon=True)
        reading.start()
        stopped = threading.Event()
        failing = threading.Thread(target=fail, args=(camera, every, absence, stopped), daemon=True)
        failing.start()
        samples = sample(child, seconds)
        if child.poll() is not None:
            sys.exit(f"ended with status {child.poll()} after {len(samples)} seconds: {' '.join(command)}")
        stopped.set()
        failing.join()
        last = counts["frame"]
        time.sleep(STALL_SECONDS + 5)
        recovered = counts["frame"] > last
        child.terminate()
        child.wait()
        reading.join()
    sys.stdout.write(
        f"camera: {counts['frame']} frames, {counts['source_lost']} losses, {counts['source_back']} returns, "
        f"{'frames' if recovered else 'NO FRAMES'} at the end\n"
    )
    report(samples)


def count(stream: IO[bytes], counts: Counter[str]) -> None:
    """Count the records of frames and of events."""
    for line in stream:
        counts[json.loads(line).get("event", "frame")] += 1


def fail(camera: MjpegCamera, every: float, absence: float, stopped: threading.Event) -> None:
    """Let a camera fail in every way, in an order that changes."""
    order = random.Random(0)
    ways: list[Any] = []
    while not stopped.wait(every):
        if not ways:
            ways = [*get_args(Act)[1:], "unplug"]
            order.shuffle(ways)
        way = ways.pop()
        if way == "unplug":
            camera.unplug()
        else:
            camera.play(way)
        stopped.wait(absence)
        camera.play("send")
        if way == "unplug":
            camera.plug_in()


def folder(images: int) -> None:
    """Read a folder of many small pictures, most of them links."""
    noise = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for index in range(images):
            path = Path(place, f"{index // 1000:04}", f"{index:07}.jpg")
            path.parent.mkdir(exist_ok=True)
            if index < FILES:
                picture = noise.integers(0, 256, (240 + index % 7, 320 + index % 5, 3), np.uint8)
                path.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
            else:
                path.symlink_to(Path(place, "0000", f"{index % FILES:07}.jpg"))
        started = time.monotonic()
        child = subprocess.Popen([*RUN, place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = sample(child)
        taken = time.monotonic() - started
    sys.stdout.write(f"folder: {images} pictures, {images / taken:.0f} a second, status {child.returncode}\n")
    report(samples)


def sample(child: subprocess.Popen[bytes], seconds: float = float("inf")) -> Samples:
    """Ask once a second what a process uses, until it ends or the time is over."""
    samples: Samples = []
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds and child.poll() is None:
        samples.append((now, usage_of(child.pid)))
        time.sleep(max(0.0, started + len(samples) - time.monotonic()))
    return samples


def report(samples: Samples) -> None:
    """Print how memory, threads and open files went."""
    warm = samples[int(WARM_UP * len(samples)) :]
    moments, memory = np.array([(moment, usage.resident_mb) for moment, usage in warm]).T
    drift = median_slope(moments, memory) * (moments[-1] - moments[0])
    sys.stdout.write(
        f"  memory     {memory[0]:.1f} MB after the warm-up, {memory[-1]:.1f} MB at the end, {memory.max():.1f} MB at "
        f"most; drift {drift:+.2f} MB in {(moments[-1] - moments[0]) / 60:.1f} minutes\n"
        f"  threads    {spread(usage.threads for _, usage in warm)}\n"
        f"  open files {spread(usage.open_files for _, usage in warm)}\n"
    )


def median_slope(moments: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the median slope between all pairs of (at most a thousand) points: the estimator of Theil and Sen."""
    chosen = np.linspace(0, len(moments) - 1, min(len(moments), 1000)).astype(int)
    first, second = np.triu_indices(len(chosen), 1)
    rise = values[chosen[second]] - values[chosen[first]]
    return float(np.median(rise / (moments[chosen[second]] - moments[chosen[first]])))


def spread(values: Iterable[int]) -> str:
    """Return the least, the most and the last."""
    found = list(values)
    return f"{min(found)} to {max(found)}, {found[-1]} at the end"


if __name__ == "__main__":
    main()
