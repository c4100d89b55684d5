"""Proof that the graph of any PyTorch module, with any inputs and outputs, answers as the module does."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from stn_runtime import InputError
from stn_runtime.model.session import open_session

from ..graph.onnx_files import dims_of
from .differences import is_nowhere_finite, relative_difference
from .verification import CPU, ParityError

_TOLERANCE = 1e-5  # relative to an output's largest value
_TOLERANCE_OF_HALF = 2e-3  # for outputs in float16: two units in the last place


def compare_with_module(module: nn.Module, model: onnx.ModelProto, examples: Sequence[Tensor]) -> dict[str, float]:
    """Return the largest difference of each output of a graph from a module, relative to the output's largest value.

    Both run on the example and on random tensors of its range, in batches of 1 and 3 and another size where the
    graph leaves them open; the graph runs with all of onnxruntime's graph optimisations, and with none. The tolerance
    is 1e-5, or twice the module's own rounding error in float32 where that is larger, up to 1e-4.

    Args:
        module: The module, in evaluation mode.
        model: Its graph.
        examples: One batch of the module's inputs.

    Raises:
        InputError: The module does not run on another batch or size, or its outputs cannot be compared.
        ParityError: An output differs by more than the tolerance.
    """
    differences: dict[str, float] = {}
    tolerances: dict[str, float] = {}
    data = model.SerializeToString()
    sessions = open_session(data, providers=CPU), open_session(data, providers=CPU, optimize=False)
    names = [output.name for output in model.graph.output]
    for inputs in _variations(model, examples):
        expected = _module_outputs(module, inputs, names)
        exact = _outputs_in_double(module, inputs)
        feeds = {value.name: tensor.numpy() for value, tensor in zip(model.graph.input, inputs, strict=True)}
        for name, values, true in zip(names, expected, exact, strict=True):
            tolerance = _TOLERANCE_OF_HALF if values.dtype == np.float16 else _TOLERANCE
            rounding = relative_difference(true.astype(values.dtype), values)
            tolerances[name] = max(tolerances.get(name, 0.0), min(max(tolerance, 2 * rounding), 10 * tolerance))
        for session in sessions:
            actual = _graph_outputs(session, names, feeds)
            for name, ours, theirs in zip(names, expected, actual, strict=True):
                differences[name] = max(differences.get(name, 0.0), relative_difference(ours, theirs))
    _check(differences, tolerances)
    return differences


def _check(differences: Mapping[str, float], tolerances: Mapping[str, float]) -> None:
    """Raise ``ParityError`` where a difference is NaN or larger than its tolerance."""
    wrong = {name: value for name, value in differences.items() if not value <= tolerances[name]}
    if wrong:
        named = ", ".join(f"'{name}' by {value:.1e} (allowed {tolerances[name]:.1e})" for name, value in wrong.items())
        raise ParityError(f"the exported graph differs from PyTorch in {named}; nothing was written")


def _module_outputs(module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str]) -> list[NDArray[np.generic]]:
    """Return a module's output tensors, after checking that they can be compared with a graph's outputs."""
    kind = type(module).__name__
    try:
        outputs = _leaves(module, inputs)
    except Exception as error:  # whatever the module's code raises
        raise InputError(
            f"{kind} does not run on {_shapes(inputs)} ({str(error).splitlines()[0][:160]}), "
            "though batch or size were to stay open; export with fixed ones"
        ) from error
    if len(outputs) != len(names):
        raise InputError(f"{kind} returns {len(outputs)} tensors, its graph {len(names)}; return tensors only")
    for name, values in zip(names, outputs, strict=True):
        if is_nowhere_finite(values):
            raise InputError(
                f"{kind}: PyTorch's own '{name}' is NaN or infinite everywhere, so the graph "
                "cannot be compared; are its weights whole?"
            )
    return outputs


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


def _leaves(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.generic]]:
    """Return every tensor that a module returns, in order."""
    with torch.inference_mode():
        return [leaf.numpy() for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


def _outputs_in_double(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.generic]]:
    """Return what a module returns in float64; in float32 where its code does not allow float64."""
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        return _leaves(copy.deepcopy(module).double(), wide)
    except (RuntimeError, TypeError, ValueError):
        return _leaves(module, inputs)
