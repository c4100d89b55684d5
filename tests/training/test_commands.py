"""The trainer's commands, through the command line's own front door."""

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from stn_models import load_checkpoint
from stn_runtime import Classifier
from stn_runtime.cli import main
from stn_training.commands.train import add_train_arguments
from stn_training.config import BENCHMARKS, TrainConfig

Refusal = Callable[..., str]
MakeFolder = Callable[..., Path]

TINY = ["--model", "fcn", "--options", '{"width": 8, "image_size": 8, "channels": 1}', "--epochs", "1"]


@pytest.fixture(scope="module")
def folder(make_folder: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data"), {"cat": 20, "dog": 20, "été": 20})


def test_train_writes_a_run_and_says_where_it_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(folder), *TINY]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()  # stdout is data, stderr is talk
    assert line.startswith("runs/fcn/model.safetensors: validation accuracy ")
    assert "Traceback" not in err
    _, checkpoint = load_checkpoint(tmp_path / "runs" / "fcn" / "model.safetensors")
    assert checkpoint.labels == ("cat", "dog", "été")


def test_flags_win_over_the_recipe(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"data: {json.dumps(str(folder))}\nmodel: fcn\nlr: 1e-3\nepochs: 9\nbatch_size: 8\naugment: [flip]\n"
        "options: {width: 8, image_size: 8, channels: 1}\n",
        encoding="utf-8",
    )
    run = tmp_path / "run"
    assert (
        main(["train", "--recipe", str(recipe), "--epochs", "1", "--augment", " flip , erase,", "--output", str(run)])
        == 0
    )
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["epochs"], config["augment"]) == (1, ["flip", "erase"])
    assert (config["lr"], config["batch_size"], config["model"]) == (0.001, 8, "fcn")


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--image-size", "12"], {"width": 8, "image_size": 12, "channels": 1}),
        (["--options", '{"width": 4}'], {"width": 4, "image_size": 8, "channels": 1}),
        (["--model", "cnn", "--image-size", "28", "--options", '{"width": 4}'], {"width": 4, "image_size": 28}),
    ],
    ids=["size", "options", "another network"],
)
def test_options_of_a_network_add_to_those_of_the_recipe_unless_it_is_another(
    flags: list[str], options: dict[str, int], folder: Path, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "r.yaml", tmp_path / "run"
    recipe.write_text(
        f"data: {json.dumps(str(folder))}\nmodel: fcn\nepochs: 1\noptions: {{width: 8, image_size: 8, channels: 1}}\n",
        encoding="utf-8",
    )
    assert main(["train", "--recipe", str(recipe), *flags, "--output", str(run)]) == 0
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["options"] == options


def test_evaluate_prints_a_table_and_the_accuracy_at_the_identity(
    learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(learned / "model.safetensors"), "sklearn-digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "images", "recall", "precision"]
    assert [line.split()[0] for line in lines[1:11]] == list("0123456789")
    assert sum(int(line.split()[1]) for line in lines[1:11]) == 360
    assert lines[11].endswith("on 360 images")
    assert float(lines[11].split()[1].rstrip("%")) > 85
    assert lines[12].endswith("with every transformer held at the identity")
    assert len(lines) == 13


def test_evaluate_writes_a_report_and_a_confusion(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "report"
    model = str(learned / "model.safetensors")
    arguments = ["evaluate", model, "sklearn-digits", "--split", "val", "--distort", "r", "--seed", "4"]
    assert main([*arguments, "--output", str(output)]) == 0
    report = json.loads((output / "report.json").read_text())
    with (output / "confusion.csv").open(newline="") as file:
        counts = np.array([[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])
    assert counts.shape == (10, 10)
    assert counts.sum() == report["images"] == 180
    assert report["accuracy"] == pytest.approx(np.trace(counts) / 180)
    assert (report["model"], report["data"], report["split"]) == (model, "sklearn-digits", "val")
    assert (report["distort"], report["seed"]) == ("r", 4)
    assert 0 <= report["accuracy_at_identity"] <= 1
    assert f"accuracy {report['accuracy']:.2%} on 180 images" in capsys.readouterr().out
    assert cv2.imread(str(output / "confusion.png")) is not None


def test_evaluate_can_record_the_accuracy_in_the_checkpoint(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(learned / "model.safetensors", path)
    before, described = load_checkpoint(path)
    assert main(["evaluate", str(path), "sklearn-digits", "--record", "test accuracy"]) == 0
    after, now = load_checkpoint(path)
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("on 360 images")).split()[1]
    assert f"{now.metrics['test accuracy']:.2f}%" == shown
    assert now.metrics["val_accuracy"] == described.metrics["val_accuracy"]
    assert (now.architecture, now.labels, now.training) == (
        described.architecture,
        described.labels,
        described.training,
    )
    for (name, ours), (_, theirs) in zip(after.state_dict().items(), before.state_dict().items(), strict=True):
        assert ours.equal(theirs), name


def test_only_a_checkpoint_can_keep_a_record(tmp_path: Path, refusal: Refusal) -> None:
    assert "nix.onnx" in refusal("evaluate", tmp_path / "nix.onnx", "sklearn-digits", "--record", "accuracy")


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["sklearn-digits"], "28 x 28"),
        (["sklearn-digits", "--distort", "camera"], "56 x 56"),
        (["sklearn-digits", "--distort", "rts:0.5,none:0.5", "--augment", "erase,jitter"], "42 x 42"),
        (["FOLDER", "--augment", "flip,crop"], "64 x 64"),
    ],
)
def test_sheet_draws_training_images(
    arguments: list[str], size: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "sheet.png"
    given = [str(folder) if argument == "FOLDER" else argument for argument in arguments]
    assert main(["sheet", *given, "-o", str(path), "--count", "15"]) == 0
    assert capsys.readouterr().out == f"{path}: 15 images of {size} pixels\n"
    assert cv2.imread(str(path)).shape == (2 * 118 + 6, 12 * 118 + 6, 3)


def test_a_sheet_follows_from_its_seed(tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        path = tmp_path / f"{name}.png"
        assert main(["sheet", "sklearn-digits", "-o", str(path), "--seed", seed, "--count", "6", "--distort", "r"]) == 0
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "no data given; name mnist, sklearn-digits, digits, mnist-addition, cifar10, gtsrb, svhn"),
        (["train", "no-such-folder"], "no-such-folder: no such folder"),
        (["train", "sklearn-digits", "--options", "{"], "network options are not JSON"),
        (["train", "sklearn-digits", "--options", "[1]"], "network options must be a JSON object"),
        (["train", "sklearn-digits", "--options", '{"wdth": 1}'], "option 'wdth' is not known; did you mean 'width'"),
        (["train", "sklearn-digits", "--augment", "fog"], "no augmentation 'fog'"),
        (["train", "sklearn-digits", "--distort", "swirl"], "no distortion 'swirl'"),
        (["train", "sklearn-digits", "--epochs", "-1"], "epochs must not be negative, infinite or huge, got -1"),
        (["train", "sklearn-digits", "--seed", "-1"], "seed must not be negative"),
        (["train", "--recipe", "nix.yaml"], "nix.yaml: cannot be read as a recipe"),
        (["train", "--resume", "nix"], "nix: holds no training run (no config.json)"),
        (["train", "sklearn-digits", "--lr", "-1"], "lr must be above 0 and finite, got -1.0"),
        (
            ["train", "sklearn-digits", "--label-smoothing", "1"],
            "label_smoothing must be at least 0 and below 1, got 1",
        ),
        (["train", "sklearn-digits", "--transformer", "affine@input"], "--transformer: network 'st-vgg' has its own"),
        (
            ["train", "sklearn-digits", "--image-size", "32x48"],
            "32x48: network 'st-vgg' takes squares; give one side, or",
        ),
        (
            ["train", "sklearn-digits", "--find-lr", "--export", "a.onnx"],
            "--find-lr trains nothing to export or report",
        ),
        (["train", "house-plates", "--model", "st-vgg"], "house-plates: has texts, which network 'st-vgg' is not for"),
        (["train", "sklearn-digits", "--distort", "r", "--backgrounds", "nix"], "nix: no such folder"),
        (["evaluate", "nix.safetensors", "sklearn-digits"], "nix.safetensors: does not exist"),
        (["evaluate", "nix.onnx", "sklearn-digits"], "nix.onnx: no such file"),
        (["sheet", "sklearn-digits", "-o", "s.png", "--count", "0"], "--count must be at least 1, got 0"),
        (["sheet", "sklearn-digits", "-o", "s.xyz"], "s.xyz: cannot be written as '.xyz'"),
        (["sheet", "sklearn-digits", "-o", "s.png", "--distort", "r:2"], "must be between 0 and 1, got 2"),
        (["sheet", "nix", "-o", "s.png"], "nix: no such folder"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], sentence: str, refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "sklearn-digits", "--epochs", "many"],
        ["train", "sklearn-digits", "--learning-rate", "1"],
        ["evaluate", "model.safetensors"],
        ["evaluate", "model.safetensors", "sklearn-digits", "--split", "dev"],
        ["sheet", "sklearn-digits"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"stn {arguments[0]}: error: " in err


@pytest.mark.parametrize("name", ["image_size: 32", "transformer: affine@input"])
def test_a_recipe_with_an_option_of_the_network_says_where_it_belongs(
    name: str, refusal: Refusal, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(f"data: sklearn-digits\n{name}\n")
    key = name.partition(":")[0]
    said = refusal("train", "--recipe", tmp_path / "mine.yaml")
    assert f"'{key}' is an option of the network; write 'options: {{{key}: ...}}'" in said


def test_a_recipe_takes_a_list_as_the_command_line_does() -> None:
    config = TrainConfig.from_mapping({"data": "mnist", "augment": "crop:2, flip"}, "recipe")
    assert config.augment == ("crop:2", "flip")


def test_evaluate_names_the_checkpoint_in_a_runs_folder(learned: Path, refusal: Refusal) -> None:
    said = refusal("evaluate", learned, "sklearn-digits")
    assert said.endswith(f"is a run's folder; give its checkpoint, {learned / 'model.safetensors'}")


def test_a_checkpoint_brings_its_network(learned: Path, refusal: Refusal) -> None:
    weights = learned / "model.safetensors"
    said = refusal("train", "sklearn-digits", "--weights", weights, "--model", "resnet18")
    assert said.startswith(f"{weights}: brings its network, '")
    assert said.endswith("; leave out --model resnet18")


def test_an_interrupted_run_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_config: TrainConfig, folder: Path, **_: object) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("stn_training.commands.train.fit", interrupted)
    assert main(["train", "sklearn-digits", "--output", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == f"stn: interrupted; go on with --resume {tmp_path / 'run'}\n"


def test_a_sheet_of_plates_draws_no_more_than_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typefaces = str(Path(mpl.get_data_path()) / "fonts" / "ttf")
    arguments = ["sheet", "house-plates", "-o", str(tmp_path / "s.png"), "--typefaces", typefaces, "--count", "3"]
    assert main(arguments) == 0
    assert "drawing 3 plates" in capsys.readouterr().err


def test_resume_takes_no_other_options(learned: Path, refusal: Refusal) -> None:
    said = refusal("train", "--resume", learned, "--epochs", "9")
    assert said == f"--resume takes everything from {learned / 'config.json'}; leave out --epochs"


@pytest.mark.parametrize("option", ["--output", "--recipe"])
def test_resume_takes_neither_an_output_nor_a_recipe(
    option: str, learned: Path, tmp_path: Path, refusal: Refusal
) -> None:
    run = tmp_path / "run"
    shutil.copytree(learned, run)
    assert option in refusal("train", "--resume", run, option, tmp_path / "other")


def test_resume_names_an_option_as_it_is_written(learned: Path, refusal: Refusal) -> None:
    assert refusal("train", "--resume", learned, "--batch-size", "9").endswith("leave out --batch-size")


def test_a_run_whose_config_is_damaged_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    assert refusal("train", "--resume", tmp_path) == (
        f"{tmp_path / 'config.json'}: names no data; give {', '.join(BENCHMARKS)} or a folder of images"
    )


def test_a_report_that_cannot_be_written_is_one_sentence(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ["evaluate", str(learned / "model.safetensors"), "sklearn-digits", "--split", "val"]
    assert main([*arguments, "--output", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err.splitlines()[-1]


def test_a_sheet_that_cannot_be_written_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file" in refusal("sheet", "sklearn-digits", "-o", tmp_path / "file" / "s.png")


def test_the_help_of_train_tells_every_default() -> None:
    parser = argparse.ArgumentParser()
    add_train_arguments(parser)
    text = " ".join(parser.format_help().split()).replace("- ", "-")  # lines are broken behind hyphens
    for shown in ("(default: st-vgg)", "20, up to 100 of few", "128, down to 8", "(default: 0.002)", "onecycle)"):
        assert shown in text


def test_a_run_ends_with_an_exported_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", {"a": 20, "b": 20}, size=(32, 32))
    arguments = ["train", str(tmp_path / "data"), "--model", "cifar-small", "--epochs", "1", "--picture-every", "0"]
    exported = tmp_path / "new" / "model.onnx"
    assert main([*arguments, "--output", str(tmp_path / "run"), "--export", str(exported)]) == 0
    manifest = Classifier(exported).manifest
    assert manifest.labels == ("a", "b")
    assert manifest.golden
    assert main(["verify", str(exported), "--checkpoint", str(tmp_path / "run" / "model.safetensors")]) == 0


def test_what_cannot_be_exported_is_told_before_training(
    tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    data = ("train", "sklearn-digits", "--output", run)
    assert "model.pt: the exported file must end in .onnx" in refusal(*data, "--export", tmp_path / "model.pt")
    (tmp_path / "file").touch()
    assert "file: cannot be made a folder" in refusal(*data, "--export", tmp_path / "file" / "model.onnx")

    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)  # the tests run as root, whom no permission stops
        for flag, name in (("--export", "model.onnx"), ("--report", "page.html")):
            assert f"{tmp_path}: cannot be written to" in refusal(*data, flag, tmp_path / name)

    def fail(name: str) -> None:
        raise ModuleNotFoundError("no onnx", name="onnx")

    monkeypatch.setattr("stn_training.commands.train.import_module", fail)
    told = refusal(*data, "--export", tmp_path / "model.onnx")
    assert told.startswith("--export needs package 'onnx', which is not installed: ")
    assert not run.exists()
