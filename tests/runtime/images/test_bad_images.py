"""Image files that are cut, damaged, no pictures, or no files: one sentence each."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_runtime import ImageReadError, InputError
from stn_runtime.images import reading as images
from stn_runtime.images.reading import decode_image, read_image
from stn_runtime.images.writing import write_image
from tests.support.image_files import NOISE, PNG_MARK, encode, exif, needs_animations, png

GIF = pytest.param(".gif", marks=needs_animations)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm", GIF, ".jp2"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_truncated_file_is_one_sentence(suffix: str, share: float) -> None:
    data = encode(suffix, NOISE)
    with pytest.raises(ImageReadError, match=r"^x: (is cut off, the end of the picture is missing|cannot be decoded)"):
        decode_image(data[: int(len(data) * share)], "x")


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused() -> None:
    data = encode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    with pytest.raises(ImageReadError, match="is cut off"):
        decode_image(data[: len(data) * 4 // 5], "x")


def test_a_jpeg_with_a_whole_thumbnail_and_half_a_picture_is_refused() -> None:
    jpeg, thumbnail = encode(".jpg", NOISE), encode(".jpg", NOISE[:8, :8])
    body = b"Exif\0\0" + exif(1) + thumbnail
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    assert decode_image(jpeg, "x").shape == (60, 90, 3)
    with pytest.raises(ImageReadError, match="is cut off"):
        decode_image(jpeg[: len(jpeg) // 2], "x")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    assert decode_image(encode(".jpg", NOISE) + b"\0\xff trailer", "x").shape == (60, 90, 3)


def test_a_png_with_a_damaged_middle_is_refused() -> None:
    data = bytearray(encode(".png", NOISE))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageReadError, match=r"^x: cannot be decoded as an image \(\d+ bytes of PNG, OpenCV [\d.]+\)$"):
        decode_image(bytes(data), "x")


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageReadError, match=r"empty\.jpg: is empty \(0 bytes\)$"):
        read_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize("data", [b"hello\n", b"\1" * 5000, b"\xff\xd8", PNG_MARK])
def test_what_is_no_picture_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "fake.jpg").write_bytes(data)
    with pytest.raises(ImageReadError, match=r"fake\.jpg: (cannot be decoded as an image|is cut off)") as caught:
        read_image(tmp_path / "fake.jpg")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_before_its_memory_is_taken() -> None:
    data = png(100_000, 100_000, 2, b"\0" * 1000)
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


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(ImageReadError, match=r"a\.jpg: cannot be read \(Too many levels of symbolic links\)$"):
        read_image(tmp_path / "a.jpg")


def test_a_device_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with pytest.raises(ImageReadError, match=r"endless\.jpg: is a device, not a picture$"):
        read_image(tmp_path / "endless.jpg")


def test_a_socket_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("door.jpg")
        with pytest.raises(ImageReadError, match=r"door\.jpg: cannot be read \(No such device or address\)$"):
            read_image(tmp_path / "door.jpg")


def test_a_name_of_several_lines_makes_an_error_of_one(tmp_path: Path) -> None:
    (tmp_path / "new\nline.jpg").write_bytes(b"no picture")
    with pytest.raises(
        ImageReadError, match=r"new\\nline\.jpg'?: cannot be decoded as an image \(10 bytes\)$"
    ) as caught:
        read_image(tmp_path / "new\nline.jpg")
    assert "\n" not in str(caught.value)


def test_a_name_that_no_file_can_have_is_an_error() -> None:
    with pytest.raises(ImageReadError, match=r"cannot be read \(embedded null (byte|character)\)$"):
        read_image(Path("a\0b.jpg"))


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("std::bad_alloc")])
def test_whatever_a_decoder_raises_is_an_error_of_the_picture(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(images.cv2, "imdecode", fail)
    with pytest.raises(ImageReadError, match=r"^x: (there is not enough memory|cannot be decoded as an image)"):
        decode_image(b"P5 1 1 255\n\0", "x")


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
    with pytest.raises(InputError, match=rf"{name}: cannot be written as .*; use \.png or \.jpg"):
        write_image(tmp_path / name, NOISE)
    assert not list(tmp_path.iterdir())


def test_writing_into_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.png: cannot be written \(there is no folder .*missing\)$") as caught:
        write_image(tmp_path / "missing" / "x.png", NOISE)
    assert not isinstance(caught.value, ImageReadError)  # which a run passes over


@contextmanager
def small_disk() -> Iterator[None]:
    """No file can have more than 4 KiB: not even the one that pytest reports to, so around nothing but the call."""
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_picture_that_does_not_fit_on_the_disk_leaves_no_part_of_itself(tmp_path: Path) -> None:
    with small_disk(), pytest.raises(InputError, match=r"x\.png: cannot be written \(.+\)$"):
        write_image(tmp_path / "x.png", NOISE)
    assert not list(tmp_path.iterdir())


def test_a_picture_too_wide_for_its_format_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.jpg: .*(large|wide|pixels).*\.png"):
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
