"""Statistics of theta: distances by hand and against the textbook's formula, and when there are too few pictures."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime.model.theta_statistics import ThetaStatistics, describe_theta

PIXELS = np.array([0.1, 0.1])


def described(thetas: NDArray[np.float64], pixels: NDArray[np.float64]) -> ThetaStatistics:
    statistics = describe_theta(thetas, pixels)
    assert statistics is not None
    return statistics


@pytest.fixture(scope="module")
def correlated() -> NDArray[np.float64]:
    """500 thetas of three parameters that depend on each other."""
    mixing = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.2, 0.4]])
    return np.random.default_rng(0).normal(size=(500, 3)) @ mixing.T + (1, 0, -2)


def test_a_distance_is_counted_in_standard_deviations_along_each_direction() -> None:
    cross = np.tile([(8.0, 7.0), (2.0, 7.0), (5.0, 8.0), (5.0, 6.0)], (50, 1))
    statistics = described(cross, PIXELS)
    along_x, along_y = math.sqrt(100 * 9 / 199), math.sqrt(100 / 199)
    assert statistics.mean == (5, 7)
    assert statistics.pictures == 200
    points = [(5, 7), (5 + along_x, 7), (5, 7 - 2 * along_y), (5 + 3 * along_x, 7 + 4 * along_y)]
    assert statistics.distances(np.array(points)) == pytest.approx([0, 1, 2, 5], rel=1e-5)


def test_distances_are_those_of_the_inverse_covariance(correlated: NDArray[np.float64]) -> None:
    offsets = correlated - correlated.mean(axis=0)
    inverse = np.linalg.inv(offsets.T @ offsets / 499)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offsets, inverse, offsets))
    found = described(correlated, np.full(3, 0.01)).distances(correlated)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_pixel_may_differ_from_parameter_to_parameter(correlated: NDArray[np.float64]) -> None:
    expected = described(correlated, np.full(3, 0.01)).distances(correlated)
    found = described(correlated, np.array([0.01, 0.02, 0.05])).distances(correlated)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_parameter_that_never_moved_has_a_deviation_of_a_quarter_of_a_pixel() -> None:
    thetas = np.stack((np.linspace(-1, 1, 200), np.full(200, 0.3)), axis=1)
    statistics = described(thetas, PIXELS)
    assert statistics.distances(np.array([0.0, 0.3 + 2 * 0.025])) == pytest.approx(2, rel=1e-5)


def test_the_limit_is_a_quarter_above_what_999_of_1000_pictures_keep() -> None:
    even = np.stack((np.linspace(-1, 1, 20_001), np.zeros(20_001)), axis=1)  # its deviation is 1 / sqrt(3)
    assert described(even, PIXELS).limit == pytest.approx(1.25 * 0.999 * math.sqrt(3), rel=1e-3)


def test_the_limit_of_a_few_pictures_holds_for_new_ones() -> None:
    draws = [np.random.default_rng(seed).normal(size=(2250, 6)) for seed in range(20)]
    pixels = np.full(6, 0.01)
    few = [described(thetas[:250], pixels) for thetas in draws]
    fresh = [statistics.distances(thetas[250:]) for statistics, thetas in zip(few, draws, strict=True)]
    beyond = [np.mean(distances > statistics.limit) for statistics, distances in zip(few, fresh, strict=True)]
    without_margin = [np.mean(1.25 * distances > one.limit) for one, distances in zip(few, fresh, strict=True)]
    assert np.max(beyond) < 0.005
    assert np.max(without_margin) > 0.01


@pytest.mark.parametrize(("pictures", "parameters"), [(99, 3), (119, 6), (639, 32)])
def test_too_few_pictures_say_nothing(pictures: int, parameters: int) -> None:
    thetas = np.random.default_rng(0).normal(size=(pictures + 1, parameters))
    assert describe_theta(thetas[1:], np.full(parameters, 0.1)) is None
    assert describe_theta(thetas, np.full(parameters, 0.1)) is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_thetas_that_are_not_finite_say_nothing(bad: float) -> None:
    thetas = np.random.default_rng(0).normal(size=(200, 2))
    thetas[7, 1] = bad
    assert describe_theta(thetas, PIXELS) is None


def test_its_json_is_short_and_loses_nothing(correlated: NDArray[np.float64]) -> None:
    statistics = described(correlated.astype(np.float32), np.full(3, 0.01))
    text = json.dumps(asdict(statistics))
    assert len(text) < 300
    read = json.loads(text)
    rows = tuple(tuple(row) for row in read["whitening"])
    assert ThetaStatistics(tuple(read["mean"]), rows, read["limit"], read["pictures"]) == statistics


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-4])
def test_of_a_theta_that_hardly_moves_rounding_is_no_surprise_and_two_pixels_are(noise: float) -> None:
    thetas = np.tile([1.0, 0, 0, 0, 1, 0], (200, 1)) + noise * np.random.default_rng(0).standard_normal((200, 6))
    pixels = np.full(6, 2 / 28)
    statistics = describe_theta(thetas, pixels)
    assert statistics is not None
    assert statistics.fault() is None
    near, far = (thetas.mean(axis=0) + np.array([0, 0, shift * 2 / 28, 0, 0, 0]) for shift in (0.25, 2.0))
    assert statistics.distances(near) < statistics.limit < statistics.distances(far)
