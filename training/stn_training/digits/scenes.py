"""Whole frames with a glyph somewhere: on paper, on a card, before a photograph, among clutter and other glyphs."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stn_models import Sampler

from ..geometry import (
    Distorted,
    homography_theta,
    inverse_affine,
    placed_corners,
    similarity_matrix,
    square_grid,
    unknown_placements,
)

SCENE_CANVAS = 160
GLYPH_SIZE = 56
INK_SHARE = 20 / 28
"""Height of a glyph's ink as a share of its box, as in MNIST."""

_ASPECTS = ((16 / 9, 0.4), (4 / 3, 0.3), (1.0, 0.1), (3 / 4, 0.1), (9 / 16, 0.1))
"""Width by height of the frames inside the square canvas, each with its share."""
_LEAST_INK, _MOST_INK = 0.11, 1.0
"""Height of the ink as a share of the frame's shorter side."""
_LARGEST_ANGLE = math.radians(50)
_AT_ONCE = 32
"""Scenes that a CPU composes at once: their intermediate pictures stay in its cache."""


@dataclass(frozen=True)
class Scenery:
    """What scenes are made with.

    Attributes:
        backgrounds: Grey photographs without a digit, (M, h, w) uint8; None for drawn surfaces alone.
    """

    backgrounds: Tensor | None = None

    def scenes(self, glyphs: Tensor, reject: Tensor, generator: Generator) -> Distorted:
        """Return grey frames, (N, 1, 160, 160) in [0, 1], rounded to 8 bits, letterboxed in black.

        Each shows one glyph, its ink from a ninth of the frame's shorter side to all of it, turned by up to 50
        degrees. Some show further glyphs of the batch: digits only beside a digit, and then smaller than it.

        Args:
            glyphs: Strokes light on dark, (N, 1, 28 or 56, same) in [0, 1]; blank for an empty scene.
            reject: Which glyphs are no digits, (N,) bool, on the CPU; they have no placement.
            generator: Decides everything random, on the CPU.
        """
        at_once = _AT_ONCE if glyphs.device.type == "cpu" else len(glyphs)
        parts = zip(torch.split(glyphs, at_once), torch.split(reject, at_once), strict=True)
        pictures, placements = zip(*(self._composed(*part, generator) for part in parts), strict=True)
        return Distorted(torch.cat(pictures), torch.cat(placements))

    def _composed(self, glyphs: Tensor, reject: Tensor, generator: Generator) -> Distorted:
        draw = Draw(generator, len(glyphs), glyphs.device)
        glyphs = _hardened(glyphs, draw)
        frame = _frames(draw)
        ink_share = torch.exp(draw.uniform(math.log(_LEAST_INK), math.log(_MOST_INK)))
        angle = draw.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE)
        main = _placements(draw, frame, ink_share, angle)
        contrast = draw.uniform(0.3, 0.95)
        level = draw.uniform(0.0, 1.0) * (1 - contrast)  # the darker of ink and paper
        light_ink = draw.chance(0.4)
        ink = torch.where(light_ink, level + contrast, level)
        paper = torch.where(light_ink, level, level + contrast)

        picture = (paper + _texture(draw) * draw.uniform(0.0, 0.35) * contrast).clamp(0, 1)
        if self.backgrounds is not None:
            chosen, some = draw.some(0.65)
            seen = _photographed(self.backgrounds, picture[chosen], paper[chosen], contrast[chosen], main[chosen], some)
            picture[chosen] = seen
        for _ in range(3):
            chosen, some = draw.some(0.25)
            picture[chosen] = _with_line(picture[chosen], main[chosen], some)
        for _ in range(2):
            _add_others(picture, glyphs, reject, main, ink_share, frame, ink, draw)
        stroke = _strokes(glyphs, main, draw)
        picture = torch.lerp(picture, ink.expand_as(picture), stroke)
        picture = picture * _light(draw)
        box = main[:, 0, :2].norm(dim=1).view(-1, 1, 1, 1) * SCENE_CANVAS  # pixels
        picture = blurred(picture, draw.uniform(0.0, 1.0) * (box / 60).clamp(0.4, 1.5))
        picture = picture + draw.normal(SCENE_CANVAS) * (draw.uniform(0.0, 0.05) * draw.chance(0.8))
        picture = (picture.clamp(0, 1) * 255).round() / 255 * _inside(frame)
        unknown = unknown_placements(len(glyphs)).to(main)
        return Distorted(picture, torch.where(reject[:, None, None].to(main.device), unknown, main))


class Draw:
    """Draws one number a picture, (N, 1, 1, 1), on the device of the pictures."""

    def __init__(self, generator: Generator, count: int, device: torch.device, canvas: int = SCENE_CANVAS) -> None:
        self.generator, self.count, self.device, self.canvas = generator, count, device, canvas
        seed = int(torch.randint(2**62, (1,), generator=generator))
        self.fields = Generator(device).manual_seed(seed)  # the numbers of whole fields are too many for the CPU

    def uniform(self, low: float, high: float) -> Tensor:
        """Return numbers evenly from [low, high)."""
        numbers = torch.rand(self.count, 1, 1, 1, generator=self.generator)
        return (numbers * (high - low) + low).to(self.device)

    def several(self, count: int, low: float, high: float) -> Tensor:
        """Return ``count`` numbers a picture evenly from [low, high), (N, count)."""
        numbers = torch.rand(self.count, count, generator=self.generator)
        return (numbers * (high - low) + low).to(self.device)

    def chance(self, probability: float) -> Tensor:
        """Return True with a probability."""
        return self.uniform(0.0, 1.0) < probability

    def some(self, probability: float) -> tuple[Tensor, "Draw"]:
        """Return the indices of the pictures chosen with a probability, and what draws for them alone."""
        chosen = (torch.rand(self.count, generator=self.generator) < probability).nonzero().flatten()
        return chosen.to(self.device), self.part(len(chosen))

    def part(self, count: int) -> "Draw":
        """Return what draws for ``count`` of the pictures."""
        return Draw(self.generator, count, self.device, self.canvas)

    def normal(self, side: int) -> Tensor:
        """Return normal numbers, (N, 1, side, side), drawn on the device of the pictures."""
        return torch.randn(self.count, 1, side, side, generator=self.fields, device=self.device)

    def smooth(self, cells: int) -> Tensor:
        """Return a field that varies over about 1 / cells of the picture, (N, 1, S, S), roughly in [-1, 1]."""
        coarse = self.normal(cells + 1) / 2
        return functional.interpolate(coarse, (self.canvas, self.canvas), mode="bilinear", align_corners=True)


def _photographed(
    backgrounds: Tensor, surface: Tensor, paper: Tensor, contrast: Tensor, main: Tensor, draw: Draw
) -> Tensor:
    """Return scenes before photographs: the glyph on a card, or on the photograph itself."""
    photograph = _photographs(backgrounds, draw)
    bare, _ = draw.some(0.3)  # no card: the photograph is made flat enough there that ink stands out
    seen = torch.lerp(photograph, surface, _card_mask(main, draw))
    flat = photograph[bare] - photograph[bare].mean(dim=(2, 3), keepdim=True)
    seen[bare] = (paper[bare] + flat * contrast[bare] * 0.6).clamp(0, 1)
    return seen


def _photographs(backgrounds: Tensor, draw: Draw) -> Tensor:
    """Return pieces of photographs, (N, 1, 160, 160), turned, mirrored and repeated to fill the canvas."""
    index = torch.randint(len(backgrounds), (draw.count,), generator=draw.generator)
    pictures = backgrounds[index.to(backgrounds.device)].to(draw.device)[:, None].float() / 255
    scale = torch.exp(draw.uniform(math.log(0.5), math.log(4.0)))
    columns = (draw.uniform(-0.3, 0.3), scale, draw.uniform(-1, 1), draw.uniform(-1, 1))
    theta = similarity_matrix(torch.cat(columns, dim=1).flatten(1)).flatten(1)
    pieces: Tensor = Sampler(padding="reflection")(
        pictures, square_grid("affine", SCENE_CANVAS, str(draw.device))(theta)
    )
    return (pieces * draw.uniform(0.5, 1.3) + draw.uniform(-0.15, 0.15)).clamp(0, 1)


def _hardened(glyphs: Tensor, draw: Draw) -> Tensor:
    """Return the glyphs with hard edges and strokes of some other width, (N, 1, 56, 56)."""
    if glyphs.shape[-1] != GLYPH_SIZE:
        glyphs = functional.interpolate(glyphs, (GLYPH_SIZE, GLYPH_SIZE), mode="bilinear", align_corners=False)
    smooth = functional.avg_pool2d(functional.pad(glyphs, (1, 1, 1, 1)), 3, 1)
    return ((smooth - draw.uniform(0.1, 0.4)) * draw.uniform(1.5, 5.0)).clamp(0, 1)


def _frames(draw: Draw) -> Tensor:
    """Return half of width and height of each frame inside the canvas, (N, 2)."""
    aspects = torch.tensor([aspect for aspect, _ in _ASPECTS])
    weights = torch.tensor([weight for _, weight in _ASPECTS])
    aspect = aspects[torch.multinomial(weights, draw.count, replacement=True, generator=draw.generator)]
    return torch.stack([aspect.clamp(max=1), (1 / aspect).clamp(max=1)], dim=1).to(draw.device)


def _placements(draw: Draw, frame: Tensor, ink_share: Tensor, angle: Tensor) -> Tensor:
    """Return placements (N, 2, 3) of boxes whose ink lies in the frame."""
    ink = ink_share.view(-1) * frame.min(dim=1).values  # half of its height, in half sides of the canvas
    turned = angle.view(-1)
    reach = ink * (turned.cos() + turned.sin().abs() * 0.7)
    room = (frame - reach[:, None]).clamp(min=0)
    centre = draw.several(2, -1, 1) * room
    return similarity_matrix(torch.cat([turned[:, None], (ink / INK_SHARE)[:, None], centre], dim=1))


def _strokes(glyphs: Tensor, placements: Tensor, draw: Draw) -> Tensor:
    """Return how much ink covers each pixel, (N, 1, 160, 160): averaged where a glyph is smaller than its drawing."""
    corners = placed_corners(placements)
    side = placements[:, 0, :2].norm(dim=1).view(-1, 1, 1)
    corners = corners + draw.several(8, -0.12, 0.12).view(-1, 4, 2) * side
    pixels = (side * SCENE_CANVAS).view(-1, 1, 1, 1)  # of the box
    half = functional.avg_pool2d(glyphs, 2)
    middle, coarse = (
        functional.interpolate(level, (GLYPH_SIZE, GLYPH_SIZE), mode="bilinear", align_corners=False)
        for level in (half, functional.avg_pool2d(half, 2))
    )
    level = torch.where(pixels > 0.7 * GLYPH_SIZE, glyphs, torch.where(pixels > 0.35 * GLYPH_SIZE, middle, coarse))
    strokes: Tensor = Sampler()(
        level, square_grid("projective", SCENE_CANVAS, str(draw.device))(homography_theta(corners))
    )
    sharper: Tensor = ((strokes - 0.5) * (pixels / GLYPH_SIZE).clamp(1, 4) + 0.5).clamp(0, 1)
    return sharper


def _card_mask(placements: Tensor, draw: Draw) -> Tensor:
    """Return where a card around each box lies, (N, 1, 160, 160)."""
    extent = draw.several(2, 0.85, 2.55)
    shift = draw.several(2, -1, 1) * (extent - 0.75).clamp(0, 1)
    return _rectangle_mask(placements, shift, extent)


def _rectangle_mask(placements: Tensor, centre: Tensor, extent: Tensor) -> Tensor:
    """Return a rectangle in the coordinates of each box, half sides ``extent`` (N, 2) about ``centre`` (N, 2)."""
    own = inverse_affine(placements)
    pixel = 2 / SCENE_CANVAS / placements[:, 0, :2].norm(dim=1)
    axis = _axis(placements.device)
    beyond = []
    for row in range(2):  # along each axis of the box
        a, b, c = (own[:, row] / pixel[:, None]).T
        c = c - centre[:, row] / pixel
        along = (a[:, None] * axis + c[:, None])[:, None, :] + (b[:, None] * axis)[:, :, None]
        beyond.append(along.abs() - (extent[:, row] / pixel)[:, None, None])
    inside: Tensor = (0.5 - torch.maximum(*beyond)).clamp(0, 1)
    return inside[:, None]


def _axis(device: torch.device) -> Tensor:
    """Return where the pixels of a row lie, (160,), from -1 to 1."""
    return (torch.arange(SCENE_CANVAS, device=device) + 0.5) * (2 / SCENE_CANVAS) - 1


def _with_line(picture: Tensor, main: Tensor, draw: Draw) -> Tensor:
    """Return the scenes with a line or an edge across each that spares the box at ``main``."""
    axis = _axis(picture.device)
    angle = draw.uniform(0, math.pi)
    cosine, sine = torch.cos(angle) * SCENE_CANVAS / 2, torch.sin(angle) * SCENE_CANVAS / 2  # pixels
    columns, rows = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    width, length = draw.uniform(0.005, 0.06) * SCENE_CANVAS / 2, draw.uniform(0.05, 1.0) * SCENE_CANVAS / 2
    across = (columns * cosine - draw.uniform(-1, 1) * SCENE_CANVAS / 2) + rows * sine
    along = (rows * cosine - draw.uniform(-1, 1) * SCENE_CANVAS / 2) - columns * sine
    mask = (torch.minimum(width - across.abs(), length - along.abs()) + 0.5).clamp(0, 1)
    centre = torch.zeros(len(main), 2, device=main.device)
    mask = mask * (1 - _rectangle_mask(main, centre, torch.full_like(centre, 1.1)))
    return torch.lerp(picture, draw.uniform(0, 1).expand_as(picture), mask)


def _add_others(
    picture: Tensor,
    glyphs: Tensor,
    reject: Tensor,
    main: Tensor,
    ink_share: Tensor,
    frame: Tensor,
    ink: Tensor,
    draw: Draw,
) -> None:
    """Add further glyphs to some of the scenes: no digit beside what is none, nor one as large as the first."""
    chosen = (torch.rand(draw.count, generator=draw.generator) < 0.3).nonzero().flatten()
    other = torch.randperm(draw.count, generator=draw.generator)[: len(chosen)]
    kept = ~(~reject[other] & reject[chosen])
    chosen, other = chosen[kept], other[kept]
    draw = draw.part(len(chosen))
    is_digit = ~reject[other].to(draw.device)
    chosen, other = chosen.to(draw.device), other.to(draw.device)
    largest = torch.where(is_digit, 0.85, 1.5).view(-1, 1, 1, 1)
    share = (ink_share[chosen] * (0.3 + (largest - 0.3) * draw.uniform(0, 1))).clamp(0.06, 1)
    placed = _placements(draw, frame[chosen], share, draw.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE))
    apart = (placed[:, :, 2] - main[chosen, :, 2]).norm(dim=1)
    reach = INK_SHARE * 1.3 * (placed[:, 0, :2].norm(dim=1) + main[chosen, 0, :2].norm(dim=1))
    allowed = (apart > reach) & (~is_digit | (share < 0.9 * ink_share[chosen]).view(-1))
    stroke = _strokes(glyphs[other], placed, draw) * allowed.view(-1, 1, 1, 1)
    colour = torch.where(draw.chance(0.7), ink[chosen], draw.uniform(0, 1))
    picture[chosen] = torch.lerp(picture[chosen], colour.expand_as(stroke), stroke)


def _inside(frame: Tensor) -> Tensor:
    """Return 1 inside the frames and 0 in the bars around them, (N, 1, 160, 160)."""
    axis = _axis(frame.device).abs()
    columns, rows = axis[None, None, :] < frame[:, 0, None, None], axis[None, :, None] < frame[:, 1, None, None]
    return (columns & rows)[:, None]


def _texture(draw: Draw) -> Tensor:
    """Return a texture, (N, 1, 160, 160), roughly in [-1, 1]: mottled, ruled, or half covered by another surface."""
    rough = (
        draw.smooth(8) * draw.uniform(0, 1)
        + draw.smooth(30) * draw.uniform(0, 1)
        + draw.smooth(79) * draw.uniform(0, 1)
    )
    axis = torch.linspace(-1, 1, draw.canvas, device=draw.device)
    angle = draw.uniform(0, math.pi)
    across = axis.view(1, 1, 1, -1) * torch.cos(angle) + axis.view(1, 1, -1, 1) * torch.sin(angle)
    ruled = torch.cos(across * draw.uniform(10, 90) + draw.uniform(0, 6.3))
    lines = torch.where(draw.chance(0.5), ruled, -(ruled.clamp(min=0.9) - 0.9) * 10)
    edge = torch.sigmoid((across - draw.uniform(0.3, 1.2)) * 60) * draw.uniform(-2, 2)
    return rough + lines * draw.chance(0.25) + edge * draw.chance(0.3)


def _light(draw: Draw) -> Tensor:
    """Return the brightness of the light at each pixel, (N, 1, 160, 160), around 1."""
    axis = torch.linspace(-1, 1, draw.canvas, device=draw.device)
    slope = axis.view(1, 1, 1, -1) * draw.uniform(-0.35, 0.35) + axis.view(1, 1, -1, 1) * draw.uniform(-0.35, 0.35)
    return (1 + slope + draw.smooth(3) * draw.uniform(0, 0.2)).clamp(min=0.4)


def blurred(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Return the pictures (N, 1, H, W), each blurred by a Gaussian of its own sigma, (N, 1, 1, 1) pixels."""
    offsets = torch.arange(-3, 4, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma.view(-1, 1).square() + 1e-6))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    count, _, height, width = pictures.shape
    padded = functional.pad(pictures.view(1, count, height, width), (3, 3, 3, 3), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(count, 1, 1, 7), groups=count)
    return functional.conv2d(rows, kernel.view(count, 1, 7, 1), groups=count).view(count, 1, height, width)
