"""Augmentations by name: kornia's, set up for small images, on the training device, a batch at a time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import kornia.augmentation as kornia
import torch
from torch import Generator, Tensor, nn

from stn_models import Sampler, ThinPlateSplineGrid


@dataclass(frozen=True)
class Recipe:
    """How an augmentation is made.

    Attributes:
        parameter: What its number means, for help and errors.
        default: The number where none is given; 0 is left to ``make``.
        least: Lowest number.
        most: Highest number.
        make: Maker from the number, and size (height, width) and channels of the images.
        geometric: Whether it moves pixels.
    """

    parameter: str
    default: float
    least: float
    most: float
    make: Callable[[float, tuple[int, int], int], nn.Module]
    geometric: bool = False


def _crop(pixels: float, size: tuple[int, int], _channels: int) -> nn.Module:
    crop: nn.Module = kornia.RandomCrop(size, padding=int(pixels) or max(1, min(size) // 8))
    return crop


def _jitter(strength: float, _size: tuple[int, int], channels: int) -> nn.Module:
    if channels == 3:
        return nn.Sequential(kornia.ColorJitter(strength, strength, strength, strength / 6, p=0.8))
    limits = (1 - strength, 1 + strength)
    return nn.Sequential(kornia.RandomBrightness(limits, p=0.8), kornia.RandomContrast(limits, p=0.8))


def _affine(degrees: float, *_: object) -> nn.Module:
    affine: nn.Module = kornia.RandomAffine(degrees, translate=(0.1, 0.1), scale=(0.85, 1.15), p=0.8)
    return affine


def _shade(strength: float, *_: object) -> nn.Module:
    light: nn.Module = kornia.RandomLinearIllumination(gain=(0.0, strength), p=0.7)
    return light


class _Shadow(nn.Module):
    """Casts a shadow across pictures: it takes a share of the light behind a line, which is sharp or soft."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        angle, place, sharpness, depth, chance = torch.rand(5, count, 1, 1, device=images.device)
        rows = torch.linspace(-1, 1, height, device=images.device)[:, None]
        columns = torch.linspace(-1, 1, width, device=images.device)
        across = columns * torch.cos(2 * torch.pi * angle) + rows * torch.sin(2 * torch.pi * angle)
        behind = torch.sigmoid((across - 1.2 * (2 * place - 1)) * 3 * 20**sharpness)
        depth = (0.2 + 0.6 * depth) * (chance < self.probability)
        light: Tensor = 1 - depth * behind
        return images * light[:, None]


class _Elastic(nn.Module):
    """Bends pictures: the sixteen points of a thin plate are moved, each by a normal number of pixels."""

    def __init__(self, pixels: float, size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.sampler = ThinPlateSplineGrid(size), Sampler(padding="reflection")
        self.deviation = 2 * (pixels or min(size) / 20) / torch.tensor(size[::-1]).repeat(self.grid.theta_size // 2)

    def forward(self, images: Tensor) -> Tensor:
        moves = torch.randn(len(images), self.grid.theta_size, device=images.device)
        grid = self.grid.to(images.device)
        bent: Tensor = self.sampler(images, grid(grid.identity().to(moves) + moves * self.deviation.to(moves)))
        return bent


def _blur(deviation: float, *_: object) -> nn.Module:
    side = 2 * math.ceil(2 * deviation) + 1
    blur: nn.Module = kornia.RandomGaussianBlur((side, side), (min(0.1, deviation), deviation), p=0.5)
    return blur


AUGMENTATIONS: dict[str, Recipe] = {
    "crop": Recipe("pixels of padding, by default an eighth of the shorter side", 0, 1, 1000, _crop, geometric=True),
    "flip": Recipe("probability", 0.5, 0, 1, lambda p, *_: kornia.RandomHorizontalFlip(p=p), geometric=True),
    "rotate": Recipe("degrees", 15, 0, 180, lambda d, *_: kornia.RandomRotation(d, p=1.0), geometric=True),
    "affine": Recipe("degrees", 15, 0, 180, _affine, geometric=True),
    "elastic": Recipe(
        "pixels by which the points of a thin plate move, by default a twentieth of the shorter side",
        0,
        0.01,
        100,
        lambda pixels, size, _: _Elastic(pixels, size),
        geometric=True,
    ),
    "erase": Recipe("probability", 0.5, 0, 1, lambda p, *_: kornia.RandomErasing(p=p, scale=(0.02, 0.15))),
    "jitter": Recipe("strength", 0.3, 0, 1, _jitter),
    "shade": Recipe("most light that one side has or lacks, of 1", 0.4, 0, 1, _shade),
    "shadow": Recipe("probability", 0.5, 0, 1, lambda p, *_: _Shadow(p)),
    "blur": Recipe("largest standard deviation, pixels", 1.0, 0.01, 20, _blur),
    "rgb-shift": Recipe("largest shift", 0.1, 0, 1, lambda s, *_: kornia.RandomRGBShift(s, s, s, p=0.5)),
}
"""The augmentations by their name on the command line; ``crop:4`` gives one its number."""


def parse_augmentation(text: str) -> tuple[str, float]:
    """Return name and number of an augmentation such as ``crop:4`` or ``flip``.

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """
    name, colon, number = text.partition(":")
    if name not in AUGMENTATIONS:
        raise ValueError(f"no augmentation '{name}'; choose from {', '.join(AUGMENTATIONS)}")
    recipe = AUGMENTATIONS[name]
    if not colon:
        return name, recipe.default
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not recipe.least <= value <= recipe.most:
        raise ValueError(
            f"augmentation '{name}' takes a number from {recipe.least:g} to {recipe.most:g} ({recipe.parameter}), "
            f"got '{number}'"
        )
    return name, value


def is_geometric(texts: Sequence[str]) -> bool:
    """Return whether any of the augmentations moves pixels."""
    return any(AUGMENTATIONS[parse_augmentation(text)[0]].geometric for text in texts)


class Augmentation:
    """A sequence of augmentations.

    Args:
        texts: Names with or without their number, ``crop:4``; applied in this order.
        size: (height, width) of the images, pixels.
        channels: Channels of the images.

    Raises:
        ValueError: An unknown name, a number out of its range, or one that needs colour for grey images.
    """

    def __init__(self, texts: Sequence[str], size: tuple[int, int], channels: int) -> None:
        self.steps = []
        for name, number in map(parse_augmentation, texts):
            if name == "rgb-shift" and channels != 3:
                raise ValueError("augmentation 'rgb-shift' needs colour images; leave it out")
            self.steps.append(AUGMENTATIONS[name].make(number, size, channels))

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return the augmented images, (N, C, H, W) in [0, 1]; ``generator`` decides everything random."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed)  # kornia draws from the global generator
            for step in self.steps:
                images = step(images)
        return images.clamp(0, 1)
