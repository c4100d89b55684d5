"""The sampler in NumPy: what an engine's ``GridSample`` must answer, and the warp where OpenCV's is too coarse."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["zeros", "border", "reflection"]


def grid_sample(
    image: NDArray[np.float32],
    grid: NDArray[np.float32],
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    align_corners: bool = False,
) -> NDArray[np.float32]:
    """Return images read at the points of a sampling grid, as ``GridSample`` of ONNX opset 16 is specified.

    Args:
        image: (N, C, H, W).
        grid: (N, h, w, 2), normalised (x, y); NaN reads nothing with zeros, else the first pixel.
        interpolation: bilinear, or nearest with ties to the even pixel.
        padding: What lies outside the image: zeros, border, or reflection.
        align_corners: Whether -1 and +1 are the centres (True) or the edges (False) of the border pixels.

    Returns:
        (N, C, h, w).
    """
    height, width = image.shape[2:]
    # where NaN is read: outside with zeros, else the first pixel
    nowhere = -3.0 if padding == "zeros" else -1.0
    shifted = np.nan_to_num(grid.astype(np.float64), nan=nowhere, posinf=1e9, neginf=-1e9) + 1
    size = np.array([width, height])
    points = shifted / 2 * (size - 1) if align_corners else (shifted * size - 1) / 2
    return sample_pixels(image, points, interpolation, padding, align_corners)


def sample_pixels(
    image: NDArray[np.float32],
    points: NDArray[np.float64],
    interpolation: Interpolation,
    padding: Padding,
    folds_at_centres: bool,
) -> NDArray[np.float32]:
    """Return images read at points given in pixels.

    Args:
        image: (N, C, H, W).
        points: (N, h, w, 2), finite (x, y); (0, 0) is the centre of the first pixel.
        interpolation: bilinear, or nearest with ties to the even pixel.
        padding: What lies outside the image: zeros, border, or reflection.
        folds_at_centres: Whether reflection is at the centres (True) or at the edges (False) of the border pixels.

    Returns:
        (N, C, h, w).
    """
    height, width = image.shape[2:]
    x = _inside(points[..., 0], width, padding, folds_at_centres)
    y = _inside(points[..., 1], height, padding, folds_at_centres)
    if interpolation == "nearest":
        return _read(image, np.rint(x), np.rint(y))
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = (x - left)[:, None], (y - top)[:, None]
    above = _read(image, left, top) * (1 - right_share) + _read(image, left + 1, top) * right_share
    below = _read(image, left, top + 1) * (1 - right_share) + _read(image, left + 1, top + 1) * right_share
    return (above * (1 - bottom_share) + below * bottom_share).astype(np.float32)


def _inside(pixel: NDArray[np.float64], size: int, padding: Padding, folds_at_centres: bool) -> NDArray[np.float64]:
    """Return coordinates along one axis moved to where their padding reads; with zeros, just outside at most."""
    if padding == "zeros":
        return np.clip(pixel, -2, size + 1)
    if padding == "reflection":
        first, span = (0.0, size - 1.0) if folds_at_centres else (-0.5, float(size))
        distance = np.abs(pixel - first) % (2 * span) if span else np.zeros_like(pixel)
        pixel = np.minimum(distance, 2 * span - distance) + first
    return np.clip(pixel, 0, size - 1)


def _read(image: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return pixels (N, C, h, w) at whole coordinates (N, h, w), zero outside."""
    height, width = image.shape[2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    rows, columns = np.where(inside, y, 0).astype(np.intp), np.where(inside, x, 0).astype(np.intp)
    batch = np.arange(len(image))[:, None, None]
    pixels = image.transpose(0, 2, 3, 1)[batch, rows, columns]  # (N, h, w, C)
    read: NDArray[np.float32] = np.where(inside[..., None], pixels, np.float32(0)).transpose(0, 3, 1, 2)
    return read
