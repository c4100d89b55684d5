"""Clusters of box sizes by intersection over union, and by plain distance beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from stn_runtime import InputError

METRICS = ("iou", "euclidean")
_STARTS, _STEPS, _PATIENCE = 5, 100, 5
_SAMPLE = 20_000
"""Boxes that starting points are tried on; all of them refine the best."""
_CHUNK = 100_000


@dataclass(frozen=True)
class Clusters:
    """Anchor boxes of a data set.

    Attributes:
        metric: ``iou`` or ``euclidean``.
        anchors: (k, 2) widths and heights as shares of the picture's, by area.
        shares: (k,) share of the boxes that are nearest to each anchor, by intersection over union.
        mean_iou: Mean intersection over union of each box with its nearest anchor, both with the same centre.
    """

    metric: str
    anchors: NDArray[np.float64]
    shares: NDArray[np.float64]
    mean_iou: float


def cluster_boxes(sizes: NDArray[np.floating], count: int, metric: str = "iou", seed: int = 0) -> Clusters:
    """Return the ``count`` sizes that boxes gather around.

    With ``iou`` the distance is 1 - IoU (Redmon and Farhadi, YOLO9000, 2017, section 2, "Dimension Clusters") and a
    cluster's size the median of its boxes; with ``euclidean`` it is k-means as scikit-learn has it.

    Args:
        sizes: (N, 2) widths and heights, positive.
        count: Number of clusters.
        metric: One of ``METRICS``.
        seed: Seed of the starting points.

    Raises:
        InputError: There are fewer different sizes than clusters.
        ValueError: The metric is unknown, or the sizes are not positive.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric}")
    seed %= 2**32  # scikit-learn takes no larger ones
    points = np.asarray(sizes, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (points > 0).all():
        raise ValueError(f"sizes must be positive and have shape (N, 2), got {points.shape}")
    distinct = len(np.unique(points, axis=0))
    if distinct < count:
        sizes_there = f"{distinct} different sizes" if distinct > 1 else "one size"
        raise InputError(f"{count} anchors: the boxes have {sizes_there}; ask for --clusters {distinct}")
    if metric == "iou":
        centres = _iou_centres(points, count, seed)
    else:
        start = KMeans(count, n_init=_STARTS, random_state=seed).fit(_sample(points, seed)).cluster_centers_
        centres = KMeans(count, init=start, n_init=1).fit(points).cluster_centers_
    centres = centres[np.argsort(centres.prod(1))]
    nearest, iou = _nearest(points, centres)
    return Clusters(metric, centres, np.bincount(nearest, minlength=count) / len(points), float(iou.mean()))


def find_elbow(counts: Sequence[int], means: Sequence[float]) -> int | None:
    """Return the count after which the mean IoU grows more slowly; None of fewer than three counts, and without one.

    It is the point farthest above the straight line from the first to the last.

    Args:
        counts: Numbers of clusters, ascending.
        means: Mean IoU of each.
    """
    if len(counts) < 3:
        return None
    across = (np.asarray(counts) - counts[0]) / max(counts[-1] - counts[0], 1)
    up = (np.asarray(means) - means[0]) / (means[-1] - means[0] or math.inf)
    bend = int(np.argmax(up - across))
    return int(counts[bend]) if 0 < bend < len(counts) - 1 else None


def _iou_centres(points: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    sample = _sample(points, seed)
    random = np.random.default_rng(seed)
    best, best_iou = sample[:count], -1.0
    for _ in range(_STARTS):
        centres, iou = _refine(sample, _spread(sample, count, random))
        if iou > best_iou:
            best, best_iou = centres, iou
    return best if len(sample) == len(points) else _refine(points, best)[0]


def _sample(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return the points that starting points are tried on: all, or where there are many, some of them."""
    if len(points) <= _SAMPLE:
        return points
    return points[np.random.default_rng(seed).choice(len(points), _SAMPLE, replace=False)]


def _spread(points: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return starting points far apart (Arthur and Vassilvitskii, k-means++, 2007), by 1 - IoU."""
    centres: NDArray[np.float64] = points[random.integers(len(points))][None]
    while len(centres) < count:
        distance = 1 - _nearest(points, centres)[1]
        centres = np.concatenate([centres, points[random.choice(len(points), p=distance / distance.sum())][None]])
    return centres


def _refine(points: NDArray[np.float64], centres: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the best of the centres that Lloyd's steps pass through, and their mean IoU."""
    best, best_iou, since = centres, 0.0, 0
    for _ in range(_STEPS):
        nearest, iou = _nearest(points, centres)
        if iou.mean() > best_iou + 1e-6:
            best, best_iou, since = centres, float(iou.mean()), 0
        elif (since := since + 1) == _PATIENCE:
            break
        centres = np.stack(
            [
                np.median(points[nearest == index], axis=0) if (nearest == index).any() else points[iou.argmin()]
                for index in range(len(centres))
            ]
        )
    return best, best_iou


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the index of the centre with the greatest IoU for each box, and that IoU."""
    nearest, best = np.zeros(len(points), np.intp), np.zeros(len(points))
    for first in range(0, len(points), _CHUNK):
        part = points[first : first + _CHUNK]
        for index, (width, height) in enumerate(centres):
            common = np.minimum(part[:, 0], width) * np.minimum(part[:, 1], height)
            iou = common / (part.prod(1) + width * height - common)
            better = iou > best[first : first + _CHUNK]
            nearest[first : first + _CHUNK][better] = index
            best[first : first + _CHUNK][better] = iou[better]
    return nearest, best
