"""How a sampling grid in an ONNX graph depends on theta: found by asking the graph, not by recognising an exporter.

PyTorch's two exporters and people's own code write an affine grid in many ways: a broadcast multiply and sum, the
operator ``AffineGrid``, ``einsum``, ``bmm``. All of them are linear in theta. So the part of the graph between theta
and grid is cut out and run on unit vectors, which gives the basis of one matrix product, and on random vectors,
which tells whether it was linear. Thin-plate splines are found in the same way.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

# Operators that can be a step of a linear map. Whether a graph made of them is one is measured. Gemm is none of them:
# that is how a fully connected layer is written, and the last one of the localisation net makes theta.
_SHAPING = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Expand", "Tile", "Cast", "Pad")
_CHOOSING = ("Slice", "Split", "Gather", "Concat", "ScatterND", "ScatterElements", "Where")
_LINEAR = ("Add", "Sub", "Mul", "Div", "Neg", "MatMul", "Einsum", "ReduceSum", "AffineGrid")
_STEPS = frozenset({*_SHAPING, *_CHOOSING, *_LINEAR})
_PRODUCT_STEPS = frozenset({"Reshape", "MatMul", "Add", "Identity", "Flatten"})
_LARGEST_THETA = 256
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
    candidates = [value for value in _dominators(grid, model.graph) if _theta_size(value) is not None]
    if not candidates:
        return "its grid is not computed from a small theta of known size by linear operators"
    reasons, affine = [], None
    for theta in sorted(reversed(candidates), key=lambda value: _theta_size(value) or 0):  # of equals, the farthest
        found = _probe(theta, grid, model, _theta_size(theta) or 0)
        if isinstance(found, str):
            reasons.append(found)
        elif found.offset is None:
            return found
        else:
            affine = affine or found
    return affine or reasons[0]


def _dominators(grid: ir.Value, graph: ir.Graph) -> list[ir.Value]:
    """Return the tensors through which every path from the graph's data to ``grid`` leads, nearest first."""
    order = {node: index for index, node in enumerate(graph)}
    depends = dict.fromkeys(graph.inputs, True)  # also those with a default value, which a caller may replace
    for step in graph:
        # A shape is known without the data; whatever is made of shapes alone is a constant of the input's size.
        from_data = step.op_type not in ("Shape", "Size") and any(depends.get(value, False) for value in _read(step))
        depends.update(dict.fromkeys(step.outputs, from_data))
    found: list[ir.Value] = []
    frontier = {grid}
    while True:
        nearest = max(frontier, key=lambda value: order.get(value.producer(), -1))  # type: ignore[arg-type]
        node = nearest.producer()
        if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _STEPS:
            return found
        frontier -= set(node.outputs)
        frontier |= {value for value in _read(node) if depends.get(value, False)}
        if not frontier:
            return found
        if len(frontier) == 1:
            [only] = frontier
            found.append(only)
            if _is_answered(only):  # theta itself: it is computed anyway
                return found


def _is_answered(value: ir.Value) -> bool:
    """Return whether a tensor is an output of the graph, alone or joined to others."""
    joined = [node.outputs[0] for node, _ in value.uses() if node.op_type == "Concat"]
    return value.is_graph_output() or any(output.is_graph_output() for output in joined)


def _read(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _theta_size(value: ir.Value) -> int | None:
    """Return the numbers a batch element of a tensor; None when they are not known or too many for a theta."""
    shape = value.shape
    if shape is None or len(shape) < 2 or value.dtype != ir.DataType.FLOAT:
        return None
    sizes = list(shape)[1:]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    count = int(np.prod([int(size) for size in sizes]))  # type: ignore[arg-type]
    return count if count <= _LARGEST_THETA else None


def _probe(theta: ir.Value, grid: ir.Value, model: ir.Model, size: int) -> LinearGrid | str:
    random = np.random.default_rng(0).standard_normal((_PROBES, size)).astype(np.float32)
    rows = np.concatenate([np.zeros((1, size), np.float32), np.eye(size, dtype=np.float32), random])
    points = _evaluate(theta, grid, model, rows)
    if isinstance(points, str):
        return points
    if points.ndim != 4 or points.shape[0] != len(rows) or points.shape[3] != 2:
        return f"its grid has shape {points.shape[1:]} instead of (height, width, 2)"
    flat = points.reshape(len(rows), -1)
    if flat.shape[1] <= size:
        return "its grid is not computed from a small theta of known size by linear operators"
    offset, basis = flat[0], flat[1 : size + 1] - flat[0]
    expected = random.astype(np.float64) @ basis + offset
    if not np.abs(expected - flat[size + 1 :]).max() <= _LINEAR_TO * max(1.0, np.abs(expected).max()):  # NaN neither
        return "its grid does not depend linearly on theta"
    return LinearGrid(
        theta,
        np.ascontiguousarray(basis),
        offset if offset.any() else None,
        (points.shape[1], points.shape[2]),
        _is_product(theta, grid),
    )


def _evaluate(theta: ir.Value, grid: ir.Value, model: ir.Model, rows: NDArray[np.float32]) -> NDArray[np.float32] | str:
    """Return the grids that the graph makes of thetas (M, P), as (M, height, width, 2), or why it cannot."""
    shape = list(theta.shape or ())
    batch = shape[0] if isinstance(shape[0], int) else len(rows)
    sources = _measured(theta, grid)
    feeds: dict[str, NDArray[np.generic]] = {}
    for value in sources:
        if value.shape is None or value.dtype is None:
            return "its sampling size depends on a tensor of unknown shape"
        sizes = [
            size if isinstance(size, int) else batch if axis == 0 else None for axis, size in enumerate(value.shape)
        ]
        if value.shape[0] != shape[0] and isinstance(shape[0], int):
            return "one theta serves a batch of another size"
        if None in sizes:
            return "its sampling size is dynamic: it follows the size of an input"
        feeds[str(value.name)] = np.zeros([int(size or 0) for size in sizes], value.dtype.numpy())
    try:
        part = ir.convenience.extract(model.graph, [theta, *sources], [grid])
        proto = ir.to_proto(ir.Model(part, ir_version=model.ir_version))
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        sizes = [int(size) for size in shape[1:]]  # type: ignore[arg-type]
        parts = []
        for first in range(0, len(rows), batch):
            chunk = rows[first : first + batch]
            fed = np.concatenate([chunk, np.zeros((batch - len(chunk), rows.shape[1]), np.float32)])
            points = np.asarray(session.run(None, {str(theta.name): fed.reshape(batch, *sizes), **feeds})[0])
            if len(points) != batch:
                return "one theta serves a batch of another size"
            parts.append(points[: len(chunk)])
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        return f"the part between theta and grid cannot be run alone ({' '.join(str(error).split())[:120]})"
    return np.concatenate(parts).astype(np.float32)


def _measured(theta: ir.Value, grid: ir.Value) -> list[ir.Value]:
    """Return the tensors whose shape, not data, reaches ``grid`` without passing through ``theta``."""
    sources: dict[ir.Value, None] = {}
    seen = {theta}
    stack = [grid]
    while stack:
        value = stack.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        if node.op_type in ("Shape", "Size") and not _leads_from(theta, _read(node)):
            sources.update(dict.fromkeys(value for value in _read(node) if not value.is_initializer()))
        else:
            stack.extend(_read(node))
    return list(sources)


def _leads_from(theta: ir.Value, values: Iterable[ir.Value]) -> bool:
    stack, seen = list(values), set()
    while stack:
        value = stack.pop()
        if value is theta:
            return True
        node = value.producer()
        if value not in seen and node is not None:
            stack.extend(_read(node))
        seen.add(value)
    return False


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
        data = [entry for entry in _read(node) if ir.convenience.get_const_tensor(entry) is None]
        if len(data) != 1:
            return False
        value = data[0]
    return products == 1
