"""Networks as strangers write them: ``export_onnx`` against the default export.

``python -m tests.benchmarks.bench_constructs`` prints a Markdown table: medians of pairs of runs in turns, batch 8, one
thread; both files have a fixed batch. A default file is one of ``torch.onnx.export(module, example, dynamo=True)``, as
its user would have it; where that raises, or answers otherwise than PyTorch, the table says so.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

from stn_export import export_onnx
from stn_runtime import InputError
from tests.support.constructs.catalogue import CONSTRUCTS

BATCH = 8
_ALLOWED = {np.dtype(np.float16): 7e-2}  # of the largest value, else 1e-4; see tests/export/test_constructs.py

Opened = tuple[ort.InferenceSession, dict[str, NDArray[np.generic]]]


def row(name: str, folder: Path, pairs: int) -> str:
    """Export a network in both ways, and return its row of the table."""
    torch.manual_seed(0)
    module, inputs = CONSTRUCTS[name].build().eval(), CONSTRUCTS[name].inputs(BATCH)
    try:
        export_onnx(module, folder / "ours.onnx", inputs, dynamic_batch=False)
    except InputError as error:
        return f"| {name} | | {error} | | |"
    ours = _open(folder / "ours.onnx", inputs)
    expected = _answers(module, inputs)
    difference = _difference(ours, expected)
    try:
        with torch.no_grad():
            torch.onnx.export(module, inputs, folder / "default.onnx", dynamo=True, external_data=False, verbose=False)
        default = _open(folder / "default.onnx", inputs)
        wrong = _difference(default, expected)
    except Exception as error:  # whatever the exporter or onnxruntime raises
        return f"| {name} | {_reason(error)} | {_shown(_times([ours], pairs)[0])} | - | {difference:.1e} |"
    if not wrong <= _ALLOWED.get(expected[0].dtype, 1e-4):
        return f"| {name} | wrong by {wrong:.0e} | {_shown(_times([ours], pairs)[0])} | - | {difference:.1e} |"
    before, after = _times([default, ours], pairs)
    faster = float(np.median(np.array(before) / np.array(after)))
    return f"| {name} | {_shown(before)} | {_shown(after)} | {faster:.2f}x | {difference:.1e} |"


def _open(path: Path, inputs: Sequence[Tensor]) -> Opened:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    feeds = {
        value.name: tensor.numpy().astype(kinds[value.type])
        for value, tensor in zip(session.get_inputs(), inputs, strict=True)
    }
    return session, feeds


def _answers(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.generic]]:
    with torch.no_grad():
        return [tensor.numpy() for tensor in tree_leaves(module(*inputs))]


def _difference(opened: Opened, expected: Sequence[NDArray[np.generic]]) -> float:
    """Return the largest difference of an output, relative to its largest value."""
    session, feeds = opened
    return max(
        float(np.abs(actual.astype(np.float64) - right).max() / np.abs(right).max())
        for actual, right in zip(session.run(None, feeds), expected, strict=True)
    )


def _times(files: Sequence[Opened], pairs: int) -> list[list[float]]:
    """Return the seconds of each file's runs, in turns."""
    times: list[list[float]] = [[] for _ in files]
    for number in range(pairs + 10):
        for index, (session, feeds) in enumerate(files):
            start = time.perf_counter()
            session.run(None, feeds)
            if number >= 10:
                times[index].append(time.perf_counter() - start)
    return times


def _shown(times: Sequence[float]) -> str:
    return f"{np.median(times) * 1e6:.0f} us"


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"refused ({type(error).__name__})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of runs (default: 300)")
    parser.add_argument("--only", default="", help="a part of the names of those to measure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write("| network | default export | `export_onnx` | faster | largest difference from PyTorch |\n")
    sys.stdout.write("|" + " --- |" * 5 + "\n")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in tqdm([name for name in CONSTRUCTS if arguments.only in name], unit="network", leave=False):
            tqdm.write(row(name, Path(folder), arguments.pairs))


if __name__ == "__main__":
    main()
