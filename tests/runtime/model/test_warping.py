"""The warp from the frame itself: PyTorch's answer at the network's own size, and finer where the frame is larger."""

import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stn_runtime import PreprocessSpec, TransformerSpec
from stn_runtime.images.preprocessing import Fit, preprocess
from stn_runtime.model import warping
from stn_runtime.model.warping import warp

HEIGHT, WIDTH = 13, 17  # of the network's input
OUTPUT = (7, 11)
PADDINGS = ("zeros", "border", "reflection")

THETAS = {
    "identity": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    "rotated": [[0.866, -0.5, 0.013], [0.5, 0.866, -0.021]],
    "turned by a right angle": [[0.0, -0.97, 0.01], [0.93, 0.0, 0.02]],
    "mirrored": [[-0.91, 0.0, 0.0123], [0.0, 0.88, 0.0]],
    "zoomed": [[0.31, 0.0, 0.217], [0.0, 0.29, -0.313]],
    "zoomed in x only": [[0.4, 0.0, 0.0017], [0.0, 1.0, 0.0019]],
    "sheared": [[0.9, 0.43, 0.0], [-0.21, 1.1, 0.1]],
    "beyond the edges": [[1.7, 0.0, 0.0], [0.0, 1.6, 0.0]],
    "mostly outside": [[1.0, 0.0, 1.87], [0.0, 1.0, -1.83]],
    "outside": [[0.5, 0.0, 2.73], [0.0, 0.5, -3.11]],
    "one point": [[0.0, 0.0, 0.234], [0.0, 0.0, -0.345]],
    "a line": [[0.913, 0.0, 0.0], [0.0, 0.0, 0.217]],
}

Floats = NDArray[np.float32]


def _transformer(**changes: Any) -> TransformerSpec:  # noqa: ANN401
    fields: dict[str, Any] = {
        "name": "stn",
        "grid": "affine",
        "theta": (0, 6),
        "input_size": (HEIGHT, WIDTH),
        "output_size": OUTPUT,
        "interpolation": "bilinear",
        "padding": "zeros",
        "align_corners": False,
        "on_image": True,
    }
    return TransformerSpec(**(fields | changes))


def _grid(theta: list[list[float]], size: tuple[int, int] = OUTPUT, align_corners: bool = False) -> Floats:
    """Where an affine theta samples: the centres of the output's pixels, or from -1 to +1 with align_corners."""
    rows, columns = (
        (np.linspace(-1, 1, count) if count > 1 else np.zeros(1))
        if align_corners
        else (2 * np.arange(count) + 1) / count - 1
        for count in size
    )
    x, y = np.meshgrid(columns, rows)
    return np.asarray((np.stack((x, y, np.ones_like(x)), -1) @ np.array(theta).T).astype(np.float32))


def _of_torch(image: NDArray[Any], grid: Floats, transformer: TransformerSpec) -> NDArray[Any]:
    """(C, h, w) of an image (H, W, C) in [0, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None])
    points = torch.from_numpy(grid[None].astype(image.dtype))
    way = (transformer.interpolation, transformer.padding, transformer.align_corners)
    return np.asarray(torch.nn.functional.grid_sample(planes, points, *way)[0].numpy())


def _picture(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def _means(frame: NDArray[np.uint8], factor: int) -> NDArray[np.float64]:
    """A frame (H, W, C), averaged over squares of ``factor`` pixels, in [0, 1]."""
    height, width, channels = frame.shape
    squares = frame.reshape(height // factor, factor, width // factor, factor, channels)
    return np.asarray(squares.mean((1, 3)) / 255)


@pytest.fixture(params=["OpenCV blends exactly", "OpenCV rounds"])
def _branch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once through cv2.remap, where this OpenCV's is exact, and once through NumPy."""
    exact = request.param == "OpenCV blends exactly"
    if exact and not warping._remap_is_exact():
        pytest.skip(f"cv2.remap of OpenCV {cv2.__version__} rounds to a 32nd of a pixel")
    monkeypatch.setattr(warping, "_remap_is_exact", lambda: exact)


# --- a frame of the network's own size


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("interpolation", "padding", "align_corners"),
    list(itertools.product(("bilinear", "nearest"), PADDINGS, (False, True))),
)
def test_a_frame_of_the_networks_size_gives_what_pytorch_samples(
    channels: int, interpolation: str, padding: str, align_corners: bool
) -> None:
    transformer = _transformer(interpolation=interpolation, padding=padding, align_corners=align_corners)
    frame = _picture(HEIGHT, WIDTH, channels)
    for name, theta in THETAS.items():
        grid = _grid(theta, OUTPUT, align_corners)
        if interpolation == "nearest":
            grid = grid + np.float32(0.0123)  # off the ties, which the last bit decides
        expected = _of_torch(frame.astype(np.float32) / 255, grid, transformer)
        actual = warp(frame, grid, transformer, PreprocessSpec(HEIGHT, WIDTH, channels))
        assert actual.shape == (channels, *OUTPUT)
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize(("padding", "align_corners"), list(itertools.product(PADDINGS, (False, True))))
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (2, 3), (32, 20)], ids=str)
@pytest.mark.parametrize("output", [(1, 1), (1, 6), (5, 1), (9, 4)], ids=str)
def test_sizes_down_to_one_pixel_give_what_pytorch_samples(
    size: tuple[int, int], output: tuple[int, int], padding: str, align_corners: bool
) -> None:
    transformer = _transformer(input_size=size, output_size=output, padding=padding, align_corners=align_corners)
    frame = _picture(*size, 1)
    for name, theta in THETAS.items():
        grid = _grid(theta, output, align_corners)
        expected = _of_torch(frame.astype(np.float32) / 255, grid, transformer)
        actual = warp(frame, grid, transformer, PreprocessSpec(*size, 1))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize(("padding", "align_corners"), list(itertools.product(PADDINGS, (False, True))))
def test_a_grid_that_is_bent_gives_what_pytorch_samples(padding: str, align_corners: bool) -> None:
    transformer = _transformer(padding=padding, align_corners=align_corners)
    grid = _grid(THETAS["rotated"]) + np.random.default_rng(2).normal(0, 0.3, (*OUTPUT, 2)).astype(np.float32)
    frame = _picture(HEIGHT, WIDTH, 3)
    expected = _of_torch(frame.astype(np.float32) / 255, grid, transformer)
    actual = warp(frame, grid, transformer, PreprocessSpec(HEIGHT, WIDTH, 3))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_points_that_are_no_numbers_leave_the_others_alone(interpolation: str, padding: str, bad: float) -> None:
    transformer = _transformer(interpolation=interpolation, padding=padding)
    frame = _picture(HEIGHT, WIDTH, 1)
    good = _grid(THETAS["rotated"]) + np.float32(0.0123)
    grid = good.copy()
    grid[0, 0, 0] = grid[3, 4, 1] = bad
    grid[6, 10] = bad
    actual = warp(frame, grid, transformer, PreprocessSpec(HEIGHT, WIDTH, 1))
    expected = _of_torch(frame.astype(np.float32) / 255, good, transformer)
    spoilt = np.zeros(OUTPUT, bool)
    spoilt[0, 0] = spoilt[3, 4] = spoilt[6, 10] = True
    np.testing.assert_allclose(actual[0][~spoilt], expected[0][~spoilt], rtol=0, atol=1e-5)
    assert np.isfinite(actual).all()
    if padding == "zeros":
        assert not actual[0][spoilt].any()
    if padding == "border":
        of_torch = _of_torch(frame.astype(np.float32) / 255, grid, transformer)
        np.testing.assert_allclose(actual[0][spoilt], of_torch[0][spoilt], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_grid_of_nothing_but_nan_is_no_error(padding: str) -> None:
    grid = np.full((*OUTPUT, 2), np.nan, np.float32)
    spec = PreprocessSpec(HEIGHT, WIDTH, 3)
    for frame in (_picture(HEIGHT, WIDTH, 3), _picture(300, 170, 3)):
        read = warp(frame, grid, _transformer(padding=padding), spec)
        assert read.shape == (3, *OUTPUT)
        assert np.isfinite(read).all()
        assert padding != "zeros" or not read.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_frames_come_with_and_without_an_axis_of_channels(channels: int) -> None:
    spec = PreprocessSpec(HEIGHT, WIDTH, channels)
    frame, grid = _picture(40, 30, 1), _grid(THETAS["rotated"])
    flat, deep = (warp(each, grid, _transformer(), spec) for each in (frame[:, :, 0], frame))
    np.testing.assert_array_equal(flat, deep)
    assert flat.shape == (channels, *OUTPUT)
    for plane in flat:
        np.testing.assert_array_equal(plane, flat[0])


def test_a_colour_frame_is_weighed_into_grey_for_a_grey_network() -> None:
    frame = np.full((40, 60, 3), (255, 0, 0), np.uint8)
    grey = warp(frame, _grid(THETAS["zoomed"]), _transformer(), PreprocessSpec(HEIGHT, WIDTH, 1))
    np.testing.assert_allclose(grey, 0.299, atol=0.5 / 255)  # BT.601's share of red


def test_channels_stay_red_green_blue() -> None:
    frame = np.full((40, 60, 3), (51, 102, 204), np.uint8)
    read = warp(frame, _grid(THETAS["zoomed"]), _transformer(), PreprocessSpec(HEIGHT, WIDTH, 3))
    for plane, level in zip(read, (0.2, 0.4, 0.8), strict=True):
        np.testing.assert_allclose(plane, level, atol=1e-6)


def test_the_frame_is_left_as_it_was() -> None:
    frame = _picture(90, 120, 3)
    kept = frame.copy()
    frame.flags.writeable = False
    warp(frame, _grid(THETAS["rotated"]), _transformer(), PreprocessSpec(HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(frame, kept)


def test_views_of_an_array_are_read_like_copies() -> None:
    bgr = _picture(90, 120, 3)
    spec, grid = PreprocessSpec(HEIGHT, WIDTH, 3), _grid(THETAS["rotated"])
    for view in (bgr[..., ::-1], bgr[::2, ::3], bgr[::-1, ::-1]):
        np.testing.assert_array_equal(
            warp(view, grid, _transformer(), spec), warp(view.copy(), grid, _transformer(), spec)
        )


# --- a larger frame

FACTOR = 8
SMOOTH = PreprocessSpec(24, 32, 3)
INSIDE = {
    "whole": [[0.95, 0.0, 0.0], [0.0, 0.95, 0.0]],
    "rotated": [[0.6, -0.3, 0.0], [0.3, 0.6, 0.0]],
    "turned": [[0.0, -0.8, 0.0], [0.8, 0.0, 0.0]],
    "zoomed": [[0.3, 0.0, 0.31], [0.0, 0.25, -0.4]],
    "zoomed in x only": [[0.2, 0.0, 0.1], [0.0, 0.9, 0.0]],
}


def _smooth(height: int, width: int) -> NDArray[np.uint8]:
    """One and a half waves across and one down, of other phase in each channel."""
    y, x = np.mgrid[0:height, 0:width]
    across, down = 3 * np.pi * (x + 0.5) / width, 2 * np.pi * (y + 0.5) / height
    planes = [0.5 + 0.25 * np.sin(across + phase) + 0.25 * np.cos(down - phase) for phase in (0, 1, 2)]
    return np.asarray(np.rint(np.stack(planes, -1) * 255), np.uint8)


# A mean over h pixels is off by h^2 f'' / 24 along each axis and a blend of neighbours by h^2 f'' / 8 at most. Both
# the warp and the reference average and blend once: 2 (1/24 + 1/8) h^2 f'' = h^2 f'' / 3, with h = 1 pixel of the
# network's input and f'' = 0.25 (3 pi / 32)^2 + 0.25 (2 pi / 24)^2. Levels are rounded once in the warp.
SMOOTH_TOLERANCE = ((3 * math.pi / 32) ** 2 + (2 * math.pi / 24) ** 2) / 12 + 1 / 255


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize(("padding", "align_corners"), list(itertools.product(PADDINGS, (False, True))))
def test_a_smooth_frame_gives_the_same_at_every_resolution(name: str, padding: str, align_corners: bool) -> None:
    assert SMOOTH_TOLERANCE < 0.02
    transformer = _transformer(input_size=(24, 32), output_size=(24, 32), padding=padding, align_corners=align_corners)
    frame = _smooth(24 * FACTOR, 32 * FACTOR)
    grid = _grid(INSIDE[name], (24, 32), align_corners)
    expected = _of_torch(_means(frame, FACTOR), grid, transformer)
    actual = warp(frame, grid, transformer, SMOOTH)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=SMOOTH_TOLERANCE)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("factor", [2, 3, 4, 8, 16, 40])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", INSIDE)
def test_a_plain_frame_is_plain_wherever_the_grid_stays_inside(factor: int, padding: str, name: str) -> None:
    frame = np.full((24 * factor, 32 * factor, 3), 255, np.uint8)
    transformer = _transformer(input_size=(24, 32), output_size=(24, 32), padding=padding)
    read = warp(frame, _grid(INSIDE[name], (24, 32)), transformer, SMOOTH)
    np.testing.assert_allclose(read, 1, atol=1e-5)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(12, 16), (4, 4), (24, 500), (300, 20)])
def test_a_frame_without_more_detail_gives_what_the_network_sees(size: tuple[int, int], padding: str) -> None:
    frame = np.random.default_rng(1).integers(100, 256, (*size, 3), np.uint8)
    transformer = _transformer(input_size=(24, 32), output_size=(24, 32), padding=padding)
    seen = preprocess(frame, SMOOTH).astype(np.float32) / 255
    for name in ("identity", "rotated", "beyond the edges"):
        grid = _grid(THETAS[name], (24, 32))
        expected = _of_torch(seen, grid, transformer)
        np.testing.assert_allclose(warp(frame, grid, transformer, SMOOTH), expected, rtol=0, atol=1e-5)


DETAILED = PreprocessSpec(40, 60, 3)  # of a frame ten times as large


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_a_small_object_in_a_large_frame_keeps_the_detail_that_the_input_has_lost(
    interpolation: str, padding: str, align_corners: bool
) -> None:
    frame = np.full((400, 600, 3), 128, np.uint8)
    ideal = np.random.default_rng(4).integers(0, 2, (40, 60, 3), np.uint8) * np.uint8(255)
    top, left = 100, 330
    frame[top : top + 40, left : left + 60] = ideal
    transformer = _transformer(
        input_size=(40, 60),
        output_size=(40, 60),
        interpolation=interpolation,
        padding=padding,
        align_corners=align_corners,
    )
    # the centres of exactly those pixels, normalised by hand
    x = (2 * (left + np.arange(60)) + 1) / 600 - 1
    y = (2 * (top + np.arange(40)) + 1) / 400 - 1
    if align_corners:
        x, y = x * 60 / 59, y * 40 / 39
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    seen = warp(frame, grid, transformer, DETAILED).transpose(1, 2, 0)
    # float32 places a point of this frame to 600 x 2^-23 or so, and neighbours differ by 1
    np.testing.assert_allclose(seen, ideal / 255, rtol=0, atol=5e-4)
    lost = _of_torch(_means(frame, 10).astype(np.float32), grid, transformer).transpose(1, 2, 0)
    assert np.abs(lost - ideal / 255).mean() > 0.4


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("zoom", [0.95, 0.61, 0.43])
def test_a_fine_checkerboard_averages_to_grey(padding: str, zoom: float) -> None:
    rows, columns = np.indices((800, 1200))
    frame = ((rows + columns) % 2 * 255).astype(np.uint8)
    transformer = _transformer(input_size=(40, 60), output_size=(40, 60), padding=padding)
    grid = _grid([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]], (40, 60))
    read = warp(frame, grid, transformer, PreprocessSpec(40, 60, 1))
    # a square of n x n points of a checkerboard, n at least 9, is half white but for a share of a pixel at its rim
    np.testing.assert_allclose(read, 0.5, rtol=0, atol=0.03)
    pointwise = _of_torch(frame[:, :, None].astype(np.float32) / 255, grid, transformer)
    assert np.abs(pointwise - 0.5).max() > 0.2  # what reading single points gives: moire


@pytest.mark.parametrize("zoom", [0.95, 0.6])
def test_fine_stripes_average_along_the_axis_they_cross_only(zoom: float) -> None:
    frame = (np.indices((800, 1200))[1] % 2 * 255).astype(np.uint8)
    transformer = _transformer(input_size=(40, 60), output_size=(40, 60), padding="border")
    grid = _grid([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]], (40, 60))
    np.testing.assert_allclose(warp(frame, grid, transformer, PreprocessSpec(40, 60, 1)), 0.5, rtol=0, atol=0.06)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(13, 17), (60, 160), (300, 90)], ids=str)
@pytest.mark.parametrize("shift", [(9.0, 0.0), (0.0, -9.0), (40.0, 40.0)], ids=str)
def test_a_grid_wholly_outside_reads_the_padding(fit: Fit, size: tuple[int, int], shift: tuple[float, float]) -> None:
    frame = np.full((*size, 3), (255, 128, 0), np.uint8)
    grid = _grid([[0.5, 0.0, shift[0]], [0.0, 0.5, shift[1]]])
    spec = PreprocessSpec(HEIGHT, WIDTH, 3, fit=fit)
    assert not warp(frame, grid, _transformer(), spec).any()
    colour = np.array([1, 128 / 255, 0], np.float32)[:, None, None]
    for padding in ("border", "reflection"):
        read = warp(frame, grid, _transformer(padding=padding), spec)
        np.testing.assert_allclose(read, np.broadcast_to(colour, read.shape), atol=1e-5)


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(5, 7), (7, 5), (3, 16), (13, 17)], ids=str)
@pytest.mark.parametrize("padding", PADDINGS)
def test_outside_a_frame_without_more_detail_lies_what_the_network_has_there(
    fit: Fit, size: tuple[int, int], padding: str
) -> None:
    frame = np.random.default_rng(5).integers(100, 256, (*size, 3), np.uint8)
    spec = PreprocessSpec(HEIGHT, WIDTH, 3, fit=fit)
    seen = preprocess(frame, spec).astype(np.float32) / 255
    transformer = _transformer(padding=padding)
    for shift in ((9.0, 0.0), (0.0, -9.0), (40.0, 40.0), (-1.5, 1.5)):
        grid = _grid([[0.5, 0.0, shift[0]], [0.0, 0.5, shift[1]]])
        expected = _of_torch(seen, grid, transformer)
        # float32 places a point 40 away to 40 x 17 x 2^-24 pixels, and neighbours differ by 1 at most
        np.testing.assert_allclose(
            warp(frame, grid, transformer, spec), expected, rtol=0, atol=1e-4, err_msg=str(shift)
        )


def test_the_border_that_is_read_is_the_nearest_one() -> None:
    frame = np.zeros((80, 120), np.uint8)
    frame[:, :40], frame[:, 80:] = 51, 204
    spec = PreprocessSpec(HEIGHT, WIDTH, 1)
    for x, level in ((-5.0, 0.2), (5.0, 0.8)):
        grid = _grid([[0.5, 0.0, x], [0.0, 0.5, 0.0]])
        np.testing.assert_allclose(warp(frame, grid, _transformer(padding="border"), spec), level, atol=1e-5)


# --- fits


def _same_as(size: tuple[int, int]) -> TransformerSpec:
    return _transformer(input_size=size, output_size=size)


def test_the_bars_of_a_letterbox_are_black() -> None:
    # 100 x 400 into 32 x 32: 8 rows, with 12 black ones above and below
    read = warp(
        np.full((100, 400), 255, np.uint8),
        _grid(THETAS["identity"], (32, 32)),
        _same_as((32, 32)),
        PreprocessSpec(32, 32, 1, fit="letterbox"),
    )
    assert not read[0, :12].any()
    assert not read[0, 20:].any()
    np.testing.assert_allclose(read[0, 13:19, 1:31], 1, atol=1e-5)


def test_a_letterboxed_frame_is_read_where_the_letterbox_puts_it() -> None:
    # 96 x 192 into 24 x 24: 12 rows, 6 black ones above them, every pixel the mean of 8 x 8
    frame = _smooth(96, 192)
    read = warp(
        frame, _grid(THETAS["identity"], (24, 24)), _same_as((24, 24)), PreprocessSpec(24, 24, 3, fit="letterbox")
    )
    expected = _means(frame, 8).transpose(2, 0, 1)
    np.testing.assert_allclose(read[:, 7:17, 1:23], expected[:, 1:11, 1:23], rtol=0, atol=0.03)


def test_a_cropped_frame_is_read_in_its_middle() -> None:
    # 96 x 192 into 24 x 24: the columns 48 to 143, every pixel the mean of 4 x 4
    frame = _smooth(96, 192)
    read = warp(frame, _grid(THETAS["identity"], (24, 24)), _same_as((24, 24)), PreprocessSpec(24, 24, 3, fit="crop"))
    expected = _means(frame[:, 48:144], 4).transpose(2, 0, 1)
    np.testing.assert_allclose(read[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=0, atol=0.03)


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_a_detail_is_read_exactly_whatever_the_fit(fit: Fit) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (96, 192), np.uint8)
    # letterbox: 8 pixels of the frame make one of the input, whose rows begin 6 below the top; crop: 4, from column 48
    step, top, left = (8, -48, 0) if fit == "letterbox" else (4, 0, 48)
    rows, columns = np.arange(40, 64), np.arange(80, 104)
    x = (2 * (columns - left) + 1) / (24 * step) - 1
    y = (2 * (rows - top) + 1) / (24 * step) - 1
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    read = warp(frame, grid, _same_as((24, 24)), PreprocessSpec(24, 24, 1, fit=fit))
    np.testing.assert_allclose(read[0], frame[40:64, 80:104] / 255, rtol=0, atol=2e-4)


# --- what it costs


@pytest.mark.usefixtures("_branch")
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_region_of_a_large_frame_is_all_that_is_converted(channels: int, padding: str) -> None:
    frame = np.full((4000, 6000, 3), 100, np.uint8)
    transformer = _transformer(input_size=(64, 96), output_size=(64, 96), padding=padding)
    grid = _grid([[0.02, 0.0, 0.5], [0.0, 0.02, -0.5]], (64, 96))
    tracemalloc.start()
    try:
        read = warp(frame, grid, transformer, PreprocessSpec(64, 96, channels))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(read, 100 / 255, atol=1e-6)
    assert peak < 4e6  # the region is 80 x 120; the whole frame would take 96 MB grey and 288 MB RGB


@pytest.mark.usefixtures("_branch")
def test_a_whole_large_frame_is_averaged_before_it_is_converted() -> None:
    frame = np.full((4000, 6000, 3), 100, np.uint8)
    transformer = _transformer(input_size=(64, 96), output_size=(64, 96))
    grid = _grid(INSIDE["rotated"], (64, 96))
    tracemalloc.start()
    try:
        warp(frame, grid, transformer, PreprocessSpec(64, 96, 3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30e6  # of 288 MB


# --- OpenCV


BORDERS = {  # the padding, and whether it is with align_corners, that a border of OpenCV is
    cv2.BORDER_CONSTANT: ("zeros", False),
    cv2.BORDER_REPLICATE: ("border", False),
    cv2.BORDER_REFLECT: ("reflection", False),
    cv2.BORDER_REFLECT_101: ("reflection", True),
}


def _remap_of_torch(image: Floats, x: Floats, y: Floats, border: int) -> Floats:
    """What a cv2.remap that blends exactly would give."""
    padding, align_corners = BORDERS[border]
    size = np.array([image.shape[1], image.shape[0]])
    points = np.stack((x, y), -1).astype(np.float64)
    grid = 2 * points / (size - 1) - 1 if align_corners else (2 * points + 1) / size - 1
    planes = torch.from_numpy(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)[None]).double()
    read = torch.nn.functional.grid_sample(planes, torch.from_numpy(grid)[None], "bilinear", padding, align_corners)
    return np.asarray(read[0].permute(1, 2, 0).numpy().astype(np.float32).squeeze())


@pytest.fixture
def exact_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Floats]], bool]]:
    """Say whether OpenCV counts as exact with the remap that is given: ``remap(image, x, y, border)``."""

    def ask(remap: Callable[..., Floats]) -> bool:
        def replacement(image: Floats, x: Floats, y: Floats, interpolation: int, *, borderMode: int) -> Floats:
            assert interpolation == cv2.INTER_LINEAR
            return remap(image, x, y, borderMode)

        warping._remap_is_exact.cache_clear()
        monkeypatch.setattr(cv2, "remap", replacement)
        return warping._remap_is_exact()

    yield ask
    warping._remap_is_exact.cache_clear()


def test_an_opencv_that_blends_as_pytorch_does_is_exact(exact_with: Callable[..., bool]) -> None:
    assert exact_with(_remap_of_torch)


def test_an_opencv_that_rounds_points_to_a_32nd_of_a_pixel_is_not_exact(exact_with: Callable[..., bool]) -> None:
    assert not exact_with(
        lambda image, x, y, border: _remap_of_torch(image, np.rint(x * 32) / 32, np.rint(y * 32) / 32, border)
    )


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_opencv_that_is_off_with_one_border_and_number_of_channels_is_not_exact(
    exact_with: Callable[..., bool], border: int, channels: int
) -> None:
    asked = []

    def off_by_a_little(image: Floats, x: Floats, y: Floats, asked_border: int) -> Floats:
        read = _remap_of_torch(image, x, y, asked_border).copy()
        if (asked_border, image.size) == (border, image.shape[0] * image.shape[1] * channels):
            asked.append(asked_border)
            read[3, 4] += np.float32(1e-3)
        return read

    assert not exact_with(off_by_a_little)
    assert asked == [border]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("length", [2**15 - 2, 2**15 - 1, 2**15], ids=str)
@pytest.mark.parametrize("axis", ["across", "down"])
def test_a_frame_as_long_as_opencvs_remap_can_take_and_longer_is_read_whole(
    monkeypatch: pytest.MonkeyPatch, padding: str, length: int, axis: str
) -> None:
    monkeypatch.setattr(warping, "_remap_is_exact", lambda: True)
    ramp = (np.arange(length) * 250 // length).astype(np.uint8)
    frame = np.stack((ramp, ramp), 0 if axis == "across" else 1)
    pixels = np.array([0, 1000, length // 2, length - 1])
    far = (2 * pixels + 1) / length - 1
    near = np.full(4, -0.5)  # the centre of the first of two pixels
    x, y = (far, near) if axis == "across" else (near, far)
    grid = np.stack((x, y), -1)[None].astype(np.float32)
    transformer = _transformer(input_size=frame.shape, output_size=(1, 4), padding=padding)
    read = warp(frame, grid, transformer, PreprocessSpec(frame.shape[0], frame.shape[1], 1))
    # float32 places these points to 2^15 x 2^-24 pixels, OpenCV 4 to a 32nd, and neighbours are one level apart;
    # black outside is a whole level range apart from the last pixel
    np.testing.assert_allclose(read[0, 0], ramp[pixels] / 255, rtol=0, atol=0.005)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_frame_too_long_for_opencvs_remap_is_sampled_all_the_same(padding: str) -> None:
    frame = np.tile(np.arange(0, 250, dtype=np.uint8), 160)[None].repeat(2, axis=0)  # 2 x 40,000
    spec = PreprocessSpec(2, 40_000, 1)
    transformer = _transformer(input_size=(2, 40_000), output_size=(1, 3), padding=padding)
    columns = np.array([12, 20_100, 39_990])
    x = (2 * columns + 1) / 40_000 - 1
    grid = np.stack([x, np.zeros(3)], -1)[None].astype(np.float32)
    read = warp(frame, grid, transformer, spec)
    np.testing.assert_allclose(read[0, 0], frame[0, columns] / 255, atol=0.02)
