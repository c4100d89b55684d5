"""The sampler in primitive operators (opset 13 and later), for engines that have no ``GridSample``."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleSet
from onnxscript.rewriter.pattern import MatchResult, Var

from .rewrites import (
    Operators,
    Patterns,
    Rule,
    constant,
    fold_constants,
    infer_shapes,
    node_name,
    text_attribute,
    whole_attribute,
)

_FLOAT, _INDEX = int(ir.DataType.FLOAT), int(ir.DataType.INT32)


def make_portable(model: ir.Model) -> list[str]:
    """Spell every sampler out, in place: floor, gather and blend instead of ``GridSample`` (its spec, opset 16).

    The image gets a border of zeros, so that a clipped coordinate reads zero outside and needs no mask. Rows of the
    flattened image are read with ``Gather``, the one gather that every engine has.

    Args:
        model: Any graph with 4-D samplers, bilinear or nearest.

    Returns:
        A sentence for each sampler that stays as it is, with the reason.
    """
    infer_shapes(model)
    kept: list[str] = []
    RewriteRuleSet([_PortableSampler(kept).bound()]).apply_to_model(model)
    fold_constants(model)
    infer_shapes(model)
    return kept


class _PortableSampler(Rule):
    """Replaces a 4-D ``GridSample`` by primitive operators; notes the reason where that is not possible."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__("portable sampler")
        self.kept = kept

    def pattern(self, op: Patterns, image: Var, grid: Var) -> Var:
        return op.GridSample(image, grid, _allow_other_attributes=True, _outputs=["sampled"])

    def check(self, context: object, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> MatchResult:
        mode, result = text_attribute(sampled, "mode", "bilinear"), MatchResult()
        if mode not in ("bilinear", "linear", "nearest"):
            reason = f"{node_name(sampled)}: mode '{mode}' has no portable form; use bilinear or nearest"
        elif image.shape is None or image.dtype is None:
            reason = f"{node_name(sampled)}: the shape of what it samples is not known; use the fused form"
        elif len(image.shape) != 4:
            reason = f"{node_name(sampled)}: only images (4-D) have a portable form"
        elif image.dtype != ir.DataType.FLOAT:
            kind = image.dtype.name.lower()
            reason = f"{node_name(sampled)}: only float32 has a portable form, this is {kind}; call module.float()"
        else:
            return result
        self.kept.append(reason)
        return result.fail(reason)

    def rewrite(self, op: Operators, image: ir.Value, grid: ir.Value, sampled: ir.Value) -> ir.Value:
        mode, padding = text_attribute(sampled, "mode", "bilinear"), text_attribute(sampled, "padding_mode", "zeros")
        corners = whole_attribute(sampled, "align_corners", 0) == 1
        build = _Builder(op, node_name(sampled))
        before, after = (1, 2) if padding == "zeros" else (0, 1)
        sizes = build.sizes(image)
        columns = _Axis(sizes[1], mode == "nearest", padding, corners)
        rows = _Axis(sizes[0], mode == "nearest", padding, corners)
        x = build.pixels(op.Gather(grid, build.index(0), axis=3), columns)
        y = build.pixels(op.Gather(grid, build.index(1), axis=3), rows)

        padded = op.Pad(image, build.index([0, 0, before, before, 0, 0, after, after], wide=True))
        pixels = op.Reshape(op.Transpose(padded, perm=[0, 2, 3, 1]), build.channels_last(image))
        height, width = (op.Cast(build.add(size, before + after), to=_INDEX) for size in sizes)

        to_pixel = op.Round if mode == "nearest" else op.Floor
        left, top = to_pixel(x), to_pixel(y)
        column, row = (op.Add(op.Cast(value, to=_INDEX), build.index(before)) for value in (left, top))
        # NaN passes through Max and Min, and becomes the least whole number
        column, row = (op.Max(value, build.index(0)) for value in (column, row))
        corner = op.Add(op.Mul(row, width), column)
        corner = op.Add(corner, build.first_pixels(image, op.Mul(height, width)))
        flat = op.Reshape(corner, build.index([-1], wide=True))
        if mode == "nearest":
            read = op.Gather(pixels, flat, axis=0)
        else:
            below = op.Add(flat, width)
            column_vector = build.index([-1, 1], wide=True)
            share_x, share_y = (
                op.Reshape(op.Sub(value, whole), column_vector) for value, whole in ((x, left), (y, top))
            )
            lines = [build.blend(pixels, first, share_x) for first in (flat, below)]
            read = op.Add(lines[0], op.Mul(op.Sub(lines[1], lines[0]), share_y))
        return op.Transpose(op.Reshape(read, build.sampled_shape(image, grid)), perm=[0, 3, 1, 2])


@dataclass(frozen=True)
class _Axis:
    """One axis of the image: how normalised coordinates become pixels along it."""

    size: ir.Value  # pixels, float32
    is_nearest: bool
    padding: str
    align_corners: bool


@dataclass(frozen=True)
class _Builder:
    """Adds operators for one sampler."""

    op: Operators
    name: str

    def number(self, value: float) -> ir.Value:
        """Return a float32 constant."""
        return constant(self.op, np.array(value, np.float32), f"{self.name}.{value:g}")

    def index(self, value: int | list[int], wide: bool = False) -> ir.Value:
        """Return an int32 constant, or int64 where ``wide``, as the shapes of operators are."""
        label = "_".join(map(str, np.atleast_1d(value)))
        return constant(self.op, np.array(value, np.int64 if wide else np.int32), f"{self.name}.{label}")

    def add(self, value: ir.Value, number: float) -> ir.Value:
        """Return ``value + number``."""
        return self.op.Add(value, self.number(number))

    def mul(self, value: ir.Value, number: float) -> ir.Value:
        """Return ``value * number``."""
        return self.op.Mul(value, self.number(number))

    def sizes(self, image: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return height and width of the image, float32."""
        op = self.op
        shape = op.Cast(op.Shape(image), to=_FLOAT)
        return op.Gather(shape, self.index(2)), op.Gather(shape, self.index(3))

    def pixels(self, coordinate: ir.Value, axis: _Axis) -> ir.Value:
        """Return normalised coordinates as pixels of the unpadded image, at most one or two outside of it."""
        op, size = self.op, axis.size
        shifted = self.add(coordinate, 1)
        if axis.align_corners:
            pixel = op.Mul(self.mul(shifted, 0.5), self.add(size, -1))
        else:
            pixel = self.mul(self.add(op.Mul(shifted, size), -1), 0.5)
        if axis.padding == "zeros":
            return op.Min(op.Max(pixel, self.number(-1)), size)
        if axis.padding == "reflection":
            pixel = self._reflected(pixel, axis)
        return op.Min(op.Max(pixel, self.number(0)), self.add(size, -1))

    def _reflected(self, pixel: ir.Value, axis: _Axis) -> ir.Value:
        """Fold pixels back at the image's edges, or at the centres of its border pixels with align_corners."""
        op = self.op
        first = 0.0 if axis.align_corners else -0.5
        span = self.add(axis.size, -1) if axis.align_corners else axis.size
        span = op.Max(span, self.number(1e-6))  # a single pixel with align_corners
        period = self.mul(span, 2)
        distance = op.Mod(op.Abs(self.add(pixel, -first)), period, fmod=1)
        return self.add(op.Min(distance, op.Sub(period, distance)), first)

    def channels_last(self, image: ir.Value) -> ir.Value:
        """Return the shape (pixels of all images, channels)."""
        channels = self.op.Slice(self.op.Shape(image), self.index([1], wide=True), self.index([2], wide=True))
        return self.op.Concat(self.index([-1], wide=True), channels, axis=0)

    def first_pixels(self, image: ir.Value, area: ir.Value) -> ir.Value:
        """Return the index of each image's first pixel among those of all images, (N, 1, 1)."""
        op = self.op
        count = op.Cast(op.Gather(op.Shape(image), self.index(0)), to=_INDEX)
        firsts = op.Mul(op.Range(self.index(0), count, self.index(1)), area)
        return op.Reshape(firsts, self.index([-1, 1, 1], wide=True))

    def blend(self, pixels: ir.Value, first: ir.Value, share: ir.Value) -> ir.Value:
        """Return pixels and their right-hand neighbours, blended by ``share`` of the neighbour."""
        op = self.op
        left = op.Gather(pixels, first, axis=0)
        right = op.Gather(pixels, op.Add(first, self.index(1)), axis=0)
        return op.Add(left, op.Mul(op.Sub(right, left), share))

    def sampled_shape(self, image: ir.Value, grid: ir.Value) -> ir.Value:
        """Return the shape (N, h, w, C)."""
        op = self.op
        points = op.Slice(op.Shape(grid), self.index([0], wide=True), self.index([3], wide=True))
        channels = op.Slice(op.Shape(image), self.index([1], wide=True), self.index([2], wide=True))
        return op.Concat(points, channels, axis=0)
