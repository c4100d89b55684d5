"""Reading image files of any origin as 8-bit grey or RGB, the right way up."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageReadError
from ..machine.memory import usable_memory
from .headers import Header, HeaderError, read_header
from .opencv import cv2, max_pixels
from .preprocessing import Image

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Files with these endings are taken from a folder; a file that is named is read whatever its ending."""

MEMORY_SHARE = 4
"""Reading one picture takes at most one part in so many of the machine's memory; several are read at a time."""

_MAX_BYTES = (1 << 31) - 1  # OpenCV counts them in 32 bits
_BLOCK_PIXELS = 1 << 16
_NOT_FILES = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_COLOUR = {
    1: cv2.IMREAD_ANYCOLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

Reduction = Callable[[int, int], int]
"""By how much (1, 2, 4 or 8) a picture of a height and width may be reduced."""

Reserve = Callable[[int], object]
"""Takes note of how many bytes are about to be taken."""


def _nothing(_: int) -> None:
    pass


@dataclass(frozen=True)
class Decoded:
    """A picture from a file, perhaps reduced while it was decoded.

    Attributes:
        image: (H, W) grey or (H, W, 3) RGB, 8 bits, the right way up.
        size: (height, width) of the whole picture.
    """

    image: Image
    size: tuple[int, int]


def read_image(path: Path) -> Image:
    """Return the picture in a file: (H, W) grey or (H, W, 3) RGB, 8 bits.

    EXIF orientation is applied, 16 bits are reduced to 8, transparency is laid on white, of an animation the first
    picture is taken.

    Raises:
        ImageReadError: The file cannot be read, is not a whole picture, or is too large; one sentence.
    """
    return decode_image(_read(path), _shown(path))


def decode_image(data: bytes, name: str) -> Image:
    """Return the picture in ``data``, the bytes of an image file; as ``read_image``, ``name`` is for its errors."""
    return _decoded(data, _header(data, name), name)


def read_reduced(path: Path, reduction: Reduction, *, grey: bool = False, reserve: Reserve = _nothing) -> Decoded:
    """Return the picture in a file as ``read_image`` does, a JPEG decoded at a fraction of its size where it may be.

    Args:
        path: The file.
        reduction: How far it may be reduced; see ``preprocessing.largest_reduction``.
        grey: Whether the picture is to be made grey anyway: of a colour JPEG that is reduced only the luminance is
            decoded. It equals the grey of its RGB wherever that is not clipped, and within a few levels elsewhere.
        reserve: Called before decoding with the bytes that it takes at its peak; may wait.

    Raises:
        ImageReadError: As for ``read_image``.
    """
    return decode_reduced(_read(path), _shown(path), reduction, grey=grey, reserve=reserve)


def decode_reduced(
    data: bytes, name: str, reduction: Reduction, *, grey: bool = False, reserve: Reserve = _nothing
) -> Decoded:
    """Return the picture in ``data``, the bytes of an image file; as ``read_reduced``, ``name`` is for its errors."""
    header = _header(data, name)
    height, width = header.height, header.width
    factor = 1
    if header.kind == "JPEG" and header.channels in (1, 3):
        factor = min(reduction(height, width), reduction(width, height))  # EXIF may turn it
    reserve(len(data) + header.memory(factor))
    image = _decoded(data, header, name, factor, grey and factor > 1)
    upright = image.shape[:2] == (-(-height // factor), -(-width // factor))
    return Decoded(image, (height, width) if upright else (width, height))


def _shown(path: Path) -> str:
    """Return a file's name for a sentence of one line, whatever it is made of."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            found = os.fstat(file.fileno())
            kind = _NOT_FILES.get(stat.S_IFMT(found.st_mode))
            if kind:
                raise ImageReadError(f"{_shown(path)}: is {kind}, not a picture")
            allowed = min(_MAX_BYTES, usable_memory() // MEMORY_SHARE)
            if found.st_size > allowed:
                raise ImageReadError(
                    f"{_shown(path)}: has {found.st_size >> 20} MB, this machine allows {allowed >> 20} MB a picture"
                )
            return file.readall()
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a name that no file can have
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "not enough memory"
        raise ImageReadError(f"{_shown(path)}: cannot be read ({reason})") from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for a writer, for ever


def _header(data: bytes, name: str) -> Header:
    try:
        header = read_header(data)
    except HeaderError as error:
        raise ImageReadError(f"{name}: {error}") from error
    if header.height * header.width > max_pixels():
        raise ImageReadError(
            f"{name}: {header.width} x {header.height} are too many pixels; raise OPENCV_IO_MAX_IMAGE_PIXELS to read it"
        )
    return header


def _decoded(data: bytes, header: Header, name: str, factor: int = 1, grey: bool = False) -> Image:
    needed, allowed = len(data) + header.memory(factor), usable_memory() // MEMORY_SHARE
    if needed > allowed:
        raise ImageReadError(
            f"{name}: {header.width} x {header.height} pixels of {header.kind} take {needed >> 20} MB to decode, this "
            f"machine allows {allowed >> 20} MB for one picture; make it smaller"
        )
    if header.kind == "JPEG":
        luminance = header.channels == 1 or (grey and header.channels == 3)
        flags = (_GREY if luminance else _COLOUR)[factor]
    else:  # only 'unchanged' keeps transparency; it applies no EXIF orientation
        flags = cv2.IMREAD_UNCHANGED
    kept = data
    for first, last in reversed(header.left_out):
        kept = kept[:first] + kept[last:]
    if header.kind == "PNM" and data[1:2] in b"123":
        kept += b"\n"  # without which the last of the spelled numbers counts as cut off
    try:
        decoded = cv2.imdecode(np.frombuffer(kept, np.uint8), flags)
        if decoded is None:
            raise ImageReadError(
                f"{name}: cannot be decoded as an image ({len(data)} bytes of {header.kind}, OpenCV {cv2.__version__})"
            )
        return _upright(_to_rgb(_to_8_bits(decoded, header, name), header), header.orientation)
    except cv2.error as error:
        raise ImageReadError(f"{name}: cannot be decoded as an image ({_reason(error)})") from error
    except MemoryError as error:
        raise ImageReadError(f"{name}: there is not enough memory to decode {needed >> 20} MB") from error


def _upright(image: Image, orientation: int) -> Image:
    """Return a stored picture as EXIF says that it is to be seen (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _to_8_bits(image: NDArray[np.generic], header: Header, name: str) -> Image:
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageReadError(f"{name}: has {image.dtype} pixels; convert it to 8 or 16 bits")
    full = (1 << 8 * image.dtype.itemsize) - 1
    samples = image.view(f"u{image.dtype.itemsize}")
    if header.inverted:
        cv2.bitwise_not(samples, dst=samples)
    if header.transparent is not None:
        samples[samples == header.transparent] = full
    if header.whites:
        scales = 255 / np.array(header.whites)
        table = (np.arange(256)[:, None] * scales).round().clip(max=255).astype(np.uint8)
        return np.asarray(cv2.LUT(samples, table[None]), np.uint8)
    if samples.dtype == np.uint8 and header.white in (0, full):
        return samples
    return np.asarray(cv2.convertScaleAbs(samples, alpha=255 / (header.white or full)), np.uint8)


def _to_rgb(image: Image, header: Header) -> Image:
    if image.ndim == 2:
        return image
    if image.shape[2] == 4 and header.alpha != "none":
        return _on_white(image, header.alpha == "premultiplied")
    image = image[:, :, :3]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _on_white(image: Image, premultiplied: bool) -> Image:
    """Return BGRA as RGB on white, block by block: whole pictures in 16 bits would take twice their memory again."""
    height, width = image.shape[:2]
    laid = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BLOCK_PIXELS // width)
    for top in range(0, height, rows):
        block = image[top : top + rows].astype(np.uint16)
        colour, alpha = block[:, :, 2::-1], block[:, :, 3:]
        if premultiplied:
            laid[top : top + rows] = np.minimum(colour + 255 - alpha, 255)
        else:  # (colour * alpha + white * (255 - alpha)) / 255, rounded, is at most 255 * 255 + 127 before: 16 bits
            laid[top : top + rows] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return laid


def _reason(error: cv2.error) -> str:
    text = str(error)
    if "CV_IO_MAX_IMAGE" in text:
        return "it is larger than OPENCV_IO_MAX_IMAGE_WIDTH, _HEIGHT or _PIXELS allow"
    return text.strip().splitlines()[-1].strip()
