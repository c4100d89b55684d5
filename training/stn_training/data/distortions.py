"""The distorted digits of Jaderberg et al. 2015 (section 4.1, appendix A.4), a batch at a time.

Every distortion takes images (N, C, S, S), float in [0, 1], made for S = 28 pixels, and returns a batch on its own
canvas with where it put them. They run on the device of the images and are built on the package's own grids and
sampler; each takes a ``torch.Generator`` on the CPU, so that the same seed gives the same distortion on every device.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stn_models import Sampler

from ..digits.photographed import CAMERA_CANVAS, camera_pictures
from ..digits.scenes import SCENE_CANVAS, Scenery
from ..geometry import (
    CORNERS,
    Distorted,
    homography_theta,
    inverse_affine,
    similarity_matrix,
    similarity_theta,
    square_grid,
    unknown_placements,
)

DIGIT_SIZE = 28
_LEAST_CORNER = 0.15
"""Least distance of a stretched corner from the centre, as a share of its own."""


@dataclass(frozen=True)
class Distortion:
    """A named distortion.

    Attributes:
        description: One line for the command line's help.
        canvas: Side of the images it makes, pixels.
        apply: Maps images (N, C, 28, 28) and a generator to images (N, C, canvas, canvas) and their placements.
        channels: Number of channels that it is for; None for any.
    """

    description: str
    canvas: int
    apply: Callable[[Tensor, Generator], Distorted]
    channels: int | None = None


def uniform(generator: Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return numbers drawn evenly from [low, high), float32 on the CPU."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def rotated(images: Tensor, generator: Generator) -> Distorted:
    """R: rotated by up to 90 degrees either way."""
    count = len(images)
    theta = torch.zeros(count, 4)
    theta[:, 0] = uniform(generator, (count,), -math.pi / 2, math.pi / 2)
    theta[:, 1] = 1
    return Distorted(_warp(images, "similarity", DIGIT_SIZE, theta), inverse_affine(similarity_matrix(theta)))


def rotated_translated_scaled(images: Tensor, generator: Generator) -> Distorted:
    """RTS: rotated by up to 45 degrees, scaled by 0.7 to 1.2, anywhere on 42 x 42."""
    canvas, count = 42, len(images)
    angle = uniform(generator, (count,), -math.pi / 4, math.pi / 4)
    share = uniform(generator, (count,), 0.7, 1.2) * DIGIT_SIZE / canvas  # of the canvas's side
    centre = uniform(generator, (count, 2), -1, 1) * (1 - share)[:, None]
    theta = similarity_theta(angle, share, centre)
    return Distorted(_warp(images, "similarity", canvas, theta), inverse_affine(similarity_matrix(theta)))


def rotated_translated_scaled_apart(images: Tensor, generator: Generator) -> Distorted:
    """RTS of the first channel and, drawn anew, of the others: the two digits of ``mnist-addition`` (appendix A.1)."""
    parts = [rotated_translated_scaled(part, generator).images for part in (images[:, :1], images[:, 1:])]
    return Distorted(torch.cat(parts, dim=1), unknown_placements(len(images)))


def projected(images: Tensor, generator: Generator) -> Distorted:
    """P: scaled by 0.75 to 1, each corner stretched along its diagonal by a normal 5 pixels.

    Appendix A.4 may also be read as moving each corner across and down independently. That folds one digit in fifteen
    beyond recognition, so the paper's plain network could not have reached its error of 1.5 %.
    """
    count = len(images)
    scale = uniform(generator, (count, 1), 0.75, 1.0)
    stretch = torch.randn(count, 4, generator=generator) * 5 / (DIGIT_SIZE / 2) / math.sqrt(2)
    corners = CORNERS * (scale + stretch).clamp(min=_LEAST_CORNER)[:, :, None]
    return Distorted(_warp(images, "projective", DIGIT_SIZE, homography_theta(corners)), unknown_placements(count))


def elastic(images: Tensor, generator: Generator) -> Distorted:
    """E: scaled by 0.75 to 1, sixteen thin-plate control points moved by a normal 1.5 pixels."""
    count = len(images)
    grid = square_grid("tps", DIGIT_SIZE, "cpu")
    scale = uniform(generator, (count,), 0.75, 1.0)
    jitter = torch.randn(count, grid.theta_size, generator=generator) * 1.5 / (DIGIT_SIZE / 2)
    theta = grid.identity() / scale[:, None] + jitter
    return Distorted(_warp(images, "tps", DIGIT_SIZE, theta), unknown_placements(count))


def translated_cluttered(images: Tensor, generator: Generator) -> Distorted:
    """TC: anywhere on 60 x 60, among six 6 x 6 patches of other digits."""
    canvas, patch, patches, count = 60, 6, 6, len(images)
    side = images.shape[-1]
    result = images.new_zeros(count, images.shape[1], canvas, canvas)

    def offsets(top: int) -> Tensor:
        return torch.randint(0, top + 1, (count, 2), generator=generator).to(images.device)

    target = offsets(canvas - side)
    _paste(result, images, torch.arange(count), torch.zeros(count, 2, dtype=torch.long), target, side)
    for _ in range(patches):
        others = torch.randint(0, count, (count,), generator=generator)
        _paste(result, images, others, offsets(side - patch), offsets(canvas - patch), patch)
    placements = torch.zeros(count, 2, 3)
    placements[:, 0, 0] = placements[:, 1, 1] = side / canvas
    placements[:, :, 2] = (target.flip(1).cpu() * 2 + side) / canvas - 1  # (row, column) to (x, y)
    return Distorted(result, placements)


def _warp(images: Tensor, grid: str, size: int, theta: Tensor) -> Tensor:
    warped: Tensor = Sampler()(images, square_grid(grid, size, str(images.device))(theta.to(images.device)))
    return warped


def _paste(canvas: Tensor, images: Tensor, of: Tensor, source: Tensor, target: Tensor, side: int) -> None:
    """Brighten ``canvas[i]`` at ``target[i]`` with the square of ``images[of[i]]`` at ``source[i]``; (row, column)."""
    step = torch.arange(side, device=images.device)
    picture = torch.arange(len(canvas), device=images.device)[:, None, None]
    origin = of.to(images.device)[:, None, None]

    def rows_columns(offset: Tensor) -> tuple[Tensor, Tensor]:
        offset = offset.to(images.device)
        return (offset[:, 0, None] + step)[:, :, None], (offset[:, 1, None] + step)[:, None, :]

    from_rows, from_columns = rows_columns(source)
    to_rows, to_columns = rows_columns(target)
    brighter = torch.maximum(canvas[picture, :, to_rows, to_columns], images[origin, :, from_rows, from_columns])
    canvas[picture, :, to_rows, to_columns] = brighter


def _scene(images: Tensor, generator: Generator) -> Distorted:
    return Scenery().scenes(images, torch.zeros(len(images), dtype=torch.bool), generator)


def _camera(images: Tensor, generator: Generator) -> Distorted:
    return Distorted(camera_pictures(images, generator), unknown_placements(len(images)))


DISTORTIONS: dict[str, Distortion] = {
    "r": Distortion("rotated by up to 90 degrees", DIGIT_SIZE, rotated),
    "rts": Distortion("rotated up to 45 degrees, scaled 0.7 to 1.2, translated", 42, rotated_translated_scaled),
    "rts-apart": Distortion(
        "as rts, the first channel otherwise than the others", 42, rotated_translated_scaled_apart, 3
    ),
    "p": Distortion("projected: corners stretched by 5 pixels", DIGIT_SIZE, projected),
    "e": Distortion("elastic: thin plate with sixteen points", DIGIT_SIZE, elastic),
    "tc": Distortion("translated among clutter", 60, translated_cluttered),
    "scene": Distortion("a whole frame with a digit somewhere, as a camera sees it", SCENE_CANVAS, _scene, 1),
    "camera": Distortion("as a camera sees a handwritten digit", CAMERA_CANVAS, _camera, 1),
}
"""The distortions by the name that the command line uses."""


def resample(images: Tensor, size: int) -> Tensor:
    """Return square images (N, C, S, S) enlarged to ``size`` pixels, as ``stn_runtime.preprocess`` enlarges them.

    Raises:
        ValueError: The images are larger than ``size``.
    """
    side = images.shape[-1]
    if side == size:
        return images
    if side > size:
        raise ValueError(f"distorted images of {side} pixels do not fit a network of {size}; give image_size {side}")
    grid = square_grid("affine", size, str(images.device))
    theta = grid.identity().to(images.device).expand(len(images), -1)
    enlarged: Tensor = Sampler(padding="border")(images, grid(theta))
    return enlarged


def parse_mixture(text: str) -> tuple[tuple[str, float], ...]:
    """Return the distortions that ``text`` names with their shares: ``rts`` or ``camera:0.6,rts:0.3,none:0.1``.

    Raises:
        ValueError: An unknown name, or shares that do not add up to 1.
    """
    mixture: list[tuple[str, float]] = []
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        if name != "none" and name not in DISTORTIONS:
            raise ValueError(f"no distortion '{name}'; choose from none, {', '.join(DISTORTIONS)}")
        try:
            mixture.append((name, float(number) if number else 1.0))
        except ValueError as error:
            raise ValueError(f"the share of distortion '{name}' must be a number, got '{number}'") from error
    for name, share in mixture:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of distortion '{name}' must be between 0 and 1, got {share:g}")
    total = sum(share for _, share in mixture)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares of the distortions '{text}' add up to {total:g}, not to 1")
    return tuple(mixture)


def distort(
    images: Tensor,
    mixture: tuple[tuple[str, float], ...],
    size: int,
    generator: Generator,
    reject: Tensor,
    scenery: Scenery | None = None,
) -> Distorted:
    """Return ``images`` distorted, each share of the batch by its own distortion, at ``size`` pixels.

    Args:
        images: (N, C, S, S) in [0, 1], S = 28, or 56 for glyphs.
        mixture: Distortions with their shares.
        size: Side of the result, pixels.
        generator: Decides everything random, on the CPU.
        reject: Which images are of the class that means none of the others, (N,) bool on the CPU.
        scenery: What scenes are made with.
    """
    pictures, placements = [], []
    for name, part in shares(torch.arange(len(images)), mixture):
        distorted = distorted_by(name, images[part[0] : part[-1] + 1], reject[part], generator, scenery)
        pictures.append(resample(distorted.images, size))
        placements.append(distorted.placements.to(images.device))
    return Distorted(torch.cat(pictures), torch.cat(placements))


def distorted_by(
    name: str, images: Tensor, reject: Tensor, generator: Generator, scenery: Scenery | None = None
) -> Distorted:
    """Return ``images`` (N, C, S, S) distorted by the distortion called ``name``; otherwise as ``distort``."""
    if name == "scene":
        return (scenery or Scenery()).scenes(images, reject, generator)
    if images.shape[-1] == 2 * DIGIT_SIZE:
        images = functional.avg_pool2d(images, 2)
    if name == "none":
        return Distorted(images, torch.eye(2, 3).expand(len(images), -1, -1))
    return DISTORTIONS[name].apply(images, generator)


def shares(values: Tensor, mixture: tuple[tuple[str, float], ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each distortion with its share of ``values`` (N, ...), in order, none of them empty."""
    first, total = 0, 0.0
    for name, share in mixture:
        total += share
        last = round(total * len(values))
        if last > first:
            yield name, values[first:last]
        first = last
