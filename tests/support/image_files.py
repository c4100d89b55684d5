"""Image files for the tests, byte by byte where an encoder would not make them."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime.sources.frame import Frame

PNG_MARK = b"\x89PNG\r\n\x1a\n"
# Made with Pillow 13: 8 x 8 pixels of C 0 M 255 Y 255 K 0, with an Adobe marker.
CMYK_JPEG = (
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAIBgYHBgUIBwcHCQkICgwUDQwLCwwZEhMPFB0aHx4dGhwcICQuJyAiLCMcHCg3KSwwMTQ0NB8nOT04MjwuMzQy"
    "/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAcI/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwB/T+n8"
    "/v/Z"
)
# Made with Pillow 13: 5 high, 7 wide, one picture of pure red, then one of pure green.
ANIMATED_GIF = (
    "R0lGODdhBwAFAIEAAP8AAAAAAAAAAAAAACwAAAAABwAFAAAIDAABCBxIsKDBgwcDAgAh+QQBAAABACwAAAAABwAFAIEA/wAAAAAAAAAAAAAIDAABCBxI"
    "sKDBgwcDAgA7"
)

NOISE = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)

needs_animations = pytest.mark.skipif(
    not cv2.haveImageWriter("x.gif"), reason="OpenCV reads GIF and animated WebP from 4.11 on"
)


def encode(suffix: str, image: NDArray[np.generic], options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    assert done
    return data.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(height: int, width: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """Colour type 0 grey, 2 RGB, 4 grey + alpha, 6 RGB + alpha; ``rows`` start with a filter byte each."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows))
    return PNG_MARK + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def palette_png(alpha: bytes = b"") -> bytes:
    """1 x 3 pixels of colour type 3: red, green, blue."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0))
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))
    return b"".join(
        (
            PNG_MARK + head + palette,
            chunk(b"tRNS", alpha) if alpha else b"",
            chunk(b"IDAT", zlib.compress(b"\0\0\1\2")) + chunk(b"IEND", b""),
        )
    )


def animated_png(first: NDArray[np.uint8], second: bytes) -> bytes:
    """The first picture as PNG has it, then a frame for those that know of animations."""
    height, width = first.shape[:2]
    control = struct.pack(">IIIIHHBB", width, height, 0, 0, 1, 10, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in first)
    still = png(height, width, 2, rows)
    before = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", struct.pack(">I", 0) + control)
    after = chunk(b"fcTL", struct.pack(">I", 1) + control) + chunk(b"fdAT", struct.pack(">I", 2) + second)
    start, end = still.index(b"IDAT") - 4, still.index(b"IEND") - 4
    return still[:start] + before + still[start:end] + after + still[end:]


def animated_webp(pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    height, width = pictures[0].shape[:2]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    chunks = [(b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6))]
    for picture in pictures:
        frame = encode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[12:]
        chunks.append((b"ANMF", bytes(6) + size + b"\x64\0\0\0" + frame))
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(pixels: NDArray[np.generic], photometric: int, *extra: tuple[int, int]) -> bytes:
    """Uncompressed, in one strip; ``extra`` are tags with a value of type SHORT."""
    height, width, samples = (*pixels.shape, 1)[:3]
    values = {256: width, 257: height, 259: 1, 262: photometric, 273: 0, 277: samples, 278: height, 279: pixels.nbytes}
    values |= dict(extra)
    at = 8 + 2 + 12 * (len(values) + 1) + 4
    bits = struct.pack(f"<{samples}H", *[8 * pixels.dtype.itemsize] * samples)
    values[273] = at + len(bits)
    lines = {tag: struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in values.items()}
    lines[258] = struct.pack("<HHI", 258, 3, samples) + (bits.ljust(4, b"\0") if samples < 3 else struct.pack("<I", at))
    head = b"II\x2a\0" + struct.pack("<IH", 8, len(lines))
    return head + b"".join(lines[tag] for tag in sorted(lines)) + bytes(4) + bits + pixels.tobytes()


def exif(orientation: int) -> bytes:
    """A big-endian TIFF header with one entry: tag 0x0112, type SHORT, count 1."""
    return b"MM\0\x2a\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def jpeg_with_exif(image: NDArray[np.uint8], orientation: int) -> bytes:
    jpeg, body = encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100]), b"Exif\0\0" + exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def webp_with_exif(image: NDArray[np.uint8], orientation: int) -> bytes:
    """RIFF with VP8X, the picture, and EXIF LAST, where the format puts it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    picture = encode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[12:]  # 101 is lossless
    size = struct.pack("<I", image.shape[1] - 1)[:3] + struct.pack("<I", image.shape[0] - 1)[:3]
    body = b"WEBP" + chunk(b"VP8X", b"\x08\0\0\0" + size) + picture + chunk(b"EXIF", exif(orientation))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def quarters() -> NDArray[np.uint8]:
    """16 x 32, its quarters 0 and 60 above, 120 and 240 below: no turn or flip of it is another."""
    return np.kron(np.array([[0, 60], [120, 240]], np.uint8), np.ones((8, 16), np.uint8))


ORIENTED = {
    1: [[0, 60], [120, 240]],
    2: [[60, 0], [240, 120]],
    3: [[240, 120], [60, 0]],
    4: [[120, 240], [0, 60]],
    5: [[0, 120], [60, 240]],
    6: [[120, 0], [240, 60]],
    7: [[240, 60], [120, 0]],
    8: [[60, 240], [0, 120]],
}


def assert_quarters(image: NDArray[np.uint8], orientation: int) -> None:
    assert image.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    grey = image if image.ndim == 2 else image[:, :, 0]
    height, width = grey.shape
    centres = grey[height // 4 :: height // 2, width // 4 :: width // 2]
    np.testing.assert_allclose(centres, ORIENTED[orientation], atol=3)


def encode_level(level: int, side: int = 4) -> bytes:
    done, data = cv2.imencode(".png", np.full((side, side), level, np.uint8))
    assert done
    return data.tobytes()


def level_of(frame: Frame) -> int:
    assert frame.image is not None, frame.error
    return int(frame.image[0, 0])


def write_levels(folder: Path, count: int, side: int = 4) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{index:04}.png" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(encode_level(index % 256, side))
    return paths
