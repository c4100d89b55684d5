"""What doctor says of a model file on this device: whole, damaged, foreign, answering otherwise, and what samples."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import GoldenVector, Manifest
from stn_runtime.doctor import model_check
from stn_runtime.doctor.finding import Finding
from stn_runtime.doctor.model_check import check_model, check_released
from stn_runtime.model.golden import make_golden
from stn_runtime.model.zoo import released_models

CPU = "CPUExecutionProvider"


@pytest.fixture
def drifted_model(
    build_model: Callable[..., Path], manifest_of: Callable[..., Manifest], golden_of: Callable[..., GoldenVector]
) -> Path:
    """Its one golden vector, of a black picture, says that theta was 0.5 higher."""
    spec = manifest_of(1).preprocess
    picture = np.zeros((spec.height, spec.width, 1), np.uint8)
    golden = golden_of(picture)
    theta = make_golden(picture, {"theta": np.float32([0.5, 0.0, 0.25, 0.0, 0.5, -0.25]) + 0.5}).outputs["theta"]
    return build_model(1, golden=(dataclasses.replace(golden, outputs={**golden.outputs, "theta": theta}),))


def test_a_whole_model_is_told_with_its_answers_and_its_sampler(grey_model: Path) -> None:
    model, answers, sampler = check_model(grey_model)
    assert model == Finding("model", "ok", "grey.onnx: tiny, 3 classes, fused, float32, opset 18")
    assert answers.state == "ok"
    assert answers.sentence.startswith("as recorded, 2 golden vectors; ")
    assert sampler == Finding("sampler", "ok", f"in no GridSample that onnxruntime tells of, on {CPU}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digits", f"GridSample on {CPU}"),
        ("digits-portable", f"in primitive operators, on {CPU}"),
        ("digits-split", "OpenCV on the CPU, between the two graphs"),
    ],
)
def test_where_a_released_model_samples_is_told(name: str, told: str) -> None:
    assert check_model(released_models()[name])[-1] == Finding("sampler", "ok", told)


def test_a_network_without_a_transformer_samples_nowhere(grey_model: Path) -> None:
    network = model_check.Network(grey_model)
    network.manifest = dataclasses.replace(network.manifest, transformers=())
    assert model_check._sampler(grey_model, network) == "none: the network has no spatial transformer"


def test_a_damaged_file_is_broken(grey_model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(grey_model.read_bytes()[:500])
    [found] = check_model(cut)
    assert (found.name, found.state) == ("model", "BROKEN")
    assert found.sentence.startswith(f"{cut}: onnxruntime cannot load it (")


def test_a_damaged_manifest_is_broken(build_model: Callable[..., Path]) -> None:
    path = build_model(1, metadata={"stn_edge": "{}"})
    [found] = check_model(path)
    assert found.state == "BROKEN"
    assert str(path) in found.sentence


def test_metadata_that_is_not_text_is_broken(build_model: Callable[..., Path]) -> None:
    path = build_model(1, metadata={"stn_edge": "{}", "note": "12345678"})
    path.write_bytes(path.read_bytes().replace(b"12345678", b"1234\xff678"))
    [found] = check_model(path)
    assert (found.state, found.sentence) == ("BROKEN", f"{path}: its metadata is not text; the file is damaged")


def test_a_foreign_file_that_loads_is_a_note(build_model: Callable[..., Path]) -> None:
    [found] = check_model(build_model(1, name="theirs.onnx", metadata={}))
    told = "theirs.onnx loads here; 'stn export' did not write it, so it carries no answers to compare with"
    assert found == Finding("model", "note", told)


def test_a_model_that_answers_otherwise_is_broken(drifted_model: Path) -> None:
    model, answers, _ = check_model(drifted_model)
    assert (model.state, answers.state) == ("ok", "BROKEN")
    assert answers.sentence.startswith("tiny.onnx does NOT answer as recorded: theta ")
    assert "(allowed 1.0e-04)" in answers.sentence
    assert answers.remedy == "update onnxruntime, or copy the file again: it may be damaged"


def test_labels_that_differ_are_counted(
    build_model: Callable[..., Path], manifest_of: Callable[..., Manifest], golden_of: Callable[..., GoldenVector]
) -> None:
    spec = manifest_of(1).preprocess
    black, white = (np.full((spec.height, spec.width, 1), level, np.uint8) for level in (0, 255))
    mistaken = dataclasses.replace(golden_of(white), image=golden_of(black).image)
    path = build_model(1, golden=(golden_of(black), mistaken))
    assert check_model(path)[1].sentence.endswith("; 1 of 2 labels differ")


def test_a_released_model_is_without_findings_or_broken(grey_model: Path, drifted_model: Path, tmp_path: Path) -> None:
    assert check_released(grey_model) is None
    differs = check_released(drifted_model)
    assert differs is not None
    assert (differs.name, differs.state) == ("models", "BROKEN")
    assert "does NOT answer as recorded" in differs.sentence
    (tmp_path / "cut.onnx").write_bytes(b"")
    cut = check_released(tmp_path / "cut.onnx")
    assert cut is not None
    assert (cut.name, cut.state, cut.remedy) == ("models", "BROKEN", "reinstall stn-edge from its checkout or wheel")
