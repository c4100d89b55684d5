"""Lines cut at the edges of a rectangle, against points that are counted one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime.views.clipping import clipped_segments, covered_intervals

FRAME = (-0.5, -0.5, 99.5, 49.5)


def _clipped(start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float64]:
    return clipped_segments(np.array([start], float), np.array([end], float), FRAME)


def test_a_line_within_stays_as_it_is() -> None:
    np.testing.assert_array_equal(_clipped((1, 2), (30, 40)), [[[1, 2], [30, 40]]])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((-100.5, 20), (99.5, 20), [[-0.5, 20], [99.5, 20]]),
        ((10, -1000.5), (10, 1000), [[10, -0.5], [10, 49.5]]),
        ((-10.5, -10.5), (9.5, 9.5), [[-0.5, -0.5], [9.5, 9.5]]),
        ((200, 10), (0, 10), [[99.5, 10], [0, 10]]),
    ],
)
def test_a_line_that_leaves_ends_at_the_edge(
    start: tuple[float, float], end: tuple[float, float], expected: object
) -> None:
    np.testing.assert_allclose(_clipped(start, end), [expected], atol=1e-9)


@pytest.mark.parametrize(
    ("start", "end"),
    [((-50, 70), (150, 70)), ((-5, 0), (-1, 49)), ((120, 10), (130, 20)), ((-10, 5), (5, -10)), ((200, 0), (200, 49))],
)
def test_a_line_that_misses_gives_nothing(start: tuple[float, float], end: tuple[float, float]) -> None:
    assert _clipped(start, end).shape == (0, 2, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_line_without_an_end_gives_nothing(value: float) -> None:
    assert len(_clipped((10, 10), (value, 10))) == len(_clipped((10, value), (10, 10))) == 0


def test_far_ends_cost_no_accuracy() -> None:
    np.testing.assert_allclose(_clipped((-1e9, 25), (1e9, 25)), [[[-0.5, 25], [99.5, 25]]], atol=1e-5)
    assert np.isfinite(_clipped((-1e300, 25), (1e300, 26))).all()


@pytest.mark.parametrize("seed", range(20))
def test_points_of_the_part_are_those_points_of_the_line_that_lie_within(seed: int) -> None:
    random = np.random.default_rng(seed)
    start, end = random.uniform(-100, 200, (2, 2))
    shares = np.linspace(0, 1, 2001)[:, None]
    points = start + shares * (end - start)
    within = points[((points >= FRAME[:2]) & (points <= FRAME[2:])).all(1)]
    part = _clipped(tuple(start), tuple(end))
    length = np.linalg.norm(end - start)
    kept = np.linalg.norm(part[:, 1] - part[:, 0], axis=1).sum()
    assert kept == pytest.approx(length * len(within) / len(points), abs=length / 500)


def test_a_square_covers_one_stretch_of_a_line() -> None:
    square = np.array([[10, 10], [40, 10], [40, 30], [10, 30]], float)
    assert covered_intervals(square, 1, 20) == [(10, 40)]
    assert covered_intervals(square, 0, 20) == [(10, 30)]
    assert covered_intervals(square, 1, 5) == covered_intervals(square, 0, 45) == []


def test_a_region_of_two_prongs_covers_two_stretches() -> None:
    fork = np.array([[0, 0], [10, 40], [20, 10], [30, 40], [40, 0]], float)
    (first, second), (third, fourth) = covered_intervals(fork, 1, 25)
    assert (first, second, third, fourth) == pytest.approx((6.25, 15, 25, 33.75))


@pytest.mark.parametrize("seed", range(20))
def test_the_stretches_are_the_points_that_are_inside(seed: int) -> None:
    random = np.random.default_rng(seed)
    polygon = random.integers(-10, 60, (7, 2)).astype(float)  # whole numbers: corners often lie on the line
    for axis in (0, 1):
        for level in (0.0, 17.0, 30.5):
            intervals = covered_intervals(polygon, axis, level)
            for along in np.arange(-20, 80, 1.37):
                point = (level, along) if axis == 0 else (along, level)
                turns = _crossings_to_the_right(polygon, axis, point)
                assert any(low < along < high for low, high in intervals) == (turns % 2 == 1)


def _crossings_to_the_right(polygon: NDArray[np.float64], axis: int, point: tuple[float, float]) -> int:
    """Count the edges that a ray from the point along the line meets; the line is moved by a hair off the corners."""
    level, along = point[axis] + 1e-9, point[1 - axis]
    count = 0
    for first, second in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (first[axis] - level) * (second[axis] - level) < 0:
            share = (level - first[axis]) / (second[axis] - first[axis])
            count += first[1 - axis] + share * (second[1 - axis] - first[1 - axis]) > along
    return int(count)
