"""Tiny ImageNet is read as it is unpacked, in its official split and in a merged one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import InputError, PreprocessSpec
from stn_training.data.datasets import load_dataset
from stn_training.data.tiny_imagenet import list_tiny_imagenet
from tests.support.image_files import encode_level

CLASSES = {"n00000002": "crane, a bird", "n00000001": "crane, a machine", "n00000003": "dog, domestic dog"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    for number, identity in enumerate(sorted(CLASSES)):
        images = folder / "train" / identity / "images"
        images.mkdir(parents=True)
        for index in range(40):
            (images / f"{identity}_{index}.JPEG").write_bytes(encode_level(10 * number, 8))
    images = folder / "val" / "images"
    images.mkdir(parents=True)
    lines = []
    for index in range(6):
        (images / f"val_{index}.JPEG").write_bytes(encode_level(100, 8))
        lines.append(f"val_{index}.JPEG\t{sorted(CLASSES)[index % 3]}\t0\t0\t9\t9")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines))
    (folder / "words.txt").write_text("".join(f"{identity}\t{words}\n" for identity, words in CLASSES.items()))
    return folder


def test_the_official_validation_pictures_are_for_testing(root: Path) -> None:
    listing = list_tiny_imagenet(root.parent)
    assert listing.classes == ("crane (n00000001)", "crane (n00000002)", "dog")
    assert [file.path.name for file in listing.parts["test"]] == [f"val_{index}.JPEG" for index in range(6)]
    assert [file.label for file in listing.parts["test"]] == [0, 1, 2, 0, 1, 2]
    assert Counter(file.label for file in listing.parts["val"]) == {0: 2, 1: 2, 2: 2}
    assert len(listing.parts["train"]) == 3 * 38


def test_the_merged_split_tests_on_three_tenths_of_all(root: Path) -> None:
    parts = list_tiny_imagenet(root.parent, merged=True).parts
    assert {name: len(files) for name, files in parts.items()} == {"train": 3 * 27, "test": 3 * 13, "val": 3 * 2}
    assert len({file.path for files in parts.values() for file in files}) == 3 * 42


def test_it_is_loaded_by_name(root: Path) -> None:
    data = load_dataset("tiny-imagenet", "test", PreprocessSpec(8, 8, 3), root.parent)
    assert data.images.shape == (6, 8, 8, 3)
    assert np.abs(data.images.numpy().astype(int) - 100).max() <= 2


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no Tiny ImageNet"):
        list_tiny_imagenet(tmp_path / "elsewhere")
    (root / "val" / "images" / "val_3.JPEG").unlink()
    with pytest.raises(InputError, match=r"val_annotations.txt, line 4: .*val_3.JPEG does not exist"):
        list_tiny_imagenet(root.parent)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn9\t0\t0\t1\t1")
    with pytest.raises(InputError, match="line 1: class 'n9' has no folder"):
        list_tiny_imagenet(root.parent)
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        list_tiny_imagenet(root.parent)
