"""Every form of BMP, PNG, TIFF, GIF and PNM is decoded rightly or refused: against samples, and against Pillow."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from stn_runtime import ImageReadError
from stn_runtime.images.reading import decode_image
from tests.support.image_files import assert_quarters, chunk, encode, jpeg_with_exif, needs_animations, quarters
from tests.support.raster_files import GifPicture, TiffPage, bmp, gif, packed_rows, png, tiff

Values = NDArray[Any]
Cases = dict[str, tuple[bytes, Values]]

RNG = np.random.default_rng(0)
H, W = 5, 7
RGB, ALPHA = RNG.integers(0, 256, (H, W, 3)), RNG.integers(0, 256, (H, W, 1))
STANDARD = (0xFF0000, 0xFF00, 0xFF)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def scaled(samples: Values, most: int | Values) -> Values:
    return np.round(samples * (255 / np.asarray(most))).astype(int)


def on_white(colour: Values, alpha: Values, most: int = 255) -> Values:
    return scaled(colour * alpha / most + most - alpha, most)


def turned(image: Values, orientation: int) -> Values:
    """Return a stored picture as it is to be seen (EXIF 2.32, tag 274)."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return image[::-1] if orientation in (3, 4, 7, 8) else image


def exif(orientation: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def words(pixels: Values, shifts: tuple[int, ...], bits: int) -> list[bytes]:
    """Return rows of BMP pixels, each channel at its place in a little-endian word."""
    whole = sum(pixels[:, :, index].astype(np.uint64) << np.uint64(shift) for index, shift in enumerate(shifts))
    return [row.astype(f"<u{bits // 8}").tobytes() for row in np.asarray(whole)]


def palettes(bits: int) -> tuple[Values, Values]:
    """Return colours (2 ** bits, 3) and pixels (H, W) that name them."""
    return RNG.integers(0, 256, (2**bits, 3)), RNG.integers(0, 2**bits, (H, W))


def bmp_cases() -> Iterator[tuple[str, bytes, Values]]:
    for bits in (1, 4, 8):
        colours, pixels = palettes(bits)
        blue_first = colours[:, ::-1].astype(np.uint8)
        rows, short = packed_rows(pixels, bits), blue_first.tobytes()
        long = b"".join(bytes([*colour, 0]) for colour in blue_first)
        yield f"bmp os2 palette {bits}", bmp(rows, W, bits, header=12, palette=short), colours[pixels]
        for header in (40, 64, 108, 124):
            data = bmp(rows, W, bits, header=header, palette=long, from_top=header == 108)
            yield f"bmp palette {bits} header {header}", data, colours[pixels]
    colours, pixels = palettes(8)
    long = b"".join(bytes([*colour[::-1], 0]) for colour in colours.astype(np.uint8))
    runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in pixels[::-1]) + b"\0\1"
    yield "bmp rle8", bmp([b""] * H, W, 8, palette=long, compression=1, body=runs), colours[pixels]
    rows = [row[:, ::-1].astype(np.uint8).tobytes() for row in RGB]
    yield "bmp os2 24", bmp(rows, W, 24, header=12), RGB
    for header in (40, 64, 108, 124):
        yield f"bmp 24 header {header}", bmp(rows, W, 24, header=header), RGB
    five = RNG.integers(0, 32, (H, W, 3))
    yield "bmp 555", bmp(words(five, (10, 5, 0), 16), W, 16), scaled(five, 31)
    six = np.concatenate([five[:, :, :1], RNG.integers(0, 64, (H, W, 1)), five[:, :, 2:]], axis=2)
    masks = (0xF800, 0x7E0, 0x1F)
    data = bmp(words(six, (11, 5, 0), 16), W, 16, compression=3, masks=masks)
    yield "bmp 565", data, scaled(six, np.array([31, 63, 31]))
    yield "bmp 32", bmp(words(RGB, (16, 8, 0), 32), W, 32), RGB
    yield "bmp 32 fields", bmp(words(RGB, (16, 8, 0), 32), W, 32, compression=3, masks=STANDARD), RGB
    reversed_masks = (0xFF, 0xFF00, 0xFF0000)
    data = bmp(words(RGB, (0, 8, 16), 32), W, 32, compression=3, masks=reversed_masks)
    yield "bmp 32 odd fields", data, RGB
    ten = RNG.integers(0, 1024, (H, W, 3))
    data = bmp(words(ten, (20, 10, 0), 32), W, 32, compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF))
    yield "bmp 32 ten bits", data, scaled(ten, 1023)
    with_alpha = words(np.concatenate([RGB, ALPHA], axis=2), (16, 8, 0, 24), 32)
    for header in (108, 124):
        for opacity, expected in ((0xFF000000, on_white(RGB, ALPHA)), (0, RGB)):
            data = bmp(with_alpha, W, 32, header=header, compression=3, masks=(*STANDARD, opacity))
            yield f"bmp 32 header {header} opacity {opacity:x}", data, expected
    yield "bmp 32 unused byte", bmp(with_alpha, W, 32), RGB


def png_cases() -> Iterator[tuple[str, bytes, Values]]:
    for bits in (1, 2, 4, 8, 16):
        most = 2**bits - 1
        grey = RNG.integers(0, most + 1, (H, W))
        clear = int(grey[1, 1])
        for is_interlaced in (False, True):
            name, trns = f"grey {bits} {is_interlaced}", chunk(b"tRNS", struct.pack(">H", clear))
            yield f"png {name}", png(grey, bits, 0, is_interlaced=is_interlaced), scaled(grey, most)
            seen = np.where(grey == clear, 255, scaled(grey, most))
            yield f"png {name} transparent", png(grey, bits, 0, trns, is_interlaced=is_interlaced), seen
        if bits <= 8:
            colours, pixels = palettes(bits)
            table = chunk(b"PLTE", colours.astype(np.uint8).tobytes())
            yield f"png palette {bits}", png(pixels, bits, 3, table), colours[pixels]
            opacity = RNG.integers(0, 256, 2**bits)
            trns = chunk(b"tRNS", opacity.astype(np.uint8).tobytes())
            seen = on_white(colours[pixels], opacity[pixels][:, :, None])
            yield f"png palette {bits} transparent", png(pixels, bits, 3, table, trns), seen
    for bits in (8, 16):
        most = 2**bits - 1
        grey, colour, alpha = (RNG.integers(0, most + 1, (H, W, count)) for count in (1, 3, 1))
        yield f"png rgb {bits}", png(colour, bits, 2), scaled(colour, most)
        trns = chunk(b"tRNS", struct.pack(">HHH", *map(int, colour[1, 2])))
        seen = np.where((colour == colour[1, 2]).all(axis=2)[:, :, None], 255, scaled(colour, most))
        yield f"png rgb {bits} transparent", png(colour, bits, 2, trns), seen
        data = png(np.concatenate([colour, alpha], axis=2), bits, 6)
        yield f"png rgba {bits}", data, on_white(colour, alpha, most)
        data = png(np.concatenate([grey, alpha], axis=2), bits, 4)
        yield f"png grey alpha {bits}", data, on_white(grey, alpha, most)[:, :, 0]


def turned_png_cases() -> Iterator[tuple[str, bytes, Values]]:
    for way in range(1, 9):
        yield f"png exif {way}", png(RGB, 8, 2, chunk(b"eXIf", exif(way))), turned(RGB, way)
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % way
        yield f"png xmp {way}", png(RGB, 8, 2, chunk(b"iTXt", text)), turned(RGB, way)
        packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP % way)
        yield f"png packed xmp {way}", png(RGB, 8, 2, chunk(b"iTXt", packed)), turned(RGB, way)
        profile = f"\nexif\n{len(exif(way)):8}\n{exif(way).hex()}\n".encode()
        text = b"Raw profile type exif\0\0" + zlib.compress(profile)
        yield f"png raw profile {way}", png(RGB, 8, 2, chunk(b"zTXt", text)), turned(RGB, way)
    both = (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 6), chunk(b"eXIf", exif(3)))
    yield "png exif before xmp", png(RGB, 8, 2, *both), turned(RGB, 3)


def tiff_cases() -> Iterator[tuple[str, bytes, Values]]:
    for order in "<>":
        for bits in (8, 16):
            most, name = 2**bits - 1, f"{bits} {order}"
            colour, grey = RNG.integers(0, most + 1, (H, W, 3)), RNG.integers(0, most + 1, (H, W))
            pages = {
                "rgb": TiffPage(colour, 2, bits),
                "planar": TiffPage(colour, 2, bits, planar=True),
                "strips": TiffPage(colour, 2, bits, strip_rows=2),
            }
            for kind, page in pages.items():
                yield f"tiff {kind} {name}", tiff(page, order=order), scaled(colour, most)
            yield f"tiff grey {name}", tiff(TiffPage(grey, 1, bits), order=order), scaled(grey, most)
            yield f"tiff white is zero {name}", tiff(TiffPage(grey, 0, bits), order=order), 255 - scaled(grey, most)
    for bits in (1, 2, 4, 8):
        grey, (colours, pixels) = RNG.integers(0, 2**bits, (H, W)), palettes(bits)
        yield f"tiff grey {bits}", tiff(TiffPage(grey, 1, bits)), scaled(grey, 2**bits - 1)
        tags = {320: (3, [int(value) for value in (colours.T * 257).ravel()])}
        yield f"tiff palette {bits}", tiff(TiffPage(pixels, 3, bits, tags=tags)), colours[pixels]
    for way in range(1, 9):
        yield f"tiff turned {way}", tiff(TiffPage(RGB, 2, tags={274: (3, [way])})), turned(RGB, way)
    for bits in (8, 16):
        most = 2**bits - 1
        colour, alpha = RNG.integers(0, most + 1, (H, W, 3)), RNG.integers(0, most + 1, (H, W, 1))
        multiplied = colour * alpha // most
        for extra, stored, seen in (
            (0, colour, scaled(colour, most)),
            (1, multiplied, scaled(multiplied + most - alpha, most)),
            (2, colour, on_white(colour, alpha, most)),
        ):
            page = TiffPage(np.concatenate([stored, alpha], axis=2), 2, bits, tags={338: (3, [extra])})
            yield f"tiff alpha {extra} {bits}", tiff(page), seen
    grey = RGB[:, :, 0]
    yield "tiff grey alpha", tiff(TiffPage(np.concatenate([ALPHA, ALPHA], axis=2), 1, tags={338: (3, [2])})), grey
    yield "tiff lab", tiff(TiffPage(RGB, 8)), RGB
    yield "tiff lab 16", tiff(TiffPage(RGB * 257, 8, 16)), RGB
    others = (TiffPage(grey[:2, :2], 1), TiffPage(RGB, 8), TiffPage(RNG.integers(0, 2**32, (3, 3)), 1, 32))
    for count in (1, 2, 3):
        yield f"tiff {1 + count} pages", tiff(TiffPage(RGB, 2), *others[:count]), RGB
        yield f"tiff {1 + count} pages, grey first", tiff(TiffPage(grey, 1), *others[:count]), grey


def pnm_cases() -> Iterator[tuple[str, bytes, Values]]:
    grey, size = RGB[:, :, 0], b"%d %d" % (W, H)
    yield "pgm of 100", b"P5 %b 100\n" % size + (grey % 101).astype(np.uint8).tobytes(), scaled(grey % 101, 100)
    yield "pgm of 16 bits", b"P5 %b 65535\n" % size + (grey * 257).astype(">u2").tobytes(), grey
    for end in (b"", b"\n"):
        spelled = b"P3 %b 255\n" % size + " ".join(map(str, RGB.ravel())).encode() + end
        yield f"ppm spelled {end!r}", spelled, RGB
        spelled = b"P1 %b\n" % size + " ".join(map(str, (grey % 2).ravel())).encode() + end
        yield f"pbm spelled {end!r}", spelled, 255 * (1 - grey % 2)
    yield "pbm", b"P4 %b\n" % size + b"".join(packed_rows(grey % 2, 1)), 255 * (1 - grey % 2)


def gif_cases() -> Iterator[tuple[str, bytes, Values]]:
    colours, pixels = palettes(2)
    table = colours.astype(np.uint8).tobytes()
    yield "gif", gif(H, W, table, GifPicture(pixels)), colours[pixels]
    yield "gif interlaced", gif(H, W, table, GifPicture(pixels, is_interlaced=True)), colours[pixels]
    yield "gif own palette", gif(H, W, b"", GifPicture(pixels, palette=table)), colours[pixels]
    seen = np.where((pixels == 2)[:, :, None], 255, colours[pixels])
    yield "gif transparent", gif(H, W, table, GifPicture(pixels, transparent=2)), seen
    yield "gif without a palette", gif(H, W, b"", GifPicture(pixels)), np.zeros((H, W, 3))
    yield "gif of two", gif(H, W, table, GifPicture(pixels), GifPicture(pixels[:2, :2])), colours[pixels]
    around = np.full((H + 3, W + 4, 3), 255)
    around[2 : 2 + H, 1 : 1 + W] = colours[pixels]
    yield "gif on a larger canvas", gif(H + 3, W + 4, table, GifPicture(pixels, 1, 2), background=2), around


REFUSED = {
    "bmp os2 palette 1",
    "bmp os2 palette 4",
    "bmp os2 palette 8",
    "bmp os2 24",
    "bmp 32 odd fields",
    "bmp 32 ten bits",
    "tiff planar 16 <",
    "tiff planar 16 >",
    "tiff palette 1",
    "tiff palette 2",
    "tiff grey 2",
    "tiff grey 4",
    "tiff grey alpha",
    "tiff lab",
    "tiff lab 16",
    "gif on a larger canvas",
    "gif without a palette",
}
"""What OpenCV cannot decode, or decodes wrongly without a word; each is an error in a sentence."""

MADE = (bmp_cases, png_cases, turned_png_cases, tiff_cases, pnm_cases)
CASES: Cases = {name: (data, seen) for make in MADE for name, data, seen in make()}
GIFS: Cases = {name: (data, seen) for name, data, seen in gif_cases()}


def check(name: str, data: bytes, seen: Values) -> None:
    if name in REFUSED:
        with pytest.raises(ImageReadError, match=r"^x: \w.{20,}"):
            decode_image(data, "x")
        return
    image = decode_image(data, "x").astype(int)
    if image.ndim != seen.ndim:  # a palette of greys may be either
        image, seen = (value if value.ndim == 3 else np.repeat(value[:, :, None], 3, axis=2) for value in (image, seen))
    assert image.shape == seen.shape
    assert np.abs(image - seen).max() <= 1


@pytest.mark.parametrize("name", CASES)
def test_a_picture_of_any_form_is_right_or_refused(name: str) -> None:
    check(name, *CASES[name])


@needs_animations
@pytest.mark.parametrize("name", GIFS)
def test_a_gif_of_any_form_is_right_or_refused(name: str) -> None:
    check(name, *GIFS[name])


@pytest.mark.parametrize("name", [name for name in (*CASES, *GIFS) if name not in REFUSED])
def test_pillow_agrees_on_what_is_right(name: str) -> None:
    data, seen = {**CASES, **GIFS}[name]
    if "16" in name or "alpha 1" in name or "of 100" in name or name.startswith("png grey 4"):
        pytest.skip("Pillow cuts 16 bits off, keeps multiplied colours, rounds down, and does not scale tRNS")
    picture = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    white = Pillow.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    image, seen = np.asarray(white.convert("RGB")).astype(int), seen if seen.ndim == 3 else seen[:, :, None]
    assert np.abs(image - seen).max() <= 1


@pytest.mark.parametrize("way", [0, 1, 3, 6, 8])
def test_an_orientation_in_the_xmp_of_a_webp_is_applied(way: int) -> None:
    picture = Pillow.fromarray(RGB.astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=True, xmp=XMP % way if way else b"")
    np.testing.assert_array_equal(decode_image(stream.getvalue(), "x"), turned(RGB, way))


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("by_tag", [None, 0, 1, 6])
@pytest.mark.parametrize(("order", "kind"), [("<", 1), (">", 7)])
def test_an_orientation_in_the_xmp_of_a_tiff_is_applied_where_no_tag_has_one(
    way: int, by_tag: int | None, order: str, kind: int
) -> None:
    packet: dict[int, tuple[int, Any]] = {700: (kind, list(XMP % way))}
    tag: dict[int, tuple[int, Any]] = {} if by_tag is None else {274: (3, [by_tag])}
    data = tiff(TiffPage(RGB, 2, tags={**packet, **tag}), order=order)
    np.testing.assert_array_equal(decode_image(data, "x"), turned(RGB, by_tag or way))


@pytest.mark.parametrize("packet", [b"", b"x", b'tiff:Orientation="9"', b"tiff:Orientation=", XMP[:40]])
def test_damaged_xmp_in_a_tiff_is_no_orientation(packet: bytes) -> None:
    data = tiff(TiffPage(RGB, 2, tags={700: (1, list(packet))} if packet else {}))
    np.testing.assert_array_equal(decode_image(data, "x"), RGB)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({50706: (1, [1, 4, 0, 0])}, "^x: is a raw photograph, which is not read; convert it to JPEG or PNG$"),
        ({254: (4, [1])}, "^x: begins with a reduced picture, as raw photographs do; convert it to JPEG or PNG$"),
    ],
)
def test_the_thumbnail_of_a_raw_photograph_is_not_taken_for_the_photograph(
    tags: dict[int, tuple[int, Any]], sentence: str
) -> None:
    with pytest.raises(ImageReadError, match=sentence):
        decode_image(tiff(TiffPage(RGB, 2, tags=tags), TiffPage(RGB, 2)), "x")


def with_segment(jpeg: bytes, body: bytes) -> bytes:
    """Return a JPEG with an APP1 segment before all others."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("by_exif", [None, 0, 1, 6])
def test_an_orientation_in_the_xmp_of_a_jpeg_is_applied_where_exif_has_none(way: int, by_exif: int | None) -> None:
    stored = cv2.cvtColor(quarters(), cv2.COLOR_GRAY2BGR)
    jpeg = encode(".jpg", stored) if by_exif is None else jpeg_with_exif(stored, by_exif)
    jpeg = with_segment(jpeg, b"http://ns.adobe.com/xap/1.0/\0" + XMP % way)
    assert_quarters(decode_image(jpeg, "x"), by_exif or way)


@pytest.mark.parametrize("way", range(1, 9))
def test_exif_behind_another_segment_of_a_jpeg_is_applied(way: int) -> None:
    jpeg = jpeg_with_exif(cv2.cvtColor(quarters(), cv2.COLOR_GRAY2BGR), way)
    assert_quarters(decode_image(with_segment(jpeg, b"Adobe\0" * 9), "x"), way)


@pytest.mark.parametrize(
    "text",
    [
        b"XML:com.adobe.xmp\0\1\0\0\0not packed",
        b"XML:com.adobe.xmp",
        b"Raw profile type exif\0\0\0\0\nexif\n 9\nzz",
        b'XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation="9"',
    ],
)
def test_damaged_text_in_a_png_is_no_orientation(text: bytes) -> None:
    data = png(RGB, 8, 2, chunk(b"iTXt", text), chunk(b"zTXt", text))
    np.testing.assert_array_equal(decode_image(data, "x"), RGB)
