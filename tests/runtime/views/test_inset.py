"""The inset: how large it is, which corner it takes, and that it stays there in a video."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime.views.inset import SteadyCorner, corners, hidden, inset_of
from stn_runtime.views.lettering import Box

WHOLE = Box(0, 0, 400, 300)


def _rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


@pytest.mark.parametrize("picture", [(240, 320), (480, 640), (720, 1280), (1280, 720), (4320, 7680)])
@pytest.mark.parametrize("rectified", [(28, 28), (32, 100), (100, 20), (224, 224), (500, 500, 3)])
def test_an_inset_hides_at_most_a_twentieth_of_the_shorter_side_squared(
    picture: tuple[int, int], rectified: tuple[int, ...]
) -> None:
    inset = inset_of(np.zeros(rectified, np.uint8), *picture)
    assert inset is not None
    assert 0.01 < inset.shape[0] * inset.shape[1] / min(picture) ** 2 <= 0.05
    assert inset.shape[1] / inset.shape[0] == pytest.approx(rectified[1] / rectified[0], rel=0.1)


def test_an_enlarged_inset_keeps_its_pixels() -> None:
    rectified = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    inset = inset_of(rectified, 480, 640)
    assert inset is not None
    factor = inset.shape[0] // 28
    np.testing.assert_array_equal(inset[::factor, ::factor, 0], rectified)


def test_a_picture_without_room_gets_no_inset() -> None:
    assert inset_of(np.zeros((28, 28), np.uint8), 6, 4000) is None


@pytest.mark.parametrize(
    ("region", "free"),
    [
        (_rectangle(0, 0, 300, 300), {0, 1}),
        (_rectangle(100, 0, 400, 300), {2, 3}),
        (_rectangle(0, 0, 400, 200), {0, 2}),
        (np.array([[0, 0], [400, 0], [0, 300]], float), {0}),
    ],
)
def test_a_corner_that_the_region_leaves_free_costs_least(region: NDArray[np.float64], free: set[int]) -> None:
    costs = hidden(corners((300, 400), (60, 60), 2), (300, 400), [region], WHOLE)
    assert {corner for corner, cost in enumerate(costs) if cost < min(costs) + 0.05} == free


@pytest.mark.parametrize("seed", range(15))
def test_the_cheapest_corner_is_that_with_the_least_overlap(seed: int) -> None:
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 6))  # a region around its centre
    radii = random.uniform(60, 260, (6, 1))
    region = random.uniform((100, 80), (300, 220)) + radii * np.stack((np.cos(angles), np.sin(angles)), 1)
    boxes = corners((300, 400), (60, 80), 2)
    overlaps = [_overlap(region, box) for box in boxes]
    costs = hidden(boxes, (300, 400), [region], WHOLE)
    assert overlaps[int(np.argmin(costs))] <= min(overlaps) + 0.06  # the map's pixels are three times as large


def _overlap(region: NDArray[np.float64], box: Box) -> float:
    """Return which share of a box's pixels lies in a region, by counting edges to the right of each pixel."""
    x, y = np.meshgrid(np.arange(box.left, box.right) + 0.5, np.arange(box.top, box.bottom) + 0.5)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(region, np.roll(region, -1, axis=0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < x0 + (y - y0) / (y1 - y0 if y1 != y0 else 1) * (x1 - x0))
    return float(inside.mean())


def test_what_is_not_seen_may_be_hidden() -> None:
    region = _rectangle(0, 0, 400, 300)
    costs = hidden(corners((300, 400), (60, 50), 0), (300, 400), [region], Box(50, 0, 330, 300))
    assert costs[2] == costs[3] == 0
    assert min(costs[:2]) == 0


def test_the_middle_of_the_region_is_hidden_last() -> None:
    region = _rectangle(-400, -300, 400, 300)  # its middle is the upper left corner of the picture
    costs = hidden(corners((300, 400), (60, 60), 2), (300, 400), [region], WHOLE)
    assert int(np.argmax(costs)) == 3


def test_an_outline_that_is_not_finite_counts_for_nothing() -> None:
    region = _rectangle(0, 0, 400, 300)
    region[1, 0] = np.nan
    costs = hidden(corners((300, 400), (60, 60), 2), (300, 400), [region], WHOLE)
    assert max(costs) == pytest.approx(min(costs))


def test_pictures_take_their_own_best_corner() -> None:
    corner = SteadyCorner()
    assert [corner.choose("folder", None, costs) for costs in ([0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0])] == [0, 1, 3]


def test_a_video_does_not_follow_a_region_that_trembles() -> None:
    corner = SteadyCorner()
    chosen = {corner.choose("cam", number / 30, [0.3 + 0.3 * (number % 2), 0.4, 1, math.inf]) for number in range(300)}
    assert chosen == {0}


def test_a_video_moves_its_inset_once_when_another_corner_is_better_for_good() -> None:
    corner = SteadyCorner()
    chosen = [corner.choose("cam", number / 30, [0, 1, 1, 1] if number < 90 else [1, 0, 1, 1]) for number in range(300)]
    assert chosen[:90] == [0] * 90
    assert chosen[-1] == 1
    assert sum(first != second for first, second in pairwise(chosen)) == 1
    assert 93 < chosen.index(1) < 150  # after a good part of a second, within two


def test_a_corner_that_text_takes_is_left_at_once() -> None:
    corner = SteadyCorner()
    assert corner.choose("cam", 0.0, [0, 1, 2, math.inf]) == 0
    assert corner.choose("cam", 0.1, [math.inf, 1, 2, math.inf]) == 1


def test_each_source_has_a_corner_of_its_own() -> None:
    corner = SteadyCorner()
    for moment in (0.0, 0.1, 0.2):
        assert corner.choose("left", moment, [0, 1, 1, 1]) == 0
        assert corner.choose("right", moment, [1, 0, 1, 1]) == 1


def test_a_video_that_begins_again_begins_with_its_best_corner() -> None:
    corner = SteadyCorner()
    corner.choose("clip", 9.0, [0, 1, 1, 1])
    assert corner.choose("clip", 0.0, [1, 0, 1, 1]) == 1
