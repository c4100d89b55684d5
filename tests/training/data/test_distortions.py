"""The distorted digits: each distortion does what the paper says, and only the generator decides how."""

import math
import random

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from stn_models import AffineGrid, Sampler, ThinPlateSplineGrid
from stn_training.data.distortions import DISTORTIONS, distort, distorted_by, parse_mixture, resample, shares

NO_REJECT = torch.zeros(100, dtype=torch.bool)
CANVAS = {"r": 28, "rts": 42, "p": 28, "e": 28, "tc": 60, "scene": 160, "camera": 56, "rts-apart": 42}
NAMES = sorted(set(CANVAS) - {"rts-apart"})  # is for three channels
WARPS = ["e", "p", "r", "rts"]


def apply(name: str, images: Tensor, seed: int = 0) -> Tensor:
    return DISTORTIONS[name].apply(images, torch.Generator().manual_seed(seed)).images


def coordinates(count: int, side: int = 28) -> Tensor:
    """Images whose channels say where they are read: x, y (0 to 1 over the picture), and 1."""
    axis = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)]).expand(count, 3, side, side).clone()


def read_at(warped: Tensor) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each distorted coordinate image: output points and the input points they read, normalised to [-1, 1]."""
    side = warped.shape[-1]
    axis = (2 * np.arange(side) + 1) / side - 1
    pairs = []
    for x, y, ones in warped.double().numpy():
        inside = (ones > 0.9999) & (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) > 1 / 28)
        rows, columns = np.nonzero(inside)
        pairs.append((np.stack([axis[columns], axis[rows]], 1), np.stack([x, y], -1)[inside] * 2 - 1))
    return pairs


def affine_fits(name: str, count: int) -> NDArray[np.float64]:
    """The (2, 3) matrices, output to input, that the distortion used."""
    fits = []
    for output, read in read_at(apply(name, coordinates(count))):
        matrix, *_ = np.linalg.lstsq(np.column_stack([output, np.ones(len(output))]), read, rcond=None)
        residual = np.abs(np.column_stack([output, np.ones(len(output))]) @ matrix - read).max()
        assert residual < 1e-4, "not affine"
        fits.append(matrix.T)
    return np.stack(fits)


def test_the_distortions_are_those_of_the_paper_and_the_camera() -> None:
    assert {name: distortion.canvas for name, distortion in DISTORTIONS.items()} == CANVAS
    assert all(distortion.description for distortion in DISTORTIONS.values())


@pytest.mark.parametrize("name", NAMES)
def test_it_returns_float_pictures_on_its_own_canvas(name: str, digits: Tensor) -> None:
    distorted = apply(name, digits)
    assert distorted.shape == (100, 1, CANVAS[name], CANVAS[name])
    assert distorted.dtype == torch.float32
    assert distorted.min() >= 0
    assert distorted.max() <= 1
    assert (distorted.flatten(1).std(dim=1) > 0.005).all(), "an empty picture"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_it_takes_batches_of_any_size(name: str, count: int, digits: Tensor) -> None:
    assert apply(name, digits[:count]).shape == (count, 1, CANVAS[name], CANVAS[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_pictures_and_another_seed_gives_others(name: str, digits: Tensor) -> None:
    first = apply(name, digits, seed=5)
    assert torch.equal(first, apply(name, digits, seed=5))
    other = apply(name, digits, seed=6)
    assert ((first - other).abs().amax(dim=(1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("name", NAMES)
def test_global_random_numbers_neither_decide_nor_move(name: str, digits: Tensor) -> None:
    torch.manual_seed(1)
    first = apply(name, digits)
    torch.manual_seed(2)
    state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert torch.equal(first, apply(name, digits))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert python_state == random.getstate()


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_its_input_as_it_was(name: str, digits: Tensor) -> None:
    before = digits.clone()
    apply(name, digits)
    assert torch.equal(before, digits)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_batch_from_one_generator_is_distorted_otherwise(name: str, digits: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(
        DISTORTIONS[name].apply(digits, generator).images, DISTORTIONS[name].apply(digits, generator).images
    )


@pytest.mark.parametrize("name", WARPS)
def test_each_picture_comes_from_its_own_image_alone(name: str, digits: Tensor) -> None:
    everything = apply(name, digits)
    alone = torch.zeros_like(digits)
    alone[7] = digits[7]
    distorted = apply(name, alone)
    torch.testing.assert_close(distorted[7], everything[7])
    assert distorted[:7].abs().max() == 0
    assert distorted[8:].abs().max() == 0


def test_r_turns_by_up_to_ninety_degrees_about_the_centre() -> None:
    matrices = affine_fits("r", 400)
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(matrices[:, :, :2]), 1, atol=1e-4)
    np.testing.assert_allclose(matrices[:, :, 2], 0, atol=1e-4)
    assert -90 <= angles.min() < -85
    assert 85 < angles.max() <= 90
    assert np.abs(np.histogram(angles, bins=4, range=(-90, 90))[0] - 100).max() < 40  # evenly


def test_r_keeps_the_ink(digits: Tensor) -> None:
    ratio = apply("r", digits).sum(dim=(1, 2, 3)) / digits.sum(dim=(1, 2, 3))
    np.testing.assert_allclose(ratio, 1, atol=0.06)
    assert abs(float(ratio.mean()) - 1) < 0.01


def test_rts_turns_by_up_to_forty_five_degrees_and_stays_in_view() -> None:
    matrices = affine_fits("rts", 400)
    linear = matrices[:, :, :2]
    angles = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -45 <= angles.min() < -42
    assert 42 < angles.max() <= 45
    share = 1 / np.sqrt(np.linalg.det(linear))  # of the canvas
    factors = share * 42 / 28
    assert 0.7 <= factors.min() + 1e-4 < 0.72
    assert 1.18 < factors.max() - 1e-4 <= 1.2
    assert abs(factors.mean() - 0.95) < 0.03
    centre = -np.einsum("nij,nj->ni", np.linalg.inv(linear), matrices[:, :, 2])
    assert (np.abs(centre) <= (1 - share)[:, None] + 1e-4).all()
    assert np.abs(centre / (1 - share)[:, None]).max() > 0.95


def test_rts_scales_by_seven_tenths_to_twelve_tenths_as_bounding_boxes_show() -> None:
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    disc = (10.5 - (x.square() + y.square()).sqrt()).clamp(0, 1)  # 20 pixels across at half height, turned or not
    pictures = apply("rts", disc.expand(300, 1, 28, 28))[:, 0] > 0.5
    heights = pictures.any(dim=2).sum(dim=1)
    widths = pictures.any(dim=1).sum(dim=1)
    assert (heights - widths).abs().max() <= 2
    assert 13 <= int(heights.min()) <= 15  # 14
    assert 23 <= int(heights.max()) <= 25  # 24


def test_rts_apart_is_rts_of_the_first_channel_and_another_of_the_others(digits: Tensor) -> None:
    two = torch.cat([digits, digits.flip(0).expand(-1, 2, -1, -1)], dim=1)
    apart = apply("rts-apart", two, seed=3)
    generator = torch.Generator().manual_seed(3)
    for channels, source in (([0], digits), ([1, 2], digits.flip(0))):
        expected = DISTORTIONS["rts"].apply(source, generator).images
        torch.testing.assert_close(apart[:, channels], expected.expand(-1, len(channels), -1, -1))
    assert not torch.equal(apart[:, :1], apply("rts", digits.flip(0), seed=3))


def test_p_stretches_each_corner_by_five_pixels_along_its_diagonal_about_a_scaled_square() -> None:
    corners = []
    for output, read in read_at(apply("p", coordinates(600))):
        if len(output) < 60:
            continue  # folded nearly flat: too few points to fit
        u, v, one, zero = output[:, 0], output[:, 1], np.ones(len(output)), np.zeros((len(output), 3))
        plain = np.column_stack([u, v, one])
        system = np.vstack(
            [
                np.hstack([plain, zero, -read[:, :1] * plain]),
                np.hstack([zero, plain, -read[:, 1:] * plain]),
            ]
        )
        matrix = np.linalg.eigh(system.T @ system)[1][:, 0].reshape(3, 3)  # least squares, up to scale
        back = np.linalg.inv(matrix) @ np.array([(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)], float).T
        corners.append((back[:2] / back[2]).T)
    assert len(corners) > 550
    found = np.stack(corners)
    centre = np.median(found, axis=0)
    np.testing.assert_allclose(centre, 0.875 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]), atol=0.07)
    middle = np.quantile(found - centre, [0.1587, 0.8413], axis=0)  # one standard deviation either way
    spread = (middle[1] - middle[0]) / 2
    expected = math.hypot(5 / 14 / math.sqrt(2), 0.25 / math.sqrt(12))
    np.testing.assert_allclose(spread, expected, rtol=0.15)
    np.testing.assert_allclose(np.abs(found[:, :, 0]), np.abs(found[:, :, 1]), atol=0.05)


def test_e_moves_control_points_by_one_and_a_half_pixels_about_a_scaled_square() -> None:
    warped = apply("e", coordinates(500)).double().numpy()
    at = (np.array([-1, 1]) / 3 + 1) * 14 - 0.5  # the inner control points, in pixels
    rows, columns = np.meshgrid(at, at, indexing="ij")
    points = [rows.ravel(), columns.ravel()]
    read = np.stack([[ndimage.map_coordinates(channel, points, order=1) for channel in image] for image in warped])
    assert read[:, 2].min() > 0.999  # never outside
    found = read[:, :2] * 2 - 1  # (N, 2, 4)
    signs = np.array([[-1, 1, -1, 1], [-1, -1, 1, 1]])
    mean_inverse = math.log(1 / 0.75) / 0.25  # of a scale drawn evenly from 0.75 to 1
    np.testing.assert_allclose(found.mean(axis=0), signs / 3 * mean_inverse, atol=0.02)
    inverse_spread = math.sqrt(1 / 0.75 - mean_inverse**2) / 3
    np.testing.assert_allclose(found.std(axis=0), math.hypot(1.5 / 14, inverse_spread), rtol=0.12)


def test_the_elastic_warp_is_scipys_thin_plate_spline(digits: Tensor) -> None:
    side = np.linspace(-1, 1, 4)
    controls = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    read = controls / 0.85 + np.random.default_rng(0).normal(0, 1.5 / 14, controls.shape)
    axis = (2 * np.arange(28) + 1) / 28 - 1
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    columns, rows = ((RBFInterpolator(controls, read, kernel="thin_plate_spline")(points) + 1) * 14 - 0.5).T
    expected = ndimage.map_coordinates(digits[3, 0].numpy(), [rows, columns], order=1, mode="grid-constant")
    theta = torch.tensor(read.ravel(), dtype=torch.float32)[None]
    actual = Sampler()(digits[3:4], ThinPlateSplineGrid((28, 28))(theta))[0, 0].numpy()
    np.testing.assert_allclose(actual, expected.reshape(28, 28), atol=1e-4)


def test_tc_shows_the_whole_digit(digits: Tensor) -> None:
    windows = torch.nn.functional.unfold(apply("tc", digits[:30]), 28)  # (N, 784, 33 * 33)
    covered = (windows >= digits[:30].flatten(1)[:, :, None]).all(dim=1)
    assert covered.any(dim=1).all()


def test_tc_adds_six_patches_of_six_by_six_pixels() -> None:
    grey = torch.full((300, 1, 28, 28), 0.5)
    pictures = apply("tc", grey)[:, 0]
    assert set(pictures.unique().tolist()) == {0.0, 0.5}
    extra = (pictures > 0).sum(dim=(1, 2)) - 28 * 28
    assert extra.min() >= 0
    assert extra.max() == 6 * 36  # six that touch neither the digit nor one another
    for picture in pictures[extra == 6 * 36][:10].numpy():
        boxes = ndimage.find_objects(ndimage.label(picture)[0])
        sides = [(box[0].stop - box[0].start, box[1].stop - box[1].start) for box in boxes]
        assert max(sides) >= (28, 28)
    isolated = 0
    for picture in pictures[extra == 6 * 36].numpy():
        boxes = ndimage.find_objects(ndimage.label(picture)[0])
        isolated += sum((box[0].stop - box[0].start, box[1].stop - box[1].start) == (6, 6) for box in boxes)
    assert isolated > 0


def test_tc_puts_the_digit_anywhere() -> None:
    bright = torch.zeros(400, 1, 28, 28)
    bright[:, :, 0, 0] = 1  # a corner that a 6 x 6 patch also may show
    pictures = apply("tc", bright)[:, 0]
    rows, columns = torch.nonzero(pictures[:, :33, :33].amax(dim=0) > 0, as_tuple=True)
    assert int(rows.min()) == 0
    assert int(rows.max()) == 32
    assert int(columns.min()) == 0
    assert int(columns.max()) == 32


@pytest.mark.parametrize(("side", "size"), [(28, 56), (28, 43), (42, 60), (56, 57)])
def test_enlarging_equals_opencvs_bilinear_resize(side: int, size: int) -> None:
    images = torch.rand(3, 2, side, side, generator=torch.Generator().manual_seed(1))
    actual = resample(images, size)
    for index in range(3):
        for channel in range(2):
            expected = cv2.resize(images[index, channel].numpy(), (size, size), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(actual[index, channel].numpy(), expected, atol=2e-5)


def test_images_of_the_right_size_are_not_resampled() -> None:
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(resample(images, 28), images)


def test_images_are_never_shrunk_silently() -> None:
    with pytest.raises(ValueError, match=r"60 pixels do not fit a network of 28; give image_size 60"):
        resample(torch.zeros(1, 1, 60, 60), 28)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rts", (("rts", 1.0),)),
        ("none", (("none", 1.0),)),
        ("camera:0.6,rts:0.3,none:0.1", (("camera", 0.6), ("rts", 0.3), ("none", 0.1))),
        (" camera : 0.5 , r:0.5 ", None),
        ("r:0.5, e:0.5", (("r", 0.5), ("e", 0.5))),
        ("r:1", (("r", 1.0),)),
        ("r:0,e:1", (("r", 0.0), ("e", 1.0))),
        ("r:.3333333,e:.3333333,p:.3333334", (("r", 0.3333333), ("e", 0.3333333), ("p", 0.3333334))),
    ],
)
def test_a_mixture_is_names_with_shares(text: str, expected: tuple[tuple[str, float], ...] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="no distortion 'camera '"):
            parse_mixture(text)
        return
    assert parse_mixture(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("swirl", "no distortion 'swirl'; choose from none, r, rts, rts-apart, p, e, tc, scene, camera"),
        ("", "no distortion ''; choose from none, r"),
        ("r:0.5,,e:0.5", "no distortion ''"),
        ("R", "no distortion 'R'"),
        ("r:much", "the share of distortion 'r' must be a number, got 'much'"),
        ("r:0.5", r"'r:0\.5' add up to 0\.5, not to 1"),
        ("r,e", "'r,e' add up to 2, not to 1"),
        ("r:inf", "share of distortion 'r' must be between 0 and 1, got inf"),
    ],
)
def test_a_bad_mixture_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_mixture(text)


def test_a_share_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        parse_mixture("r:nan")


def test_a_negative_share_is_called_negative() -> None:
    with pytest.raises(ValueError, match=r"share of distortion 'r' must be between 0 and 1, got -0.5"):
        parse_mixture("camera:1,r:-0.5")


def test_shares_cut_a_batch_in_order_and_leave_nothing_out() -> None:
    images = torch.arange(10.0).view(10, 1, 1, 1)
    parts = list(shares(images, (("camera", 0.6), ("rts", 0.25), ("none", 0.15))))
    assert [name for name, _ in parts] == ["camera", "rts", "none"]
    assert [len(part) for _, part in parts] == [6, 2, 2]
    assert torch.equal(torch.cat([part for _, part in parts]), images)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 128])
def test_shares_of_any_batch_add_up_to_it(count: int) -> None:
    mixture = (("r", 1 / 3), ("e", 1 / 3), ("none", 1 / 3))
    parts = list(shares(torch.zeros(count, 1, 1, 1), mixture))
    assert sum(len(part) for _, part in parts) == count
    assert all(len(part) for _, part in parts)


def test_a_mixture_brings_every_part_to_one_size_in_the_order_of_the_batch(digits: Tensor) -> None:
    mixed = distort(
        digits[:20], (("none", 0.5), ("rts", 0.5)), 56, torch.Generator().manual_seed(0), NO_REJECT[:20]
    ).images
    assert mixed.shape == (20, 1, 56, 56)
    for index in range(10):
        expected = cv2.resize(digits[index, 0].numpy(), (56, 56), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(mixed[index, 0].numpy(), expected, atol=2e-5)
    small = apply("rts", digits[10:20])
    for index in range(10):
        expected = cv2.resize(small[index, 0].numpy(), (56, 56), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(mixed[10 + index, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["r", "rts", "tc", "none"])
def test_an_affine_transformer_with_the_placement_as_its_theta_undoes_the_distortion(digits: Tensor, name: str) -> None:
    images, placements = distorted_by(name, digits[:50], NO_REJECT[:50], torch.Generator().manual_seed(1))
    undone = Sampler()(images, AffineGrid((28, 28))(placements.flatten(1)))
    difference = (undone - digits[:50]).abs().mean() / digits[:50].mean()
    # Two bilinear samplings blur; clutter may lie over a digit's box. An identity instead differs by far more.
    assert difference < {"r": 0.5, "rts": 0.55, "tc": 0.6, "none": 1e-6}[name]
    identity = torch.eye(2, 3).expand(50, -1, -1)
    if name != "none":
        left = Sampler()(images, AffineGrid((28, 28))(identity.flatten(1)))
        assert (left - digits[:50]).abs().mean() > 2 * (undone - digits[:50]).abs().mean()


@pytest.mark.parametrize("name", ["p", "e", "camera"])
def test_a_distortion_that_no_affine_map_undoes_has_no_placement(digits: Tensor, name: str) -> None:
    assert distorted_by(name, digits[:3], NO_REJECT[:3], torch.Generator().manual_seed(1)).placements.isnan().all()
