"""Sampling grids that are known point by point, written as operators: at most one large product, and what follows it.

The coordinates are computed planar, (N, 2, points), where x and y share a divisor or come from a planar flow: a
product of three rows with (3, points) is smaller than one with the coordinates side by side, and onnxruntime divides
long rows fast. Where one linear map is all there is, they are computed side by side, (N, points * 2), which saves a
transposition.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .grid_expressions import Array, Constant, Expression, Flowing, Linear, PointwiseGrid, Step, leaves_of
from .rewrites import Operators, constant

_SAME = 2 * float(np.finfo(np.float32).eps)  # relative to the largest number of a row


def write_grid(op: Operators, grid: PointwiseGrid, image: ir.Value, name: str) -> ir.Value:
    """Return the grid (N, height, width, 2) as operators.

    Args:
        op: Adds operators.
        grid: What to compute.
        image: What is sampled; a constant grid is repeated for as many pictures.
        name: Begins the names of the constants.
    """
    if isinstance(grid.root, Constant):
        return _constant_grid(op, grid.root, grid.size, image, name)
    writer = _Writer(op, grid, name)
    points = writer.write(grid.root)
    if writer.is_planar:
        points = op.Transpose(points, perm=[0, 2, 1])
    return op.Reshape(points, constant(op, np.array([-1, *grid.size, 2]), f"{name}.grid_shape"))


def scaled(expression: Expression, factors: NDArray[np.float32]) -> Expression:
    """Return x and y times a factor each, (2, 1), in the constants of the expression where it allows that."""
    if isinstance(expression, Constant):
        return Constant(expression.values.astype(np.float32) * factors)
    if isinstance(expression, Linear):
        return Linear(expression.basis * factors, expression.offset * factors)
    if isinstance(expression, Flowing):
        return replace(expression, scale=expression.scale * factors, offset=expression.offset * factors)
    inputs = list(expression.inputs)
    linear = [slot for slot, entry in enumerate(inputs) if isinstance(entry, Linear)]
    slots = {"Div": [0], "Neg": [0], "Add": [0, 1], "Sub": [0, 1], "Where": [1, 2], "Mul": linear[:1] or [0]}
    if expression.kind not in slots:
        return Step("Mul", (), (expression, Constant(factors)))
    for slot in slots[expression.kind]:
        entry = inputs[slot]
        inputs[slot] = None if entry is None else scaled(entry, factors)
    return replace(expression, inputs=tuple(inputs))


def clipped(expression: Expression, edges: NDArray[np.float32]) -> Expression:
    """Return x and y between minus and plus an edge each, (2, 1)."""
    if isinstance(expression, Constant):
        return Constant(np.clip(expression.values, -edges, edges))
    return Step("Min", (), (Step("Max", (), (expression, Constant(-edges))), Constant(edges)))


def _constant_grid(op: Operators, root: Constant, size: tuple[int, int], image: ir.Value, name: str) -> ir.Value:
    """Return a constant grid, repeated where the number of pictures is open or more than one."""
    points = np.ascontiguousarray(root.values.T).reshape(1, *size, 2)
    grid = constant(op, points, f"{name}.grid")
    if image.shape is not None and image.shape[0] == 1:
        return grid
    count = op.Shape(image, start=0, end=1)
    return op.Expand(grid, op.Concat(count, constant(op, np.array([1, 1, 1]), f"{name}.ones"), axis=0))


class _Writer:
    """Writes the operators of one grid, each once."""

    def __init__(self, op: Operators, grid: PointwiseGrid, name: str) -> None:
        self.op, self.grid, self.name = op, grid, name
        leaves = leaves_of(grid.root)
        linear = [leaf for leaf in leaves if isinstance(leaf, Linear)]
        self.maps = sorted(_different(linear), key=lambda leaf: -leaf.basis.shape[1])
        alone = len(self.maps) == 1 and self.maps[0].basis.shape[1] == 2
        lying = all(not leaf.is_planar and not leaf.is_turned for leaf in leaves if isinstance(leaf, Flowing))
        self.is_planar = not alone if linear else not lying
        self.written: dict[int, ir.Value] = {}
        self.products = self._products() if linear else []

    def write(self, expression: Expression) -> ir.Value:
        """Return the numbers of an expression, (N, 2, points) where planar, else (N, points * 2)."""
        if id(expression) not in self.written:
            self.written[id(expression)] = self._new(expression)
        return self.written[id(expression)]

    def _new(self, expression: Expression) -> ir.Value:
        if isinstance(expression, Constant):
            return self._constant(expression.values, "number")
        if isinstance(expression, Linear):
            return next(value for leaf, value in zip(self.maps, self.products, strict=True) if _equal(leaf, expression))
        if isinstance(expression, Flowing):
            return self._flow(expression)
        inputs = [None if entry is None else self.write(entry) for entry in expression.inputs]
        written: ir.Value = getattr(self.op, expression.kind)(
            *inputs, **{attribute.name: attribute for attribute in expression.attributes}
        )
        return written

    def _constant(self, values: Array, label: str) -> ir.Value:
        """Return a constant in its smallest form that spreads over the coordinates."""
        if (values == values.ravel()[0]).all():
            values = values.ravel()[0]
        elif self.is_planar and (values == values[:, :1]).all():
            values = values[:, :1]
        elif not self.is_planar:
            planes = np.broadcast_to(values, (2, self.grid.size[0] * self.grid.size[1]))
            values = np.ascontiguousarray(planes.T).ravel()
        return constant(self.op, np.asarray(values), f"{self.name}.{label}")

    def _flow(self, flow: Flowing) -> ir.Value:
        points = self.grid.size[0] * self.grid.size[1]
        values = self._source()
        if not flow.is_planar and self.is_planar:
            values = self._reshaped(values, [-1, points, 2], "pairs")
            values = self.op.Transpose(values, perm=[0, 2, 1])
        else:
            values = self._reshaped(values, [-1, 2, points] if self.is_planar else [-1, 2 * points], "planes")
        if flow.is_turned:
            values = self.op.Gather(values, constant(self.op, np.array([1, 0]), f"{self.name}.turned"), axis=1)
        if (flow.scale != 1).any():
            values = self.op.Mul(values, self._constant(flow.scale, "scale"))
        if flow.offset.any():
            values = self.op.Add(values, self._constant(flow.offset, "base"))
        return values

    def _products(self) -> list[ir.Value]:
        """Return the linear maps of theta, all by one product."""
        if not self.is_planar:
            [only] = self.maps
            basis = np.ascontiguousarray(only.basis.transpose(0, 2, 1)).reshape(len(only.basis), -1)
            product = self.op.MatMul(self._flat_theta(len(basis)), constant(self.op, basis, f"{self.name}.basis"))
            if only.offset.any():
                product = self.op.Add(product, self._constant(only.offset, "offset"))
            return [product]
        rows = _rows_of(self.maps)
        count = rows.weights.shape[1]
        coefficients = self._coefficients(rows)
        product = self.op.MatMul(coefficients, constant(self.op, rows.basis, f"{self.name}.basis"))
        if len(self.maps) == 1:
            return [product]
        sizes = [leaf.basis.shape[1] for leaf in self.maps]
        if sum(sizes) != count:
            raise ValueError(f"{count} rows are no {sizes}")
        parts = constant(self.op, np.array(sizes), f"{self.name}.rows")
        return [*self.op.Split(product, parts, axis=1, _outputs=len(sizes))]  # type: ignore[misc]  # several outputs

    def _coefficients(self, rows: "_Rows") -> ir.Value:
        """Return the factors of the basis, (N, rows, D), that theta gives."""
        numbers, count, length = rows.weights.shape
        shape = constant(self.op, np.array([-1, count, length]), f"{self.name}.coefficients_shape")
        weights = rows.weights.reshape(numbers, count * length)
        if not rows.fixed.any() and numbers == count * length and (weights == np.eye(numbers)).all():
            theta = self._source()
            is_shaped = list(theta.shape or ())[1:] == [count, length]
            return theta if is_shaped else self.op.Reshape(theta, shape)
        mixed = self.op.Gemm(
            self._flat_theta(numbers),
            constant(self.op, weights, f"{self.name}.weights"),
            constant(self.op, rows.fixed.ravel(), f"{self.name}.fixed"),
        )
        return self.op.Reshape(mixed, shape)

    def _flat_theta(self, numbers: int) -> ir.Value:
        theta = self._source()
        return theta if len(theta.shape or ()) == 2 else self._reshaped(theta, [-1, numbers], "theta_shape")

    def _source(self) -> ir.Value:
        if self.grid.source is None:
            raise ValueError("a constant grid has no source")
        return self.grid.source

    def _reshaped(self, value: ir.Value, shape: list[int], label: str) -> ir.Value:
        return self.op.Reshape(value, constant(self.op, np.array(shape), f"{self.name}.{label}"))


@dataclass(frozen=True)
class _Rows:
    """Linear maps of theta as ``(theta . weights + fixed) @ basis``.

    Attributes:
        weights: (P, rows, D) float32; a row for each coordinate of each map.
        fixed: (rows, D) float32.
        basis: (D, points) float32.
    """

    weights: NDArray[np.float32]
    fixed: NDArray[np.float32]
    basis: NDArray[np.float32]


def _rows_of(maps: list[Linear]) -> _Rows:
    """Return linear maps with each vector that they have in common once."""
    basis = np.concatenate([leaf.basis for leaf in maps], axis=1)  # (P, rows, points)
    offset = np.concatenate([leaf.offset for leaf in maps], axis=0)  # (rows, points)
    vectors: list[NDArray[np.float32]] = []
    entries: list[tuple[int, int, int, float]] = []
    for row in range(basis.shape[1]):
        for number in range(len(basis)):
            entries += [(number, row, *entry) for entry in _entry(basis[number, row], vectors)]
    fixed = [(row, *entry) for row in range(len(offset)) for entry in _entry(offset[row], vectors)]
    weights = np.zeros((len(basis), basis.shape[1], max(1, len(vectors))), np.float32)
    constants = np.zeros(weights.shape[1:], np.float32)
    for number, row, vector, factor in entries:
        weights[number, row, vector] = factor
    for row, vector, factor in fixed:
        constants[row, vector] = factor
    return _Rows(weights, constants, np.stack(vectors or [np.zeros(basis.shape[2], np.float32)]))


def _entry(row: NDArray[np.float32], vectors: list[NDArray[np.float32]]) -> list[tuple[int, float]]:
    """Return which vector, times what, a row is; a new one is added, and zeros are none."""
    largest = float(np.abs(row).max())
    if largest == 0:
        return []
    exact = row.astype(np.float64)
    for index, vector in enumerate(vectors):
        factor = float(exact @ vector / (vector.astype(np.float64) @ vector))
        rounded = round(factor) if abs(factor - round(factor)) <= _SAME and round(factor) else factor
        if np.abs(exact - rounded * vector.astype(np.float64)).max() <= _SAME * largest:
            return [(index, rounded)]
    vectors.append(row)
    return [(len(vectors) - 1, 1.0)]


def _different(maps: list[Linear]) -> list[Linear]:
    kept: list[Linear] = []
    for leaf in maps:
        if not any(_equal(leaf, other) for other in kept):
            kept.append(leaf)
    return kept


def _equal(one: Linear, other: Linear) -> bool:
    return one is other or (np.array_equal(one.basis, other.basis) and np.array_equal(one.offset, other.offset))
