"""Pictures for people: a transformer's outlines and outputs, contact sheets, confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_models import recorded_transforms
from stn_runtime import preprocess
from stn_runtime.images.opencv import cv2
from stn_runtime.images.preprocessing import Image, PreprocessSpec, place
from stn_runtime.images.writing import write_image
from stn_runtime.machine.filesystem import make_folder, whole_file, write_whole

_TILE = 112
_GAP = 6
_OUTLINE = (255, 170, 0)
_BACKGROUND = 255
_TILE_SPEC = PreprocessSpec(_TILE, _TILE, 3, "letterbox")


def before_after(model: nn.Module, images: Tensor) -> Image | None:
    """Return a picture of what the first transformer of ``model`` does: inputs with outlines above, outputs below.

    Args:
        model: A network in evaluation mode.
        images: (N, C, H, W) in [0, 1], on the model's device.

    Returns:
        An RGB picture, or None for a network without a transformer.
    """
    tiles = before_after_tiles(model, images)
    return contact_sheet(tiles) if tiles is not None else None


def before_after_tiles(model: nn.Module, images: Tensor) -> tuple[list[Image], list[Image]] | None:
    """Return the two rows of ``before_after`` as single tiles; None for a network without a transformer of pictures."""
    with torch.no_grad(), recorded_transforms(model) as calls:
        model(images)
    if not calls or calls[0].image.shape[1] not in (1, 3):
        return None
    call = calls[0]
    outlines = call.transformer.grid.outline(call.theta.float()).cpu().numpy()
    height, width = call.image.shape[2:]
    placed = place(height, width, _TILE_SPEC)
    pixels = (outlines + 1) / 2 * (width, height) - 0.5  # of the picture
    outlines = (pixels - placed.offset) / placed.scale  # in the tile, which holds the picture and bars
    above = [_with_outline(tile, outline) for tile, outline in zip(tiles_of(call.image), outlines, strict=True)]
    return above, tiles_of(call.output)


def contact_sheet(rows: Sequence[Sequence[Image]]) -> Image:
    """Return rows of RGB tiles of one size as one picture."""
    height = len(rows) * (_TILE + _GAP) + _GAP
    width = max(len(row) for row in rows) * (_TILE + _GAP) + _GAP
    sheet = np.full((height, width, 3), _BACKGROUND, np.uint8)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            top, left = _GAP + down * (_TILE + _GAP), _GAP + across * (_TILE + _GAP)
            sheet[top : top + _TILE, left : left + _TILE] = tile
    return sheet


def image_sheet(images: Tensor, columns: int = 12) -> Image:
    """Return images (N, C, H, W) in [0, 1] as a contact sheet."""
    tiles = tiles_of(images)
    return contact_sheet([tiles[first : first + columns] for first in range(0, len(tiles), columns)])


def save_confusion(confusion: NDArray[np.int64], classes: Sequence[str], folder: Path) -> None:
    """Write a confusion matrix (rows true, columns predicted) to confusion.csv and confusion.png in ``folder``."""
    lines = [",".join(["true \\ predicted", *map(_csv_cell, classes)])]
    lines += [",".join([_csv_cell(name), *map(str, row)]) for name, row in zip(classes, confusion, strict=True)]
    write_whole(folder / "confusion.csv", "\n".join([*lines, ""]).encode())
    side = min(4 + 0.35 * len(classes), 24)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=mpl.colormaps["Blues"], vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
    axes.set_xticklabels(classes, rotation=90 if max(map(len, classes)) > 2 else 0, parse_math=False)
    axes.set_yticklabels(classes, parse_math=False)
    if len(classes) <= 30:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    save_figure(figure, folder / "confusion.png")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def save_picture(path: Path, picture: Image) -> None:
    """Write an RGB picture, making its folder.

    Raises:
        InputError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    write_image(path, picture)


def tiles_of(images: Tensor) -> list[Image]:
    """Return images (N, C, H, W) in [0, 1] as RGB tiles of one size, letterboxed."""
    array = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [preprocess(image, _TILE_SPEC) for image in array]


def _with_outline(tile: Image, outline: NDArray[np.floating]) -> Image:
    points = ((outline + 1) / 2 * _TILE - 0.5) * 16  # cv2 takes four fractional bits
    drawn = tile.copy()
    cv2.polylines(drawn, [np.clip(points, -32000, 32000).round().astype(np.int32)], True, _OUTLINE, 1, cv2.LINE_AA, 4)
    return drawn


def _csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
