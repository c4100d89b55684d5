"""JPEGs decoded at a fraction of their size, or their luminance alone."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import ImageReadError
from stn_runtime.images.reading import read_image, read_reduced
from tests.support.image_files import (
    CMYK_JPEG,
    assert_quarters,
    encode,
    jpeg_with_exif,
    quarters,
)


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
    path.write_bytes(encode(".jpg", _smooth_picture(*size, channels), [cv2.IMWRITE_JPEG_QUALITY, 98]))
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
    (tmp_path / "x.jpg").write_bytes(jpeg_with_exif(_smooth_picture(160, 240, 3), orientation))
    found, whole = read_reduced(tmp_path / "x.jpg", lambda height, width: 4), read_image(tmp_path / "x.jpg")
    assert found.size == whole.shape[:2]
    smaller = cv2.resize(whole, (whole.shape[1] // 4, whole.shape[0] // 4), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(found.image.astype(float)[2:-2, 2:-2], smaller.astype(float)[2:-2, 2:-2], atol=6)


def test_the_reduction_is_asked_for_the_size_both_ways_round(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encode(".jpg", _smooth_picture(160, 240, 3)))
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: 8 if height > width else 2)
    assert found.image.shape == (80, 120, 3)


@pytest.mark.parametrize("data", [base64.b64decode(CMYK_JPEG), encode(".png", np.full((64, 64, 3), 9, np.uint8))])
def test_what_cannot_be_reduced_is_decoded_whole(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    np.testing.assert_array_equal(
        read_reduced(tmp_path / "x", lambda height, width: 8).image, read_image(tmp_path / "x")
    )


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_reduced_jpeg_that_is_cut_off_is_an_error_too(tmp_path: Path, share: float) -> None:
    data = encode(".jpg", _smooth_picture(160, 240, 3))
    (tmp_path / "x.jpg").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageReadError, match="x\\.jpg: is cut off"):
        read_reduced(tmp_path / "x.jpg", lambda height, width: 8)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_luminance_is_the_grey_of_the_rgb_where_no_colour_is_clipped(tmp_path: Path, factor: int) -> None:
    """Each of R, G and B is off by at most a half, so their weighted sum is too, and rounds back to the luminance."""
    noise = np.random.default_rng(0).integers(60, 200, (120, 160, 3), np.uint8)
    (tmp_path / "x.jpg").write_bytes(encode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 85]))
    colour = read_reduced(tmp_path / "x.jpg", lambda height, width: factor).image
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: factor, grey=True)
    assert 0 < colour.min() <= colour.max() < 255
    assert np.ptp(colour.astype(int), axis=2).max() > 20
    assert found.size == (120, 160)
    np.testing.assert_array_equal(found.image, cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))


def test_the_luminance_of_clipped_colours_is_near_the_grey_of_the_rgb(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    (tmp_path / "x.jpg").write_bytes(encode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 85]))
    colour = read_reduced(tmp_path / "x.jpg", lambda height, width: 2).image
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: 2, grey=True).image
    difference = np.abs(found.astype(int) - cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    assert colour.min() == 0
    assert colour.max() == 255
    assert difference.mean() < 0.01  # measured 0.001
    assert difference.max() <= 12  # measured 6


def test_a_jpeg_of_its_own_size_keeps_its_colours(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encode(".jpg", np.full((16, 24, 3), (0, 0, 255), np.uint8)))
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: 1, grey=True).image
    np.testing.assert_array_equal(found, read_image(tmp_path / "x.jpg"))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_luminance_is_upright_too(tmp_path: Path, orientation: int) -> None:
    colour = cv2.cvtColor(np.kron(quarters(), np.ones((2, 2), np.uint8)), cv2.COLOR_GRAY2BGR)
    (tmp_path / "x.jpg").write_bytes(jpeg_with_exif(colour, orientation))
    found = read_reduced(tmp_path / "x.jpg", lambda height, width: 2, grey=True)
    assert found.size == (2 * found.image.shape[0], 2 * found.image.shape[1])
    assert_quarters(found.image, orientation)


def test_a_png_is_not_made_grey_here(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encode(".png", np.full((5, 7, 3), 90, np.uint8)))
    assert read_reduced(tmp_path / "x.png", lambda height, width: 1, grey=True).image.shape == (5, 7, 3)
