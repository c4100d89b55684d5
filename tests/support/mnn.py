"""MNN, an engine for phones and boards: a file that its converter makes of ours, opened."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The compiled converter itself: the command around it (MNN.tools.mnnconvert) installs a package that reports what is
# converted, which brings an older protobuf than onnx loads with.
_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"
_SECONDS = 120

MnnCall = Callable[[NDArray[np.generic]], list[NDArray[np.generic]]]


def open_with_mnn(path: Path, folder: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> MnnCall:
    """Return a call that answers a batch with the outputs, computed in float32 on the CPU.

    Args:
        path: The ONNX file.
        folder: Where the converted file is written.
        inputs: Name of the input.
        outputs: Names of the outputs.
        threads: Number of MNN's threads.

    Raises:
        RuntimeError: MNN's converter, or MNN, does not take the file.
    """
    import MNN

    converted = folder / f"{path.stem}.mnn"
    options = ("mnnconvert", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(converted), "--bizCode", "stn")
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *options], capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if not converted.is_file():
        raise RuntimeError(f"{path.name}: MNN's converter does not take it: {(done.stdout + done.stderr)[-300:]}")
    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    manager = MNN.nn.create_runtime_manager((settings,))
    try:
        module = MNN.nn.load_module_from_file(str(converted), list(inputs), list(outputs), runtime_manager=manager)
    except SystemError as error:
        raise RuntimeError(f"{path.name}: MNN does not open what its converter made") from error
    kinds: dict[str, Any] = {"uint8": MNN.expr.uint8, "float32": MNN.expr.float}

    def call(batch: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        given = MNN.expr.const(batch, list(batch.shape), MNN.expr.NCHW, kinds[batch.dtype.name])
        return [np.array(answer.read()) for answer in module.onForward([given])]

    return call
