"""The commands as a user meets them: what is said where, and the exit status."""

import csv
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import GoldenVector, Manifest
from stn_runtime.cli import COMMANDS
from stn_runtime.commands.summary import Summary
from stn_runtime.images.reading import read_image
from stn_runtime.images.writing import write_image
from stn_runtime.machine.interpreter import PIP
from stn_runtime.model.golden import make_golden
from stn_runtime.sources.result_folders import MARK
from tests.support.process import without_summary

Stn = Callable[..., tuple[int, str, str]]
Spawn = Callable[..., subprocess.Popen[bytes]]
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="lists PyTorch networks")

RUNS = "tiny runs on CPUExecutionProvider\n"


def _records(text: str) -> list[dict[str, Any]]:
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def _one_sentence(errors: str) -> str:
    errors = errors.removeprefix(RUNS)
    assert errors.startswith("stn: "), errors
    assert errors.count("\n") == 1, errors
    return errors.removeprefix("stn: ").rstrip("\n")


# --- run


def test_run_writes_a_json_line_for_each_picture_to_a_pipe(
    stn: Stn, folder_of_pictures: Path, grey_model: Path
) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model)
    assert status == 0
    records = _records(out)
    assert [Path(record["source"]).name for record in records] == ["d.PNG", "c.png", "b.png"]
    assert [record["label"] for record in records] == ["middle", "bright", "dark"]
    assert [record["confidence"] for record in records] == [pytest.approx(0.5, abs=1e-4), 1.0, 1.0]
    # 12 x 16 pictures: x = 8 u + 7.5, y = 6 v + 5.5; the outline starts at (-0.25, -0.75)
    assert records[0]["outline"][0][0] == [5.5, 1.0]
    assert without_summary(errors) == f"{RUNS}3 frames, 0 failed\n"


def test_a_bad_picture_is_a_record_and_exit_1(stn: Stn, folder_of_pictures: Path, grey_model: Path) -> None:
    (folder_of_pictures / "a" / "b" / "bad.jpg").write_bytes(b"")
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model)
    assert status == 1
    bad, *good = _records(out)
    assert bad == {
        "source": str(folder_of_pictures / "a/b/bad.jpg"),
        "frame": 0,
        "time": None,
        "error": f"{folder_of_pictures / 'a/b/bad.jpg'}: is empty (0 bytes)",
    }
    assert len(good) == 3
    assert without_summary(errors) == f"{RUNS}4 frames, 1 failed\n"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_results_go_to_a_file(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"results{suffix}"
    status, out, _ = stn("run", folder_of_pictures, "-m", grey_model, "-o", target)
    assert (status, out) == (0, "")
    text = target.read_text(encoding="utf-8")
    labels = [row["label"] for row in (_records(text) if suffix == ".jsonl" else csv.DictReader(text.splitlines()))]
    assert labels == ["middle", "bright", "dark"]


def test_topk_and_conf_reach_the_records(stn: Stn, folder_of_pictures: Path, grey_model: Path) -> None:
    _, out, _ = stn("run", folder_of_pictures, "-m", grey_model, "--topk", "2", "--conf", "0.9", "--threads", "1")
    records = _records(out)
    assert [len(record["top"]) for record in records] == [2, 2, 2]
    assert [record["label"] for record in records] == [None, "bright", "dark"]


def test_annotated_copies_keep_the_tree(stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path) -> None:
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "--save", tmp_path / "out")
    assert status == 0
    saved = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*") if path.name != MARK
    )
    assert saved == ["a/b/d.PNG", "a/c.png", "b.png"]
    assert read_image(tmp_path / "out" / "b.png").shape == (240, 320, 3)
    assert without_summary(errors) == f"{RUNS}3 frames, 0 failed\nannotated in {tmp_path / 'out'}\n"


def test_a_video_gives_a_record_a_frame_and_an_annotated_video(
    stn: Stn, make_video: Callable[..., Path], rgb_model: Path, tmp_path: Path
) -> None:
    video = make_video(colour=(0, 255, 0))
    status, out, _ = stn("run", video, "-m", rgb_model, "--save", tmp_path / "out.avi")
    assert status == 0
    assert [(record["frame"], record["label"]) for record in _records(out)] == [(n, "green") for n in range(12)]
    capture = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_pictures_are_not_saved_as_a_video(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path
) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model, "--save", tmp_path / "out.mp4")
    assert (status, out) == (2, "")
    assert _one_sentence(errors).endswith("pictures are saved in a folder, not in a video; give --save FOLDER")


def test_pictures_are_not_saved_over_themselves(stn: Stn, folder_of_pictures: Path, grey_model: Path) -> None:
    before = (folder_of_pictures / "b.png").read_bytes()
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "--save", folder_of_pictures)
    assert status == 2
    assert "is the source; save in another folder" in _one_sentence(errors)
    assert (folder_of_pictures / "b.png").read_bytes() == before


@pytest.mark.skipif("NONE" not in cv2.getBuildInformation().split("GUI:")[1].splitlines()[0], reason="has windows")
def test_show_without_windows_is_one_sentence(stn: Stn, folder_of_pictures: Path, grey_model: Path) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model, "--show")
    assert (status, out) == (2, "")
    assert _one_sentence(errors).startswith("--show: this OpenCV is built without windows")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gone.jpg",), "gone.jpg: no such file or folder"),
        (("*.nothing",), "*.nothing: the pattern matches no file"),
        (("97",), "camera 97: cannot be opened"),
        (("http://127.0.0.1:9/x",), "http://127.0.0.1:9/x: cannot be opened"),
        (("PHOTOS", "-m", "nonesuch"), "nonesuch: no such file and no released model of that name"),
        (("PHOTOS", "-m", "PHOTOS/notes.txt"), "notes.txt: onnxruntime cannot load it"),
        (("PHOTOS", "-o", "x.txt"), "x.txt: results are written as .jsonl or .csv"),
        (("PHOTOS", "-m", "MODEL", "--providers", "Nope"), "execution provider Nope is not available here"),
    ],
)
def test_what_cannot_start_is_one_sentence_and_exit_2(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, arguments: tuple[str, ...], told: str
) -> None:
    given = [word.replace("PHOTOS", str(folder_of_pictures)).replace("MODEL", str(grey_model)) for word in arguments]
    status, out, errors = stn("run", *given)
    assert (status, out) == (2, "")
    assert told in _one_sentence(errors)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--topk", "0"), "argument --topk: must be a whole number of at least 1, got '0'"),
        (("--threads", "-2"), "argument --threads: must be a whole number from 1 to 256, got '-2'"),
        (("--threads", "20000"), "argument --threads: must be a whole number from 1 to 256, got '20000'"),
        (("--thread", "1"), "no option '--thread'; did you mean '--threads'?"),
        (("--conf", "1.5"), "argument --conf: must be a number between 0 and 1, got '1.5'"),
        (("--conf", "nan"), "argument --conf: must be a number between 0 and 1, got 'nan'"),
        (("--confidence", "1"), "no option '--confidence'"),
        (("--xyz=1",), "error: no option '--xyz'\n"),
    ],
)
def test_a_wrong_option_is_named(stn: Stn, arguments: tuple[str, ...], told: str) -> None:
    status, out, errors = stn("run", "x", *arguments)
    assert (status, out) == (2, "")
    assert told in errors


@pytest.mark.parametrize("option", ["--topk", "--threads", "--conf"])
def test_a_word_for_a_number_is_told_in_words(stn: Stn, option: str) -> None:
    status, _, errors = stn("run", "x", option, "many")
    assert status == 2
    assert "_positive" not in errors
    assert "_share" not in errors
    assert "'many'" in errors


@pytest.mark.parametrize("wrong", [("gone.jpg",), ("PHOTOS", "-m", "nonesuch")], ids=["source", "model"])
def test_a_run_that_cannot_start_leaves_earlier_results_alone(
    stn: Stn, folder_of_pictures: Path, tmp_path: Path, wrong: tuple[str, ...]
) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text('{"hours": "of work"}\n')
    status, _, _ = stn("run", *(word.replace("PHOTOS", str(folder_of_pictures)) for word in wrong), "-o", results)
    assert status == 2
    assert results.read_text() == '{"hours": "of work"}\n'


def test_names_of_any_kind_are_run(stn: Stn, grey_model: Path, tmp_path: Path, undecodable: str) -> None:
    names = ["a,b.png", "new\nline.png", "größe 写.png", f"{undecodable}.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        write_image(tmp_path / "in" / name, np.full((6, 8), 255, np.uint8))
    status, out, _ = stn("run", tmp_path / "in", "-m", grey_model, "--save", tmp_path / "out")
    assert status == 0
    assert sorted(Path(record["source"]).name for record in _records(out)) == sorted(names)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, MARK])


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_readable_line_a_picture(spawn: Spawn, folder_of_pictures: Path, grey_model: Path) -> None:
    ours, theirs = os.openpty()
    process = spawn("run", folder_of_pictures / "b.png", "-m", grey_model, stdout=theirs)
    process.communicate(timeout=30)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert said == f"{folder_of_pictures / 'b.png'}: dark  100.0%\r\n"


# --- what is said at the end, and of errors


def test_a_run_ends_with_its_rate_and_how_often_it_said_each_label(
    stn: Stn, folder_of_pictures: Path, grey_model: Path
) -> None:
    write_image(folder_of_pictures / "z.png", np.full((6, 8), 255, np.uint8))
    (folder_of_pictures / "torn.png").write_bytes(b"")
    _, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "--conf", "0.9")
    assert re.search(r"\n5 frames, 1 failed, [\d.]+ a second\nlabels: bright: 2, \w+: 1, \w+: 1\n$", errors)
    assert sorted(re.findall(r"(\w+): 1\b", errors)) == ["dark", "unsure"]


def test_the_summary_names_the_ten_most_frequent_labels_and_shows_no_control_characters() -> None:
    summary = Summary(labels=Counter({"\x1b[2Jx": 30} | {f"l{count}": count for count in range(1, 13)}))
    shown = ", ".join(f"l{count}: {count}" for count in range(12, 3, -1))
    assert summary.text() == f"0 frames, 0 failed\nlabels: \\x1b[2Jx: 30, {shown}, 3 other labels"


def test_one_label_more_than_ten_is_named_and_what_has_no_label_always() -> None:
    digits = {str(digit): 2 for digit in range(10)} | {"no label (nothing)": 1}
    assert "other" not in Summary(labels=Counter(digits)).text()
    many = {f"l{count}": count for count in range(5, 25)} | {"no label (nothing)": 2, "unsure": 1}
    assert Summary(labels=Counter(many)).text().endswith("l15: 15, no label (nothing): 2, unsure: 1, 10 other labels")


def test_an_error_in_verbose_mode_shows_where_it_comes_from_and_no_password(stn: Stn) -> None:
    address = "http://me:secret@127.0.0.1:9/x"
    status, _, quiet = stn("run", address)
    assert (status, quiet.count("\n")) == (2, 1)
    for option in ("-v", "--verbose"):
        _, _, errors = stn("run", address, option)
        assert errors.count("Traceback (most recent call last):\n") >= 2  # of the camera's thread, and of the command
        assert "ConnectionRefusedError" in errors
        assert errors.endswith(f"\n{quiet}")
        assert "secret" not in errors


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_verbose(stn: Stn, command: str) -> None:
    if COMMANDS[command].extra:
        pytest.importorskip("torch")
    assert "-v, --verbose " in stn(command, "--help")[1]


def test_an_error_of_the_system_is_told_as_it_is(stn: Stn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("stn_runtime.commands.verify.verify", fail)
    status, out, errors = stn("verify", "digits")
    assert (status, out) == (2, "")
    assert errors == "stn: the system refused: Too many open files (option --verbose shows where)\n"


def test_the_log_of_this_project_is_shown_in_verbose_mode_alone(stn: Stn, monkeypatch: pytest.MonkeyPatch) -> None:
    def speak(_: object) -> int:
        logging.getLogger("stn_runtime.x").debug("a detail")
        logging.getLogger("stn_runtime.x").warning("a warning")
        logging.getLogger("other").debug("of another package")
        return 0

    monkeypatch.setattr("stn_runtime.commands.verify.verify", speak)
    assert stn("verify", "digits") == (0, "", "a warning\n")
    assert stn("verify", "digits", "-v") == (0, "", "stn_runtime.x: a detail\nstn_runtime.x: a warning\n")
    assert logging.getLogger("stn_runtime").level == logging.NOTSET


# --- interruption and broken pipes, in a process of its own


@pytest.fixture
def many_pictures(tmp_path: Path) -> Path:
    """400 names of one large picture: more seconds of work than a test waits for."""
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    write_image(folder / "000.png", noise)
    for index in range(1, 400):
        os.link(folder / "000.png", folder / f"{index:03}.png")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stream_with_whole_lines_and_130(
    spawn: Spawn,
    rgb_model: Path,
    camera: SimpleNamespace,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    for _ in range(3):  # a thread that is left behind does not crash every time
        process = spawn("run", camera.url, "-m", rgb_model, "--save", tmp_path / "out.avi")
        assert process.stdout is not None
        first = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        records = _records("".join(first) + out.decode())
        assert process.returncode == 130
        assert all(record["label"] == "red" for record in records)
        told = f"{RUNS}{len(records)} frames, 0 failed\nannotated in {tmp_path / 'out.avi'}\n"
        assert without_summary(errors) == told
        assert cv2.VideoCapture(str(tmp_path / "out.avi")).get(cv2.CAP_PROP_FRAME_COUNT) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_folder_with_everything_written_and_130(
    spawn: Spawn, grey_model: Path, many_pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    results = tmp_path / "results.jsonl"
    process = spawn("run", many_pictures, "-m", grey_model, "-o", results)
    deadline = time.monotonic() + 20
    while not (results.exists() and results.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    records = _records(results.read_text())
    assert process.returncode == 130
    assert 0 < len(records) < 400
    assert [Path(record["source"]).name for record in records] == [f"{n:03}.png" for n in range(len(records))]
    assert without_summary(errors) == f"{RUNS}{len(records)} frames, 0 failed\n"


def test_an_unplugged_stream_is_an_event_and_the_run_goes_on(
    spawn: Spawn, rgb_model: Path, camera: SimpleNamespace
) -> None:
    process = spawn("run", camera.url, "-m", rgb_model)
    assert process.stdout is not None
    process.stdout.readline()
    camera.unplug()
    lost: dict[str, Any] = {}
    while not lost.get("event"):
        lost = json.loads(process.stdout.readline())
    assert (lost["event"], lost["error"]) == ("source_lost", f"{camera.url}: stopped sending frames")
    camera.plug()
    back = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert back["event"] == "source_back"
    assert process.returncode == 130


def test_a_reader_that_leaves_early_gets_no_traceback(spawn: Spawn, grey_model: Path, many_pictures: Path) -> None:
    process = spawn("run", many_pictures, "-m", grey_model)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=20)
    assert b"Traceback" not in errors
    assert b"Exception" not in errors
    assert process.returncode not in (0, 2, 130)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("where", ["stdout", "output"])
def test_a_full_disk_is_one_sentence(
    spawn: Spawn, grey_model: Path, folder_of_pictures: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    arguments = ["run", folder_of_pictures, "-m", grey_model]
    with open("/dev/full", "w") as full:
        options = {"stdout": full} if where == "stdout" else {}
        if where == "output":
            arguments += ["-o", tmp_path / "full.jsonl"]
        _, errors = spawn(*arguments, **options).communicate(timeout=20)
    assert "No space left on device" in _one_sentence(errors.decode())


# --- verify


def test_verify_passes_for_a_good_model(stn: Stn, grey_model: Path) -> None:
    status, out, errors = stn("verify", grey_model)
    assert (status, errors) == (0, "")
    assert out.count(" ok\n") == 4
    assert "2 pictures, 0 labels differ\n" in out
    assert "grey.onnx answers as PyTorch did: 2 golden vectors, on CPUExecutionProvider" in out


@pytest.mark.parametrize(("name", "labels"), [("theta", 0), ("probabilities", 1)])
def test_verify_fails_for_a_tampered_golden_vector(
    stn: Stn,
    build_model: Callable[..., Path],
    expected_of: Callable[..., dict[str, NDArray[np.float32]]],
    manifest_of: Callable[..., Manifest],
    name: str,
    labels: int,
) -> None:
    picture = np.full((6, 8, 1), 10, np.uint8)
    outputs = expected_of(picture)
    outputs[name] = outputs[name][::-1].copy()
    path = build_model(golden=(*manifest_of(1).golden, make_golden(picture, outputs)))
    status, out, errors = stn("verify", path)
    assert (status, errors) == (1, "")
    (failed,) = [line for line in out.splitlines() if line.endswith("FAILED")]
    assert failed.startswith(name)
    assert f"3 pictures, {labels} labels differ\n" in out
    assert "tiny.onnx does NOT answer as PyTorch did: 3 golden vectors, on CPUExecutionProvider" in out


@pytest.mark.parametrize(
    ("golden", "told"),
    [
        ((), "tiny.onnx: carries no golden vectors; export it again with this version"),
        ((GoldenVector("AAAA", {}),), "tiny.onnx: golden vector 0 is damaged"),
    ],
)
def test_verify_without_good_golden_vectors_is_exit_2(
    stn: Stn, build_model: Callable[..., Path], golden: tuple[GoldenVector, ...], told: str
) -> None:
    status, out, errors = stn("verify", build_model(golden=golden))
    assert (status, out) == (2, "")
    assert told in _one_sentence(errors)


def test_verify_names_a_missing_provider(stn: Stn, grey_model: Path) -> None:
    status, _, errors = stn("verify", grey_model, "--providers", "NoSuchProvider")
    assert status == 2
    assert "NoSuchProvider is not available here" in _one_sentence(errors)


@pytest.mark.parametrize("command", ["verify", "models"])
def test_a_terminal_without_unicode_is_no_traceback(
    spawn: Spawn, build_model: Callable[..., Path], command: str
) -> None:
    path = build_model(name="größe.onnx", license="© someone")
    process = spawn(command, path, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


# --- models and help


def test_models_shows_the_card_of_a_file(stn: Stn, grey_model: Path) -> None:
    status, out, _ = stn("models", grey_model)
    assert status == 0
    assert out.startswith("tiny: 3 classes, 0.00 MB, Apache-2.0\n")
    assert "8 x 6 grey, stretch" in out
    assert "fused, float32, opset 18, target cpu" in out
    assert "stn: affine, (6, 8) to (3, 4), bilinear, padding zeros" in out
    assert "97.50" in out


def test_models_names_a_missing_file(stn: Stn) -> None:
    status, out, errors = stn("models", "gone.onnx")
    assert (status, out) == (2, "")
    assert "gone.onnx: no such file" in _one_sentence(errors)


BLOCK_TORCH = "import sys; sys.modules['torch'] = None; from stn_runtime.cli import main; sys.exit(main())"


def test_models_on_a_device_lists_the_released_ones_only(spawn: Spawn) -> None:
    process = spawn("models", code=BLOCK_TORCH)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    assert b"network" not in out


def test_models_on_a_device_says_what_a_network_needs(spawn: Spawn) -> None:
    process = spawn("models", "st-cnn", code=BLOCK_TORCH)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, b"")
    told = _one_sentence(errors.decode())
    assert told.startswith("no released model 'st-cnn'")
    assert f"{PIP} install 'stn-edge[train]'" in told


@needs_torch
def test_models_lists_networks_too(spawn: Spawn) -> None:
    out, errors = (process := spawn("models")).communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert b"st-cnn" in out


@needs_torch
def test_models_names_an_unknown_network(spawn: Spawn) -> None:
    out, errors = (process := spawn("models", "st-cmm")).communicate(timeout=60)
    assert (process.returncode, out) == (2, b"")
    assert "st-cmm" in _one_sentence(errors.decode())


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_every_command(stn: Stn, word: str) -> None:
    status, out, errors = stn(word)
    assert (status, errors) == (0, "")
    for name, command in COMMANDS.items():
        assert f"  {name} " in out
        assert command.help in out


@pytest.mark.parametrize("command", ["run", "verify", "models"])
def test_each_command_has_help(stn: Stn, command: str) -> None:
    status, out, _ = stn(command, "--help")
    assert status == 0
    assert out.startswith(f"usage: stn {command}")


def test_no_command_is_help_on_stderr_and_exit_2(stn: Stn) -> None:
    status, out, errors = stn()
    assert (status, out) == (2, "")
    assert "commands ('stn COMMAND --help' tells more):" in errors


def test_an_unknown_command_is_named(stn: Stn) -> None:
    status, out, errors = stn("rum", "x")
    assert (status, out) == (2, "")
    assert errors.endswith("error: no command 'rum'; did you mean 'run'?\n")
    assert "no command 'xyz'; choose from run, verify, " in stn("xyz")[2]


def test_the_version_is_told(stn: Stn) -> None:
    status, out, _ = stn("--version")
    assert status == 0
    assert out.startswith("stn-edge ")


def test_run_never_loads_torch(folder_of_pictures: Path, grey_model: Path) -> None:
    code = "import sys; from stn_runtime.cli import main; main(); sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))"
    command = [sys.executable, "-c", code, "run", str(folder_of_pictures), "-m", str(grey_model)]
    assert subprocess.run(command, capture_output=True).returncode == 0
