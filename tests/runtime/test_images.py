"""Image files of any origin, good and bad; the files are made here, byte by byte where an encoder would not."""

import base64
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import ImageReadError, InputError
from stn_runtime.images import decode_image, read_image, read_reduced, write_image

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


def _encode(suffix: str, image: NDArray[np.generic], options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    assert done
    return data.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(height: int, width: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """Colour type 0 grey, 2 RGB, 4 grey + alpha, 6 RGB + alpha; ``rows`` start with a filter byte each."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    body = b"".join(extra) + _chunk(b"IDAT", zlib.compress(rows))
    return PNG_MARK + _chunk(b"IHDR", head) + body + _chunk(b"IEND", b"")


def _exif(orientation: int) -> bytes:
    """A big-endian TIFF header with one entry: tag 0x0112, type SHORT, count 1."""
    return b"MM\0\x2a\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def _jpeg_with_exif(image: NDArray[np.uint8], orientation: int) -> bytes:
    jpeg, body = _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100]), b"Exif\0\0" + _exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def _webp_with_exif(image: NDArray[np.uint8], orientation: int) -> bytes:
    """RIFF with VP8X, the picture, and EXIF LAST, where the format puts it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    picture = _encode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[12:]  # 101 is lossless
    size = struct.pack("<I", image.shape[1] - 1)[:3] + struct.pack("<I", image.shape[0] - 1)[:3]
    body = b"WEBP" + chunk(b"VP8X", b"\x08\0\0\0" + size) + picture + chunk(b"EXIF", _exif(orientation))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _quarters() -> NDArray[np.uint8]:
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


def _assert_quarters(image: NDArray[np.uint8], orientation: int) -> None:
    assert image.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    grey = image if image.ndim == 2 else image[:, :, 0]
    height, width = grey.shape
    centres = grey[height // 4 :: height // 2, width // 4 :: width // 2]
    np.testing.assert_allclose(centres, ORIENTED[orientation], atol=3)


def test_a_grey_file_stays_grey() -> None:
    picture = np.arange(20, dtype=np.uint8).reshape(4, 5)
    np.testing.assert_array_equal(decode_image(_encode(".png", picture), "grey.png"), picture)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_colour_is_rgb(suffix: str) -> None:
    data = _encode(suffix, np.full((4, 5, 3), (3, 2, 1), np.uint8))  # OpenCV writes BGR
    np.testing.assert_array_equal(decode_image(data, "x"), np.full((4, 5, 3), (1, 2, 3)))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_colour_of_a_lossy_file_is_rgb(suffix: str) -> None:
    made = decode_image(_encode(suffix, np.full((16, 16, 3), (0, 0, 255), np.uint8)), "x")
    np.testing.assert_allclose(made.mean((0, 1)), (255, 0, 0), atol=4)


def test_what_a_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(_encode(".png", np.full((2, 3), 9, np.uint8)))
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
    made = decode_image(_png(1, 3, 6, b"\0" + pixels.tobytes()), "x.png")
    np.testing.assert_array_equal(made, [[(255, 255, 255), (255, 0, 0), (127, 127, 127)]])  # 255 - 128


def test_grey_with_transparency_is_laid_on_white() -> None:
    made = decode_image(_png(1, 3, 4, b"\0" + bytes([100, 0, 100, 255, 0, 128])), "x.png")
    np.testing.assert_array_equal(made, [[(255,) * 3, (100,) * 3, (127,) * 3]])


def test_transparency_is_laid_on_white_in_a_file_with_exif_too() -> None:
    rows = b"\0" + np.full((1, 3, 4), (255, 0, 0, 0), np.uint8).tobytes()
    made = decode_image(_png(1, 3, 6, rows, _chunk(b"eXIf", _exif(1))), "x.png")
    np.testing.assert_array_equal(made, np.full((1, 3, 3), 255))


def test_sixteen_bits_are_reduced_to_eight() -> None:
    picture = np.array([[0, 257, 32896, 65535, 128, 129]], np.uint16)  # 65535 / 257 = 255; 128 rounds down, 129 up
    np.testing.assert_array_equal(decode_image(_encode(".png", picture), "x"), [[0, 1, 128, 255, 0, 1]])


def test_sixteen_bit_colour_is_reduced_and_rgb() -> None:
    picture = np.full((2, 2, 3), (0, 257 * 9, 65535), np.uint16)
    np.testing.assert_array_equal(decode_image(_encode(".png", picture), "x")[0, 0], (255, 9, 0))


def test_sixteen_bit_transparency_is_laid_on_white() -> None:
    picture = np.array([[(0, 0, 65535, 0), (0, 0, 65535, 65535)]], np.uint16)
    np.testing.assert_array_equal(decode_image(_encode(".png", picture), "x"), [[(255, 255, 255), (255, 0, 0)]])


def test_floating_point_pixels_are_refused() -> None:
    data = _encode(".tiff", np.full((2, 3), 0.5, np.float32))
    with pytest.raises(ImageReadError, match=r"^scan\.tiff: has 32-bit pixels; convert it to 8 or 16 bits$"):
        decode_image(data, "scan.tiff")


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    picture = _quarters()
    _assert_quarters(decode_image(_jpeg_with_exif(picture, orientation), "x.jpg"), orientation)
    colour = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    _assert_quarters(decode_image(_jpeg_with_exif(colour, orientation), "x.jpg"), orientation)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_a_png_is_applied(orientation: int) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in _quarters())
    data = _png(16, 32, 0, rows, _chunk(b"eXIf", _exif(orientation)))
    _assert_quarters(decode_image(data, "x.png"), orientation)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_a_webp_is_applied(orientation: int) -> None:
    colour = cv2.cvtColor(_quarters(), cv2.COLOR_GRAY2BGR)
    _assert_quarters(decode_image(_webp_with_exif(colour, orientation), "x.webp"), orientation)


def test_exif_orientation_of_a_large_webp_is_applied() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    data = _webp_with_exif(noise, 6)
    assert data.index(b"EXIF") > 4096
    assert decode_image(data, "x.webp").shape == (90, 60, 3)


def test_of_an_animation_the_first_picture_is_taken() -> None:
    made = decode_image(base64.b64decode(ANIMATED_GIF), "x.gif")
    np.testing.assert_array_equal(made, np.full((5, 7, 3), (255, 0, 0)))


def test_a_cmyk_jpeg_is_rgb() -> None:
    made = decode_image(base64.b64decode(CMYK_JPEG), "print.jpg")
    np.testing.assert_allclose(made, np.broadcast_to((255, 0, 0), (8, 8, 3)), atol=3)


NOISE = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm", ".gif", ".jp2"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_truncated_file_is_one_sentence(suffix: str, share: float) -> None:
    data = _encode(suffix, NOISE)
    with pytest.raises(ImageReadError, match=r"^x: (is cut off, the end of the picture is missing|cannot be decoded)"):
        decode_image(data[: int(len(data) * share)], "x")


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused() -> None:
    data = _encode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    with pytest.raises(ImageReadError, match="is cut off"):
        decode_image(data[: len(data) * 4 // 5], "x")


def test_a_jpeg_with_a_whole_thumbnail_and_half_a_picture_is_refused() -> None:
    jpeg, thumbnail = _encode(".jpg", NOISE), _encode(".jpg", NOISE[:8, :8])
    body = b"Exif\0\0" + _exif(1) + thumbnail
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    assert decode_image(jpeg, "x").shape == (60, 90, 3)
    with pytest.raises(ImageReadError, match="is cut off"):
        decode_image(jpeg[: len(jpeg) // 2], "x")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    assert decode_image(_encode(".jpg", NOISE) + b"\0\xff trailer", "x").shape == (60, 90, 3)


def test_a_png_with_a_damaged_middle_is_refused() -> None:
    data = bytearray(_encode(".png", NOISE))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageReadError, match=r"^x: cannot be decoded as an image \(\d+ bytes of PNG\)$"):
        decode_image(bytes(data), "x")


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageReadError, match=r"empty\.jpg: is empty \(0 bytes\)$"):
        read_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize("data", [b"hello\n", b"\0" * 5000, b"%PDF-1.7\n", b"<svg/>", b"\xff\xd8", PNG_MARK])
def test_what_is_no_picture_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "fake.jpg").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"fake\.jpg: (cannot be decoded as an image|is cut off)") as caught:
        read_image(tmp_path / "fake.jpg")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_before_its_memory_is_taken() -> None:
    data = _png(100_000, 100_000, 2, b"\0" * 1000)
    told = r"^bomb\.png: .*too many pixels; raise OPENCV_IO_MAX_IMAGE_PIXELS"
    with pytest.raises(ImageReadError, match=told) as caught:
        decode_image(data, "bomb.png")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageReadError, match=r"folder\.jpg: cannot be read \(Is a directory\)$"):
        read_image(tmp_path / "folder.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"gone\.jpg: cannot be read \(No such file or directory\)$"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", NOISE)
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageReadError, match=r"secret\.png: cannot be read \(Permission denied\)$"):
        read_image(tmp_path / "secret.png")


def test_a_picture_error_is_an_input_error() -> None:
    assert issubclass(ImageReadError, InputError)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)], ids=str)
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_image(tmp_path / f"x{suffix}", picture)
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), picture)


@pytest.mark.parametrize("name", ["x.foo", "x"])
def test_an_unknown_format_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageReadError, match=rf"{name}: cannot be written as .*; use \.png or \.jpg"):
        write_image(tmp_path / name, NOISE)
    assert not list(tmp_path.iterdir())


def test_writing_into_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"x\.png: cannot be written \(No such file or directory\)$"):
        write_image(tmp_path / "missing" / "x.png", NOISE)


def test_a_picture_too_wide_for_its_format_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"x\.jpg: .*(large|wide|pixels).*\.png"):
        write_image(tmp_path / "x.jpg", np.zeros((1, 70_000, 3), np.uint8))


@pytest.mark.parametrize("seed", range(4))
def test_what_follows_the_picture_in_a_jpeg_is_ignored(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    picture = np.full((20, 30, 3), 90, np.uint8)
    write_image(tmp_path / "motion.jpg", picture)
    with (tmp_path / "motion.jpg").open("ab") as file:
        file.write(random.bytes(500_000) + b"\xff\xda" + bytes(8))
    assert np.abs(read_image(tmp_path / "motion.jpg").astype(int) - 90).max() <= 2


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageReadError, match=r"pipe\.jpg: is a named pipe"):
        read_image(tmp_path / "pipe.jpg")


# --- reduced while they are decoded


def _smooth_picture(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(40, 215, (6, 8, channels), np.uint8)
    resized = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(480, 640), (431, 637)])
def test_a_reduced_jpeg_is_the_mean_of_its_pixels_and_knows_its_size(
    tmp_path: Path, size: tuple[int, int], factor: int, channels: int
) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(_encode(".jpg", _smooth_picture(*size, channels), [cv2.IMWRITE_JPEG_QUALITY, 98]))
    found, whole = read_reduced(path, lambda height, width: factor), read_image(path)
    assert found.size == size
    assert found.image.shape[:2] == (-(-size[0] // factor), -(-size[1] // factor))
    assert found.image.ndim == whole.ndim
    rows, columns = size[0] // factor, size[1] // factor
    means = whole[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, -1).mean(axis=(1, 3))
    inner = found.image[:rows, :columns].reshape(means.shape)
    np.testing.assert_allclose(inner[1:-1, 1:-1], means[1:-1, 1:-1], atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_upright_too(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "x.jpg").write_bytes(_jpeg_with_exif(_smooth_picture(160, 240, 3), orientation))
    found, whole = read_reduced(tmp_path / "x.jpg", lambda height, width: 4), read_image(tmp_path / "x.jpg")
    assert found.size == whole.shape[:2]
    smaller = cv2.resize(whole, (whole.shape[1] // 4, whole.shape[0] // 4), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(found.image.astype(float)[2:-2, 2:-2], smaller.astype(float)[2:-2, 2:-2], atol=6)


def test_the_reduction_is_asked_for_the_size_both_ways_round(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(_encode(".jpg", _smooth_picture(160, 240, 3)))
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: 8 if height > width else 2)
    assert found.image.shape == (80, 120, 3)


@pytest.mark.parametrize("data", [base64.b64decode(CMYK_JPEG), _encode(".png", np.full((64, 64, 3), 9, np.uint8))])
def test_what_cannot_be_reduced_is_decoded_whole(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    np.testing.assert_array_equal(
        read_reduced(tmp_path / "x", lambda height, width: 8).image, read_image(tmp_path / "x")
    )


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_reduced_jpeg_that_is_cut_off_is_an_error_too(tmp_path: Path, share: float) -> None:
    data = _encode(".jpg", _smooth_picture(160, 240, 3))
    (tmp_path / "x.jpg").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageReadError, match="x\\.jpg: is cut off"):
        read_reduced(tmp_path / "x.jpg", lambda height, width: 8)
