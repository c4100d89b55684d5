"""GTSRB in the layouts of its archives and of torchvision: tracks are kept together, and what is missing is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from stn_runtime import InputError, PreprocessSpec
from stn_training.data.datasets import load_dataset, with_photographs
from stn_training.data.traffic_signs import SIGNS, list_gtsrb

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def ppm(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P6\n20 18\n255\n" + np.full((18, 20, 3), level, np.uint8).tobytes())


def gtsrb(data_dir: Path, layout: str, tracks: int = 10, frames: int = 3) -> Path:
    base = data_dir / "gtsrb" / "GTSRB" if layout == "torchvision" else data_dir / "GTSRB"
    training = base / ("Training" if layout == "torchvision" else "Final_Training/Images")
    for label in (0, 17, 42):
        for track in range(tracks):
            for frame in range(frames):
                ppm(training / f"{label:05d}" / f"{track:05d}_{frame:05d}.ppm", label)
    for number in range(4):
        ppm(base / "Final_Test" / "Images" / f"{number:05d}.ppm", 17)
    table = (data_dir / "gtsrb" if layout == "torchvision" else base / "Final_Test") / "GT-final_test.csv"
    table.write_text("\n".join([HEADER, *(f"{number:05d}.ppm;20;18;1;1;9;9;17" for number in range(4)), ""]))
    return table


@pytest.mark.parametrize("layout", ["torchvision", "archive"])
def test_both_layouts_are_read_and_tracks_are_kept_together(layout: str, tmp_path: Path) -> None:
    gtsrb(tmp_path, layout)
    listing = list_gtsrb(tmp_path)
    assert {part: len(files) for part, files in listing.parts.items()} == {"train": 81, "val": 9, "test": 4}
    tracks = {part: {file.group for file in listing.parts[part]} for part in ("train", "val")}
    assert tracks["train"].isdisjoint(tracks["val"])
    assert {len(tracks["train"]), len(tracks["val"])} == {27, 3}
    data = load_dataset("gtsrb", "train", PreprocessSpec(16, 16, 3), tmp_path)
    assert data.classes == SIGNS
    assert all(int(image[0, 0, 0]) == int(label) for image, label in zip(data.images, data.labels, strict=True))
    assert load_dataset("gtsrb", "test", PreprocessSpec(16, 16, 3), tmp_path).labels.tolist() == [17] * 4


def test_the_archives_of_torchvision_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    gtsrb(tmp_path, "torchvision")
    ours = list_gtsrb(tmp_path)
    theirs = torchvision.datasets.GTSRB(str(tmp_path), split="test")
    assert [(file.path.name, file.label) for file in ours.parts["test"]] == [
        (Path(path).name, label) for path, label in theirs._samples
    ]


def test_there_are_43_signs() -> None:
    assert len(SIGNS) == len(set(SIGNS)) == 43


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("no table", "Final_Test: has no GT-final_test.csv, the table of the test images' classes; "),
        ("no classes", "GT-final_test.csv: has no column 'ClassId' in its first line; it has Filename, Width"),
        ("out of range", "GT-final_test.csv, line 2: class '43' is none of GTSRB's 43"),
        ("no number", "GT-final_test.csv, line 2: class 'stop' is none of GTSRB's 43"),
        ("no image", "00000.ppm does not exist; unpack the test images again"),
        ("class folder", "class 77 is none of GTSRB's 43"),
    ],
)
def test_what_is_missing_or_out_of_range_is_named(change: str, sentence: str, tmp_path: Path) -> None:
    table = gtsrb(tmp_path, "archive")
    text = table.read_text()
    if change == "no table":
        table.unlink()
    elif change == "no classes":
        table.write_text("\n".join(line.rpartition(";")[0] for line in text.splitlines()))
    elif change in ("out of range", "no number"):
        table.write_text(text.replace(";17\n", f";{43 if change == 'out of range' else 'stop'}\n", 1))
    elif change == "no image":
        (table.parent / "Images" / "00000.ppm").unlink()
    else:
        ppm(tmp_path / "GTSRB" / "Final_Training" / "Images" / "00077" / "00000_00000.ppm", 1)
    with pytest.raises(InputError) as refused:
        list_gtsrb(tmp_path)
    assert sentence in str(refused.value)


def test_without_files_and_without_a_network_the_place_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "GTSRB", offline)
    with pytest.raises(InputError, match=r"^GTSRB is not in .* downloaded \(no route to host\); give its"):
        list_gtsrb(tmp_path)


def test_photographs_without_signs_become_the_class_nothing(tmp_path: Path) -> None:
    gtsrb(tmp_path, "archive", tracks=20, frames=5)
    for number in range(100):
        ppm(tmp_path / "photographs" / "street" / f"{number}.ppm", 200 + number % 50)
    spec = PreprocessSpec(16, 16, 3)
    parts = {
        part: with_photographs(load_dataset("gtsrb", part, spec, tmp_path), tmp_path / "photographs", spec, part)
        for part in ("train", "val")
    }
    for part, data in parts.items():
        plain = load_dataset("gtsrb", part, spec, tmp_path)
        assert data.classes == (*SIGNS, "nothing")
        assert data.reject == 43
        photographs = data.labels == 43
        assert int(photographs.sum()) == len(plain) // 10
        assert (data.images[photographs] >= 200).all()
        assert torch.equal(data.images[~photographs], plain.images)


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    gtsrb(tmp_path, "archive")
    spec = PreprocessSpec(16, 16, 3)
    (tmp_path / "photographs").mkdir()
    with pytest.raises(InputError, match=r"photographs: holds no picture that can be read \(it has none\)"):
        with_photographs(load_dataset("gtsrb", "val", spec, tmp_path), tmp_path / "photographs", spec, "val")
