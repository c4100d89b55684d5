"""The sampler in primitive operators, against the examples of ONNX and against PyTorch."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test.case.node as onnx_cases
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stn_export import export_onnx, plan_export
from stn_export.forms.targets import PORTABLE_OPSETS
from stn_export.graph.opsets import lower_opset
from stn_export.graph.portable import make_portable
from stn_export.graph.rewrites import Changes

# Operators that every engine of the last years has
PRIMITIVES = set(
    [
        "Abs",
        "Add",
        "Cast",
        "Concat",
        "Constant",
        "Floor",
        "Gather",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Pad",
        "Range",
        "Reshape",
        "Round",
        "Shape",
        "Slice",
        "Sub",
        "Transpose",
    ]
)


def node_tests() -> list[onnx_cases.TestCase]:
    """Return ONNX's own examples of GridSample."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return onnx_cases.collect_testcases("GridSample")


def is_applicable(case: onnx_cases.TestCase) -> bool:
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in case.model.graph.node[0].attribute}
    is_image = len(case.model.graph.input[0].type.tensor_type.shape.dim) == 4
    return is_image and values.get("mode", b"linear") in (b"linear", b"bilinear", b"nearest")


CASES = {case.name: case for case in node_tests()}
APPLICABLE = sorted(name for name, case in CASES.items() if is_applicable(case))
REFUSED = sorted(set(CASES) - set(APPLICABLE))


def sampler(
    mode: str, padding: str, corners: int, channels: int | str = "C", size: tuple[object, ...] = ("H", "W")
) -> onnx.ModelProto:
    """Return a graph of one GridSample of opset 16, for pictures of any size."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 16]> graph'
        f" (float[N, {channels}, {size[0]}, {size[1]}] image, float[N, h, w, 2] grid) => (float[N, {channels}, h, w] y)"
        f' {{ y = GridSample<mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}>(image, grid) }}'
    )


def portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph at opset 13 whose samplers are spelled out."""
    graph = ir.from_proto(model)
    assert make_portable(graph) == []
    assert lower_opset(graph, PORTABLE_OPSETS.start, Changes()) is None
    spelled = ir.to_proto(graph)
    onnx.checker.check_model(spelled, full_check=True)
    return spelled


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def sessions() -> dict[tuple[str, str, int], ort.InferenceSession]:
    """All samplers that have a portable form, for pictures of any size."""
    return {
        (mode, padding, corners): session(portable(sampler(mode, padding, corners)))
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    }


def test_onnx_has_examples_of_every_padding_and_of_both_modes() -> None:
    named = " ".join(APPLICABLE)
    assert len(APPLICABLE) >= 10
    assert all(word in named for word in ("zeros", "border", "reflection", "nearest", "bilinear", "aligncorners"))


@pytest.mark.parametrize("name", APPLICABLE)
def test_an_example_of_onnx_gives_the_answer_that_stands_beside_it(name: str) -> None:
    case = CASES[name]
    spelled = portable(case.model)
    assert [entry.version for entry in spelled.opset_import if entry.domain == ""] == [13]
    for inputs, outputs in case.data_sets:
        feeds = {value.name: data for value, data in zip(spelled.graph.input, inputs, strict=True)}
        [actual] = session(spelled).run(None, feeds)
        np.testing.assert_allclose(actual, outputs[0], rtol=case.rtol, atol=max(case.atol, 1e-6))


@pytest.mark.parametrize("name", REFUSED)
def test_bicubic_samplers_and_volumes_stay_as_they_are_and_say_so(name: str) -> None:
    graph = ir.from_proto(CASES[name].model)
    [sentence] = make_portable(graph)
    assert "has no portable form; use bilinear or nearest" in sentence or "only images (4-D)" in sentence
    assert [node.op_type for node in graph.graph] == ["GridSample"]


def test_the_portable_form_is_made_of_primitive_operators_alone() -> None:
    for padding in ("zeros", "border", "reflection"):
        for mode in ("bilinear", "nearest"):
            kinds = {node.op_type for node in portable(sampler(mode, padding, 1)).graph.node}
            assert kinds <= PRIMITIVES


def test_what_depends_on_a_known_size_is_computed_ahead() -> None:
    kinds = [node.op_type for node in portable(sampler("bilinear", "zeros", 0, 3, (5, 7))).graph.node]
    assert "Mod" not in kinds
    assert kinds.count("Shape") <= 2  # of the batch, and of the grid


def test_two_samplers_in_one_graph_are_both_spelled_out() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 16]> graph (float[N, 1, H, W] image, float[N, h, w, 2] grid)'
        " => (float[N, 1, h, w] y) { x = GridSample(image, grid)"
        ' y = GridSample<mode = "nearest", padding_mode = "border">(x, grid) }'
    )
    random = np.random.default_rng(0)
    image = random.random((2, 1, 5, 7), np.float32)
    grid = random.uniform(-1.5, 1.5, (2, 4, 6, 2)).astype(np.float32)
    [actual] = session(portable(model)).run(None, {"image": image, "grid": grid})
    first = functional.grid_sample(torch.from_numpy(image), torch.from_numpy(grid), align_corners=False)
    expected = functional.grid_sample(
        first, torch.from_numpy(grid), mode="nearest", padding_mode="border", align_corners=False
    )
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


@st.composite
def samplings(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return pictures (N, C, H, W) and a grid (N, h, w, 2) that reaches well outside of them."""
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width, rows, columns = (draw(st.integers(1, 7)) for _ in range(4))
    reach = draw(st.sampled_from([0.9, 1.3, 4.0, 60.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = random.standard_normal((batch, channels, height, width)).astype(np.float32)
    grid = random.uniform(-reach, reach, (batch, rows, columns, 2)).astype(np.float32)
    return image, grid


def pixels(grid: NDArray[np.float32], size: tuple[int, int], corners: int) -> NDArray[np.float64]:
    """Return where a grid reads, in pixels, as in the specification of ONNX."""
    sizes = np.array(size[::-1], np.float64)  # (x, y) order
    return (grid + 1) / 2 * (sizes - 1) if corners else ((grid + 1) * sizes - 1) / 2


def near_a_tie(grid: NDArray[np.float32], size: tuple[int, int], corners: int) -> NDArray[np.bool_]:
    """Return which samples lie so close to the middle of two pixels that rounding decides, (N, 1, h, w)."""
    away = np.abs((pixels(grid, size, corners) - 0.5) % 1)
    return (np.minimum(away, 1 - away) < 1e-3).any(axis=-1)[:, None]


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@settings(max_examples=60, deadline=None)
@given(sampling=samplings())
def test_bilinear_samples_are_those_of_pytorch(
    sessions: dict[tuple[str, str, int], ort.InferenceSession],
    padding: str,
    corners: int,
    sampling: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    image, grid = sampling
    [actual] = sessions["bilinear", padding, corners].run(None, {"image": image, "grid": grid})
    expected = functional.grid_sample(
        torch.from_numpy(image), torch.from_numpy(grid), padding_mode=padding, align_corners=bool(corners)
    )
    # a coordinate of 60 carries 4e-6 in float32, which a picture of 7 pixels multiplies by 3.5
    np.testing.assert_allclose(actual, expected.numpy(), atol=2e-5 * max(1.0, float(np.abs(grid).max())))


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@settings(max_examples=60, deadline=None)
@given(sampling=samplings())
def test_nearest_samples_are_those_of_pytorch_away_from_ties(
    sessions: dict[tuple[str, str, int], ort.InferenceSession],
    padding: str,
    corners: int,
    sampling: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    image, grid = sampling
    [actual] = sessions["nearest", padding, corners].run(None, {"image": image, "grid": grid})
    expected = functional.grid_sample(
        torch.from_numpy(image),
        torch.from_numpy(grid),
        mode="nearest",
        padding_mode=padding,
        align_corners=bool(corners),
    )
    sure = np.broadcast_to(~near_a_tie(grid, image.shape[2:], corners), actual.shape)
    np.testing.assert_array_equal(actual[sure], expected.numpy()[sure])


def test_the_exact_middle_of_two_pixels_is_rounded_to_the_even_one_as_in_pytorch(
    sessions: dict[tuple[str, str, int], ort.InferenceSession],
) -> None:
    image = np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5)
    grid = np.array([[-0.75, 0], [-0.25, 0], [0.25, 0], [0.75, 0]], np.float32).reshape(1, 1, 4, 2)
    [actual] = sessions["nearest", "border", 1].run(None, {"image": image, "grid": grid})
    assert actual.ravel().tolist() == [0.0, 2.0, 2.0, 4.0]  # pixels 0.5, 1.5, 2.5 and 3.5


@pytest.fixture(params=["bilinear", "nearest"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_coordinates_that_are_no_numbers_do_not_crash_nor_spoil_the_others(
    sessions: dict[tuple[str, str, int], ort.InferenceSession], mode: str, padding: str, corners: int
) -> None:
    """NaN and infinity read something or nothing, but inside the picture, and only for their own samples."""
    random = np.random.default_rng(5)
    image = random.random((2, 2, 4, 6), np.float32)
    grid = random.uniform(-0.9, 0.9, (2, 3, 5, 2)).astype(np.float32)
    spoilt = grid.copy()
    spoilt[0, 0, 0], spoilt[0, 1, 1], spoilt[1, 2, 4] = np.nan, (np.inf, 0), (-np.inf, np.nan)
    spoilt[1, 0, 0], spoilt[1, 1, 2] = 3e38, (0, -3e38)
    [expected] = sessions[mode, padding, corners].run(None, {"image": image, "grid": grid})
    [actual] = sessions[mode, padding, corners].run(None, {"image": image, "grid": spoilt})
    same = np.broadcast_to((spoilt == grid).all(axis=-1)[:, None], actual.shape)
    np.testing.assert_array_equal(actual[same], expected[same])
    rest = actual[~same]
    assert ((rest >= 0) & (rest <= 1) | np.isnan(rest)).all()


def test_the_portable_form_takes_any_batch_and_size_that_the_sampler_takes(
    sessions: dict[tuple[str, str, int], ort.InferenceSession], mode: str
) -> None:
    for shape in ((1, 1, 1, 1), (4, 2, 1, 9), (2, 3, 33, 2)):
        image = np.random.default_rng(1).random(shape, np.float32)
        grid = np.zeros((shape[0], 2, 3, 2), np.float32) + np.float32(0.013)
        [actual] = sessions[mode, "zeros", 0].run(None, {"image": image, "grid": grid})
        expected = functional.grid_sample(
            torch.from_numpy(image), torch.from_numpy(grid), mode=mode, align_corners=False
        )
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-6)


def test_pixels_are_counted_exactly_beyond_what_float32_counts() -> None:
    """The last pixels of two pictures of 17 million: float32 counts to 2 ** 24 alone."""
    side = 4100
    assert side**2 > 2**24
    image = np.random.default_rng(0).random((2, 1, side, side), np.float32)
    last = np.array([[side - 1, side - 1], [side - 2, side - 1], [side - 1.5, side - 2.5], [17, side - 1]], np.float32)
    grid = np.tile((2 * last + 1) / side - 1, (2, 1, 1, 1)).astype(np.float32)
    model = portable(sampler("nearest", "border", 0))
    [actual] = session(model).run(None, {"image": image, "grid": grid})
    expected = functional.grid_sample(
        torch.from_numpy(image), torch.from_numpy(grid), mode="nearest", padding_mode="border", align_corners=False
    )
    sure = np.broadcast_to(~near_a_tie(grid, (side, side), 0), actual.shape)
    assert sure.sum() >= 6
    np.testing.assert_array_equal(actual[sure], expected.numpy()[sure])


class Halfway(nn.Module):
    """Warps an image by a theta that is given."""

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        """Return the warped image."""
        grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
        return functional.grid_sample(image, grid, align_corners=False)


def test_a_module_in_float64_is_in_float32_in_its_portable_form(tmp_path: Path) -> None:
    example = [torch.rand(2, 1, 5, 7, dtype=torch.float64), torch.rand(2, 2, 3, dtype=torch.float64)]
    with pytest.warns(UserWarning, match="it is exported in float32"):
        export_onnx(Halfway(), tmp_path / "m.onnx", example, plan=plan_export(form="portable"))
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"image": example[0].float().numpy(), "theta": example[1].float().numpy()})
    np.testing.assert_allclose(actual, Halfway()(*example).numpy(), atol=1e-5)


def test_a_module_in_float16_samples_in_float32_in_its_portable_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = [torch.rand(2, 1, 5, 7).half(), torch.rand(2, 2, 3).half()]
    export_onnx(Halfway(), tmp_path / "m.onnx", example, plan=plan_export(form="portable"))
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"image": example[0].numpy(), "theta": example[1].numpy()})
    exact = Halfway()(example[0].float(), example[1].float()).numpy()
    assert actual.dtype == np.float16
    # The base grid of the module is rounded to 2^-12, times 3.5 pixels in x and 2.5 in y; the answer is, too.
    np.testing.assert_allclose(actual, exact, atol=(3.5 + 2.5 + 1) * 2**-12)
