"""Pictures: outlines where the transformer looks, sheets that hold every tile, confusions that can be read back."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from stn_models import Architecture, injected_thetas
from stn_training.pictures import before_after, contact_sheet, image_sheet, save_confusion, save_picture

TILE, GAP = 112, 6


def coloured(picture: np.ndarray) -> np.ndarray:
    """Where a picture of grey tiles is of the outline's colour, orange: lines are smooth, so also in part."""
    return picture[..., 0].astype(int) - picture[..., 2] > 60


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Architecture("st-fcn", {"image_size": 28, "width": 4}).build().eval()


def test_outlines_are_drawn_on_the_upper_row_alone(network: nn.Module) -> None:
    with injected_thetas(network, [torch.tensor([[0.5, 0, 0, 0, 0.5, 0]])]):
        picture = before_after(network, torch.full((3, 1, 28, 28), 0.5))
    assert picture is not None
    assert picture.shape == (2 * (TILE + GAP) + GAP, 3 * (TILE + GAP) + GAP, 3)
    assert picture.dtype == np.uint8
    seen = coloured(picture)
    assert not seen[TILE + GAP :].any()
    for index in range(3):
        left = GAP + index * (TILE + GAP)
        rows, columns = np.nonzero(seen[GAP : GAP + TILE, left : left + TILE])
        # the middle half: from 27.5 to 83.5 pixels
        assert (rows.min(), columns.min()) == pytest.approx((27.5, 27.5), abs=1.5)
        assert (rows.max(), columns.max()) == pytest.approx((83.5, 83.5), abs=1.5)


def test_the_outline_in_an_oblong_picture_lies_in_the_picture_and_not_in_its_bars() -> None:
    options = {"image_size": 16, "image_width": 32, "channels": 1, "width": 4, "transformer": ["affine@input"]}
    network = Architecture("vgg", options).build().eval()
    with injected_thetas(network, [torch.tensor([[0.5, 0, 0, 0, 0.5, 0]])]):
        picture = before_after(network, torch.full((1, 1, 16, 32), 0.5))
    assert picture is not None
    rows, columns = np.nonzero(coloured(picture[GAP : GAP + TILE, GAP : GAP + TILE]))
    # the middle half of rows 28 to 84, and of all columns
    assert (rows.min(), rows.max()) == pytest.approx((41.5, 69.5), abs=1.5)
    assert (columns.min(), columns.max()) == pytest.approx((27.5, 83.5), abs=1.5)


def test_the_lower_row_shows_what_the_transformer_makes(network: nn.Module) -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[..., 7:21, 7:21] = 1
    with injected_thetas(network, [torch.tensor([[0.5, 0, 0, 0, 0.5, 0]])]):
        picture = before_after(network, image)
    assert picture is not None
    lower = picture[2 * GAP + TILE : 2 * (GAP + TILE), GAP : GAP + TILE]
    assert lower[6:-6, 6:-6].min() == 255
    upper = picture[GAP : GAP + TILE, GAP : GAP + TILE]
    assert upper[2, 2].max() == 0


def test_an_outline_far_outside_breaks_nothing(network: nn.Module) -> None:
    with injected_thetas(network, [torch.tensor([[1e9, 0, 1e12, 0, -1e9, 0]])]):
        assert before_after(network, torch.rand(1, 1, 28, 28)) is not None


def test_a_network_without_a_transformer_has_no_before_and_after() -> None:
    assert before_after(Architecture("fcn", {"width": 4}).build().eval(), torch.rand(1, 1, 28, 28)) is None


def test_a_sheet_holds_rows_of_tiles_with_gaps() -> None:
    red, blue = np.zeros((2, TILE, TILE, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 100
    sheet = contact_sheet([[red, blue], [blue]])
    assert sheet.shape == (2 * 118 + 6, 2 * 118 + 6, 3)
    assert sheet[50, 50].tolist() == [200, 0, 0]
    assert sheet[50, 180].tolist() == [0, 0, 100]
    assert sheet[180, 50].tolist() == [0, 0, 100]
    assert sheet[180, 180].tolist() == [255, 255, 255]
    assert sheet[:GAP].min() == 255


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (12, 1, 12), (13, 2, 12), (25, 3, 12)])
def test_a_sheet_of_images_has_twelve_columns(count: int, rows: int, columns: int) -> None:
    assert image_sheet(torch.rand(count, 1, 8, 8)).shape == (rows * 118 + 6, columns * 118 + 6, 3)


def test_a_sheet_shows_colours_as_they_are() -> None:
    images = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert image_sheet(images)[60, 60].tolist() == [255, 128, 0]


def test_a_picture_is_written_as_rgb_with_its_folder(tmp_path: Path) -> None:
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[..., 0] = 250
    save_picture(tmp_path / "deep" / "er" / "p.png", picture)
    assert cv2.imread(str(tmp_path / "deep" / "er" / "p.png"))[2, 2].tolist() == [0, 0, 250]


def test_a_confusion_can_be_read_back_whatever_the_names(tmp_path: Path) -> None:
    classes = ("plain", 'a "quoted", name', "two\nlines", "été")
    confusion = np.arange(16, dtype=np.int64).reshape(4, 4)
    save_confusion(confusion, classes, tmp_path)
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true \\ predicted", *classes]
    assert [row[0] for row in rows[1:]] == list(classes)
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == confusion.tolist()
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None


def test_a_confusion_of_many_classes_and_of_empty_ones_can_be_drawn(tmp_path: Path) -> None:
    save_confusion(np.zeros((40, 40), np.int64), [f"class {index}" for index in range(40)], tmp_path)
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None


def test_class_names_are_not_mathematics(tmp_path: Path) -> None:
    save_confusion(np.eye(2, dtype=np.int64), ["$a_b_c$", "other"], tmp_path)
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
