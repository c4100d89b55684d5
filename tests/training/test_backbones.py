"""Networks of torchvision in a training run: size, transformers and normalisation, and what cannot be built."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stn_models import SpatialTransformer, load_checkpoint
from stn_runtime import Classifier
from stn_runtime.cli import main

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def pictures(make_folder: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("pictures"), {"a": 12, "b": 12}, size=(40, 60))


def train(data: Path, output: Path, *arguments: str) -> int:
    short = ["--epochs", "1", "--precision", "32", "--picture-every", "0", "--batch-size", "8"]
    return main(["train", str(data), "--output", str(output), *short, *arguments])


def test_a_network_of_torchvision_is_trained_with_transformers_and_exported(pictures: Path, tmp_path: Path) -> None:
    model = ["--model", "squeezenet1_1", "--image-size", "32x48", "--transformer", "affine@input,tps3@features.5"]
    assert train(pictures, tmp_path / "run", *model, "--export", str(tmp_path / "model.onnx")) == 0
    network, described = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert described.preprocess["height"], described.preprocess["width"] == (32, 48)
    assert [module.grid.name for module in network.modules() if isinstance(module, SpatialTransformer)] == [
        "affine",
        "tps",
    ]
    options = described.architecture.complete()
    assert options["mean"] is None, "ImageNet's normalisation is replaced"
    manifest = Classifier(str(tmp_path / "model.onnx")).manifest
    assert (manifest.preprocess.height, manifest.preprocess.width) == (32, 48)


def test_a_last_image_alone_does_not_stop_batch_normalisation(pictures: Path, tmp_path: Path) -> None:
    model = ["--model", "resnet18", "--image-size", "32"]  # one pixel is left before the last normalisation
    assert train(pictures, tmp_path / "run", *model, "--batch-size", "19") == 0  # of 20


def test_a_checkpoint_is_measured_on_the_pictures_that_its_own_groups_kept_from_training(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_folder(tmp_path / "data", {"a": 60, "b": 60}, size=(16, 16))
    (tmp_path / "names.txt").write_text("first\nsecond\n")
    groups = ["--group", r"(\d)\.png", "--class-names", str(tmp_path / "names.txt")]
    tiny = ["--model", "fcn", "--options", '{"image_size": 16, "width": 8}']
    assert train(data, tmp_path / "run", *tiny, *groups) == 0
    checkpoint = str(tmp_path / "run" / "model.safetensors")
    told = []
    for arguments in ([], groups):
        capsys.readouterr()
        assert main(["evaluate", checkpoint, str(data), *arguments]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "first" in told[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet81"], "no network 'resnet81'; did you mean resnet18 or "),
        (["--model", "resnet18", "--transformer", "affine@layr1"], "has no submodule 'layr1'; did you mean layer1 or "),
        (["--model", "resnet18", "--transformer", "swirl"], "no grid generator 'swirl'; choose from attention, "),
        (
            ["--model", "resnet18", "--transformer", ","],
            "--transformer is empty; name GRID@PLACE, such as affine@input",
        ),
        (
            ["--model", "resnet18", "--image-size", "32", "--batch-size", "1"],
            "must have two images or more; raise batch",
        ),
        (["--model", "vgg", "--options", '{"output_size": 16}'], "output_size is for a transformer at the input; add"),
        (
            ["--model", "vgg", "--transformer", "affine", "--options", '{"output_size": 99}'],
            "output_size is 99, more than the 48 pixels of the picture",
        ),
        (
            ["--model", "st-vgg", "--transformer", "affine"],
            "--transformer: network 'st-vgg' has its own, or is defined without; take vgg",
        ),
        (["--model", "resnet18", "--image-size", "9x"], "--image-size must be a side in pixels, such as 96, or "),
        (["--model", "resnet18", "--image-size", "32x48", "--distort", "r"], "makes square images, "),
        (
            ["--model", "vit_b_16", "--image-size", "33"],
            "'vit_b_16' cannot be built: 33 x 33 pixels (height x width) do not fit ",
        ),
        (["--options", '{"channels": 2}'], "option 'channels' must be 1 for grey or 3 for colour pictures, got 2"),
        (["--model", "st-cnn", "--image-size", "9"], "'st-cnn' cannot be built: 9 x 9 pixels are too few "),
    ],
    ids=lambda value: " ".join(value[1::2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_one_sentence(
    pictures: Path, tmp_path: Path, arguments: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(pictures, tmp_path / "run", *arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert sentence in told[-1]
    assert not any(line.startswith("Traceback") for line in told)
    assert not (tmp_path / "run" / "model.safetensors").exists()
