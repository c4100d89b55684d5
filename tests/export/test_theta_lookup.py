"""Theta in the manifest: of the checkpoint in every form, measured on pictures where that knows nothing, or copied."""

import logging
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from stn_export import Deployment, Exported, copy_theta, export_checkpoint, plan_export, theta_lookup
from stn_export.theta_lookup import theta_of
from stn_models import load_checkpoint, recorded_transforms, save_checkpoint
from stn_runtime import InputError, Manifest, ModelContractError
from stn_runtime.cli import main
from stn_runtime.images.writing import write_image
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.network import Network
from stn_runtime.model.theta_statistics import ThetaStatistics
from tests.support.small_network import SPEC

STATISTICS = ThetaStatistics((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), ((0.5, 0.0, 2.0, 0.0, 0.0, 1.0),) * 6, 4.5, 1000)


@pytest.fixture
def informed(checkpoint: Path, tmp_path: Path) -> Path:
    """The same checkpoint, knowing what theta was in training."""
    path = tmp_path / "informed.safetensors"
    network, described = load_checkpoint(checkpoint)
    save_checkpoint(path, network, replace(described, theta=asdict(STATISTICS)))
    return path


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (150, 28, 28, 1), np.uint8)


def test_the_split_form_says_what_the_checkpoint_says_whatever_pictures_it_sees(
    informed: Path, noise: NDArray[np.uint8], tmp_path: Path
) -> None:
    done = export_checkpoint(informed, tmp_path / "model.onnx", images=noise, plan=plan_export(form="split"))
    assert Network(done.path).manifest.theta == STATISTICS


def test_of_a_checkpoint_that_knows_nothing_it_is_measured_on_the_pictures(
    checkpoint: Path, noise: NDArray[np.uint8]
) -> None:
    network, described = load_checkpoint(checkpoint)
    theta = theta_of(described, "x", Deployment(network, SPEC), noise)
    with torch.inference_mode(), recorded_transforms(network) as calls:
        network(torch.from_numpy(noise).permute(0, 3, 1, 2).float() / 255)
    assert theta is not None
    assert theta.pictures == 150
    assert theta.mean == pytest.approx(calls[0].theta.numpy().mean(axis=0), abs=1e-5)


def test_how_long_measuring_takes_is_said_where_that_is_long(
    checkpoint: Path, noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, described = load_checkpoint(checkpoint)
    caplog.set_level(logging.INFO)
    theta_of(described, "x", Deployment(network, SPEC), noise)
    assert not caplog.messages
    monkeypatch.setattr(theta_lookup, "_LONG_SECONDS", 0.0)
    theta_of(described, "x", Deployment(network, SPEC), noise)
    [message] = caplog.messages
    assert re.fullmatch(r"measuring theta on 150 pictures takes about \d+ s", message)


def test_without_pictures_or_with_few_it_says_nothing(
    exported: Exported, checkpoint: Path, noise: NDArray[np.uint8]
) -> None:
    assert exported.manifest.theta is None
    network, described = load_checkpoint(checkpoint)
    assert theta_of(described, "x", Deployment(network, SPEC), noise[:5]) is None


def test_on_the_command_line_enough_pictures_are_read(checkpoint: Path, informed: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for index in range(130):
        write_image(tmp_path / "pictures" / f"{index}.png", random.integers(0, 256, (28, 28), np.uint8))
    output = tmp_path / "model.onnx"
    told = {}
    for path in (checkpoint, informed):
        assert main(["export", str(path), "-o", str(output), "--images", str(tmp_path / "pictures")]) == 0
        told[path] = Network(output).manifest
    measured = told[checkpoint].theta
    assert measured is not None
    assert measured.pictures == 130
    assert told[informed].theta == STATISTICS
    assert len(told[checkpoint].golden) == len(told[informed].golden) == 6


def test_copying_changes_nothing_else(exported: Exported, informed: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(exported.path, model)
    copy_theta(informed, model)
    assert replay(Network(model)).passed
    before, after = onnx.load(exported.path), onnx.load(model)
    manifests = [
        Manifest.from_json(next(entry.value for entry in file.metadata_props if entry.key == METADATA_KEY), "x")
        for file in (before, after)
    ]
    assert manifests[1] == replace(manifests[0], theta=STATISTICS)
    for file in (before, after):
        del file.metadata_props[:]
    assert before.SerializeToString() == after.SerializeToString()


def test_copying_what_does_not_belong_together_is_one_sentence(
    exported: Exported, checkpoint: Path, informed: Path, tmp_path: Path
) -> None:
    model, plain, other = (tmp_path / name for name in ("model.onnx", "plain.onnx", "other.safetensors"))
    shutil.copy(exported.path, model)
    network, described = load_checkpoint(informed)
    save_checkpoint(other, network, replace(described, labels=tuple("abcdefghij")))
    with_manifest = onnx.load(model)
    del with_manifest.metadata_props[:]
    onnx.save(with_manifest, plain)
    content = model.read_bytes()
    with pytest.raises(InputError, match=r"model\.safetensors: does not say what theta was in training"):
        copy_theta(checkpoint, model)
    with pytest.raises(InputError, match=r"its labels or its preprocessing are not those of .*other\.safetensors$"):
        copy_theta(other, model)
    with pytest.raises(InputError, match=r"nothing\.safetensors: does not exist"):
        copy_theta(tmp_path / "nothing.safetensors", model)
    with pytest.raises(ModelContractError, match=r"plain\.onnx: keeps no manifest"):
        copy_theta(informed, plain)
    save_checkpoint(other, network, replace(described, theta={**asdict(STATISTICS), "mean": [1.0]}))
    with pytest.raises(
        ModelContractError, match=r"other\.safetensors: theta cannot be used: whitening must be 1 x 1 numbers"
    ):
        copy_theta(other, model)
    assert model.read_bytes() == content
