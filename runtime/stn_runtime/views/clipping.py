"""Outlines cut at the edges of a rectangle: which part of each line lies within, and where the region goes on."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, (0, 0) the centre of the first pixel."""


def clipped_segments(starts: Points, ends: Points, rectangle: Rectangle) -> Points:
    """Return the parts of straight lines that lie within a rectangle (Liang and Barsky 1984).

    Args:
        starts: First point of each line, (N, 2).
        ends: Last point of each line, (N, 2).
        rectangle: Edges between which the lines are kept.

    Returns:
        (M, 2, 2): first and last point of each part. Lines that miss the rectangle, and those with a coordinate that is
        not finite, have none.
    """
    is_finite = np.isfinite(starts).all(1) & np.isfinite(ends).all(1)
    starts, ends = starts[is_finite], ends[is_finite]
    low, high = np.array(rectangle[:2]), np.array(rectangle[2:])
    run = ends - starts
    is_parallel = run == 0
    step = np.where(is_parallel, 1, run)
    at_low, at_high = (low - starts) / step, (high - starts) / step  # share of the line at which it meets each edge
    enters = np.where(is_parallel, -np.inf, np.minimum(at_low, at_high)).max(1).clip(0)
    leaves = np.where(is_parallel, np.inf, np.maximum(at_low, at_high)).min(1).clip(None, 1)
    misses = (is_parallel & ((starts < low) | (starts > high))).any(1)
    is_within = (enters <= leaves) & ~misses
    starts, run = starts[is_within, None], run[is_within, None]
    parts: Points = starts + run * np.stack((enters, leaves), 1)[is_within, :, None]
    return parts.clip(low, high)


def covered_intervals(polygon: Points, axis: int, level: float) -> list[tuple[float, float]]:
    """Return which stretches of an upright or level line lie within a polygon, by the even-odd rule.

    Args:
        polygon: Corners in order, (M, 2), all finite; it may cross itself.
        axis: 0 for the upright line x = level, 1 for the level line y = level.
        level: Position of the line, pixels.

    Returns:
        First and last coordinate of each stretch along the line, ascending.
    """
    across, along = polygon[:, axis], polygon[:, 1 - axis]
    next_across, next_along = np.roll(across, -1), np.roll(along, -1)
    crosses = (across <= level) != (next_across <= level)  # an end on the line counts for one of its two edges
    rise = np.where(crosses, next_across - across, 1)
    meeting = along + (level - across) / rise * (next_along - along)
    places = np.sort(meeting[crosses])
    return list(zip(places[::2].tolist(), places[1::2].tolist(), strict=True))
