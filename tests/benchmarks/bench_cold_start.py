"""From nothing to a first label: the runtime against PyTorch and torchvision, in time, memory and disk.

``python -m tests.benchmarks.bench_cold_start`` prints a Markdown table: medians of new processes in turns, file caches
warm, each of which labels one JPEG with the released network 'digits'. PyTorch has the same weights and decodes with
Pillow, which torchvision requires. Its CUDA build, where that is installed, starts slower and is larger than the build
for the CPU alone; the last line of the first table leaves out what only the former needs.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from tqdm import tqdm

from stn_runtime.bench.cold_start import measure_cold_start
from stn_runtime.model.zoo import find_model

ZOO = Path(__file__).parents[2] / "models" / "stn_zoo"
PICTURE = ZOO / "samples" / "7_white_on_dark_wood.jpg"
TARGETS = {"time": 0.10, "memory": 0.20, "disk": 0.10}
_PAUSE = 0.2  # seconds between processes
_PARTS = ("Python", "imports", "model", "first picture")


def start_torch() -> tuple[list[float], int]:
    """Return the parts of a start with PyTorch, milliseconds, and its peak memory, bytes."""
    files = [str(ZOO / "digits.safetensors"), str(PICTURE)]
    command = [sys.executable, "-m", "tests.benchmarks.torch_cold_start", repr(time.monotonic()), *files]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if found["label"] != PICTURE.name[0]:
        raise SystemExit(f"PyTorch takes {PICTURE.name} for {found['label']}: it was not fed as it should be")
    return found["parts"], found["memory"]


def start_runtime() -> tuple[list[float], int]:
    """Return the parts of a start of ``stn run``, milliseconds, and its peak memory, bytes."""
    found = measure_cold_start(find_model("digits"), PICTURE)
    return [found.start_ms, found.import_ms, found.open_ms, found.first_ms], found.peak_memory_bytes or 0


def packages(roots: list[str]) -> set[str]:
    """Return the installed packages that others need to run, themselves included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in ("", *requirement.extras):
            try:
                needed = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # for another platform, or not asked for
            for text in needed if name not in found else ():
                marker = Requirement(text).marker
                if marker is None or marker.evaluate({"extra": extra}):
                    waiting.append(text)
        if _is_installed(name):
            found.add(name)
    return found


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def size_on_disk(package: str) -> int:
    """Return the bytes of a package's files, without bytecode; of our own, those of the device's two folders."""
    if package == "stn-edge":
        folders = (ZOO, ZOO.parents[1] / "runtime" / "stn_runtime")
        files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    else:
        recorded = metadata.files(package) or []
        files = [Path(str(path.locate())) for path in recorded if path.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file())


def _verdict(ratio: float, target: float) -> str:
    return f"{ratio:.3f} | {'met' if ratio <= target else 'missed'} ({target:.2f}) |\n"


def time_starts(runs: int) -> dict[str, list[tuple[list[float], int]]]:
    """Return parts and memory of starts in turns, who begins alternating."""
    starts = {"stn run": start_runtime, "PyTorch": start_torch}
    for start in starts.values():  # fill the file caches
        start()
    found: dict[str, list[tuple[list[float], int]]] = {name: [] for name in starts}
    for index in tqdm(range(runs), leave=False, disable=None):
        for name in list(starts)[:: 1 if index % 2 == 0 else -1]:
            time.sleep(_PAUSE)
            found[name].append(starts[name]())
    return found


def print_starts(ours: list[tuple[list[float], int]], theirs: list[tuple[list[float], int]]) -> None:
    """Print a line for each part of a start, for all of it, and for the memory."""
    write = sys.stdout.write
    write("| | stn run | PyTorch | ratio | target |\n| --- | ---: | ---: | ---: | --- |\n")
    for index, name in enumerate(_PARTS):
        one, other = (statistics.median(parts[index] for parts, _ in runs) for runs in (ours, theirs))
        write(f"| {name}, ms | {one:.0f} | {other:.0f} | {one / other:.3f} | |\n")
    one, other = (statistics.median(sum(parts) for parts, _ in runs) for runs in (ours, theirs))
    write(f"| first label, ms | {one:.0f} | {other:.0f} | {_verdict(one / other, TARGETS['time'])}")
    one, other = (statistics.median(memory for _, memory in runs) / 1e6 for runs in (ours, theirs))
    write(f"| peak memory, MB | {one:.0f} | {other:.0f} | {_verdict(one / other, TARGETS['memory'])}")


def print_sizes() -> None:
    """Print a line for each way to count packages, and the packages."""
    device, torch = packages(["stn-edge[headless]"]), packages(["torch", "torchvision"])
    sizes = {package: size_on_disk(package) / 1e6 for package in device | torch}
    one = sum(sizes[package] for package in device)
    without_cuda = {name for name in torch if not name.startswith(("nvidia", "cuda", "triton"))}
    for what, chosen in (("disk, MB", torch), ("disk without CUDA's packages, MB", without_cuda)):
        other = sum(sizes[package] for package in chosen)
        sys.stdout.write(f"| {what} | {one:.0f} | {other:.0f} | {_verdict(one / other, TARGETS['disk'])}")
    for title, chosen in (("stn-edge[headless]", device), ("torch, torchvision", torch)):
        listed = sorted(chosen, key=lambda package: -sizes[package])
        sys.stdout.write(f"\n{title}, MB: " + ", ".join(f"{name} {sizes[name]:.1f}" for name in listed) + "\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="of each (default: %(default)s)")
    args = parser.parse_args()
    found = time_starts(args.runs)
    print_starts(found["stn run"], found["PyTorch"])
    print_sizes()


if __name__ == "__main__":
    main()
