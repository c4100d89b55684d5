"""Proof that the graph of any PyTorch module, with any inputs and outputs, answers as the module does."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_runtime import InputError, ModelContractError
from stn_runtime.model.session import open_session

from ..graph.onnx_files import dims_of
from .differences import is_nowhere_finite
from .graph_cuts import CPU, Cut
from .graph_proof import GraphProof
from .module_evaluation import ModuleOriginal
from .rounding import DisturbedRuns
from .verification import ParityError


def compare_with_module(
    module: nn.Module, model: onnx.ModelProto, examples: Sequence[Tensor], cuts: Sequence[Cut] = ()
) -> dict[str, float]:
    """Return the largest difference of each output of a graph from a module, relative to the output's largest value.

    Both run on the example and on random tensors of its range, in batches of 1 and 3 and another size where the
    graph leaves them open; the graph runs with all of onnxruntime's graph optimisations, and with none. Each part of
    the graph between its samplers is compared on the module's own values, then the whole (``by_parts.py``). Of a
    module in float16 the whole is compared with what the module answers in float32.

    Args:
        module: The module, in evaluation mode.
        model: Its graph.
        examples: One batch of the module's inputs.
        cuts: The graph's samplers, see ``find_cuts``; without, the graph is one part.

    Raises:
        InputError: The module does not run on another batch or size, or its outputs cannot be compared.
        ParityError: A part or an output differs by more than the tolerance, and by more than rounding explains.
    """
    names = [output.name for output in model.graph.output]
    sessions = _sessions(model, type(module).__name__)
    original, proof = ModuleOriginal(module), GraphProof(model, cuts)
    is_half = any(tensor.dtype == torch.float16 for tensor in (*examples, *module.parameters(), *module.buffers()))
    for inputs in _variations(model, examples):
        runs = _module_runs(original, type(module).__name__, inputs, names)
        feeds = {value.name: tensor.numpy() for value, tensor in zip(model.graph.input, inputs, strict=True)}
        outputs = [_graph_outputs(session, names, feeds) for session in sessions]
        if is_half:
            exact = _outputs_in_float32(module, inputs) or runs.evaluation.outputs
            for actual in outputs:
                proof.add_half_outputs(exact, runs.evaluation.outputs, actual)
            continue
        proof.add_parts(runs)
        for actual in outputs:
            proof.add_outputs(runs, actual)
    if proof.refusal is not None:
        raise ParityError(
            f"the exported graph differs from PyTorch in {proof.refusal}; nothing was written. "
            "Please report it with the module's code"
        )
    return {name: proof.largest(name) for name in names}


def _sessions(model: onnx.ModelProto, kind: str) -> tuple[ort.InferenceSession, ort.InferenceSession]:
    """Return a graph opened with all of onnxruntime's graph optimisations, and with none."""
    data = model.SerializeToString()
    try:
        return open_session(data, providers=CPU), open_session(data, providers=CPU, optimize=False)
    except ModelContractError as error:
        raise InputError(
            f"{kind}: onnxruntime cannot load its graph ({error.__cause__ or error}); it may lack an operator in the "
            "type that the module computes in: export it in float32, without autocast"
        ) from error


def _module_runs(original: ModuleOriginal, kind: str, inputs: Sequence[Tensor], names: Sequence[str]) -> DisturbedRuns:
    """Return a module's run on some inputs, after checking that its outputs can be compared with a graph's."""
    try:
        runs = DisturbedRuns(original, [tensor.numpy() for tensor in inputs])
    except Exception as error:  # whatever the module's code raises
        raise InputError(
            f"{kind} does not run on {_shapes(inputs)} ({str(error).splitlines()[0][:160]}), "
            "though batch or size were to stay open; export with fixed ones"
        ) from error
    outputs = runs.evaluation.outputs
    if len(outputs) != len(names):
        raise InputError(f"{kind} returns {len(outputs)} tensors, its graph {len(names)}; return tensors only")
    for name, values in zip(names, outputs, strict=True):
        if is_nowhere_finite(values):
            raise InputError(
                f"{kind}: PyTorch's own '{name}' is NaN or infinite everywhere, so the graph "
                "cannot be compared; are its weights whole?"
            )
    return runs


def _outputs_in_float32(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[NDArray[np.generic], ...] | None:
    """Return what a module in float16 answers in float32; None where its code wants float16."""
    wide = [tensor.float() if tensor.dtype == torch.float16 else tensor for tensor in inputs]
    try:
        return ModuleOriginal(copy.deepcopy(module).float()).evaluate([tensor.numpy() for tensor in wide]).outputs
    except Exception:  # whatever the module's code raises
        return None


def _graph_outputs(
    session: ort.InferenceSession, names: Sequence[str], feeds: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.generic]]:
    """Return a graph's output tensors."""
    try:
        return [np.asarray(values) for values in session.run(names, feeds)]
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        shapes = " and ".join(str(values.shape) for values in feeds.values())
        raise ParityError(
            f"the exported graph does not run on {shapes}, where PyTorch does "
            f"({' '.join(str(error).split())[:160]}); nothing was written. A layer may fix a size that was to "
            "stay open: export without dynamic_size or dynamic_batch"
        ) from error


def _shapes(inputs: Sequence[Tensor]) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in inputs)


def _variations(model: onnx.ModelProto, examples: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the examples, then random tensors of their range in several batches and sizes that the graph takes."""
    yield tuple(examples)
    shapes = [dims_of(value) for value in model.graph.input]
    for seed, (batch, factor) in enumerate([(1, 1.0), (3, 1.0), (2, 1.5)], 1):
        yield tuple(
            _random_like(
                tensor,
                [
                    size if isinstance(size, int) else batch if axis == 0 else round(tensor.shape[axis] * factor)
                    for axis, size in enumerate(sizes)
                ],
                seed,
            )
            for sizes, tensor in zip(shapes, examples, strict=True)
        )


def _random_like(tensor: Tensor, shape: Sequence[int], seed: int) -> Tensor:
    """Return random values of another tensor's type and range."""
    generator = torch.Generator().manual_seed(seed)
    low, high = float(tensor.min()), float(tensor.max())
    if tensor.is_floating_point():
        spread = high - low or 1.0
        return (torch.rand(*shape, generator=generator) * spread + low).to(tensor.dtype)
    return torch.randint(int(low), int(high) + 1, tuple(shape), generator=generator).to(tensor.dtype)
