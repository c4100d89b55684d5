"""House plates that are drawn: one to five digits in many typefaces, seen from the side, dirty, blurred, at night.

Every plate follows from a seed and its number alone.
"""

import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from stn_runtime import InputError, PreprocessSpec, preprocess

from ..data.labelled_images import LabelledImages
from ..digits.glyphs import DIGITS, typefaces_in, with_digits

END = "end"
"""Name of the class behind the last digit."""
LONGEST = 5
_COUNTS = {"train": 50_000, "val": 2_000, "test": 5_000}
_SEEDS = {"train": 11, "val": 12, "test": 13}

_CANVAS = 128  # side of a scene, pixels
_PLATE = (120, 240)  # height and width of a plate before it is seen from somewhere, pixels
_TYPE_SIZE = 84
_LENGTHS = (0.06, 0.12, 0.28, 0.3, 0.17, 0.07)
"""Share of plates with 0 to 5 digits; those without show letters or nothing."""
_LETTERS = "ABCDEFGHKLMNPRSTVWXZ"

log = logging.getLogger(__name__)

Picture = NDArray[np.floating[Any]]
"""Colours from 0 to 1, (H, W, 3), or shares of something, (H, W)."""

Colour = NDArray[np.floating[Any]]
"""Red, green and blue from 0 to 1, (3,)."""


def house_plates(split: str, spec: PreprocessSpec, typefaces: Path, count: int | None = None) -> LabelledImages:
    """Return drawn plates with their numbers, up to five digits and then the class ``end``.

    Every sixth typeface is kept from training, for validation and test.

    Args:
        split: ``train``, ``val`` or ``test``; ``all`` is all three.
        spec: Size and colour to bring the pictures to.
        typefaces: Folder of typefaces.
        count: Number of plates; by default 50,000 for training, 2,000 for validation, 5,000 for testing.

    Raises:
        InputError: There is no typeface with digits.
    """
    parts = ("train", "val", "test") if split == "all" else (split,)
    drawn = [_drawn(part, spec, typefaces, _COUNTS[part] if count is None else count) for part in parts]
    images, labels = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
    classes = (*DIGITS, END)
    return LabelledImages(images, labels, classes, "house-plates", end=classes.index(END))


@lru_cache(maxsize=3)
def _drawn(part: str, spec: PreprocessSpec, typefaces: Path, count: int) -> tuple[Tensor, Tensor]:
    """Return plates (N, H, W, C) uint8 and their labels (N, 5); kept for the next run of one process."""
    faces = [str(path) for path in faces_of(typefaces, part)]
    log.info("drawing %d plates for %s", count, part)
    images = torch.empty(count, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    labels = torch.empty(count, LONGEST, dtype=torch.long)

    def draw(index: int) -> None:
        picture, number = draw_plate((_SEEDS[part], index), faces)
        images[index] = torch.from_numpy(preprocess(picture, spec))
        labels[index] = torch.tensor(spelled(number))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(draw, range(count))
        list(tqdm(done, f"drawing {part} plates", count, leave=False, disable=None))
    return images, labels


def spelled(number: str) -> list[int]:
    """Return the labels of a number of at most five digits."""
    return [*map(int, number), *[len(DIGITS)] * (LONGEST - len(number))]


def draw_plate(seed: Sequence[int], typefaces: Sequence[str]) -> tuple[NDArray[np.uint8], str]:
    """Return one plate, (128, 128, 3) RGB, and its number, which is empty on a few.

    Args:
        seed: Decides everything.
        typefaces: Files of typefaces that have the digits.
    """
    random = np.random.default_rng(list(seed))
    length = int(random.choice(len(_LENGTHS), p=_LENGTHS))
    number = "".join(str(digit) for digit in random.integers(10, size=length))
    if length > 1 and number[0] == "0":
        number = str(random.integers(1, 10)) + number[1:]
    font = _font(str(random.choice(list(typefaces))))
    scene = _wall(random)
    plate, cover = _plate(random, number, font, scene.mean(axis=(0, 1)))
    if random.random() < 0.4:
        _add_neighbours(random, scene, font)
    scene = _placed(random, scene, plate, cover, 0.5 + 0.05 * length)
    scene = _spoiled(random, scene)
    return np.rint(scene.clip(0, 1) * 255).astype(np.uint8), number


@lru_cache(maxsize=512)
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, _TYPE_SIZE)


@lru_cache(maxsize=8)
def faces_of(typefaces: Path, split: str) -> tuple[Path, ...]:
    """Return the typefaces of a split that have the digits.

    Raises:
        InputError: There is none.
    """
    usable = with_digits(typefaces_in(typefaces))
    chosen = [path for index, path in enumerate(usable) if (index % 6 == 0) == (split != "train")]
    if not chosen:
        raise InputError(f"{typefaces}: plates need two typefaces or more that have the digits; found {len(usable)}")
    return tuple(chosen)


def _plate(
    random: np.random.Generator, number: str, font: ImageFont.FreeTypeFont, wall: Colour
) -> tuple[Picture, Picture]:
    """Return a plate with its number, and how much of the wall it covers, (H, W) from 0 to 1."""
    height, width = _PLATE
    text = number or ("" if random.random() < 0.4 else "".join(random.choice(list(_LETTERS), random.integers(1, 4))))
    ink = _lettering(random, text, font)
    on_wall = bool(number) and random.random() < 0.3  # the digits alone
    face, colour = _colours(random, wall if on_wall else None)
    plate = np.broadcast_to(face, (height, width, 3)).astype(np.float32).copy()
    cover = ink
    if not on_wall:
        cover = np.zeros((height, width), np.float32)
        _outline(random, cover, plate, colour)
    if random.random() < 0.3:  # raised
        shadow = np.roll(ink, random.integers(2, 6, 2), (0, 1)) * random.uniform(0.3, 0.8)
        plate = plate * (1 - shadow[..., None])
        cover = np.maximum(cover, shadow)
    return plate * (1 - ink[..., None]) + colour * ink[..., None], cover


def _lettering(random: np.random.Generator, text: str, font: ImageFont.FreeTypeFont) -> Picture:
    """Return a text as ink on a plate, (H, W) from 0 to 1, its characters now and then out of line."""
    height, width = _PLATE
    sheet = PillowImage.new("L", (width * 3, height * 2))
    draw = ImageDraw.Draw(sheet)
    across, gap = 30.0, random.uniform(-2, 17)
    stagger = random.uniform(0, 8) if random.random() < 0.3 else 0.0
    for character in text:
        draw.text((across, 50 + random.uniform(-stagger, stagger)), character, 255, font)
        across += font.getlength(character) + gap
    box = sheet.getbbox()
    canvas = np.zeros((height, width), np.float32)
    if box is None:
        return canvas
    room = np.array([width * random.uniform(0.6, 0.9), height * random.uniform(0.55, 0.85)])
    scale = min(room / (box[2] - box[0], box[3] - box[1]))
    wide, high = (max(1, round(side * scale)) for side in (box[2] - box[0], box[3] - box[1]))
    top, left = (height - high) // 2, (width - wide) // 2
    canvas[top : top + high, left : left + wide] = _resized(_ink(sheet.crop(box)), (wide, high), cv2.INTER_AREA)
    return canvas


def _colours(random: np.random.Generator, wall: Colour | None) -> tuple[Colour, Colour]:
    """Return the colours of a plate, or the wall's, and of the ink on it, far enough apart to be read."""
    weights = np.array([0.299, 0.587, 0.114])
    while True:
        face, ink = random.uniform(0, 1, (2, 3))
        if wall is not None:
            face = wall
        elif random.random() < 0.5:  # grey, white and black are frequent
            face = np.full(3, face.mean()) + random.uniform(-0.05, 0.05, 3)
        if random.random() < 0.5:
            ink = np.full(3, random.choice((0.05, 0.95))) + random.uniform(-0.05, 0.05, 3)
        if abs(float((face - ink) @ weights)) > 0.4:
            return face.clip(0, 1), ink.clip(0, 1)


def _outline(random: np.random.Generator, cover: Picture, plate: Picture, colour: Colour) -> None:
    """Draw the shape of a plate into its cover, with a rim and screws on some."""
    height, width = cover.shape
    is_round = random.random() < 0.25
    face, rim = plate[2, 2].tolist(), int(random.integers(8, 14))

    def fill(target: Picture, inset: int, value: Any) -> None:  # noqa: ANN401  (one number, or three)
        if is_round:
            axes = (width // 2 - inset, height // 2 - inset)
            cv2.ellipse(target, (width // 2, height // 2), axes, 0, 0, 360, value, -1)
        else:
            cv2.rectangle(target, (inset, inset), (width - inset - 1, height - inset - 1), value, -1)

    fill(cover, 2, 1.0)
    if random.random() < 0.4:
        fill(plate, rim, colour.tolist())
        fill(plate, rim + 6, face)
    if random.random() < 0.3:
        for across in (18, width - 19):
            cv2.circle(plate, (across, height // 2), 5, (0.4, 0.4, 0.42), -1, cv2.LINE_AA)


def _wall(random: np.random.Generator) -> Picture:
    """Return a wall: plaster of uneven colour, on some with the joints of bricks or boards."""
    base = random.uniform(0.1, 0.95) + random.uniform(-0.12, 0.12, 3)
    size = tuple(random.integers(3, 12, 2))
    coarse = random.normal(0, 0.09, (*size, 1)) + random.normal(0, 0.02, (*size, 3))
    uneven = _resized(coarse, (_CANVAS, _CANVAS), cv2.INTER_CUBIC)
    grain = random.normal(0, random.uniform(0, 0.06), (_CANVAS, _CANVAS, 1))
    scene = (base + uneven + grain).astype(np.float32)
    kind = random.random()
    if kind < 0.5:
        high, wide = int(random.integers(8, 30)), int(random.integers(20, 60))
        joint = (base + random.choice((-0.25, 0.25))).clip(0, 1).tolist()
        for row, down in enumerate(range(int(random.integers(high)), _CANVAS, high)):
            cv2.line(scene, (0, down), (_CANVAS, down), joint, 1)
            for across in range((row % 2) * wide // 2, _CANVAS, wide) if kind < 0.3 else ():
                cv2.line(scene, (across, down), (across, down + high), joint, 1)
    return scene


def _add_neighbours(random: np.random.Generator, scene: Picture, font: ImageFont.FreeTypeFont) -> None:
    """Draw what hangs beside a plate: pipes, bell buttons, parts of letters."""
    for _ in range(int(random.integers(1, 4))):
        colour = random.uniform(0, 1, 3)
        inward = int(random.integers(0, 14))
        edge = inward if random.random() < 0.5 else _CANVAS - 1 - inward
        kind = random.integers(3)
        if kind == 0:
            end = (edge + int(random.integers(-8, 9)), _CANVAS)
            cv2.line(scene, (edge, 0), end, colour.tolist(), int(random.integers(2, 9)))
        elif kind == 1:
            centre = (edge, int(random.integers(_CANVAS)))
            cv2.circle(scene, centre, int(random.integers(3, 9)), colour.tolist(), -1, cv2.LINE_AA)
        else:
            letter = PillowImage.new("L", (_TYPE_SIZE, _TYPE_SIZE))
            ImageDraw.Draw(letter).text((8, -8), str(random.choice(list(_LETTERS))), 255, font)
            side = int(random.integers(18, 40))
            top, left = int(random.integers(-side // 2, 8)), int(random.integers(0, _CANVAS - side))
            ink = _resized(_ink(letter), (side, side), cv2.INTER_AREA)[max(0, -top) :, :, None]
            place = scene[max(0, top) : max(0, top) + len(ink), left : left + side]
            place[:] = place * (1 - ink) + colour * ink


def _placed(random: np.random.Generator, scene: Picture, plate: Picture, cover: Picture, least: float) -> Picture:
    """Return the scene with all of the plate on it, turned, seen from the side, at ``least`` that share of it wide."""
    height, width = _PLATE
    across = _CANVAS * math.exp(random.uniform(math.log(least), math.log(0.98)))
    half = np.array([across / 2, across / 2 * height / width * random.uniform(0.8, 1.25)])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    depth = 1 + corners @ random.normal(0, 0.1, 2).clip(-0.2, 0.2)
    angle = math.radians(random.normal(0, 9))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = (corners * half / depth[:, None]) @ turn.T
    corners *= min(1.0, *(0.98 * _CANVAS / np.ptp(corners, axis=0)))
    corners += random.uniform(0, 1, 2) * (_CANVAS - np.ptp(corners, axis=0)) - corners.min(axis=0)
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(source, corners.astype(np.float32))
    shrink = across / width
    if shrink < 0.5:  # what is made smaller is averaged first
        plate, cover = (_blurred(image, 0.35 / shrink) for image in (plate, cover))
    size = (_CANVAS, _CANVAS)
    seen = cv2.warpPerspective(plate, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shown = np.asarray(cv2.warpPerspective(cover, warp, size, flags=cv2.INTER_LINEAR), np.float32)[..., None]
    return scene * (1 - shown) + np.asarray(seen, np.float32) * shown


def _spoiled(random: np.random.Generator, scene: Picture) -> Picture:
    """Return the scene with dirt, light, blur, night, noise and the marks of a JPEG on some."""
    if random.random() < 0.35:
        spots = _resized(random.normal(0, 1, random.integers(4, 14, 2)), (_CANVAS, _CANVAS), cv2.INTER_CUBIC)
        dirt = (spots - 0.8).clip(0, 1)[..., None]
        scene = scene * (1 - dirt * random.uniform(0.2, 0.5)) + dirt * random.uniform(0, 0.15)
    if random.random() < 0.4:  # light from one side
        ramp = np.linspace(random.uniform(0.5, 1), random.uniform(0.9, 1.3), _CANVAS)
        scene = scene * (ramp[None, :, None] if random.random() < 0.5 else ramp[:, None, None])
    if random.random() < 0.5:
        scene = _blurred(scene, random.uniform(0.4, 1.6))
    if random.random() < 0.15:  # a hand that moved
        length = int(random.integers(3, 8))
        kernel = np.full((1, length), 1 / length)
        scene = np.asarray(cv2.filter2D(scene, -1, kernel if random.random() < 0.5 else kernel.T), np.float32)
    if random.random() < 0.2:  # night
        scene = scene * random.uniform(0.3, 0.65) * np.array([1.0, random.uniform(0.8, 1), random.uniform(0.55, 1)])
    scene = scene + random.normal(0, random.uniform(0, 0.04) * (0.5 + scene.mean()), scene.shape)
    if random.random() < 0.5:
        levels = np.rint(scene.clip(0, 1) * 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))])
        scene = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32) / 255
    return scene


def _ink(picture: PillowImage.Image) -> Picture:
    return np.asarray(picture, np.float32) / 255


def _resized(image: Picture, size: tuple[int, int], interpolation: int) -> Picture:
    """Return an image at another size, (width, height)."""
    return np.asarray(cv2.resize(image.astype(np.float32), size, interpolation=interpolation), np.float32)


def _blurred(image: Picture, deviation: float) -> Picture:
    """Return an image blurred by a Gaussian, its standard deviation in pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation), np.float32)
