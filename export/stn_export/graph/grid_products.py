"""Each sampling grid made one matrix product, and each sampler the one that has a fast path."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter.pattern import MatchResult, Var

from .onnx_files import STANDARD
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
from .sampling_grids import LinearGrid, find_linear_grid


def rewrite_samplers(model: ir.Model, changes: Changes, modes: bool = True) -> None:
    """Make each sampling grid one matrix product, and each sampler the one that has a fast path; in place.

    Args:
        model: Any graph.
        changes: Receives what was done and what was not.
        modes: Whether ``align_corners`` and border padding may be expressed in the grid.
    """
    infer_shapes(model)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        grid = node.inputs[1] if node.op_type == "GridSample" else None
        if grid is not None and node.domain not in STANDARD:
            changes.keep(f"{node_name(node.outputs[0])}: it is the GridSample of {node.domain}; export the file again")
        elif grid is not None and is_clipped(grid):
            changes.keep(f"{node_name(node.outputs[0])}: its grid is clipped already")
    apply_rules(model, _FastSampler(model, changes, modes))


class _FastSampler(Rule):
    """Makes a grid that is linear in theta one matrix product, and the sampler bilinear with zeros, align_corners 0.

    That is the one combination with a fast path in onnxruntime's kernel (onnxruntime#27359). With align_corners, +-1
    are the centres of the border pixels, which lie at (size - 1) / size of the way to their edges: the basis is
    scaled. What border padding reads outside is what lies nearest inside: the grid is clipped to the centres.
    """

    def __init__(self, model: ir.Model, changes: Changes, modes: bool) -> None:
        super().__init__("fast sampler")
        self.model = model
        self.changes = changes
        self.modes = modes
        self.found: dict[str, LinearGrid | str] = {}

    def pattern(self, op: Patterns, image: Var, grid: Var) -> Var:
        return op.GridSample(image, grid, _allow_other_attributes=True, _outputs=["sampled"])

    def check(self, context: object, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> MatchResult:
        name = node_name(sampled)
        if grid.shape is not None and len(grid.shape) == 5:
            self.changes.keep(f"{name}: it samples volumes (5-D), this works on images (4-D)")
            return match_result(False, "5-D")
        if is_clipped(grid):
            return match_result(False, "done before")
        self.found[name] = found = find_linear_grid(grid, self.model)
        improvable = self._has_fast_equal(sampled, image) and (
            isinstance(found, LinearGrid) or grid_size(grid) is not None
        )
        if isinstance(found, str):
            self.changes.keep(f"{name}: {found}")
            return match_result(improvable, found)
        return match_result(improvable or not found.is_product, "nothing to gain")

    def rewrite(self, op: Operators, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> ir.Value:
        name, found, made = node_name(sampled), self.found[node_name(sampled)], self.changes.made
        padding = text_attribute(sampled, "padding_mode", "zeros")
        clips = scales = False
        size = found.size if isinstance(found, LinearGrid) else grid_size(grid) or (0, 0)
        edges = np.ones(2 * size[0] * size[1], np.float32)
        if self._has_fast_equal(sampled, image):
            clips, scales = padding == "border", whole_attribute(sampled, "align_corners", 0) == 1
            height, width = image_size(image) or (1, 1)
            edges = np.tile(np.array([(width - 1) / width, (height - 1) / height], np.float32), size[0] * size[1])
        if isinstance(found, LinearGrid):
            points = _product(op, found, edges if scales else np.ones_like(edges), name)
            if not found.is_product:
                made.append(f"the grid of {name} ({size[1]} x {size[0]}) is one matrix product with a constant")
        else:
            points = op.Reshape(grid, constant(op, np.array([-1, len(edges)]), f"{name}.flat_shape"))
            points = op.Mul(points, constant(op, edges, f"{name}.edges")) if scales else points
        if scales:
            made.append(f"align_corners of {name} is expressed in its grid")
        if clips:
            points = op.Max(points, constant(op, -edges, f"{name}.first_pixel"))
            points = op.Min(points, constant(op, edges, f"{name}.last_pixel"))
            made.append(f"border padding of {name} is expressed in its grid")
        points = op.Reshape(points, constant(op, np.array([-1, *size, 2]), f"{name}.grid_shape"))
        changed = {"padding_mode": "zeros"} if clips else {}
        return _sampler(op, image, points, sampled, **changed, **({"align_corners": 0} if scales else {}))

    def _has_fast_equal(self, sampled: ir.Value, image: ir.Value) -> bool:
        """Return whether a sampler may be, and is not yet, bilinear with zeros and align_corners 0."""
        padding, corners = (
            text_attribute(sampled, "padding_mode", "zeros"),
            whole_attribute(sampled, "align_corners", 0),
        )
        bilinear = text_attribute(sampled, "mode", "bilinear") in ("bilinear", "linear")
        if not self.modes or not bilinear or padding == "reflection" or (padding == "zeros" and corners == 0):
            return False
        return image.dtype == ir.DataType.FLOAT and image_size(image) is not None


def _product(op: Operators, found: LinearGrid, scale: NDArray[np.float32], name: str) -> ir.Value:
    theta = found.theta
    if len(theta.shape or ()) != 2:
        theta = op.Reshape(theta, constant(op, np.array([-1, len(found.basis)]), f"{name}.theta_shape"))
    points = op.MatMul(theta, constant(op, found.basis * scale, f"{name}.basis"))
    if found.offset is None:
        return points
    return op.Add(points, constant(op, found.offset * scale, f"{name}.offset"))


def is_clipped(grid: ir.Value) -> bool:
    """Return whether a grid ends as border padding expressed in the grid does: Max, Min, Reshape."""
    kinds: list[str] = []
    value: ir.Value | None = grid
    while len(kinds) < 3 and value is not None and (node := value.producer()) is not None:
        kinds.append(node.op_type)
        value = node.inputs[0]
    return kinds == ["Reshape", "Min", "Max"]


def _sampler(op: Operators, image: ir.Value, grid: ir.Value, sampled: ir.Value, **changed: str | int) -> ir.Value:
    """Return a sampler like the one that made ``sampled``, of another grid or with other attributes."""
    node = sampled.producer()
    attributes = {**(node.attributes if node is not None else {}), **changed}
    again = op.GridSample(image, grid, **attributes)
    maker_of(again).name = node_name(sampled)
    return again
