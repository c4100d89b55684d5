"""The inset: the rectified picture, small, in the corner where it hides least."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..images.opencv import cv2
from ..images.preprocessing import Image
from .clipping import Points
from .lettering import Box

_SHARE = 0.21  # of the picture's shorter side: side of a square inset
_LARGEST_SHARE = 0.4  # of either side of the picture
_MAP_SIDE = 128  # pixels of the longer side of the map on which hidden pixels are counted
_CENTRE_SHARE = 0.6  # of a region's width and height: its middle, where the subject is
_MIDDLE_WEIGHT, _REGION_WEIGHT, _SEEN_WEIGHT = 1.1, 1.0, 0.02  # of a pixel in the middle, in the region, or only seen
_CALM_SECONDS = 1.0  # over which a video's costs are averaged
_MARGIN = 0.25  # by which another corner must cost less before the inset of a video moves


def inset_of(rectified: Image, height: int, width: int) -> Image | None:
    """Return the rectified picture in RGB, at the size at which it is shown in a picture of ``height`` x ``width``.

    Its area is the same whatever its shape. Pixels that are enlarged twice or more keep their edges.
    """
    rows, columns = rectified.shape[:2]
    factor = _SHARE * min(height, width) / math.sqrt(rows * columns)
    factor = min(factor, _LARGEST_SHARE * height / rows, _LARGEST_SHARE * width / columns)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    if factor >= 2:
        factor, method = float(math.floor(factor)), cv2.INTER_NEAREST
    size = (round(columns * factor), round(rows * factor))
    if min(size) < 4:
        return None
    shown = cv2.resize(rectified, size, interpolation=method)
    return np.asarray(shown if shown.ndim == 3 else cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB), np.uint8)


def corners(canvas_size: tuple[int, int], size: tuple[int, int], margin: int) -> list[Box]:
    """Return the places for an inset: the lower right corner of the picture, upper right, lower left, upper left.

    Args:
        canvas_size: (height, width) of the picture, pixels.
        size: (height, width) of the inset with its frame, pixels.
        margin: Pixels between the inset and the edges of the picture.
    """
    (height, width), (rows, columns) = canvas_size, size
    bottom, right = height - margin - rows, width - margin - columns
    places = [(bottom, right), (margin, right), (bottom, margin), (margin, margin)]
    return [Box(left, top, left + columns, top + rows) for top, left in places]


def hidden(boxes: Sequence[Box], canvas_size: tuple[int, int], outlines: Sequence[Points], seen: Box) -> list[float]:
    """Return how much of what matters each box would hide: the mean weight of its pixels.

    A pixel of a region that is sampled weighs 1, in the region's middle a little more, and beside it next to nothing;
    one that is not seen weighs nothing.

    Args:
        boxes: Places for an inset.
        canvas_size: (height, width) of the picture, pixels.
        outlines: Border of each region that is sampled, (M, 2) pixels.
        seen: What can be read of the picture.
    """
    height, width = canvas_size
    scale = min(1.0, _MAP_SIDE / max(height, width))
    weights = np.full((max(1, round(height * scale)), max(1, round(width * scale))), _SEEN_WEIGHT, np.float32)
    for outline in outlines:
        if not np.isfinite(outline).all():
            continue
        centre = (outline.min(0) + outline.max(0)) / 2
        for share, weight in ((1.0, _REGION_WEIGHT), (_CENTRE_SHARE, _MIDDLE_WEIGHT)):
            region = np.zeros_like(weights)
            corners_on_map = (((outline - centre) * share + centre) * scale).clip(-1e4, 1e4)
            cv2.fillPoly(region, [corners_on_map.round().astype(np.int32)], (weight,))
            weights = np.maximum(weights, region)
    is_seen = np.zeros_like(weights)
    is_seen[_on_map(seen, scale)] = 1
    weights *= is_seen
    return [float(weights[_on_map(box, scale)].mean()) for box in boxes]


def _on_map(box: Box, scale: float) -> tuple[slice, slice]:
    """Return a box's rows and columns on the map, at least one of each."""
    top, left = math.floor(box.top * scale), math.floor(box.left * scale)
    return slice(top, max(top + 1, round(box.bottom * scale))), slice(left, max(left + 1, round(box.right * scale)))


@dataclass
class _Memory:
    """What is known of a source's inset: when its costs were last averaged, the costs, and where the inset is."""

    moment: float
    costs: list[float]
    corner: int


class SteadyCorner:
    """Chooses a corner for each picture; in a video it is the last one until another is clearly better."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def choose(self, source: str, moment: float | None, costs: Sequence[float]) -> int:
        """Return the number of the corner for a source's next picture.

        Args:
            source: Name of the source.
            moment: Time of the picture in seconds; None for a picture by itself, whose best corner is taken.
            costs: What each corner costs; infinite where it is taken.
        """
        best = min(range(len(costs)), key=lambda corner: costs[corner])
        memory = self._memories.get(source)
        if moment is None or memory is None or not memory.moment <= moment or math.isinf(costs[memory.corner]):
            if moment is not None:
                self._memories[source] = _Memory(moment, list(costs), best)
            return best
        weight = 1 - math.exp(-(moment - memory.moment) / _CALM_SECONDS)
        memory.costs = [
            new if math.isinf(old) or math.isinf(new) else old + weight * (new - old)
            for old, new in zip(memory.costs, costs, strict=True)
        ]
        memory.moment = moment
        calmest = min(range(len(costs)), key=lambda corner: memory.costs[corner])
        if memory.costs[memory.corner] > memory.costs[calmest] + _MARGIN:
            memory.corner = calmest
        return memory.corner
