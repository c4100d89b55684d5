"""ONNX in, ONNX out: the spatial transformers of a file whose PyTorch code is gone, made fast and portable."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from stn_runtime import ModelContractError

from .forms.targets import FUSED_OPSETS
from .graph.grid_products import rewrite_samplers
from .graph.onnx_files import dims_of, has_external_data, opset_of, read_onnx, write_onnx
from .graph.opsets import OPSET, lower_opset
from .graph.rewrites import Changes, fold_constants, infer_shapes
from .proof.differences import is_nowhere_finite
from .proof.graph_cuts import find_cuts
from .proof.graph_evaluation import GraphOriginal
from .proof.graph_proof import GraphProof
from .proof.rounding import DisturbedRuns

Feeds = dict[str, NDArray[np.generic]]

_BATCHES = (1, 3)
_FREE_SIZE = 64  # tried where a graph leaves a size open


class DifferenceError(Exception):
    """The rewritten graph does not answer as the old one; nothing was written."""


@dataclass(frozen=True)
class Optimized:
    """Result of optimising a file.

    Attributes:
        changes: What was changed, and what could not be changed.
        differences: Largest difference of each output between old and new, relative to its largest value.
        is_unchanged: Whether the graph that was written is the one that was read.
    """

    changes: Changes
    differences: dict[str, float]
    is_unchanged: bool


def optimize_onnx(source: Path, target: Path) -> Optimized:
    """Write a file with its spatial transformers made fast: one matrix product a grid, opset 18, the fast sampler.

    Args:
        source: Any .onnx file, of any exporter.
        target: The file to write; it may be ``source``. Without a spatial transformer, or with nothing to gain, it
            gets the bytes of ``source``, or its graph with the weights that lay in other files.

    Raises:
        InputError: The file cannot be used.
        DifferenceError: On random inputs the new graph differs from the old one; nothing was written.
    """
    model = read_onnx(source)
    if opset_of(model) < FUSED_OPSETS.start:
        raise ModelContractError(
            f"{source}: has opset {opset_of(model)}, but GridSample exists from {FUSED_OPSETS.start} on, so there "
            f"is nothing to optimise; export it again with opset {OPSET}"
        )
    changes = Changes()
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)  # a sampler may be inside a function
    written, differences = model, {}
    if not any(node.op_type == "GridSample" for node in ir.traversal.RecursiveGraphIterator(graph.graph)):
        changes.keep("there is no GridSample in it")
    else:
        before = sum(1 for _ in ir.traversal.RecursiveGraphIterator(graph.graph))
        fold_constants(graph)
        rewrite_samplers(graph, changes)
        infer_shapes(graph)
        if changes.made:
            after = sum(1 for _ in ir.traversal.RecursiveGraphIterator(graph.graph))
            changes.made.append(f"constants are computed ahead, equal parts once: {before} nodes are now {after}")
            written = ir.to_proto(graph)
            differences = compare_graphs(model, written, str(source))
        if opset_of(model) not in FUSED_OPSETS:
            lowered, made = ir.from_proto(ir.to_proto(graph)), Changes()
            obstacle = lower_opset(lowered, OPSET, made)
            try:
                if obstacle is None:
                    candidate = ir.to_proto(lowered)
                    differences = compare_graphs(model, candidate, str(source))
                    written = candidate
            except DifferenceError as error:
                obstacle = f"in opset {OPSET} it is not the same ({error}), so it stays opset {opset_of(model)}"
            if obstacle is None:
                changes.made += made.made
            else:
                changes.keep(obstacle)
    if not changes.made:
        write_onnx(model.SerializeToString() if has_external_data(source) else source.read_bytes(), target)
        return Optimized(changes, {}, True)
    write_onnx(written.SerializeToString(), target)
    return Optimized(changes, differences, False)


def compare_graphs(old: onnx.ModelProto, new: onnx.ModelProto, source: str) -> dict[str, float]:
    """Return the largest difference of each output on random inputs, relative to the output's largest value.

    Args:
        old: A graph.
        new: Another, with the same inputs and outputs.
        source: Name of the old graph's file, for error messages.

    Raises:
        ModelContractError: The old graph does not run.
        DifferenceError: A part or an output differs by more than 1e-5 of its largest value and by more than rounding
            explains; by more than one level in uint8; or is NaN in one of them only.
    """
    try:
        original = GraphOriginal(old)
        before = _session(old)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise ModelContractError(f"{source}: onnxruntime cannot load it ({_short(error)}); export it again") from error
    try:
        after = _session(new)
    except Exception as error:
        raise DifferenceError(f"{source}: the rewritten graph does not load ({_short(error)})") from error
    proof = GraphProof(new, find_cuts(new))
    for index, batch in enumerate(_BATCHES):
        feeds = random_inputs(old, batch, seed=index)
        try:
            before.run(None, feeds)
            runs = DisturbedRuns(original, list(feeds.values()))
        except Exception as error:
            raise ModelContractError(
                f"{source}: onnxruntime cannot run it on random inputs ({_short(error)}), so a change cannot be checked"
            ) from error
        try:
            actual = after.run(None, feeds)
        except Exception as error:
            raise DifferenceError(f"{source}: the rewritten graph does not run ({_short(error)})") from error
        for output, values in zip(before.get_outputs(), runs.evaluation.outputs, strict=True):
            if is_nowhere_finite(values):
                raise DifferenceError(
                    f"{source}: output '{output.name}' is not finite anywhere on random inputs, so a change "
                    "cannot be checked; nothing was written. Are its weights whole?"
                )
        proof.add_parts(runs)
        proof.add_outputs(runs, [np.asarray(values) for values in actual])
    if proof.refusal is not None:
        raise DifferenceError(f"{source}: the rewritten graph differs in {proof.refusal}; nothing was written")
    return {output.name: proof.largest(output.name) for output in before.get_outputs()}


def random_inputs(model: onnx.ModelProto, batch: int, seed: int = 0) -> Feeds:
    """Return random inputs for a graph: ``batch`` where the first size of an input is open, 64 for any other name."""
    random = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    batches = {dims_of(value)[0] for value in inputs if dims_of(value)} - {""}
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


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
