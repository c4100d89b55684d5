"""Pictures that are in two parts of a data set are found, whatever file they are in."""

import csv
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stn_training.config import TrainConfig
from stn_training.data.duplicates import Twin, find_contradictions, find_twins, report_contradictions, report_twins
from stn_training.data.labelled_images import LabelledImages
from stn_training.fit import fit


def scene(seed: int, side: int = 48) -> np.ndarray:
    random = np.random.default_rng(seed)
    return cv2.resize(random.integers(0, 256, (6, 6, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)


def labelled(pictures: list[np.ndarray], labels: list[int], name: str) -> LabelledImages:
    images = torch.from_numpy(np.stack(pictures))
    paths = tuple(f"{name}{index}.png" for index in range(len(pictures)))
    return LabelledImages(images, torch.tensor(labels), ("cat", "dog"), name, paths=paths)


def test_a_picture_saved_again_is_found_and_another_is_not() -> None:
    train = labelled([scene(seed) for seed in range(20)], [0] * 20, "train")
    _, jpeg = cv2.imencode(".jpg", scene(7), [cv2.IMWRITE_JPEG_QUALITY, 90])
    noisy = np.clip(scene(3).astype(int) + np.random.default_rng(0).integers(-3, 4, (48, 48, 3)), 0, 255)
    others = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR), scene(100), noisy.astype(np.uint8), 255 - scene(5)]
    twins = find_twins(train, labelled(others, [0, 0, 1, 0], "val"))
    assert [(twin.path, twin.label, twin.training_path, twin.training_label) for twin in twins] == [
        ("val0.png", "cat", "train7.png", "cat"),
        ("val2.png", "dog", "train3.png", "cat"),
    ]


def test_flat_pictures_of_two_colours_are_not_the_same() -> None:
    grey = [np.full((48, 48, 1), level, np.uint8) for level in (20, 200)]
    train, other = labelled(grey[:1], [0], "train"), labelled(grey, [0, 0], "val")
    assert [twin.path for twin in find_twins(train, other)] == ["val0.png"]


def test_training_says_which_pictures_are_in_two_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for seed in range(4):
                own = 1000 * number + 100 * (part == "val") + seed
                cv2.imwrite(str(folder / f"{seed}.png"), scene(3 if (part, seed) == ("val", 2) and not number else own))
    config = TrainConfig(
        str(tmp_path / "data"), "fcn", {"width": 4, "image_size": 32, "channels": 3}, epochs=1, picture_every=0
    )
    with caplog.at_level(logging.WARNING):
        fit(config, tmp_path / "run")
    assert "1 of the validation pictures looks like one of training" in caplog.text
    (row,) = csv.DictReader((tmp_path / "run" / "duplicates.csv").open())
    assert Path(row["path"]).parts[-3:] == ("val", "cat", "2.png")
    assert Path(row["training_path"]).parts[-3:] == ("train", "cat", "3.png")


def test_a_training_picture_in_two_classes_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = labelled([scene(1), scene(2), scene(1), scene(2), scene(3)], [0, 0, 1, 0, 1], "train")
    twins = find_contradictions(train)
    assert twins == [Twin("train2.png", "dog", "train0.png", "cat")]
    with caplog.at_level(logging.WARNING):
        report_contradictions(twins)
    assert "1 training picture is the same as one of another class, the first train2.png ('dog')" in caplog.text
    caplog.clear()
    report_contradictions([])
    assert not caplog.text


def test_nothing_is_said_and_written_where_no_picture_is_in_two_parts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report_twins([], "validation", tmp_path)
    assert not caplog.text
    assert not list(tmp_path.iterdir())
