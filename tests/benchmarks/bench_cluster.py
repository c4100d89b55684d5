"""A folder of JPEGs through `stn run` and through Ray on the same CPUs, in turns.

    python -m tests.benchmarks.bench_cluster --pictures 20000 --rounds 2

Prints for each run the pictures a second as the run itself counts them, and the seconds of the whole command, in which
Ray starts and stops.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from stn_runtime.model.zoo import find_model

_SIZE = (480, 640)


def write_pictures(folder: Path, count: int) -> float:
    """Write JPEGs of 640 x 480 with some noise; return their mean size in kilobytes."""
    samples = [cv2.imread(str(path)) for path in sorted((find_model("digits").parent / "samples").iterdir())]
    bases = [cv2.resize(sample, _SIZE[::-1], interpolation=cv2.INTER_AREA) for sample in samples]

    def write(number: int) -> None:
        random = np.random.default_rng(number)
        noise = random.integers(0, 16, (_SIZE[0] // 4, _SIZE[1] // 4, 3), dtype=np.uint8)
        picture = cv2.add(bases[number % len(bases)], cv2.resize(noise, _SIZE[::-1]))
        cv2.imwrite(str(folder / f"{number:07d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))
    return sum(path.stat().st_size for path in folder.iterdir()) / count / 1000


def main() -> int:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="digits")
    args = parser.parse_args()
    stn = [sys.executable, "-m", "stn_runtime", "run", "--model", args.model]
    with tempfile.TemporaryDirectory() as place:
        pictures = Path(place) / "pictures"
        pictures.mkdir()
        size = write_pictures(pictures, args.pictures)
        sys.stdout.write(f"{args.pictures} JPEGs of 640 x 480, {size:.0f} KB each, model {args.model}\n")
        ways = {
            "stn run": ["--output", "local.jsonl"],
            "Ray, all CPUs": ["--engine", "ray", "--output", "all.parquet"],
            "Ray, 1 worker": ["--engine", "ray", "--workers", "1", "--output", "one.parquet"],
        }
        for number in range(args.rounds):
            for name, options in ways.items():
                output = Path(place) / f"{number}-{options[-1]}"
                started = time.monotonic()
                command = [*stn, str(pictures), *options[:-1], str(output)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds = time.monotonic() - started
                found = re.search(r"([\d.]+) a second", done.stderr)
                rate = float(found[1]) if found else float("nan")
                sys.stdout.write(f"{name:<14} {rate:7.0f} pictures/s, {seconds:5.1f} s in all\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
