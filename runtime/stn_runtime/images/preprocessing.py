"""From a picture of any size to the network's input: the one place where an image is resized for a network."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .opencv import cv2

Image = NDArray[np.uint8]
"""(H, W) or (H, W, 1) grey, or (H, W, 3) RGB; never BGR."""

Fit = Literal["stretch", "letterbox", "crop"]
ResizeInterpolation = Literal["area", "linear"]


@dataclass(frozen=True)
class PreprocessSpec:
    """How a picture becomes the network's input; the same in training, evaluation, calibration and on the device.

    Attributes:
        height: Rows of the network's input, pixels.
        width: Columns of the network's input, pixels.
        channels: 1 for grey, 3 for RGB.
        fit: ``stretch`` to the whole input; ``letterbox`` keeps the aspect ratio and fills up with black;
            ``crop`` keeps it and cuts the longer side, centred.
        interpolation: ``area`` averages when shrinking and is bilinear when enlarging; ``linear`` is always bilinear.
    """

    height: int
    width: int
    channels: int
    fit: Fit = "stretch"
    interpolation: ResizeInterpolation = "area"


@dataclass(frozen=True)
class Placement:
    """Where the network's input lies in the picture it was made from: picture = input * scale + offset.

    Input coordinates are normalised to [-1, 1]; picture coordinates are pixels, (0, 0) the centre of the first pixel.
    """

    scale: tuple[float, float]  # (x, y), pixels per unit
    offset: tuple[float, float]  # (x, y), pixels

    def to_pixels(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return normalised input coordinates (..., 2) as pixels of the picture."""
        return points * np.asarray(self.scale, np.float32) + np.asarray(self.offset, np.float32)


def place(height: int, width: int, spec: PreprocessSpec) -> Placement:
    """Return where the network's input lies in a picture of ``height`` x ``width`` pixels."""
    if spec.fit == "crop":
        top, left, rows, columns = _cropped(height, width, spec)
        return Placement((columns / 2, rows / 2), (left + (columns - 1) / 2, top + (rows - 1) / 2))
    top, left, rows, columns = 0, 0, spec.height, spec.width
    if spec.fit == "letterbox":
        top, left, rows, columns = _letterboxed(height, width, spec)
    x, y = width / columns, height / rows  # pixels of the picture per pixel of the input
    return Placement(
        (spec.width / 2 * x, spec.height / 2 * y),
        ((spec.width / 2 - left) * x - 0.5, (spec.height / 2 - top) * y - 0.5),
    )


def seen_part(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    """Return which pixels of a picture become the network's input: rows and columns (top, left, bottom, right).

    ``bottom`` and ``right`` are the first that are left out. Only a crop leaves any out.
    """
    if spec.fit != "crop":
        return 0, 0, height, width
    top, left, rows, columns = _cropped(height, width, spec)
    return top, left, top + rows, left + columns


def largest_reduction(height: int, width: int, spec: PreprocessSpec, least: int = 0) -> int:
    """Return by how much, 8, 4, 2 or 1, a picture may be reduced and keep twice the resolution of the input.

    Args:
        height: Rows of the picture, pixels.
        width: Columns of the picture, pixels.
        spec: Says what the network needs.
        least: Pixels that the shorter side must keep.
    """
    scale = place(height, width, spec).scale
    per_input = min(2 * scale[0] / spec.width, 2 * scale[1] / spec.height)  # pixels of the picture
    side = min(height, width)
    return next((factor for factor in (8, 4, 2) if per_input >= 2 * factor and side >= least * factor), 1)


def preprocess(image: Image, spec: PreprocessSpec) -> Image:
    """Return ``image`` as the network's input, (height, width, channels).

    Args:
        image: (H, W) or (H, W, 1) grey, or (H, W, 3) RGB.
        spec: Says what the network expects.

    Raises:
        ValueError: The array is not an 8-bit picture of one of those shapes.
    """
    image = _as_picture(image)
    fitted = _FITS[spec.fit](image, spec)
    return as_channels(fitted, spec.channels)


def _as_picture(image: Image) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be a uint8 array, got {kind}")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"an image must be (H, W), (H, W, 1) or (H, W, 3) RGB, got {image.shape}")
    return image


def _resize(image: Image, height: int, width: int, interpolation: ResizeInterpolation) -> Image:
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if interpolation == "area" and shrinks else cv2.INTER_LINEAR
    resized: Image = cv2.resize(image, (width, height), interpolation=method)  # type: ignore[assignment]
    return resized


def _stretch(image: Image, spec: PreprocessSpec) -> Image:
    return _resize(image, spec.height, spec.width, spec.interpolation)


def _letterbox(image: Image, spec: PreprocessSpec) -> Image:
    top, left, height, width = _letterboxed(image.shape[0], image.shape[1], spec)
    canvas = np.zeros((spec.height, spec.width, *image.shape[2:]), np.uint8)
    canvas[top : top + height, left : left + width] = _resize(image, height, width, spec.interpolation)
    return canvas


def _letterboxed(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    """Return where a picture lies in the letterboxed input: (top, left, height, width), pixels of the input."""
    factor = min(spec.height / height, spec.width / width)
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    return (spec.height - rows) // 2, (spec.width - columns) // 2, rows, columns


def _crop(image: Image, spec: PreprocessSpec) -> Image:
    top, left, height, width = _cropped(image.shape[0], image.shape[1], spec)
    return _resize(image[top : top + height, left : left + width], spec.height, spec.width, spec.interpolation)


def _cropped(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    """Return which part of a picture a crop keeps: (top, left, height, width), pixels of the picture."""
    factor = max(spec.height / height, spec.width / width)
    rows = min(height, max(1, round(spec.height / factor)))
    columns = min(width, max(1, round(spec.width / factor)))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


_FITS = {"stretch": _stretch, "letterbox": _letterbox, "crop": _crop}


def as_channels(image: Image, channels: int) -> Image:
    """Return a picture, grey or RGB, with 1 or 3 channels: (H, W, channels)."""
    if channels == 1:
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return np.asarray(grey, np.uint8)[:, :, None]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8) if image.ndim == 2 else image
