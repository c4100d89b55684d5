"""Street View House Numbers are read from files like the original ones: numbers, boxes, crops, and what is wrong."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
import torchvision

from stn_runtime import InputError, PreprocessSpec
from stn_training.data.datasets import load_dataset
from stn_training.numbers.svhn import HouseNumber, read_struct, svhn_numbers

Refusal = Callable[..., str]
Digit = tuple[int, int, int, int, int]  # label, left, top, width, height; a zero is 10, as in the original
FIELDS = ("label", "left", "top", "width", "height")
SPEC = PreprocessSpec(32, 32, 3)


def write_struct(folder: Path, pictures: Sequence[tuple[str, Sequence[Digit]]]) -> None:
    """Write digitStruct.mat as MATLAB did: of one digit a number, of several references to numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "digitStruct.mat", "w") as file:
        names = file.create_dataset("digitStruct/name", (len(pictures), 1), h5py.ref_dtype)
        boxes = file.create_dataset("digitStruct/bbox", (len(pictures), 1), h5py.ref_dtype)
        for index, (name, digits) in enumerate(pictures):
            letters = file.create_dataset(f"#refs#/name{index}", data=np.array([[ord(c)] for c in name], np.uint16))
            names[index, 0] = letters.ref
            group = file.create_group(f"#refs#/box{index}")
            for place, field in enumerate(FIELDS):
                values = [np.array([[digit[place]]], np.float64) for digit in digits]
                if len(values) == 1:
                    group.create_dataset(field, data=values[0])
                    continue
                references = group.create_dataset(field, (len(values), 1), h5py.ref_dtype)
                for row, value in enumerate(values):
                    references[row, 0] = file.create_dataset(f"#refs#/{index}{field}{row}", data=value).ref
            boxes[index, 0] = group.ref


def write_pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = (60, 100)) -> None:
    for name in names:
        picture = np.zeros((*size, 3), np.uint8)
        picture[20:40, 30:60] = (0, 0, 255)  # red, in OpenCV's order
        cv2.imwrite(str(folder / name), picture)


def test_numbers_and_boxes_are_those_of_all_digits(tmp_path: Path) -> None:
    write_struct(tmp_path, [("1.png", [(10, 30, 20, 10, 20)]), ("2.png", [(4, 30, 20, 10, 18), (10, 42, 22, 9, 20)])])
    one, two = read_struct(tmp_path)
    assert (one.path, one.number, one.box) == (tmp_path / "1.png", "0", (30, 20, 40, 40))
    assert (two.number, two.box) == ("40", (30, 20, 51, 42))


def test_digits_beside_each_other_are_read_from_left_to_right_and_others_in_the_files_order(
    tmp_path: Path,
) -> None:
    across, down = [(2, 50, 20, 8, 20), (1, 30, 22, 8, 20)], [(7, 31, 10, 8, 12), (3, 30, 24, 8, 12)]
    write_struct(tmp_path, [("1.png", across), ("2.png", down)])
    assert [number.number for number in read_struct(tmp_path)] == ["12", "73"]


def test_a_crop_is_a_third_larger_than_the_box_and_ends_with_the_picture() -> None:
    picture = np.arange(100 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 100, 3)
    inside = HouseNumber(Path("a.png"), "1", (30, 20, 50, 40)).crop(picture)
    np.testing.assert_array_equal(inside, picture[17:43, 27:53])
    at_the_edge = HouseNumber(Path("a.png"), "1", (-5, 0, 15, 60)).crop(picture)
    np.testing.assert_array_equal(at_the_edge, picture[0:60, 0:18])


def test_splits_hold_numbers_spelled_to_five_places(tmp_path: Path) -> None:
    root = tmp_path / "svhn"
    names = [f"{index}.png" for index in range(1, 21)]
    write_struct(root / "train", [(name, [(1 + index % 9, 30, 20, 30, 20)]) for index, name in enumerate(names)])
    write_struct(root / "test", [("1.png", [(2, 30, 20, 15, 20), (10, 45, 20, 15, 20)])])
    write_struct(root / "extra", [("1.png", [(5, 30, 20, 30, 20)])])
    write_pictures(root / "train", names)
    for part in ("test", "extra"):
        write_pictures(root / part, ["1.png"])
    test = svhn_numbers("test", SPEC, tmp_path)
    assert test.labels.tolist() == [[2, 0, 10, 10, 10]]
    assert test.answer(test.labels[0]) == "20"
    assert test.images.shape == (1, 32, 32, 3)
    assert test.images[0, 16, 16].tolist() == [255, 0, 0]  # the number's own pixels, RGB
    train, val = svhn_numbers("train", SPEC, tmp_path), svhn_numbers("val", SPEC, tmp_path)
    assert len(train) == 18 + 1
    assert val.labels[:, 0].tolist() == [1, 2]  # the tenth and the twentieth
    assert len(svhn_numbers("all", SPEC, tmp_path)) == 19 + 2 + 1


def test_a_picture_that_is_missing_outside_or_too_long_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "svhn" / "test"
    six = [(1, 10 * place, 20, 8, 20) for place in range(6)]
    outside = [(1, 400, 20, 8, 20)]
    write_struct(root, [("1.png", [(1, 30, 20, 30, 20)]), ("2.png", six), ("3.png", outside), ("gone.png", outside)])
    write_pictures(root, ["1.png", "2.png", "3.png"])
    with caplog.at_level(logging.WARNING):
        assert len(svhn_numbers("test", SPEC, tmp_path)) == 1
    for part in ("has 6 digits", "3.png: its number lies outside", "gone.png", "3 of 4 pictures of split 'test'"):
        assert part in caplog.text


def test_missing_and_damaged_files_are_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    with pytest.raises(InputError, match="there is no such file; put SVHN's"):
        svhn_numbers("test", SPEC, tmp_path)
    folder = tmp_path / "svhn" / "test"
    folder.mkdir(parents=True)
    (folder / "digitStruct.mat").write_bytes(b"no such format")
    with pytest.raises(InputError, match="cannot be read as SVHN's list of boxes"):
        svhn_numbers("test", SPEC, tmp_path)
    with h5py.File(folder / "digitStruct.mat", "w") as file:
        file.create_dataset("other", data=[1])
    with pytest.raises(InputError, match="cannot be read as SVHN's list of boxes"):
        svhn_numbers("test", SPEC, tmp_path)
    write_struct(folder, [("gone.png", [(1, 30, 20, 30, 20)])])
    with pytest.raises(InputError, match="none of the 1 pictures"):
        svhn_numbers("test", SPEC, tmp_path)


def test_a_name_in_the_file_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    write_struct(tmp_path, [("../../etc/passwd.png", [(1, 30, 20, 30, 20)])])
    assert [number.path for number in read_struct(tmp_path)] == [tmp_path / "passwd.png"]


def test_cropped_digits_are_turned_to_rows_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        def __init__(self, root: str, split: str, download: bool) -> None:
            assert (root, download) == (str(tmp_path), True)
            count = 5010 if split == "train" else 7
            self.data = np.zeros((count, 3, 32, 32), np.uint8)
            self.data[:, 0, 5, 9] = 255  # red, in row 5 and column 9
            self.labels = np.arange(count) % 10

    monkeypatch.setattr(torchvision.datasets, "SVHN", Source)
    test = load_dataset("svhn-digits", "test", None, tmp_path)
    assert test.images.shape == (7, 32, 32, 3)
    assert test.images[0, 5, 9].tolist() == [255, 0, 0]
    assert torch.equal(test.labels, torch.arange(7))
    assert len(load_dataset("svhn-digits", "val", None, tmp_path)) == 5000
