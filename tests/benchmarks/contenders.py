"""Who takes part in the benchmark: the ways to export a network, and the engines that run it."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_export import Card, export_onnx, optimize_onnx, plan_export
from stn_runtime import PreprocessSpec
from stn_runtime.model.network import Network
from stn_runtime.model.session import open_session
from tests.support.mnn import open_with_mnn

from .networks import Benchmark, WithoutSampling, as_input, pictures, written_plainly

Answer = Sequence[NDArray[np.float32]]
Call = Callable[[], Answer]

DEFAULT = "default export"
FUSED = "fused"
ONE_THREAD = "fused, one thread"
PORTABLE = "portable"
SPLIT = "split [1]"
OPTIMISED = "default, optimised"
EAGER = "PyTorch eager"
COMPILED = "torch.compile"
FROZEN = "TorchScript frozen"
OPENVINO_DEFAULT = "OpenVINO, default file"
OPENVINO_FUSED = "OpenVINO, fused file"
MNN_FUSED = "MNN, fused file"
ALONE = "localisation net + classifier alone [2]"
_OPSET = 18
_ALLOWED = 1e-4  # of the largest value
_WARM_UP = 2  # calls; the settling before a timed call does the rest


def write_files(network: nn.Module, benchmark: Benchmark, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Export a network in every way; return the files, and why there is none, by contender."""
    channels, height, width = benchmark.shape
    example = as_input(pictures(2, benchmark.shape))
    labels = tuple(map(str, range(benchmark.classes)))
    card = Card("benchmark", labels, PreprocessSpec(height, width, channels))
    ways: dict[str, Callable[[Path], object]] = {
        DEFAULT: lambda path: _export_plainly(written_plainly(network).eval(), path, example),
        FUSED: lambda path: export_onnx(network, path, example),
        PORTABLE: lambda path: export_onnx(network, path, example, plan=plan_export("cpu", form="portable")),
        SPLIT: lambda path: export_onnx(network, path, example, card=card, plan=plan_export("cpu", form="split")),
        OPTIMISED: lambda path: optimize_onnx(files[DEFAULT], path),
        ALONE: lambda path: export_onnx(WithoutSampling(network).eval(), path, example),
    }
    files: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    for number, (name, write) in enumerate(ways.items()):
        path = folder / f"{number}.onnx"
        try:
            with _quiet():
                write(path)
            files[name] = path
        except Exception as error:  # whatever a contender raises, the others are measured
            reasons[name] = _sentence(error)
    return files, reasons


def _export_plainly(network: nn.Module, path: Path, example: Tensor) -> None:
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        network,
        (example,),
        path,
        opset_version=_OPSET,
        dynamic_shapes=({0: batch},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def open_contenders(
    network: nn.Module, files: Mapping[str, Path], images: Tensor, threads: int
) -> tuple[dict[str, Call], dict[str, str]]:
    """Make every contender ready for a batch (N, C, H, W) uint8; return them, and why one is not there."""
    tensor = as_input(images)
    array = tensor.numpy()
    ways: dict[str, Callable[[], Call]] = {
        name: lambda path=path: _onnxruntime(path, array, threads) for name, path in files.items() if name != SPLIT
    }
    if SPLIT in files:
        ways[SPLIT] = lambda: _split(files[SPLIT], images, threads)
    if FUSED in files and threads > 1 and len(images) == 1:
        ways[ONE_THREAD] = lambda: _onnxruntime(files[FUSED], array, 1)
    ways[EAGER] = lambda: _torch(network, tensor)
    ways[COMPILED] = lambda: _torch(torch.compile(network, dynamic=False), tensor)
    ways[FROZEN] = lambda: _torch(_frozen(network, tensor), tensor)
    if importlib.util.find_spec("openvino") is not None:
        for name, file in ((OPENVINO_DEFAULT, DEFAULT), (OPENVINO_FUSED, FUSED)):
            if file in files:
                ways[name] = lambda path=files[file]: _openvino(path, array, threads)
    if importlib.util.find_spec("MNN") is not None and FUSED in files:
        ways[MNN_FUSED] = lambda: _mnn(files[FUSED], array, threads)
    calls: dict[str, Call] = {}
    reasons = {} if OPENVINO_FUSED in ways else {"OpenVINO": "it is not installed"}
    for name, way in ways.items():
        try:
            with _quiet():
                calls[name] = way()
                for _ in range(_WARM_UP):
                    calls[name]()
        except Exception as error:  # whatever a contender raises, the others are measured
            calls.pop(name, None)
            reasons[name] = _sentence(error)
    return calls, reasons


def _onnxruntime(path: Path, array: NDArray[np.float32], threads: int) -> Call:
    session = open_session(path, threads=threads, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: array}
    return lambda: session.run(None, feeds)


def _split(path: Path, images: Tensor, threads: int) -> Call:
    opened = Network(path, threads=threads, providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return lambda: [opened.run(batch)["probabilities"]]


def _torch(module: Callable[[Tensor], Tensor], tensor: Tensor) -> Call:
    def call() -> Answer:
        with torch.inference_mode():
            return [module(tensor).numpy()]

    return call


def _frozen(network: nn.Module, tensor: Tensor) -> Callable[[Tensor], Tensor]:
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(network, tensor, check_trace=False))
        try:
            optimized = torch.jit.optimize_for_inference(frozen)
            optimized(tensor)
        except RuntimeError:
            return frozen
    return optimized


def _openvino(path: Path, array: NDArray[np.float32], threads: int) -> Call:
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda: [request.infer([array], share_inputs=True)[0]]


def _mnn(path: Path, array: NDArray[np.float32], threads: int) -> Call:
    names = [[value.name for value in values] for values in _ends(path)]
    call = open_with_mnn(path, path.parent, *names, threads)
    return lambda: [answer.astype(np.float32) for answer in call(array)]


def _ends(path: Path) -> tuple[Sequence[ort.NodeArg], Sequence[ort.NodeArg]]:
    """Return inputs and outputs of a file."""
    session = open_session(path, providers=["CPUExecutionProvider"])
    return session.get_inputs(), session.get_outputs()


def find_wrong(network: nn.Module, calls: Mapping[str, Call], images: Tensor) -> dict[str, float]:
    """Return by how much of the largest value the contenders differ from PyTorch, for those that differ too much."""
    tensor = as_input(images)
    with torch.inference_mode():
        logits = network(tensor)
        expected = {SPLIT: [logits.softmax(dim=-1)], ALONE: WithoutSampling(network).eval()(tensor)}
    wrong = {}
    for name, call in calls.items():
        pairs = zip(expected.get(name, [logits]), call(), strict=True)
        differences = [float(np.abs(ours.numpy() - theirs).max() / ours.abs().max()) for ours, theirs in pairs]
        if not all(difference <= _ALLOWED for difference in differences):
            wrong[name] = max(differences)
    return wrong


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Exception from")]
    return f"{type(error).__name__}: {' '.join(filter(None, lines))}"[:480]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what exporters and compilers print, log and warn of."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
