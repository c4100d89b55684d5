"""``stn bench``: its arithmetic by hand, its figures against each other, and what it says to wrong use."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_runtime import Classifier, ModelContractError, PreprocessSpec
from stn_runtime.bench.cold_start import measure_cold_start
from stn_runtime.bench.command import make_picture
from stn_runtime.bench.comparison import Ratio, agreement, golden_pictures, median_interval
from stn_runtime.bench.timing import STAGES, Latency, decode, label, time_call, time_stages
from stn_runtime.doctor.package_check import PACKAGES, try_package
from stn_runtime.images.writing import write_image

Stn = Callable[..., tuple[int, str, str]]
QUICK = ("--seconds", "0.05", "--threads", "1")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """120 x 160 pixels of one dark grey."""
    path = tmp_path / "dark.jpg"
    write_image(path, np.full((120, 160), 20, np.uint8))
    return path


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_runtime.bench.timing._WARM_UP", 0)
    monkeypatch.setattr("stn_runtime.bench.command._COLD_STARTS", 1)


# --- arithmetic


def test_percentiles_are_times_that_so_many_passes_did_not_exceed() -> None:
    # 1, 2, ..., 200 ms in another order: 100 of 200 are at most 100 ms, 190 at most 190 ms, 198 at most 198 ms
    seconds = [(7 * index % 200 + 1) / 1000 for index in range(200)]
    found = Latency.of(seconds, images=4)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((100, 190, 198))
    assert found.images_per_second == pytest.approx(4 / 0.1)
    assert found.passes == 200


def test_the_99th_percentile_of_few_passes_is_the_slowest() -> None:
    found = Latency.of([0.003, 0.001, 0.002])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((2, 3, 3))


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (30, 10), (100, 40)])
def test_the_interval_of_a_median_has_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    """Ranks of two-sided 95 % intervals as tables of the sign test list them."""
    values = [float(value) for value in np.random.default_rng(0).permutation(count) + 1]
    assert median_interval(values) == (rank, count + 1 - rank)


def test_five_rounds_are_too_few_for_an_interval() -> None:
    with pytest.raises(ValueError, match="an interval needs 6 values, got 5"):
        median_interval([1, 2, 3, 4, 5])


def test_a_ratio_is_taken_round_by_round() -> None:
    # both slow down together by 10 between rounds: the ratios are 2 throughout, but for one that is 3
    first = [0.001, 0.002, 0.01, 0.001, 0.002, 0.01, 0.001]
    other = [0.002, 0.004, 0.02, 0.002, 0.006, 0.02, 0.002]
    found = Ratio.of(first, other)
    assert (found.first_ms, found.other_ms) == pytest.approx((2, 4))
    assert (found.ratio, found.low, found.high, found.rounds) == pytest.approx((2, 2, 3, 7))


# --- measuring


def test_a_call_is_timed_as_long_as_it_takes() -> None:
    found = time_call(lambda: time.sleep(0.01), 0.1, images=2)
    assert found.p50_ms >= 10
    assert found.images_per_second == pytest.approx(2000 / found.p50_ms)
    assert 5 <= found.passes <= 10


def test_the_stages_make_up_the_whole(rgb_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.jpg"
    write_image(path, make_picture())
    found = time_stages(path, Classifier(rgb_model, threads=1), 0.3)
    assert list(found) == [*STAGES, "whole"]
    together = sum(found[name].p50_ms for name in STAGES)
    assert 0.5 < together / found["whole"].p50_ms < 2
    assert found["decode"].p50_ms == max(found[name].p50_ms for name in STAGES)  # of 1920 x 1080 pixels for 8 x 6


def test_pictures_are_read_as_a_run_reads_them(build_model: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    write_image(path, np.full((480, 640), 255, np.uint8))
    classifier = Classifier(build_model(1), threads=1)
    found = decode(path, classifier)
    assert (found.image.shape, found.size) == ((60, 80), (480, 640))
    assert label(path, classifier) == "bright"


def test_the_picture_that_is_made_has_contrast_at_every_scale_and_is_the_same_each_time() -> None:
    picture = make_picture()
    assert (picture.shape, picture.dtype) == ((1080, 1920, 3), np.uint8)
    assert np.array_equal(picture, make_picture())
    for side in (1, 8, 64):
        cells = picture[: 1080 // side * side].reshape(1080 // side, side, 1920 // side, side, 3).mean((1, 3))
        assert np.abs(np.diff(cells, axis=0)).mean() > 5


def test_a_cold_start_is_the_sum_of_its_parts(grey_model: Path, picture: Path) -> None:
    found = measure_cold_start(grey_model, picture, threads=1)
    parts = (found.start_ms, found.import_ms, found.open_ms, found.first_ms)
    assert min(parts) > 0
    assert found.whole_ms == pytest.approx(sum(parts))


@pytest.mark.skipif(sys.platform != "linux", reason="where ru_maxrss counts the parent's memory")
def test_the_memory_of_a_cold_start_is_not_that_of_its_parent(grey_model: Path, picture: Path) -> None:
    ours = np.ones(40_000_000)  # 320 MB
    found = measure_cold_start(grey_model, picture, threads=1).peak_memory_bytes
    assert found is not None
    assert 20e6 < found < ours.nbytes


# --- the machine


@pytest.mark.usefixtures("in_haste")
def test_a_busy_machine_is_warned_of(
    stn: Stn, grey_model: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0), raising=False)
    _, _, errors = stn("bench", grey_model, "--picture", picture, "--batch", "1", *QUICK)
    assert errors.startswith("load 99.0 on ")


# --- two models


def test_a_model_answers_as_itself(grey_model: Path, picture: Path) -> None:
    one, other = Classifier(grey_model, threads=1), Classifier(grey_model, threads=1)
    pictures = [np.full((12, 16), 0, np.uint8), *golden_pictures([one, other])]
    assert len(pictures) == 3  # both carry the same two golden inputs
    found = agreement(one, other, pictures)
    assert (found.pictures, found.same_labels, found.largest_difference) == (3, 3, 0)


def test_other_answers_are_counted_and_measured(build_model: Callable[..., Path]) -> None:
    """The crop of a picture, black with a white middle, is white; stretched, its mean is half."""
    stretch = Classifier(build_model(1, name="stretch.onnx"), threads=1)
    crop = Classifier(build_model(1, name="crop.onnx", preprocess=PreprocessSpec(6, 8, 1, "crop")), threads=1)
    striped = np.zeros((6, 16), np.uint8)
    striped[:, 4:12] = 255
    found = agreement(stretch, crop, [striped, np.zeros((6, 8), np.uint8)])
    # dark (1 - m)^2, middle 2 m (1 - m), bright m^2: (1/4, 1/2, 1/4) at m = 1/2, (0, 0, 1) at m = 1
    assert (found.pictures, found.same_labels) == (2, 1)
    assert found.largest_difference == pytest.approx(0.75, abs=0.01)


def test_a_damaged_golden_vector_is_one_sentence(
    build_model: Callable[..., Path], manifest_of: Callable[..., Any]
) -> None:
    vector = manifest_of(1).golden[0]
    damaged = type(vector)(vector.image[:8], vector.outputs)
    classifier = Classifier(build_model(1, golden=(damaged,)), threads=1)
    with pytest.raises(ModelContractError, match=r"tiny\.onnx: a golden vector is damaged"):
        list(golden_pictures([classifier]))


# --- the command


@pytest.mark.usefixtures("in_haste")
def test_bench_prints_json(stn: Stn, grey_model: Path, picture: Path) -> None:
    arguments = ("--picture", picture, "--batch", "1", "3", "--compare", grey_model, "--json", *QUICK)
    status, out, _ = stn("bench", grey_model, *arguments)
    assert status == 0
    found = json.loads(out)
    assert found["model"]["size"] == grey_model.stat().st_size
    assert found["model"]["sha256"] == hashlib.sha256(grey_model.read_bytes()).hexdigest()
    assert [found["model"][key] for key in ("form", "precision", "opset", "target")] == ["fused", "float32", 18, "cpu"]
    assert (found["threads"], found["provider"]) == (1, "CPUExecutionProvider")
    assert {"stn-edge", "onnxruntime", "OpenCV", "numpy", "Python"} == set(found["host"]["versions"])
    assert found["picture"] == {
        "path": str(picture),
        "size": picture.stat().st_size,
        "width": 160,
        "height": 120,
        "decoded": [40, 30],  # at 1/8, were it on its side, less than twice the 8 x 6 pixels of the input would be left
    }
    assert set(found["stages"]) == {"decode", "resize", "infer", "post", "whole"}
    assert set(found["batches"]) == {"1", "3"}
    for latency in (*found["stages"].values(), *found["batches"].values()):
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
        assert latency["passes"] >= 5
    assert found["cold_start"]["whole_ms"] > 0
    assert found["tuning"] is None  # a number of threads was asked for
    comparison = found["comparison"]
    assert comparison["agreement"] == {"pictures": 3, "same_labels": 3, "largest_difference": 0}
    assert set(comparison["ratios"]) == {"whole", "infer x 1", "infer x 3"}
    for ratio in comparison["ratios"].values():
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]


@pytest.mark.usefixtures("in_haste")
def test_bench_prints_a_table_and_compares_times_of_models_with_other_labels(
    stn: Stn, grey_model: Path, rgb_model: Path
) -> None:
    status, out, _ = stn("bench", grey_model, "--compare", rgb_model, "--batch", "2", *QUICK)
    assert status == 0
    assert "generated for this measurement: 1920 x 1080" in out
    first_words = [line.split()[0] for line in out.splitlines() if line]
    for row in ("decode", "resize", "infer", "post", "whole"):
        assert row in first_words
    assert out.count("infer x 2 ") == 2
    assert out.endswith("their labels differ, so their answers were not compared\n")


@pytest.mark.usefixtures("in_haste")
def test_bench_compares_engines_and_threads_and_a_run_takes_the_winner(
    stn: Stn, grey_model: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stn_runtime.commands.tuning.usable_cpus", lambda: 2)
    status, out, _ = stn("bench", grey_model, "--picture", picture, "--batch", "1", "--seconds", "0.05")
    assert status == 0
    rows = [line.split() for line in out.splitlines() if line.startswith("CPUExecutionProvider")]
    assert [row[1] for row in rows] == ["1", "2"]
    [winner] = [row for row in rows if "--tune'" in row]
    assert winner[3] == "1.000"
    _, _, errors = stn("run", picture, "-m", grey_model, "--tune")
    assert f"fastest here: --providers CPUExecutionProvider --threads {winner[1]} (" in errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--batch", "0"), "--batch: must be a whole number from 1 to 1024, got '0'"),
        (("--batch", "2048"), "--batch: must be a whole number from 1 to 1024, got '2048'"),
        (("--batch", "4", "x"), "--batch: must be a whole number from 1 to 1024, got 'x'"),
        (("--seconds", "0"), "--seconds: must be a number above 0, at most 3600, got '0'"),
        (("--seconds", "-1"), "--seconds: must be a number above 0, at most 3600, got '-1'"),
        (("--seconds", "nan"), "--seconds: must be a number above 0, at most 3600, got 'nan'"),
        (("--threads", "0"), "--threads: must be a whole number from 1 to 256, got '0'"),
    ],
)
def test_wrong_figures_are_refused(stn: Stn, arguments: tuple[str, ...], told: str) -> None:
    status, out, errors = stn("bench", *arguments)
    assert (status, out) == (2, "")
    assert told in errors


def _one_sentence(found: tuple[int, str, str]) -> str:
    status, out, errors = found
    assert (status, out) == (2, "")
    assert errors.startswith("stn: "), errors
    assert errors.count("\n") == 1, errors
    return errors.removeprefix("stn: ")


def test_what_is_no_model_is_one_sentence(stn: Stn, grey_model: Path, picture: Path) -> None:
    assert "dark.jpg: onnxruntime cannot load it" in _one_sentence(stn("bench", picture, *QUICK))
    assert "gone.onnx: no such file" in _one_sentence(stn("bench", grey_model, "--compare", "gone.onnx", *QUICK))


def test_a_picture_that_cannot_be_read_is_one_sentence(stn: Stn, grey_model: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    found = stn("bench", grey_model, "--picture", tmp_path / "torn.jpg", *QUICK)
    assert "torn.jpg: is cut off" in _one_sentence(found)
    assert "cannot be read" in _one_sentence(stn("bench", grey_model, "--picture", tmp_path, *QUICK))


def test_a_provider_that_is_not_there_is_one_sentence(stn: Stn, grey_model: Path) -> None:
    found = stn("bench", grey_model, "--providers", "NoSuchProvider", *QUICK)
    assert "execution provider NoSuchProvider is not available here" in _one_sentence(found)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_a_bench_with_130_and_no_traceback(
    spawn: Callable[..., subprocess.Popen[bytes]], grey_model: Path, picture: Path
) -> None:
    # a process in the background of a shell without job control would not hear SIGINT
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import stn_runtime.bench.command as bench\n"
        "stages = bench.time_stages\n"
        "bench.time_stages = lambda *given: (print('measuring', flush=True), stages(*given))[1]\n"
        "from stn_runtime.cli import main; sys.exit(main())"
    )
    process = spawn("bench", grey_model, "--picture", picture, "--seconds", "60", code=code)
    assert process.stdout is not None
    assert process.stdout.readline() == b"measuring\n"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in errors


def test_files_of_the_working_folder_are_not_taken_for_modules(
    grey_model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "random.py", "stn_runtime.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert measure_cold_start(grey_model, picture, threads=1).whole_ms > 0
    assert all(try_package(name).version for name in PACKAGES)
