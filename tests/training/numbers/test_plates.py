"""Drawn plates show the numbers they are labelled with, in any typeface, the same for the same seed."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from stn_runtime import InputError, PreprocessSpec
from stn_training.numbers.plates import draw_plate, house_plates, spelled

SPEC = PreprocessSpec(48, 48, 3)
TYPEFACES = Path(mpl.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def typefaces() -> list[str]:
    return [str(path) for path in sorted(TYPEFACES.glob("DejaVu*.ttf"))]


def test_a_number_is_spelled_to_five_places() -> None:
    assert spelled("") == [10] * 5
    assert spelled("907") == [9, 0, 7, 10, 10]
    assert spelled("12345") == [1, 2, 3, 4, 5]


def test_a_plate_follows_from_its_seed(typefaces: list[str]) -> None:
    one, again, other = (draw_plate(seed, typefaces) for seed in ((1, 5), (1, 5), (2, 5)))
    assert one[1] == again[1]
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])


def test_plates_have_numbers_of_every_length_and_none_begins_with_zero(typefaces: list[str]) -> None:
    numbers = [draw_plate((7, index), typefaces)[1] for index in range(300)]
    assert {len(number) for number in numbers} == set(range(6))
    assert not [number for number in numbers if len(number) > 1 and number[0] == "0"]
    assert {digit for number in numbers for digit in number} == set("0123456789")


def test_plates_are_pictures_in_which_there_is_something_to_see(typefaces: list[str]) -> None:
    pictures = [draw_plate((8, index), typefaces)[0] for index in range(40)]
    for picture in pictures:
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 3
    assert len({picture.mean(axis=(0, 1)).tobytes() for picture in pictures}) == 40


def test_a_split_is_at_the_networks_size_with_its_labels() -> None:
    data = house_plates("val", SPEC, TYPEFACES, count=12)
    assert data.images.shape == (12, 48, 48, 3)
    assert data.labels.shape == (12, 5)
    assert data.end == 10
    assert data.classes == (*"0123456789", "end")
    names, groups = data.groups()
    assert [names[group] for group in groups.tolist()] == [
        f"{len(text)} character{'s' * (len(text) != 1)}" for text in map(data.answer, data.labels)
    ]
    assert torch.equal(data.labels, house_plates("val", SPEC, TYPEFACES, count=12).labels)
    assert not torch.equal(data.labels, house_plates("test", SPEC, TYPEFACES, count=12).labels)


def test_a_folder_without_typefaces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="typeface"):
        house_plates("val", SPEC, tmp_path, count=1)
