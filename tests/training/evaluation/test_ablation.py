"""What transformers are worth: the counts are those of evaluation, in PyTorch and in exported files."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from stn_export import export_checkpoint, plan_export
from stn_models import load_checkpoint, save_checkpoint
from stn_runtime.cli import main
from stn_training.evaluation.ablation import ablate, table
from stn_training.evaluation.accuracy import evaluate, load_test_images, open_subject, spaced
from tests.training.conftest import Refusal

NOWHERE = Path("no-data-here")


@pytest.fixture(scope="module")
def restless(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learned network, its transformer zooming out, which does harm."""
    path = tmp_path_factory.mktemp("restless") / "model.safetensors"
    network, described = load_checkpoint(learned / "model.safetensors")
    with torch.no_grad():
        regression = next(module for name, module in network.named_modules() if name.endswith("regression"))
        regression.bias.mul_(2.5)  # type: ignore[operator, union-attr]
    save_checkpoint(path, network, described)
    return path


@pytest.fixture(scope="module")
def split(restless: Path) -> Path:
    return export_checkpoint(restless, restless.with_name("split.onnx"), plan=plan_export(form="split")).path


@pytest.fixture(scope="module")
def fused(restless: Path) -> Path:
    return export_checkpoint(restless, restless.with_name("fused.onnx")).path


def test_a_checkpoint_and_its_split_file_have_the_same_accuracy_with_and_without(
    restless: Path, split: Path, fused: Path
) -> None:
    subjects = [open_subject(str(path)) for path in (restless, split, fused)]
    data = load_test_images("sklearn-digits", "test", "", subjects[0].spec, NOWHERE, 0)
    checkpoint, warped, one_graph = ablate(subjects, data)
    assert checkpoint.accuracy_at_identity is not None
    assert checkpoint.accuracy_at_identity > checkpoint.accuracy + 0.2
    assert checkpoint.accuracy == one_graph.accuracy == pytest.approx(warped.accuracy, abs=0.01)
    assert warped.accuracy_at_identity == pytest.approx(checkpoint.accuracy_at_identity, abs=0.01)
    assert one_graph.accuracy_at_identity is one_graph.milliseconds_at_identity is None
    assert min(row.milliseconds for row in (checkpoint, warped, one_graph)) > 0
    lines = table([checkpoint, one_graph]).splitlines()
    assert lines[0].split()[:2] == ["model", "accuracy"]
    assert lines[2].split()[-1] == lines[2].split()[-3] == "-"


def test_at_the_identity_the_localisation_net_does_not_run(restless: Path) -> None:
    subject = open_subject(str(restless))
    assert subject.network is not None
    assert subject.predict_at_identity is not None
    localization = subject.network.get_submodule("transformer.localization")
    runs: list[object] = []
    localization.register_forward_hook(lambda *_: runs.append(0))
    batch = np.zeros((2, 28, 28, 1), np.uint8)
    subject.predict_at_identity(batch)
    assert not runs
    subject.predict(batch)
    assert len(runs) == 1


def test_the_command_prints_a_row_a_model(
    restless: Path, split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(restless), "sklearn-digits", "--ablate", "--against", str(split)]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "split.onnx" in out.splitlines()[-2]
    with (tmp_path / "ablation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    subject = open_subject(str(restless))
    data = load_test_images("sklearn-digits", "test", "", subject.spec, NOWHERE, 0)
    assert float(rows[0]["accuracy"]) == evaluate(subject, data).accuracy
    assert [Path(row["name"]).name for row in rows] == ["model.safetensors", "split.onnx"]


def test_evenly_spaced_pictures_keep_every_class(restless: Path) -> None:
    data = load_test_images("sklearn-digits", "test", "", open_subject(str(restless)).spec, NOWHERE, 0)
    assert spaced(data, len(data)) is data
    assert len(spaced(data, 50)) == 50


def test_what_cannot_be_understood_is_one_sentence(
    learned: Path, fused: Path, tmp_path: Path, refusal: Refusal
) -> None:
    model = learned / "model.safetensors"
    data = "sklearn-digits"
    assert "--sweep draws a picture; give a folder" in refusal("evaluate", model, data, "--sweep")
    assert "--thetas draws a picture; give a folder" in refusal("evaluate", model, data, "--thetas")
    told = refusal("evaluate", fused, data, "--thetas", "--output", tmp_path)
    assert told.endswith("is no checkpoint; --thetas needs a checkpoint (.safetensors) of a network with one")
    assert "--against names models for --ablate and --sweep" in refusal("evaluate", model, data, "--against", fused)
    told = refusal("evaluate", model, data, "--ablate", "--against", "digits")
    assert told.startswith("digits: its preprocessing are not those of") or told.startswith("digits: its labels")
    assert "nix.onnx" in refusal("evaluate", model, data, "--ablate", "--against", tmp_path / "nix.onnx")
