"""Whole frames of a camera: digits on paper, or on a card before a photograph, in uneven light, with sensor noise.

Frames are RGB, (height, width, 3) uint8. A digit's height is that of its ink before it is turned; where it would not
fit into the frame, the digit is as large as fits. Nothing here is shared with the scenes that networks are trained on.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .glyphs import Glyph
from .photographs import Picture, Sway

Floats = NDArray[np.float32]
Tone = Literal["dark", "light"]
Colour = tuple[float, float, float]

MOST_TURNED = 45.0  # degrees, either way

_CELL = 16  # pixels of a frame for a cell of the light's coarse map
_BANK = 2048  # pixels, side of the stored noise
_GAP = 0.05  # of the shorter side, between two digits

_INKS: dict[Tone, tuple[Colour, ...]] = {
    "dark": ((28, 28, 32), (28, 46, 125), (165, 32, 38), (18, 88, 56), (74, 74, 80), (92, 36, 100)),
    "light": ((238, 238, 232), (240, 226, 150), (226, 234, 242), (246, 206, 190)),
}
_BOARDS: tuple[Colour, ...] = ((36, 38, 38), (36, 72, 58), (28, 44, 86), (84, 28, 34), (66, 66, 70), (74, 48, 32))
_CARDS: tuple[Colour, ...] = (
    (240, 240, 238),
    (240, 240, 238),
    (244, 230, 196),
    (246, 222, 116),
    (240, 182, 194),
    (168, 204, 234),
    (178, 220, 170),
    (186, 148, 106),
)


@dataclass(frozen=True, eq=False)
class Mark:
    """A digit or letter in a frame.

    Attributes:
        label: What it says.
        box: Bounding box of its ink in the frame, pixels: left, top, right, bottom; 0, 0 is the frame's corner.
        height: Height of its ink before it was turned, pixels.
        turn: Degrees, clockwise.
    """

    label: str
    box: Floats
    height: float
    turn: float

    @property
    def centre(self) -> Floats:
        """The middle of the box, (x, y)."""
        return (self.box[:2] + self.box[2:]) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame and what is written in it."""

    image: Picture
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, eq=False)
class _Placed:
    glyph: Glyph
    mark: Mark
    matrix: NDArray[np.float64]  # (2, 3), from the glyph's field to pixel centres of the frame


class Sensor:
    """Turns light into a frame: exposure, noise and rounding.

    Args:
        seed: Of the noise, which is stored once and read at another place for each frame.
    """

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        common = random.standard_normal((_BANK, _BANK, 1), np.float32)
        coloured = random.standard_normal((_BANK, _BANK, 3), np.float32)
        mixed = cv2.GaussianBlur(
            0.8 * common + 0.6 * coloured, (0, 0), 0.6
        )  # neighbours share some, as after demosaicing
        self._noise = mixed / float(mixed.std())

    def expose(self, light: Floats | Picture, random: Generator, sigma: float, exposure: float = 1.0) -> Picture:
        """Return a frame of the light in a scene, (H, W, 3) from 0 to 255; ``sigma`` is the noise, in these units."""
        height, width = light.shape[:2]
        top, left = (int(random.integers(0, _BANK - side + 1)) for side in (height, width))
        noise = self._noise[top : top + height, left : left + width]
        light = light.astype(np.float32, copy=False)
        return cv2.addWeighted(light, exposure, noise, sigma, 0, dtype=cv2.CV_8U)


def on_paper(
    writing: Sequence[tuple[Glyph, float]], size: tuple[int, int], tone: Tone, sensor: Sensor, random: Generator
) -> Scene:
    """Return plain paper, white to grey, or a dark board under light ink, with glyphs anywhere on it.

    Args:
        writing: Glyphs, each with its height as a share of the frame's shorter side; they do not touch.
        size: (height, width) of the frame, pixels.
        tone: Of the ink.
        sensor: Takes the frame.
        random: Decides the rest.
    """
    if tone == "dark":
        level = random.uniform(150, 245)
        paper = level * random.uniform((0.97, 0.97, 0.90), (1.0, 1.0, 1.0))
    else:
        paper = np.array(_BOARDS[random.integers(len(_BOARDS))]) * random.uniform(0.85, 1.15)
    light = _light(size, random)
    rough = 1 + random.uniform(0.004, 0.012) * random.standard_normal(light.shape).astype(np.float32)
    coarse = (light * rough)[..., None] * paper.astype(np.float32)
    frame = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    placed = _place(writing, size, random)
    for entry in placed:
        _write(frame, entry, np.array(_ink(tone, random)) / paper, random)
    image = sensor.expose(frame, random, random.uniform(1.5, 6.0), random.uniform(0.75, 1.03))
    return Scene(image, tuple(entry.mark for entry in placed))


def on_card(
    glyph: Glyph, share: float, size: tuple[int, int], photograph: Picture, sensor: Sensor, random: Generator
) -> Scene:
    """Return a card with one glyph before a photograph; the card is turned with the glyph, and has margins."""
    frame = _background(photograph, size, random)
    (placed,) = _place([(glyph, share)], size, random)
    tone: Tone = "light" if random.random() < 0.25 else "dark"
    colours = _BOARDS if tone == "light" else _CARDS
    colour = np.array(colours[random.integers(len(colours))], np.float32)
    box, height = glyph.box, glyph.box[3] - glyph.box[1]
    margins = random.uniform(0.3, 0.9, 4) * height * (-1, -1, 1, 1)
    corners = _transformed(_corners(box + margins), placed.matrix)
    lay_card(frame, corners, colour, _light(size, random))
    _write(frame, placed, np.array(_ink(tone, random)) / colour, random)
    image = sensor.expose(frame, random, random.uniform(1.5, 6.0), random.uniform(0.75, 1.03))
    return Scene(image, (placed.mark,))


def lay_card(frame: Floats, corners: Floats, colour: Floats, light: Floats) -> None:
    """Draw a lit card with a soft shadow.

    Args:
        frame: Light in the scene, (H, W, 3), changed in place.
        corners: Of the card in the frame, (4, 2) pixels, the centre of the first pixel (0, 0).
        colour: RGB, (3,) from 0 to 255.
        light: Coarse map of the light's brightness over the whole frame, (h, w).
    """
    height, width = frame.shape[:2]
    spread = min(height, width) / 50
    (left, top), (right, bottom) = np.floor(corners.min(0) - 3 * spread), np.ceil(corners.max(0) + 4 * spread)
    rows = slice(max(0, int(top)), min(height, int(bottom)))
    columns = slice(max(0, int(left)), min(width, int(right)))
    part = frame[rows, columns]
    cover = np.zeros(part.shape[:2], np.float32)
    local = corners - (columns.start, rows.start)
    cv2.fillConvexPoly(cover, np.round(local * 16).astype(np.int32), 1.0, cv2.LINE_8, 4)
    small = cv2.resize(cover, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    shift = np.array([(1, 0, spread / 8), (0, 1, spread / 5)])
    shadow = cv2.GaussianBlur(cv2.warpAffine(small, shift, small.shape[::-1]), (0, 0), spread / 4)
    shadow = cv2.resize(shadow, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    cover = cv2.GaussianBlur(cover, (0, 0), 0.8 * min(height, width) / 480)
    lit = cv2.resize(light[..., None] * colour, (width, height), interpolation=cv2.INTER_LINEAR)[rows, columns]
    _scale(part, (1 - cover) * (1 - 0.4 * shadow))
    _scale(lit, cover)
    part += lit


def carried_card(backgrounds: Iterable[Picture], rate: int, random: Generator) -> Iterator[Picture]:
    """Yield the backgrounds, frames of one size, with a card without writing that is carried slowly through them."""
    across, down, nearer, turning = (Sway.draw(random, slowest) for slowest in (17, 21, 13, 11))
    colour = np.array(_CARDS[random.integers(len(_CARDS))], np.float32)
    light = None
    for number, background in enumerate(backgrounds):
        height, width = background.shape[:2]
        light = _light((height, width), random) if light is None else light
        moment = number / rate
        half = height * (0.2 + 0.08 * nearer.at(moment)) * np.array((1.0, 1.25))
        angle = math.radians(MOST_TURNED * turning.at(moment))
        rotation = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
        centre = np.array((width * (0.5 + 0.3 * across.at(moment)), height * (0.5 + 0.2 * down.at(moment))))
        frame = background.astype(np.float32)
        corners = _corners(np.concatenate((-half, half))) @ rotation.T + centre
        lay_card(frame, corners.astype(np.float32), colour, light)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def empty_paper(size: tuple[int, int], random: Generator) -> Picture:
    """Return a sheet without writing, a little blotchy and grainy, for a camera to pan over."""
    paper = random.uniform(170, 240) * random.uniform((0.97, 0.97, 0.90), (1.0, 1.0, 1.0))
    grain = cv2.resize(random.normal(0, 0.006, (size[0] // 2, size[1] // 2)).astype(np.float32), size[::-1])
    light = cv2.resize(_light(size, random), size[::-1], interpolation=cv2.INTER_CUBIC) + grain
    return np.clip(light[..., None] * paper, 0, 255).astype(np.uint8)


def _light(size: tuple[int, int], random: Generator) -> Floats:
    """Return a coarse map of brightness about 1: a slope, a vignette, blotches and at times a soft shadow."""
    rows, columns = (max(4, side // _CELL) for side in size)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    toward = random.uniform(0, 2 * math.pi)
    slope = x * math.cos(toward) + y * math.sin(toward)
    light = 0.93 + random.uniform(0.0, 0.16) * slope - random.uniform(0.0, 0.1) * (x * x + y * y)
    blotches = cv2.resize(random.standard_normal((5, 6)), (columns, rows), interpolation=cv2.INTER_CUBIC)
    light += random.uniform(0.0, 0.015) * blotches
    if random.random() < 0.3:
        across = x * math.cos(toward + 1) + y * math.sin(toward + 1) - random.uniform(-0.6, 0.6)
        light *= 1 - random.uniform(0.1, 0.35) / (1 + np.exp(-across * random.uniform(4, 10)))
    return light.astype(np.float32)


def _background(photograph: Picture, size: tuple[int, int], random: Generator) -> Floats:
    """Return a part of a photograph as large as the frame, mirrored at times."""
    height, width = size
    scale = min(photograph.shape[0] / height, photograph.shape[1] / width) * random.uniform(0.5, 1.0)
    left = random.uniform(0, photograph.shape[1] - scale * width)
    top = random.uniform(0, photograph.shape[0] - scale * height)
    matrix = np.array([(scale, 0, left), (0, scale, top)])
    if random.random() < 0.5:
        matrix[0] = -scale, 0, left + scale * (width - 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(photograph, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return seen.astype(np.float32) * np.float32(random.uniform(0.7, 1.1))


def _place(writing: Sequence[tuple[Glyph, float]], size: tuple[int, int], random: Generator) -> list[_Placed]:
    """Place glyphs anywhere, turned, entirely inside the frame and apart from each other."""
    gap = _GAP * min(size)
    while True:  # two digits of half the frame find room at the second or third try
        placed: list[_Placed] = []
        for glyph, share in writing:
            entry = _placed(glyph, share * min(size), size, random)
            if all(_apart(entry.mark.box, other.mark.box, gap) for other in placed):
                placed.append(entry)
        if len(placed) == len(writing):
            return placed


def _apart(one: Floats, other: Floats, gap: float) -> bool:
    return bool(np.any(one[:2] > other[2:] + gap) or np.any(other[:2] > one[2:] + gap))


def _placed(glyph: Glyph, height: float, size: tuple[int, int], random: Generator) -> _Placed:
    turn = random.uniform(-MOST_TURNED, MOST_TURNED)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    rotation = np.array([(cosine, -sine), (sine, cosine)])  # y points down, so clockwise
    turned = glyph.hull @ rotation.T
    low, extent = turned.min(0), np.ptp(turned, axis=0)
    frame = np.array(size[::-1], np.float64)
    own = float(glyph.box[3] - glyph.box[1])
    scale = min(height / own, float(np.min(frame / extent)))
    corner = random.uniform(0, 1, 2) * (frame - scale * extent)
    matrix = np.column_stack((scale * rotation, corner - scale * low - 0.5))
    box = np.concatenate((corner, corner + scale * extent)).astype(np.float32)
    return _Placed(glyph, Mark(glyph.label, box, scale * own, turn), matrix)


def _write(frame: Floats, placed: _Placed, ink: NDArray[np.float64], random: Generator) -> None:
    """Write a glyph into the light of a scene; ``ink`` is its colour as a multiple of the paper's."""
    scale = math.hypot(*placed.matrix[:, 0])
    edge = random.uniform(1.2, 3.0) * min(frame.shape[:2]) / 480  # pixels from ink to paper, as the lens draws it
    left, top, right, bottom = placed.mark.box
    rows = slice(max(0, int(top) - 4), int(bottom) + 5)
    columns = slice(max(0, int(left) - 4), int(right) + 5)
    part = frame[rows, columns]
    matrix = placed.matrix - [(0, 0, columns.start), (0, 0, rows.start)]
    field = cv2.warpAffine(placed.glyph.field, matrix, part.shape[1::-1], flags=cv2.INTER_LINEAR)
    gain = scale / (placed.glyph.slope * edge)
    cover = np.clip((field - 0.5) * gain + 0.5, 0, 1) * np.float32(random.uniform(0.85, 1.0))
    part[:] = cv2.multiply(part, cv2.merge([1 + cover * np.float32(share - 1) for share in ink]))


def _scale(part: Floats, factor: Floats) -> None:
    """Multiply the three channels of a part of a frame, in place, many times faster than by broadcasting."""
    part[:] = cv2.multiply(part, cv2.merge([factor, factor, factor]))


def _ink(tone: Tone, random: Generator) -> Colour:
    return _INKS[tone][random.integers(len(_INKS[tone]))]


def _corners(box: NDArray[np.floating]) -> Floats:
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)


def _transformed(points: Floats, matrix: NDArray[np.float64]) -> Floats:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
