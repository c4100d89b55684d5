"""Handwritten digits as a camera sees them: on paper and other surfaces, lit unevenly, blurred, noisy, at an angle."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stn_models import ProjectiveGrid, Sampler

from ..geometry import CORNERS, homography_theta

CAMERA_CANVAS = 56


def camera_pictures(digits: Tensor, generator: Generator) -> Tensor:
    """Return grey pictures of ``digits``, (N, 1, 56, 56) in [0, 1], rounded to 8 bits.

    Args:
        digits: Strokes light on dark, (N, 1, 28, 28) in [0, 1].
        generator: Source of randomness, on the CPU.
    """
    device = digits.device
    draw = _Draw(generator, len(digits), device)
    stroke = _strokes(digits, draw)
    surface = _surface(draw)
    # Ink is darker or lighter than the surface, by enough that a person reads it.
    contrast = draw.uniform(0.3, 0.9)
    level = draw.uniform(0.0, 1.0) * (1 - contrast)  # the darker of the two
    light_ink = draw.chance(0.5)
    ink = torch.where(light_ink, level + contrast, level)
    paper = torch.where(light_ink, level, level + contrast)
    texture_strength = draw.uniform(0.0, 0.35) * contrast
    picture = (paper + surface * texture_strength) * (1 - stroke) + ink * stroke
    picture = picture * _light(draw)
    picture = _blur(picture, draw.uniform(0.0, 1.2))
    noise = torch.randn(picture.shape, generator=generator).to(device)
    picture = picture + noise * draw.uniform(0.0, 0.06) * draw.chance(0.8)
    return (picture.clamp(0, 1) * 255).round() / 255


class _Draw:
    """Draws one number a picture, (N, 1, 1, 1), on the device of the pictures."""

    def __init__(self, generator: Generator, count: int, device: torch.device) -> None:
        self.generator, self.count, self.device = generator, count, device

    def uniform(self, low: float, high: float) -> Tensor:
        numbers = torch.rand(self.count, 1, 1, 1, generator=self.generator)
        return (numbers * (high - low) + low).to(self.device)

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0.0, 1.0) < probability

    def smooth(self, cells: int) -> Tensor:
        """Return a field that varies over about 1 / cells of the picture, (N, 1, 56, 56), roughly in [-1, 1]."""
        coarse = torch.randn(self.count, 1, cells + 1, cells + 1, generator=self.generator).to(self.device) / 2
        return functional.interpolate(coarse, (CAMERA_CANVAS, CAMERA_CANVAS), mode="bilinear", align_corners=True)


def _strokes(digits: Tensor, draw: _Draw) -> Tensor:
    """Return how much ink covers each pixel, (N, 1, 56, 56): turned, scaled, in perspective, anywhere in view."""
    angle = draw.uniform(-math.pi / 4, math.pi / 4).view(-1, 1)
    share = draw.uniform(0.5, 1.1).view(-1, 1, 1)  # of the 28-pixel box, whose middle 20 pixels hold the digit
    room = (1 - share * 20 / 28).clamp(min=0)
    centre = (torch.rand(draw.count, 1, 2, generator=draw.generator).to(draw.device) * 2 - 1) * room * 0.9
    corners = CORNERS.to(draw.device).expand(draw.count, 4, 2)
    corners = corners + (torch.rand(draw.count, 4, 2, generator=draw.generator).to(draw.device) * 2 - 1) * 0.2
    cosine, sine = torch.cos(angle), torch.sin(angle)
    x = corners[..., 0] * cosine - corners[..., 1] * sine
    y = corners[..., 0] * sine + corners[..., 1] * cosine
    theta = homography_theta((torch.stack([x, y], dim=-1) * share + centre).cpu()).to(draw.device)
    grid = ProjectiveGrid((CAMERA_CANVAS, CAMERA_CANVAS)).to(draw.device)
    stroke: Tensor = Sampler()(digits, grid(theta))
    # Enlarged strokes have soft edges; a pen's are harder, and of some other width.
    return ((stroke - draw.uniform(0.1, 0.35)) * draw.uniform(1.5, 4.0)).clamp(0, 1)


def _surface(draw: _Draw) -> Tensor:
    """Return a texture, (N, 1, 56, 56), roughly in [-1, 1]: mottled, ruled, or half covered by another surface."""
    rough = (
        draw.smooth(5) * draw.uniform(0, 1)
        + draw.smooth(14) * draw.uniform(0, 1)
        + draw.smooth(28) * draw.uniform(0, 1)
    )
    axis = torch.linspace(-1, 1, CAMERA_CANVAS, device=draw.device)
    angle = draw.uniform(0, math.pi)
    across = axis.view(1, 1, 1, -1) * torch.cos(angle) + axis.view(1, 1, -1, 1) * torch.sin(angle)
    ruled = torch.cos(across * draw.uniform(10, 40) + draw.uniform(0, 6.3))
    lines = torch.where(draw.chance(0.5), ruled, -(ruled.clamp(min=0.9) - 0.9) * 10)
    edge = torch.sigmoid((across - draw.uniform(0.5, 1.2)) * 40) * draw.uniform(-2, 2)
    return rough + lines * draw.chance(0.3) + edge * draw.chance(0.3)


def _light(draw: _Draw) -> Tensor:
    """Return the brightness of the light at each pixel, (N, 1, 56, 56), around 1."""
    axis = torch.linspace(-1, 1, CAMERA_CANVAS, device=draw.device)
    slope = axis.view(1, 1, 1, -1) * draw.uniform(-0.35, 0.35) + axis.view(1, 1, -1, 1) * draw.uniform(-0.35, 0.35)
    return (1 + slope + draw.smooth(3) * draw.uniform(0, 0.2)).clamp(min=0.4)


def _blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Return the pictures (N, 1, H, W), each blurred by a Gaussian of its own sigma, (N, 1, 1, 1) pixels."""
    offsets = torch.arange(-3, 4, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma.view(-1, 1).square() + 1e-6))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    count, _, height, width = pictures.shape
    padded = functional.pad(pictures.view(1, count, height, width), (3, 3, 3, 3), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(count, 1, 1, 7), groups=count)
    return functional.conv2d(rows, kernel.view(count, 1, 7, 1), groups=count).view(count, 1, height, width)
