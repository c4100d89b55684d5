"""What the header of an image file says, read before any decoder is: kind, size, and the memory that decoding takes.

A few bytes can announce pictures of gigabytes, and decoders take that memory before they see that nothing follows; so
the size is read here, for every kind of file that is read at all. Bytes a pixel were measured with OpenCV 4.8 to 5.0.

Pillow's ``open`` is no substitute: to find EXIF behind the pixels of a PNG it decodes them all (45 ms at 1080p, where
these lines take 0.2), for WebP it allocates the canvas, it does not see that a file is cut off, and its import takes
19 ms of a start.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from .tiff_tags import whole_numbers, xmp_packet
from .unread_kinds import kind_of

Kind = Literal["JPEG", "PNG", "WebP", "TIFF", "BMP", "GIF", "JPEG 2000", "PNM"]

CUT_OFF = "is cut off, the end of the picture is missing"
MAX_SCANS = 500
"""A JPEG of more is refused: a few bytes of each take the time of a whole picture. Progressive ones have about 10."""

_MOST_SCANNED = 1 << 31  # pixels, those of all scans together: ten scans of the largest picture

_START_OF_SCAN = 0xDA
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # tables, an extension, arithmetic conditioning
_BASELINE = frozenset({0xC0, 0xC1})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and restarts
_TILE_BYTES = 1 << 14  # what OpenJPEG keeps for each tile of up to four channels
_APP1 = 0xE1  # the segment of EXIF, and of XMP
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ORIENTATION_TAG = 0x0112
_RAW_TAG = 50706  # DNGVersion
_WHITE_IS_ZERO, _PALETTE = 0, 3  # photometric interpretations of TIFF
_BIT_FIELDS = (3, 6)  # compressions of BMP, without and with a mask of opacity
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_MOST_TEXT = 1 << 20  # bytes of XMP or EXIF that are searched


class HeaderError(ValueError):
    """What is wrong with a file, as the rest of a sentence that begins with its name."""


@dataclass(frozen=True)
class Header:
    """What the header of an image file says of its picture.

    Attributes:
        kind: File format.
        height: Rows of the whole picture as it is stored, pixels.
        width: Columns of the whole picture as it is stored, pixels.
        pixel_bytes: Bytes that decoding takes at its peak for each decoded pixel.
        held_bytes: Bytes that decoding takes besides, however much the picture is reduced.
        channels: Channels of a JPEG; 0 for other formats.
        orientation: Orientation of a PNG or WebP by EXIF or XMP, 1 to 8, and of a JPEG or TIFF by XMP where it has
            none of its own; 1 for what OpenCV turns itself.
        left_out: Ranges of bytes that the decoder must not see, in order: first, and one behind the last.
        white: Largest value of a sample where that is not all ones; else 0.
        whites: The same for each channel, (blue, green, red), where they differ; else empty.
        inverted: Whether 0 is white in decoded samples.
        transparent: Value of decoded grey samples that stands for transparency; None without one.
        alpha: Meaning of a fourth decoded channel: opacity, by which colours are multiplied already or not; or none.
    """

    kind: Kind
    height: int
    width: int
    pixel_bytes: int
    held_bytes: int = 0
    channels: int = 0
    orientation: int = 1
    left_out: tuple[tuple[int, int], ...] = ()
    white: int = 0
    whites: tuple[int, ...] = ()
    inverted: bool = False
    transparent: int | None = None
    alpha: Literal["straight", "premultiplied", "none"] = "straight"

    def memory(self, factor: int = 1) -> int:
        """Return what decoding at 1/``factor`` of the size takes at its peak, in bytes."""
        return self.held_bytes + self.pixel_bytes * self.height * self.width // factor**2


def read_header(data: bytes) -> Header:
    """Return what an image file says of its picture.

    Raises:
        HeaderError: It is none that is read here, is cut off, or is of a form that is not read.
    """
    if not data:
        raise HeaderError("is empty (0 bytes)")
    read = next((reader for mark, reader in _READERS if mark.match(data)), None)
    if read is None:
        raise HeaderError(kind_of(data) or f"cannot be decoded as an image ({len(data)} bytes)")
    try:
        header = read(data)
    except (struct.error, OverflowError) as error:  # an offset behind the end of the file, or of memory
        raise HeaderError(f"{CUT_OFF} ({len(data)} bytes)") from error
    if min(header.height, header.width) < 1:
        raise HeaderError(f"cannot be decoded as an image ({header.width} x {header.height} pixels of {header.kind})")
    return header


def _jpeg(data: bytes) -> Header:
    """ITU-T T.81, B.2.2 and B.2.3; what follows is sought as libjpeg does, past stray bytes."""
    frame, scan, together, exif, xmp = None, -1, 0, 0, 0
    before_exif: list[tuple[int, int]] = []  # where OpenCV 4.8 looks for EXIF, and no farther
    left_out: tuple[tuple[int, int], ...] = ()
    for marker, start, end in _jpeg_segments(data):
        if marker in _START_OF_FRAME and frame is None:
            frame = marker, *struct.unpack_from(">HHB", data, start + 3)
        elif marker == _START_OF_SCAN:
            scan, (together,) = end, struct.unpack_from("B", data, start + 2)
        elif marker == _APP1 and data.startswith(b"Exif\0", start + 2) and not exif:
            exif, left_out = _exif_orientation(data[start + 2 : end]), tuple(before_exif)
        elif marker == _APP1:
            before_exif.append((start - 2, end))
            xmp = xmp or (_xmp_orientation(data[start:end]) if data.startswith(_XMP, start + 2) else 0)
    # Earlier versions of OpenCV fill missing rows with grey and do not say so.
    if scan < 0 or data.rfind(b"\xff\xd9", scan) < 0:
        raise HeaderError(f"{CUT_OFF} ({len(data)} bytes)")
    if frame is None:
        raise HeaderError(f"cannot be decoded as an image ({len(data)} bytes of JPEG without a size)")
    marker, height, width, channels = frame
    orientation = (xmp or 1) if exif == 0 else 1
    if marker in _BASELINE and together == channels:
        return Header(
            "JPEG", height, width, 2 * channels, channels=channels, orientation=orientation, left_out=left_out
        )
    # In several scans: all coefficients are held until the last, 16 bits each.
    scans = 1 + data.count(b"\xff\xda", scan, data.find(b"\xff\xd9", scan))
    if scans > MAX_SCANS or scans * height * width > _MOST_SCANNED:
        raise HeaderError(f"is a JPEG of {scans} scans, too many for its size; save it again as a baseline JPEG")
    held = 2 * channels * height * width
    return Header("JPEG", height, width, channels, held, channels, orientation, left_out)


def first_scan(data: bytes) -> int:
    """Return where the data of a JPEG's first scan begins, past its header and any thumbnail in it; -1 if none does."""
    return next((end for marker, _, end in _jpeg_segments(data) if marker == _START_OF_SCAN), -1)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments up to the first scan: marker, where its length stands, where it ends."""
    at = data.find(b"\xff", 2)
    while 0 <= at <= len(data) - 4:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH or marker == 0:
            at = data.find(b"\xff", at + 2)
        else:
            yield marker, at + 2, at + 2 + length
            if marker == _START_OF_SCAN:
                return
            at = data.find(b"\xff", at + 2 + max(length, 2))


def _png(data: bytes) -> Header:
    """PNG, third edition, 5 and 11; without the chunk that makes it an animation its first picture is a whole PNG."""
    height = width = each = depth = colour = 0
    exif, text, transparent = 0, 0, None
    animation: tuple[tuple[int, int], ...] = ()
    for kind, start, end in _png_chunks(data):
        if kind == b"IHDR" and not each:
            width, height, depth, colour = struct.unpack_from(">IIBB", data, start)
            channels = {0: 1, 4: 4, 6: 4}.get(colour, 4)  # a palette or RGB may have transparency
            each = 2 * channels * (2 if depth == 16 else 1)
        elif kind == b"eXIf":
            exif = _exif_orientation(data[start:end])
        elif kind in _PNG_TEXTS:
            text = text or _text_orientation(kind, data[start:end])
        elif kind == b"tRNS" and colour == 0:  # of colours OpenCV makes an alpha channel
            (transparent,) = struct.unpack_from(">H", data, start)
            transparent *= 255 // ((1 << depth) - 1) if depth < 8 else 1
        elif kind == b"acTL":
            animation = ((start - 8, end + 4),)
    return Header(
        "PNG", height, width, each, orientation=exif or text or 1, left_out=animation, transparent=transparent
    )


def _text_orientation(kind: bytes, text: bytes) -> int:
    """Return the orientation in a PNG's text: XMP (its part 3, 1.1.5), or EXIF in hexadecimal; 0 without one."""
    keyword, _, rest = text.partition(b"\0")
    is_packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    body = rest[1:] if kind == b"zTXt" else rest
    if kind == b"iTXt":
        body = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind language and translated keyword
    if keyword not in (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1"):
        return 0
    try:
        body = zlib.decompressobj().decompress(body, _MOST_TEXT) if is_packed else body[:_MOST_TEXT]
    except zlib.error:
        return 0
    if keyword == b"XML:com.adobe.xmp":
        return _xmp_orientation(body)
    profile = re.match(rb"\s*exif\s+\d+\s+([0-9a-fA-F\s]+)", body)
    return _exif_orientation(bytes.fromhex(profile[1].decode())) if profile else 0


def _xmp_orientation(xmp: bytes) -> int:
    found = re.search(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b", xmp)
    return int(found[1]) if found else 0


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield all chunks: kind, where its data begins and ends; they end with IEND, and with their check sums."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise HeaderError(f"{CUT_OFF} ({len(data)} bytes)")
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def _webp(data: bytes) -> Header:
    """RFC 9649, 2.3 to 2.7, and RFC 6386, 9.1; an animation is composed on two canvases."""
    at, size, each, exif, xmp = 12, (0, 0), 8, 0, 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"VP8X":
            flags, *sides = struct.unpack_from("<B3xHBHB", data, at + 8)
            size = (1 + sides[2] + (sides[3] << 16), 1 + sides[0] + (sides[1] << 16))
            each = 14 if flags & 2 else 8
        elif kind == b"VP8 " and size == (0, 0):
            width, height = struct.unpack_from("<HH", data, at + 14)
            size = (height & 0x3FFF, width & 0x3FFF)
        elif kind == b"VP8L" and size == (0, 0):
            (bits,) = struct.unpack_from("<I", data, at + 9)
            size = (1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF))
        elif kind == b"EXIF":
            exif = _exif_orientation(data[at + 8 : at + 8 + length])
        elif kind == b"XMP ":
            xmp = _xmp_orientation(data[at + 8 : at + 8 + min(length, _MOST_TEXT)])
        at += 8 + length + length % 2
    return Header("WebP", *size, each, orientation=exif or xmp or 1)


def _exif_orientation(exif: bytes) -> int:
    """EXIF 2.32, 4.5 and tag 274; 0 without one."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        value = whole_numbers(exif).get(_ORIENTATION_TAG, 0)
    except (struct.error, OverflowError):  # cut short: a picture without orientation
        return 0
    return value if value <= 8 else 0


def _tiff(data: bytes) -> Header:
    """TIFF 6.0, sections 2 and 8, and BigTIFF; the first picture, in strips or tiles."""
    tags = whole_numbers(data)
    bits, samples, colours = tags.get(258, 1), tags.get(277, 1), tags.get(262, 1)
    extra = tags.get(338, 0)  # 1 associated, 2 unassociated alpha, which libtiff multiplies in 8 bits
    if _RAW_TAG in tags or data[8:10] == b"CR":
        raise HeaderError("is a raw photograph, which is not read; convert it to JPEG or PNG")
    if tags.get(254, 0) & 1:
        raise HeaderError("begins with a reduced picture, as raw photographs do; convert it to JPEG or PNG")
    if bits > 16:
        raise HeaderError(f"has {bits}-bit pixels; convert it to 8 or 16 bits")
    # What follows OpenCV decodes wrongly, without a word.
    if colours not in (_WHITE_IS_ZERO, 1, 2, _PALETTE, 5, 6):  # grey, RGB, CMYK, YCbCr
        raise HeaderError(f"has colours of a kind that is not read (photometric {colours}); convert it to RGB")
    if bits > 8 and samples > 1 and tags.get(284) == 2:
        raise HeaderError("keeps its 16-bit channels apart (planar), which is not read; save it again as PNG")
    if (colours == _PALETTE and bits == 1) or (samples == 2 and extra in (1, 2)):
        raise HeaderError(
            "has a palette of two colours, or grey with transparency, not read here; save it again as PNG"
        )
    each = max(3, samples) * (2 if bits > 8 else 1)  # a palette makes three
    associated = extra == 1 or (extra == 2 and bits <= 8)
    return Header(
        "TIFF",
        tags.get(257, 0),
        tags.get(256, 0),
        3 * each,
        each * tags.get(322, 0) * tags.get(323, 0),
        inverted=colours == _WHITE_IS_ZERO and bits > 8,
        orientation=1 if 1 <= tags.get(_ORIENTATION_TAG, 0) <= 8 else _xmp_orientation(xmp_packet(data)) or 1,
        alpha="none" if extra not in (1, 2) else "premultiplied" if associated else "straight",
    )


def _bmp(data: bytes) -> Header:
    """BITMAPFILEHEADER, then BITMAPCOREHEADER (12 bytes) or BITMAPINFOHEADER and its children; rows may go down."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size < 40 and size != 16:
        raise HeaderError("is a BMP of OS/2's first kind, which OpenCV decodes wrongly; save it again as PNG")
    width, height = struct.unpack_from("<ii", data, 18)
    bits, compression = (0, 0) if size < 40 else struct.unpack_from("<HI", data, 28)
    masks, opacity = (0x7C00, 0x3E0, 0x1F), 0
    if compression in _BIT_FIELDS:
        masks = struct.unpack_from("<3I", data, 54)
        (opacity,) = struct.unpack_from("<I", data, 66) if size >= 56 or compression == _BIT_FIELDS[1] else (0,)
        if bits == 32 and (masks != (0xFF0000, 0xFF00, 0xFF) or opacity not in (0, 0xFF000000)):
            raise HeaderError("is a BMP with unusual bit fields, which OpenCV decodes wrongly; save it again as PNG")
    whites = (248, 252 if masks[1] == 0x7E0 else 248, 248) if bits == 16 else ()  # low bits of five or six are lost
    return Header("BMP", abs(height), width, 8, whites=whites, alpha="straight" if opacity else "none")


def _gif(data: bytes) -> Header:
    """GIF89a, 18 and 20: the logical screen, on which all pictures lie, and the first of them, which must fill it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[at : at + 1] == b"\x21":  # extensions, each a chain of blocks
        at += 2
        while data[at : at + 1] not in (b"", b"\0"):
            at += 1 + data[at]
        at += 1
    if data[at : at + 1] == b"\x2c" and struct.unpack_from("<HHHH", data, at + 1) != (0, 0, width, height):
        raise HeaderError(
            "is a GIF whose first picture does not fill its canvas, which OpenCV decodes wrongly; save it again as PNG"
        )
    if data[at : at + 1] == b"\x2c" and not (flags | data[at + 9]) & 0x80:
        raise HeaderError("is a GIF without a palette; save it again as PNG")
    return Header("GIF", height, width, 13)


def _jpeg_2000(data: bytes) -> Header:
    """ITU-T T.800, A.5.1 (SIZ), in a file of boxes (I.4) or bare; every component is held as 32 bits."""
    at = 0
    while not data.startswith(b"\xff\x4f\xff\x51", at):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 16 if length == 1 else 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        if kind != b"jp2c" and length < header:  # nothing can follow
            raise HeaderError(f"cannot be decoded as an image ({len(data)} bytes of JPEG 2000 without a picture)")
        at += header if kind == b"jp2c" else length
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top, channels, bits = struct.unpack_from(
        ">8IHB", data, at + 8
    )
    if channels > 4 or not (tile_width and tile_height):
        raise HeaderError(f"cannot be decoded as an image ({channels} channels of JPEG 2000)")
    tiles = -(-(right - tiles_left) // tile_width) * -(-(bottom - tiles_top) // tile_height)
    white = (2 << (bits & 0x7F)) - 1
    return Header("JPEG 2000", bottom - top, right - left, 8 * channels, _TILE_BYTES * max(0, tiles), white=white)


_PNM_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})"


def _pnm(data: bytes) -> Header:
    """Netpbm's P1 to P6: width, height and the largest value in words, between spaces and comments."""
    sizes = 2 if data[1:2] in b"14" else 3  # of a bitmap there is no largest value
    found = re.compile(rb"P[1-6]" + sizes * _PNM_NUMBER).match(data)
    if found is None:
        raise HeaderError(f"cannot be decoded as an image ({len(data)} bytes of PNM without a size)")
    white = int(found[3]) if sizes == 3 else 0
    spelled = data[1:2] in b"23" and white < 256  # OpenCV scales these itself
    return Header("PNM", int(found[2]), int(found[1]), 12, white=0 if spelled else white)


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...] = tuple(
    (re.compile(mark, re.DOTALL), reader)
    for mark, reader in (
        (rb"\xff\xd8", _jpeg),
        (rb"\x89PNG\r\n\x1a\n", _png),
        (rb"RIFF....WEBP", _webp),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"BM", _bmp),
        (rb"GIF8[79]a", _gif),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jpeg_2000),
        (rb"P[1-6]\s", _pnm),
    )
)
