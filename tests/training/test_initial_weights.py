"""Starting from a checkpoint or published weights: all are taken, but the last layer's where the classes are others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from stn_models import Architecture, load_checkpoint
from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training.config import TrainConfig
from stn_training.initial_weights import take_weights
from tests.training.conftest import Refusal

MakeFolder = Callable[..., Path]

SMALL = {"image_size": 32, "stem": "small", "classes": 3}


def starting_from(weights: Path | str, model: str = "st-cnn") -> TrainConfig:
    return TrainConfig("sklearn-digits", model=model, weights=str(weights))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights as the package of a network publishes them, of 1000 classes, and the file that holds them."""
    torch.manual_seed(1)
    weights = torchvision.models.resnet18(num_classes=1000).state_dict()
    path = tmp_path_factory.mktemp("published") / "resnet18.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    return path, weights


def test_published_weights_are_taken_around_the_transformers(
    published: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    path, weights = published
    options = {"image_size": 64, "classes": 3, "transformer": ["affine@input", "affine@layer2", "tps@layer2.0.conv2"]}
    model = Architecture("resnet18", options).build()
    assert take_weights(model, starting_from(path, "resnet18")) == ("fc.weight", "fc.bias")
    body = model.classifier
    assert torch.equal(body.conv1.weight, weights["conv1.weight"])
    assert torch.equal(body.layer2.module[1].conv1.weight, weights["layer2.1.conv1.weight"])
    assert torch.equal(body.layer2.module[0].conv2.module.weight, weights["layer2.0.conv2.weight"])
    assert torch.equal(body.layer4[1].bn2.running_var, weights["layer4.1.bn2.running_var"])


def test_a_first_convolution_of_another_shape_stays_fresh_and_one_of_colours_is_added_up_for_grey(
    published: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    path, weights = published
    small = Architecture("resnet18", SMALL).build()
    assert set(take_weights(small, starting_from(path, "resnet18"))) == {"conv1.weight", "fc.weight", "fc.bias"}
    grey = Architecture("resnet18", {"image_size": 64, "channels": 1}).build()
    take_weights(grey, starting_from(path, "resnet18"))
    assert torch.equal(grey.classifier.conv1.weight, weights["conv1.weight"].sum(1, keepdim=True))


def test_weights_may_be_a_safetensors_file_that_is_no_checkpoint(
    published: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    _, weights = published
    save_file(weights, tmp_path / "weights.safetensors")
    model = Architecture("resnet18", {"image_size": 64}).build()
    take_weights(model, starting_from(tmp_path / "weights.safetensors", "resnet18"))
    assert torch.equal(model.classifier.conv1.weight, weights["conv1.weight"])


@pytest.mark.parametrize(
    ("content", "network", "sentence"),
    [
        (None, "resnet18", r"weights\.pth: does not exist; give a file of weights"),
        (b"PK\x03\x04", "resnet18", r"weights\.pth: is no whole file of weights; copy or save it again"),
        (b"", "resnet18", r"weights\.pth: is no whole file of weights; copy or save it again"),
        (b"no weights", "resnet18", r"weights\.pth: (holds more than weights|is no whole file)"),
        ([1, 2], "resnet18", r"weights\.pth: holds no weights by name; "),
        ({"epoch": 3}, "resnet18", r"weights\.pth: holds no weights by name; "),
        ({1: torch.zeros(1)}, "resnet18", r"weights\.pth: holds no weights by name; "),
        ({"conv1.weight": torch.zeros(1, device="meta")}, "resnet18", r"weights\.pth: holds no weights by name; "),
        (torch.nn.Linear(2, 2), "resnet18", r"weights\.pth: holds more than weights, and what else may run code; "),
        ({"a.weight": torch.zeros(1)}, "resnet18", r"of another network than 'resnet18' \('bn1.weight' is not in it\)"),
        ({"a.weight": torch.zeros(1)}, "st-cnn", "published weights are for networks of torchvision and timm, not for"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_that_cannot_be_taken_are_one_sentence(
    content: object, network: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    model = Architecture(network, {"image_size": 64}).build()
    with pytest.raises(InputError, match=sentence) as refused:
        take_weights(model, starting_from(path, network))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spoiled", ["nan", "infinite", "whole numbers"])
def test_weights_that_are_not_finite_numbers_are_refused_by_name(
    spoiled: str, published: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    _, weights = published
    value = weights["layer1.0.conv1.weight"]
    wrong = {"nan": value * float("nan"), "infinite": value + float("inf"), "whole numbers": value.int()}[spoiled]
    torch.save({**weights, "layer1.0.conv1.weight": wrong}, tmp_path / "weights.pth")
    model = Architecture("resnet18", {"image_size": 64}).build()
    with pytest.raises(InputError, match=r"weights\.pth: 'layer1\.0\.conv1\.weight' does not hold finite numbers"):
        take_weights(model, starting_from(tmp_path / "weights.pth", "resnet18"))


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "/tmp/no-such-cache")
    model = Architecture("resnet18", {"image_size": 64}).build()
    with pytest.raises(InputError, match=r"^the weights of resnet18 cannot be downloaded \(.*give a file of them"):
        take_weights(model, starting_from("imagenet", "resnet18"))


def test_every_weight_is_taken_where_the_classes_are_as_many(learned: Path) -> None:
    source, described = load_checkpoint(learned / "model.safetensors")
    model = described.architecture.build()
    assert take_weights(model, starting_from(learned / "model.safetensors")) == ()
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_other_classes_get_a_fresh_last_layer_and_all_else_is_taken(learned: Path) -> None:
    source, described = load_checkpoint(learned / "model.safetensors")
    options = {**described.architecture.options, "classes": 3}
    model = Architecture(described.architecture.name, options).build()
    last = [name for name, value in source.state_dict().items() if value.shape[0] == 10 and "classifier" in name]
    before = {name: model.state_dict()[name].clone() for name in last}
    assert set(take_weights(model, starting_from(learned / "model.safetensors"))) == set(last)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in last else source.state_dict()[name]), name


@pytest.mark.parametrize("options", [{"width": 9}, {"image_size": 42}, {"grid": "tps"}])
def test_weights_of_another_network_are_refused(learned: Path, options: dict[str, object]) -> None:
    _, described = load_checkpoint(learned / "model.safetensors")
    model = Architecture(described.architecture.name, {**described.architecture.options, **options}).build()
    with pytest.raises(
        InputError, match=r"model\.safetensors: holds network 'st-cnn' with other layers \('.+'\); leave"
    ):
        take_weights(model, starting_from(learned / "model.safetensors"))


def test_a_run_begins_where_its_weights_ended(learned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    weights = str(learned / "model.safetensors")
    arguments = ["train", "sklearn-digits", "--weights", weights, "--epochs", "1", "--lr", "1e-6"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    _, before = load_checkpoint(learned / "model.safetensors")
    _, after = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert after.architecture == before.architecture
    assert after.metrics["val_accuracy"] >= before.metrics["val_accuracy"] - 2
    assert after.training["config"]["weights"] == "model.safetensors"
    assert f"weights of {weights}" in caplog.text


def test_a_run_is_resumed_without_the_weights_that_it_began_with(learned: Path, tmp_path: Path) -> None:
    weights, run = tmp_path / "start.safetensors", tmp_path / "run"
    shutil.copy(learned / "model.safetensors", weights)
    assert main(["train", "sklearn-digits", "--weights", str(weights), "--epochs", "1", "--output", str(run)]) == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace('"epochs": 1', '"epochs": 2'))
    weights.unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert len((run / "metrics.csv").read_text().splitlines()) == 3


def test_a_models_other_classes_are_said(
    learned: Path, make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_folder(tmp_path / "data", {"cat": 12, "dog": 12})
    weights = str(learned / "model.safetensors")
    arguments = ["train", str(tmp_path / "data"), "--weights", weights, "--epochs", "1", "--picture-every", "0"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    assert "begin anew" in caplog.text
    assert "classifier." in caplog.text.partition("begin anew")[0]
    _, after = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert after.labels == ("cat", "dog")
    assert after.preprocess["channels"] == 1  # as the network was made


def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    assert "nix.safetensors: does not exist" in refusal(
        "train", "sklearn-digits", "--weights", tmp_path / "nix.safetensors"
    )
