"""Text on pictures: in characters that this OpenCV can draw, in the space that there is, on a dark plate.

OpenCV 4 draws ASCII, and Cyrillic in one of its fonts; OpenCV 5 draws most scripts that are written from left to right.
Both draw a question mark for every other byte or character, so each character is tried once before it is used.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..images.opencv import cv2
from ..images.preprocessing import Image

INK, PLATE = (255, 255, 255), (20, 20, 20)
_PLATE_SHARE = 0.8  # of a plate's colour that covers the picture
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX)  # the second has Cyrillic letters in OpenCV 4
_LEAST_SCALE = 0.36  # of OpenCV's fonts: capitals 7 pixels high, the smallest that can be read
_TINIEST_SCALE = 0.1  # of what can still be seen; OpenCV 5 crashes on negative ones
_ELLIPSIS = "..."
_FOLDS = str.maketrans(
    {
        **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"},
        **{"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "\u0131": "i", "ŋ": "ng"},
        **dict.fromkeys("\u2018\u2019\u2039\u203a", "'"),  # single quotation marks
        **dict.fromkeys("\u201a\u201c\u201d\u201e\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\u00b7\u2022", "-"),  # hyphens, dashes, minus, dots
        **{"\u00d7": "x", "€": "EUR", "£": "GBP", "°": " deg"},
    }
)
"""ASCII for letters and signs that Unicode does not decompose."""


def drawable(text: str) -> tuple[str, int] | None:
    """Return the text in characters that this OpenCV draws, and the font that has them; None where there are none.

    Characters that no font has are replaced by their parts in Unicode's compatibility decomposition, without accents:
    "Überholverbot" becomes "Uberholverbot" in OpenCV 4 and stays in OpenCV 5; "交通标志" gives None in OpenCV 4.
    Characters that cannot be seen are left out, line breaks become spaces.
    """
    shown = "".join(map(_visible, unicodedata.normalize("NFC", text)))
    if text and not shown.strip():
        return None
    for font in _FONTS:
        letters = [char if _has(font, char) else _folded(char) for char in shown]
        if all(_has(font, char) for letter in letters for char in letter) and "" not in letters:
            return "".join(letters), font
    return None


def _visible(char: str) -> str:
    """Return a space for every kind of space, and nothing for control characters and marks of direction."""
    if char.isspace():
        return " "
    return "" if unicodedata.category(char) in ("Cc", "Cf") else char


def _folded(char: str) -> str:
    """Return ASCII that stands for a character, or other characters that it is made of."""
    parts = unicodedata.normalize("NFKD", char.translate(_FOLDS))
    return "".join(part for part in parts if not unicodedata.combining(part)).translate(_FOLDS)


@lru_cache(maxsize=4096)
def _has(font: int, char: str) -> bool:
    """Return whether OpenCV draws a character, from left to right; it draws question marks for those that it lacks."""
    if " " <= char <= "~":
        return True
    try:
        size = len(char.encode("utf-8"))
    except UnicodeEncodeError:  # a lone surrogate, on which OpenCV crashes
        return False
    # OpenCV neither turns nor joins letters of scripts that are written from right to left.
    if unicodedata.bidirectional(char) in ("R", "AL", "AN") or unicodedata.combining(char):
        return False
    shown = _trial(font, char)
    return bool(shown.any()) and not any(np.array_equal(shown, _trial(font, "?" * count)) for count in (1, size))


def _trial(font: int, text: str) -> NDArray[np.uint8]:
    canvas = np.zeros((48, 160), np.uint8)
    cv2.putText(canvas, text, (4, 34), font, 1.0, (255,), 1, cv2.LINE_8)
    return canvas


@dataclass(frozen=True)
class Line:
    """A line of text as it is drawn.

    Attributes:
        text: Characters that the font has.
        font: Number of OpenCV's font.
        scale: Factor of that font's size.
        width: Width of the text, pixels.
        ascent: Pixels from the top of capitals and accents to the base line.
        descent: Pixels from the base line to the lower end of letters such as g.
    """

    text: str
    font: int
    scale: float
    width: int
    ascent: int
    descent: int

    @property
    def height(self) -> int:
        """Height of the line, pixels; the same for every text of a font and scale."""
        return self.ascent + self.descent

    @property
    def thickness(self) -> int:
        """Width of the pen, pixels."""
        return max(1, round(1.6 * self.scale))


def fitted(text: str, stand_in: str, scale: float, width: int) -> Line:
    """Return a line that is at most ``width`` pixels wide: a long text is made smaller, then cut in its middle.

    Args:
        text: Any text.
        stand_in: ASCII that is drawn where OpenCV cannot draw the text.
        scale: Factor of the font's size, where there is room.
        width: Pixels.
    """
    shown, font = drawable(text) or (stand_in, _FONTS[0])
    natural = _measured(shown, font, scale)
    if natural.width <= width:
        return natural
    scale = max(min(scale, _LEAST_SCALE), scale * max(0.6, width / natural.width))
    least = _measured(shown, font, scale)
    kept = len(shown)
    while least.width > width and kept > 1:
        kept = min(kept - 1, max(1, kept * width // least.width))
        tail = kept // 2
        least = _measured(shown[: kept - tail] + _ELLIPSIS + (shown[-tail:] if tail else ""), font, scale)
    if least.width > width:  # no three characters fit: one smaller, or none
        scale *= width / least.width
        least = _measured(shown[:1] if scale > _TINIEST_SCALE else "", font, max(scale, _TINIEST_SCALE))
    return least


def wrapped(text: str, stand_in: str, scale: float, width: int) -> list[Line]:
    """Return a text in lines of at most ``width`` pixels, broken between words."""
    shown, font = drawable(text) or (stand_in, _FONTS[0])
    rows: list[str] = []
    for word in shown.split():
        if rows and _measured(f"{rows[-1]} {word}", font, scale).width <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return [fitted(row, row, scale, width) for row in rows]


def _measured(text: str, font: int, scale: float) -> Line:
    thickness = max(1, round(1.6 * scale))
    width = cv2.getTextSize(text, font, scale, thickness)[0][0]
    (_, ascent), descent = cv2.getTextSize("Hg", font, scale, thickness)
    return Line(text, font, scale, width, ascent, max(descent, round(6 * scale)))


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture's pixels: ``left`` and ``top`` belong to it, ``right`` and ``bottom`` do not."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge in coordinates whose (0, 0) is the centre of the first pixel."""
        return self.left - 0.5, self.top - 0.5, self.right - 0.5, self.bottom - 0.5

    def overlaps(self, other: "Box") -> bool:
        """Return whether two boxes have a pixel in common."""
        return max(self.left, other.left) < min(self.right, other.right) and max(self.top, other.top) < min(
            self.bottom, other.bottom
        )


def plate_size(lines: Sequence[Line]) -> tuple[int, int]:
    """Return (height, width) in pixels of the plate that lines of text need."""
    pad = _padding(lines)
    return sum(line.height + pad for line in lines) + pad, max(line.width for line in lines) + 4 * pad


def draw_plate(canvas: Image, lines: Sequence[Line], left: int, top: int, ink: tuple[int, int, int] = INK) -> None:
    """Draw lines of text on a dark plate, whose upper left corner is given, into an RGB picture."""
    pad = _padding(lines)
    height, width = plate_size(lines)
    under = canvas[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
    if under.size:
        plate = np.empty_like(under)
        plate[:] = PLATE
        under[:] = cv2.addWeighted(under, 1 - _PLATE_SHARE, plate, _PLATE_SHARE, 0)
    y = top
    for line in lines:
        y += pad + line.ascent
        start = (left + 2 * pad, y)
        cv2.putText(canvas, line.text, start, line.font, line.scale, ink, line.thickness, cv2.LINE_AA)
        y += line.descent


def _padding(lines: Sequence[Line]) -> int:
    return max(2, round(3 * min(line.scale for line in lines)))
