"""A model with a class that means none of the others, and with a threshold: what a run says then."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

Stn = Callable[..., tuple[int, str, str]]
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def rejecting(build_model: Callable[..., Path]) -> Path:
    """Of the folder of pictures, 'dark' means none of the others, and 'middle' (50 %) is below the threshold."""
    return build_model(1, name="rejecting.onnx", reject="dark", threshold=0.9)


def _by_name(text: str) -> dict[str, tuple[str | None, bool]]:
    records = [json.loads(line) for line in text.splitlines()]
    return {Path(record["source"]).stem: (record["label"], record["rejected"]) for record in records}


def test_the_model_says_by_itself_which_pictures_get_no_label(
    stn: Stn, folder_of_pictures: Path, rejecting: Path
) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", rejecting)
    assert status == 0
    assert _by_name(out) == {"b": (None, True), "c": ("bright", False), "d": (None, False)}
    assert errors.startswith("tiny runs on CPUExecutionProvider; no label below confidence 0.9 and for class 'dark'\n")
    counted = errors.splitlines()[-1].removeprefix("labels: ").split(", ")
    assert sorted(counted) == ["bright: 1", "no label (dark): 1", "unsure: 1"]


@pytest.mark.parametrize(("conf", "middle"), [("0", "middle"), ("0.4", "middle"), ("0.6", None)])
def test_conf_replaces_the_threshold_and_leaves_the_rejected_class(
    stn: Stn, folder_of_pictures: Path, rejecting: Path, conf: str, middle: str | None
) -> None:
    _, out, _ = stn("run", folder_of_pictures, "-m", rejecting, "--conf", conf)
    assert _by_name(out) == {"b": (None, True), "c": ("bright", False), "d": (middle, False)}


def test_a_csv_file_tells_rejected_from_unsure(
    stn: Stn, folder_of_pictures: Path, rejecting: Path, tmp_path: Path
) -> None:
    assert stn("run", folder_of_pictures, "-m", rejecting, "-o", tmp_path / "labels.csv")[0] == 0
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = {Path(row["source"]).stem: (row["label"], row["rejected"]) for row in csv.DictReader(file)}
    assert rows == {"b": ("", "true"), "c": ("bright", "false"), "d": ("", "false")}


def test_crops_of_the_rejected_class_are_kept_as_a_class_to_train_on(
    stn: Stn, folder_of_pictures: Path, rejecting: Path, tmp_path: Path
) -> None:
    assert stn("run", folder_of_pictures, "-m", rejecting, "--save-crops", tmp_path / "crops")[0] == 0
    saved = [path.relative_to(tmp_path / "crops") for path in (tmp_path / "crops").rglob("*.png")]
    crops = {path.name.partition(".")[0]: path.parts[0] for path in saved}
    assert crops == {"b": "dark", "c": "bright", "d": "_unsure"}


def test_pictures_without_a_label_run_no_command(
    stn: Stn, folder_of_pictures: Path, rejecting: Path, tmp_path: Path
) -> None:
    command = f'echo "$STN_EVENT $STN_LABEL" >> {tmp_path / "kept"}'
    assert stn("run", folder_of_pictures, "-m", rejecting, "--on-event", command)[0] == 0
    assert (tmp_path / "kept").read_text() == "label bright\n"


@pytest.mark.parametrize("fields", [{"reject": "red"}, {"threshold": 1.0}, {"reject": "red", "threshold": 1.0}])
def test_a_camera_whose_every_frame_gets_no_label_fires_no_event(
    spawn: Spawn, build_model: Callable[..., Path], camera: SimpleNamespace, tmp_path: Path, fields: dict[str, object]
) -> None:
    command = f"touch {tmp_path / 'fired'}"
    model = build_model(3, **fields)
    for smooth in ((), ("--smooth", "0.2")):
        process = spawn("run", camera.url, "-m", model, "--limit", "12", "--on-event", command, *smooth)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        records = [json.loads(line) for line in out.decode().splitlines()]
        assert [(record["label"], record["rejected"]) for record in records] == [(None, "reject" in fields)] * 12
        assert records[0]["top"][0]["label"] == "red"
    assert not (tmp_path / "fired").exists()


def test_the_same_camera_fires_where_the_class_is_one_like_the_others(
    spawn: Spawn, build_model: Callable[..., Path], camera: SimpleNamespace, tmp_path: Path
) -> None:
    command = f'echo "$STN_LABEL" >> {tmp_path / "fired"}'
    process = spawn("run", camera.url, "-m", build_model(3, reject="blue"), "--limit", "12", "--on-event", command)
    process.communicate(timeout=60)
    assert (tmp_path / "fired").read_text() == "red\n"


def test_every_command_that_shows_a_model_says_when_it_gives_no_label(stn: Stn, rejecting: Path) -> None:
    rule = "no label below confidence 0.9 and for class 'dark'"
    assert f"in a run   {rule}\n" in stn("models", rejecting)[1]
    assert stn("verify", rejecting)[1].endswith(f"in a run: {rule}\n")
    assert f"rejecting.onnx: tiny, 3 classes, fused, float32, opset 18, {rule}\n" in stn("doctor", rejecting)[1]
