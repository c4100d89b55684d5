"""Glyphs, handwritten and printed: digits to be found, and letters and blanks that are none."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stn_runtime import InputError

from .scenes import GLYPH_SIZE, INK_SHARE

log = logging.getLogger(__name__)

DIGITS = "0123456789"
OTHERS = "ACDEFHJKMNPRTUVWXYadefhjkmnrtuwxy?!&%#@+=*<>$"
"""Glyphs that no one takes for a digit; O, l, S, Z, B, g and q are left out."""

_SUFFIXES = (".ttf", ".otf", ".ttc")


def printed(text: str, typefaces: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Return every character of ``text`` in every typeface that has them all.

    Args:
        text: Characters.
        typefaces: Files of typefaces.

    Returns:
        Glyphs (N, 56, 56, 1) uint8, light on dark, their ink as high as that of MNIST's digits; and the index in
        ``text`` of each, (N,).
    """
    glyphs: list[Tensor] = []
    indices: list[int] = []
    for path in typefaces:
        drawn = [_drawn(character, path) for character in text]
        if not _are_whole(drawn):
            continue
        glyphs += [torch.from_numpy(glyph) for glyph in drawn if glyph is not None]
        indices += range(len(text))
    if not glyphs:
        raise InputError("none of the typefaces has the digits; give a folder with .ttf or .otf files of Latin script")
    return torch.stack(glyphs)[..., None], torch.tensor(indices)


def typefaces_in(folder: Path) -> list[Path]:
    """Return the typefaces below a folder, sorted by name.

    Raises:
        InputError: There is none.
    """
    found = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES), key=lambda path: (path.name, path)
    )
    if not found:
        raise InputError(f"{folder}: holds no typeface (.ttf, .otf, .ttc); on Debian they are in /usr/share/fonts")
    return found


def with_digits(typefaces: Sequence[Path]) -> list[Path]:
    """Return the typefaces that have ten digits which look as those of most do; symbols at their place do not."""
    usable: list[Path] = []
    sheets: list[NDArray[np.float32]] = []
    for path in typefaces:
        drawn = [_drawn(digit, path) for digit in DIGITS]
        if _are_whole(drawn):
            usable.append(path)
            sheets.append(np.stack([glyph for glyph in drawn if glyph is not None]).astype(np.float32).reshape(10, -1))
    if not usable:
        return []
    common = np.median(np.stack(sheets), axis=0)
    common /= np.linalg.norm(common, axis=1, keepdims=True).clip(1)
    recognised = [int(((sheet @ common.T).argmax(axis=1) == np.arange(10)).sum()) for sheet in sheets]
    return [path for path, count in zip(usable, recognised, strict=True) if count > 3]


def _drawn(character: str, path: Path) -> NDArray[np.uint8] | None:
    """Return one character as an image, 56 x 56; None where the typeface does not have it."""
    large = 8 * GLYPH_SIZE
    try:
        font = ImageFont.truetype(str(path), large // 2)
        left, top, right, bottom = (round(edge) for edge in font.getbbox(character))
    except (OSError, ValueError):
        return None
    if right - left < 2 or bottom - top < 2 or max(right - left, bottom - top) > 4 * large:
        return None
    picture = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(picture).text((-left, -top), character, 255, font)
    ink = round(GLYPH_SIZE * INK_SHARE)
    scale = ink / max(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BOX
    )
    glyph = np.zeros((GLYPH_SIZE, GLYPH_SIZE), np.uint8)
    down, across = (GLYPH_SIZE - small.height) // 2, (GLYPH_SIZE - small.width) // 2
    glyph[down : down + small.height, across : across + small.width] = np.asarray(small)
    return glyph if glyph.max() > 128 else None


def _are_whole(drawn: Sequence[NDArray[np.uint8] | None]) -> bool:
    """Return whether every character was drawn, and no two are alike, as the boxes of a typeface without them are."""
    return len({glyph.tobytes() for glyph in drawn if glyph is not None}) == len(drawn)
