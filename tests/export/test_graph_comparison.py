"""What is allowed between an old and a rewritten graph, where float32 itself is unsure."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from stn_export import DifferenceError, optimize_onnx
from stn_export.graph import sampling_grids
from stn_export.graph_comparison import compare_graphs, is_fixed_but_for_the_batch
from tests.support.graphs import hand_made
from tests.support.warping_networks import ThinPlate, write

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's exporters warn of themselves


@pytest.fixture(scope="module")
def thin_plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose rounding is amplified by the inverse of the thin plate's system, as TorchScript writes it."""
    path = tmp_path_factory.mktemp("files") / "before.onnx"
    return write(ThinPlate(48, 48).eval(), torch.rand(2, 1, 48, 48), path, False, 20)


def test_a_thin_plate_that_rounding_moves_by_more_than_a_hundred_thousandth_is_optimised(
    thin_plate: Path, tmp_path: Path
) -> None:
    result = optimize_onnx(thin_plate, tmp_path / "after.onnx")
    assert result.changes.kept == []
    assert 1e-5 < result.differences["sampled"] < 3e-4


@pytest.mark.parametrize("factor", [1.001, 0.998])
def test_a_thin_plate_with_a_wrong_basis_is_refused(
    factor: float, thin_plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = sampling_grids.linear_map

    def wrong(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        found = truth(points)
        return None if found is None else (found[0] * np.float32(factor), found[1])

    monkeypatch.setattr(sampling_grids, "linear_map", wrong)
    with pytest.raises(DifferenceError, match=r"differs in sampling grid '.*' by"):
        optimize_onnx(thin_plate, tmp_path / "after.onnx")
    assert not (tmp_path / "after.onnx").exists()


def one_operator(kind: str, numbers: list[float], types: str = "float16") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> graph ({types}[N, 3] x) => ({types}[N, 3] y) {{ y = {kind}(x, k) }}'
    )
    dtype = np.float16 if types == "float16" else np.float32
    model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, dtype), "k"))
    return model


def test_in_half_precision_a_difference_of_one_rounding_is_allowed_and_a_hundredth_is_not() -> None:
    old = one_operator("Mul", [0.5, 1.0, 1.5])
    near, far = one_operator("Mul", [0.5, 1.0, 1.501]), one_operator("Mul", [0.5, 1.0, 1.515])
    assert compare_graphs(old, near, "file.onnx")["y"] < 2e-3
    with pytest.raises(DifferenceError, match="differs in output 'y'"):
        compare_graphs(old, far, "file.onnx")
    with pytest.raises(DifferenceError, match="differs in output 'y'"):
        compare_graphs(one_operator("Mul", [0.5, 1.0, 1.5], "float"), one_operator("Mul", [0.5, 1, 1.501], "float"), "")


def test_another_type_of_an_output_is_a_difference() -> None:
    old, new = one_operator("Mul", [1, 1, 1]), one_operator("Mul", [1, 1, 1])
    new.graph.node[0].output[0] = "half"
    new.graph.node.append(onnx.helper.make_node("Cast", ["half"], ["y"], to=onnx.TensorProto.FLOAT))
    new.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(DifferenceError, match="differs in output 'y'"):
        compare_graphs(old, new, "file.onnx")


@pytest.mark.parametrize(
    ("inputs", "is_fixed"),
    [("float[N, 3] x", True), ("float[N, W] x", False), ("float[N, 3] x, float[N, 2, N] more", True)],
)
def test_only_the_size_of_the_batch_may_be_open_where_shapes_are_measured(inputs: str, is_fixed: bool) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> graph ({inputs}) => (float y) {{ y = ReduceSum<keepdims = 0>(x) }}'
    )
    assert is_fixed_but_for_the_batch(model) == is_fixed


def of_a_row(body: str) -> onnx.ModelProto:
    return hand_made(body, "float[N, 3] x", "float[N, M] y", k=np.float32(1.0), double=[2, 1])


def test_graphs_that_differ_by_a_shape_a_value_or_a_nan_are_different() -> None:
    old = of_a_row("y = Mul(x, k) unused = Identity(double)")
    for body in (
        "y = Tile(x, double) unused = Identity(k)",
        "h = Add(x, k) y = Mul(h, h) unused = Identity(double)",
        "z = Sub(x, x) y = Div(z, z) unused = Identity(double) other = Identity(k)",
    ):
        with pytest.raises(DifferenceError, match="differs in output 'y'"):
            compare_graphs(old, of_a_row(body), "file.onnx")
    nan = of_a_row("z = Sub(x, x) y = Div(z, z) unused = Identity(double) other = Identity(k)")
    with pytest.raises(DifferenceError, match="output 'y' is not finite anywhere on random inputs, so a change cannot"):
        compare_graphs(nan, nan, "file.onnx")


def test_a_nan_in_the_same_place_in_both_is_no_difference() -> None:
    body = "z = Sub(x, k) r = Sqrt(z) t = Sqrt(x) y = Concat<axis = 1>(r, t) unused = Identity(double)"
    assert compare_graphs(of_a_row(body), of_a_row(body), "file.onnx") == {"y": 0.0}
