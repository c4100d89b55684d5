"""Training runs: they learn, repeat, stop, resume after kill -9 to the same numbers, and say what went wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stn_models import load_checkpoint
from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training import TrainConfig, fit
from tests.support.process import default_signals

Refusal = Callable[..., str]
MakeFolder = Callable[..., Path]

TINY = '{"width": 8, "image_size": 8, "channels": 1}'
EPOCHS = 6


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def best_of(rows: list[dict[str, str]]) -> dict[str, str]:
    """Return the most accurate epoch, of several the one of the lowest loss."""
    return max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 60 noisy pictures, brighter from class to class."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for index, name in enumerate("abc"):
        (root / name).mkdir()
        for number in range(60):
            picture = np.clip(noise.normal(70 + 50 * index, 60, (28, 28)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def hard_run(pictures: Path) -> list[str]:
    """A run with everything random in it: dropout, distortion, augmentations, batch normalisation, patience."""
    options = '{"image_size": 28, "output_size": 14, "channels": 1, "width": 4, "dropout": 0.4}'
    arguments = ["train", str(pictures), "--model", "st-vgg", "--options", options, "--distort", "r:0.7,none:0.3"]
    arguments += ["--augment", "erase,jitter,affine", "--epochs", str(EPOCHS), "--batch-size", "20"]
    arguments += ["--patience", "50", "--label-smoothing", "0.1", "--seed", "3", "--ema", "0.9", "--mixup", "0.2"]
    return [*arguments, "--precision", "bf16-mixed"]  # 'auto' may choose otherwise when the machine is busy


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    """'stn' in its own process, on one thread as here."""
    code = "import sys; from stn_runtime.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        preexec_fn=default_signals,
    )


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def ended_by(
    hard_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]]]:
    """Runs that were sent a signal in their second epoch: the folder and how the process ended."""
    root = tmp_path_factory.mktemp("ended")
    processes = {}
    for name in ("SIGKILL", "SIGINT", "SIGTERM"):
        epochs = [] if name == "SIGKILL" else ["--epochs", "100000"]
        processes[name] = start([*hard_run, *epochs, "--output", str(root / name)])
    ended = {}
    try:
        for name, process in processes.items():
            wait_for(root / name / "last.ckpt", process)
            time.sleep(0.02)
            process.send_signal(getattr(signal, name))
            out, err = process.communicate(timeout=60)
            ended[name] = (root / name, subprocess.CompletedProcess([], process.returncode, out, err))
        yield ended
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def unbroken(hard_run: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert main([*hard_run, "--output", str(folder)]) == 0
    return folder


def test_a_run_killed_in_mid_epoch_resumes_to_the_same_numbers_bit_for_bit(
    ended_by: dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]], unbroken: Path
) -> None:
    folder, ended = ended_by["SIGKILL"]
    assert ended.returncode == -signal.SIGKILL
    done = len(rows(folder))
    assert 1 <= done < EPOCHS
    assert main(["train", "--resume", str(folder)]) == 0
    assert len(rows(folder)) == EPOCHS
    assert (folder / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()
    weights, expected = load_file(folder / "model.safetensors"), load_file(unbroken / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)
    described, unbroken_described = (load_checkpoint(run / "model.safetensors")[1] for run in (folder, unbroken))
    assert described.theta == unbroken_described.theta
    assert described.theta is not None


def test_a_run_killed_before_its_first_epoch_resumes_from_the_start(
    unbroken: Path, hard_run: list[str], tmp_path: Path
) -> None:
    shutil.copy(unbroken / "config.json", tmp_path / "config.json")
    assert main(["train", "--resume", str(tmp_path)]) == 0
    assert (tmp_path / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()


def test_a_finished_run_resumes_to_the_same_result(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    assert main(["train", "--resume", str(run)]) == 0
    best = best_of(rows(unbroken))
    said = capsys.readouterr().out
    assert f"validation accuracy {float(best['val_accuracy']):.2%} in epoch {best['epoch']}," in said
    assert (run / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_ends_with_130_without_a_traceback_and_keeps_its_epochs(
    name: str, ended_by: dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]]
) -> None:
    folder, ended = ended_by[name]
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert rows(folder)
    assert load_checkpoint(folder / "model.safetensors")
    assert (folder / "last.ckpt").exists()


def test_tensorboard_shows_a_resumed_run_as_one(
    ended_by: dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]], tmp_path: Path
) -> None:
    log = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    folder = tmp_path / "run"
    shutil.copytree(ended_by["SIGTERM"][0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"epochs": len(rows(folder)) + 3}))
    assert main(["train", "--resume", str(folder)]) == 0
    board = log.EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    assert board.Tags()["images"] == ["before and after"]
    for name in ("train_loss", "val_accuracy", "theta_scale"):
        shown = [(event.step, event.value) for event in board.Scalars(name.replace("_", "/"))]
        assert shown == [(int(row["epoch"]), pytest.approx(float(row[name]), rel=1e-6)) for row in rows(folder)]


def test_without_tensorboard_a_run_trains_all_the_same(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = ["--model", "fcn", "--options", TINY, "--epochs", "1", "--precision", "32"]
    assert main(["train", str(pictures), *options, "--output", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_run_writes_its_config_metrics_checkpoints_and_pictures(learned: Path) -> None:
    files = [path.relative_to(learned) for path in learned.rglob("*") if path.is_file()]
    found = {str(path) for path in files if path.parts[0] != "tensorboard"}
    pictures = {f"pictures/epoch_{epoch:03d}.png" for epoch in (0, 2, 3)}  # every second, and the last
    assert found == {"config.json", "last.ckpt", "model.safetensors", "metrics.csv", "schedule.png", *pictures}
    config = json.loads((learned / "config.json").read_text())
    assert (config["data"], config["model"], config["epochs"]) == ("sklearn-digits", "st-cnn", 4)
    assert [row["epoch"] for row in rows(learned)] == ["0", "1", "2", "3"]
    expected = {"epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert set(rows(learned)[0]) == expected | {"theta_determinant", "theta_scale", "theta_outside"}


def test_a_small_spatial_transformer_network_learns_the_digits(learned: Path) -> None:
    assert max(float(row["val_accuracy"]) for row in rows(learned)) > 0.9
    losses = [float(row["train_loss"]) for row in rows(learned)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_kept_checkpoint_is_the_best_epochs_and_describes_itself(learned: Path) -> None:
    model, checkpoint = load_checkpoint(learned / "model.safetensors")
    best = best_of(rows(learned))
    assert checkpoint.training["epoch"] == int(best["epoch"])
    assert checkpoint.training["config"]["model"] == "st-cnn"
    assert checkpoint.metrics == {"val_accuracy": pytest.approx(100 * float(best["val_accuracy"]))}
    assert checkpoint.labels == tuple("0123456789")
    assert checkpoint.preprocess == {
        "height": 28,
        "width": 28,
        "channels": 1,
        "fit": "stretch",
        "interpolation": "area",
    }
    options = checkpoint.architecture.complete()
    assert (options["image_size"], options["channels"], options["classes"], options["width"]) == (28, 1, 10, 8)
    # of scikit-learn's digits in their border: measured with numpy alone
    assert options["mean"] == pytest.approx((0.1556,), abs=0.01)
    assert not model.training


def test_the_transformer_learned_at_a_lower_rate_and_stayed_in_the_picture(learned: Path) -> None:
    last = rows(learned)[-1]
    assert 0.5 < float(last["theta_scale"]) < 1.5
    assert float(last["theta_determinant"]) > 0
    assert float(last["theta_outside"]) < 0.5


def test_the_picture_of_an_epoch_shows_twelve_validation_images_with_outlines_above(learned: Path) -> None:
    picture = cv2.imread(str(learned / "pictures" / "epoch_003.png"))[:, :, ::-1]
    assert picture.shape == (2 * 118 + 6, 12 * 118 + 6, 3)
    outlined = picture[..., 0].astype(int) - picture[..., 2] > 60  # orange
    assert outlined[:118].sum() > 100
    assert not outlined[118:].any()


def test_a_folder_that_holds_a_run_is_not_overwritten(learned: Path, refusal: Refusal) -> None:
    before = {path: path.read_bytes() for path in learned.rglob("*") if path.is_file()}
    said = refusal("train", "sklearn-digits", "--model", "fcn", "--output", learned)
    assert said == f"{learned}: holds a training run; go on with --resume {learned}, or give another --output"
    assert before == {path: path.read_bytes() for path in learned.rglob("*") if path.is_file()}


def tiny(data: object, **values: object) -> TrainConfig:
    options = {"width": 8, "image_size": 8, "channels": 1}
    settings = {"options": options, "epochs": 2, "batch_size": 16, **values}
    return TrainConfig(str(data), "fcn", **settings)  # type: ignore[arg-type]


def test_a_run_repeats_for_the_same_seed_and_differs_for_another(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    fit(tiny(pictures, seed=4), tmp_path / "one")
    torch.manual_seed(2)
    result = fit(tiny(pictures, seed=4), tmp_path / "two")
    fit(tiny(pictures, seed=5), tmp_path / "three")
    one, two, three = ((tmp_path / name / "metrics.csv").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
    assert result.checkpoint == tmp_path / "two" / "model.safetensors"
    best = best_of(rows(tmp_path / "two"))
    assert (result.epoch, result.metrics["val_accuracy"]) == (int(best["epoch"]), float(best["val_accuracy"]))
    assert result.seconds > 0


def test_a_network_without_a_transformer_has_neither_theta_nor_pictures(pictures: Path, tmp_path: Path) -> None:
    fit(tiny(pictures, epochs=1), tmp_path / "run")
    assert set(rows(tmp_path / "run")[0]) == {"epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert not (tmp_path / "run" / "pictures").exists()
    assert load_checkpoint(tmp_path / "run" / "model.safetensors")[1].theta is None


def test_pictures_can_be_left_out(pictures: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        str(pictures), "st-fcn", {"image_size": 12, "channels": 1, "width": 4}, epochs=1, picture_every=0
    )
    fit(config, tmp_path / "run")
    assert not (tmp_path / "run" / "pictures").exists()


def test_patience_stops_a_run_that_gets_no_better(pictures: Path, tmp_path: Path) -> None:
    fit(tiny(pictures, epochs=50, lr=1e-12, patience=2), tmp_path / "run")
    assert len(rows(tmp_path / "run")) == 3  # the first, and two without progress


@pytest.mark.parametrize("model", ["fcn", "st-fcn"])
def test_a_run_that_diverges_ends_in_one_sentence(model: str, pictures: Path, tmp_path: Path) -> None:
    options = {"image_size": 12, "channels": 1, "width": 4}
    config = TrainConfig(str(pictures), model, options, epochs=3, lr=1e6, optimizer="sgd", clip=0.0, batch_size=16)
    with pytest.raises(
        InputError, match=r"\Atraining diverged in epoch \d \(loss nan\); lower --lr, or keep --clip.*\Z"
    ):
        fit(config, tmp_path / "run")


def test_divergence_on_the_command_line_is_exit_status_2(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(pictures), "--model", "fcn", "--options", TINY, "--lr", "1e6", "--clip", "0"]
    arguments += ["--optimizer", "sgd", "--epochs", "3", "--output", str(tmp_path / "run")]
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "training diverged" in said[-1]
    assert said[-1].startswith("stn: ")
    assert not any("Traceback" in line for line in said)


def test_a_transformer_that_leaves_the_picture_stops_the_run_by_name(pictures: Path, tmp_path: Path) -> None:
    options = {"image_size": 12, "channels": 1, "width": 4}
    config = TrainConfig(str(pictures), "st-fcn", options, epochs=3, stn_lr_scale=1e8, batch_size=16)
    with pytest.raises(InputError, match=r"spatial transformer collapsed in epoch \d: \d+% .* lower --stn-lr-scale"):
        fit(config, tmp_path / "run")


def test_a_transformer_that_leaves_the_picture_is_brought_back_at_a_lower_rate(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"image_size": 12, "channels": 1, "width": 4}
    config = TrainConfig(str(pictures), "st-fcn", options, epochs=3, stn_lr_scale=1e4, batch_size=16)
    with caplog.at_level("WARNING"):
        result = fit(config, tmp_path / "run")
    said = [record.message for record in caplog.records if "going on from" in record.message]
    assert 1 <= len(said) <= 3
    assert "collapsed in epoch 0" in said[0]
    assert result.metrics["theta_outside"] < 0.95
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1", "2"]


def test_data_that_cannot_be_used_leave_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        fit(tiny(tmp_path / "nix"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_be_built_leaves_no_run_behind(pictures: Path, tmp_path: Path) -> None:
    options = {"image_size": 12, "channels": 1, "width": 4}
    with pytest.raises(InputError, match="no grid generator 'nix'"):
        fit(TrainConfig(str(pictures), "st-fcn", {**options, "grid": "nix"}), tmp_path / "run")
    fit(TrainConfig(str(pictures), "st-fcn", options, epochs=1), tmp_path / "run")


def test_five_steps_in_all_can_be_trained(pictures: Path, tmp_path: Path) -> None:
    fit(tiny(pictures, epochs=5, batch_size=500), tmp_path / "run")


def test_an_option_classes_that_contradicts_the_data_is_refused(pictures: Path, tmp_path: Path) -> None:
    options = {"image_size": 8, "channels": 1, "width": 8, "classes": 2}
    with pytest.raises(InputError, match="classes"):
        fit(tiny(pictures, options=options), tmp_path / "run")


def test_an_output_that_is_a_file_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file"):
        fit(tiny(pictures), tmp_path / "file")


def test_a_damaged_last_checkpoint_is_one_sentence(unbroken: Path, tmp_path: Path, refusal: Refusal) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    (run / "last.ckpt").write_bytes((run / "last.ckpt").read_bytes()[:1000])
    assert "last.ckpt" in refusal("train", "--resume", run)


def test_data_that_changed_since_the_run_are_one_sentence(
    make_folder: MakeFolder, tmp_path: Path, refusal: Refusal
) -> None:
    data = make_folder(tmp_path / "data", {"a": 10, "b": 10})
    arguments = ["train", str(data), "--model", "fcn", "--options", TINY, "--epochs", "2"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    make_folder(data, {"c": 10})
    assert "class" in refusal("train", "--resume", tmp_path / "run")


def test_the_fit_holds_for_distorted_folders_too(tmp_path: Path) -> None:
    picture = np.zeros((20, 60), np.uint8)
    picture[:, 20:40] = 255  # what 'crop' keeps
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / split / name / "0.png"), picture)
    config = tiny(tmp_path, distort="none", fit="crop", epochs=1, options={"width": 4, "image_size": 28, "channels": 1})
    fit(config, tmp_path / "run")
    _, checkpoint = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert checkpoint.architecture.complete()["mean"] == pytest.approx((1.0,))


def test_a_disk_that_is_full_while_a_checkpoint_is_written_leaves_the_last_one_whole(
    learned: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    config = run / "config.json"
    config.write_text(config.read_text().replace('"epochs": 4', '"epochs": 5'))
    before = {name: (run / name).read_bytes() for name in ("last.ckpt", "model.safetensors")}
    largest = min(map(len, before.values())) // 2
    code = (
        "import resource, sys\n"
        "from stn_runtime.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))\n"
        f"sys.exit(main(['train', '--resume', {str(run)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told == (
        f"stn: {run}: epoch 4 cannot be saved (File too large); what was saved before is whole: make room, then go on "
        f"with --resume {run}"
    )
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not list(run.glob("*.partial"))
    assert main(["train", "--resume", str(run)]) == 0
    assert len((run / "metrics.csv").read_text().splitlines()) == 6


def test_a_class_of_one_picture_is_trained_on(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", {"a": 12, "b": 1}, size=(32, 32))
    arguments = ["train", str(tmp_path / "data"), "--model", "cifar-small", "--epochs", "1", "--picture-every", "0"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
