"""Sizes, memory and wholeness as headers give them; spelled out here as the formats' specifications say."""

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_runtime import ImageReadError
from stn_runtime.images import reading as images
from stn_runtime.images.headers import HeaderError, read_header
from stn_runtime.images.reading import decode_image, read_image, read_reduced
from tests.support.image_files import chunk, encode, exif, needs_animations

EXIF_6 = exif(6)


def _png(height: int, width: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def _jpeg(height: int, width: int, *, frame: int = 0xC0, channels: int = 3, together: int = 3, scans: int = 1) -> bytes:
    head = struct.pack(">HBHHB", 8 + 3 * channels, 8, height, width, channels) + b"\x01\x11\0" * channels
    scan = b"\xff\xda" + struct.pack(">HB", 6 + 2 * together, together) + b"\x01\0" * together + b"\0\x3f\0"
    return b"\xff\xd8\xff" + bytes([frame]) + head + (scan + b"\x12") * scans + b"\xff\xd9"


def _riff(kind: bytes, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in ((kind, data), *more)
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _vp8x(height: int, width: int, flags: int) -> bytes:
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _tiff(order: str, *entries: tuple[int, int, int], big: bool = False) -> bytes:
    """Entries are (tag, type, value), type 3 SHORT or 4 LONG."""
    mark = b"II" if order == "<" else b"MM"
    forms = {3: "H", 4: "I"}
    if big:
        data = mark + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(entries))
        lines = [struct.pack(f"{order}HHQ{forms[type_]}", tag, type_, 1, value) for tag, type_, value in entries]
        return data + b"".join(line.ljust(20, b"\0") for line in lines)
    data = mark + struct.pack(f"{order}HIH", 42, 8, len(entries))
    lines = [struct.pack(f"{order}HHI{forms[type_]}", tag, type_, 1, value) for tag, type_, value in entries]
    return data + b"".join(line.ljust(12, b"\0") for line in lines)


def _bmp(height: int, width: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
    )


def _gif(height: int, width: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def _j2k(height: int, width: int, *, left: int = 0, tile: int = 1 << 20, channels: int = 3) -> bytes:
    size = (
        struct.pack(">H8IH", 0, width + left, height, left, 0, tile, tile, 0, 0, channels) + b"\x07\x01\x01" * channels
    )
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + b"\xff\xd9"


def _jp2(height: int, width: int) -> bytes:
    boxes = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I", 20) + b"ftypjp2 \0\0\0\0jp2 "
    return boxes + struct.pack(">I4sQ", 1, b"jp2h", 16) + struct.pack(">I", 0) + b"jp2c" + _j2k(height, width)


SIZED = {
    "JPEG": _jpeg(5, 7),
    "JPEG of one channel": _jpeg(5, 7, channels=1, together=1),
    "progressive JPEG": _jpeg(5, 7, frame=0xC2, together=1, scans=10),
    "JPEG with stray and fill bytes": _jpeg(5, 7).replace(b"\xff\xc0", b"\x13\x37\xff\xff\xff\xc0", 1),
    "PNG": _png(5, 7),
    "lossy WebP": _riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 7 | 0x4000, 5 | 0x8000)),
    "lossless WebP": _riff(b"VP8L", b"\x2f" + struct.pack("<I", 6 | 4 << 14)),
    "extended WebP": _riff(b"VP8X", _vp8x(5, 7, 0), (b"VP8L", b"\x2f\0\0\0\0")),
    "TIFF": _tiff("<", (256, 3, 7), (257, 3, 5), (258, 3, 8)),
    "TIFF of the other order": _tiff(">", (256, 4, 7), (257, 3, 5), (258, 3, 8)),
    "BigTIFF": _tiff("<", (256, 3, 7), (257, 4, 5), (258, 3, 8), big=True),
    "TIFF with a size twice": _tiff("<", (256, 3, 7), (257, 3, 5), (257, 3, 900)),
    "BMP": _bmp(5, 7),
    "BMP from the top": _bmp(-5, 7),
    "GIF": _gif(5, 7),
    "JPEG 2000": _jp2(5, 7),
    "bare JPEG 2000": _j2k(5, 7, left=30),
    "PPM": b"P6 7 5 255\n",
    "PGM with comments": b"P5\n# 9 9\n7 # 8\n5\n#\n255\n",
    "PBM": b"P4\n7\r\n5\n",
}


@pytest.mark.parametrize("name", SIZED)
def test_the_size_is_read(name: str) -> None:
    header = read_header(SIZED[name])
    assert (header.height, header.width) == (5, 7)


ENORMOUS = {
    "JPEG": _jpeg(60_000, 60_000),
    "PNG": _png(60_000, 60_000),
    "WebP": _riff(b"VP8X", _vp8x(60_000, 60_000, 2)),
    "TIFF": _tiff("<", (256, 4, 60_000), (257, 4, 60_000), (258, 3, 8)),
    "BMP": _bmp(60_000, 60_000),
    "GIF": _gif(60_000, 60_000),
    "JPEG 2000": _jp2(60_000, 60_000),
    "PNM": b"P5 60000 60000 255\n",
}


@pytest.mark.parametrize("kind", ENORMOUS)
def test_a_bomb_is_refused_before_a_decoder_sees_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("a decoder was asked"))
    assert read_header(ENORMOUS[kind]).kind == kind
    with pytest.raises(
        ImageReadError, match=r"^bomb: 60000 x 60000 are too many pixels; raise OPENCV_IO_MAX_IMAGE_PIX"
    ):
        decode_image(ENORMOUS[kind], "bomb")


THIRSTY = {  # within the limit of pixels, and yet too much for a machine of 1 GB
    "colours of 16 bits": _png(5_000, 5_000, depth=16, colour=6),  # 2 x 4 x 2 bytes a pixel: 381 MB
    "progressive": _jpeg(9_000, 9_000, frame=0xC2),
    "scans of one channel each": _jpeg(9_000, 9_000, together=1),
    "animation": _riff(b"VP8X", _vp8x(6_000, 6_000, 2)),
    "tile": _tiff("<", (256, 3, 8), (257, 3, 8), (258, 3, 8), (322, 4, 32_000), (323, 4, 32_000)),
    "many tiles": _j2k(1, 65_000, tile=1),
    "32 bits a sample": _j2k(5_000, 5_000),
}


@pytest.mark.parametrize("name", THIRSTY)
def test_a_small_machine_refuses_what_it_cannot_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("a decoder was asked"))
    monkeypatch.setattr(images, "usable_memory", lambda: 1 << 30)
    told = r"^x: \d+ x \d+ pixels of [\w ]+ take \d+ MB to decode, this machine allows 256 MB for one picture; make it"
    with pytest.raises(ImageReadError, match=told):
        decode_image(THIRSTY[name], "x")


def test_the_memory_of_a_picture_is_that_of_its_samples() -> None:
    assert read_header(_png(5_000, 5_000, depth=16, colour=6)).memory() == 16 * 5_000**2
    assert read_header(_jpeg(8_000, 8_000)).memory() == 6 * 8_000**2
    assert read_header(_jpeg(8_000, 8_000)).memory(8) == 6 * 1_000**2
    assert read_header(_jpeg(8_000, 8_000, frame=0xC2)).memory(8) == 6 * 8_000**2 + 3 * 1_000**2  # its coefficients


def test_a_small_machine_reads_a_large_jpeg_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "usable_memory", lambda: 64 << 20)
    (tmp_path / "x.jpg").write_bytes(encode(".jpg", np.full((2000, 3000, 3), 90, np.uint8)))
    with pytest.raises(ImageReadError, match=r"3000 x 2000 pixels of JPEG take 34 MB to decode, .* allows 16 MB"):
        read_image(tmp_path / "x.jpg")
    assert read_reduced(tmp_path / "x.jpg", lambda height, width: 4).image.shape == (500, 750, 3)


def test_a_file_larger_than_a_picture_may_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "disk.jpg").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    with pytest.raises(ImageReadError, match=r"disk\.jpg: has 1048576 MB, this machine allows \d+ MB a picture$"):
        read_image(tmp_path / "disk.jpg")


FLAT = np.full((2000, 2500, 3), 80, np.uint8)
STRIP_ROWS = 278  # TIFF's tag
MEASURED = {
    "baseline.jpg": lambda: encode(".jpg", FLAT),
    "progressive.jpg": lambda: encode(
        ".jpg", FLAT, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    ),
    "deep.png": lambda: encode(".png", np.full((2000, 2500, 4), 9000, np.uint16)),
    "alpha.webp": lambda: encode(".webp", np.full((2000, 2500, 4), 80, np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 50]),
    "deep.tiff": lambda: encode(".tiff", FLAT.astype(np.uint16), [STRIP_ROWS, 2000]),
    "x.bmp": lambda: encode(".bmp", FLAT),
    "x.jp2": lambda: encode(".jp2", FLAT),
    "deep.ppm": lambda: encode(".ppm", FLAT.astype(np.uint16)),
}
GROWTH = """
import sys
from pathlib import Path
from stn_runtime.images.reading import read_image
def memory(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024
before = memory("VmRSS")
read_image(Path(sys.argv[1]))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux tells it")
@pytest.mark.parametrize("name", [*MEASURED, pytest.param("x.gif", marks=needs_animations)])
def test_decoding_takes_no_more_memory_than_was_reckoned(name: str, tmp_path: Path) -> None:
    data = MEASURED[name]() if name in MEASURED else encode(".gif", FLAT)
    (tmp_path / name).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", GROWTH, tmp_path / name], capture_output=True, text=True, check=True)
    reckoned = len(data) + read_header(data).memory()
    assert 15_000_000 <= int(done.stdout) <= reckoned + 8_000_000  # the picture itself; code that is loaded on demand


@pytest.mark.parametrize("name", ["JPEG", "PNG", "lossless WebP", "TIFF", "BMP", "GIF", "JPEG 2000", "PPM"])
def test_a_header_that_is_cut_anywhere_is_one_sentence(name: str) -> None:
    whole = SIZED[name]
    for end in range(len(whole)):
        try:
            read_header(whole[:end])
        except HeaderError as error:
            assert str(error).startswith(("is empty", "is cut off", "cannot be decoded"))  # noqa: PT017


def test_a_png_is_whole_by_its_chunks_and_not_by_a_word_in_them() -> None:
    data = _png(5, 7, chunk(b"tEXt", b"k\0IEND eXIf" + EXIF_6))
    assert read_header(data).orientation == 1
    with pytest.raises(HeaderError, match="is cut off"):
        read_header(data[: data.rindex(b"IEND")])


def test_a_chunk_that_announces_gigabytes_is_cut_off() -> None:
    data = _png(5, 7).replace(chunk(b"IDAT", b""), struct.pack(">I", 0x7FFFFFF0) + b"IDAT")
    with pytest.raises(HeaderError, match="is cut off"):
        read_header(data)


def test_the_orientation_is_found_among_the_chunks() -> None:
    assert read_header(_png(5, 7, chunk(b"eXIf", EXIF_6))).orientation == 6
    extended = _riff(b"VP8X", _vp8x(5, 7, 8), (b"VP8L", b"\x2f\0\0\0\0"), (b"EXIF", b"Exif\0\0" + EXIF_6))
    assert read_header(extended).orientation == 6
    assert read_header(_png(5, 7, chunk(b"eXIf", EXIF_6[:-8]))).orientation == 1


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    assert read_header(_jpeg(5, 7, frame=0xC2, scans=100)).channels == 3
    with pytest.raises(HeaderError, match=r"^is a JPEG of 1000 scans, too many for its size; save it again as a basel"):
        read_header(_jpeg(5, 7, frame=0xC2, scans=1_000))


def test_the_scans_of_a_large_jpeg_are_fewer() -> None:
    assert read_header(_jpeg(10_000, 20_000, frame=0xC2, scans=10)).channels == 3
    with pytest.raises(HeaderError, match=r"^is a JPEG of 11 scans, too many for its size"):
        read_header(_jpeg(10_000, 20_000, frame=0xC2, scans=11))


def test_channels_without_number_are_refused() -> None:
    with pytest.raises(HeaderError, match=r"1000 channels of JPEG 2000"):
        read_header(_j2k(256, 256, channels=1_000))


def test_pixels_of_more_than_16_bits_are_refused() -> None:
    with pytest.raises(HeaderError, match=r"^has 64-bit pixels; convert it to 8 or 16 bits$"):
        read_header(_tiff("<", (256, 3, 7), (257, 3, 5), (258, 3, 64)))


@pytest.mark.parametrize("data", [_png(0, 7), _gif(5, 0), _jpeg(0, 7), _bmp(5, -7), _tiff("<", (256, 3, 7))])
def test_a_picture_without_area_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError, match=r"^cannot be decoded as an image \(-?\d+ x -?\d+ pixels of \w+\)$"):
        read_header(data)
