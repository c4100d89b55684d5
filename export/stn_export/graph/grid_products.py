"""Each sampling grid made one matrix product, and each sampler the one that has a fast path."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter.pattern import MatchResult, Var

from .grid_expressions import Constant, Flowing, Linear, PointwiseGrid, leaves_of, steps_of
from .grid_operators import clipped, scaled, write_grid
from .half_precision import twin_in_float32
from .onnx_files import STANDARD
from .pointwise_grids import find_pointwise_grid
from .rewrites import (
    Changes,
    Operators,
    Patterns,
    Rule,
    apply_rules,
    constant,
    grid_size,
    image_size,
    infer_shapes,
    maker_of,
    match_result,
    node_name,
    text_attribute,
    whole_attribute,
)
from .sampling_grids import NO_THETA, LinearGrid, find_linear_grid


def rewrite_samplers(model: ir.Model, changes: Changes, modes: bool = True, pointwise: bool = True) -> None:
    """Make each sampling grid one matrix product, and each sampler the one that has a fast path; in place.

    Args:
        model: Any graph.
        changes: Receives what was done and what was not.
        modes: Whether ``align_corners`` and border padding may be expressed in the grid.
        pointwise: Whether also grids are rewritten that are not linear in theta.
    """
    infer_shapes(model)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "GridSample" and node.domain not in STANDARD:
            changes.keep(f"{node_name(node.outputs[0])}: it is the GridSample of {node.domain}; export the file again")
    apply_rules(model, _FastSampler(model, changes, modes, pointwise))


def find_grid(grid: ir.Value, model: ir.Model, pointwise: bool = True) -> PointwiseGrid | str:
    """Return how a sampling grid is computed from theta or a flow, or a sentence that says why it cannot be told.

    Args:
        grid: The second input of a ``GridSample``.
        model: What it belongs to, with shapes inferred.
        pointwise: Whether also grids are looked for that are not linear in theta.
    """
    linear = find_linear_grid(grid, model)
    if isinstance(linear, LinearGrid):
        points = linear.size[0] * linear.size[1]
        offset = np.zeros(2 * points, np.float32) if linear.offset is None else linear.offset
        basis = linear.basis.reshape(-1, points, 2).transpose(0, 2, 1)
        root = Linear(basis, offset.reshape(points, 2).T)
        return PointwiseGrid(linear.theta, root, linear.size, (), linear.is_product)
    if not pointwise or (grid.dtype is not None and grid.dtype != ir.DataType.FLOAT):
        return linear
    found = find_pointwise_grid(grid, model)
    return linear if isinstance(found, str) and found == NO_THETA else found


class _FastSampler(Rule):
    """Makes a grid one matrix product and what follows it, and the sampler bilinear with zeros, align_corners 0.

    That is the one combination with a fast path in onnxruntime's kernel (onnxruntime#27359). With align_corners, +-1
    are the centres of the border pixels, which lie at (size - 1) / size of the way to their edges: the basis is
    scaled. What border padding reads outside is what lies nearest inside: the grid is clipped to the centres.
    """

    def __init__(self, model: ir.Model, changes: Changes, modes: bool, pointwise: bool) -> None:
        super().__init__("fast sampler")
        is_half = any(value.dtype == ir.DataType.FLOAT16 for value in _values(model))
        self.model = model
        self.wide = twin_in_float32(model) if is_half else model
        self.pointwise = pointwise
        self.changes = changes
        self.modes = modes
        self.found: dict[str, PointwiseGrid | str] = {}
        self.done: set[ir.Node] = set()  # the rewriter comes by what it wrote again

    def pattern(self, op: Patterns, image: Var, grid: Var) -> Var:
        return op.GridSample(image, grid, _allow_other_attributes=True, _outputs=["sampled"])

    def check(self, context: object, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> MatchResult:
        name = node_name(sampled)
        if sampled.producer() in self.done:
            return match_result(False, "done")
        if grid.shape is not None and len(grid.shape) == 5:
            self.changes.keep(f"{name}: it samples volumes (5-D), this works on images (4-D)")
            return match_result(False, "5-D")
        self.found[name] = found = self._find(grid)
        improvable = self._has_fast_equal(sampled, image) and (
            isinstance(found, PointwiseGrid) or (grid_size(grid) is not None and image.dtype == ir.DataType.FLOAT)
        )
        if isinstance(found, str):
            self.changes.keep(f"{name}: {found}")
            return match_result(improvable, found)
        return match_result(improvable or not found.is_written, "nothing to gain")

    def rewrite(self, op: Operators, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> ir.Value:
        name, found, made = node_name(sampled), self.found[node_name(sampled)], self.changes.made
        clips = scales = False
        edges = np.ones((2, 1), np.float32)
        if self._has_fast_equal(sampled, image):
            clips = text_attribute(sampled, "padding_mode", "zeros") == "border"
            scales = whole_attribute(sampled, "align_corners", 0) == 1
            height, width = image_size(image) or (1, 1)
            edges = np.array([[(width - 1) / width], [(height - 1) / height]], np.float32)
        if isinstance(found, PointwiseGrid):
            root = scaled(found.root, edges) if scales else found.root
            root = clipped(root, edges) if clips else root
            source = found.source
            if source is not None and source.dtype == ir.DataType.FLOAT16:
                source = _cast(op, source, ir.DataType.FLOAT)
            points = write_grid(op, replace(found, root=root, source=source), image, name)
            if not found.is_written:
                made.append(f"the grid of {name} ({found.size[1]} x {found.size[0]}) is {_described(found)}")
        else:
            points = _flat_edges(op, grid, edges, scales, clips, name)
        if scales:
            made.append(f"align_corners of {name} is expressed in its grid")
        if clips:
            made.append(f"border padding of {name} is expressed in its grid")
        changed = {"padding_mode": "zeros"} if clips else {}
        is_half = image.dtype == ir.DataType.FLOAT16 and isinstance(found, PointwiseGrid)
        image = _cast(op, image, ir.DataType.FLOAT) if is_half else image  # as its grid is
        again = _sampler(op, image, points, sampled, **changed, **({"align_corners": 0} if scales else {}))
        self.done.add(maker_of(again))
        return _cast(op, again, ir.DataType.FLOAT16) if is_half else again

    def _find(self, grid: ir.Value) -> PointwiseGrid | str:
        """Return how a grid is computed; one that float16 has a part in as it is in float32."""
        is_half = grid.dtype == ir.DataType.FLOAT16
        found = NO_THETA if is_half else find_grid(grid, self.model, self.pointwise)
        if isinstance(found, PointwiseGrid) or self.wide is self.model:
            return found
        same = {value.name: value for value in _values(self.wide)}
        found = find_grid(same[grid.name], self.wide, self.pointwise) if grid.name in same else NO_THETA
        if isinstance(found, str):
            return found
        source = None if found.source is None else {v.name: v for v in _values(self.model)}.get(found.source.name)
        return replace(found, source=source, is_written=False)

    def _has_fast_equal(self, sampled: ir.Value, image: ir.Value) -> bool:
        """Return whether a sampler may be, and is not yet, bilinear with zeros and align_corners 0."""
        padding, corners = (
            text_attribute(sampled, "padding_mode", "zeros"),
            whole_attribute(sampled, "align_corners", 0),
        )
        bilinear = text_attribute(sampled, "mode", "bilinear") in ("bilinear", "linear")
        if not self.modes or not bilinear or padding == "reflection" or (padding == "zeros" and corners == 0):
            return False
        kinds = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
        return image.dtype in kinds and image_size(image) is not None


def _flat_edges(
    op: Operators, grid: ir.Value, edges: NDArray[np.float32], scales: bool, clips: bool, name: str
) -> ir.Value:
    """Return a grid of known size, of which nothing else is known, scaled to the edges and clipped there."""
    size = grid_size(grid) or (0, 0)
    each = np.tile(edges.ravel(), size[0] * size[1])
    points = op.Reshape(grid, constant(op, np.array([-1, len(each)]), f"{name}.flat_shape"))
    points = op.Mul(points, constant(op, each, f"{name}.edges")) if scales else points
    if clips:
        points = op.Max(points, constant(op, -each, f"{name}.first_pixel"))
        points = op.Min(points, constant(op, each, f"{name}.last_pixel"))
    return op.Reshape(points, constant(op, np.array([-1, *size, 2]), f"{name}.grid_shape"))


def _described(found: PointwiseGrid) -> str:
    """Return what a grid becomes."""
    steps = len(list(steps_of(found.root)))
    behind = f" and {steps} operator{'s' * (steps > 1)} on each point" if steps else ""
    if isinstance(found.root, Constant):
        return "a constant"
    if any(isinstance(leaf, Flowing) for leaf in leaves_of(found.root)):
        return f"its flow and a constant{behind}"
    return f"one matrix product with a constant{behind}"


def _sampler(op: Operators, image: ir.Value, grid: ir.Value, sampled: ir.Value, **changed: str | int) -> ir.Value:
    """Return a sampler like the one that made ``sampled``, of another grid or with other attributes."""
    node = sampled.producer()
    attributes = {**(node.attributes if node is not None else {}), **changed}
    again = op.GridSample(image, grid, **attributes)
    maker_of(again).name = node_name(sampled)
    return again


def _cast(op: Operators, value: ir.Value, kind: ir.DataType) -> ir.Value:
    """Return a tensor in another type, whose shape and type are written down."""
    cast = op.Cast(value, to=int(kind))
    cast.dtype, cast.shape = kind, value.shape
    return cast


def _values(model: ir.Model) -> list[ir.Value]:
    """Return the tensors of a graph."""
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
