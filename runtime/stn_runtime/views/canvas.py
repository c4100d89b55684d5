"""A picture that is drawn on: shade, outlines, inset and text, each in proportion to the picture."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..images.opencv import cv2
from ..images.preprocessing import Image
from ..model.classifier import Prediction
from .clipping import Points, clipped_segments, covered_intervals
from .inset import SteadyCorner, corners, hidden, inset_of
from .lettering import PLATE, Box, Line, draw_plate, fitted, plate_size, wrapped

OUTLINE, TOP = (255, 170, 0), (255, 255, 255)
SHADE = 0.38
"""Share of their brightness that pixels keep which the network does not see."""

_SHIFT = 4  # fractional bits of drawn coordinates
_LEAST_SIDE, _LARGEST_SIDE = 240, 4096  # pixels to which a small picture is enlarged, and beyond which none is
_WORD_PLACES = (0.5, 0.35, 0.65, 0.2, 0.8, 0.1, 0.9)  # shares of the upper side's visible length
_NOT_SEEN = "not seen"
_FAR = 2.0**15  # pixels from the picture beyond which nothing matters

Place = Literal["top left", "bottom left", "top right"]


class Canvas:
    """A copy of a picture, enlarged where it is small, on which its prediction is drawn.

    Args:
        image: The picture, grey or RGB.
        prediction: Prediction for the picture.
        whole: (height, width) of the picture in whose pixels the prediction is.

    Attributes:
        pixels: What has been drawn so far, (H, W, 3) RGB.
    """

    def __init__(self, image: Image, prediction: Prediction, whole: tuple[int, int]) -> None:
        self.pixels = _enlarged(image)
        self._prediction = prediction
        height, width = int(self.pixels.shape[0]), int(self.pixels.shape[1])
        self._size = (height, width)
        factor = np.array([width / whole[1], height / whole[0]])
        self._outlines: list[Points] = [
            (points + 0.5) * factor - 0.5 for points in prediction.outline.astype(np.float64)
        ]
        top, left, bottom, right = prediction.seen or (0, 0, *whole)
        first, end = (np.array([left, top]) * factor).round(), (np.array([right, bottom]) * factor).round()
        self._seen = Box(int(first[0]), int(first[1]), int(end[0]), int(end[1]))
        self._readable = Box(0, 0, width, height) if prediction.samples_beyond else self._seen
        self._unit = min(height, width)
        self._pen = max(1, round(self._unit / 240))
        self._taken: list[Box] = []  # by text and inset

    def draw_region(self) -> None:
        """Draw the outlines as far as they are in the picture, and shade what the network does not see."""
        for outline in self._outlines:
            draw_outline(self.pixels, outline, self._pen)
        self._draw_shade()
        for outline in self._outlines:
            _draw_dashes(self.pixels, outline, self._readable, self._pen)

    def _draw_shade(self) -> None:
        seen, (height, width) = self._seen, self._size
        if seen == Box(0, 0, width, height):
            return
        is_shaded = np.ones((height, width), np.uint8)
        is_shaded[seen.top : seen.bottom, seen.left : seen.right] = 0
        if self._prediction.samples_beyond:
            for outline in self._outlines:
                cv2.fillPoly(is_shaded, [np.nan_to_num(outline).clip(-_FAR, _FAR).round().astype(np.int32)], (0,))
        cv2.copyTo(cv2.convertScaleAbs(self.pixels, alpha=SHADE), is_shaded, self.pixels)

    def label_line(self, text: str, stand_in: str, is_sure: bool) -> Line:
        """Return the line of the label, in large letters; smaller ones for a label that is not sure."""
        scale = max(0.6, self._unit / 400) * (1.0 if is_sure else 0.75)
        return fitted(text, stand_in, scale, self._room())

    def small_lines(self, text: str, stand_in: str) -> list[Line]:
        """Return a text in small letters, in as many lines as it needs."""
        return wrapped(text, stand_in, self._small(), self._room())

    def small_line(self, text: str, stand_in: str) -> Line:
        """Return a text as one line in small letters; its middle is cut out where there is no room."""
        return fitted(text, stand_in, self._small(), self._room())

    def _small(self) -> float:
        return max(0.4, self._unit / 900)

    def _gap(self) -> int:
        return 4 * self._pen + 4

    def _room(self) -> int:
        return self._size[1] - 2 * self._gap()

    def draw_lines(self, lines: Sequence[Line], place: Place) -> None:
        """Draw lines of text on a plate at an edge of the picture; the inset keeps away from it."""
        height, width = plate_size(lines)
        top = self._size[0] - height if place == "bottom left" else 0
        left = self._size[1] - width if place == "top right" else 0
        self._draw_plate(lines, Box(left, top, left + width, top + height))

    def _draw_plate(self, lines: Sequence[Line], box: Box) -> None:
        draw_plate(self.pixels, lines, box.left, box.top)
        self._taken.append(box)

    def _is_taken(self, box: Box) -> bool:
        return any(box.overlaps(taken) for taken in self._taken)

    def draw_inset(self, corner: SteadyCorner, source: str, moment: float | None) -> None:
        """Draw the rectified picture in the corner where it hides least.

        Args:
            corner: Chooses the corner.
            source: Name of the picture's source.
            moment: Time of the picture in its source, seconds; None for a picture by itself.
        """
        rectified = self._prediction.rectified
        inset = None if rectified is None else inset_of(rectified, *self._size)
        if inset is None:
            return
        frame = self._pen
        rows, columns = inset.shape[0] + 2 * frame, inset.shape[1] + 2 * frame
        boxes = corners(self._size, (rows, columns), 2 * self._pen)
        costs = hidden(boxes, self._size, self._outlines, self._readable)
        costs = [math.inf if self._is_taken(box) else cost for box, cost in zip(boxes, costs, strict=True)]
        if all(map(math.isinf, costs)):
            return
        box = boxes[corner.choose(source, moment, costs)]
        framed = self.pixels[box.top : box.bottom, box.left : box.right]
        framed[:] = OUTLINE
        framed[frame:-frame, frame:-frame] = inset
        if self._upper_side():
            framed[:frame] = TOP
        self._taken.append(box)

    def draw_words(self) -> None:
        """Write "top" at the upper side of each region, and "not seen" in the shade, where there is room."""
        word = [fitted("top", "top", self._small(), self._room())]
        height, width = plate_size(word)
        for x, y in self._upper_side():
            x = max(width / 2, min(x, self._size[1] - width / 2))
            y = max(height / 2, min(y, self._size[0] - height / 2))
            box = _centred((height, width), x, y)
            if not self._is_taken(box):
                self._draw_plate(word, box)
                break
        self._draw_not_seen()

    def _upper_side(self) -> list[tuple[float, float]]:
        """Return points on the visible part of the last region's upper side, the best for a word first."""
        if not self._outlines:
            return []
        outline = self._outlines[-1]
        upper = np.concatenate((outline, outline[:1]))[: len(outline) // 4 + 1]
        for part in (self._readable, Box(0, 0, self._size[1], self._size[0])):
            segments = clipped_segments(upper[:-1], upper[1:], part.edges)
            if np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1).sum() >= 4 * self._pen:
                return _points_along(segments, _WORD_PLACES)
        return []

    def _draw_not_seen(self) -> None:
        seen, (height, width) = self._seen, self._size
        bands = [
            Box(0, 0, seen.left, height),
            Box(seen.right, 0, width, height),
            Box(0, 0, width, seen.top),
            Box(0, seen.bottom, width, height),
        ]
        bands.sort(key=lambda band: (band.right - band.left) * (band.bottom - band.top), reverse=True)
        for band in bands:
            word = [fitted(_NOT_SEEN, _NOT_SEEN, self._small(), band.right - band.left - 2 * self._gap())]
            box = _centred(plate_size(word), (band.left + band.right) / 2, (band.top + band.bottom) / 2)
            fits = (
                box.left >= band.left and box.right <= band.right and box.top >= band.top and box.bottom <= band.bottom
            )
            if fits and word[0].text == _NOT_SEEN and not self._is_taken(box):
                self._draw_plate(word, box)
                return


def _centred(size: tuple[int, int], x: float, y: float) -> Box:
    """Return the box of a (height, width) whose centre is nearest to a point."""
    left, top = round(x - size[1] / 2), round(y - size[0] / 2)
    return Box(left, top, left + size[1], top + size[0])


def _points_along(segments: Points, shares: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points at shares of the way along segments, (M, 2, 2), that follow each other."""
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    ends = lengths.cumsum()
    points = []
    for share in shares:
        number = min(int(np.searchsorted(ends, share * ends[-1])), len(segments) - 1)
        rest = (ends[number] - share * ends[-1]) / max(lengths[number], 1e-9)
        x, y = segments[number, 1] + rest * (segments[number, 0] - segments[number, 1])
        points.append((float(x), float(y)))
    return points


def draw_outline(pixels: Image, outline: Points, pen: int) -> None:
    """Draw the part of a closed outline, (M, 2) pixels, that lies in an RGB picture; its first quarter is white."""
    height, width = pixels.shape[:2]
    following = np.roll(outline, -1, axis=0)
    edges = Box(0, 0, width, height).edges
    upper = len(outline) // 4
    top = clipped_segments(outline[:upper], following[:upper], edges)
    others = clipped_segments(outline[upper:], following[upper:], edges)
    _draw_segments(pixels, np.concatenate((top, others)), PLATE, pen + 2)
    _draw_segments(pixels, others, OUTLINE, pen)
    _draw_segments(pixels, top, TOP, pen)


def _draw_segments(pixels: Image, segments: Points, colour: tuple[int, int, int], pen: int) -> None:
    if len(segments):
        fixed = (segments * 2**_SHIFT).round().astype(np.int32)
        cv2.polylines(pixels, list(fixed), False, colour, pen, cv2.LINE_AA, _SHIFT)


def _draw_dashes(pixels: Image, outline: Points, within: Box, pen: int) -> None:
    """Draw dashes along the edges of what can be read, where the region goes on beyond them."""
    if not np.isfinite(outline).all():
        return
    for axis, levels in ((0, (within.left, within.right)), (1, (within.top, within.bottom))):
        first, end = (within.top, within.bottom) if axis == 0 else (within.left, within.right)
        for level, near in zip(levels, (levels[0], levels[1] - pen), strict=True):
            for begins, ends in covered_intervals(outline, axis, level - 0.5):
                along = np.arange(max(first, round(begins + 0.5)), min(end, round(ends + 0.5)))
                along = along[along // (4 * pen) % 2 == 0]
                across = np.arange(near, near + pen)
                rows, columns = (along, across) if axis == 0 else (across, along)
                pixels[np.ix_(rows, columns)] = OUTLINE


def _enlarged(image: Image) -> Image:
    """Return a copy in RGB, enlarged by a whole factor where a side is short."""
    is_grey = image.ndim == 2 or image.shape[2] == 1
    canvas = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if is_grey else image, np.uint8)
    factor = -(-_LEAST_SIDE // max(1, min(canvas.shape[:2])))
    # A strip of 4000 x 10 pixels would become 96,000 pixels long.
    factor = max(1, min(factor, _LARGEST_SIDE // max(canvas.shape[:2])))
    if factor > 1:
        return canvas.repeat(factor, axis=0).repeat(factor, axis=1)
    return canvas.copy() if canvas is image else canvas
