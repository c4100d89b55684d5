"""Figures of boxes: how many of each class, sizes with their anchors, the elbow, boxes over pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from stn_runtime import ImageReadError
from stn_runtime.errors import printable
from stn_runtime.images.preprocessing import Image
from stn_runtime.images.reading import IMAGE_SUFFIXES, read_image

from ..pictures import save_figure
from .annotations import Annotations
from .clusters import METRICS, Clusters

_CLASSES_SHOWN = 100
_POINTS_SHOWN = 20_000
_PICTURES_SHOWN = 6
_BOXES_SHOWN = 60
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_SHOWN = {"iou": "1 - IoU", "euclidean": "plain distance"}


def save_classes(counts: Sequence[int], classes: Sequence[str], path: Path) -> None:
    """Draw the number of boxes of each class, the most frequent first."""
    order = sorted(range(len(classes)), key=lambda index: -counts[index])
    shown = order[:_CLASSES_SHOWN]
    figure = Figure(figsize=(8, 1.2 + 0.19 * len(shown)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(shown)), [counts[index] for index in shown], color=_COLOURS[0])
    axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=2)
    axes.set_yticks(range(len(shown)), [_cut(classes[index]) for index in shown], fontsize=8, parse_math=False)
    left = f"; {len(order) - len(shown)} classes more" if len(order) > len(shown) else ""
    axes.set(xlabel=f"boxes{left}", ylim=(len(shown) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    save_figure(figure, path)


def save_anchors(sizes: NDArray[np.floating], found: Mapping[tuple[str, int], Clusters], path: Path) -> None:
    """Draw, for each number of anchors, the sizes of the boxes with the anchors as rectangles of one corner.

    Args:
        sizes: (N, 2) widths and heights as shares of the picture's.
        found: Clusters by metric and number.
        path: PNG to write.
    """
    counts = sorted({count for _, count in found})
    figure = Figure(figsize=(3.1 * len(counts) + 0.3, 6.6), layout="constrained")
    grid = figure.subplots(len(METRICS), len(counts), squeeze=False, sharex=True, sharey=True)
    step = max(1, len(sizes) // _POINTS_SHOWN)
    points = np.asarray(sizes)[::step]
    for (metric, count), clusters in found.items():
        axes = grid[METRICS.index(metric)][counts.index(count)]
        axes.scatter(*points.T, s=2, color="#888888", alpha=0.3, linewidths=0, rasterized=True)
        for index, (width, height) in enumerate(clusters.anchors):
            colour = _COLOURS[index % len(_COLOURS)]
            axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=colour, linewidth=1.6))
            axes.plot(width, height, "o", color=colour, markersize=4)
        axes.set_title(f"k = {count}, {_SHOWN[metric]}: mean IoU {clusters.mean_iou:.3f}", fontsize=9)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    for axes in grid[-1]:
        axes.set_xlabel("width, share of the picture's", fontsize=8)
    for row in grid:
        row[0].set_ylabel("height, share of the picture's", fontsize=8)
    save_figure(figure, path)


def save_elbow(counts: Sequence[int], means: Mapping[str, Sequence[float]], elbow: int | None, path: Path) -> None:
    """Draw the mean IoU over the number of anchors, a curve for each metric."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for metric, colour in zip(means, _COLOURS, strict=False):
        axes.plot(counts, means[metric], "o-", color=colour, markersize=4, label=_SHOWN[metric])
    if elbow is not None:
        axes.axvline(elbow, color="#999999", linestyle=":", label=f"elbow: {elbow}")
    axes.set(xlabel="number of anchors", ylabel="mean IoU with the nearest", xticks=list(counts))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def save_samples(annotations: Annotations, folder: Path, path: Path) -> int:
    """Draw the boxes over some of the pictures.

    Args:
        annotations: The boxes; those without the names of their pictures are not drawn.
        folder: Where the pictures lie.
        path: PNG to write.

    Returns:
        How many pictures were drawn; with none there is no file.
    """
    owners = np.unique(annotations.owners[annotations.owners >= 0])
    drawn: list[tuple[int, Image]] = []
    for owner in np.random.default_rng(0).permutation(owners)[: 20 * _PICTURES_SHOWN]:
        picture = _picture(folder, annotations.pictures[owner])
        if picture is not None:
            drawn.append((int(owner), picture))
        if len(drawn) == _PICTURES_SHOWN:
            break
    if not drawn:
        return 0
    columns = min(3, len(drawn))
    figure = Figure(figsize=(4 * columns, 3.4 * -(-len(drawn) // columns)), layout="constrained")
    places = figure.subplots(-(-len(drawn) // columns), columns, squeeze=False).ravel()
    for axes in places:
        axes.axis("off")
    for axes, (owner, picture) in zip(places, drawn, strict=False):
        height, width = picture.shape[:2]
        axes.imshow(picture, cmap="gray")
        name = printable(Path(annotations.pictures[owner]).name, 40)
        axes.set_title(name, fontsize=8, parse_math=False)
        for index in np.flatnonzero(annotations.owners == owner)[:_BOXES_SHOWN]:
            left, top, across, down = annotations.boxes[index] * (width, height, width, height)
            label = int(annotations.labels[index])
            colour = _COLOURS[label % len(_COLOURS)]
            axes.add_patch(Rectangle((left, top), across, down, fill=False, edgecolor=colour, linewidth=1.5))
            axes.text(
                max(left, 0), max(top, 0), _cut(annotations.classes[label]), fontsize=7, color="white", clip_on=True,
                verticalalignment="top", bbox={"facecolor": colour, "pad": 1, "linewidth": 0}, parse_math=False,
            )  # fmt: skip
    save_figure(figure, path)
    return len(drawn)


def _picture(folder: Path, name: str) -> Image | None:
    """Return the picture of a name as COCO has it, or as YOLO's file of boxes without its suffix; None without it."""
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    places = [folder / name] * inside + [folder / Path(name).name]
    places += [place.with_name(place.name + suffix) for place in places for suffix in sorted(IMAGE_SUFFIXES)]
    try:
        path = next((place for place in places if place.suffix.lower() in IMAGE_SUFFIXES and place.is_file()), None)
        return read_image(path) if path else None
    except (ImageReadError, OSError, ValueError):  # also a name that no file can have
        return None


def _cut(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
