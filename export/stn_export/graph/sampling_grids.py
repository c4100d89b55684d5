"""How a sampling grid in an ONNX graph depends on theta: found by asking the graph, not by recognising an exporter.

PyTorch's two exporters and people's own code write an affine grid in many ways: a broadcast multiply and sum, the
operator ``AffineGrid``, ``einsum``, ``bmm``. All of them are linear in theta. So the part of the graph between theta
and grid is cut out and run on unit vectors, which gives the basis of one matrix product, and on random vectors,
which tells whether it was linear. Thin-plate splines are found in the same way.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .graph_parts import PartError, dominators, open_part, read

# Operators that can be a step of a linear map. Whether a graph made of them is one is measured. Gemm is none of them:
# that is how a fully connected layer is written, and the last one of the localisation net makes theta.
SHAPING = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Expand", "Tile", "Cast", "Pad")
CHOOSING = ("Slice", "Split", "Gather", "Concat", "ScatterND", "ScatterElements", "Where")
_LINEAR = ("Add", "Sub", "Mul", "Div", "Neg", "MatMul", "Einsum", "ReduceSum", "AffineGrid")
LINEAR_STEPS = frozenset({*SHAPING, *CHOOSING, *_LINEAR})
LARGEST_THETA = 256
LARGEST_CONSTANT = 1 << 24
"""The most numbers in a constant that a grid is multiplied with: 64 MiB in float32."""
NO_THETA = "its grid is not computed from a small theta of known size by linear operators"
_PRODUCT_STEPS = frozenset({"Reshape", "MatMul", "Add", "Identity", "Flatten"})
_PROBES = 3
_LINEAR_TO = 1e-5  # relative to the largest coordinate


@dataclass(frozen=True)
class LinearGrid:
    """A grid that is one matrix product: theta (N, P) @ basis + offset, reshaped to (N, height, width, 2).

    Attributes:
        theta: The tensor that holds theta; its first axis is the batch.
        basis: (P, height * width * 2) float32.
        offset: (height * width * 2,) float32; None where it is zero.
        size: (height, width) of the grid.
        is_product: Whether the graph computes it as one product with a constant already.
    """

    theta: ir.Value
    basis: NDArray[np.float32]
    offset: NDArray[np.float32] | None
    size: tuple[int, int]
    is_product: bool


def find_linear_grid(grid: ir.Value, model: ir.Model) -> LinearGrid | str:
    """Return how ``grid`` depends linearly on a small tensor, or a sentence that says why it does not.

    Args:
        grid: The second input of a ``GridSample``.
        model: What it belongs to, with shapes inferred.
    """
    if grid.dtype is not None and grid.dtype != ir.DataType.FLOAT:
        return f"its grid is in {grid.dtype.name.lower()}; only one in float32 is made a product"
    candidates = [value for value in dominators(grid, model.graph, LINEAR_STEPS) if theta_size(value) is not None]
    if not candidates:
        return NO_THETA
    reasons, affine = [], None
    for theta in sorted(reversed(candidates), key=lambda value: theta_size(value) or 0):  # of equals, the farthest
        found = _probe(theta, grid, model, theta_size(theta) or 0)
        if isinstance(found, str):
            reasons.append(found)
        elif found.offset is None:
            return found
        else:
            affine = affine or found
    return affine or reasons[0]


def theta_size(value: ir.Value) -> int | None:
    """Return the numbers a batch element of a tensor; None when they are not known or too many for a theta."""
    count = numbers_each(value)
    return count if count is not None and count <= LARGEST_THETA else None


def numbers_each(value: ir.Value) -> int | None:
    """Return the numbers a batch element of a float32 tensor; None when they are not known."""
    shape = value.shape
    if shape is None or len(shape) < 2 or value.dtype != ir.DataType.FLOAT:
        return None
    sizes = list(shape)[1:]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    return int(np.prod([int(size) for size in sizes]))  # type: ignore[arg-type]


def probing_rows(size: int) -> NDArray[np.float32]:
    """Return the thetas that tell a linear map: zeros, the unit vectors, random ones, (1 + size + 3, size)."""
    random = np.random.default_rng(0).standard_normal((_PROBES, size)).astype(np.float32)
    return np.concatenate([np.zeros((1, size), np.float32), np.eye(size, dtype=np.float32), random])


def linear_map(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return basis (size, M) and offset (M,) of what a map made of ``probing_rows``; None where it is not linear.

    Args:
        points: (1 + size + 3, M).
    """
    size = len(points) - 1 - _PROBES
    if not np.isfinite(points).all():  # a division by zero, at the latest for zeros or a unit vector
        return None
    offset, basis = points[0], points[1 : size + 1] - points[0]
    expected = probing_rows(size)[size + 1 :].astype(np.float64) @ basis + offset
    sizes = np.maximum(1.0, np.abs(points).max(axis=0))  # of each number: one near a pole may be huge
    if (np.abs(expected - points[size + 1 :]) > _LINEAR_TO * sizes).any():
        return None
    return np.ascontiguousarray(basis), offset


def _probe(theta: ir.Value, grid: ir.Value, model: ir.Model, size: int) -> LinearGrid | str:
    try:
        points = _grids(theta, grid, model, probing_rows(size))
    except PartError as error:
        return str(error)
    if points.ndim != 4 or points.shape[0] != len(probing_rows(size)) or points.shape[3] != 2:
        return f"its grid has shape {points.shape[1:]} instead of (height, width, 2)"
    flat = points.reshape(len(points), -1)
    if flat.shape[1] <= size:
        return NO_THETA
    found = linear_map(flat)
    if found is None:
        return "its grid does not depend linearly on theta"
    basis, offset = found
    if basis.size > LARGEST_CONSTANT and not _is_product(theta, grid):
        return too_large("the constant of its product", basis.size, LARGEST_CONSTANT)
    return LinearGrid(
        theta, basis, offset if offset.any() else None, (points.shape[1], points.shape[2]), _is_product(theta, grid)
    )


def too_large(name: str, numbers: int, limit: int) -> str:
    """Return the sentence that refuses a constant of so many numbers in float32."""
    return f"{name} would add {numbers * 4 / 2**20:.0f} MiB to the file; at most {limit * 4 // 2**20} MiB are"


def _grids(theta: ir.Value, grid: ir.Value, model: ir.Model, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the grids that the graph makes of thetas (M, P), as (M, height, width, 2).

    Raises:
        PartError: It cannot be run alone.
    """
    part = open_part(theta, [grid], model)
    batch = part.batch or len(rows)
    parts = []
    for first in range(0, len(rows), batch):
        chunk = rows[first : first + batch]
        [points] = part.run(np.concatenate([chunk, np.zeros((batch - len(chunk), rows.shape[1]), np.float32)]))
        if len(points) != batch:
            raise PartError("one theta serves a batch of another size")
        parts.append(points[: len(chunk)])
    return np.concatenate(parts).astype(np.float32)


def _is_product(theta: ir.Value, grid: ir.Value) -> bool:
    """Return whether between theta and grid there is one product with a constant, and reshapes."""
    products, value = 0, grid
    while value is not theta:
        node = value.producer()
        if node is None or node.op_type not in _PRODUCT_STEPS:
            return False
        if node.op_type == "MatMul":
            products += 1
            if node.inputs[1] is None or ir.convenience.get_const_tensor(node.inputs[1]) is None:
                return False
        data = [entry for entry in read(node) if ir.convenience.get_const_tensor(entry) is None]
        if len(data) != 1:
            return False
        value = data[0]
    return products == 1
