"""Anchor boxes: what is read, what is left out and said, what is found, through the command's front door."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training.anchors import cluster_boxes, find_elbow, read_annotations

Refusal = Callable[..., str]


def coco(path: Path, boxes: Iterable[dict[str, Any]], **changes: object) -> Path:
    content: dict[str, object] = {
        "images": [{"id": 7, "width": 200, "height": 100, "file_name": "a.png"}],
        "annotations": list(boxes),
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    path.write_text(json.dumps({name: value for name, value in (content | changes).items() if value is not None}))
    return path


def box(bbox: object, **changes: object) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 3, "bbox": bbox, "segmentation": [[1, 2, 3, 4]]} | changes


def test_coco_boxes_are_shares_of_their_picture(tmp_path: Path) -> None:
    read = read_annotations(coco(tmp_path / "a.json", [box([20, 10, 100, 25]), box([0, 0, 200, 100], category_id=1)]))
    np.testing.assert_allclose(read.boxes, [[0.1, 0.1, 0.5, 0.25], [0, 0, 1, 1]])
    assert read.classes == ("dog", "cat")
    assert read.labels.tolist() == [1, 0]
    assert [read.pictures[owner] for owner in read.owners] == ["a.png", "a.png"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (box([0, 0, 0, 5], id=41), "of zero width"),
        (box([0, 0, 5, 0], id=41), "of zero height"),
        (box([0, 0, -5, 5], id=41), "of negative width"),
        (box([0, 0, 300, 5], id=41), "of more width than its image"),
        (box([0, 0, 5], id=41), "without four finite numbers"),
        (box([0, 0, "5", 5], id=41), "without four finite numbers"),
        (box([0, 0, float("nan"), 5], id=41), "without four finite numbers"),
        (box([0, 0, float("inf"), 5], id=41), "without four finite numbers"),
        (box(None, id=41), "without four finite numbers"),
        (box([0, 0, 1e-320, 5], id=41), "of hardly any width"),
        (box([0, 0, 5, 1e-5], id=41), "of hardly any height"),
        (box([0, 0, 5, 5], id=41, image_id="7"), "of an image that is not listed"),
        (box([0, 0, 5, 5], id=41, image_id=8), "of an image that is not listed"),
        (box([0, 0, 5, 5], id=41, image_id=[8]), "of an image that is not listed"),
        (box([0, 0, 5, 5], id=41, category_id=9), "of a category that is not listed"),
        (box([0, 0, 5, 5], id=41, category_id=None), "of a category that is not listed"),
    ],
)
def test_a_box_of_coco_that_cannot_be_used_is_counted_and_named(
    wrong: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    read = read_annotations(coco(tmp_path / "a.json", [box([20, 10, 100, 25]), wrong, wrong]))
    assert len(read.labels) == 1
    (fault,) = read.faults
    assert fault.reason.startswith(reason)
    assert fault.count == 2
    assert "41" in fault.first


def test_a_box_without_image_or_of_an_image_without_size_is_counted(tmp_path: Path) -> None:
    images = [{"id": 7, "width": 200, "height": 100}, {"id": 8, "width": None, "height": 5}, {"id": [9]}, 3]
    wrong = [box([0, 0, 1, 1], image_id=8), {"bbox": [0, 0, 1, 1]}, None]
    read = read_annotations(coco(tmp_path / "a.json", [box([0, 0, 1, 1]), *wrong], images=images))
    assert [fault.count for fault in read.faults] == [1, 2]


def test_crowds_are_passed_over_and_said(tmp_path: Path) -> None:
    read = read_annotations(coco(tmp_path / "a.json", [box([0, 0, 5, 5]), box([0, 0, 90, 90], iscrowd=1)]))
    assert len(read.labels) == 1
    assert "crowds" in read.remarks[0]
    assert not read.faults


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"categories": None}, "has no 'categories'"),
        ({"categories": []}, "has no 'categories'"),
        ({"annotations": None}, "has no 'annotations'"),
        ({"images": 3}, "has no 'images'"),
        ({"annotations": [box([0, 0, 0, 0])]}, "has no usable box: 1 of zero width"),
        ({"categories": [{"id": [1]}]}, "has no usable box: 1 of a category that is not listed"),
    ],
)
def test_a_coco_file_that_lacks_a_part_is_refused(
    changes: dict[str, object], part: str, tmp_path: Path, refusal: Refusal
) -> None:
    path = coco(tmp_path / "a.json", [box([0, 0, 5, 5])], **changes)
    assert f"a.json: {part}" in refusal("anchors", str(path))


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "{"), ("a.json", "[" * 100_000), ("b.json", "[1]"), ("c.txt", "")]
)
def test_a_file_of_another_kind_is_refused(name: str, text: str, tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / name).write_text(text)
    assert f"{name}: " in refusal("anchors", str(tmp_path / name))


def test_a_file_that_is_no_text_or_missing_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as annotations" in refusal("anchors", str(tmp_path / "a.txt"))
    assert "no such file" in refusal("anchors", str(tmp_path / "b.txt"))
    assert "holds no .txt file" in refusal("anchors", str(tmp_path.joinpath("c").mkdir() or tmp_path / "c"))


def test_yolo_boxes_and_polygons_are_read_with_the_names_beside_them(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    (labels / "one.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.5 0.2 0.3 0.8\n")
    (labels / "two.txt").write_text("0 0.5 0.5 0.2\n0.5 0.5 0.5 0.2 0.2\ncat 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n")
    read = read_annotations(labels)
    np.testing.assert_allclose(read.boxes, [[0.4, 0.3, 0.2, 0.4], [0.1, 0.2, 0.4, 0.6]], atol=1e-7)
    assert read.classes == ("cat", "dog")
    assert read.labels.tolist() == [1, 0]
    assert read.pictures == ("one", "two")
    assert [(fault.count, fault.first) for fault in read.faults] == [
        (2, "two.txt, line 1"),
        (1, "two.txt, line 2"),
        (1, "two.txt, line 4"),
    ]


def test_a_yolo_class_beyond_the_names_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "one.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    assert "has a box of class 1, but there are 1 names" in refusal("anchors", str(tmp_path))
    (tmp_path / "classes.txt").unlink()
    for number in ("99999999999", "nan", "inf", "-1", "0.5"):
        (tmp_path / "one.txt").write_text(f"{number} 0.5 0.5 0.2 0.4\n")
        assert "of a class that is no whole number from 0 on (one.txt, line 1)" in refusal("anchors", str(tmp_path))


def test_lines_are_read_and_what_is_none_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text(
        "id: 1, height: 100, width: 200, bbox:[20, 10, 100, 25],\nid: 0, height: 100, width: 200, bbox:[150, 0, 100, "
        "50]\n"
        "id: 0, height: 100, width: 200, bbox:[1, 2, 3],\nid: 0, height: 0, width: 200, bbox:[1, 2, 3, 4],\n"
    )
    read = read_annotations(path, ("cat", "dog"))
    np.testing.assert_allclose(read.boxes, [[0.1, 0.1, 0.5, 0.25], [0.75, 0, 0.5, 0.5]])
    assert read.classes == ("cat", "dog")
    assert [(fault.count, fault.first) for fault in read.faults] == [(1, "line 3"), (1, "line 4")]
    assert read.remarks == ("1 boxes reach beyond their picture; their sizes are taken as they are",)


def test_clusters_find_the_sizes_that_boxes_were_made_around() -> None:
    random = np.random.default_rng(0)
    true = np.array([[0.05, 0.1], [0.3, 0.1], [0.5, 0.6]])
    sizes = true[random.integers(3, size=3000)] * random.uniform(0.95, 1.05, (3000, 2))
    for metric in ("iou", "euclidean"):
        found = cluster_boxes(sizes, 3, metric)
        np.testing.assert_allclose(found.anchors, true, rtol=0.02)
        np.testing.assert_allclose(found.shares, 1 / 3, atol=0.03)


def test_the_mean_iou_is_that_of_each_box_with_its_nearest_anchor() -> None:
    sizes = np.random.default_rng(1).uniform(0.02, 0.9, (500, 2))
    found = cluster_boxes(sizes, 4)
    common = np.minimum(sizes[:, None], found.anchors).prod(2)
    iou = common / (sizes.prod(1)[:, None] + found.anchors.prod(1) - common)
    assert found.mean_iou == pytest.approx(iou.max(1).mean())
    assert (np.diff(found.anchors.prod(1)) >= 0).all()


def test_clusters_by_iou_fit_small_and_large_boxes_better_than_plain_ones() -> None:
    sizes = np.exp(np.random.default_rng(2).uniform(np.log(0.01), np.log(1), (4000, 2)))
    assert cluster_boxes(sizes, 5).mean_iou > cluster_boxes(sizes, 5, "euclidean").mean_iou + 0.03


def test_more_clusters_than_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="2 different sizes"):
        cluster_boxes(np.array([[0.1, 0.2], [0.1, 0.2], [0.3, 0.3]]), 3)
    assert cluster_boxes(np.array([[0.1, 0.2], [0.1, 0.2], [0.3, 0.3]]), 2).mean_iou == pytest.approx(1)


def test_the_elbow_is_where_the_gain_falls_off() -> None:
    assert find_elbow([1, 2, 3, 4, 5], [0.3, 0.5, 0.7, 0.72, 0.74]) == 3
    assert find_elbow([4], [0.7]) is None
    assert find_elbow([1, 2], [0.5, 0.7]) is None
    assert find_elbow([1, 2, 3], [0.4, 0.5, 0.7]) is None, "each further one gains more"
    assert find_elbow([1, 2, 3], [0.5, 0.5, 0.5]) is None, "none gains anything"


def test_the_command_writes_tables_and_figures_that_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    boxes = [
        box([1, 2, *sides], category_id=label)
        for label, sides in zip([1, 3, 3] * 20, random.uniform(5, 90, (60, 2)).tolist(), strict=True)
    ]
    coco(tmp_path / "a.json", [*boxes, box([0, 0, 0, 3])])
    cv2.imwrite("a.png", np.full((100, 200, 3), 128, np.uint8))
    assert main(["anchors", "a.json", "--clusters", "2,4", "--image-size", "100x300", "--images", "."]) == 0
    out, err = capsys.readouterr()
    assert "60 boxes of 2 classes" in out
    assert "cat" in out
    assert "left out: 1 of zero width; first: annotation 1" in err
    rows = list(csv.DictReader(Path("anchors/anchors.csv").read_text().splitlines()))
    assert [(row["metric"], row["count"]) for row in rows] == [("iou", "2")] * 2 + [("iou", "4")] * 4 + [
        ("euclidean", "2")
    ] * 2 + [("euclidean", "4")] * 4
    for row in rows:
        assert float(row["width_pixels"]) == pytest.approx(300 * float(row["width"]), abs=0.06)
        assert float(row["height_pixels"]) == pytest.approx(100 * float(row["height"]), abs=0.06)
    summary = json.loads(Path("anchors/anchors.json").read_text())
    assert summary["boxes"] == 60
    assert [row["boxes"] for row in summary["classes"]] == [20, 40]
    assert summary["left_out"] == [{"reason": "of zero width", "count": 1, "first": "annotation 1"}]
    for name in ("classes", "anchors", "elbow", "samples"):
        assert cv2.imread(f"anchors/{name}.png").std() > 5


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--clusters", "0"], "--clusters 0"),
        (["--clusters", "3,x"], "--clusters 3,x"),
        (["--clusters", "9"], "9 anchors: the boxes have one size; ask for --clusters 1"),
        (["--image-size", "0"], "--image-size 0"),
        (["--images", "nowhere"], "--images nowhere: is no folder"),
        (["--class-names", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--class-names", "coco"], "has 2 classes, but there are 80 names"),
    ],
)
def test_a_wrong_option_is_a_sentence(flags: list[str], part: str, tmp_path: Path, refusal: Refusal) -> None:
    path = coco(tmp_path / "a.json", [box([0, 0, 5, 5])])
    assert part in refusal("anchors", str(path), "--output", str(tmp_path / "out"), *flags)


def test_ids_that_are_there_twice_are_said(tmp_path: Path) -> None:
    images = [{"id": 7, "width": 100, "height": 100}, {"id": 7, "width": 200, "height": 100}]
    categories = [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 4}]
    read = read_annotations(coco(tmp_path / "a.json", [box([0, 0, 100, 50])], images=images, categories=categories))
    assert read.remarks == (
        "1 images share an id, of which the last counts",
        "1 categories share an id, of which the last counts",
    )
    assert read.classes == ("dog", "4")
    assert read.boxes[0].tolist() == [0, 0, 0.5, 0.5]


def test_names_of_strangers_cannot_colour_a_terminal_or_break_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    categories = [{"id": 3, "name": "q\n\x1b[31mred \ud800"}, {"id": 1, "name": "n" * 300}]
    path = coco(tmp_path / "a.json", [box([0, 0, 5, 5]), box([0, 0, 9, 5], category_id=1)], categories=categories)
    assert main(["anchors", str(path), "--output", str(tmp_path / "out"), "--seed", "99999999999"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) < 120
    assert "the boxes have 2 different sizes" in err
    assert "elbow" not in out
    assert len(list(csv.DictReader((tmp_path / "out" / "classes.csv").open(encoding="utf-8")))) == 2


def test_pictures_are_looked_for_below_their_folder_alone(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "secret.png", tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(elsewhere), np.full((100, 200, 3), 128, np.uint8))
    for name in (str(elsewhere), "../secret.png", "a" * 300 + ".png", "a\0b.png"):
        images = [{"id": 7, "width": 200, "height": 100, "file_name": name}]
        path = coco(tmp_path / "a.json", [box([0, 0, 5, 5])], images=images)
        assert main(["anchors", str(path), "--output", str(tmp_path / "out"), "--images", str(folder)]) == 0
        assert not (tmp_path / "out" / "samples.png").exists()
