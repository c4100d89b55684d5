"""Reading image files of any origin as 8-bit grey or RGB, the right way up."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ImageReadError, InputError
from .opencv import cv2
from .preprocessing import Image

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Files with these endings are taken from a folder; a file that is named is read whatever its ending."""

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
_START_OF_SCAN = 0xDA
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # tables, an extension, arithmetic conditioning
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_REDUCED_GREY = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

Reduction = Callable[[int, int], int]
"""By how much (1, 2, 4 or 8) a picture of a height and width may be reduced."""


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
    return decode_image(_read(path), str(path))


def read_reduced(path: Path, reduction: Reduction) -> Decoded:
    """Return the picture in a file as ``read_image`` does, a JPEG decoded at a fraction of its size where it may be.

    Args:
        path: The file.
        reduction: How far it may be reduced; see ``preprocessing.largest_reduction``.

    Raises:
        ImageReadError: As for ``read_image``.
    """
    return decode_reduced(_read(path), str(path), reduction)


def decode_reduced(data: bytes, name: str, reduction: Reduction) -> Decoded:
    """Return the picture in ``data``, the bytes of an image file; as ``read_reduced``, ``name`` is for its errors."""
    found = _jpeg_frame(data) if data.startswith(_JPEG) else None
    factor = min(reduction(found.height, found.width), reduction(found.width, found.height)) if found else 1
    if found is None or factor == 1 or found.channels not in (1, 3):
        image = decode_image(data, name)
        return Decoded(image, (image.shape[0], image.shape[1]))
    _check_whole(data, name)
    flags = (_REDUCED_GREY if found.channels == 1 else _REDUCED)[factor]
    image = _to_rgb(_to_8_bits(_decoded(data, flags, name), name))
    upright = image.shape[:2] == (-(-found.height // factor), -(-found.width // factor))
    size = (found.height, found.width) if upright else (found.width, found.height)
    return Decoded(image, size)


def _read(path: Path) -> bytes:
    try:
        if path.is_fifo():  # reading would wait for a writer, for ever
            raise ImageReadError(f"{path}: is a named pipe, not a picture")
        return path.read_bytes()
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read ({error.strerror or error})") from error


def decode_image(data: bytes, name: str) -> Image:
    """Return the picture in ``data``, the bytes of an image file; as ``read_image``, ``name`` is for its errors."""
    _check_whole(data, name)
    # Only 'unchanged' keeps transparency, and it applies no EXIF orientation; a JPEG has no transparency.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if data.startswith(_JPEG) else cv2.IMREAD_UNCHANGED
    return _upright(_to_rgb(_to_8_bits(_decoded(data, flags, name), name)), _orientation(data))


def _check_whole(data: bytes, name: str) -> None:
    if not data:
        raise ImageReadError(f"{name}: is empty (0 bytes)")
    if _is_truncated(data):
        raise ImageReadError(f"{name}: is cut off, the end of the picture is missing ({len(data)} bytes)")


def _decoded(data: bytes, flags: int, name: str) -> NDArray[np.generic]:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageReadError(f"{name}: cannot be decoded as an image ({_reason(error)})") from error
    if decoded is None:
        raise ImageReadError(f"{name}: cannot be decoded as an image ({len(data)} bytes)")
    return decoded


def write_image(path: Path, image: Image) -> None:
    """Write a grey or RGB picture; the suffix of ``path`` says the format.

    Raises:
        ImageReadError: The format is unknown or the file cannot be written.
    """
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 and image.shape[2] == 3 else image
    try:
        done, data = cv2.imencode(path.suffix, stored)
    except cv2.error as error:
        raise ImageReadError(f"{path}: cannot be written as '{path.suffix}'; use .png or .jpg") from error
    if not done:
        height, width = image.shape[:2]
        raise ImageReadError(f"{path}: {width} x {height} pixels do not fit '{path.suffix}'; use .png")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be written ({error.strerror or error})") from error


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror or error})") from error


def _is_truncated(data: bytes) -> bool:
    """Return whether the end mark is missing; OpenCV would fill the missing rows with grey and not say so."""
    if data.startswith(_JPEG):
        start = first_scan(data)
        return start < 0 or data.find(b"\xff\xd9", start) < 0
    return data.startswith(_PNG) and b"IEND" not in data


def first_scan(data: bytes) -> int:
    """Return where a JPEG's first scan begins, past its header with any thumbnail in it; -1 if there is none."""
    return next((end for marker, _, end in _segments(data) if marker == _START_OF_SCAN), -1)


@dataclass(frozen=True)
class _JpegFrame:
    height: int
    width: int
    channels: int


def _jpeg_frame(data: bytes) -> _JpegFrame | None:
    """Return what a JPEG's header says of the picture (ITU-T T.81, B.2.2)."""
    for marker, start, end in _segments(data):
        if marker in _START_OF_FRAME and end - start >= 8:
            _, height, width, channels = struct.unpack_from(">BHHB", data, start + 2)
            return _JpegFrame(height, width, channels) if height and width else None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments of a JPEG's header up to its first scan: marker, where its length stands, where it ends."""
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at + 2, at + 2 + length
        if marker == _START_OF_SCAN:
            return
        at += 2 + length


def _orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a PNG or WebP; 1 for other formats, which OpenCV turns itself."""
    markers = {_PNG: (b"eXIf", 4), b"RIFF": (b"EXIF", 8)}
    marker, skip = next((found for start, found in markers.items() if data.startswith(start)), (b"", 0))
    at = data.rfind(marker) if marker else -1
    if at < 0:
        return 1
    exif = data[at + skip :].removeprefix(b"Exif\0\0")
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut short: a picture without orientation
        pass
    return 1


def _upright(image: Image, orientation: int) -> Image:
    """Return a stored picture as EXIF says that it is to be seen (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _to_8_bits(image: NDArray[np.generic], name: str) -> Image:
    if image.dtype == np.uint8:
        return image.view(np.uint8)
    if image.dtype == np.uint16:
        return (image.astype(np.float32) / 257).round().astype(np.uint8)
    raise ImageReadError(f"{name}: has {image.dtype} pixels; convert it to 8 or 16 bits")


def _to_rgb(image: Image) -> Image:
    if image.ndim == 2:
        return image
    if image.shape[2] == 4:
        alpha = image[:, :, 3:].astype(np.float32) / 255
        image = (image[:, :, :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _reason(error: cv2.error) -> str:
    text = str(error)
    if "CV_IO_MAX_IMAGE" in text:
        return "it has too many pixels; raise OPENCV_IO_MAX_IMAGE_PIXELS to read it"
    return text.strip().splitlines()[-1].strip()
