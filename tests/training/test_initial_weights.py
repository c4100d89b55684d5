"""Starting from a checkpoint: every weight is taken, but the last layer's where the classes are others."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stn_models import Architecture, load_checkpoint
from stn_runtime import InputError
from stn_runtime.cli import main
from stn_training.initial_weights import take_weights
from tests.training.conftest import Refusal

MakeFolder = Callable[..., Path]


def test_every_weight_is_taken_where_the_classes_are_as_many(learned: Path) -> None:
    source, described = load_checkpoint(learned / "model.safetensors")
    model = described.architecture.build()
    assert take_weights(model, str(learned / "model.safetensors")) == ()
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_other_classes_get_a_fresh_last_layer_and_all_else_is_taken(learned: Path) -> None:
    source, described = load_checkpoint(learned / "model.safetensors")
    options = {**described.architecture.options, "classes": 3}
    model = Architecture(described.architecture.name, options).build()
    last = [name for name, value in source.state_dict().items() if value.shape[0] == 10 and "classifier" in name]
    before = {name: model.state_dict()[name].clone() for name in last}
    assert set(take_weights(model, str(learned / "model.safetensors"))) == set(last)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in last else source.state_dict()[name]), name


@pytest.mark.parametrize("options", [{"width": 9}, {"image_size": 42}, {"grid": "tps"}])
def test_weights_of_another_network_are_refused(learned: Path, options: dict[str, object]) -> None:
    _, described = load_checkpoint(learned / "model.safetensors")
    model = Architecture(described.architecture.name, {**described.architecture.options, **options}).build()
    with pytest.raises(
        InputError, match=r"model\.safetensors: holds network 'st-cnn' with other layers \('.+'\); leave"
    ):
        take_weights(model, str(learned / "model.safetensors"))


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
    assert "other classes: classifier." in caplog.text
    _, after = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert after.labels == ("cat", "dog")
    assert after.preprocess["channels"] == 1  # as the network was made


def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    assert "nix.safetensors: does not exist" in refusal(
        "train", "sklearn-digits", "--weights", tmp_path / "nix.safetensors"
    )
