"""BMP, PNG, TIFF, GIF and PNM files of every form that their specifications allow, written sample by sample."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.support.image_files import PNG_MARK, chunk

Samples = NDArray[np.integer]
"""(H, W) or (H, W, S), values below 2 ** bits."""


def packed_rows(samples: Samples, bits: int, order: str = ">") -> list[bytes]:
    """Return each row as bytes: whole words of 8 to 64 bits, or fewer bits with the first sample on top."""
    flat = samples.reshape(len(samples), -1)
    if bits >= 8:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in flat]
    planes = [(flat >> shift) & 1 for shift in reversed(range(bits))]
    return [np.packbits(row).tobytes() for row in np.stack(planes, axis=2).astype(np.uint8).reshape(len(flat), -1)]


def bmp(
    rows: Sequence[bytes],
    width: int,
    bits: int,
    *,
    header: int = 40,
    palette: bytes = b"",
    masks: Sequence[int] = (),
    compression: int = 0,
    from_top: bool = False,
    body: bytes | None = None,
    colours: int = 0,
) -> bytes:
    """Return a BMP; ``rows`` from the top, ``body`` replaces them where it is compressed.

    Args:
        header: 12 is OS/2's first, 16 to 64 OS/2's second, 40 Windows 3, 52 and 56 with masks, 108 V4, 124 V5.
        palette: Three bytes a colour behind a header of 12 bytes, else four.
    """
    height = len(rows)
    padded = [row + bytes(-len(row) % 4) for row in rows]
    if body is None:
        body = b"".join(padded if from_top else reversed(padded))
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        sides = (width, -height if from_top else height)
        info = struct.pack("<IiiHHIIiiII", header, *sides, 1, bits, compression, len(body), 2835, 2835, colours, 0)
        inside = struct.pack(f"<{len(masks)}I", *masks) if header > 40 else b""
        info = (info + inside).ljust(header, b"\0")[:header]
    behind = struct.pack(f"<{len(masks)}I", *masks) if header == 40 and masks else b""
    start = 14 + len(info) + len(behind) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + behind + palette + body


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column and row, steps of columns and rows."""


def png(samples: Samples, bits: int, colour: int, *chunks: bytes, is_interlaced: bool = False) -> bytes:
    """Return a PNG; colour type 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGB + alpha; chunks stand before IDAT."""
    height, width = samples.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, is_interlaced)
    passes = [samples[y::down, x::across] for x, y, across, down in _ADAM7] if is_interlaced else [samples]
    lines = [b"\0" + row for part in passes if part.size for row in packed_rows(part, bits)]
    body = [*chunks, chunk(b"IDAT", zlib.compress(b"".join(lines))), chunk(b"IEND", b"")]
    return PNG_MARK + chunk(b"IHDR", head) + b"".join(body)


@dataclass(frozen=True)
class TiffPage:
    """One picture of a TIFF, uncompressed.

    Attributes:
        samples: (H, W) or (H, W, S), whole numbers of ``bits`` bits.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIE L*a*b*.
        bits: Bits a sample.
        planar: Whether every channel is stored for itself.
        tile: Height and width of tiles; None stores strips of ``strip_rows`` rows.
        strip_rows: Rows a strip; None for one strip.
        tags: Further tags with type (3 SHORT, 4 LONG) and values.
    """

    samples: Samples
    photometric: int
    bits: int = 8
    planar: bool = False
    tile: tuple[int, int] | None = None
    strip_rows: int | None = None
    tags: Mapping[int, tuple[int, Sequence[int]]] = field(default_factory=dict)

    def parts(self, order: str) -> list[bytes]:
        """Return the strips or tiles, channel by channel where ``planar``."""
        samples = self.samples if self.samples.ndim == 3 else self.samples[:, :, None]
        channels = [samples[:, :, [index]] for index in range(samples.shape[2])] if self.planar else [samples]
        cells = []
        for plane in channels:
            if self.tile is None:
                rows = self.strip_rows or len(plane)
                cells += [plane[top : top + rows] for top in range(0, len(plane), rows)]
                continue
            down, across = self.tile
            padded = np.pad(plane, ((0, -plane.shape[0] % down), (0, -plane.shape[1] % across), (0, 0)))
            cells += [
                padded[top : top + down, left : left + across]
                for top in range(0, len(plane), down)
                for left in range(0, plane.shape[1], across)
            ]
        return [b"".join(packed_rows(cell, self.bits, order)) for cell in cells]


def tiff(*pages: TiffPage, order: str = "<") -> bytes:
    """Return a TIFF of some pages."""
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4
    for page in pages:
        places = []
        for part in page.parts(order):
            places.append((len(data), len(part)))
            data += part + bytes(len(part) % 2)
        height, width = page.samples.shape[:2]
        channels = page.samples.shape[2] if page.samples.ndim == 3 else 1
        starts, sizes = zip(*places, strict=True)
        tags: dict[int, tuple[int, Sequence[int]]] = {
            256: (3, [width]),
            257: (3, [height]),
            258: (3, [page.bits] * channels),
            259: (3, [1]),
            262: (3, [page.photometric]),
            277: (3, [channels]),
            284: (3, [1 + page.planar]),
        }
        if page.tile is None:
            tags |= {273: (4, starts), 278: (3, [page.strip_rows or height]), 279: (4, sizes)}
        else:
            tags |= {322: (3, [page.tile[1]]), 323: (3, [page.tile[0]]), 324: (4, starts), 325: (4, sizes)}
        link = _append_directory(data, link, {**tags, **page.tags}, order)
    return bytes(data)


def _append_directory(data: bytearray, link: int, tags: Mapping[int, tuple[int, Sequence[int]]], order: str) -> int:
    """Append a directory whose place is written at ``link``; return where the place of the next one is written."""
    lines = []
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I', 7: 'B'}[kind] }", *values)
        if len(packed) > 4:
            packed, at = struct.pack(order + "I", len(data)), packed
            data += at + bytes(len(at) % 2)
        lines.append(struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    struct.pack_into(order + "I", data, link, len(data))
    data += struct.pack(order + "H", len(lines)) + b"".join(lines) + bytes(4)
    return len(data) - 4


@dataclass(frozen=True)
class GifPicture:
    """One picture of a GIF.

    Attributes:
        indices: Colours of the pixels, (H, W), below ``2 ** bits``.
        left: First column on the canvas.
        top: First row on the canvas.
        transparent: Index that leaves the canvas as it is; None for none.
        palette: Colours of its own, three bytes each; empty takes those of the file.
        is_interlaced: Whether rows are stored in four passes.
    """

    indices: Samples
    left: int = 0
    top: int = 0
    transparent: int | None = None
    palette: bytes = b""
    is_interlaced: bool = False


def gif(height: int, width: int, palette: bytes, *pictures: GifPicture, background: int = 0) -> bytes:
    """Return a GIF whose palettes hold four colours; without compression, since codes never grow."""
    has_palette = 0x80 if palette else 0
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, has_palette | 0x11, background, 0) + palette
    for picture in pictures:
        rows, columns = picture.indices.shape
        if picture.transparent is not None:
            data += b"\x21\xf9\x04\x01\0\0" + bytes([picture.transparent]) + b"\0"
        flags = (0x81 if picture.palette else 0) | (0x40 if picture.is_interlaced else 0)
        data += b"\x2c" + struct.pack("<HHHHB", picture.left, picture.top, columns, rows, flags) + picture.palette
        stored = picture.indices
        if picture.is_interlaced:
            order = [*range(0, rows, 8), *range(4, rows, 8), *range(2, rows, 4), *range(1, rows, 2)]
            stored = stored[order]
        codes = [4]  # clear
        for place, value in enumerate(stored.ravel()):
            codes += [int(value), 4] if place % 2 else [int(value)]
        bits = sum(code << 3 * place for place, code in enumerate([*codes, 5]))
        packed = bits.to_bytes(-(-3 * (len(codes) + 1) // 8), "little")
        blocks = [packed[first : first + 255] for first in range(0, len(packed), 255)]
        data += b"\x02" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return data + b"\x3b"
