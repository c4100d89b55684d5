"""The warp of the split form: the sampling grid applied to the frame itself, at the frame's own resolution."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..images.opencv import cv2
from ..images.preprocessing import Image, PreprocessSpec, as_channels, place, preprocess
from .grid_sample import Padding, sample_pixels
from .manifest import TransformerSpec

_BORDERS: dict[tuple[Padding, bool], int] = {
    ("zeros", False): cv2.BORDER_CONSTANT,
    ("zeros", True): cv2.BORDER_CONSTANT,
    ("border", False): cv2.BORDER_REPLICATE,
    ("border", True): cv2.BORDER_REPLICATE,
    ("reflection", False): cv2.BORDER_REFLECT,
    ("reflection", True): cv2.BORDER_REFLECT_101,
}
_MARGIN = 2  # averaged pixels around the outermost points, which bilinear interpolation reads too
_EXACT_TO = 1e-5
_REMAP_LIMIT = 2**15 - 1  # pixels along an axis (opencv#7601)
_FAR = 1e3  # of normalised coordinates; OpenCV's remap takes no infinite ones


def warp(
    frame: Image, grid: NDArray[np.float32], transformer: TransformerSpec, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Return what a transformer's grid samples from a frame of any size.

    The frame is averaged down first where the grid's points lie more than a pixel apart, but never below the
    resolution of the network's input. So small objects in a large frame keep their detail. A frame that is
    enlarged for the network, even one way only, is preprocessed first, and gives what the fused form gives. Beyond
    what a crop keeps, or in the bars of a letterbox, it reads the frame or its padding, where the fused form reads
    black.

    Args:
        frame: (H, W) grey or (H, W, 3) RGB, uint8.
        grid: (h, w, 2), normalised coordinates of the network's input.
        transformer: Whose grid it is; it samples the image.
        spec: How a frame becomes the network's input.

    Returns:
        (channels, h, w) in [0, 1].
    """
    placement = place(frame.shape[0], frame.shape[1], spec)
    coarsest = np.array([placement.scale[0] * 2 / spec.width, placement.scale[1] * 2 / spec.height])
    if min(coarsest) <= 1:  # without more detail, at least one way: its edges are those of the network's input
        frame, coarsest = preprocess(frame, spec), np.ones(2)
        placement = place(spec.height, spec.width, spec)
    frame = frame[:, :, 0] if frame.ndim == 3 and frame.shape[2] == 1 else frame
    height, width = frame.shape[:2]
    near = np.nan_to_num(grid, nan=-_FAR, posinf=_FAR, neginf=-_FAR).clip(-_FAR, _FAR)
    points = placement.to_pixels(near * np.asarray(reach(transformer), np.float32))
    left, top, right, bottom = _region(points, width, height, transformer, _MARGIN * np.ceil(coarsest.clip(1)))
    if left >= right or top >= bottom:
        return np.zeros((spec.channels, *grid.shape[:2]), np.float32)
    part = as_channels(frame[top:bottom, left:right], spec.channels)
    part, points = _averaged(part, (points - np.array([left, top])).astype(np.float32), coarsest)
    pixels: NDArray[np.float32] = part.astype(np.float32) / np.float32(255)
    return _sampled(pixels, points, transformer)


def reach(transformer: TransformerSpec) -> tuple[float, float]:
    """Return how far from the centre +-1 lies, of the way to the edge of what is sampled: (x, y)."""
    if not transformer.align_corners:
        return 1.0, 1.0
    height, width = transformer.input_size
    return (width - 1) / width, (height - 1) / height


def _region(
    points: NDArray[np.float32], width: int, height: int, transformer: TransformerSpec, margin: NDArray[np.float64]
) -> tuple[int, int, int, int]:
    """Return which part of the frame is read, with a margin in pixels along x and y: left, top, right, bottom."""
    low, high = points.min(axis=(0, 1)) - margin, points.max(axis=(0, 1)) + margin
    if transformer.padding == "reflection" and (min(low) < 0 or high[0] >= width or high[1] >= height):
        return 0, 0, width, height
    last = np.array([width - 1, height - 1])
    if transformer.padding == "border":  # wholly outside, it reads the nearest edge
        low, high = low.clip(0, last), high.clip(0, last)
    first, end = np.floor(low).clip(0).astype(int), np.ceil(high).astype(int) + 1
    return int(first[0]), int(first[1]), min(width, int(end[0])), min(height, int(end[1]))


def _averaged(
    part: Image, points: NDArray[np.float32], coarsest: NDArray[np.float64]
) -> tuple[Image, NDArray[np.float32]]:
    """Return a picture with as many pixels as its points can tell apart, and the points in it.

    Args:
        part: (H, W, C).
        points: (h, w, 2), pixels of it.
        coarsest: Pixels, along x and y, that may become one.
    """
    step = np.ones(2)
    for axis in (0, 1):  # of a grid that is turned, the rows run along y
        if points.shape[axis] > 1:
            step = np.maximum(step, np.median(np.abs(np.diff(points, axis=axis)), axis=(0, 1)))
    step = np.minimum(step, coarsest)
    if max(step) <= 1:
        return part, points
    height, width = part.shape[:2]
    columns, rows = max(1, round(width / max(1.0, step[0]))), max(1, round(height / max(1.0, step[1])))
    shrunk = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    factor = np.array([columns / width, rows / height], np.float32)
    return np.asarray(shrunk, np.uint8).reshape(rows, columns, -1), ((points + 0.5) * factor - 0.5).astype(np.float32)


def _sampled(
    image: NDArray[np.float32], points: NDArray[np.float32], transformer: TransformerSpec
) -> NDArray[np.float32]:
    """Return pixels (C, h, w) of an image (H, W, C) at points (h, w, 2) in pixels."""
    height, width = image.shape[:2]
    nearest = transformer.interpolation == "nearest"
    if not nearest and max(height, width, *points.shape) < _REMAP_LIMIT and _remap_is_exact():
        border = _BORDERS[transformer.padding, transformer.align_corners]
        blended = cv2.remap(image, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=border)
        return np.ascontiguousarray(blended.reshape(*points.shape[:2], -1).transpose(2, 0, 1), np.float32)
    planes = image.transpose(2, 0, 1)[None]
    at = points.astype(np.float64)[None]
    read = sample_pixels(planes, at, transformer.interpolation, transformer.padding, transformer.align_corners)
    return np.asarray(read[0], np.float32)


@cache
def _remap_is_exact() -> bool:
    """Return whether OpenCV blends pixels at the point itself; versions before 5 round it to a 32nd of a pixel."""
    random = np.random.default_rng(0)
    points = random.uniform(-20, 36, (16, 16, 2)).astype(np.float32)
    for (padding, folds_at_centres), border in _BORDERS.items():
        for channels in (1, 3):
            image = random.random((16, 16, channels), np.float32)
            planes, at = image.transpose(2, 0, 1)[None], points.astype(np.float64)[None]
            expected = sample_pixels(planes, at, "bilinear", padding, folds_at_centres)[0]
            blended = cv2.remap(image, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=border)
            if np.abs(blended.reshape(16, 16, channels).transpose(2, 0, 1) - expected).max() > _EXACT_TO:
                return False
    return True
