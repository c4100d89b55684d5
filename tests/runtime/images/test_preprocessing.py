"""From any picture to the network's input, with numbers worked out by hand, and back to where it came from."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import PreprocessSpec, preprocess
from stn_runtime.images.preprocessing import Fit, largest_reduction, place, seen_part

FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")


def _grey(*rows: list[int]) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def test_stretch_averages_each_block() -> None:
    picture = _grey([0, 10, 100, 200], [20, 30, 100, 200])
    np.testing.assert_array_equal(preprocess(picture, PreprocessSpec(1, 2, 1))[:, :, 0], [[15, 150]])


def test_stretch_changes_the_aspect_ratio() -> None:
    picture = np.repeat(_grey([0, 50, 100, 150, 200, 250]), 2, axis=0)  # 2 x 6
    np.testing.assert_array_equal(preprocess(picture, PreprocessSpec(2, 3, 1))[:, :, 0], [[25, 125, 225]] * 2)


def test_letterbox_fills_a_wide_picture_up_with_black_above_and_below() -> None:
    picture = np.full((2, 8), 200, np.uint8)  # 2 x 8 into 4 x 4: scaled by 1/2 to 1 x 4, 3 rows to spare: 1 above
    made = preprocess(picture, PreprocessSpec(4, 4, 1, fit="letterbox"))[:, :, 0]
    np.testing.assert_array_equal(made.sum(axis=1) // 800, [0, 1, 0, 0])


def test_letterbox_fills_a_tall_picture_up_with_black_on_both_sides() -> None:
    picture = np.full((12, 4), 90, np.uint8)  # by 1/2 to 6 x 2, centred in 6 x 8
    made = preprocess(picture, PreprocessSpec(6, 8, 1, fit="letterbox"))[:, :, 0]
    np.testing.assert_array_equal(made, np.tile(_grey([0, 0, 0, 90, 90, 0, 0, 0]), (6, 1)))


def test_letterbox_enlarges_a_small_picture() -> None:
    made = preprocess(np.full((1, 2), 7, np.uint8), PreprocessSpec(6, 8, 1, fit="letterbox"))[:, :, 0]
    np.testing.assert_array_equal(made, [[0] * 8, *[[7] * 8] * 4, [0] * 8])


def test_crop_cuts_the_longer_side_centred() -> None:
    picture = np.repeat(_grey([10, 20, 30, 40, 50, 60]), 2, axis=0)  # the middle 2 of 6 columns make a square
    np.testing.assert_array_equal(preprocess(picture, PreprocessSpec(2, 2, 1, fit="crop"))[:, :, 0], [[30, 40]] * 2)


def test_crop_cuts_rows_of_a_tall_picture() -> None:
    picture = np.repeat(_grey([10], [20], [30], [40], [50], [60], [70], [80]), 4, axis=1)  # 8 x 4, of it 2 x 4 are kept
    np.testing.assert_array_equal(preprocess(picture, PreprocessSpec(1, 2, 1, fit="crop"))[:, :, 0], [[45, 45]])


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_comes_through_unchanged(fit: Fit) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    np.testing.assert_array_equal(preprocess(picture, PreprocessSpec(6, 8, 3, fit=fit)), picture)


def test_area_averages_when_shrinking_where_linear_skips() -> None:
    picture = _grey([0, 0, 255, 0, 0, 0, 0, 0])
    area = preprocess(picture, PreprocessSpec(1, 2, 1))[:, :, 0]
    linear = preprocess(picture, PreprocessSpec(1, 2, 1, interpolation="linear"))[:, :, 0]
    np.testing.assert_array_equal(area, [[64, 0]])  # 255 / 4
    np.testing.assert_array_equal(linear, [[128, 0]])  # halfway between columns 1 and 2: pixel EDGES are aligned


def test_area_is_bilinear_when_enlarging() -> None:
    picture = _grey([0, 100])
    for interpolation in ("area", "linear"):
        made = preprocess(picture, PreprocessSpec(1, 4, 1, interpolation=interpolation))[:, :, 0]
        np.testing.assert_array_equal(made, [[0, 25, 75, 100]])


@pytest.mark.parametrize(
    ("rgb", "grey"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((9, 9, 9), 9)], ids=str
)
def test_rgb_becomes_grey_by_luma(rgb: tuple[int, int, int], grey: int) -> None:
    picture = np.full((3, 5, 3), rgb, np.uint8)  # 0.299, 0.587, 0.114
    made = preprocess(picture, PreprocessSpec(2, 2, 1))
    assert made.shape == (2, 2, 1)
    assert np.unique(made) == [grey]


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1)], ids=str)
def test_grey_becomes_rgb_with_equal_channels(shape: tuple[int, ...]) -> None:
    made = preprocess(np.full(shape, 77, np.uint8), PreprocessSpec(2, 4, 3))
    assert made.shape == (2, 4, 3)
    assert np.unique(made) == [77]


def test_rgb_keeps_the_order_of_its_channels() -> None:
    made = preprocess(np.full((4, 4, 3), (1, 2, 3), np.uint8), PreprocessSpec(2, 2, 3))
    np.testing.assert_array_equal(made[0, 0], [1, 2, 3])


def test_a_turned_round_view_of_an_opencv_frame_is_taken() -> None:
    frame = np.full((10, 20, 3), (3, 2, 1), np.uint8)
    made = preprocess(frame[::-1, ::2, ::-1], PreprocessSpec(4, 5, 3))
    np.testing.assert_array_equal(made, np.full((4, 5, 3), (1, 2, 3)))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (5, 2999), (2999, 7, 3)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_shape_gives_the_size_that_was_asked(fit: Fit, shape: tuple[int, ...], channels: int) -> None:
    made = preprocess(np.full(shape, 255, np.uint8), PreprocessSpec(6, 8, channels, fit=fit))
    assert made.shape == (6, 8, channels)
    assert made.dtype == np.uint8
    assert made.max() == 255


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((4, 4), np.float32), "must be a uint8 array, got float32"),
        (np.zeros((4, 4), np.uint16), "must be a uint8 array, got uint16"),
        (np.zeros((4, 4), bool), "must be a uint8 array, got bool"),
        ([[1, 2]], "must be a uint8 array, got list"),
        (None, "must be a uint8 array, got NoneType"),
        (np.zeros((4, 4, 4), np.uint8), r"\(H, W, 3\) RGB, got \(4, 4, 4\)"),
        (np.zeros((4, 4, 2), np.uint8), r"got \(4, 4, 2\)"),
        (np.zeros((3, 4, 5), np.uint8), r"got \(3, 4, 5\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \(1, 4, 4, 3\)"),
        (np.zeros(7, np.uint8), r"got \(7,\)"),
        (np.zeros((), np.uint8), r"got \(\)"),
        (np.zeros((0, 4), np.uint8), r"got \(0, 4\)"),
        (np.zeros((4, 0, 3), np.uint8), r"got \(4, 0, 3\)"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)
def test_what_is_no_picture_is_named(image: Any, told: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=told):
        preprocess(image, PreprocessSpec(6, 8, 1))


@pytest.mark.parametrize(
    ("fit", "corners"),
    [  # picture 100 x 200, input 20 x 20; (0, 0) is the CENTRE of the first pixel, so its edge is at -0.5
        ("stretch", [(-0.5, -0.5), (199.5, 99.5)]),
        ("letterbox", [(-0.5, -50.5), (199.5, 149.5)]),  # scaled by 1/10: the input covers 200 x 200
        ("crop", [(49.5, -0.5), (149.5, 99.5)]),  # scaled by 1/5: the input covers the middle 100 x 100
    ],
)
def test_corners_of_the_input_are_mapped_into_the_picture(fit: Fit, corners: list[tuple[float, float]]) -> None:
    placement = place(100, 200, PreprocessSpec(20, 20, 1, fit=fit))
    np.testing.assert_allclose(placement.to_pixels(np.array([[-1, -1], [1, 1]], np.float32)), corners)
    np.testing.assert_allclose(placement.to_pixels(np.zeros(2, np.float32)), (99.5, 49.5))


@pytest.mark.parametrize(
    ("fit", "size", "seen"),
    [
        ("crop", (720, 1280), (0, 280, 720, 1000)),
        ("crop", (1280, 720), (280, 0, 1000, 720)),
        ("crop", (100, 100), (0, 0, 100, 100)),
        ("letterbox", (720, 1280), (0, 0, 720, 1280)),
        ("stretch", (720, 1280), (0, 0, 720, 1280)),
    ],
)
def test_only_a_crop_leaves_pixels_unseen(fit: Fit, size: tuple[int, int], seen: tuple[int, int, int, int]) -> None:
    assert seen_part(*size, PreprocessSpec(28, 28, 1, fit)) == seen


def test_points_of_any_leading_shape_are_mapped() -> None:
    placement = place(100, 200, PreprocessSpec(20, 10, 1))
    points = np.zeros((2, 5, 2), np.float32)
    points[1, 4] = (0.5, -0.5)
    mapped = placement.to_pixels(points)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped[0, 0], (99.5, 49.5))
    np.testing.assert_allclose(mapped[1, 4], (149.5, 24.5))


@pytest.mark.parametrize(
    ("fit", "height", "width", "spec_height", "spec_width"),
    [
        ("stretch", 100, 200, 28, 28),
        ("stretch", 90, 41, 13, 17),
        ("letterbox", 100, 200, 28, 28),
        ("letterbox", 200, 100, 28, 28),
        ("letterbox", 480, 640, 24, 48),
        ("letterbox", 540, 1000, 28, 28),  # 15 rows of 28: 6 above, 7 below
        ("letterbox", 1000, 540, 28, 28),
        ("crop", 100, 200, 28, 28),
        ("crop", 200, 100, 28, 28),
        ("crop", 480, 640, 24, 48),
        ("crop", 40, 61, 80, 80),  # 40 of 61 columns: 10 left, 11 right
    ],
)
def test_a_marked_spot_lands_where_the_placement_says(
    fit: Fit, height: int, width: int, spec_height: int, spec_width: int
) -> None:
    spec = PreprocessSpec(spec_height, spec_width, 1, fit=fit)
    placement = place(height, width, spec)
    size = max(2, height // 10)
    pixel = max(2 * placement.scale[0] / spec_width, 2 * placement.scale[1] / spec_height)  # of the input, in picture's
    for x, y in [(0.5, 0.5), (0.4, 0.35), (0.55, 0.6)]:
        left, top = int(x * width), int(y * height)
        picture = np.zeros((height, width), np.uint8)
        picture[top : top + size, left : left + size] = 255
        made = preprocess(picture, spec)[:, :, 0].astype(np.float64)
        rows, columns = np.mgrid[:spec_height, :spec_width]
        column, row = (made * columns).sum() / made.sum(), (made * rows).sum() / made.sum()
        at = np.array([2 * (column + 0.5) / spec_width - 1, 2 * (row + 0.5) / spec_height - 1], np.float32)
        truth = (left + (size - 1) / 2, top + (size - 1) / 2)
        np.testing.assert_allclose(placement.to_pixels(at), truth, atol=0.3 * pixel)


@pytest.mark.parametrize(
    ("height", "width", "fit", "factor"),
    [
        (1080, 1920, "stretch", 8),
        (896, 896, "crop", 8),
        (895, 2000, "crop", 4),
        (895, 2000, "letterbox", 8),
        (224, 4000, "stretch", 2),
        (223, 4000, "stretch", 1),
        (30, 30, "crop", 1),
    ],
)
def test_a_reduced_picture_has_at_least_twice_the_pixels_of_the_input(
    height: int, width: int, fit: Fit, factor: int
) -> None:
    assert largest_reduction(height, width, PreprocessSpec(56, 56, 1, fit)) == factor
