"""The options of ``stn run`` as a user meets them."""

import fcntl
import json
import math
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from stn_runtime import Classifier
from stn_runtime.commands import open_run, run
from stn_runtime.commands.tuning import Setup
from stn_runtime.images.reading import read_image
from stn_runtime.images.writing import write_image
from stn_runtime.model.theta_statistics import ThetaStatistics
from stn_runtime.sources.opening import open_source
from tests.support.process import without_summary

Stn = Callable[..., tuple[int, str, str]]
Spawn = Callable[..., subprocess.Popen[bytes]]

RUNS = "tiny runs on CPUExecutionProvider\n"


def _records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _names(text: str) -> list[str]:
    return [Path(record["source"]).name for record in _records(text)]


def _one_sentence(errors: str) -> str:
    errors = errors.removeprefix(RUNS)
    assert errors.startswith("stn: "), errors
    assert errors.count("\n") == 1, errors
    return errors.removeprefix("stn: ").rstrip("\n")


# --- which frames


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--limit", "2"), ["d.PNG", "c.png"]),
        (("--limit", "99"), ["d.PNG", "c.png", "b.png"]),
        (("--stride", "2"), ["d.PNG", "b.png"]),
        (("--stride", "5"), ["d.PNG"]),
        (("--stride", "2", "--limit", "1"), ["d.PNG"]),
        (("--loop", "--limit", "7"), ["d.PNG", "c.png", "b.png", "d.PNG", "c.png", "b.png", "d.PNG"]),
        (("--loop", "--stride", "2", "--limit", "3"), ["d.PNG", "b.png", "d.PNG"]),
    ],
)
def test_of_a_folder_only_the_wanted_pictures_are_run(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, options: tuple[str, ...], names: list[str]
) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model, *options)
    assert (status, without_summary(errors)) == (0, f"{RUNS}{len(names)} frame{'s' * (len(names) > 1)}, 0 failed\n")
    assert _names(out) == names


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (("--limit", "5"), [0, 1, 2, 3, 4]),
        (("--stride", "4"), [0, 4, 8]),
        (("--max-fps", "5"), [0, 2, 4, 6, 8, 10]),  # of 10 a second
        (("--loop", "--stride", "6", "--limit", "5"), [0, 6, 0, 6, 0]),
    ],
)
def test_of_a_video_only_the_wanted_frames_are_run(
    stn: Stn, make_video: Callable[..., Path], rgb_model: Path, options: tuple[str, ...], frames: list[int]
) -> None:
    status, out, _ = stn("run", make_video(), "-m", rgb_model, *options)
    assert status == 0
    assert [record["frame"] for record in _records(out)] == frames


def test_a_limited_run_is_gone_on_with(stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    stn("run", folder_of_pictures, "-m", grey_model, "-o", results, "--limit", "2")
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "-o", results, "--resume")
    assert (status, without_summary(errors)) == (
        0,
        f"{results}: 2 records are there already\n{RUNS}1 frame, 0 failed\n",
    )
    assert _names(results.read_text()) == ["d.PNG", "c.png", "b.png"]


def test_several_sources_are_read_in_turn(
    stn: Stn, folder_of_pictures: Path, make_video: Callable[..., Path], grey_model: Path
) -> None:
    video = make_video(frames=2)
    status, out, _ = stn("run", folder_of_pictures / "b.png", video, folder_of_pictures / "a", "-m", grey_model)
    assert status == 0
    assert _names(out) == ["b.png", "clip.avi", "clip.avi", "d.PNG", "c.png"]
    assert [record["frame"] for record in _records(out)] == [0, 0, 1, 0, 0]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts open files")
def test_of_many_videos_only_the_one_that_is_read_is_open(make_video: Callable[..., Path]) -> None:
    paths = [make_video(frames=2)]
    for index in range(1, 20):
        paths.append(paths[0].with_name(f"{index}.avi"))
        os.link(paths[0], paths[-1])
    before = len(os.listdir("/dev/fd"))
    source = open_source([str(path) for path in paths])
    most = max(len(os.listdir("/dev/fd")) for _ in source)
    assert most - before < 10


def test_a_video_that_is_gone_when_its_turn_comes_is_a_record(
    stn: Stn, make_video: Callable[..., Path], grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_video("a.avi", 2), make_video("b.avi", 2)
    made = open_run._open_classifier

    def late(*arguments: Any) -> Any:  # noqa: ANN401
        first.unlink()
        return made(*arguments)

    monkeypatch.setattr(open_run, "_open_classifier", late)
    status, out, errors = stn("run", first, second, "-m", grey_model)
    assert (status, without_summary(errors)) == (1, f"{RUNS}3 frames, 1 failed\n")
    lost, *rest = _records(out)
    assert lost["error"].startswith(f"{first}: cannot be opened as a video")
    assert [(record["source"], record["frame"]) for record in rest] == [(str(second), 0), (str(second), 1)]


def test_a_list_of_pictures_is_read_in_its_order(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder_of_pictures)
    Path("some.txt").write_text("b.png\r\n\r\na/b/d.PNG\r\ngone.png\r\n")
    status, out, errors = stn("run", "some.txt", "-m", grey_model)
    assert (status, without_summary(errors)) == (1, f"{RUNS}3 frames, 1 failed\n")
    assert [record["source"] for record in _records(out)] == ["b.png", "a/b/d.PNG", "gone.png"]


def test_a_list_on_standard_input_is_answered_line_by_line(
    spawn: Spawn, folder_of_pictures: Path, grey_model: Path
) -> None:
    process = spawn("run", "-", "-m", grey_model, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for name in ("b.png", "a/c.png"):
        process.stdin.write(f"{folder_of_pictures / name}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["source"] == str(folder_of_pictures / name)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, without_summary(errors)) == (0, b"", f"{RUNS}2 frames, 0 failed\n")


def test_a_watched_folder_is_run_until_the_limit(
    spawn: Spawn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path
) -> None:
    process = spawn("run", folder_of_pictures, "-m", grey_model, "--watch", "--limit", "4")
    assert process.stdout is not None
    first = [json.loads(process.stdout.readline())["source"] for _ in range(3)]
    assert sorted(Path(name).name for name in first) == ["b.png", "c.png", "d.PNG"]
    write_image(tmp_path / "new.png", np.full((6, 8), 255, np.uint8))
    (tmp_path / "new.png").rename(folder_of_pictures / "a" / "new.png")
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, without_summary(errors)) == (0, f"{RUNS}4 frames, 0 failed\n")
    assert [(Path(record["source"]).name, record["label"]) for record in _records(out.decode())] == [
        ("new.png", "bright")
    ]


def test_a_watched_folder_may_be_empty_and_a_signal_ends_it(spawn: Spawn, grey_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    process = spawn("run", tmp_path / "in", "-m", grey_model, "--watch")
    write_image(tmp_path / "in" / "x.png", np.zeros((6, 8), np.uint8))
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["label"] == "dark"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, without_summary(errors)) == (130, f"{RUNS}1 frame, 0 failed\n")


# --- results


def test_crops_are_saved_in_a_folder_for_each_label(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path
) -> None:
    crops = tmp_path / "crops"
    status, _, _ = stn("run", folder_of_pictures, "-m", grey_model, "--save-crops", crops, "--conf", "0.9")
    assert status == 0
    saved = {path.relative_to(crops).parts[0]: read_image(path) for path in crops.rglob("*.png")}
    assert {label: (crop.shape[:2], int(crop.mean())) for label, crop in saved.items()} == {
        "bright": ((3, 4), 255),
        "dark": ((3, 4), 0),
        "_unsure": ((3, 4), 128),
    }


def test_crops_of_a_model_that_gives_none_are_refused(
    stn: Stn, folder_of_pictures: Path, build_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = build_model(1, outputs=("probabilities", "theta", "outline"), golden=())
    model = onnx.load(path)
    del model.graph.output[3]
    onnx.save(model, path)
    status, out, errors = stn("run", folder_of_pictures, "-m", path, "--save-crops", tmp_path / "crops")
    assert (status, out) == (2, "")
    assert _one_sentence(errors).endswith("gives no rectified picture for --save-crops; export it with that output")
    assert not (tmp_path / "crops").exists()


def test_a_command_is_run_for_each_picture_in_order(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    command = f'echo "$STN_EVENT $STN_LABEL ${{STN_SOURCE##*/}}" >> {kept}'
    status, out, _ = stn("run", folder_of_pictures, "-m", grey_model, "--on-event", command)
    assert status == 0
    assert kept.read_text().splitlines() == ["label middle d.PNG", "label bright c.png", "label dark b.png"]
    assert len(_records(out)) == 3


@pytest.mark.parametrize("option", ["--save", "--save-crops"])
def test_pictures_of_one_name_in_several_folders_are_saved_side_by_side(
    stn: Stn, tmp_path: Path, rgb_model: Path, option: str
) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.png", np.full((4, 4), 7, np.uint8))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a/x.png\n{tmp_path}/b/x.png\n")
    for sources in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "list.txt",)):
        out = tmp_path / f"out of {len(sources)}"
        assert stn("run", *sources, "-m", rgb_model, option, out)[0] == 0
        saved = sorted(path.parent.name for path in out.rglob("*.png"))
        assert saved == ["a", "b"]


def test_a_signal_while_a_camera_opens_is_an_interruption(spawn: Spawn, grey_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = spawn("run", f"http://127.0.0.1:{silent.getsockname()[1]}/video", "-m", grey_model)
        connection, _ = silent.accept()  # and never answers
        process.send_signal(signal.SIGTERM)
        assert process.wait(8) == 130
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_of_files_whose_commands_are_slow(
    spawn: Spawn, grey_model: Path, folder_of_pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = f"echo $$ >> {tmp_path}/pids; sleep 30"
    process = spawn("run", folder_of_pictures, "-m", grey_model, "--on-event", command)
    limit = time.monotonic() + 20
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(15) == 130
    assert len((tmp_path / "pids").read_text().split()) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pids").read_text()), 0)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="of Unix")
def test_a_lost_terminal_ends_a_run_with_everything_written(
    spawn: Spawn, rgb_model: Path, camera: SimpleNamespace, tmp_path: Path
) -> None:
    process = spawn("run", camera.url, "-m", rgb_model, "--save", tmp_path / "out.mp4")
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert open_source(str(tmp_path / "out.mp4")).total


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="of Unix")
def test_under_nohup_a_run_goes_on_without_its_terminal(spawn: Spawn, rgb_model: Path, camera: SimpleNamespace) -> None:
    process = spawn("run", camera.url, "-m", rgb_model, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    for _ in range(20):
        assert process.stdout.readline()
    assert process.poll() is None


def test_two_signals_at_once_are_no_traceback(spawn: Spawn, rgb_model: Path, camera: SimpleNamespace) -> None:
    process = spawn("run", camera.url, "-m", rgb_model)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert b"Traceback" not in errors
    assert process.returncode in (130, -signal.SIGTERM, -signal.SIGINT)


def test_a_signal_while_a_run_is_closed_lets_it_finish(
    spawn: Spawn, grey_model: Path, camera: SimpleNamespace, tmp_path: Path
) -> None:
    video = tmp_path / "out.mp4"
    command = f"touch {tmp_path}/began; sleep 4"
    process = spawn("run", camera.url, "-m", grey_model, "--limit", "5", "--save", video, "--on-event", command)
    until = time.monotonic() + 20
    while not (tmp_path / "began").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1.0)  # the frames are done, the command is not
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 130
    assert open_source(str(video)).total


def test_results_within_the_source_are_not_read_again(stn: Stn, folder_of_pictures: Path, rgb_model: Path) -> None:
    inside = folder_of_pictures / "out"
    for _ in range(2):
        status, out, _ = stn("run", folder_of_pictures, "-m", rgb_model, "--save", inside / "a", "--save-crops", inside)
        assert (status, len(_records(out))) == (0, 3)


@pytest.mark.parametrize("option", ["--save", "--save-crops"])
def test_a_resumed_run_saves_beside_what_is_there(
    stn: Stn, folder_of_pictures: Path, rgb_model: Path, tmp_path: Path, option: str
) -> None:
    twins = tmp_path / "twins"
    shutil.copytree(folder_of_pictures, twins)
    arguments = (folder_of_pictures, twins, "-m", rgb_model, "-o", tmp_path / "r.jsonl", option, tmp_path / "out")
    stn("run", *arguments, "--limit", "4")
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.[pP]*")}
    assert stn("run", *arguments, "--resume")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.[pP]*")}
    assert len(first) == 4
    assert len(after) == 6
    assert {path: after[path] for path in first} == first


def test_results_that_are_deleted_during_a_run_are_told(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, pipeline = tmp_path / "r.jsonl", run.classify

    def deleting(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        results.unlink()
        return pipeline(*arguments, **options)

    monkeypatch.setattr(run, "classify", deleting)
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "-o", results)
    assert status == 2
    assert _one_sentence(errors) == f"{results}: was deleted during the run, and its records with it"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="plays a full disk")
def test_results_on_a_full_disk_are_one_sentence(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.jsonl").symlink_to("/dev/full")
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "-o", tmp_path / "r.jsonl")
    assert status == 2
    assert _one_sentence(errors).startswith(f"{tmp_path}/r.jsonl: cannot be written (No space left on device)")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_are_no_error(folder_of_pictures: Path, grey_model: Path, tmp_path: Path, closed: str) -> None:
    results = tmp_path / "r.jsonl"
    program = f"{shlex.quote(sys.executable)} -c 'from stn_runtime.cli import console; console()'"
    done = subprocess.run(f"{program} run {folder_of_pictures} -m {grey_model} -o {results} {closed}", shell=True)
    assert done.returncode == 0
    assert len(results.read_text().splitlines()) == 3


def test_a_released_model_goes_before_a_folder_of_its_name(
    stn: Stn, folder_of_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of_pictures.rename(tmp_path / "digits")
    status, out, _ = stn("run", "digits")
    assert (status, len(_records(out))) == (0, 3)


def test_a_video_is_resumed_behind_its_last_frame_whatever_the_stride(
    stn: Stn, make_video: Callable[..., Path], rgb_model: Path, tmp_path: Path
) -> None:
    video, results = make_video(), tmp_path / "r.jsonl"
    stn("run", video, "-m", rgb_model, "-o", results, "--limit", "2")
    assert stn("run", video, "-m", rgb_model, "-o", results, "--resume", "--stride", "3")[0] == 0
    assert stn("run", video, "-m", rgb_model, "-o", results, "--resume", "--stride", "3")[0] == 0
    assert [record["frame"] for record in _records(results.read_text())] == [0, 1, 3, 6, 9]


@pytest.mark.parametrize("option", ["--save", "--save-crops", "--on-event", "--output"])
def test_an_empty_value_is_refused(stn: Stn, option: str) -> None:
    status, _, errors = stn("run", "x", option, "")
    assert status == 2
    assert errors.endswith(f"argument {'-o/--output' if option == '--output' else option}: is empty\n")


def test_smoothing_averages_the_frames_of_a_video(stn: Stn, make_video: Callable[..., Path], grey_model: Path) -> None:
    def probabilities(*options: str) -> np.ndarray:
        _, out, _ = stn("run", video, "-m", grey_model, "--topk", "3", *options)
        tops = [{score["label"]: score["probability"] for score in record["top"]} for record in _records(out)]
        return np.array([[top[label] for label in ("dark", "middle", "bright")] for top in tops])

    video = make_video()
    raw, smooth = probabilities(), probabilities("--smooth", "0.5")
    expected = raw[:1]
    for row in raw[1:]:  # frames are a tenth of a second apart
        expected = np.vstack((expected, expected[-1] + (1 - math.exp(-0.1 / 0.5)) * (row - expected[-1])))
    np.testing.assert_allclose(smooth, expected, atol=1e-4)
    assert np.abs(smooth - raw).max() > 0.1


def test_doubt_is_in_the_records_and_keeps_crops_apart(
    stn: Stn, folder_of_pictures: Path, build_model: Callable[..., Path], tmp_path: Path
) -> None:
    # From (1, 0, 0, 0, 1, 0) to (0.5, 0, 0.25, 0, 0.5, -0.25) are 0.79, of which a tenth is a deviation.
    whitening = tuple(tuple(row) for row in (10 * np.eye(6)).tolist())
    statistics = ThetaStatistics((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), whitening, 4.4, 1000)
    crops = tmp_path / "crops"
    status, out, _ = stn("run", folder_of_pictures, "-m", build_model(1, theta=statistics), "--save-crops", crops)
    assert status == 0
    told = "theta is unlike training (distance 7.9, limit 4.4)"
    assert [record["uncertain"] for record in _records(out)] == [told] * 3
    assert [path.name for path in crops.iterdir() if path.is_dir()] == ["_unsure"]
    assert stn("run", folder_of_pictures, "-m", build_model(1), "--limit", "1")[1].count('"uncertain": null') == 1


@pytest.mark.skipif(not (find_spec("starlette") and find_spec("uvicorn")), reason="needs stn-edge[serve]")
def test_a_run_is_served_while_it_runs(spawn: Spawn, rgb_model: Path, camera: SimpleNamespace) -> None:
    process = spawn("run", camera.url, "-m", rgb_model, "--serve", "0", stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    said = [process.stderr.readline().decode() for _ in range(2)]
    (url,) = re.findall(r"^serving (http://127\.0\.0\.1:\d+/)$", "".join(said), re.MULTILINE)
    with urllib.request.urlopen(f"{url}healthz", timeout=10) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{url}metrics", timeout=10) as answer:
        (frames,) = re.findall(r"^stn_frames_total\S* (\d+)", answer.read().decode(), re.MULTILINE)
    assert int(frames) > 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 130


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs a pipe that is soon full")
@pytest.mark.parametrize("where", ["stdout", "output"])
def test_a_reader_that_is_stuck_does_not_keep_a_live_run_from_ending(
    spawn: Spawn, rgb_model: Path, camera: SimpleNamespace, tmp_path: Path, where: str
) -> None:
    os.mkfifo(tmp_path / "records.jsonl")
    stuck = os.open(tmp_path / "records.jsonl", os.O_RDWR)
    fcntl.fcntl(stuck, fcntl.F_SETPIPE_SZ, 4096)
    code = "import stn_runtime.cli as cli, stn_runtime.machine.worker as it; it._DRAIN_SECONDS = 0.3; cli.console()"
    output = ["-o", tmp_path / "records.jsonl"] if where == "output" else []
    with open(stuck, "wb") as pipe:
        process = spawn("run", camera.url, "-m", rgb_model, *output, code=code, stdout=pipe)
        assert process.stderr is not None
        process.stderr.readline()
        for _ in range(500):  # until the pipe is full
            if not select.select([], [pipe], [], 0)[1]:
                break
            time.sleep(0.02)
        time.sleep(0.3)  # and somebody is waiting for it
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert b"records: " in errors


# --- the engine


def test_tuning_says_what_is_fastest_and_remembers_it(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = []
    for _ in range(2):
        status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "--tune")
        assert status == 0
        setup = r"--providers CPUExecutionProvider --threads \d+ \(\d+\.\d\d ms a picture\), measured \d{4}-\d\d-\d\d"
        anew = f"'stn bench {re.escape(str(grey_model))}' measures anew"
        tuned = re.match(rf"(fastest here: {setup}; {anew}\n){RUNS}3 frames, 0 failed\n$", without_summary(errors))
        assert tuned is not None
        told.append(tuned[1])
    assert told[0] == told[1]


def test_what_was_measured_is_how_it_is_run(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def classifier(*arguments: Any, **options: Any) -> Classifier:  # noqa: ANN401
        made.append((options["providers"], options["threads"], options["spin"]))
        return Classifier(*arguments, **options)

    winner = Setup(("CPUExecutionProvider",), 3, 1.0, "2026-12-01")
    monkeypatch.setattr(open_run, "tuned", lambda _model, _providers: winner)
    monkeypatch.setattr(open_run, "Classifier", classifier)
    status, _, errors = stn("run", folder_of_pictures, "-m", grey_model, "--tune")
    assert status == 0
    assert errors.startswith("fastest here: --providers CPUExecutionProvider --threads 3 (1.00 ms a picture), measured")
    assert made == [(("CPUExecutionProvider",), 3, False)]  # with threads that do not spin, as ``tuning`` measures them


@pytest.mark.parametrize("providers", [("auto",), ("CPUExecutionProvider",)])
def test_providers_may_be_named_or_left_to_us(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, providers: tuple[str, ...]
) -> None:
    status, out, _ = stn("run", folder_of_pictures, "-m", grey_model, "--providers", *providers)
    assert status == 0
    assert len(_records(out)) == 3


# --- what cannot be


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("PHOTOS", "--token", "x"), "--token is for --serve: name its port"),
        (("PHOTOS", "--resume"), "--resume goes on with a results file: name it with --output"),
        (("PHOTOS", "--resume", "--loop", "-o", "OUT.csv"), "--loop reads everything again: leave --resume out"),
        (("PHOTOS/b.png", "--watch"), "b.png: --watch takes one folder"),
        (("PHOTOS", "PHOTOS/a", "--watch"), "photos: --watch takes one folder"),
        (("PHOTOS", "--watch", "--loop"), "--watch reads each picture once: leave --loop and --stride out"),
        (("PHOTOS", "--watch", "--stride", "2"), "--watch reads each picture once: leave --loop and --stride out"),
        (("-", "--loop"), "-: --loop takes one source that can be read again"),
        (("PHOTOS", "PHOTOS/a", "--loop"), "photos: --loop takes one source that can be read again"),
        (("PHOTOS", "--max-fps", "5"), "--max-fps is for videos and cameras: pictures have no time; take --stride"),
        (("PHOTOS", "0"), "photos: files and cameras (camera 0) are not read in one run; start two"),
        (("PHOTOS", "PHOTOS"), "photos: is named twice; name it once"),
        (("0", "--loop"), "0: a camera has no end to loop at and is no folder to watch"),
        (("PHOTOS/b.png", "PHOTOS/a", "--save", "OUT.mp4"), "OUT.mp4: 2 sources do not fit one video"),
        (("PHOTOS", "--backend", "nonesuch"), "--backend nonesuch: this OpenCV has"),
        (("PHOTOS", "--providers", "auto", "Nope"), "not available here"),
        (("PHOTOS", "--save-crops", "PHOTOS/b.png"), "b.png: cannot be made a folder (File exists)"),
        (("picam",), "picam: needs picamera2, which is not installed"),
    ],
)
def test_what_does_not_go_together_is_one_sentence_and_exit_2(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    given = [word.replace("PHOTOS", str(folder_of_pictures)) for word in arguments]
    given = [word.replace("OUT", str(tmp_path / "OUT")) for word in given]
    status, out, errors = stn("run", *given, "-m", grey_model)
    assert (status, out) == (2, "")
    assert told in _one_sentence(errors)
    assert not list(tmp_path.glob("OUT*"))


@pytest.mark.skipif(not (find_spec("starlette") and find_spec("uvicorn")), reason="needs stn-edge[serve]")
@pytest.mark.parametrize("address", ["", "x", "-1", "70000", "host:", "0.0.0.0:0", "no-such-host.invalid:0"])
def test_an_address_that_cannot_be_served_is_one_sentence(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, address: str
) -> None:
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model, f"--serve={address}")
    assert (status, out) == (2, "")
    assert "--serve" in _one_sentence(errors)


@pytest.mark.parametrize("option", ["--limit", "--stride", "--topk", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
def test_a_number_that_cannot_be_counted_is_named(stn: Stn, option: str, value: str) -> None:
    status, out, errors = stn("run", "x", f"{option}={value}")
    assert (status, out) == (2, "")
    limits = "from 1 to 256" if option == "--threads" else "of at least 1"
    assert errors.endswith(f"argument {option}: must be a whole number {limits}, got '{value}'\n")


@pytest.mark.parametrize("option", ["--max-fps", "--rate", "--smooth", "--stall-seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_a_number_that_must_be_above_zero_is_named(stn: Stn, option: str, value: str) -> None:
    status, out, errors = stn("run", "x", f"{option}={value}")
    assert (status, out) == (2, "")
    assert errors.endswith(f"argument {option}: must be a number above 0, got '{value}'\n")


@pytest.mark.parametrize("value", ["640", "640x", "x480", "0x480", "640X480", "-1x5", "1.5x2", "640x480x3", "²x2"])
def test_a_size_is_width_by_height(stn: Stn, value: str) -> None:
    status, out, errors = stn("run", "x", f"--size={value}")
    assert (status, out) == (2, "")
    assert errors.endswith(f"argument --size: must be WIDTHxHEIGHT in pixels, such as 1280x720, got '{value}'\n")


def test_threads_are_given_or_measured(stn: Stn) -> None:
    status, _, errors = stn("run", "x", "--threads", "2", "--tune")
    assert status == 2
    assert errors.endswith("argument --tune: not allowed with argument --threads\n")


def test_a_folder_that_vanishes_before_it_is_read_is_one_sentence(
    stn: Stn, folder_of_pictures: Path, grey_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = open_run._open_classifier

    def late(*arguments: Any) -> Any:  # noqa: ANN401
        shutil.rmtree(folder_of_pictures)
        return made(*arguments)

    monkeypatch.setattr(open_run, "_open_classifier", late)
    status, out, errors = stn("run", folder_of_pictures, "-m", grey_model)
    assert (status, out) == (2, "")
    assert "the folder cannot be listed (No such file or directory)" in _one_sentence(errors)
