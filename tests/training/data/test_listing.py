"""Files with their classes and groups: tables, groups that no split tears apart, names of classes, and wrong input."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from stn_runtime import InputError, PreprocessSpec
from stn_training.data.datasets import load_dataset
from stn_training.data.listing import (
    FileOptions,
    LabelledFile,
    Listing,
    grouped,
    list_folder,
    list_table,
    made_split,
    read_table,
)

SPEC = PreprocessSpec(8, 8, 3)


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((8, 8, 3), level, np.uint8))[1].tobytes())
    return path


def videos(root: Path, count: int = 20, frames: int = 5) -> Path:
    """Two classes, each of ``count`` videos with ``frames`` frames."""
    for name in ("cat", "dog"):
        for video in range(count):
            for frame in range(frames):
                picture(root / name / f"video{video:02d}-{frame}.png", video)
    return root


def parts_of(listing: Listing, group: str) -> dict[str, set[str]]:
    """In which parts each value of ``group``, as written in the file's name, is found."""
    places: dict[str, set[str]] = {}
    for part, files in listing.parts.items():
        for file in files:
            places.setdefault(f"{file.path.parent.name}/{file.path.name.partition(group)[0]}", set()).add(part)
    return places


def test_a_group_lies_in_one_part_as_a_whole(tmp_path: Path) -> None:
    videos(tmp_path)
    torn = parts_of(list_folder(tmp_path), "-")
    assert any(len(parts) > 1 for parts in torn.values()), "without groups nothing is torn apart: this shows nothing"
    listing = list_folder(tmp_path, FileOptions(group=r"\w+/video\d+"))
    assert all(len(parts) == 1 for parts in parts_of(listing, "-").values())
    assert {part: len(files) for part, files in listing.parts.items()} == {"train": 160, "val": 20, "test": 20}
    assert listing.remarks == ("200 of 200 pictures are in 40 groups; what is split here tears none apart",)


def test_a_group_across_classes_lies_in_one_part(tmp_path: Path) -> None:
    videos(tmp_path)
    listing = list_folder(tmp_path, FileOptions(group=r"(video\d+)"))
    places: dict[str, set[str]] = {}
    for part, files in listing.parts.items():
        for file in files:
            places.setdefault(file.group, set()).add(part)
    assert len(places) == 20
    assert all(len(parts) == 1 for parts in places.values())


def test_files_without_groups_are_split_as_each_its_own() -> None:
    files = [LabelledFile(Path(f"{number}.png"), number % 3) for number in range(300)]
    alone = made_split(files, {"val": 0.1, "test": 0.1})
    named = made_split(
        [LabelledFile(file.path, file.label, file.path.stem) for file in files], {"val": 0.1, "test": 0.1}
    )
    for part, chosen in alone.items():
        assert [file.path for file in named[part]] == [file.path for file in chosen]
        assert set(Counter(file.label for file in chosen).values()) == {len(chosen) // 3}


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("video(", "--group 'video(': is no regular expression ("),
        ("film", "--group 'film': matches no path below {root}, such as cat/video1.png"),
        ("x*", "--group 'x*': matches nothing in cat/video1.png; it must name the group"),
    ],
)
def test_a_pattern_that_groups_nothing_is_refused(pattern: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        grouped([LabelledFile(tmp_path / "cat" / "video1.png", 0)], tmp_path, pattern)
    assert str(refused.value).startswith(sentence.format(root=tmp_path))


def test_a_table_names_files_and_their_classes(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "all" / f"{number}.png", number)
    rows = [f'"all/{number}.png",{10 if number % 2 else 9}' for number in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    listing = list_table(tmp_path / "labels.csv")
    assert listing.classes == ("10", "9")
    assert {part: len(files) for part, files in listing.parts.items()} == {"train": 22, "val": 4, "test": 4}
    data = load_dataset(str(tmp_path / "labels.csv"), "all", SPEC, tmp_path)
    assert len(data) == 30
    levels = data.images[:, 0, 0, 0]
    assert all(
        data.classes[label] == ("10" if level % 2 else "9") for label, level in zip(data.labels, levels, strict=True)
    )


def test_a_table_may_say_split_and_group_and_have_semicolons_and_a_byte_order_mark(tmp_path: Path) -> None:
    lines = ["path;label;split;group"]
    lines += [
        f"{number}.png;{'a' if number % 2 else 'b'};{'test' if number >= 40 else ''};v{number // 4}"
        for number in range(50)
    ]
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    listing = list_table(tmp_path / "labels.csv")
    assert [file.path.stem for file in listing.parts["test"]] == [str(number) for number in range(40, 50)]
    groups = {part: {file.group for file in listing.parts[part]} for part in ("train", "val")}
    assert groups["train"].isdisjoint(groups["val"])
    assert len(groups["val"]) >= 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "has no column 'path' in its first line; it has nothing"),
        ("file,label\na.png,1\n", "has no column 'path' in its first line; it has file, label"),
        ("path,label\na.png,1\nb.png,\n", ", line 3: has no label"),
        ("path,label\na.png,1\nb.png,1\n", "needs rows of at least two labels; found 1"),
        ("path,label\n", "needs rows of at least two labels; found none"),
        ("path,label,split\na.png,1,train\nb.png,2,dev\n", ", line 3: split is 'dev', expected train, val or test"),
        ('path,label\na.png,1\nb.png,"2\nc.png,2\n', "cannot be read as a table ("),
        ('path,label\na.png,"1\n1"\nb.png,2\n', ", line 3: label spans several lines; look for a quote"),
        ("path,label\na.png,1\na,b.png,2\n", ", line 3: has 3 values for 2 columns; put quotes around"),
        ("path,label,label\na.png,1,2\n", "has the column 'label' twice in its first line"),
        ("path,label\na.png,1\n\n\nb.png,\n", ", line 5: has no label"),
        ("path,label\na.png,1\nb.png,2\na.png,2\n", ", lines 2 and 4: a.png is 1, and 2; it can be one of them"),
        (
            "path,label,split\na.png,1,train\na.png,1,test\nb.png,2,\n",
            ", lines 2 and 3: a.png is of train, and of test",
        ),
        ("path,label\n\xff\n", "is not UTF-8 text (byte 11); save the table as UTF-8"),
    ],
)
def test_a_table_that_is_not_as_described_is_one_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as refused:
        list_table(table)
    assert str(refused.value).startswith(str(table))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_that_say_the_same_are_one(tmp_path: Path) -> None:
    rows = [f"{number % 20}.png,{number % 2}" for number in range(60)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    listing = list_table(tmp_path / "labels.csv")
    assert sum(map(len, listing.parts.values())) == 20
    assert listing.remarks == (f"{tmp_path / 'labels.csv'}: 40 rows say again what another says; they are passed over",)


def test_groups_that_given_splits_tear_apart_are_counted(tmp_path: Path) -> None:
    videos(tmp_path / "train", 6, 2)
    videos(tmp_path / "test", 4, 2)
    listing = list_folder(tmp_path, FileOptions(group=r"(video\d+)"))
    assert "4 groups are in train and in test, as the data are split" in listing.remarks
    assert {file.group for file in listing.parts["train"]}.isdisjoint({file.group for file in listing.parts["val"]})


def test_classes_are_sorted_as_text_and_which_name_is_whose_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for number in (1, 2, 10, 9):
        picture(tmp_path / "data" / str(number) / "a.png")
    (tmp_path / "names.txt").write_text("one\nten\ntwo\nnine\n")
    assert list_folder(tmp_path / "data").classes == ("1", "10", "2", "9")
    list_folder(tmp_path / "data", FileOptions(class_names=str(tmp_path / "names.txt")))
    assert "classes by name: 1 = one, 10 = ten, 2 = two, 9 = nine" in caplog.text


def test_options_for_files_are_refused_for_a_benchmark(tmp_path: Path) -> None:
    for option in ({"group": "a"}, {"class_names": "names.txt"}):
        with pytest.raises(InputError, match=r"^--(group|class-names) is for folders and tables; leave it out for "):
            load_dataset("sklearn-digits", "train", SPEC, tmp_path, FileOptions(**option))


def test_a_table_of_test_rows_alone_can_be_measured_on(tmp_path: Path) -> None:
    rows = [f"{picture(tmp_path / f'{number}.png').name},{number % 2},test" for number in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    assert len(load_dataset(str(tmp_path / "labels.csv"), "test", SPEC, tmp_path)) == 6
    with pytest.raises(InputError, match="the split 'train' has no images"):
        load_dataset(str(tmp_path / "labels.csv"), "train", SPEC, tmp_path)


def test_a_table_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv: cannot be read as a table \("):
        read_table(tmp_path / "labels.csv", ("path",))


def test_pictures_of_a_table_that_are_missing_are_skipped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{picture(tmp_path / f'{number}.png').name},{number % 2}" for number in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, "gone.png,1", ""]))
    assert len(load_dataset(str(tmp_path / "labels.csv"), "all", SPEC, tmp_path)) == 20
    assert "gone.png" in caplog.text


def test_classes_take_their_names_from_a_file(tmp_path: Path) -> None:
    root, names = videos(tmp_path / "data", 2, 2), tmp_path / "names.txt"
    names.write_text("Katze\n\nHund\n", encoding="utf-8")
    assert list_folder(root, FileOptions(class_names=str(names))).classes == ("Katze", "Hund")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "names.txt: cannot be read as names of classes ("),
        ("Katze\n", "names.txt: the number of names is 1, and that of the classes of "),
        ("Katze\nKatze\n", "names.txt: has the name 'Katze' twice; two classes need two names"),
    ],
)
def test_names_that_do_not_fit_are_one_sentence(content: str | None, sentence: str, tmp_path: Path) -> None:
    root, names = videos(tmp_path / "data", 2, 2), tmp_path / "names.txt"
    if content is not None:
        names.write_text(content)
    with pytest.raises(InputError) as refused:
        list_folder(root, FileOptions(class_names=str(names)))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("parts", [[""], ["train", "val"]], ids=["classes", "parts"])
def test_a_class_without_a_picture_is_refused(parts: list[str], tmp_path: Path) -> None:
    for part in parts:
        for name in ("cat", "dog"):
            picture(tmp_path / part / name / "0.png")
    (tmp_path / parts[0] / "emu").mkdir()
    (tmp_path / parts[0] / "emu" / "notes.txt").touch()
    with pytest.raises(InputError, match="emu: has no pictures of kinds that are read, and each folder is a class"):
        list_folder(tmp_path)
    picture(tmp_path / parts[-1] / "emu" / "0.png")
    assert list_folder(tmp_path).classes == ("cat", "dog", "emu")


def test_a_class_that_holds_folders_only_is_said_since_they_may_be_the_classes(tmp_path: Path) -> None:
    for name in ("first/cat", "first/dog", "second/images"):
        picture(tmp_path / name / "0.png")
    [remark] = list_folder(tmp_path).remarks
    assert remark.startswith(f"{tmp_path / 'first'}: its pictures lie in 2 folders, one class here")
    picture(tmp_path / "first" / "0.png")
    assert list_folder(tmp_path).remarks == ()
