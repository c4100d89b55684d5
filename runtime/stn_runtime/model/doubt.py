"""When not to trust a prediction.

A spatial transformer shows what it looked at, so two faults can be seen without knowing the label: theta is unlike any
that training saw, or what is sampled lies outside the picture. Neither tells a digit from something that is none. A
network may also answer with numbers that are no probabilities.
"""

import math

import numpy as np

from ..images.preprocessing import place
from .classifier import Prediction
from .contract import are_probabilities
from .manifest import Manifest
from .theta_statistics import Floats

LARGEST_OUTSIDE = 0.5
"""Largest share of what the last transformer samples that may lie outside the picture; more is mostly padding."""

_LEAST_RUN = 1e-6  # pixels; an edge of less is upright

Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, (0, 0) the centre of the first pixel."""


def doubt(prediction: Prediction, frame_size: tuple[int, int], manifest: Manifest) -> str | None:
    """Return why a prediction should not be trusted, in a sentence; None when neither output nor theta gives a reason.

    Args:
        prediction: Prediction for the frame itself, not smoothed.
        frame_size: (height, width) of the frame, pixels.
        manifest: Manifest of the model.
    """
    if not are_probabilities(prediction.probabilities):
        return "the probabilities have left the range from 0 to 1"
    if not all(map(math.isfinite, prediction.theta)) or not np.isfinite(prediction.outline).all():
        return "the transformer has left the range of numbers"
    if len(prediction.outline):
        polygon = prediction.outline[-1].astype(np.float64)
        seen, pixel = _view(frame_size, manifest)
        if abs(_area(polygon)) < pixel:
            return "the transformer has collapsed to less than a pixel"
        outside = outside_share(polygon, seen)
        if outside > LARGEST_OUTSIDE:
            cropped = manifest.preprocess.fit == "crop" and manifest.export.form != "split"
            where = "what the network sees of the picture" if cropped else "the picture"
            return f"{100 * outside:.0f} % of the samples are outside {where}"
    if manifest.theta is not None:
        distance, limit = float(manifest.theta.distances(np.array(prediction.theta))), manifest.theta.limit
        if distance > limit:
            return f"theta is unlike training (distance {distance:.1f}, limit {limit:.1f})"
    return None


def outside_share(polygon: Floats, rectangle: Rectangle) -> float:
    """Return how much of a polygon's area, (M, 2) points, lies outside a rectangle, 0 to 1.

    The area inside is Green's integral of x dy along the border, x and y held within the rectangle.
    """
    whole = _area(polygon)
    left, top, right, bottom = rectangle
    width, height = right - left, bottom - top
    corners = polygon - (left, top)
    if not whole or (corners.min() >= 0 and (corners.max(0) <= (width, height)).all()):
        return 0.0
    (x, y), (next_x, next_y) = corners.T, _following(corners).T
    rise = next_y - y
    is_level = rise == 0  # such an edge adds nothing
    slope = (next_x - x) / np.where(is_level, 1, rise)
    ends = np.minimum(np.maximum((y, next_y), 0), height)
    crossing = x + (ends - y) * slope  # (2, M): where an edge enters the rectangle's rows, and where it leaves them
    held = np.minimum(np.maximum(crossing, 0), width)
    integral = held**2 / 2 + width * np.maximum(crossing - width, 0)
    run = crossing[1] - crossing[0]
    is_upright = np.abs(run) < _LEAST_RUN
    mean = np.where(is_upright, held[0], (integral[1] - integral[0]) / np.where(is_upright, 1, run))
    inside = float(((ends[1] - ends[0]) * mean).sum())
    return min(1.0, max(0.0, 1 - inside / whole))


def _view(frame_size: tuple[int, int], manifest: Manifest) -> tuple[Rectangle, float]:
    """Return what can be sampled of a frame, and the area of a pixel of the network's input, in pixels of the frame."""
    height, width = frame_size
    placement = place(height, width, manifest.preprocess)
    (half_width, half_height), (x, y) = placement.scale, placement.offset
    pixel = 4 * half_width * half_height / (manifest.preprocess.width * manifest.preprocess.height)
    if manifest.export.form == "split":  # its warp reads the frame, and not the network's input
        return (-0.5, -0.5, width - 0.5, height - 0.5), pixel
    left, top = max(-0.5, x - half_width), max(-0.5, y - half_height)
    return (left, top, min(width - 0.5, x + half_width), min(height - 0.5, y + half_height)), pixel


def _area(polygon: Floats) -> float:
    """Return the area of a polygon, (M, 2), by the shoelace formula; its sign says which way round it goes."""
    (x, y), (next_x, next_y) = polygon.T, _following(polygon).T
    return float((x * next_y - next_x * y).sum()) / 2


def _following(polygon: Floats) -> Floats:
    return np.concatenate((polygon[1:], polygon[:1]))
