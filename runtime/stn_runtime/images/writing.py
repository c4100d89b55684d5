"""Writing image files."""

from pathlib import Path

from ..errors import InputError
from ..machine.filesystem import why_not_written
from .opencv import cv2
from .preprocessing import Image
from .reading import IMAGE_SUFFIXES


def write_image(path: Path, image: Image) -> None:
    """Write a grey or RGB picture; the suffix of ``path`` says the format.

    Raises:
        InputError: The format is unknown or the file cannot be written.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: cannot be written as '{path.suffix}'; use .png or .jpg")
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 and image.shape[2] == 3 else image
    done, cause = False, None
    try:
        done, data = cv2.imencode(path.suffix, stored)
    except cv2.error as error:  # some versions return, others raise
        cause = error
    if not done:
        height, width = image.shape[:2]
        raise InputError(f"{path}: {width} x {height} pixels do not fit '{path.suffix}'; use .png") from cause
    try:
        _write(path, data.tobytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({why_not_written(path, error)})") from error


def _write(path: Path, data: bytes) -> None:
    """Write a file, and leave no part of it where the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
        except OSError:
            if path.is_file():
                path.unlink()
            raise
