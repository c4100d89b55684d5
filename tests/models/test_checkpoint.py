"""Checkpoints: what is written comes back exactly, and every other file is refused in one sentence."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stn_models import REGISTRY, Architecture, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint

LABELS = tuple("abcdefghij")
ARCHITECTURE = Architecture("cifar-small", {"mean": [0.4, 0.5, 0.6]})
DESCRIPTION: dict[str, Any] = {
    "schema": 1,
    "architecture": {"name": "cifar-small", "options": {"mean": [0.4, 0.5, 0.6]}},
    "labels": list(LABELS),
    "preprocess": {"height": 32},
    "training": {},
    "metrics": {"accuracy": 0.5},
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return trained(ARCHITECTURE.build(), torch.rand(4, 3, 32, 32))


@pytest.fixture
def path(tmp_path: Path, model: nn.Module) -> Path:
    """A good checkpoint."""
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, Checkpoint(ARCHITECTURE, LABELS, {"height": 32}, {}, {"accuracy": 0.5}))
    return path


def trained(model: nn.Module, image: Tensor) -> nn.Module:
    """Move every weight and every running statistic away from where it started."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.train()(image)
    return model.eval()


def write(path: Path, description: object, weights: dict[str, Tensor] | None = None) -> None:
    """A safetensors file with any description, JSON or not, made without the code under test."""
    text = description if isinstance(description, str) else json.dumps(description)
    save_file(weights if weights is not None else load_file(path), path, metadata={"stn_edge": text})


def refusal(path: Path) -> str:
    """The message that loading ``path`` ends with; one sentence that starts with the file."""
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def damaged(fault: str) -> str:
    return f"the checkpoint's description is damaged ({fault}); copy the file again, or train anew"


# --- round trip ---


@pytest.mark.parametrize("name", list(REGISTRY))
def test_loaded_network_gives_exactly_the_same_logits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"width": 8} if Architecture(name).accepts("width") else {}
    architecture = Architecture(name, options)
    size = architecture.complete().get("image_size", 32)
    image = torch.rand(4, architecture.complete().get("channels", 3), size, size)
    model = trained(architecture.build(), image)
    save_checkpoint(tmp_path / "model.safetensors", model, Checkpoint(architecture, LABELS, {}))
    loaded, _ = load_checkpoint(tmp_path / "model.safetensors")
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))


def test_loaded_description_is_what_was_saved(tmp_path: Path, model: nn.Module) -> None:
    saved = Checkpoint(
        ARCHITECTURE,
        ("zero", "Zürich", "二", *"3456789"),
        {"height": 32, "width": 32, "fit": "letterbox"},
        {"data": "digits", "epochs": 3, "seeds": [1, 2]},
        {"accuracy": 0.1 + 0.2},
        {"mean": [0.1 + 0.2], "limit": 4.5},
        reject="Zürich",
        threshold=0.1 + 0.2,
    )
    save_checkpoint(tmp_path / "model.safetensors", model, saved)
    _, loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.labels == saved.labels
    assert loaded.preprocess == saved.preprocess
    assert loaded.training == saved.training
    assert loaded.metrics == saved.metrics
    assert loaded.theta == saved.theta
    assert (loaded.reject, loaded.threshold) == ("Zürich", 0.1 + 0.2)
    assert loaded.architecture.name == "cifar-small"
    assert loaded.architecture.complete() == saved.architecture.complete()


def test_defaults_are_written_down_so_that_they_may_change(path: Path) -> None:
    _, checkpoint = load_checkpoint(path)
    assert set(checkpoint.architecture.options) == {"grid", "classes", "dropout", "mean", "std"}


def test_a_file_without_a_rejected_class_and_a_threshold_has_neither(path: Path) -> None:
    write(path, DESCRIPTION)
    _, checkpoint = load_checkpoint(path)
    assert (checkpoint.reject, checkpoint.threshold) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("reject", "nothing", "reject is 'nothing', which is none of the labels"),
        ("reject", 3, "reject must be a text, got 3"),
        ("threshold", 1.5, "threshold is 1.5, expected 0 to 1"),
        ("threshold", float("nan"), "threshold is nan, expected 0 to 1"),
        ("threshold", "0.5", "threshold must be a number, got '0.5'"),
    ],
)
def test_a_wrong_rejected_class_or_threshold_is_named(path: Path, field: str, value: object, fault: str) -> None:
    write(path, {**DESCRIPTION, field: value})
    assert damaged(fault) in refusal(path)


def test_saving_does_not_change_the_network(tmp_path: Path) -> None:
    model = Architecture("cifar-small").build().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    save_checkpoint(tmp_path / "model.safetensors", model, Checkpoint(Architecture("cifar-small"), LABELS, {}))
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_weights_in_another_memory_layout_are_saved(tmp_path: Path, model: nn.Module) -> None:
    image = torch.rand(2, 3, 32, 32)
    expected = model(image)
    laid_out = ARCHITECTURE.build().eval().to(memory_format=torch.channels_last)
    laid_out.load_state_dict(model.state_dict())
    save_checkpoint(tmp_path / "model.safetensors", laid_out, Checkpoint(ARCHITECTURE, LABELS, {}))
    loaded, _ = load_checkpoint(tmp_path / "model.safetensors")
    assert torch.equal(loaded(image), expected)


def test_a_checkpoint_is_a_safetensors_file_that_others_can_read(path: Path, model: nn.Module) -> None:
    weights = load_file(path)
    assert list(weights) == sorted(model.state_dict())
    assert sum(value.numel() for value in weights.values()) == 39_884


# --- writing safely ---


def test_only_the_checkpoint_is_left_after_saving(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


def test_saving_again_replaces_the_file(path: Path, model: nn.Module) -> None:
    save_checkpoint(path, model, Checkpoint(ARCHITECTURE, tuple("ABCDEFGHIJ"), {}))
    assert load_checkpoint(path)[1].labels == tuple("ABCDEFGHIJ")
    assert list(path.parent.iterdir()) == [path]


def test_a_description_that_is_not_json_leaves_the_old_file_whole(path: Path, model: nn.Module) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(path, model, Checkpoint(ARCHITECTURE, LABELS, {"size": {1, 2}}))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("owner", "step"), [(Path, "write_bytes"), (os, "replace")], ids=["write", "rename"])
def test_a_failing_disk_leaves_the_old_file_whole_and_no_partial_one(
    owner: object, step: str, path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(target: str | Path, *_args: object) -> None:
        Path(target).open("wb").close()  # as far as the disk went
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, model, Checkpoint(ARCHITECTURE, LABELS, {}))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_over_a_folder_leaves_no_partial_file(tmp_path: Path, model: nn.Module) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        save_checkpoint(tmp_path / "folder", model, Checkpoint(ARCHITECTURE, LABELS, {}))
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


# --- files that are no checkpoint ---


def test_missing_file_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none.safetensors")
    assert message == "does not exist; give a .safetensors file written by 'stn train'"


def test_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a folder; give a .safetensors file written by 'stn train'"


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 300, 3000, -1], ids="{}-bytes".format)
def test_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path).startswith("not a whole safetensors file (")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: bytes(100),
        lambda data: data[:8] + b"\x00" + data[9:],
        lambda data: data[:20] + b"\xff\xfe" + data[22:],
        lambda data: data + b"more",
    ],
    ids=["length", "zeros", "no brace", "not utf-8", "too long"],
)
def test_corrupt_file_is_refused(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(path).startswith("not a whole safetensors file (")


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
        assert refusal(path).startswith("a safetensors file, but not from 'stn train' (no 'stn_edge' in its header); ")


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "was-run",)

    path = tmp_path / "model.pt"
    for data in (pickle.dumps(Touch()), pickle.dumps(Touch(), protocol=0)):
        path.write_bytes(data)
        refusal(path)
    torch.save({"touch": Touch()}, path)
    refusal(path)
    assert not (tmp_path / "was-run").exists()


# --- checkpoints that do not fit ---


@pytest.mark.parametrize("schema", [2, 99, "2", None])
def test_other_schema_is_refused(path: Path, schema: object) -> None:
    write(path, {**DESCRIPTION, "schema": schema})
    assert refusal(path) == f"checkpoint schema {schema}, this version reads 1; update stn-edge"


def test_the_file_that_these_tests_write_is_a_good_one(path: Path) -> None:
    write(path, DESCRIPTION)
    assert load_checkpoint(path)[1].labels == LABELS


@pytest.mark.parametrize("older", [{}, {"theta": None}], ids=["before it was kept", "not measured"])
def test_a_checkpoint_need_not_know_theta(path: Path, older: dict[str, None]) -> None:
    write(path, {**DESCRIPTION, **older})
    assert load_checkpoint(path)[1].theta is None


@pytest.mark.parametrize("field", ["architecture", "labels", "preprocess", "training", "metrics"])
def test_description_without_a_field_is_refused_by_its_name(path: Path, field: str) -> None:
    write(path, {key: value for key, value in DESCRIPTION.items() if key != field})
    assert refusal(path) == damaged(f"{field} is missing")


def test_an_architecture_without_its_options_is_refused_and_not_rebuilt_from_defaults(path: Path) -> None:
    write(path, {**DESCRIPTION, "architecture": {"name": "cifar-small"}})
    assert refusal(path) == damaged("architecture.options is missing")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000], ids="{:.8}".format)
def test_description_that_is_no_json_object_is_refused(path: Path, text: str) -> None:
    write(path, text)
    assert refusal(path).startswith("the checkpoint's description is damaged (")


@pytest.mark.parametrize(
    "architecture",
    [
        None,
        "cifar-small",
        {"name": "cifar-tiny", "options": {}},
        {"name": [], "options": {}},
        {"name": "cifar-small", "options": {"gird": "tps"}},
        {"name": "cifar-small", "options": {"grid": "afine"}},
        {"name": "cifar-small", "options": {"classes": "ten"}},
        {"name": "cifar-small", "options": {"classes": -1}},
        {"name": "cifar-small", "options": None},
        {"name": "cifar-small", "options": []},
        {"name": "fcn", "options": {"width": 10**30}},
        {"name": "st-cnn", "options": {"image_size": 15}},
    ],
    ids=str,
)
def test_architecture_that_cannot_be_built_is_refused(path: Path, architecture: object) -> None:
    write(path, {**DESCRIPTION, "architecture": architecture})
    assert refusal(path).startswith("the checkpoint's description is damaged (")


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("labels", None, "labels must be a list, got None"),
        ("labels", "abc", "labels must be a list, got 'abc'"),
        ("labels", [1, None], "labels[0] must be a text, got 1"),
        ("preprocess", None, "preprocess must be an object, got None"),
        ("metrics", "good", "metrics must be an object, got 'good'"),
        ("metrics", {"accuracy": "good"}, "metrics.accuracy must be a number, got 'good'"),
        ("theta", [1.0], "theta must be an object, got [1.0]"),
    ],
)
def test_field_of_a_wrong_type_is_refused_by_its_name(path: Path, field: str, value: object, fault: str) -> None:
    write(path, {**DESCRIPTION, field: value})
    assert refusal(path) == damaged(fault)


def test_weights_of_another_network_are_refused(path: Path) -> None:
    write(path, {**DESCRIPTION, "architecture": {"name": "cifar-wide", "options": {}}})
    expected = "weights do not fit network 'cifar-wide' ('transformer.localization.features.1.weight' should be "
    assert refusal(path).startswith(f"{expected}(64, 3, 7, 7), is (8, 3, 7, 7)); ")


def test_missing_weights_are_refused_by_name(path: Path) -> None:
    weights = load_file(path)
    del weights["transformer.localization.regression.bias"]
    write(path, DESCRIPTION, weights)
    expected = "weights do not fit network 'cifar-small' ('transformer.localization.regression.bias' should be "
    assert refusal(path).startswith(f"{expected}(6,), is missing); ")


def test_surplus_weights_are_refused_by_name(path: Path) -> None:
    write(path, DESCRIPTION, {**load_file(path), "extra": torch.zeros(1)})
    assert refusal(path).startswith("weights do not fit network 'cifar-small' ('extra' should be absent, is (1,)); ")


def test_labels_that_do_not_number_the_classes_are_refused(path: Path) -> None:
    write(path, {**DESCRIPTION, "labels": ["only one"]})
    assert refusal(path) == damaged("labels must have 10 entries, one a class, got 1")


def test_a_refused_file_is_left_as_it_was(path: Path) -> None:
    write(path, {**DESCRIPTION, "schema": 2})
    before = path.read_bytes()
    refusal(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# --- what to do about it ---


def test_a_picture_size_that_the_network_cannot_take_is_refused(path: Path) -> None:
    write(path, DESCRIPTION | {"preprocess": {"height": 64, "width": 32, "channels": 3}})
    assert "preprocess makes pictures of 32 x 64 x 3, which network 'cifar-small' cannot take" in refusal(path)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("grid", ["affine", "projective", "tps"])
def test_the_picture_size_of_each_network_is_accepted(name: str, grid: str, tmp_path: Path) -> None:
    architecture = Architecture(name, {"grid": grid} if Architecture(name).accepts("grid") else {})
    options = architecture.complete()
    size = options.get("image_size", 32)
    preprocess = {"height": size, "width": size, "channels": options.get("channels", 3)}
    save_checkpoint(tmp_path / "x.safetensors", architecture.build(), Checkpoint(architecture, LABELS, preprocess))
    assert load_checkpoint(tmp_path / "x.safetensors")[1].preprocess == preprocess


def test_a_label_that_stands_twice_is_refused(path: Path) -> None:
    write(path, DESCRIPTION | {"labels": list("abcdefghia")})
    assert "labels holds a label twice" in refusal(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_of_torch_save_is_named_and_not_loaded(path: Path, model: nn.Module, legacy: bool) -> None:
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    assert "a file of torch.save, which may run code when it is loaded; give the .safetensors file" in refusal(path)


@pytest.mark.parametrize("length", [0x80, 0x280, 0x580, 0x880])
def test_a_cut_file_whose_length_looks_like_a_pickle_is_not_taken_for_one(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{")
    assert refusal(path).startswith("not a whole safetensors file (")


def test_an_onnx_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    assert "an .onnx file is no checkpoint; give the .safetensors file" in refusal(tmp_path / "model.onnx")


def test_every_refusal_says_what_to_do(path: Path, model: nn.Module) -> None:
    whole = path.read_bytes()
    other = Architecture("cifar-wide").build().state_dict()
    for change in (
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"hello" * 100),
        lambda: save_file(model.state_dict(), path),
        lambda: write(path, DESCRIPTION, other),
        lambda: write(path, "{"),
    ):
        path.write_bytes(whole)
        change()
        assert re.search(r"; .*(copy the file again|give one|take the file)", refusal(path))
