"""Inverses and systems of linear equations in standard operators; ONNX itself has none for them.

PyTorch's operators become the nodes ``Inverse`` and ``Solve`` of a domain of our own while a module is traced. In the
graph, where it is known what is constant, ``expand_linear_systems`` replaces every one of them.
"""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnxscript.rewriter.pattern import MatchResult, Var
from onnxscript.values import Op, Opset

from ..graph.rewrites import Operators, Patterns, Rule, apply_rules, constant, match_result, node_name

LARGEST = 16
"""Rows and columns of the largest matrix that is solved in the graph; a constant may be of any size."""

_DOMAIN = "stn_export.linear_systems"


def _symbol(name: str, *operands: str) -> Op:
    """Return an operator of our domain, which stands in a graph until it is expanded."""
    parameter = onnx.defs.OpSchema.FormalParameter
    schema = onnx.defs.OpSchema(
        name,
        _DOMAIN,
        1,
        inputs=[parameter(operand, "T") for operand in operands],
        outputs=[parameter("X", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(double)"], "")],
    )
    return Op(Opset(_DOMAIN, 1), name, schema)


INVERSE = _symbol("Inverse", "A")
"""The inverse of matrices (..., n, n), or of others the pseudo-inverse, (..., m, n) to (..., n, m)."""

SOLVE = _symbol("Solve", "A", "B")
"""The solution X of A X = B for matrices (..., n, n) and (..., n, k)."""


def expand_linear_systems(model: ir.Model) -> str | None:
    """Replace every ``Inverse`` and ``Solve`` of a graph; in place.

    The inverse of a constant is computed now, by PyTorch in the constant's precision. Others are solved in the graph
    by the modified Gram-Schmidt process on [A | B], which is backward stable without pivoting (A. Bjorck, Numerical
    Methods for Least Squares Problems, SIAM 1996, section 2.4): as exact as PyTorch's factorisations for matrices of
    full rank. A singular matrix, where PyTorch raises an error, gives numbers that are not finite.

    Args:
        model: A graph with its constants folded and the shapes that PyTorch's exporter writes.

    Returns:
        Why one of them cannot be replaced, as a sentence; None when all are.
    """
    obstacles: list[str] = []
    apply_rules(model, _ExpandInverse(obstacles), _ExpandSolve(obstacles))
    for imports in (model.opset_imports, model.graph.opset_imports):
        if not obstacles:
            imports.pop(_DOMAIN, None)
    return next(iter(obstacles), None)


class _ExpandInverse(Rule):
    """Replaces an inverse by its value or by the steps that find it."""

    def __init__(self, obstacles: list[str]) -> None:
        super().__init__("inverse")
        self.obstacles = obstacles

    def pattern(self, op: Patterns, matrix: Var) -> Var:
        return op.Inverse(matrix, _domain=_DOMAIN, _outputs=["solution"])

    def check(self, context: object, matrix: ir.Value, solution: ir.Value) -> MatchResult:
        return _check_size(matrix, "an inverse", self.obstacles)

    def rewrite(self, op: Operators, matrix: ir.Value, solution: ir.Value) -> ir.Value:
        known = _inverse_of_constant(op, matrix)
        if known is not None:
            return known
        rows, columns = _matrix_size(matrix) or (0, 0)
        kind = (matrix.dtype or ir.DataType.FLOAT).numpy()
        build = _Solver(op, node_name(solution))
        if rows >= columns:
            return build.solve(matrix, build.known(np.eye(rows, dtype=kind), "identity"), columns)
        axes = range(len(matrix.shape or ()))
        swapped = [*axes[:-2], axes[-1], axes[-2]]
        upright = build.solve(
            op.Transpose(matrix, perm=swapped), build.known(np.eye(columns, dtype=kind), "identity"), rows
        )
        return op.Transpose(upright, perm=swapped)


class _ExpandSolve(Rule):
    """Replaces the solution of a system by a product with a constant inverse, or by the steps that find it."""

    def __init__(self, obstacles: list[str]) -> None:
        super().__init__("linear system")
        self.obstacles = obstacles

    def pattern(self, op: Patterns, matrix: Var, right: Var) -> Var:
        return op.Solve(matrix, right, _domain=_DOMAIN, _outputs=["solution"])

    def check(self, context: object, matrix: ir.Value, right: ir.Value, solution: ir.Value) -> MatchResult:
        return _check_size(matrix, "a linear system", self.obstacles)

    def rewrite(self, op: Operators, matrix: ir.Value, right: ir.Value, solution: ir.Value) -> ir.Value:
        known = _inverse_of_constant(op, matrix)
        if known is not None:
            return op.MatMul(known, right)
        return _Solver(op, node_name(solution)).solve(matrix, right, (_matrix_size(matrix) or (0, 0))[1])


def _check_size(matrix: ir.Value, kind: str, obstacles: list[str]) -> MatchResult:
    """Return whether a matrix is constant or small enough; note the reason where it is neither."""
    if _repeated_constant(matrix) is not None:
        return match_result(True, "")
    size = _matrix_size(matrix)
    if size is not None and min(size) > 0 and max(size) <= LARGEST:
        return match_result(True, "")
    known = "of a size that is open" if size is None else f"of {size[0]} x {size[1]} numbers"
    obstacles.append(
        f"{kind} {known} that depends on the inputs has no form in ONNX, which takes up to {LARGEST} x {LARGEST}; "
        "compute it in __init__ and keep it as a buffer where it is always the same"
    )
    return match_result(False, "too large")


def _matrix_size(matrix: ir.Value) -> tuple[int, int] | None:
    """Return the (rows, columns) of matrices, where they are known."""
    sizes = list(matrix.shape or ())[-2:]
    first, second = sizes if len(sizes) == 2 else (None, None)
    return (first, second) if isinstance(first, int) and isinstance(second, int) else None


def _repeated_constant(matrix: ir.Value) -> NDArray[np.generic] | None:
    """Return the constant matrices of which a tensor consists, once where they are only repeated for the batch."""
    tensor = ir.convenience.get_const_tensor(matrix)
    if tensor is not None:
        return tensor.numpy()
    node = matrix.producer()
    if node is None or node.op_type not in ("Expand", "Tile") or node.inputs[0] is None:
        return None
    tensor = ir.convenience.get_const_tensor(node.inputs[0])
    same = tensor is not None and len(tensor.shape) > 1 and list(tensor.shape)[-2:] == list(matrix.shape or ())[-2:]
    return tensor.numpy() if tensor is not None and same else None


def _inverse_of_constant(op: Operators, matrix: ir.Value) -> ir.Value | None:
    """Return the inverse or pseudo-inverse of constant matrices, repeated as they are."""
    values, node = _repeated_constant(matrix), matrix.producer()
    if values is None:
        return None
    tensor = torch.from_numpy(np.array(values))
    square = tensor.shape[-1] == tensor.shape[-2]
    inverse = (torch.linalg.inv_ex(tensor).inverse if square else torch.linalg.pinv(tensor)).numpy()
    found = constant(op, inverse, f"{matrix.name}.inverse")
    if node is None or node.op_type not in ("Expand", "Tile") or ir.convenience.get_const_tensor(matrix) is not None:
        return found
    repeated: ir.Value = getattr(op, node.op_type)(found, node.inputs[1])
    return repeated


class _Solver:
    """Adds the steps that solve a system to a graph."""

    def __init__(self, op: Operators, name: str) -> None:
        self.op, self.name = op, name

    def known(self, values: NDArray[np.generic], label: str) -> ir.Value:
        """Return a constant."""
        return constant(self.op, values, f"{self.name}.{label}")

    def solve(self, matrix: ir.Value, right: ir.Value, columns: int) -> ir.Value:
        """Return the least-squares solution (..., n, k) of matrices (..., m, n), m >= n, and (..., m, k).

        Each step takes the first column as a direction, and its share away from the columns that are left and from
        the right-hand side; what was taken away is a row of R X = Z, which is solved from the last row up.
        """
        op = self.op
        lengths, rows, shares = [], [], []
        for left in range(columns - 1, -1, -1):
            column = matrix
            if left:
                parts: Any = op.Split(matrix, self.known(np.array([1, left]), f"split_{left}"), axis=-1, _outputs=2)
                column, matrix = parts
            length = op.Sqrt(self.total(op.Mul(column, column)))
            direction = op.Div(column, length)
            lengths.append(length)
            if left:
                rows.append(self.total(op.Mul(direction, matrix)))
                matrix = op.Sub(matrix, op.Mul(direction, rows[-1]))
            shares.append(self.total(op.Mul(direction, right)))
            right = op.Sub(right, op.Mul(direction, shares[-1])) if left else right
        solution = op.Div(shares.pop(), lengths.pop())
        while shares:
            known = op.MatMul(rows.pop(), solution)
            solution = op.Concat(op.Div(op.Sub(shares.pop(), known), lengths.pop()), solution, axis=-2)
        return solution

    def total(self, values: ir.Value) -> ir.Value:
        """Return the sum over the rows of matrices, (..., 1, k)."""
        return self.op.ReduceSum(values, self.known(np.array([-2]), "rows"), keepdims=1)
