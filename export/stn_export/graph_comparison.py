"""Whether a rewritten graph answers as the old one, on random inputs in onnxruntime."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from stn_runtime import ModelContractError

from .graph.half_precision import has_half, in_float32
from .graph.onnx_files import dims_of
from .proof.differences import is_nowhere_finite
from .proof.graph_cuts import find_cuts
from .proof.graph_evaluation import GraphOriginal
from .proof.graph_proof import GraphProof
from .proof.rounding import DisturbedRuns

Feeds = dict[str, NDArray[np.generic]]

BATCHES = (1, 3)
_FREE_SIZE = 64  # tried where a graph leaves a size open


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
        DifferenceError: A part or an output differs by more than 1e-5 of its largest value and by more than rounding
            explains; by more than one level in uint8; or is NaN in one of them only. Of graphs in float16, the new one
            may be 2e-3 away from the old one computed in float32, or twice as far as the old one is.
    """
    try:
        before = _session(old)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise ModelContractError(f"{source}: onnxruntime cannot load it ({_short(error)}); export it again") from error
    try:
        after = _session(new)
    except Exception as error:
        raise DifferenceError(f"{source}: the rewritten graph does not load ({_short(error)})") from error
    compare = _compare_in_half if has_half(old) else _compare_by_parts
    return compare(_Pair(old, new, before, after, source))


@dataclass(frozen=True)
class _Pair:
    old: onnx.ModelProto
    new: onnx.ModelProto
    before: ort.InferenceSession
    after: ort.InferenceSession
    source: str

    @property
    def names(self) -> list[str]:
        """Names of the outputs."""
        return [output.name for output in self.before.get_outputs()]

    def answers(self) -> Iterator[tuple[Feeds, list[NDArray[np.generic]], list[NDArray[np.generic]]]]:
        """Yield random inputs and what both graphs answer."""
        for index, batch in enumerate(BATCHES):
            feeds = random_inputs(self.old, batch, seed=index)
            expected, actual = _run_both(self.before, self.after, feeds, self.source)
            for name, values in zip(self.names, expected, strict=True):
                if is_nowhere_finite(values):
                    raise DifferenceError(
                        f"{self.source}: output '{name}' is not finite anywhere on random inputs, so a change "
                        "cannot be checked; nothing was written. Are its weights whole?"
                    )
            yield feeds, expected, actual


def _compare_by_parts(pair: _Pair) -> dict[str, float]:
    original, proof = GraphOriginal(pair.old), GraphProof(pair.new, find_cuts(pair.new))
    for feeds, _, actual in pair.answers():
        runs = DisturbedRuns(original, list(feeds.values()))
        proof.add_parts(runs)
        if proof.refusal is None:
            proof.add_outputs(runs, actual)
        if proof.refusal is not None:  # the larger batch takes far longer and can only add to it
            break
    return _proven(pair, proof)


def _compare_in_half(pair: _Pair) -> dict[str, float]:
    wide, proof = _session(in_float32(pair.old)), GraphProof(pair.new, ())
    for feeds, expected, actual in pair.answers():
        proof.add_half_outputs(wide.run(None, _widened(feeds)), expected, actual)
    return _proven(pair, proof)


def _proven(pair: _Pair, proof: GraphProof) -> dict[str, float]:
    if proof.refusal is not None:
        raise DifferenceError(f"{pair.source}: the rewritten graph differs in {proof.refusal}; nothing was written")
    return {name: proof.largest(name) for name in pair.names}


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


def _widened(feeds: Feeds) -> Feeds:
    return {name: values.astype(np.float32) if values.dtype == np.float16 else values for name, values in feeds.items()}


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
