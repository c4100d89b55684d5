"""What PyTorch's exporter cannot translate, or translates wrongly, in forms that it can.

Functions that cannot be traced, or would fix a size, are replaced while the module's code runs; operators that have no
translation, or a wrong one, get one of ours.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import onnxscript
import torch
from onnxscript import ir
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..graph.rewrites import Operators
from .linear_systems import INVERSE, SOLVE

_op = cast(Operators, onnxscript.opset18)
_return_types: Any = torch.return_types


class ExportableFunctions(TorchFunctionMode):
    """Replaces functions of PyTorch while a module is traced."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        replacement = _REPLACEMENTS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(*args, **(kwargs or {}))


def _affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = False) -> Tensor:
    """Return what ``torch.nn.functional.affine_grid`` returns, with a base grid that follows a dynamic size.

    PyTorch's own decomposition fixes the size that it was traced with. Of images: thetas (N, 2, 3) to (N, H, W, 2).
    """
    if len(size) != 4:
        return functional.affine_grid(theta, list(size), align_corners)
    count, _, height, width = size
    x = _axis(width, bool(align_corners), theta)
    y = _axis(height, bool(align_corners), theta)
    columns = [x[None, :].expand(height, width), y[:, None].expand(height, width)]
    base = torch.stack([*columns, torch.ones_like(columns[0])], dim=-1).reshape(1, height * width, 3)
    return (base @ theta.transpose(1, 2)).reshape(count, height, width, 2)


def _axis(length: int, align_corners: bool, like: Tensor) -> Tensor:
    index = torch.arange(length, dtype=like.dtype, device=like.device)
    if not align_corners:
        return (2 * index + 1) / length - 1
    span: Any = torch.sym_max(length - 1, 1)  # a single pixel is at 0
    centred: Tensor = (2 * index - (length - 1)) / span
    return centred


def _inverse(matrix: Tensor) -> Tensor:
    """Return what ``torch.linalg.inv`` returns, without its check for singular matrices, which no graph can make."""
    inverse: Tensor = torch.linalg.inv_ex(matrix)[0]
    return inverse


def _pseudo_inverse(
    matrix: Tensor,
    rcond: float | Tensor | None = None,
    *,
    atol: float | Tensor | None = None,
    rtol: float | Tensor | None = None,
    hermitian: bool = False,
) -> Tensor:
    """Return what ``torch.linalg.pinv`` returns for matrices of full rank, where no tolerance matters."""
    inverse: Tensor = torch.linalg.pinv(matrix)
    return inverse


def _solve(matrix: Tensor, right: Tensor, *, left: bool = True) -> Tensor:
    """Return what ``torch.linalg.solve`` returns, without its check for singular matrices."""
    if not left:
        turned: Tensor = _solve(matrix.mT, right.mT).mT
        return turned
    vector = _is_vector(matrix, right)
    solution: Tensor = torch.linalg.solve_ex(matrix, right.unsqueeze(-1) if vector else right)[0]
    return solution.squeeze(-1) if vector else solution


def _solve_ex(matrix: Tensor, right: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor, ...]:
    """Return what ``torch.linalg.solve_ex`` returns where it succeeds."""
    solution = _solve(matrix, right, left=left)
    answers: tuple[Tensor, ...] = _return_types.linalg_solve_ex(
        (solution, torch.zeros(matrix.shape[:-2], dtype=torch.int32))
    )
    return answers


def _least_squares(
    matrix: Tensor, right: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> tuple[Tensor, ...]:
    """Return what ``torch.linalg.lstsq`` returns for matrices of full rank; of its four answers the solution alone."""
    vector = _is_vector(matrix, right)
    right = right.unsqueeze(-1) if vector else right
    square = matrix.shape[-1] == matrix.shape[-2]
    solution = _solve(matrix, right) if square else torch.linalg.pinv(matrix) @ right
    solution = solution.squeeze(-1) if vector else solution
    answers: tuple[Tensor, ...] = _return_types.linalg_lstsq((solution, *[torch.empty(0, dtype=matrix.dtype)] * 3))
    return answers


def _is_vector(matrix: Tensor, right: Tensor) -> bool:
    """Return whether a right-hand side is one vector for each matrix, by PyTorch's rule."""
    return right.ndim == 1 or (matrix.ndim - 1 == right.ndim and matrix.shape[:-1] == right.shape)


def _log_determinant(matrix: Tensor) -> tuple[Tensor, ...]:
    """Return what ``torch.linalg.slogdet`` returns: the sign of the determinant, and the logarithm of its size."""
    determinant = torch.linalg.det(matrix)
    answers: tuple[Tensor, ...] = _return_types.linalg_slogdet((determinant.sign(), determinant.abs().log()))
    return answers


_REPLACEMENTS: dict[Callable[..., object], Callable[..., object]] = {
    functional.affine_grid: _affine_grid,
    torch.affine_grid_generator: _affine_grid,
    torch.linalg.inv: _inverse,
    torch.inverse: _inverse,
    Tensor.inverse: _inverse,
    torch.linalg.pinv: _pseudo_inverse,
    torch.pinverse: _pseudo_inverse,
    Tensor.pinverse: _pseudo_inverse,
    torch.linalg.solve: _solve,
    torch.linalg.solve_ex: _solve_ex,
    torch.linalg.lstsq: _least_squares,
    torch.linalg.slogdet: _log_determinant,
    torch.slogdet: _log_determinant,
    Tensor.slogdet: _log_determinant,
    torch.logdet: lambda matrix: torch.linalg.det(matrix).log(),
    Tensor.logdet: lambda matrix: torch.linalg.det(matrix).log(),
}


def _translate_copy(self: ir.Value, src: ir.Value, non_blocking: bool = False) -> ir.Value:
    """Write ``self.copy_(src)``, where ``src`` may have to be repeated to the shape of ``self``.

    The translation of PyTorch's exporter leaves it at its own shape, which makes an invalid graph or a wrong answer.
    """
    same = self.shape is not None and src.shape is not None and self.shape == src.shape and self.shape.is_static()
    values = _op.CastLike(src, self)
    return values if same else _op.Expand(values, _op.Shape(self))


def _translate_inverse(A: ir.Value, check_errors: bool = False) -> tuple[ir.Value, ir.Value]:
    return INVERSE(A), _op.Constant(value_int=0)


def _translate_pseudo_inverse(
    self: ir.Value, atol: ir.Value | None = None, rtol: ir.Value | None = None, hermitian: bool = False
) -> ir.Value:
    inverse: ir.Value = INVERSE(self)
    return inverse


def _translate_solve(
    A: ir.Value,  # PyTorch's name
    B: ir.Value,
    left: bool = True,
    check_errors: bool = False,
) -> tuple[ir.Value, ...]:
    return SOLVE(A, B), _op.Identity(A), _op.Constant(value_int=0), _op.Constant(value_int=0)


TRANSLATIONS: dict[Callable[..., object], Callable[..., object]] = {
    torch.ops.aten.copy.default: _translate_copy,
    torch.ops.aten.linalg_inv_ex.default: _translate_inverse,
    torch.ops.aten.linalg_pinv.atol_rtol_tensor: _translate_pseudo_inverse,
    torch.ops.aten._linalg_solve_ex.default: _translate_solve,
}
"""Operators of PyTorch, and how they are written in a graph."""
