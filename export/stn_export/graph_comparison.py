"""Whether a rewritten graph answers as the old one, on random inputs in onnxruntime."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from stn_runtime import ModelContractError

from .graph.half_precision import has_half, in_float32
from .graph.onnx_files import dims_of
from .proof.differences import is_nowhere_finite, relative_difference

Feeds = dict[str, NDArray[np.generic]]

BATCHES = (1, 3)
_FREE_SIZE = 64  # tried where a graph leaves a size open
_ALLOWED = 1e-5  # of the largest value of an output
_ALLOWED_IN_HALF = 2e-3
_DRAWS = 3
_UNIT = 2.0**-23  # what a coordinate near 1 is rounded to in float32; times the size, pixels


class DifferenceError(Exception):
    """The rewritten graph does not answer as the old one; nothing was written."""


def compare_graphs(old: onnx.ModelProto, new: onnx.ModelProto, source: str) -> dict[str, float]:
    """Return the largest difference of each output on random inputs, relative to the output's largest value.

    Args:
        old: A graph.
        new: Another, with the same inputs and outputs.
        source: Name of the old graph's file, for error messages.

    Raises:
        ModelContractError: The old graph does not run.
        DifferenceError: An output differs by more than 1e-5 of its largest value, or in large pictures by what
            rounding of the sampling points explains, or by twice of what the old graph's own answers differ when its
            inputs change by their last bit; by more than one level in uint8; or is NaN in one of them only.
            Of graphs in float16, the new one may be 2e-3 away from the old one computed in float32, or twice as far
            as the old one is.
    """
    try:
        before = _session(old)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise ModelContractError(f"{source}: onnxruntime cannot load it ({_short(error)}); export it again") from error
    exact = _session(in_float32(old)) if has_half(old) else None
    try:
        after = _session(new)
    except Exception as error:
        raise DifferenceError(f"{source}: the rewritten graph does not load ({_short(error)})") from error
    differences: dict[str, float] = {}
    excess: dict[str, float] = {}
    for index, batch in enumerate(BATCHES):
        feeds = random_inputs(old, batch, seed=index)
        for name, value, too_large in _differences(before, after, exact, feeds, source):
            differences[name] = max(differences.get(name, 0.0), value)
            excess[name] = max(excess.get(name, 0.0), too_large)
    wrong = {name: value for name, value in excess.items() if value}
    if wrong:
        named = ", ".join(f"'{name}' by {value:.1e}" for name, value in wrong.items())
        raise DifferenceError(f"{source}: the rewritten graph differs in output {named}; nothing was written")
    return differences


def _differences(
    before: ort.InferenceSession,
    after: ort.InferenceSession,
    exact: ort.InferenceSession | None,
    feeds: Feeds,
    source: str,
) -> Iterator[tuple[str, float, float]]:
    """Yield name and difference of each output, and the difference again where it is not allowed, else 0."""
    names = [output.name for output in before.get_outputs()]
    expected, actual = _run_both(before, after, feeds, source)
    precise = expected if exact is None else exact.run(None, _widened(feeds))
    unsure = _unsureness(before, feeds, expected) if exact is None else [0.0] * len(names)
    for name, one, other, reference, own in zip(names, expected, actual, precise, unsure, strict=True):
        if is_nowhere_finite(one):
            raise DifferenceError(
                f"{source}: output '{name}' is not finite anywhere on random inputs, so a change "
                "cannot be checked; nothing was written. Are its weights whole?"
            )
        difference = relative_difference(one, other)
        value, allowed = difference, max(_ALLOWED, 2 * _UNIT * _largest_side(feeds), 2 * own)
        if exact is not None and one.dtype == other.dtype:
            value, allowed = _distance(reference, other), max(_ALLOWED_IN_HALF, 2 * _distance(reference, one))
        yield name, difference, 0.0 if value <= allowed else value


def random_inputs(model: onnx.ModelProto, batch: int, seed: int = 0) -> Feeds:
    """Return random inputs for a graph: ``batch`` where the first size of an input is open, 64 for any other name."""
    random = np.random.default_rng(seed)
    inputs = _inputs(model)
    batches = _batch_names(inputs)
    feeds: Feeds = {}
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelContractError(f"input '{value.name}' is no tensor, so a change cannot be checked")
        sizes = [
            size if isinstance(size, int) else batch if not axis or size in batches else _FREE_SIZE
            for axis, size in enumerate(dims_of(value))
        ]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(kind, np.floating):
            feeds[value.name] = random.random(sizes).astype(kind)
        else:
            feeds[value.name] = random.integers(0, 256 if kind == np.uint8 else 2, sizes).astype(kind)
    return feeds


def is_fixed_but_for_the_batch(model: onnx.ModelProto) -> bool:
    """Return whether all sizes of a graph's inputs are known, except that of the batch."""
    inputs = _inputs(model)
    sizes = [size for value in inputs for size in dims_of(value)[1:]]
    return all(isinstance(size, int) or size in _batch_names(inputs) for size in sizes)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _batch_names(inputs: Sequence[onnx.ValueInfoProto]) -> set[int | str]:
    return {dims_of(value)[0] for value in inputs if dims_of(value)} - {""}


def _run_both(
    before: ort.InferenceSession, after: ort.InferenceSession, feeds: Feeds, source: str
) -> tuple[list[NDArray[np.generic]], list[NDArray[np.generic]]]:
    try:
        expected = before.run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise ModelContractError(
            f"{source}: onnxruntime cannot run it on random inputs ({_short(error)}), so a change cannot be checked"
        ) from error
    try:
        actual = after.run(None, feeds)
    except Exception as error:
        raise DifferenceError(f"{source}: the rewritten graph does not run ({_short(error)})") from error
    return [np.asarray(value) for value in expected], [np.asarray(value) for value in actual]


def _unsureness(session: ort.InferenceSession, feeds: Feeds, expected: Sequence[NDArray[np.generic]]) -> list[float]:
    """Return how much each output changes at most when each input's last bit does; not finite counts as none."""
    random = np.random.default_rng(0)
    changes = [0.0] * len(expected)
    for _ in range(_DRAWS):
        nudged = {
            name: np.nextafter(values, random.choice([-np.inf, np.inf], values.shape).astype(values.dtype))
            if values.dtype.kind == "f"
            else values
            for name, values in feeds.items()
        }
        for index, (one, other) in enumerate(zip(expected, session.run(None, nudged), strict=True)):
            value = relative_difference(one, np.asarray(other))
            changes[index] = max(changes[index], value if np.isfinite(value) else 0.0)
    return changes


def _largest_side(feeds: Feeds) -> int:
    return max((side for values in feeds.values() if values.ndim == 4 for side in values.shape[1:]), default=0)


def _widened(feeds: Feeds) -> Feeds:
    return {name: values.astype(np.float32) if values.dtype == np.float16 else values for name, values in feeds.items()}


def _distance(reference: NDArray[np.generic], values: NDArray[np.generic]) -> float:
    """Return how far values are from a reference in float32, relative to its largest value."""
    return relative_difference(reference, values.astype(reference.dtype))


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
