"""OpenCV, imported once for the whole runtime, with a remedy in words when it cannot be."""

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingDependencyError
from ..machine.interpreter import PIP

MAX_PIXELS = 200_000_000
"""Pictures with more pixels are not decoded; the environment variable OPENCV_IO_MAX_IMAGE_PIXELS overrides it.

That is the largest sensor of a telephone. On a small machine its memory is the closer limit: ``reading.MEMORY_SHARE``.
"""

WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def installed_wheels() -> list[str]:
    """Return the OpenCV wheels that pip knows of; more than one overwrite each other's files."""
    installed = []
    for name in WHEELS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        installed.append(name)
    return installed


def max_pixels() -> int:
    """Return how many pixels a picture may have.

    Raises:
        InputError: The environment variable is no whole number.
    """
    text = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    if not text.isdecimal():
        raise InputError(f"OPENCV_IO_MAX_IMAGE_PIXELS is '{text}': expected a whole number, such as {MAX_PIXELS}")
    return int(text)


def remedy(error: ImportError) -> str:
    """Return one sentence about why ``import cv2`` failed with ``error``, and the command that mends it."""
    wheels = installed_wheels()
    if len(wheels) > 1:
        return (
            f"OpenCV wheels overwrite each other ({', '.join(wheels)}); keep one: "
            f"{PIP} uninstall -y {' '.join(wheels)} && {PIP} install opencv-python-headless"
        )
    if not wheels:
        return (
            f"OpenCV is not installed: {PIP} install 'stn-edge[gui]' where there is a screen, "
            "'stn-edge[headless]' where there is none"
        )
    if "libGL" in str(error) or "libgthread" in str(error) or "libxcb" in str(error):
        return (
            f"{wheels[0]} needs a system library that is missing ({error}): apt-get install libgl1 libglib2.0-0, "
            f"or, without a screen, {PIP} uninstall -y {wheels[0]} && {PIP} install opencv-python-headless"
        )
    return f"{wheels[0]} is installed but cannot be loaded ({error}): {PIP} install --force-reinstall {wheels[0]}"


max_pixels()  # one that is no number would be OpenCV's to refuse, with a traceback from its depths

try:
    import cv2
except ImportError as error:
    raise MissingDependencyError(remedy(error)) from error


def encodable(path: Path) -> str:
    """Return a file's name as OpenCV's video functions take it.

    Raises:
        InputError: The name is not UTF-8; OpenCV would crash on it.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{str(path)!r}: the name is not UTF-8, which videos need; rename the file") from error
    return str(path)


def rgb(image: Any) -> NDArray[np.uint8]:  # noqa: ANN401  (what OpenCV's functions give)
    """Return a picture as OpenCV gives it, grey or BGR, as grey or RGB."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]


__all__ = ["cv2", "encodable", "installed_wheels", "max_pixels", "remedy", "rgb"]
