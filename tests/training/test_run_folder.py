"""A run's folder: where it may begin, what it needs to go on, and that it goes on with the data it began with."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stn_models import load_checkpoint, save_checkpoint
from stn_runtime import InputError
from stn_training import TrainConfig, fit

MakeFolder = Callable[..., Path]
OPTIONS = {"width": 4, "image_size": 16, "channels": 3}


def config(data: Path, epochs: int = 1) -> TrainConfig:
    return TrainConfig(str(data), "fcn", OPTIONS, epochs=epochs, precision="32", picture_every=0)


@pytest.fixture
def data(make_folder: MakeFolder, tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"cat": 20, "dog": 20})


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    fit(config(data), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_does_not_go_on_with_other_classes(run: Path, data: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    (data / "dog").rename(data / "emu")
    with pytest.raises(InputError, match="its data have the classes cat, emu now, and had cat, dog; give it the same"):
        fit(config(data), run, resume=True)
    assert (run / "model.safetensors").read_bytes() == before


def test_a_run_does_not_go_on_with_more_pictures(run: Path, data: Path, make_folder: MakeFolder) -> None:
    make_folder(data, {"cat": 40})
    with pytest.raises(InputError, match=r"its data have 48 training images now, and had 32; .* --weights "):
        fit(config(data), run, resume=True)


def test_a_run_of_an_earlier_version_which_counted_nothing_goes_on(run: Path, data: Path) -> None:
    network, described = load_checkpoint(run / "model.safetensors")
    training = {name: value for name, value in described.training.items() if name != "images"}
    save_checkpoint(run / "model.safetensors", network, replace(described, training=training))
    assert fit(config(data), run, resume=True).epoch == 0


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_run_does_not_go_on_without_its_best_weights(damage: str, run: Path, data: Path) -> None:
    best = run / "model.safetensors"
    if damage == "missing":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be resumed without its best weights"):
        fit(config(data), run, resume=True)


def test_a_run_whose_data_are_gone_says_how_it_goes_on(run: Path, data: Path) -> None:
    shutil.move(data, data.with_name("elsewhere"))
    with pytest.raises(InputError, match=r"run: its data, '.*data', are not there; .* into .*run/config.json"):
        fit(config(data), run, resume=True)


@pytest.mark.parametrize("place", ["run", ".", "cat/run"])
def test_a_run_does_not_begin_among_the_classes(place: str, data: Path) -> None:
    there = sorted(data.rglob("*"))
    with pytest.raises(InputError, match="data, where each folder is a class; give another --output"):
        fit(config(data), data / place)
    assert sorted(data.rglob("*")) == there


def test_beside_the_parts_of_the_data_a_run_may_begin_and_within_one_not(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    for part in ("train", "val"):
        make_folder(tmp_path / "data" / part, {"cat": 8, "dog": 8})
    fit(config(tmp_path / "data"), tmp_path / "data" / "runs" / "one")
    with pytest.raises(InputError, match="where each folder is a class"):
        fit(config(tmp_path / "data"), tmp_path / "data" / "train" / "one")


def test_a_place_that_is_only_to_be_read_is_refused_before_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests run as root, whom no permission stops
    with pytest.raises(InputError, match="cannot be written to; name another place"):
        fit(config(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()
