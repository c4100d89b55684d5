"""Data sets: every image gets its label, splits are fair and stable, and what is wrong with a folder is said."""

import logging
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from torch import Tensor

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images.writing import write_image
from stn_training.data import files
from stn_training.data.datasets import load_dataset
from stn_training.data.labelled_images import LabelledImages, preprocessed
from stn_training.data.listing import FileOptions, split_names

SPEC = PreprocessSpec(8, 8, 1)
NOWHERE = Path("no-data-here")

MakeFolder = Callable[..., Path]


def load(root: Path, split: str = "train", spec: PreprocessSpec = SPEC) -> LabelledImages:
    return load_dataset(str(root), split, spec, NOWHERE)


def levels(data: LabelledImages) -> list[int]:
    """The grey level of each picture, which says its class (60 a class) and its number."""
    flat = data.images.flatten(1)
    assert bool((flat == flat[:, :1]).all())
    return flat[:, 0].tolist()


def test_scikit_learns_digits_are_all_there_once() -> None:
    parts = [load_dataset("sklearn-digits", split, None, NOWHERE) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1257, 180, 360]
    images = torch.cat([part.images for part in parts])
    assert images.shape == (1797, 28, 28, 1)
    assert images.dtype == torch.uint8
    everything = load_dataset("sklearn-digits", "all", None, NOWHERE)
    key = lambda data: Counter((image.numpy().tobytes(), int(label)) for image, label in data)  # noqa: E731
    assert key(zip(images, torch.cat([part.labels for part in parts]), strict=True)) == key(
        zip(everything.images, everything.labels, strict=True)
    )
    assert everything.classes == tuple("0123456789")
    np.testing.assert_array_equal(everything.labels.numpy(), load_digits().target)


def test_scikit_learns_digits_lie_in_the_middle_20_pixels_as_mnists_do() -> None:
    data = load_dataset("sklearn-digits", "all", None, NOWHERE)
    assert int(data.images[:, 4:24, 4:24].max()) == 255
    border = data.images.clone()
    border[:, 4:24, 4:24] = 0
    assert int(border.max()) == 0
    expected = cv2.resize(load_digits().images[11].astype(np.float32) / 16 * 255, (20, 20))
    np.testing.assert_allclose(data.images[11, 4:24, 4:24, 0].numpy(), expected, atol=0.51)


def test_benchmark_splits_are_stratified_and_the_same_in_every_run() -> None:
    for split, per_class in (("val", 18), ("test", 36)):
        first, second = (load_dataset("sklearn-digits", split, None, NOWHERE) for _ in range(2))
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
        assert (torch.bincount(first.labels, minlength=10) - per_class).abs().max() <= 1


def test_a_benchmark_is_brought_to_the_size_and_colour_of_the_network() -> None:
    data = load_dataset("sklearn-digits", "val", PreprocessSpec(32, 40, 3), NOWHERE)
    own = load_dataset("sklearn-digits", "val", None, NOWHERE)
    assert data.images.shape == (180, 32, 40, 3)
    grey = cv2.resize(own.images[5, :, :, 0].numpy(), (40, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(data.images[5].numpy(), np.repeat(grey[:, :, None], 3, axis=2))
    assert torch.equal(data.labels, own.labels)


def test_preprocessing_keeps_labels_classes_and_source() -> None:
    data = LabelledImages(torch.zeros(2, 4, 4, 1, dtype=torch.uint8), torch.tensor([1, 0]), ("a", "b"), "here")
    small = preprocessed(data, PreprocessSpec(2, 2, 1))
    assert small.images.shape == (2, 2, 2, 1)
    assert (small.labels.tolist(), small.classes, small.source) == ([1, 0], ("a", "b"), "here")


def test_selecting_keeps_images_and_labels_together() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    chosen = LabelledImages(images, torch.tensor([0, 1, 0, 1]), ("a", "b"), "here").select([3, 0])
    assert chosen.images.flatten().tolist() == [3, 0]
    assert chosen.labels.tolist() == [1, 0]
    assert len(chosen) == 2


def test_all_is_made_of_the_three_splits() -> None:
    assert split_names("all") == ("train", "val", "test")
    assert split_names("val") == ("val",)


def test_a_folder_is_split_80_10_10_class_by_class(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"a": 40, "b": 20, "c": 10})
    counts = {split: torch.bincount(load(root, split).labels).tolist() for split in ("train", "val", "test")}
    assert counts == {"train": [32, 16, 8], "val": [4, 2, 1], "test": [4, 2, 1]}


def test_every_image_of_a_folder_is_in_one_split_with_its_own_label(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"a": 40, "b": 20, "c": 10})
    parts = {split: load(root, split) for split in ("train", "val", "test", "all")}
    for data in parts.values():
        assert [level // 60 for level in levels(data)] == data.labels.tolist()
        assert data.classes == ("a", "b", "c")
    apart = sorted(level for split in ("train", "val", "test") for level in levels(parts[split]))
    expected = [*range(40), *range(60, 80), *range(120, 130)]
    assert apart == expected
    assert sorted(levels(parts["all"])) == expected


def test_the_split_of_a_folder_is_the_same_in_every_run_and_in_another_place(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    first, second = (make_folder(tmp_path / name, {"a": 30, "b": 30}) for name in ("one", "two"))
    for split in ("train", "val", "test"):
        assert levels(load(first, split)) == levels(load(first, split)) == levels(load(second, split))
    assert levels(load(first, "val")) != [0, 1, 2, 60, 61, 62], "the first files, not a draw"


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "valid", "testing"), ("train", "validation")])
def test_split_folders_are_taken_as_they_are(names: tuple[str, ...], make_folder: MakeFolder, tmp_path: Path) -> None:
    for name, count in zip(names, (9, 4, 2), strict=False):
        make_folder(tmp_path / "data" / name, {"a": count, "b": count})
    assert len(load(tmp_path / "data", "train")) == 18
    assert len(load(tmp_path / "data", "val")) == 8
    if len(names) == 3:
        assert len(load(tmp_path / "data", "test")) == 4
        assert len(load(tmp_path / "data", "all")) == 30


def test_without_a_val_folder_a_tenth_of_train_is_held_out(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "train", {"a": 30, "b": 30})
    make_folder(tmp_path / "data" / "test", {"a": 5, "b": 5})
    train, val = (levels(load(tmp_path / "data", split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (54, 6)
    assert sorted(train + val) == [*range(30), *range(60, 90)]
    assert len(load(tmp_path / "data", "test")) == 10


def test_a_train_folder_without_a_test_folder_cannot_be_tested_on(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "train", {"a": 5, "b": 5})
    with pytest.raises(InputError, match="has a train folder but no test folder; give --split val, or add one"):
        load(tmp_path / "data", "test")


def test_a_class_too_small_to_split_goes_to_training(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"a": 10, "b": 2})
    assert torch.bincount(load(root, "train").labels).tolist() == [8, 2]
    assert torch.bincount(load(root, "val").labels, minlength=2).tolist() == [1, 0]


@pytest.mark.parametrize("spelling", [("Train", "Test"), ("val", "test"), ("TRAIN", "VAL")])
def test_split_folders_are_never_taken_for_classes(
    spelling: tuple[str, str], make_folder: MakeFolder, tmp_path: Path
) -> None:
    for name in spelling:
        make_folder(tmp_path / "data" / name, {"a": 10, "b": 10})
    try:
        classes = load(tmp_path / "data", "train").classes
    except InputError:
        return  # refused in one sentence: just as good
    assert classes == ("a", "b")


def test_files_that_cannot_be_read_are_skipped_and_counted(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(tmp_path / "data" / "train", {"a": 5, "b": 5})
    (root / "a" / "torn.png").write_bytes((root / "a" / "000.png").read_bytes()[:40])
    (root / "b" / "empty.jpg").write_bytes(b"")
    (root / "b" / "text.jpeg").write_text("not a picture")
    with caplog.at_level(logging.WARNING, "stn_training"):
        make_folder(tmp_path / "data" / "val", {"a": 1, "b": 1})
        data = load(tmp_path / "data")
    assert [level // 60 for level in levels(data)] == data.labels.tolist() == [0] * 5 + [1] * 5
    said = caplog.messages
    assert sum("skipped" in line and name in line for line in said for name in ("torn", "empty", "text")) == 3
    assert "3 of 13 files of split 'train' were skipped" in said


def test_other_files_are_not_pictures(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(tmp_path / "data", {"a": 4, "b": 4})
    (root / "a" / "notes.txt").write_text("mine")
    (root / "README.md").write_text("ours")
    with caplog.at_level(logging.WARNING, "stn_training"):
        assert len(load(root, "all")) == 8
    assert caplog.messages == []


def test_a_folder_of_unreadable_files_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        (tmp_path / "data" / "train" / name / "0.png").write_text("no")
    (tmp_path / "data" / "val").mkdir()
    with pytest.raises(InputError, match="none of the 2 files of split 'train' can be read as an image"):
        load(tmp_path / "data")


def test_imbalance_is_said(make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(tmp_path / "data", {"cat": 50, "dog": 10})
    with caplog.at_level(logging.WARNING, "stn_training"):
        load(root)
    assert caplog.messages == ["split 'train' is unbalanced: 40 images of 'cat', 8 of 'dog'"]


def test_mild_imbalance_is_not_worth_saying(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(tmp_path / "data", {"cat": 30, "dog": 10})
    with caplog.at_level(logging.WARNING, "stn_training"):
        load(root)
    assert caplog.messages == []


def test_a_class_without_images_is_said(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path / "data" / "train", {"a": 10, "b": 10, "c": 10})
    make_folder(tmp_path / "data" / "val", {"a": 4, "c": 4})
    with caplog.at_level(logging.WARNING, "stn_training"):
        data = load(tmp_path / "data", "val")
    assert "split 'val' has no image of: b" in caplog.messages
    assert data.classes == ("a", "b", "c")
    assert data.labels.tolist() == [0] * 4 + [2] * 4


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_training_does_not_know_is_refused(split: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "train", {"a": 5, "b": 5})
    make_folder(tmp_path / "data" / split, {"a": 2, "bee": 2, "zebra": 1})
    with pytest.raises(InputError, match=rf"{split}: has classes that training did not see: bee, zebra"):
        load(tmp_path / "data", split)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ([], "needs a folder per class, at least two; found 0"),
        (["only"], "needs a folder per class, at least two; found 1"),
        (["a", "b"], "the split 'train' has no images; a folder per class is expected"),
        (["a", ".hidden"], "at least two; found 1"),
    ],
)
def test_a_folder_without_classes_or_images_is_refused(folders: list[str], sentence: str, tmp_path: Path) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}: .*{sentence}"):
        load(tmp_path)


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"nix: no such folder; give mnist, sklearn-digits, digits, mnist-addition, cifar10, .*, a folder with",
    ):
        load(tmp_path / "nix")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: no such folder"):
        load(tmp_path / "file")


def test_a_folder_needs_a_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="files of images need a size"):
        load_dataset(str(tmp_path), "train", None, NOWHERE)


def test_names_may_be_of_any_script_and_files_lie_deep(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "фото" / "train", {"Äpfel": 3, "猫 と 犬": 3})
    make_folder(tmp_path / "фото" / "val", {"Äpfel": 1, "猫 と 犬": 1})
    deep = root / "猫 と 犬" / "lundi" / "été"
    deep.mkdir(parents=True)
    shutil.copy(root / "猫 と 犬" / "000.png", deep / "ça.PNG")
    data = load(tmp_path / "фото")
    assert data.classes == ("Äpfel", "猫 と 犬")
    assert data.labels.tolist() == [0] * 3 + [1] * 4


def test_pictures_of_a_folder_are_rgb_and_fitted_as_asked(tmp_path: Path) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, :10] = (255, 0, 0)  # blue, as OpenCV writes it
    for name in "ab":
        for split in ("train", "val"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "0.png"), picture)
    stretched = load(tmp_path, "train", PreprocessSpec(8, 8, 3)).images[0].numpy()
    assert stretched[4, 1].tolist() == [0, 0, 255]
    assert stretched[4, 6].tolist() == [0, 0, 0]
    boxed = load(tmp_path, "train", PreprocessSpec(8, 8, 3, "letterbox")).images[0].numpy()
    assert boxed[0].max() == 0
    assert boxed[4, 1].tolist() == [0, 0, 255]


def test_images_are_held_in_memory_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", {"a": 190, "b": 190}, size=(8, 8))
    code = (
        "import resource\n"
        "from pathlib import Path\n"
        "from stn_runtime import PreprocessSpec\n"
        "from stn_training import load_dataset\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        f"load = lambda split: load_dataset({str(tmp_path / 'data')!r}, split, PreprocessSpec(512, 512, 3), Path())\n"
        "load('val')\n"
        "before = peak()\n"
        "data = load('train')\n"
        "print((peak() - before) / data.images.numel())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3


def test_images_that_are_too_many_for_memory_are_held_in_a_file_that_ends_with_them(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path / "data", {"a": 20, "b": 20})
    caplog.set_level("INFO")
    in_memory = load(tmp_path / "data")
    size = f"{SPEC.height} x {SPEC.width} x {SPEC.channels} (height x width x channels)"
    assert caplog.messages == [f"32 pictures of {size}: 0 MB"]
    monkeypatch.setattr(files, "usable_memory", lambda: 1000)
    (tmp_path / "runs").mkdir()
    spilled = load_dataset(str(tmp_path / "data"), "train", SPEC, Path(), spill=tmp_path / "runs")
    assert f"in a file in {tmp_path / 'runs'}, since that is over a quarter of the memory" in caplog.messages[-1]
    assert not list((tmp_path / "runs").iterdir())
    assert torch.equal(spilled.images, in_memory.images)
    assert torch.equal(spilled.labels, in_memory.labels)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InputError, match=r"has no room for 32 pictures of .*; take a smaller image_size"):
        load(tmp_path / "data")


@pytest.fixture(scope="module")
def fake_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in MNIST's format: 5200 training and 100 test pictures, each of the level 20 x label."""
    raw = tmp_path_factory.mktemp("mnist") / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 5200), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.repeat(labels * 20, 784).astype(np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return raw.parent.parent


def test_mnist_is_read_from_disk_and_5000_are_held_out_for_validation(fake_mnist: Path) -> None:
    counts = {"train": 200, "val": 5000, "test": 100, "all": 5300}
    for split, count in counts.items():
        data = load_dataset("mnist", split, None, fake_mnist)
        assert len(data) == count
        assert data.images.shape == (count, 28, 28, 1)
        assert torch.equal(data.images[:, 0, 0, 0].long(), data.labels * 20)
        assert torch.equal(torch.bincount(data.labels), torch.full((10,), count // 10))


def test_mnist_addition_shows_two_digits_of_a_split_and_names_their_sum(fake_mnist: Path) -> None:
    data = load_dataset("mnist-addition", "test", None, fake_mnist)
    assert data.images.shape == (100, 28, 28, 3)
    first, second = data.images[:, 0, 0, 0].long() // 20, data.images[:, 0, 0, 1].long() // 20
    assert torch.equal(data.images[..., 1], data.images[..., 2])
    assert torch.equal(data.labels, first + second)
    assert data.classes[-1] == "18"
    for digits in (first, second):  # each digit of the split stands in each place once
        assert torch.equal(torch.bincount(digits), torch.full((10,), 10))
    assert len({(int(one), int(two)) for one, two in zip(first, second, strict=True)}) > 40
    again = load_dataset("mnist-addition", "test", None, fake_mnist)
    assert torch.equal(data.images, again.images)


def test_cifar10_is_read_from_torchvisions_files_and_from_a_folder(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Files:
        """torchvision's CIFAR10, with 5200 training and 100 test pictures."""

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (Path(root), download) == (tmp_path, True)
            count = 5200 if train else 100
            self.targets = [index % 10 for index in range(count)]
            self.data = np.full((count, 32, 32, 3), (1, 2, 3), np.uint8)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Files)
    for split, count in {"train": 200, "val": 5000, "test": 100, "all": 5300}.items():
        data = load_dataset("cifar10", split, None, tmp_path)
        assert data.images.shape == (count, 32, 32, 3)
        assert data.images[0, 0, 0].tolist() == [1, 2, 3]
        assert data.classes[:2] == ("airplane", "automobile")
    for part, count in {"train": 20, "test": 2}.items():
        make_folder(tmp_path / "cifar10" / part, {"cat": count, "dog": count})
    counts = {"train": 36, "val": 4, "test": 4}
    assert {split: len(load_dataset("cifar10", split, None, tmp_path)) for split in counts} == counts
    assert load_dataset("cifar10", "test", None, tmp_path).source == "cifar10"


@pytest.mark.parametrize("error", [RuntimeError("Error downloading"), URLError("no route to host")])
def test_mnist_that_cannot_be_had_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets, "MNIST", raises(error))
    with pytest.raises(
        InputError, match=r"MNIST is not in .* and cannot be downloaded .* give its place with --data-dir"
    ):
        load_dataset("mnist", "train", None, tmp_path)


def test_mnist_that_cannot_be_downloaded_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as torchvision says it
    error = RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried https://a/, got:\nno route\n")
    monkeypatch.setattr(torchvision.datasets, "MNIST", raises(error))
    with pytest.raises(InputError, match=r"\A[^\n]*\Z"):
        load_dataset("mnist", "train", None, tmp_path)


def raises(error: Exception) -> Callable[..., Tensor]:
    def fail(*_: object, **__: object) -> Tensor:
        raise error

    return fail


# --- what other programs leave


@pytest.mark.parametrize("inside", ["", "train"])
def test_what_other_programs_left_is_no_class_and_no_picture(
    tmp_path: Path, inside: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1", "2", "10", "__MACOSX", "@eaDir"):
        for number in range(4):
            write_image(_made(tmp_path / inside / name) / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
            write_image(_made(tmp_path / inside / name) / f"._{number}.png", np.zeros((8, 8, 3), np.uint8))
            write_image(_made(tmp_path / inside / name / "@eaDir") / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    data = load_dataset(str(tmp_path), "train", PreprocessSpec(8, 8, 3), NOWHERE)
    others = load_dataset(str(tmp_path), "val", PreprocessSpec(8, 8, 3), NOWHERE)
    assert data.classes == others.classes == ("1", "10", "2")
    assert len(data) + len(others) <= 12
    assert [message for message in caplog.messages if "--all-files" in message] == [
        f"{tmp_path}: 48 files that other programs left are passed over "
        f"(such as {Path(inside, '1', '@eaDir')}); --all-files takes them"
    ]
    everything = load_dataset(str(tmp_path), "train", PreprocessSpec(8, 8, 3), NOWHERE, FileOptions(all_files=True))
    assert everything.classes == ("1", "10", "2", "@eaDir", "__MACOSX")
    assert len(everything) > 3 * len(data)


def test_pictures_of_kinds_that_are_not_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        for number in range(4):
            write_image(_made(tmp_path / name) / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
        (tmp_path / name / "IMG_1.HEIC").write_bytes(b"")
        (tmp_path / name / "notes.txt").write_bytes(b"")
    for split in ("train", "val"):
        load_dataset(str(tmp_path), split, PreprocessSpec(8, 8, 3), NOWHERE)
    said = f"{tmp_path}: 2 files are of kinds not read from a folder (such as {Path('a', 'IMG_1.HEIC')}); "
    assert [message for message in caplog.messages if "HEIC" in message] == [f"{said}convert pictures to JPEG or PNG"]
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"2 files are of kinds not read from a folder .* convert pictures"):
        load_dataset(str(tmp_path), "train", PreprocessSpec(8, 8, 3), NOWHERE)


def test_of_what_is_brought_to_a_size_the_class_for_nothing_stays_known() -> None:
    data = LabelledImages(torch.zeros(2, 4, 4, 1, dtype=torch.uint8), torch.tensor([0, 1]), ("7", "nothing"), "x", 1)
    assert preprocessed(data, PreprocessSpec(8, 8, 1)).reject == 1


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
