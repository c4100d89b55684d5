"""Inverses and linear systems of PyTorch in ONNX operators."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from stn_export import export_onnx
from stn_runtime import InputError


class Computes(nn.Module):
    """Answers with one function of its inputs."""

    def __init__(self, function: Callable[..., Tensor], **buffers: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, values in buffers.items():
            self.register_buffer(name, values)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the function of both."""
        return self.function(self, a, b)


def matrices(batch: int, rows: int, columns: int | None = None, seed: int = 0) -> Tensor:
    """Return matrices of full rank with a condition of about 10."""
    random = torch.Generator().manual_seed(seed)
    return torch.eye(rows, columns or rows) * 3 + torch.randn(batch, rows, columns or rows, generator=random) / rows


def exported(module: nn.Module, folder: Path, *example: Tensor) -> Callable[..., np.ndarray]:
    """Return the module's graph as a function, after checking that it has standard operators only."""
    export_onnx(module, folder / "m.onnx", example)
    model = onnx.load(folder / "m.onnx")
    assert {entry.domain for entry in model.opset_import} == {""}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(*inputs: Tensor) -> np.ndarray:
        values = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        return np.asarray(values[0])

    return run


SYSTEMS: dict[str, Callable[..., Tensor]] = {
    "inv": lambda _, a, b: torch.linalg.inv(a) @ b,
    "inverse": lambda _, a, b: a.inverse() @ b,
    "inv_ex": lambda _, a, b: torch.linalg.inv_ex(a)[0] @ b,
    "pinv": lambda _, a, b: torch.linalg.pinv(a) @ b,
    "solve": lambda _, a, b: torch.linalg.solve(a, b),
    "solve_ex": lambda _, a, b: torch.linalg.solve_ex(a, b)[0],
    "solve from the right": lambda _, a, b: torch.linalg.solve(a, b.mT, left=False),
    "solve of one vector": lambda _, a, b: torch.linalg.solve(a, b[..., 0]),
    "lstsq": lambda _, a, b: torch.linalg.lstsq(a, b).solution,
}


@pytest.mark.parametrize("size", [2, 3, 16])
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_solved_as_by_pytorch(name: str, size: int, tmp_path: Path) -> None:
    module = Computes(SYSTEMS[name])
    run = exported(module, tmp_path, matrices(2, size), torch.randn(2, size, 5))
    a, b = matrices(3, size, seed=1), torch.randn(3, size, 5)
    exact = module(a.double(), b.double()).numpy()
    np.testing.assert_allclose(run(a, b), exact, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["pinv", "lstsq"])
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_a_matrix_that_is_not_square_has_a_pseudo_inverse(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    module = Computes(SYSTEMS[name])
    run = exported(module, tmp_path, matrices(2, *shape), torch.randn(2, shape[0], 5))
    a, b = matrices(3, *shape, seed=1), torch.randn(3, shape[0], 5)
    exact = (torch.linalg.pinv(a.double()) @ b.double()).numpy()
    np.testing.assert_allclose(run(a, b), exact, atol=2e-6 * np.abs(exact).max())


def test_a_matrix_with_a_zero_on_its_diagonal_needs_no_pivot(tmp_path: Path) -> None:
    run = exported(Computes(SYSTEMS["inv"]), tmp_path, matrices(2, 3), torch.randn(2, 3, 3))
    swap = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 0, 2]]])
    np.testing.assert_allclose(run(swap, torch.eye(3)[None]), torch.linalg.inv(swap).numpy(), atol=1e-6)


def test_of_a_singular_matrix_nothing_is_finite_instead_of_wrong(tmp_path: Path) -> None:
    run = exported(Computes(SYSTEMS["inv"]), tmp_path, matrices(2, 2), torch.randn(2, 2, 2))
    assert not np.isfinite(run(torch.zeros(1, 2, 2), torch.eye(2)[None])).any()


@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("batched", [False, True])
def test_a_constant_is_inverted_once_whatever_its_size(size: int, batched: bool, tmp_path: Path) -> None:
    def solve(self: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        system = self.system.expand(b.shape[0], size, size) if batched else self.system
        return torch.linalg.solve(system, b) + a

    module = Computes(solve, system=matrices(1, size)[0])
    run = exported(module, tmp_path, torch.randn(2, size, 5), torch.randn(2, size, 5))
    a, b = torch.randn(3, size, 5), torch.randn(3, size, 5)
    np.testing.assert_allclose(run(a, b), module(a, b).numpy(), atol=1e-5)
    assert "Sqrt" not in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}


def test_a_large_system_that_depends_on_the_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of 17 x 17 numbers that depends on the inputs has no form in ONNX"):
        exported(Computes(SYSTEMS["inv"]), tmp_path, matrices(2, 17), torch.randn(2, 17, 5))
    assert list(tmp_path.iterdir()) == []


def test_a_decomposition_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    module = Computes(lambda _, a, b: torch.linalg.qr(a)[0] @ b)
    with pytest.raises(InputError, match=r"ONNX has no operator for aten\.linalg_qr; where it does not depend"):
        exported(module, tmp_path, matrices(2, 3), torch.randn(2, 3, 5))
