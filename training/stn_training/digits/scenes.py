"""Whole frames with a glyph somewhere: on paper, on a card, before a photograph, among clutter and other glyphs."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from stn_models import GridGenerator, Sampler

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
        draw = Draw(generator, len(glyphs), glyphs.device)
        levels = _levels(glyphs, draw)
        frame = _frames(draw)
        ink_share = torch.exp(draw.uniform(math.log(_LEAST_INK), math.log(_MOST_INK)))
        angle = draw.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE)
        main = _placements(draw, frame, ink_share, angle)
        contrast = draw.uniform(0.3, 0.95)
        level = draw.uniform(0.0, 1.0) * (1 - contrast)  # the darker of ink and paper
        light_ink = draw.chance(0.4)
        ink = torch.where(light_ink, level + contrast, level)
        paper = torch.where(light_ink, level, level + contrast)

        surface = (paper + _texture(draw) * draw.uniform(0.0, 0.35) * contrast).clamp(0, 1)
        picture = surface
        if self.backgrounds is not None:
            picture = _photographed(self.backgrounds, surface, paper, contrast, main, draw)
        picture = _with_lines(picture, draw, _box_mask(main, draw, 1.1))
        picture = _with_others(picture, levels, reject, main, ink_share, frame, ink, draw)
        stroke = _strokes(levels, main, draw)
        picture = picture * (1 - stroke) + ink * stroke
        picture = picture * _light(draw)
        box = main[:, 0, :2].norm(dim=1).view(-1, 1, 1, 1) * SCENE_CANVAS  # pixels
        picture = blurred(picture, draw.uniform(0.0, 1.0) * (box / 60).clamp(0.4, 1.5))
        picture = picture + draw.normal(SCENE_CANVAS) * draw.uniform(0.0, 0.05) * draw.chance(0.8)
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
    """Return scenes of which some are before photographs: the glyph on a card, or on the photograph itself."""
    photograph = _photographs(backgrounds, draw)
    bare = draw.chance(0.3)  # no card: the photograph is made flat enough there that ink stands out
    flat = (paper + (photograph - photograph.mean(dim=(2, 3), keepdim=True)) * contrast * 0.6).clamp(0, 1)
    card = _card_mask(main, draw)
    on_card = photograph * (1 - card) + surface * card
    return torch.where(draw.chance(0.65), torch.where(bare, flat, on_card), surface)


def _photographs(backgrounds: Tensor, draw: Draw) -> Tensor:
    """Return pieces of photographs, (N, 1, 160, 160), turned, mirrored and repeated to fill the canvas."""
    index = torch.randint(len(backgrounds), (draw.count,), generator=draw.generator)
    pictures = backgrounds[index.to(backgrounds.device)].to(draw.device)[:, None].float() / 255
    scale = torch.exp(draw.uniform(math.log(0.5), math.log(4.0)))
    columns = (draw.uniform(-0.3, 0.3), scale, draw.uniform(-1, 1), draw.uniform(-1, 1))
    theta = similarity_matrix(torch.cat(columns, dim=1).flatten(1)).flatten(1)
    pieces: Tensor = Sampler(padding="reflection")(pictures, _grid("affine", draw)(theta))
    return (pieces * draw.uniform(0.5, 1.3) + draw.uniform(-0.15, 0.15)).clamp(0, 1)


def _grid(name: str, draw: Draw) -> GridGenerator:
    return square_grid(name, SCENE_CANVAS, str(draw.device))


def _levels(glyphs: Tensor, draw: Draw) -> list[Tensor]:
    """Return the glyphs with hard edges and strokes of some other width, at 56, 28 and 14 pixels."""
    if glyphs.shape[-1] != GLYPH_SIZE:
        glyphs = functional.interpolate(glyphs, (GLYPH_SIZE, GLYPH_SIZE), mode="bilinear", align_corners=False)
    smooth = functional.avg_pool2d(functional.pad(glyphs, (1, 1, 1, 1)), 3, 1)
    hard = ((smooth - draw.uniform(0.1, 0.4)) * draw.uniform(1.5, 5.0)).clamp(0, 1)
    half = functional.avg_pool2d(hard, 2)
    return [hard, half, functional.avg_pool2d(half, 2)]


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


def _strokes(levels: list[Tensor], placements: Tensor, draw: Draw) -> Tensor:
    """Return how much ink covers each pixel, (N, 1, 160, 160): averaged where a glyph is smaller than its drawing."""
    corners = placed_corners(placements)
    side = placements[:, 0, :2].norm(dim=1).view(-1, 1, 1)
    corners = corners + draw.several(8, -0.12, 0.12).view(-1, 4, 2) * side
    grid = _grid("projective", draw)(homography_theta(corners))
    pixels = (side * SCENE_CANVAS).view(-1, 1, 1, 1)  # of the box
    fine, middle, coarse = (Sampler()(level, grid) for level in levels)
    sharper = ((fine - 0.5) * (pixels / GLYPH_SIZE).clamp(1, 4) + 0.5).clamp(0, 1)
    return torch.where(pixels > 0.7 * GLYPH_SIZE, sharper, torch.where(pixels > 0.35 * GLYPH_SIZE, middle, coarse))


def _box_mask(placements: Tensor, draw: Draw, margin: float) -> Tensor:
    """Return where the boxes lie, (N, 1, 160, 160), enlarged by ``margin``."""
    centre = torch.zeros(draw.count, 2, device=draw.device)
    return _rectangle_mask(placements, centre, torch.full_like(centre, margin), draw)


def _card_mask(placements: Tensor, draw: Draw) -> Tensor:
    """Return where a card around each box lies, (N, 1, 160, 160)."""
    extent = draw.several(2, 0.85, 2.55)
    shift = draw.several(2, -1, 1) * (extent - 0.75).clamp(0, 1)
    return _rectangle_mask(placements, shift, extent, draw)


def _rectangle_mask(placements: Tensor, centre: Tensor, extent: Tensor, draw: Draw) -> Tensor:
    """Return a rectangle in the coordinates of each box, half sides ``extent`` (N, 2) about ``centre`` (N, 2)."""
    points = _grid("affine", draw)(inverse_affine(placements).flatten(1))  # (N, S, S, 2)
    beyond = (points - centre[:, None, None]).abs() - extent[:, None, None]
    pixel = 2 / SCENE_CANVAS / placements[:, 0, :2].norm(dim=1).view(-1, 1, 1, 1)
    inside: Tensor = (0.5 - beyond / pixel).clamp(0, 1).amin(dim=-1)
    return inside[:, None]


def _with_lines(picture: Tensor, draw: Draw, kept_free: Tensor) -> Tensor:
    """Return the scenes, some with up to three lines or edges across them that spare ``kept_free``."""
    axis = torch.linspace(-1, 1, SCENE_CANVAS, device=draw.device)
    for _ in range(3):
        angle = draw.uniform(0, math.pi)
        across = axis.view(1, 1, 1, -1) * torch.cos(angle) + axis.view(1, 1, -1, 1) * torch.sin(angle)
        along = axis.view(1, 1, -1, 1) * torch.cos(angle) - axis.view(1, 1, 1, -1) * torch.sin(angle)
        thin = (draw.uniform(0.005, 0.06) - (across - draw.uniform(-1, 1)).abs()) * SCENE_CANVAS / 2
        short = (draw.uniform(0.05, 1.0) - (along - draw.uniform(-1, 1)).abs()) * SCENE_CANVAS / 2
        mask = (torch.minimum(thin, short) + 0.5).clamp(0, 1) * draw.chance(0.25) * (1 - kept_free)
        picture = picture * (1 - mask) + draw.uniform(0, 1) * mask
    return picture


def _with_others(
    picture: Tensor,
    levels: list[Tensor],
    reject: Tensor,
    main: Tensor,
    ink_share: Tensor,
    frame: Tensor,
    ink: Tensor,
    draw: Draw,
) -> Tensor:
    """Return the scenes, some with further glyphs: no digit beside what is none, nor one as large as the first."""
    for _ in range(2):
        other = torch.randperm(draw.count, generator=draw.generator)
        is_digit = ~reject[other]
        ratio = torch.where(is_digit.view(-1, 1, 1, 1).to(draw.device), draw.uniform(0.3, 0.85), draw.uniform(0.3, 1.5))
        share = (ink_share * ratio).clamp(0.06, 1)
        placed = _placements(draw, frame, share, draw.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE))
        apart = (placed[:, :, 2] - main[:, :, 2]).norm(dim=1)
        reach = INK_SHARE * 1.3 * (placed[:, 0, :2].norm(dim=1) + main[:, 0, :2].norm(dim=1))
        smaller = (share < 0.9 * ink_share).view(-1)
        allowed = (apart > reach) & ~(is_digit & reject).to(draw.device)
        allowed = allowed & (smaller | ~is_digit.to(draw.device)) & draw.chance(0.3).view(-1)
        chosen = [level[other.to(draw.device)] for level in levels]
        stroke = _strokes(chosen, placed, draw) * allowed.view(-1, 1, 1, 1)
        colour = torch.where(draw.chance(0.7), ink, draw.uniform(0, 1))
        picture = picture * (1 - stroke) + colour * stroke
    return picture


def _inside(frame: Tensor) -> Tensor:
    """Return 1 inside the frames and 0 in the bars around them, (N, 1, 160, 160)."""
    axis = ((torch.arange(SCENE_CANVAS, device=frame.device) + 0.5) * 2 / SCENE_CANVAS - 1).abs()
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
