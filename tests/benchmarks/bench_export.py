"""Exported networks against each other: ``python -m tests.benchmarks.bench_export`` prints a table per network.

All contenders of a column are measured in one process and in turns, in another order each round, so that a machine
that slows down slows all of them. Between two of them is a pause: engines leave their threads spinning for a while,
which would take a CPU from the next. A contender whose answers differ from PyTorch's gets no time.
"""

import argparse
import importlib.util
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .contenders import (
    ALONE,
    COMPILED,
    DEFAULT,
    EAGER,
    FROZEN,
    FUSED,
    MNN_FUSED,
    ONE_THREAD,
    OPENVINO_DEFAULT,
    OPENVINO_FUSED,
    OPTIMISED,
    PORTABLE,
    SPLIT,
    Call,
    find_wrong,
    open_contenders,
    write_files,
)
from .networks import NETWORKS, pictures

ROWS = (
    DEFAULT,
    FUSED,
    ONE_THREAD,
    PORTABLE,
    SPLIT,
    OPTIMISED,
    EAGER,
    COMPILED,
    FROZEN,
    OPENVINO_DEFAULT,
    OPENVINO_FUSED,
    MNN_FUSED,
    ALONE,
)

NOTES = (
    "Median (10th to 90th percentile) of one call; x is the time over that of the default export in the same column.",
    "onnxruntime has the same options for every file. OpenVINO and MNN compute in float32, as all others do.",
    "[1] takes uint8 and gives probabilities, theta, outline and the sampled picture; its time includes the warp in "
    "NumPy and OpenCV.",
    "[2] has all layers but no grid generator and no sampler: what a spatial transformer could not be faster than.",
)

_ROUNDS = (3, 2000)  # at least, at most
_PAUSE = 0.06  # seconds in which the threads of the contender before stop spinning, and leave both CPUs free
_LONG = 0.05  # seconds: a call that needs no settling
_SETTLING = 0.005  # seconds of calls before those that are timed, so that they find their threads awake
_TIMED = 0.005  # seconds of calls that are timed; at least one call


@dataclass(frozen=True)
class Cell:
    """Times of one contender in one column, seconds."""

    low: float  # 10th percentile
    median: float
    high: float  # 90th percentile

    @classmethod
    def of(cls, times: Sequence[float]) -> "Cell":
        """Return the figures of measured times."""
        return cls(*np.percentile(times, [10, 50, 90]).tolist())


@dataclass(frozen=True)
class Column:
    """What was measured at one batch size and number of threads; a string stands for a contender without a time."""

    batch: int
    threads: int
    rounds: int
    others: float  # share of the machine that other processes took meanwhile
    cells: Mapping[str, Cell | str]
    reasons: Mapping[str, str]


def time_in_turns(calls: Mapping[str, Call], seconds: float) -> tuple[dict[str, list[float]], int]:
    """Return the times of each contender and the number of rounds, which end after ``seconds`` a contender."""
    order, shuffle = list(calls), random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in order}
    least, most = _ROUNDS
    start, rounds = time.perf_counter(), 0
    while rounds < least or (rounds < most and time.perf_counter() - start < seconds * len(order)):
        rounds += 1
        shuffle(order)
        for name in order:
            time.sleep(_PAUSE)
            settled = time.perf_counter() + _SETTLING
            while not times[name] or times[name][-1] < _LONG:
                calls[name]()
                if time.perf_counter() > settled:
                    break
            done = time.perf_counter() + _TIMED
            while True:
                begin = time.perf_counter()
                calls[name]()
                end = time.perf_counter()
                times[name].append(end - begin)
                if end > done:
                    break
    return times, rounds


def measure(network: nn.Module, files: Mapping[str, Path], images: Tensor, threads: int, seconds: float) -> Column:
    """Measure one column of a network's table."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.compiler.reset()  # its code is for one number of threads
    calls, reasons = open_contenders(network, files, images, threads)
    wrong = find_wrong(network, calls, images)
    before = _use()
    times, rounds = time_in_turns({name: call for name, call in calls.items() if name not in wrong}, seconds)
    busy, own, total = (now - then for now, then in zip(_use(), before, strict=True))
    others = max(0.0, busy - own) / max(total, 1e-9)
    cells: dict[str, Cell | str] = {name: Cell.of(values) for name, values in times.items()}
    for name, difference in wrong.items():
        cells[name] = "WRONG"
        reasons[name] = f"differs from PyTorch by {difference:.1e} of the largest value"
    return Column(len(images), threads, rounds, others, cells, reasons)


def _use() -> tuple[float, float, float]:
    """Return CPU seconds since the start: of all processes, of this one, and of all CPUs whether busy or not."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return 0.0, 0.0, 0.0
    ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in counters.read_text(encoding="ascii").split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], time.process_time(), sum(ticks)


def table(name: str, columns: Sequence[Column], reasons: Mapping[str, str]) -> str:
    """Return a network's table in Markdown, with what is missing from it and why."""
    units = [_unit(column) for column in columns]
    heads = [
        f"batch {column.batch}, {column.threads} thread{'s' * (column.threads > 1)} ({unit})"
        for column, (unit, _) in zip(columns, units, strict=True)
    ]
    lines = [f"### {name}", "", f"| | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(columns)}"]
    for row in ROWS:
        if row != ONE_THREAD or any(row in column.cells for column in columns):
            shown = [_shown(row, column, scale) for column, (_, scale) in zip(columns, units, strict=True)]
            lines.append(f"| {row} | {' | '.join(shown)} |")
    lines.append(f"| fused / alone [2] | {' | '.join(_ratio(column, FUSED, ALONE) for column in columns)} |")
    lines.append(f"| rounds | {' | '.join(str(column.rounds) for column in columns)} |")
    lines += [
        f"| other processes' share of the machine | {' | '.join(f'{column.others:.0%}' for column in columns)} |",
        "",
    ]
    lines += [f"No time for {row}: {reason}" for row, reason in reasons.items()]
    for column, head in zip(columns, heads, strict=True):
        lines += [f"No time for {row} at {head}: {reason}" for row, reason in column.reasons.items()]
    return "\n".join(lines) + "\n"


def _unit(column: Column) -> tuple[str, float]:
    default = column.cells.get(DEFAULT)
    return ("ms", 1e3) if isinstance(default, Cell) and default.median >= 0.01 else ("µs", 1e6)


def _shown(row: str, column: Column, scale: float) -> str:
    cell = column.cells.get(row, "-")
    if isinstance(cell, str):
        return cell
    digits = 1 if scale == 1e3 else 0
    low, median, high = (f"{value * scale:.{digits}f}" for value in (cell.low, cell.median, cell.high))
    ratio = "" if row == DEFAULT else f" x{_ratio(column, row, DEFAULT)}"
    return f"{median} ({low} to {high}){ratio}"


def _ratio(column: Column, one: str, other: str) -> str:
    above, below = column.cells.get(one), column.cells.get(other)
    return f"{above.median / below.median:.2f}" if isinstance(above, Cell) and isinstance(below, Cell) else "-"


def heading() -> str:
    """Return what was measured with: processor, versions, date."""
    found = [f"torch {torch.__version__}", f"onnxruntime {ort.__version__}", f"OpenCV {cv2.__version__}"]
    if importlib.util.find_spec("openvino") is not None:
        found.append(f"OpenVINO {metadata.version('openvino')}")
    return f"{_processor()}, {os.cpu_count()} CPUs; {', '.join(found)}; {time.strftime('%Y-%m-%d')}."


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench_export", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="per contender and column; at least 3 rounds are made"
    )
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    tables = [heading() + "\n"]
    _write(tables[0])
    with (
        tempfile.TemporaryDirectory() as temporary,
        tqdm(
            total=len(args.networks) * len(args.threads) * len(args.batches), unit="column", file=sys.stderr
        ) as progress,
    ):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(temporary, "inductor"))
        for number, name in enumerate(args.networks):
            folder = Path(temporary, str(number))
            folder.mkdir()
            network = NETWORKS[name].build()
            progress.set_postfix_str(f"{name}: export")
            files, reasons = write_files(network, NETWORKS[name], folder)
            columns = []
            for threads in args.threads:
                for batch in args.batches:
                    progress.set_postfix_str(f"{name}: batch {batch}, threads {threads}")
                    images = pictures(batch, NETWORKS[name].shape)
                    columns.append(measure(network, files, images, threads, args.seconds))
                    progress.update()
            tables.append(table(name, columns, reasons))
            _write(tables[-1])
    _write("\n".join(NOTES) + "\n")
    if args.markdown is not None:
        args.markdown.write_text("\n".join([*tables, *NOTES]) + "\n", encoding="utf-8")
    return 0


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
