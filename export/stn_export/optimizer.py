"""ONNX in, ONNX out: the spatial transformers of a file whose PyTorch code is gone, made fast and portable."""

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from stn_runtime import ModelContractError

from .forms.targets import FUSED_OPSETS
from .graph.graph_parts import measure_shapes
from .graph.grid_products import rewrite_samplers
from .graph.onnx_files import has_external_data, opset_of, read_onnx, write_onnx
from .graph.opsets import OPSET, lower_opset
from .graph.rewrites import Changes, fold_constants, infer_shapes, node_name
from .graph_comparison import BATCHES, DifferenceError, compare_graphs, is_fixed_but_for_the_batch, random_inputs


@dataclass(frozen=True)
class Optimized:
    """Result of optimising a file.

    Attributes:
        changes: Sentences: each change, and each reason why something could not be changed.
        differences: Largest difference of each output between old and new, relative to its largest value.
        is_unchanged: Whether the graph that was written is the one that was read.
    """

    changes: Changes
    differences: dict[str, float]
    is_unchanged: bool


@dataclass(frozen=True)
class _Rewritten:
    """A graph with its samplers rewritten, and how it compares with the old one."""

    graph: ir.Model
    model: onnx.ModelProto
    differences: dict[str, float]
    changes: Changes
    has_sampler: bool = True


def optimize_onnx(source: str | Path, target: str | Path) -> Optimized:
    """Write a file with its spatial transformers made fast: one matrix product a grid, opset 18, the fast sampler.

    Args:
        source: Any .onnx file, of any exporter.
        target: The file to write; it may be ``source``. Without a spatial transformer, or with nothing to gain, it
            gets the bytes of ``source``, or its graph with the weights that lay in other files.

    Raises:
        InputError: The file cannot be used.
        DifferenceError: On random inputs the new graph differs from the old one; nothing was written.
    """
    source, target = Path(source), Path(target)
    model = read_onnx(source)
    if opset_of(model) < FUSED_OPSETS.start:
        raise ModelContractError(
            f"{source}: has opset {opset_of(model)}, but GridSample exists from {FUSED_OPSETS.start} on, so there "
            f"is nothing to optimise; export it again with opset {OPSET}"
        )
    rewritten = _rewritten(model, str(source))
    if rewritten.has_sampler and opset_of(model) not in FUSED_OPSETS:
        rewritten = _lowered(model, rewritten, str(source))
    changes = rewritten.changes
    if not changes.made:
        write_onnx(model.SerializeToString() if has_external_data(source) else source.read_bytes(), target)
        return Optimized(changes, {}, True)
    write_onnx(rewritten.model.SerializeToString(), target)
    return Optimized(changes, rewritten.differences, False)


def _rewritten(model: onnx.ModelProto, source: str) -> _Rewritten:
    """Return a file's graph with its samplers rewritten, compared with the old one.

    Raises:
        ModelContractError: The old graph does not run.
        DifferenceError: The graph differs even with no more than its linear grids rewritten.
    """
    changes = Changes()
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)  # a sampler may be inside a function
    if not any(node.op_type == "GridSample" for node in ir.traversal.RecursiveGraphIterator(graph.graph)):
        changes.keep("there is no GridSample in it")
        return _Rewritten(graph, model, {}, changes, has_sampler=False)
    try:
        return _with_fast_samplers(model, graph, source, pointwise=True)
    except DifferenceError as error:
        graph = ir.from_proto(model)
        ir.passes.common.InlinePass()(graph)
        rewritten = _with_fast_samplers(model, graph, source, pointwise=False)
        rewritten.changes.keep(f"only linear grids are rewritten, since with the others {error}")
        return rewritten


def _with_fast_samplers(model: onnx.ModelProto, graph: ir.Model, source: str, pointwise: bool) -> _Rewritten:
    changes = Changes()
    before = sum(1 for _ in ir.traversal.RecursiveGraphIterator(graph.graph))
    before_folding = _samplers_by_grid(graph)
    fold_constants(graph)
    after_folding = _samplers_by_grid(graph)
    for sampled, name in before_folding[False].items():
        if sampled in after_folding[True]:
            changes.made.append(f"the grid of {name} is a constant")
    if is_fixed_but_for_the_batch(model):
        infer_shapes(graph)
        measure_shapes(graph, [random_inputs(model, batch + 1, seed=batch) for batch in BATCHES])
    rewrite_samplers(graph, changes, pointwise=pointwise)
    infer_shapes(graph)
    if not changes.made:
        return _Rewritten(graph, model, {}, changes)
    after = sum(1 for _ in ir.traversal.RecursiveGraphIterator(graph.graph))
    changes.made.append(f"constants are computed ahead, equal parts once: {before} nodes are now {after}")
    written = ir.to_proto(graph)
    return _Rewritten(graph, written, compare_graphs(model, written, source), changes)


def _samplers_by_grid(graph: ir.Model) -> dict[bool, dict[str, str]]:
    """Return the names of samplers by what they return: at True those whose grid is a constant, at False the others."""
    found: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for node in ir.traversal.RecursiveGraphIterator(graph.graph):
        if node.op_type == "GridSample" and node.inputs[1] is not None:
            constant = ir.convenience.get_const_tensor(node.inputs[1], propagate_shape_type=False) is not None
            found[constant][str(node.outputs[0].name)] = node_name(node.outputs[0])
    return found


def _lowered(model: onnx.ModelProto, rewritten: _Rewritten, source: str) -> _Rewritten:
    """Return a rewritten graph in the opset that every engine reads right, where it has an equal there."""
    lowered, made = ir.from_proto(ir.to_proto(rewritten.graph)), Changes()
    obstacle = lower_opset(lowered, OPSET, made)
    if obstacle is None:
        candidate = ir.to_proto(lowered)
        try:
            differences = compare_graphs(model, candidate, source)
        except DifferenceError as error:
            obstacle = f"in opset {OPSET} it is not the same ({error}), so it stays opset {opset_of(model)}"
        else:
            rewritten.changes.made += made.made
            return _Rewritten(lowered, candidate, differences, rewritten.changes)
    rewritten.changes.keep(obstacle)
    return rewritten
