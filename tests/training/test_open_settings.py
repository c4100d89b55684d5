"""What a run chooses by the number of its images, and that a frozen network stays as it is until it is thawed."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training.config import TrainConfig
from stn_training.open_settings import settled


@pytest.mark.parametrize("images", [1, 9, 200, 1_000, 4_999, 5_000, 1_000_000])
def test_few_images_get_steps_enough_and_many_what_is_usual(images: int) -> None:
    config = settled(TrainConfig("mnist"), images)
    assert 8 <= config.batch_size <= 128
    assert 20 <= config.epochs <= 100
    assert config.epochs == 100 or config.epochs * images / config.batch_size >= 3_000 or images >= 5_000
    if images >= 5_000:
        assert (config.epochs, config.batch_size) == (20, 128)


def test_what_is_given_stays() -> None:
    config = TrainConfig("mnist", epochs=3, batch_size=5, freeze=0, weights="imagenet", model="resnet18")
    assert settled(config, 100) == config


@pytest.mark.parametrize(
    ("weights", "images", "is_frozen"),
    [
        ("imagenet", 400, True),
        ("w.pth", 400, True),
        ("imagenet", 5_000, False),
        ("w.safetensors", 400, False),
        ("", 400, False),
    ],
)
def test_published_weights_are_frozen_at_first_where_images_are_few(
    weights: str, images: int, is_frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = settled(TrainConfig("mnist", weights=weights, model="resnet18"), images)
    assert (config.freeze == round(0.2 * config.epochs)) if is_frozen else config.freeze == 0
    assert len(caplog.records) == 1
    assert ("frozen" in caplog.text) == is_frozen


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"freeze": 3}, "freeze keeps a network as its weights are; name them with --weights"),
        ({"freeze": 3, "epochs": 2, "weights": "imagenet"}, "freeze is 3, more than the 2 epochs of the run"),
    ],
)
def test_what_cannot_be_frozen_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        settled(TrainConfig("mnist", model="resnet18", **values), 100)


def test_rates_are_tried_in_batches_that_fit_few_images(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", {"a": 12, "b": 12})
    arguments = ["--model", "fcn", "--options", '{"image_size": 16, "width": 8}', "--find-lr"]
    assert main(["train", str(folder), *arguments, "--output", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "lr.png").is_file()


def test_a_frozen_network_keeps_its_weights_and_statistics_until_it_is_thawed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = torchvision.models.resnet18().state_dict()
    torch.save(published, tmp_path / "resnet18.pth")
    network = ["--model", "resnet18", "--image-size", "32", "--transformer", "affine@layer2"]
    shared = [*network, "--weights", str(tmp_path / "resnet18.pth"), "--precision", "32", "--picture-every", "0"]

    def trained(epochs: int, freeze: int) -> dict[str, torch.Tensor]:
        run = tmp_path / f"{epochs}-{freeze}"
        arguments = ["--epochs", str(epochs), "--freeze", str(freeze), "--batch-size", "256", "--output", str(run)]
        assert main(["train", "sklearn-digits", *shared, *arguments]) == 0
        last: dict[str, torch.Tensor] = torch.load(run / "last.ckpt", weights_only=False)["state_dict"]
        return {name.removeprefix("model.classifier."): value for name, value in last.items()}

    frozen, thawed = trained(2, 2), trained(2, 1)
    for name in ("layer1.0.conv1.weight", "bn1.weight", "bn1.running_mean"):
        assert torch.equal(frozen[name], published[name]), name
        assert not torch.equal(thawed[name], published[name]), name
    assert not torch.equal(frozen["fc.weight"], thawed["fc.weight"])
    assert not torch.equal(
        frozen["layer2.transformer.localization.regression.bias"], torch.tensor([1.0, 0, 0, 0, 1, 0])
    )
