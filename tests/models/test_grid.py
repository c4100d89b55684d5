"""The grid generators against torch's affine_grid, scipy's thin-plate spline, plain numpy, and literals."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from scipy.spatial.distance import pdist
from torch import Tensor
from torch.nn import functional

from stn_models import (
    GRID_GENERATORS,
    AffineGrid,
    AttentionGrid,
    ProjectiveGrid,
    Sampler,
    SimilarityGrid,
    ThinPlateSplineGrid,
    make_grid,
)

Points = np.ndarray  # (M, 2), (x, y), float64
Reference = Callable[[Points, np.ndarray, tuple[int, int]], Points]

NAMES = list(GRID_GENERATORS)
SIZES = [(1, 1), (1, 7), (5, 1), (3, 5), (9, 4), (33, 57)]  # (height, width)
ALIGN = pytest.mark.parametrize("align_corners", [False, True], ids=["edges", "centres"])
CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])  # clockwise from the top left

pytestmark = pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior:UserWarning")


def torch_points(size: tuple[int, int], align_corners: bool) -> Points:
    """The output's pixels by torch's own affine_grid, row by row."""
    identity = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    return functional.affine_grid(identity, (1, 1, *size), align_corners=align_corners).reshape(-1, 2).numpy()


def attention_map(points: Points, theta: np.ndarray, _size: tuple[int, int]) -> Points:
    return points * theta[0] + theta[1:]


def similarity_map(points: Points, theta: np.ndarray, size: tuple[int, int]) -> Points:
    angle, scale, *translation = theta
    half = np.array([size[1] / 2, size[0] / 2])  # pixels in a unit of x and of y
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * (points * half) @ turn.T / half + translation


def affine_map(points: Points, theta: np.ndarray, _size: tuple[int, int]) -> Points:
    return points @ theta.reshape(2, 3)[:, :2].T + theta.reshape(2, 3)[:, 2]


def projective_map(points: Points, theta: np.ndarray, _size: tuple[int, int]) -> Points:
    mapped = np.c_[points, np.ones(len(points))] @ np.append(theta, 1.0).reshape(3, 3).T
    return mapped[:, :2] / mapped[:, 2:]


def tps_map(points: Points, theta: np.ndarray, _size: tuple[int, int]) -> Points:
    per_side = math.isqrt(len(theta) // 2)
    side = np.linspace(-1, 1, per_side)
    controls = np.array([(x, y) for y in side for x in side])
    return RBFInterpolator(controls, theta.reshape(-1, 2), kernel="thin_plate_spline", degree=1)(points)


REFERENCES: dict[str, Reference] = {
    "attention": attention_map,
    "similarity": similarity_map,
    "affine": affine_map,
    "projective": projective_map,
    "tps": tps_map,
}


def random_thetas(name: str, count: int, spread: float = 0.25) -> Tensor:
    """Thetas around the identity; at most 0.25 off, no output point comes near a horizon."""
    identity = make_grid(name, (2, 2)).identity().double()
    noise = torch.rand(count, len(identity), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return identity + (2 * noise - 1) * spread


# --- conventions ---


def test_convention_x_points_right_and_y_points_down() -> None:
    grid = AffineGrid((2, 4))(torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]))
    assert grid.shape == (1, 2, 4, 2)
    assert grid[0, :, :, 0].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2
    assert grid[0, :, :, 1].tolist() == [[-0.5] * 4, [0.5] * 4]


def test_convention_align_corners_puts_one_on_the_centres_of_the_border_pixels() -> None:
    grid = AffineGrid((2, 4), align_corners=True)(torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]))
    torch.testing.assert_close(grid[0, 0, :, 0], torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0]))
    assert grid[0, :, 0, 1].tolist() == [-1.0, 1.0]


def test_convention_edges_are_pixel_edges_unless_asked_otherwise() -> None:
    assert [make_grid(name, (2, 4)).align_corners for name in NAMES] == [False] * 5
    assert Sampler().align_corners is False


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        ([1.0, 0.0, 0.5, 0.0, 1.0, 0.0], [[1, 2, 3, 0], [5, 6, 7, 0]]),  # reads one pixel further right
        ([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [[4, 5, 6, 7], [0, 0, 0, 0]]),  # reads one pixel further down
        ([0.5, 0.0, 0.0, 0.0, 1.0, 0.0], [[0.75, 1.25, 1.75, 2.25], [4.75, 5.25, 5.75, 6.25]]),  # zooms in
        ([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [[3, 2, 1, 0], [7, 6, 5, 4]]),  # mirrors
    ],
    ids=["right", "down", "zoom", "mirror"],
)
def test_convention_theta_maps_output_to_input(theta: list[float], expected: list[list[float]]) -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 4)
    output = Sampler()(image, AffineGrid((2, 4))(torch.tensor([theta])))
    assert output[0, 0].tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_convention_outline_runs_clockwise_from_the_top_left(name: str) -> None:
    grid = make_grid(name, (2, 4))
    outline = grid.outline(grid.identity()[None])[0]
    expected = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    if name == "tps":
        expected = (
            [(x, -1.0) for x in (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)]
            + [(1.0, y) for y in (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)]
            + [(x, 1.0) for x in (1.0, 0.75, 0.5, 0.25, 0.0, -0.25, -0.5, -0.75)]
            + [(-1.0, y) for y in (1.0, 0.75, 0.5, 0.25, 0.0, -0.25, -0.5, -0.75)]
        )
    torch.testing.assert_close(outline, torch.tensor(expected), atol=1e-6, rtol=0)


def test_convention_positive_angle_turns_the_grid_clockwise() -> None:
    grid = SimilarityGrid((3, 3))(torch.tensor([[math.pi / 2, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(grid[0, 1, 2], torch.tensor([0.0, 2 / 3]))  # the right neighbour reads from below


def test_convention_tps_theta_lists_control_points_row_by_row_as_x_y() -> None:
    grid = ThinPlateSplineGrid((2, 4), points_per_side=2)
    assert grid.identity().tolist() == [-1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0]


# --- every generator against its formula ---


@ALIGN
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_identity_theta_reads_every_pixel_where_it_is(name: str, size: tuple[int, int], align_corners: bool) -> None:
    grid = make_grid(name, size, align_corners)
    points = grid(grid.identity()[None])
    assert points.shape == (1, *size, 2)
    assert points.dtype == torch.float32
    np.testing.assert_allclose(points.reshape(-1, 2), torch_points(size, align_corners), atol=1e-6)


@ALIGN
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_affine_grid_equals_torch_affine_grid(size: tuple[int, int], align_corners: bool) -> None:
    theta = 2 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    expected = functional.affine_grid(theta.view(4, 2, 3), (4, 1, *size), align_corners=align_corners)
    torch.testing.assert_close(AffineGrid(size, align_corners)(theta), expected, atol=2e-6, rtol=1e-6)


@ALIGN
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["attention", "affine", "projective", "tps"])
def test_grid_equals_its_formula(name: str, size: tuple[int, int], align_corners: bool) -> None:
    thetas = random_thetas(name, 3)
    grids = make_grid(name, size, align_corners)(thetas)
    for theta, grid in zip(thetas, grids, strict=True):
        expected = REFERENCES[name](torch_points(size, align_corners), theta.numpy(), size)
        np.testing.assert_allclose(grid.reshape(-1, 2), expected, atol=2e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_similarity_grid_is_a_rotation_in_pixels(size: tuple[int, int]) -> None:
    thetas = random_thetas("similarity", 5, spread=2.0)
    for theta, grid in zip(thetas, SimilarityGrid(size)(thetas), strict=True):
        expected = similarity_map(torch_points(size, align_corners=False), theta.numpy(), size)
        np.testing.assert_allclose(grid.reshape(-1, 2), expected, atol=5e-6)


@ALIGN
def test_similarity_grid_of_a_square_is_the_textbook_matrix(align_corners: bool) -> None:
    angle, scale, tx, ty = 0.7, 1.3, -0.2, 0.4
    matrix = torch.tensor(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), tx],
            [scale * math.sin(angle), scale * math.cos(angle), ty],
        ]
    )
    expected = functional.affine_grid(matrix[None], (1, 1, 5, 5), align_corners=align_corners)
    actual = SimilarityGrid((5, 5), align_corners)(torch.tensor([[angle, scale, tx, ty]]))
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)


@ALIGN
@pytest.mark.parametrize("size", [(5, 9), (9, 5), (28, 33)], ids=str)
def test_similarity_keeps_pixel_distances_on_images_that_are_not_square(
    size: tuple[int, int], align_corners: bool
) -> None:
    height, width = size
    span = torch.tensor([width - 1.0, height - 1.0]) if align_corners else torch.tensor([float(width), float(height)])
    turned = SimilarityGrid(size, align_corners)(torch.tensor([[0.6, 1.0, 0.3, -0.1]])).reshape(-1, 2) * span / 2
    rows, columns = np.mgrid[:height, :width]
    np.testing.assert_allclose(pdist(turned), pdist(np.c_[columns.ravel(), rows.ravel()]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "align_corners"),
    [(name, False) for name in NAMES] + [(name, True) for name in NAMES if name != "similarity"],
)
def test_outline_is_the_mapped_border(name: str, align_corners: bool) -> None:
    size, thetas = (3, 5), random_thetas(name, 3)
    outlines = make_grid(name, size, align_corners).outline(thetas)
    per_side = 8 if name == "tps" else 1
    assert outlines.shape == (3, 4 * per_side, 2)
    for theta, outline in zip(thetas, outlines, strict=True):
        for step in range(per_side):
            along = CORNERS + step / per_side * (np.roll(CORNERS, -1, axis=0) - CORNERS)
            np.testing.assert_allclose(outline[step::per_side], REFERENCES[name](along, theta.numpy(), size), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_outline_corners_are_the_corner_pixels_when_corners_are_aligned(name: str) -> None:
    grid, thetas = make_grid(name, (4, 7), align_corners=True), random_thetas(name, 2)
    points = grid(thetas)
    corners = torch.stack([points[:, 0, 0], points[:, 0, -1], points[:, -1, -1], points[:, -1, 0]], dim=1)
    torch.testing.assert_close(grid.outline(thetas)[:, :: grid.outline_points_per_side], corners, atol=1e-6, rtol=0)


NUMBER = st.floats(-3, 3, width=32)
SIZE = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(theta=st.lists(NUMBER, min_size=6, max_size=6), size=SIZE, align_corners=st.booleans())
def test_affine_grid_equals_torch_affine_grid_for_any_theta(
    theta: list[float], size: tuple[int, int], align_corners: bool
) -> None:
    given_theta = torch.tensor([theta])
    expected = functional.affine_grid(given_theta.view(1, 2, 3), (1, 1, *size), align_corners=align_corners)
    torch.testing.assert_close(AffineGrid(size, align_corners)(given_theta), expected, atol=2e-6, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(scale=NUMBER, tx=NUMBER, ty=NUMBER, size=SIZE, align_corners=st.booleans())
def test_attention_is_the_special_case_of_affine(
    scale: float, tx: float, ty: float, size: tuple[int, int], align_corners: bool
) -> None:
    matrix = torch.tensor([[[scale, 0.0, tx], [0.0, scale, ty]]])
    expected = functional.affine_grid(matrix, (1, 1, *size), align_corners=align_corners)
    actual = AttentionGrid(size, align_corners)(torch.tensor([[scale, tx, ty]]))
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(theta=st.lists(NUMBER, min_size=6, max_size=6), size=SIZE, align_corners=st.booleans())
def test_projective_without_perspective_is_affine(
    theta: list[float], size: tuple[int, int], align_corners: bool
) -> None:
    expected = functional.affine_grid(torch.tensor([theta]).view(1, 2, 3), (1, 1, *size), align_corners=align_corners)
    actual = ProjectiveGrid(size, align_corners)(torch.tensor([[*theta, 0.0, 0.0]]))
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(theta=st.lists(st.floats(-1000, 1000, width=32), min_size=8, max_size=8), size=SIZE)
def test_projective_grid_is_finite_for_any_theta(theta: list[float], size: tuple[int, int]) -> None:
    assert ProjectiveGrid(size)(torch.tensor([theta])).isfinite().all()


def test_batch_rows_do_not_influence_each_other() -> None:
    for name in NAMES:
        grid, thetas = make_grid(name, (3, 5)), random_thetas(name, 4).float()
        one_by_one = torch.cat([grid(theta[None]) for theta in thetas])
        torch.testing.assert_close(grid(thetas), one_by_one, atol=1e-6, rtol=0)


# --- projective ---


@pytest.mark.parametrize("tilt", [1.0, 3.0, 50.0], ids=["at", "behind", "far behind"])
def test_projective_points_at_or_behind_the_horizon_land_far_away_on_their_own_side(tilt: float) -> None:
    grid = ProjectiveGrid((3, 5), align_corners=True)
    points = grid(torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, tilt, 0.0]]))[0]  # denominator 1 + tilt x
    expected = torch.tensor([[-1000.0, -1000.0], [-1000.0, 0.0], [-1000.0, 1000.0]])  # x = -1: divided by 1e-3
    torch.testing.assert_close(points[:, 0], expected, atol=0.1, rtol=0)
    torch.testing.assert_close(points[1, 4], torch.tensor([1 / (1 + tilt), 0.0]))  # in front of it: untouched


def test_projective_gradients_stay_finite_at_the_horizon() -> None:
    theta = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -9.0, 9.0]])
    theta.requires_grad_()
    ProjectiveGrid((3, 5), align_corners=True)(theta).sum().backward()
    assert theta.grad is not None
    assert theta.grad.isfinite().all()


def test_projective_equals_the_four_point_homography_by_hand() -> None:
    # (x, y) -> (x, y) / (1 + x / 2): the right edge shrinks to 2/3, the left edge grows to 2
    outline = ProjectiveGrid((3, 5)).outline(torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0]]))[0]
    expected = torch.tensor([[-2.0, -2.0], [2 / 3, -2 / 3], [2 / 3, 2 / 3], [-2.0, 2.0]])
    torch.testing.assert_close(outline, expected)


# --- thin-plate spline ---


@pytest.mark.parametrize(("per_side", "size"), [(2, (2, 2)), (4, (4, 7)), (4, (7, 4)), (5, (5, 9))])
def test_tps_passes_exactly_through_its_control_points(per_side: int, size: tuple[int, int]) -> None:
    grid = ThinPlateSplineGrid(size, align_corners=True, points_per_side=per_side)
    theta = 3 * torch.randn(2, 2 * per_side**2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rows, columns = (size[0] - 1) // (per_side - 1), (size[1] - 1) // (per_side - 1)
    at_controls = grid(theta)[:, ::rows, ::columns]
    torch.testing.assert_close(at_controls, theta.view(2, per_side, per_side, 2), atol=2e-6, rtol=0)


@pytest.mark.parametrize("per_side", [2, 3, 6])
def test_tps_with_any_number_of_control_points_equals_scipys(per_side: int) -> None:
    grid = ThinPlateSplineGrid((5, 8), points_per_side=per_side)
    theta = torch.randn(1, 2 * per_side**2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = tps_map(torch_points((5, 8), align_corners=False), theta[0].numpy(), (5, 8))
    np.testing.assert_allclose(grid(theta).reshape(-1, 2), expected, atol=5e-6)


def test_tps_of_affinely_moved_control_points_is_that_affine_map() -> None:
    matrix = torch.tensor([[0.8, -0.3, 0.2], [0.1, 1.2, -0.4]])
    grid = ThinPlateSplineGrid((6, 9))
    controls = grid.identity().view(-1, 2)
    theta = (controls @ matrix[:, :2].T + matrix[:, 2]).reshape(1, -1)
    expected = functional.affine_grid(matrix[None], (1, 1, 6, 9), align_corners=False)
    torch.testing.assert_close(grid(theta), expected, atol=1e-6, rtol=0)


# --- gradients, precision, state, messages ---


@ALIGN
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_grid_and_outline_are_right(name: str, align_corners: bool) -> None:
    grid = make_grid(name, (3, 5), align_corners).double()
    theta = random_thetas(name, 2).requires_grad_()
    assert torch.autograd.gradcheck(grid, (theta,))
    assert torch.autograd.gradcheck(grid.outline, (theta,))


@pytest.mark.parametrize("name", NAMES)
def test_grid_has_the_type_of_theta(name: str) -> None:
    grid = make_grid(name, (3, 5))
    theta = grid.identity()[None]
    assert grid(theta.double()).dtype == torch.float64
    assert grid.outline(theta.double()).dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_translations_move_every_point_alike(name: str) -> None:
    grid = make_grid(name, (4, 6))
    apart = torch.tensor([0.25, -0.5])
    moved = grid((grid.identity() + apart @ grid.translations())[None])
    torch.testing.assert_close(moved, grid(grid.identity()[None]) + apart)


@pytest.mark.parametrize("name", NAMES)
def test_grid_generator_has_no_state_to_save(name: str) -> None:
    grid = make_grid(name, (3, 5))
    assert grid.state_dict() == {}
    assert list(grid.parameters()) == []


def test_generators_are_known_by_the_names_in_configs() -> None:
    sizes = {"attention": 3, "similarity": 4, "affine": 6, "projective": 8, "tps": 32}
    assert {name: make_grid(name, (3, 5)).theta_size for name in GRID_GENERATORS} == sizes
    assert [make_grid(name, (3, 5)).name for name in sizes] == list(sizes)


def test_unknown_generator_names_the_known_ones() -> None:
    known = "attention, similarity, affine, projective, tps"
    with pytest.raises(ValueError, match=f"^no grid generator 'afine'; choose from {known}, or tps2 to tps16 "):
        make_grid("afine", (3, 5))


@pytest.mark.parametrize("side", [2, 5, 16])
def test_a_thin_plate_may_have_other_numbers_of_control_points(side: int) -> None:
    grid = make_grid(f"tps{side}", (3, 5))
    assert grid.theta_size == 2 * side**2
    torch.testing.assert_close(
        grid(grid.identity()[None])[0], torch.from_numpy(torch_points((3, 5), False)).view(3, 5, 2).float()
    )


@pytest.mark.parametrize("name", ["tps1", "tps17", "tps04x", "affine3"])
def test_other_numbers_are_no_generators(name: str) -> None:
    with pytest.raises(ValueError, match=f"^no grid generator '{name}'"):
        make_grid(name, (3, 5))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_empty_output_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"output_size must be at least \(1, 1\), got \({size[0]}, {size[1]}\)"):
        make_grid(name, size)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 2, 3), (1, 7)], ids=str)
def test_theta_of_another_shape_is_refused_by_grid_and_outline(shape: tuple[int, ...]) -> None:
    grid = AffineGrid((3, 5))
    for use in (grid, grid.outline):
        with pytest.raises(ValueError, match=r"^AffineGrid: theta must be \(N, 6\), got \(") as caught:
            use(torch.zeros(shape))
        assert str(caught.value).endswith(f"got {shape}")


@pytest.mark.parametrize("per_side", [1, 0, -2])
def test_tps_needs_two_control_points_a_side(per_side: int) -> None:
    with pytest.raises(ValueError, match=f"points_per_side must be at least 2, got {per_side}$"):
        ThinPlateSplineGrid((3, 5), points_per_side=per_side)


def test_printing_a_generator_tells_its_options() -> None:
    assert repr(AffineGrid((3, 5))) == "AffineGrid(output_size=(3, 5), align_corners=False)"
    shown = repr(ThinPlateSplineGrid((3, 5), align_corners=True))
    assert shown == "ThinPlateSplineGrid(output_size=(3, 5), align_corners=True, points_per_side=4)"
