"""Known placements: theta shows an image exactly where, and the way round, that it was asked to."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from stn_models import ProjectiveGrid, Sampler, SimilarityGrid
from stn_training.geometry import CORNERS, homography_theta, similarity_theta

SIDE, CANVAS = 28, 42


@pytest.fixture(scope="module")
def smooth() -> NDArray[np.float32]:
    """A smooth asymmetric picture, dark at its border."""
    noise = np.random.default_rng(3).random((SIDE, SIDE)).astype(np.float32)
    noise[:5] = noise[-5:] = noise[:, :5] = noise[:, -5:] = 0
    return ndimage.gaussian_filter(noise, 2.0)


def to_pixels(points: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Normalised coordinates, edges at -1 and 1, as pixels with 0 the centre of the first."""
    return (points + 1) * side / 2 - 0.5


def warped_by_scipy(image: NDArray[np.float32], output_to_input: NDArray[np.float64], canvas: int) -> NDArray:
    """Read ``image`` at 3 x 3 ``output_to_input`` of normalised output coordinates; zeros outside."""
    axis = (2 * np.arange(canvas) + 1) / canvas - 1
    x, y = np.meshgrid(axis, axis)
    read = output_to_input @ np.stack([x.ravel(), y.ravel(), np.ones(canvas * canvas)])
    columns, rows = to_pixels(read[:2] / read[2], len(image))
    return ndimage.map_coordinates(image, [rows, columns], order=1, mode="grid-constant").reshape(canvas, canvas)


def shown(image: NDArray[np.float32], grid: torch.nn.Module, theta: Tensor) -> NDArray[np.float32]:
    return Sampler()(torch.from_numpy(image)[None, None], grid(theta))[0, 0].numpy()


@pytest.mark.parametrize(
    ("degrees", "share", "centre"),
    [(0, 1.0, (0.0, 0.0)), (30, 0.6, (0.2, -0.3)), (-75, 0.8, (-0.1, 0.15)), (170, 1.3, (0.0, 0.4))],
)
def test_a_similarity_places_the_image_as_scipy_does(
    smooth: NDArray[np.float32], degrees: float, share: float, centre: tuple[float, float]
) -> None:
    angle = math.radians(degrees)
    # image -> output: counter-clockwise on the picture, where y points down
    forward = np.array(
        [
            [share * math.cos(angle), share * math.sin(angle), centre[0]],
            [-share * math.sin(angle), share * math.cos(angle), centre[1]],
            [0, 0, 1],
        ]
    )
    theta = similarity_theta(torch.tensor([angle]), torch.tensor([share]), torch.tensor([centre]))
    expected = warped_by_scipy(smooth, np.linalg.inv(forward), CANVAS)
    np.testing.assert_allclose(shown(smooth, SimilarityGrid((CANVAS, CANVAS)), theta), expected, atol=2e-5)
    assert expected.max() > 0.2


def test_a_positive_angle_turns_the_image_counter_clockwise() -> None:
    image = np.zeros((SIDE, SIDE), np.float32)
    image[13:15, 22:26] = 1  # to the right of the centre
    theta = similarity_theta(torch.tensor([math.pi / 2]), torch.ones(1), torch.zeros(1, 2))
    turned = shown(image, SimilarityGrid((SIDE, SIDE)), theta)
    np.testing.assert_allclose(turned, np.rot90(image), atol=1e-5)  # numpy turns counter-clockwise
    assert turned[2:6, 13:15].min() > 0.99


def test_a_share_of_a_half_shows_the_image_in_the_middle_half() -> None:
    theta = similarity_theta(torch.zeros(1), torch.tensor([0.5]), torch.zeros(1, 2))
    seen = shown(np.ones((20, 20), np.float32), SimilarityGrid((40, 40)), theta)
    expected = np.zeros((40, 40), np.float32)
    expected[10:30, 10:30] = 1
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_the_centre_is_where_the_middle_of_the_image_appears() -> None:
    image = np.zeros((21, 21), np.float32)
    image[10, 10] = 1
    theta = similarity_theta(torch.tensor([0.7]), torch.tensor([0.5]), torch.tensor([[0.5, -0.5]]))
    seen = shown(image, SimilarityGrid((84, 84)), theta)
    rows, columns = ndimage.center_of_mass(seen)
    assert (rows, columns) == pytest.approx((84 * 0.25 - 0.5, 84 * 0.75 - 0.5), abs=0.05)


QUADS = {
    "whole": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "keystone": [(-0.5, -0.8), (0.6, -0.7), (0.95, 0.9), (-0.9, 0.8)],
    "turned": [(0.8, -0.6), (0.7, 0.7), (-0.7, 0.8), (-0.6, -0.7)],
}


@pytest.mark.parametrize("quad", QUADS.values(), ids=QUADS)
def test_a_homography_places_the_image_as_opencv_does(
    smooth: NDArray[np.float32], quad: list[tuple[float, float]]
) -> None:
    corners = np.array(quad, np.float64)
    unit = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    matrix = cv2.getPerspectiveTransform(
        to_pixels(unit, SIDE).astype(np.float32), to_pixels(corners, CANVAS).astype(np.float32)
    )
    expected = cv2.warpPerspective(smooth, matrix, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR)
    theta = homography_theta(torch.tensor(corners, dtype=torch.float32)[None])
    # OpenCV's bilinear weights have five bits
    np.testing.assert_allclose(shown(smooth, ProjectiveGrid((CANVAS, CANVAS)), theta), expected, atol=5e-3)
    assert expected.max() > 0.2


@pytest.mark.parametrize("quad", QUADS.values(), ids=QUADS)
def test_a_homography_maps_the_corners_of_the_output_quad_to_those_of_the_image(
    quad: list[tuple[float, float]],
) -> None:
    theta = homography_theta(torch.tensor([quad], dtype=torch.float32))[0].double().numpy()
    matrix = np.append(theta, 1).reshape(3, 3)
    mapped = matrix @ np.column_stack([quad, np.ones(4)]).T
    np.testing.assert_allclose((mapped[:2] / mapped[2]).T, [(-1, -1), (1, -1), (1, 1), (-1, 1)], atol=1e-5)


def test_the_corners_run_clockwise_from_the_top_left() -> None:
    assert CORNERS.tolist() == [[-1, -1], [1, -1], [1, 1], [-1, 1]]


def test_thetas_are_made_a_batch_at_a_time() -> None:
    quads = torch.tensor(list(QUADS.values()))
    together = homography_theta(quads)
    assert together.shape == (3, 8)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], homography_theta(quads[index : index + 1]))
    assert similarity_theta(torch.zeros(5), torch.ones(5), torch.zeros(5, 2)).tolist() == [[0, 1, 0, 0]] * 5
