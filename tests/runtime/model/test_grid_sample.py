"""The NumPy sampler against PyTorch's, onnxruntime's and numbers worked out by hand."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from stn_runtime.model.grid_sample import Interpolation, Padding, grid_sample, sample_pixels

PADDINGS = ("zeros", "border", "reflection")
WAYS = list(itertools.product(("bilinear", "nearest"), PADDINGS, (False, True)))
each_way = pytest.mark.parametrize(("interpolation", "padding", "align_corners"), WAYS)
ways = st.sampled_from(WAYS)
sizes = st.integers(1, 9)
few = st.integers(1, 3)


def _of_torch(
    image: NDArray[np.float32], grid: NDArray[np.float32], interpolation: str, padding: str, align_corners: bool
) -> NDArray[np.float32]:
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(image), torch.from_numpy(grid), interpolation, padding, align_corners
    )
    return np.asarray(sampled.numpy())


@cache
def _session(interpolation: str, padding: str, align_corners: bool, opset: int) -> ort.InferenceSession:
    """A graph of one GridSample; opset 20 calls bilinear linear."""
    mode = "linear" if interpolation == "bilinear" and opset >= 20 else interpolation
    node = helper.make_node(
        "GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=int(align_corners)
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c", "H", "W"]),
        helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["n", "h", "w", 2]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])]
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _settled(grid: NDArray[np.float32], size: tuple[int, int], align_corners: bool) -> NDArray[np.bool_]:
    """Which points (N, h, w) are clear of a tie between two pixels, where float32 decides by its last bit."""
    extent = np.array([size[1], size[0]])
    pixels = (grid + 1.0) / 2 * (extent - 1) if align_corners else ((grid + 1.0) * extent - 1) / 2
    return np.asarray((np.abs(pixels - np.floor(pixels) - 0.5) > 0.01).all(-1))


def _assert_agree(
    actual: NDArray[np.float32],
    expected: NDArray[np.float32],
    image: NDArray[np.float32],
    grid: NDArray[np.float32],
    interpolation: str,
    align_corners: bool,
) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    size = image.shape[2:]
    if interpolation == "nearest":
        settled = np.broadcast_to(_settled(grid, size, align_corners)[:, None], actual.shape)
        np.testing.assert_array_equal(actual[settled], expected[settled])
    else:
        # A float32 coordinate of p pixels is off by a few p 2^-24, and neighbouring pixels in [0, 1] by 1 at most.
        pixels = (1 + np.abs(grid).max(initial=0)) * max(size) / 2
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 + 4 * 2**-24 * pixels)


@st.composite
def samplings(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image (N, C, H, W) in [0, 1] and a grid (N, h, w, 2): near the image, around it, or far outside."""
    batch, channels, height, width, rows, columns = (draw(n) for n in (few, few, sizes, sizes, few, sizes))
    reach = draw(st.sampled_from((0.9, 1.1, 2.0, 7.0, 300.0)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.random((batch, channels, height, width), np.float32)
    return image, rng.uniform(-reach, reach, (batch, rows, columns, 2)).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(samplings(), ways)
def test_it_samples_as_pytorch_does(sampling: tuple[NDArray[Any], NDArray[Any]], way: tuple[Any, Any, bool]) -> None:
    image, grid = sampling
    interpolation, _, align_corners = way
    expected = _of_torch(image, grid, *way)
    _assert_agree(grid_sample(image, grid, *way), expected, image, grid, interpolation, align_corners)


@settings(max_examples=80, deadline=None)
@given(samplings(), ways, st.sampled_from((16, 20)))
def test_it_samples_as_onnxruntime_does(
    sampling: tuple[NDArray[Any], NDArray[Any]], way: tuple[Any, Any, bool], opset: int
) -> None:
    image, grid = sampling
    interpolation, _, align_corners = way
    (expected,) = _session(*way, opset).run(None, {"x": image, "grid": grid})
    _assert_agree(grid_sample(image, grid, *way), expected, image, grid, interpolation, align_corners)


@each_way
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (7, 1), (2, 5), (9, 4)])
def test_every_size_is_sampled_as_pytorch_does(
    interpolation: Interpolation, padding: Padding, align_corners: bool, height: int, width: int
) -> None:
    rng = np.random.default_rng(height * 10 + width)
    image = rng.random((2, 3, height, width), np.float32)
    grid = rng.uniform(-4, 4, (2, 6, 11, 2)).astype(np.float32)
    actual = grid_sample(image, grid, interpolation, padding, align_corners)
    expected = _of_torch(image, grid, interpolation, padding, align_corners)
    _assert_agree(actual, expected, image, grid, interpolation, align_corners)


PIXELS = np.array([[[[8, 16, 32, 64]]]], np.float32)  # one row of four
BY_HAND = [
    # x at -1 is half a pixel outside with align_corners False, and the first pixel's centre with True
    ("bilinear", "zeros", False, [-1.0, -0.75, -0.5, 0.0, 1.0, 1.25], [4, 8, 12, 24, 32, 0]),
    ("bilinear", "zeros", True, [-1.0, 0.0, 1.0, 1 + 1 / 3, 1 + 2 / 3], [8, 24, 64, 32, 0]),
    ("bilinear", "border", False, [-9.0, -1.0, -0.5, 1.0, 9.0], [8, 8, 12, 64, 64]),
    # mirrored about the edges: pixel -1 is pixel 0, pixel 4 is 3, pixel 5 is 2
    ("bilinear", "reflection", False, [-1.25, -1.75, 1.25, 1.75, 1.5, 2.75], [8, 16, 64, 32, 48, 8]),
    # mirrored about the centres of the border pixels: pixel -1 is pixel 1, pixel 4 is 2, pixel 5 is 1
    ("bilinear", "reflection", True, [-1 - 2 / 3, 1 + 2 / 3, 1 + 4 / 3, 1 + 1 / 3], [16, 32, 16, 48]),
    # halfway between two pixels the even one is read; beyond half a pixel outside nothing is
    ("nearest", "zeros", False, [-1.0, -0.5, 0.0, 0.5, 1.0, -1.01, -0.4], [8, 8, 32, 32, 0, 0, 16]),
    ("nearest", "border", False, [-1.5, 1.5, 0.4], [8, 64, 32]),
    ("nearest", "reflection", False, [-1.75, 1.7], [16, 32]),
]


@pytest.mark.parametrize(("interpolation", "padding", "align_corners", "x", "expected"), BY_HAND)
def test_the_convention_in_numbers(
    interpolation: Interpolation, padding: Padding, align_corners: bool, x: list[float], expected: list[float]
) -> None:
    grid = np.zeros((1, 1, len(x), 2), np.float32)
    grid[0, 0, :, 0] = x
    np.testing.assert_allclose(
        grid_sample(PIXELS, grid, interpolation, padding, align_corners).ravel(), expected, atol=1e-4
    )
    upright = grid_sample(
        PIXELS.transpose(0, 1, 3, 2).copy(), grid[..., ::-1].copy(), interpolation, padding, align_corners
    )
    np.testing.assert_allclose(upright.ravel(), expected, atol=1e-4)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sampler", ["ours", "torch", "onnxruntime"])
def test_ties_go_to_the_even_pixel_in_every_engine(padding: Padding, sampler: str) -> None:
    grid = np.zeros((1, 1, 3, 2), np.float32)
    grid[0, 0, :, 0] = [-0.5, 0.0, 0.5]  # pixels 0.5, 1.5 and 2.5, exact in float32
    if sampler == "ours":
        read = grid_sample(PIXELS, grid, "nearest", padding)
    elif sampler == "torch":
        read = _of_torch(PIXELS, grid, "nearest", padding, False)
    else:
        (read,) = _session("nearest", padding, False, 16).run(None, {"x": PIXELS, "grid": grid})
    assert read.ravel().tolist() == [8, 32, 32]


def _of_torch_at(
    image: NDArray[np.float32], points: NDArray[np.float64], interpolation: str, padding: str, folds_at_centres: bool
) -> NDArray[np.float64]:
    """PyTorch's answer at pixels, in float64; its reflection folds at the centres with align_corners."""
    size = np.array([image.shape[3], image.shape[2]])
    grid = 2 * points / (size - 1) - 1 if folds_at_centres else (2 * points + 1) / size - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(image).double(), torch.from_numpy(grid), interpolation, padding, folds_at_centres
    )
    return np.asarray(sampled.numpy())


ways_at_pixels = pytest.mark.parametrize(("interpolation", "padding", "folds_at_centres"), WAYS)


@ways_at_pixels
@pytest.mark.parametrize(("height", "width"), [(2, 5), (9, 4), (16, 16)])
def test_pixels_are_read_as_pytorch_reads_them(
    interpolation: Interpolation, padding: Padding, folds_at_centres: bool, height: int, width: int
) -> None:
    rng = np.random.default_rng(height)
    image = rng.random((2, 3, height, width), np.float32)
    points = rng.uniform(-3 * width, 4 * width, (2, 12, 15, 2))
    actual = sample_pixels(image, points, interpolation, padding, folds_at_centres)
    assert actual.dtype == np.float32
    expected = _of_torch_at(image, points, interpolation, padding, folds_at_centres)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_where_the_pixels_fold_matters_to_reflection_alone(interpolation: Interpolation, padding: Padding) -> None:
    rng = np.random.default_rng(3)
    image = rng.random((1, 2, 4, 6), np.float32)
    points = rng.uniform(-9, 15, (1, 8, 8, 2))
    at_edges, at_centres = (sample_pixels(image, points, interpolation, padding, folds) for folds in (False, True))
    np.testing.assert_array_equal(at_edges, at_centres)
    folded = [sample_pixels(image, points, interpolation, "reflection", folds) for folds in (False, True)]
    assert np.abs(folded[0] - folded[1]).max() > 0.1


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("folds_at_centres", [False, True])
def test_ties_between_pixels_go_where_pytorch_sends_them(padding: Padding, folds_at_centres: bool) -> None:
    height, width = (5, 9) if folds_at_centres else (4, 8)  # halves of these are exact in PyTorch's coordinates
    image = np.arange(1, height * width + 1, dtype=np.float32).reshape(1, 1, height, width)
    halves = np.arange(-2 * width, 3 * width) + 0.5
    points = np.stack(np.meshgrid(halves, halves), -1)[None]
    actual = sample_pixels(image, points, "nearest", padding, folds_at_centres)
    expected = _of_torch_at(image, points, "nearest", padding, folds_at_centres)
    np.testing.assert_array_equal(actual, expected)


@each_way
def test_an_image_of_one_pixel_is_sampled_as_pytorch_does(
    interpolation: Interpolation, padding: Padding, align_corners: bool
) -> None:
    image = np.full((1, 1, 1, 1), 0.25, np.float32)
    grid = np.array([[[[0, 0], [0.3, -0.2]]]], np.float32)
    expected = _of_torch(image, grid, interpolation, padding, align_corners)
    np.testing.assert_allclose(grid_sample(image, grid, interpolation, padding, align_corners), expected, atol=1e-6)


@each_way
def test_images_of_a_batch_are_read_by_their_own_grids(
    interpolation: Interpolation, padding: Padding, align_corners: bool
) -> None:
    rng = np.random.default_rng(5)
    image = rng.random((3, 2, 4, 6), np.float32)
    grid = rng.uniform(-1.5, 1.5, (3, 5, 4, 2)).astype(np.float32)
    together = grid_sample(image, grid, interpolation, padding, align_corners)
    for index in range(3):
        part = slice(index, index + 1)
        alone = grid_sample(image[part], grid[part], interpolation, padding, align_corners)
        np.testing.assert_array_equal(together[part], alone)


def _spoilt(bad: float) -> NDArray[np.float32]:
    """A point with a bad x, one with a bad y, one with both, and a good one, in a row."""
    return np.array([[[[bad, 0.1], [0.1, bad], [bad, bad], [0.1, 0.1]]]], np.float32)


SPOILT_IMAGE = np.random.default_rng(0).random((1, 2, 4, 5), np.float32)


@each_way
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_point_that_is_no_number_leaves_the_others_alone(
    interpolation: Interpolation, padding: Padding, align_corners: bool, bad: float
) -> None:
    read = grid_sample(SPOILT_IMAGE, _spoilt(bad), interpolation, padding, align_corners)
    expected = _of_torch(SPOILT_IMAGE, _spoilt(0.0), interpolation, padding, align_corners)
    np.testing.assert_allclose(read[..., 3], expected[..., 3], atol=1e-6)
    assert np.isfinite(read).all()
    assert 0 <= read.min() <= read.max() <= SPOILT_IMAGE.max()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_point_that_is_no_number_reads_zero_where_zeros_lie_outside(
    interpolation: Interpolation, align_corners: bool, bad: float
) -> None:
    # PyTorch gives 0 too for nearest, but NaN for bilinear; onnxruntime reads NaN as -1
    read = grid_sample(SPOILT_IMAGE, _spoilt(bad), interpolation, "zeros", align_corners)
    assert not read[..., :3].any()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_point_that_is_no_number_reads_the_border_that_pytorch_reads(
    interpolation: Interpolation, align_corners: bool, bad: float
) -> None:
    read = grid_sample(SPOILT_IMAGE, _spoilt(bad), interpolation, "border", align_corners)
    expected = _of_torch(SPOILT_IMAGE, _spoilt(bad), interpolation, "border", align_corners)
    np.testing.assert_allclose(read, expected, atol=1e-6)


@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_nan_reads_the_first_pixel_as_both_engines_do_where_something_lies_outside(
    interpolation: Interpolation, padding: Padding, align_corners: bool
) -> None:
    grid = _spoilt(np.nan)
    read = grid_sample(SPOILT_IMAGE, grid, interpolation, padding, align_corners)
    expected = _of_torch(SPOILT_IMAGE, grid, interpolation, padding, align_corners)
    (of_ort,) = _session(interpolation, padding, align_corners, 16).run(None, {"x": SPOILT_IMAGE, "grid": grid})
    np.testing.assert_allclose(of_ort, expected, atol=1e-6)  # the engines agree with each other
    np.testing.assert_allclose(expected[0, :, 0, 2], SPOILT_IMAGE[0, :, 0, 0], atol=1e-6)
    np.testing.assert_allclose(read, expected, atol=1e-6)
