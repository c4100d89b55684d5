"""Image files of any origin, and what is in them."""

import base64
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_runtime import ImageReadError
from stn_runtime.images.reading import decode_image, read_image
from stn_runtime.images.writing import write_image
from tests.support.image_files import (
    ANIMATED_GIF,
    CMYK_JPEG,
    ORIENTED,
    animated_png,
    animated_webp,
    assert_quarters,
    chunk,
    encode,
    exif,
    jpeg_with_exif,
    needs_animations,
    palette_png,
    png,
    quarters,
    tiff,
    webp_with_exif,
)


def test_a_grey_file_stays_grey() -> None:
    picture = np.arange(20, dtype=np.uint8).reshape(4, 5)
    np.testing.assert_array_equal(decode_image(encode(".png", picture), "grey.png"), picture)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_colour_is_rgb(suffix: str) -> None:
    data = encode(suffix, np.full((4, 5, 3), (3, 2, 1), np.uint8))  # OpenCV writes BGR
    np.testing.assert_array_equal(decode_image(data, "x"), np.full((4, 5, 3), (1, 2, 3)))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_colour_of_a_lossy_file_is_rgb(suffix: str) -> None:
    made = decode_image(encode(suffix, np.full((16, 16, 3), (0, 0, 255), np.uint8)), "x")
    np.testing.assert_allclose(made.mean((0, 1)), (255, 0, 0), atol=4)


def test_what_a_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encode(".png", np.full((2, 3), 9, np.uint8)))
    assert read_image(tmp_path / "photo.jpg").shape == (2, 3)


@pytest.mark.parametrize(
    "name", ["größe.png", "写真 1.png", "new\nline.png", "a,b;'\".png", "-m.png", "%d.png", "🙂.png"]
)
def test_any_file_name_is_read_and_written(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, np.full((2, 3), 5, np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / name), np.full((2, 3), 5))


def test_a_name_that_is_not_utf8_is_read_and_written(tmp_path: Path, undecodable: str) -> None:
    write_image(tmp_path / f"{undecodable}.png", np.full((2, 3), 5, np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / f"{undecodable}.png"), np.full((2, 3), 5))


def test_transparency_is_laid_on_white() -> None:
    pixels = np.array([[(255, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 128)]], np.uint8)
    made = decode_image(png(1, 3, 6, b"\0" + pixels.tobytes()), "x.png")
    np.testing.assert_array_equal(made, [[(255, 255, 255), (255, 0, 0), (127, 127, 127)]])  # 255 - 128


def test_grey_with_transparency_is_laid_on_white() -> None:
    made = decode_image(png(1, 3, 4, b"\0" + bytes([100, 0, 100, 255, 0, 128])), "x.png")
    np.testing.assert_array_equal(made, [[(255,) * 3, (100,) * 3, (127,) * 3]])


def test_transparency_is_laid_on_white_in_a_file_with_exif_too() -> None:
    rows = b"\0" + np.full((1, 3, 4), (255, 0, 0, 0), np.uint8).tobytes()
    made = decode_image(png(1, 3, 6, rows, chunk(b"eXIf", exif(1))), "x.png")
    np.testing.assert_array_equal(made, np.full((1, 3, 3), 255))


def test_every_colour_and_transparency_is_blended_to_the_nearest() -> None:
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.dstack([colour, 255 - colour, colour, alpha]).astype(np.uint8)  # 65536 of them, in several blocks
    made = decode_image(encode(".png", np.tile(pixels, (1, 2, 1))), "x")
    exact = colour * (alpha / 255) + 255 * (1 - alpha / 255)
    np.testing.assert_array_equal(made[:, :256, 0], np.rint(exact))
    np.testing.assert_array_equal(made[:, 256:, 2], np.rint(exact))


def test_a_palette_is_looked_up() -> None:
    made = decode_image(palette_png(), "x.png")
    np.testing.assert_array_equal(made, [[(255, 0, 0), (0, 255, 0), (0, 0, 255)]])


def test_a_palette_with_transparency_is_laid_on_white() -> None:
    made = decode_image(palette_png(bytes([0, 255, 128])), "x.png")
    np.testing.assert_array_equal(made, [[(255, 255, 255), (0, 255, 0), (127, 127, 255)]])


@pytest.mark.parametrize(
    ("kind", "stored", "seen"),
    [
        ((338, 2), (200, 100, 0, 128), (227, 177, 127)),  # 200 * 128/255 + 127 ...
        ((338, 1), (100, 50, 0, 128), (227, 177, 127)),
        ((338, 0), (200, 100, 0, 128), (200, 100, 0)),
    ],
)
def test_transparency_of_a_tiff_is_applied_once(
    kind: tuple[int, int], stored: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    """Tag 338: 2 is unassociated alpha; 1 is associated, where colours are stored multiplied; 0 is something else."""
    made = decode_image(tiff(np.full((4, 6, 4), stored, np.uint8), 2, kind), "x.tif")
    np.testing.assert_allclose(made, np.full((4, 6, 3), seen), atol=1)


def test_four_bytes_a_pixel_in_a_bmp_are_no_transparency() -> None:
    head = struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 1, 1, 1, 32, 0, 4, 0, 0, 0, 0)
    np.testing.assert_array_equal(decode_image(b"BM" + head + bytes([1, 2, 3, 0]), "x.bmp"), [[(3, 2, 1)]])


@pytest.mark.parametrize(
    ("data", "grey"),
    [
        (b"P5 3 1 100\n" + bytes([0, 50, 100]), (0, 128, 255)),  # 127.5
        (b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023), (0, 128, 255)),
        (b"P5 3 1 4095\n" + struct.pack(">3H", 0, 1024, 4095), (0, 64, 255)),
        (b"P2 3 1 1023\n0 512 1023\n", (0, 128, 255)),
        (b"P1 3 1\n1 0 0\n", (0, 255, 255)),
    ],
)
def test_the_largest_value_of_a_pnm_is_white(data: bytes, grey: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(decode_image(data, "x.pgm"), [grey])


def test_all_values_of_16_bits_go_to_the_nearest_of_8() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode_image(encode(".png", values), "x"), np.rint(values / 257))


def test_sixteen_bits_are_reduced_to_eight() -> None:
    picture = np.array([[0, 257, 32896, 65535, 128, 129]], np.uint16)  # 65535 / 257 = 255; 128 rounds down, 129 up
    np.testing.assert_array_equal(decode_image(encode(".png", picture), "x"), [[0, 1, 128, 255, 0, 1]])


def test_sixteen_bit_colour_is_reduced_and_rgb() -> None:
    picture = np.full((2, 2, 3), (0, 257 * 9, 65535), np.uint16)
    np.testing.assert_array_equal(decode_image(encode(".png", picture), "x")[0, 0], (255, 9, 0))


def test_sixteen_bit_transparency_is_laid_on_white() -> None:
    picture = np.array([[(0, 0, 65535, 0), (0, 0, 65535, 65535)]], np.uint16)
    np.testing.assert_array_equal(decode_image(encode(".png", picture), "x"), [[(255, 255, 255), (255, 0, 0)]])


def test_floating_point_pixels_are_refused() -> None:
    data = encode(".tiff", np.full((2, 3), 0.5, np.float32))
    with pytest.raises(ImageReadError, match=r"^scan\.tiff: has 32-bit pixels; convert it to 8 or 16 bits$"):
        decode_image(data, "scan.tiff")


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    picture = quarters()
    assert_quarters(decode_image(jpeg_with_exif(picture, orientation), "x.jpg"), orientation)
    colour = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    assert_quarters(decode_image(jpeg_with_exif(colour, orientation), "x.jpg"), orientation)


@pytest.mark.parametrize("orientation", ORIENTED)
def test_orientation_of_a_tiff_is_applied(orientation: int) -> None:
    assert_quarters(decode_image(tiff(quarters(), 1, (274, orientation)), "x.tif"), orientation)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_a_png_is_applied(orientation: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in quarters())
    data = png(16, 32, 0, rows, chunk(b"eXIf", exif(orientation)))
    assert_quarters(decode_image(data, "x.png"), orientation)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_a_webp_is_applied(orientation: int) -> None:
    colour = cv2.cvtColor(quarters(), cv2.COLOR_GRAY2BGR)
    assert_quarters(decode_image(webp_with_exif(colour, orientation), "x.webp"), orientation)


def test_exif_orientation_of_a_large_webp_is_applied() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    data = webp_with_exif(noise, 6)
    assert data.index(b"EXIF") > 4096
    assert decode_image(data, "x.webp").shape == (90, 60, 3)


@needs_animations
def test_of_an_animation_the_first_picture_is_taken() -> None:
    made = decode_image(base64.b64decode(ANIMATED_GIF), "x.gif")
    np.testing.assert_array_equal(made, np.full((5, 7, 3), (255, 0, 0)))


RED, GREEN = (np.full((5, 7, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0)))


def test_of_an_animated_png_the_first_picture_is_taken() -> None:
    second = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREEN))
    np.testing.assert_array_equal(decode_image(animated_png(RED, second), "x.png"), RED)


def test_an_animated_png_with_half_a_first_picture_is_refused() -> None:
    data = animated_png(RED, b"")
    half = chunk(b"IDAT", zlib.compress(b"\0" + RED[0].tobytes()))
    start, end = data.index(b"IDAT") - 4, data.index(b"fcTL", data.index(b"IDAT")) - 4
    with pytest.raises(ImageReadError, match=r"^x: cannot be decoded as an image"):
        decode_image(data[:start] + half + data[end:], "x")


@needs_animations
def test_of_an_animated_webp_the_first_picture_is_taken() -> None:
    data = animated_webp([RED[:, :, ::-1], GREEN[:, :, ::-1]])
    np.testing.assert_array_equal(decode_image(data, "x.webp"), RED)


def test_a_cmyk_jpeg_is_rgb() -> None:
    made = decode_image(base64.b64decode(CMYK_JPEG), "print.jpg")
    np.testing.assert_allclose(made, np.broadcast_to((255, 0, 0), (8, 8, 3)), atol=3)
