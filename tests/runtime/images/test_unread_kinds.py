"""Files of kinds that are not read: the error names the kind, and what to do."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import features

from stn_runtime import ImageReadError
from stn_runtime.images.reading import IMAGE_SUFFIXES, decode_image
from stn_runtime.images.unread_kinds import UNREAD_SUFFIXES
from stn_runtime.sources.video import VIDEO_SUFFIXES
from tests.support.image_files import NOISE

PICTURES = {
    "a PAM picture": b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n123456",
    "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "a raw photograph (CR3)": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
    "a JPEG XL picture": b"\xff\x0a\xfa\x1f",
    "a Photoshop document": b"8BPS\0\1" + bytes(20),
    "a QOI picture": b"qoif\0\0\0\1\0\0\0\1\3\0",
    "an icon of Windows": b"\0\0\1\0\1\0" + bytes(16),
    "an SVG drawing": b"""<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>""",
}
OTHERS = {
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
    "is a web page": b"\n<!DOCTYPE html>\n<html><body>404</body></html>",
    "is a PDF document": b"%PDF-1.7\n",
    "is an archive": b"PK\x03\x04\x14\0",
    "is a video": b"\0\0\0\x18ftypisom\0\0\2\0isommp41",
    "is an array of NumPy": b"\x93NUMPY\1\0",
    "holds nothing but zeros": bytes(5000),
}


def sentence(data: bytes) -> str:
    with pytest.raises(ImageReadError) as caught:
        decode_image(data, "x.jpg")
    return str(caught.value)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_another_kind_is_named_with_what_to_do(name: str) -> None:
    assert sentence(PICTURES[name]) == f"x.jpg: is {name}, which is not read; convert it to JPEG or PNG"


@pytest.mark.parametrize("beginning", OTHERS)
def test_what_is_no_picture_is_named_with_what_to_do(beginning: str) -> None:
    found = sentence(OTHERS[beginning])
    assert found.startswith(f"x.jpg: {beginning}")
    assert "; " in found


@pytest.mark.parametrize(
    ("suffix", "name"), [(".pfm", "a PFM picture (32-bit floats)"), (".hdr", "a Radiance HDR picture"), (".ras", "")]
)
def test_files_that_opencv_writes_in_other_kinds_are_named(suffix: str, name: str) -> None:
    picture = NOISE if suffix == ".ras" else NOISE.astype(np.float32) / 255
    written, data = cv2.imencode(suffix, picture)
    if not written:
        pytest.skip(f"this OpenCV does not write {suffix}")
    assert f"is {name or 'a Sun raster picture'}, which is not read" in sentence(data.tobytes())


@pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF")
def test_a_file_that_pillow_writes_as_avif_is_named(tmp_path: Path) -> None:
    Pillow.fromarray(NOISE).save(tmp_path / "x.avif")
    assert "is an AVIF picture" in sentence((tmp_path / "x.avif").read_bytes())


@pytest.mark.parametrize("data", [b"hello", b"\0\0\2\0" + bytes(8) + b"\4\0\4\0\x18\0" + bytes(48)])
def test_what_nobody_knows_is_said_to_be_undecodable(data: bytes) -> None:
    assert sentence(data) == f"x.jpg: cannot be decoded as an image ({len(data)} bytes)"


def test_no_ending_is_both_read_and_not_read() -> None:
    assert not UNREAD_SUFFIXES & (IMAGE_SUFFIXES | VIDEO_SUFFIXES)
