"""The sampler against grid_sample, against plain numpy that reads pixel by pixel, and literals."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stn_models import Normalize, Sampler
from stn_models.sampler import Interpolation, Padding

MODES = list(itertools.product(["bilinear", "nearest"], ["zeros", "border", "reflection"], [False, True]))
OPTIONS = pytest.mark.parametrize(("interpolation", "padding", "align_corners"), MODES)


def picture_and_grid(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A picture 5 high and 8 wide; points up to one picture's size outside of it."""
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 3, 5, 8, generator=generator, dtype=dtype)
    return image, 6 * torch.rand(2, 4, 7, 2, generator=generator, dtype=dtype) - 3


def read(image: np.ndarray, x: float, y: float, interpolation: str, padding: str, align_corners: bool) -> float:
    """One value of a grey image (H, W) at normalised (x, y): the definition, one pixel at a time."""
    position = []
    for coordinate, length in ((x, image.shape[1]), (y, image.shape[0])):
        low, high = (0.0, length - 1.0) if align_corners else (-0.5, length - 0.5)
        pixel = low + (coordinate + 1) / 2 * (high - low)
        if padding == "reflection":
            span = high - low
            folded = (pixel - low) % (2 * span)
            pixel = low + min(folded, 2 * span - folded)
        if padding != "zeros":
            pixel = min(max(pixel, 0.0), length - 1.0)
        position.append(pixel)

    def pixel_at(column: int, row: int) -> float:
        inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        return float(image[row, column]) if inside else 0.0

    column, row = position
    if interpolation == "nearest":
        return pixel_at(round(column), round(row))
    left, top = math.floor(column), math.floor(row)
    right_part, bottom_part = column - left, row - top
    return (
        pixel_at(left, top) * (1 - right_part) * (1 - bottom_part)
        + pixel_at(left + 1, top) * right_part * (1 - bottom_part)
        + pixel_at(left, top + 1) * (1 - right_part) * bottom_part
        + pixel_at(left + 1, top + 1) * right_part * bottom_part
    )


@OPTIONS
def test_sampler_equals_grid_sample(interpolation: Interpolation, padding: Padding, align_corners: bool) -> None:
    image, grid = picture_and_grid()
    actual = Sampler(interpolation, padding, align_corners)(image, grid)
    expected = functional.grid_sample(
        image, grid, mode=interpolation, padding_mode=padding, align_corners=align_corners
    )
    assert actual.shape == (2, 3, 4, 7)
    assert torch.equal(actual, expected)


@OPTIONS
def test_sampler_equals_reading_pixel_by_pixel(
    interpolation: Interpolation, padding: Padding, align_corners: bool
) -> None:
    image, grid = picture_and_grid(torch.float64)
    actual = Sampler(interpolation, padding, align_corners)(image, grid)
    for n, c, i, j in np.ndindex(*actual.shape):
        x, y = grid[n, i, j].tolist()
        expected = read(image[n, c].numpy(), x, y, interpolation, padding, align_corners)
        assert float(actual[n, c, i, j]) == pytest.approx(expected, abs=1e-12), (n, c, i, j)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("zeros", [0.0, 0.5, 1.0, 4.0, 2.0, 0.0]), ("border", [1, 1, 1, 4, 4, 4]), ("reflection", [2, 1, 1, 4, 4, 3])],
)
def test_convention_padding_beyond_the_pixel_edges(padding: Padding, expected: list[float]) -> None:
    image = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    x = torch.tensor([-1.75, -1.0, -0.75, 0.75, 1.0, 1.75])  # centre, edge and a pixel and a half beyond, each side
    grid = torch.stack([x, torch.zeros(6)], dim=-1).view(1, 1, 6, 2)
    assert Sampler(padding=padding)(image, grid).flatten().tolist() == expected


def test_convention_x_comes_first_in_a_grid_point() -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 4)
    top_right = torch.tensor([0.75, -0.5]).view(1, 1, 1, 2)
    assert Sampler()(image, top_right).item() == 3.0


def test_convention_defaults_are_bilinear_zeros_and_pixel_edges() -> None:
    assert repr(Sampler()) == "Sampler(interpolation=bilinear, padding=zeros, align_corners=False)"


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_of_the_bilinear_sampler_are_right(padding: Padding, align_corners: bool) -> None:
    image, grid = picture_and_grid(torch.float64)
    inputs = (image[:1, :1].requires_grad_(), grid[:1, :2, :3].contiguous().requires_grad_())
    assert torch.autograd.gradcheck(Sampler("bilinear", padding, align_corners), inputs)


def test_nearest_passes_gradient_to_the_image_and_none_to_the_grid() -> None:
    image, grid = picture_and_grid()
    image.requires_grad_()
    grid.requires_grad_()
    Sampler("nearest")(image, grid).sum().backward()
    assert image.grad is not None
    assert grid.grad is not None
    assert image.grad.abs().sum() > 0
    assert grid.grad.abs().sum() == 0


def test_grid_is_taken_to_the_type_of_the_image() -> None:
    image, grid = picture_and_grid()
    output = Sampler()(image, grid.double())
    assert output.dtype == torch.float32
    assert torch.equal(output, Sampler()(image, grid))


def test_sampler_keeps_the_size_of_the_grid_and_has_no_state() -> None:
    sampler = Sampler()
    assert sampler(torch.zeros(2, 3, 5, 8), torch.zeros(2, 1, 9, 2)).shape == (2, 3, 1, 9)
    assert sampler.state_dict() == {}


@pytest.mark.parametrize("value", ["bicubic", "linear", "", "Bilinear"])
def test_unknown_interpolation_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=f"^interpolation must be one of bilinear, nearest; got '{value}'$"):
        Sampler(interpolation=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["zero", "reflect", "", "replicate"])
def test_unknown_padding_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=f"^padding must be one of zeros, border, reflection; got '{value}'$"):
        Sampler(padding=value)  # type: ignore[arg-type]


def test_normalize_subtracts_mean_and_divides_by_std_channel_by_channel() -> None:
    image = torch.tensor([0.5, 1.0, 0.25]).view(1, 3, 1, 1).expand(2, 3, 2, 4)
    output = Normalize((0.5, 0.5, 0.75), (0.5, 0.25, 0.125))(image)
    assert output.shape == (2, 3, 2, 4)
    assert output[1, :, 1, 3].tolist() == [0.0, 2.0, -4.0]


def test_normalize_is_config_not_weights() -> None:
    normalize = Normalize((0.5,), (0.5,))
    assert normalize.state_dict() == {}
    assert list(normalize.parameters()) == []
    assert next(iter(normalize.double().buffers())).dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5, 0.5), (0.5, 0.5), "mean and std need one number a channel, got 3 and 2"),
        ((), (), "mean and std need one number a channel, got 0 and 0"),
        ((0.5, 0.5), (0.5, 0.0), r"std must be above zero, got \(0.5, 0.0\)"),
        ((0.5,), (-1.0,), r"std must be above zero, got \(-1.0,\)"),
    ],
)
def test_normalize_refuses_numbers_that_make_no_sense(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Normalize(mean, std)
