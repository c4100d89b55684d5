"""Augmentations: the generator decides, the global random numbers stay where they were, grey and RGB alike."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_training.data.augmentations import AUGMENTATIONS, Augmentation

NAMES = ["crop", "flip", "rotate", "affine", "elastic", "erase", "jitter", "shade", "shadow", "blur"]
COLOUR = [*NAMES, "rgb-shift"]


def pictures(channels: int, count: int = 32, size: int = 28) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(9)) * 0.8 + 0.1


def augmented(names: list[str], images: Tensor, seed: int = 0) -> Tensor:
    return Augmentation(names, (images.shape[2], images.shape[3]), images.shape[1])(
        images, torch.Generator().manual_seed(seed)
    )


def test_the_names_are_those_of_the_command_line() -> None:
    assert list(AUGMENTATIONS) == COLOUR


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "rgb"])
@pytest.mark.parametrize("name", NAMES)
def test_an_augmentation_changes_pictures_but_not_their_shape(name: str, channels: int) -> None:
    images = pictures(channels)
    before = images.clone()
    result = augmented([name], images)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert not torch.equal(result, before)
    assert torch.equal(images, before), "the input was changed"


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "rgb"])
@pytest.mark.parametrize("name", NAMES)
def test_the_generator_alone_decides_what_happens(name: str, channels: int) -> None:
    images = pictures(channels)
    torch.manual_seed(1)
    first = augmented([name], images, seed=3)
    torch.manual_seed(2)
    random.seed(2)
    assert torch.equal(first, augmented([name], images, seed=3))
    assert not torch.equal(first, augmented([name], images, seed=4))


def test_successive_batches_of_one_generator_differ() -> None:
    step, generator, images = Augmentation(NAMES, (28, 28), 1), torch.Generator().manual_seed(0), pictures(1)
    assert not torch.equal(step(images, generator), step(images, generator))


@pytest.mark.parametrize("name", NAMES)
def test_global_random_numbers_stay_where_they_were(name: str) -> None:
    torch.manual_seed(7)
    state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    augmented([name], pictures(3))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert python_state == random.getstate()


def test_a_flip_mirrors_about_half_of_the_pictures() -> None:
    images = pictures(1, count=200, size=8)
    result = augmented(["flip"], images)
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(result, images, strict=True)])
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(result, images, strict=True)])
    assert bool((kept ^ mirrored).all())
    assert 70 <= int(mirrored.sum()) <= 130


def test_a_crop_moves_the_picture_by_an_eighth_at_most() -> None:
    images = torch.zeros(300, 1, 32, 32)
    images[..., 16, 16] = 1
    result = augmented(["crop"], images)
    at = torch.nonzero(result[:, 0] > 0.99)
    assert len(at) == 300
    offsets = at[:, 1:] - 16
    assert int(offsets.min()) == -4
    assert int(offsets.max()) == 4


def test_erasing_blacks_out_a_rectangle_of_a_small_share() -> None:
    images = torch.full((200, 1, 32, 32), 0.7)
    erased = (augmented(["erase"], images) == 0).float().mean(dim=(1, 2, 3))
    touched = erased[erased > 0]
    assert 60 <= len(touched) <= 140
    assert float(touched.min()) > 0.01
    assert float(touched.max()) < 0.18


def test_an_elastic_picture_is_bent_by_pixels_of_either_axis() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 60), indexing="ij")
    images = torch.stack([rows * 19, columns * 59])[:, None].repeat(200, 1, 1, 1) / 59  # a grey level a pixel
    moved = (augmented(["elastic:0.5"], images) - images) * 59
    middle = moved[:, 0, 6:14, 18:42]
    assert 0.2 < float(middle[0::2].std()) < 0.7
    assert float(middle[1::2].std()) == pytest.approx(float(middle[0::2].std()), rel=0.2)
    assert not torch.allclose(middle[0], middle[0].mean(), atol=0.05), "moved as a whole"


def test_jitter_moves_brightness_both_ways() -> None:
    images = torch.full((200, 1, 8, 8), 0.5)
    means = augmented(["jitter"], images).mean(dim=(1, 2, 3))
    assert float(means.min()) < 0.4
    assert float(means.max()) > 0.6


def test_augmentations_run_in_the_order_of_their_names() -> None:
    images = pictures(1)
    flip_first = augmented(["flip", "erase"], images)
    erase_first = augmented(["erase", "flip"], images)
    assert not torch.equal(flip_first, erase_first)


def test_no_names_leave_the_pictures_alone() -> None:
    images = pictures(3)
    assert torch.equal(augmented([], images), images)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match="no augmentation 'fog'; choose from crop, flip, rotate, affine, elastic, erase, jitter, shade, shadow, ",
    ):
        Augmentation(["crop", "fog"], (28, 28), 1)


def test_a_number_is_the_augmentations_own() -> None:
    images = torch.zeros(64, 1, 28, 28)
    images[:, :, 14, 14] = 1
    moved = augmented(["crop:2"], images).flatten(1).argmax(dim=1)
    assert (moved // 28 - 14).abs().max() == 2
    assert (moved % 28 - 14).abs().max() == 2
    assert torch.equal(augmented(["flip:0"], images), images)
    assert torch.equal(augmented(["flip:1"], images), images.flip(-1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crop:0", "augmentation 'crop' takes a number from 1 to 1000"),
        ("rotate:200", "augmentation 'rotate' takes a number from 0 to 180 .degrees., got '200'"),
        ("flip:often", "augmentation 'flip' takes a number from 0 to 1 .probability., got 'often'"),
        ("crop:nan", "augmentation 'crop' takes"),
        ("rgb-shift", "needs colour images"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Augmentation([text], (28, 28), 1)


def test_a_colour_shift_moves_the_channels_of_a_picture_apart() -> None:
    images = torch.full((64, 3, 4, 4), 0.5)
    shifted = augmented(["rgb-shift:0.2"], images)
    assert float((shifted - images).abs().max()) <= 0.2 + 1e-6
    assert not torch.allclose(shifted[:, 0], shifted[:, 1])


def test_shade_lights_one_side_more_than_the_other() -> None:
    images = torch.full((64, 1, 16, 16), 0.5)
    shaded = augmented(["shade:0.3"], images)
    assert 0.1 < float((shaded - images).abs().max()) <= 0.3 + 1e-6
    lit = (shaded[:, 0, :, :8].mean((1, 2)) - shaded[:, 0, :, 8:].mean((1, 2))).abs()
    assert float(lit.max()) > 0.05


def test_blur_spreads_a_point_by_its_deviation_at_most() -> None:
    point = torch.zeros(64, 1, 17, 17)
    point[:, :, 8, 8] = 1
    blurred = augmented(["blur:1.5"], point)
    assert torch.allclose(blurred.sum((1, 2, 3)), torch.ones(64), atol=1e-4)
    places = torch.arange(17.0) - 8
    deviations = (blurred[:, 0].sum(1) * places**2).sum(1).sqrt()
    assert 1.0 < float(deviations.max()) <= 1.5


def test_shadows_darken_and_never_light() -> None:
    images = torch.full((32, 3, 32, 32), 0.8)
    shadowed = augmented(["shadow:1"], images)
    assert float(shadowed.max()) <= 0.8 + 1e-6
    assert float(shadowed.min()) < 0.5
    assert torch.equal(augmented(["shadow:0"], images), images)
