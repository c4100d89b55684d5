"""Digits as a camera sees them: valid 8-bit pictures, both polarities, enough contrast, the digit in view."""

import pytest
import torch
from torch import Tensor

from stn_training.digits.photographed import CAMERA_CANVAS, camera_pictures


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return camera_pictures(disc(200), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def blank() -> Tensor:
    """The same scenes with nothing written on them."""
    return camera_pictures(torch.zeros(200, 1, 28, 28), torch.Generator().manual_seed(0))


def disc(count: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    return ((x.square() + y.square()).sqrt() < 8).float().expand(count, 1, 28, 28)


def test_a_picture_is_grey_and_of_the_cameras_size(pictures: Tensor) -> None:
    assert CAMERA_CANVAS == 56
    assert pictures.shape == (200, 1, 56, 56)
    assert pictures.dtype == torch.float32


def test_pixels_are_8_bit_levels_from_0_to_1(pictures: Tensor) -> None:
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    levels = pictures * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert len(pictures.unique()) > 200


def test_ink_is_darker_than_the_paper_in_half_of_the_pictures_and_lighter_in_the_others(
    pictures: Tensor, blank: Tensor
) -> None:
    darker = ((pictures - blank).sum(dim=(1, 2, 3)) < 0).float().mean()
    assert 0.35 < float(darker) < 0.65


def test_the_digit_stands_out_in_every_picture(pictures: Tensor, blank: Tensor) -> None:
    difference = (pictures - blank).abs().flatten(1)
    contrast = difference.quantile(0.98, dim=1)
    assert float(contrast.min()) > 0.04
    assert float(contrast.median()) > 0.3


def test_the_digit_stays_in_view_and_turns_up_everywhere(pictures: Tensor, blank: Tensor) -> None:
    inked = (pictures - blank).abs() > 0.5 * (pictures - blank).abs().amax(dim=(2, 3), keepdim=True)
    share = inked.float().mean(dim=(1, 2, 3))
    assert float(share.min()) > 0.02  # a disc of 16 pixels at half size and in perspective: 0.03
    assert float(share.max()) < 0.6
    anywhere = inked.float().mean(dim=0)[0]
    assert float(anywhere[28, 28]) > 0.4
    assert all(float(corner.max()) > 0 for corner in (anywhere[:14, :14], anywhere[:14, 42:], anywhere[42:, 42:]))


def test_light_surface_and_noise_differ_from_picture_to_picture(blank: Tensor) -> None:
    spread = blank.flatten(1).std(dim=1)
    assert float(spread.max()) > 5 * float(spread.min())
    assert float(blank.mean(dim=(1, 2, 3)).std()) > 0.1


def test_the_ink_follows_the_strokes_of_the_digit() -> None:
    """Two digits in the same scene differ where their strokes do, and nowhere else."""
    left, right = torch.zeros(50, 1, 28, 28), torch.zeros(50, 1, 28, 28)
    left[..., 8:20, 6:12] = 1
    right[..., 8:20, 16:22] = 1
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    scene = camera_pictures(torch.zeros_like(left), generators[0])
    with_left, with_right = (
        camera_pictures(strokes, g) - scene for strokes, g in zip((left, right), generators[1:], strict=True)
    )
    overlap = ((with_left.abs() > 0.1) & (with_right.abs() > 0.1)).float().mean()
    assert float((with_left.abs() > 0.1).float().mean()) > 0.02
    assert float(overlap) < 0.01
    # turned by 45 degrees at most, so left stays left
    columns = torch.arange(56.0)
    centres = [
        (strokes.abs().sum(dim=(1, 2)) @ columns) / strokes.abs().sum(dim=(1, 2, 3))
        for strokes in (with_left, with_right)
    ]
    assert float((centres[0] < centres[1]).float().mean()) > 0.95
