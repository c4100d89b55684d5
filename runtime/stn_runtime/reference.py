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
    x = _pixels(grid[..., 0], width, padding, align_corners)
    y = _pixels(grid[..., 1], height, padding, align_corners)
    if interpolation == "nearest":
        return _read(image, np.rint(x), np.rint(y))
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = (x - left)[:, None], (y - top)[:, None]
    above = _read(image, left, top) * (1 - right_share) + _read(image, left + 1, top) * right_share
    below = _read(image, left, top + 1) * (1 - right_share) + _read(image, left + 1, top + 1) * right_share
    return (above * (1 - bottom_share) + below * bottom_share).astype(np.float32)


def _pixels(coordinate: NDArray[np.float32], size: int, padding: Padding, align_corners: bool) -> NDArray[np.float64]:
    """Return normalised coordinates as pixels along one axis, (0, 0) the centre of the first one."""
    nowhere = -3.0 if padding == "zeros" else -1.0
    shifted = np.nan_to_num(coordinate.astype(np.float64), nan=nowhere, posinf=1e9, neginf=-1e9) + 1
    pixel: NDArray[np.float64] = shifted / 2 * (size - 1) if align_corners else (shifted * size - 1) / 2
    if padding == "reflection":
        first, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        distance = np.abs(pixel - first) % (2 * span) if span else np.zeros_like(pixel)
        pixel = np.minimum(distance, 2 * span - distance) + first
    if padding == "zeros":
        return np.clip(pixel, -2, size + 1)
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
