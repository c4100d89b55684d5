"""Digits and letters as smooth fields, which keep crisp edges at any size: from MNIST's pictures and from typefaces."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stn_runtime import InputError

LETTERS = "ACEFHJKMNPRTUVWXYadefhkmnprtuvwxyz"
"""Without those that are a digit to the eye: B D G I L O Q S Z b c g i j l o q s."""

# Fonts that have signs in the places of letters.
_NO_LETTERS = ("Symbol", "Keyboard", "D050000L", "Dingbats")
_ENLARGED = 4  # pixels of a field for one of MNIST's
_PRINTED = 120  # pixels of a field for the size of a typeface
_ROOM = 8  # empty pixels of a field around the ink


@dataclass(frozen=True, eq=False)
class Glyph:
    """One upright digit or letter.

    Attributes:
        label: What it says.
        field: (h, w) float32, at least 0.5 where there is ink, and 0 at the border.
        slope: How much the field changes across an edge, per pixel.
    """

    label: str
    field: NDArray[np.float32]
    slope: float

    @cached_property
    def hull(self) -> NDArray[np.float32]:
        """Convex hull of the ink, (M, 2) as (x, y), (0, 0) the centre of the field's first pixel."""
        rows, columns = np.nonzero(self.field >= 0.5)
        centres = np.stack((columns, rows), axis=1).astype(np.float32)
        edges = np.concatenate([centres + corner for corner in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
        return cv2.convexHull(edges.astype(np.float32))[:, 0]

    @property
    def box(self) -> NDArray[np.float32]:
        """Bounding box of the ink in the field: left, top, right, bottom."""
        return np.concatenate((self.hull.min(0), self.hull.max(0)))


@dataclass(frozen=True)
class Typeface:
    """A font file by its family and style."""

    name: str
    path: Path


def handwritten(label: str, picture: NDArray[np.uint8]) -> Glyph:
    """Return a digit of MNIST, (28, 28) with light ink, as a glyph."""
    side = picture.shape[0] * _ENLARGED
    large = cv2.resize(picture.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(np.pad(large, _ROOM), (0, 0), 0.55 * _ENLARGED)
    return Glyph(label, np.clip(1.3 * smooth, 0, 1), 0.5 / _ENLARGED)


def printed(text: str, typeface: Typeface) -> Glyph:
    """Return a character of a typeface as a glyph."""
    font = ImageFont.truetype(str(typeface.path), _PRINTED)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    sheet = Image.new("L", (right - left + 2 * _ROOM, bottom - top + 2 * _ROOM))
    ImageDraw.Draw(sheet).text((_ROOM - left, _ROOM - top), text, 255, font)
    field = cv2.GaussianBlur(np.asarray(sheet, np.float32) / 255, (0, 0), 1.0)
    return Glyph(text, field, 0.4)


def find_typefaces(folder: Path | None = None) -> list[Typeface]:
    """Return the typefaces with digits and Latin letters, by name: those of a folder, or all that fontconfig knows,
    none where its ``fc-list`` is missing.

    Raises:
        InputError: There is no such folder.
    """
    if folder is None:
        program = shutil.which("fc-list")
        if program is None:
            return []
        listed = subprocess.run([program, ":lang=en", "file"], capture_output=True, text=True, check=True).stdout
        paths = [Path(line.rstrip().removesuffix(":")) for line in listed.splitlines()]
    elif folder.is_dir():
        paths = [path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")]
    else:
        raise InputError(f"{folder}: no such folder of typefaces")
    found: dict[str, Typeface] = {}
    for path in sorted(paths):
        try:
            font = ImageFont.truetype(str(path), 32)
        except OSError:  # a bitmap font, which has one size
            continue
        name = " ".join(part for part in font.getname() if part)
        if not any(word in name for word in _NO_LETTERS) and _has_all(font, "0123456789" + LETTERS):
            found.setdefault(name, Typeface(name, path))
    return [found[name] for name in sorted(found)]


def _has_all(font: ImageFont.FreeTypeFont, characters: Sequence[str]) -> bool:
    """Tell whether no character is drawn empty, or as the sign for a missing one."""
    missing = bytes(font.getmask("\U0010ffff"))
    return all(bytes(font.getmask(character)) not in (b"", missing) for character in characters)
