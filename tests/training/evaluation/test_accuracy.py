"""Evaluation: counts that agree with a hand count, the same data for every kind of model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stn_models import Architecture, Checkpoint, injected_thetas, load_checkpoint, save_checkpoint
from stn_runtime import InputError, PreprocessSpec
from stn_training.data.distortions import Distorted
from stn_training.data.labelled_images import LabelledImages
from stn_training.digits.scenes import Scenery
from stn_training.evaluation.accuracy import (
    Report,
    Subject,
    evaluate,
    evaluate_at_identity,
    load_test_images,
    open_subject,
)

MakeFolder = Callable[..., Path]

SPEC = PreprocessSpec(1, 1, 1)
NOWHERE = Path("no-data-here")


def stub(labels: tuple[str, ...] = ("a", "b", "c")) -> Subject:
    """Predicts the class that the grey level of a picture says."""

    def predict(batch: np.ndarray) -> np.ndarray:
        return np.eye(len(labels), dtype=np.float32)[batch[:, 0, 0, 0]]

    return Subject(Path("stub"), labels, SPEC, predict, None)


def data(predicted: list[int], true: list[int], classes: tuple[str, ...] = ("a", "b", "c")) -> LabelledImages:
    images = torch.tensor(predicted, dtype=torch.uint8).view(-1, 1, 1, 1)
    return LabelledImages(images, torch.tensor(true), classes, "hand")


def test_accuracy_and_confusion_agree_with_a_hand_count() -> None:
    report = evaluate(stub(), data(predicted=[0, 0, 1, 1, 2, 0], true=[0, 0, 0, 1, 1, 2]))
    assert report.accuracy == pytest.approx(3 / 6)
    assert report.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert report.predicted.tolist() == [0, 0, 1, 1, 2, 0]
    assert report.classes == ("a", "b", "c")


def test_more_images_than_a_batch_are_all_counted() -> None:
    true = [index % 3 for index in range(1001)]
    report = evaluate(stub(), data(predicted=[0] * 1001, true=true))
    assert report.confusion.sum() == 1001
    assert report.confusion[:, 0].tolist() == [334, 334, 333]


def test_classes_are_matched_by_name_not_by_position() -> None:
    report = evaluate(stub(("c", "a", "b")), data(predicted=[1, 2, 0], true=[0, 1, 2]))
    assert report.accuracy == 1
    assert report.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_data_may_lack_classes_of_the_model() -> None:
    report = evaluate(stub(), data(predicted=[0, 2], true=[0, 1], classes=("a", "c")))
    assert report.accuracy == 1
    assert report.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match=r"\Ahand: class 'dog' is not one of the model's: a, b, c\Z"):
        evaluate(stub(), data([0], [0], ("a", "dog")))


def test_the_table_shows_recall_and_precision_of_each_class() -> None:
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    lines = Report(5 / 6, confusion, np.zeros(6, np.int64), ("ape", "bee", "long-named")).table().splitlines()
    assert [line.split() for line in lines] == [
        ["class", "images", "recall", "precision"],
        ["ape", "4", "75.00%", "100.00%"],
        ["bee", "2", "100.00%", "66.67%"],
        ["long-named", "0", "-", "-"],
        ["accuracy", "83.33%", "on", "6", "images"],
    ]


def test_a_model_without_a_network_or_transformer_has_no_identity() -> None:
    assert evaluate_at_identity(stub(), data([0], [0])) is None
    plain = Architecture("fcn", {"width": 4}).build().eval()
    subject = stub()
    assert (
        evaluate_at_identity(Subject(subject.path, subject.labels, SPEC, subject.predict, plain), data([0], [0]))
        is None
    )


@pytest.fixture(scope="module")
def crooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is good at nothing because its transformer looks outside the picture, and only for that."""
    torch.manual_seed(0)
    architecture = Architecture("st-fcn", {"image_size": 12, "classes": 2, "width": 8, "mean": [0.0], "std": [1.0]})
    model = architecture.build()
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.zero_()
        layers = [module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear)]
        layers[0].weight[0] = 1 / 144  # the mean of the picture, passed through
        layers[1].weight[0, 0] = 1
        layers[2].weight[1, 0] = 10
        layers[2].bias[0] = 5  # class 1 when the mean is above a half
        model.transformer.localization.regression.bias.copy_(torch.tensor([1.0, 0, 9, 0, 1, 0]))
    path = tmp_path_factory.mktemp("crooked") / "model.safetensors"
    save_checkpoint(path, model, Checkpoint(architecture, ("0", "1"), vars(PreprocessSpec(12, 12, 1))))
    return path


def test_evaluation_at_the_identity_switches_the_transformer_off(crooked: Path) -> None:
    images = torch.zeros(4, 12, 12, 1, dtype=torch.uint8)
    images[2:] = 255
    bright = LabelledImages(images, torch.tensor([0, 0, 1, 1]), ("0", "1"), "hand")
    subject = open_subject(str(crooked))
    assert evaluate(subject, bright).accuracy == 0.5
    at_identity = evaluate_at_identity(subject, bright)
    assert at_identity is not None
    assert at_identity.accuracy == 1
    assert evaluate(subject, bright).accuracy == 0.5, "the transformer stayed off"


def test_a_checkpoint_is_opened_with_its_labels_and_preprocessing(learned: Path) -> None:
    subject = open_subject(str(learned / "model.safetensors"))
    assert subject.labels == tuple("0123456789")
    assert subject.spec == PreprocessSpec(28, 28, 1)
    assert subject.network is not None


def test_the_accuracy_of_a_checkpoint_is_what_pytorch_alone_counts(learned: Path) -> None:
    subject = open_subject(str(learned / "model.safetensors"))
    images = load_test_images("sklearn-digits", "test", "", subject.spec, NOWHERE, 0)
    model, _ = load_checkpoint(learned / "model.safetensors")
    with torch.no_grad():
        right = model(images.images.permute(0, 3, 1, 2).float() / 255).argmax(dim=1) == images.labels
    report = evaluate(subject, images)
    assert report.accuracy == pytest.approx(float(right.float().mean()))
    assert report.accuracy > 0.85
    with torch.no_grad(), injected_thetas(model):
        right = model(images.images.permute(0, 3, 1, 2).float() / 255).argmax(dim=1) == images.labels
    at_identity = evaluate_at_identity(subject, images)
    assert at_identity is not None
    assert at_identity.accuracy == pytest.approx(float(right.float().mean()))


def test_test_images_are_distorted_by_the_seed_alone() -> None:
    spec = PreprocessSpec(42, 42, 1)
    first, again, other = (load_test_images("sklearn-digits", "val", "rts", spec, NOWHERE, seed) for seed in (1, 1, 2))
    assert first.images.shape == (180, 42, 42, 1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_folder_is_evaluated_at_the_models_size_and_fit(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"a": 10, "b": 10}, size=(10, 20))
    images = load_test_images(str(root), "all", "", PreprocessSpec(16, 16, 3, "letterbox"), NOWHERE, 0)
    assert images.images.shape == (20, 16, 16, 3)
    assert int(images.images[:, 0].max()) == 0


def test_a_scene_of_the_models_class_for_nothing_shows_no_digit(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "data", {"7": 10, "empty": 15}, size=(28, 28))
    told: list[torch.Tensor] = []
    scenes = Scenery.scenes

    def remembered(self: Scenery, images: torch.Tensor, reject: torch.Tensor, generator: torch.Generator) -> Distorted:
        told.append(reject)
        return scenes(self, images, reject, generator)

    monkeypatch.setattr(Scenery, "scenes", remembered)
    spec = PreprocessSpec(64, 64, 1, "letterbox")
    load_test_images(str(root), "all", "scene", spec, NOWHERE, 0, reject="empty")
    assert sum(int(reject.sum()) for reject in told) == 15


def test_an_unknown_distortion_is_refused() -> None:
    with pytest.raises(InputError, match="no distortion 'swirl'; choose from none, r, rts"):
        load_test_images("sklearn-digits", "val", "swirl", SPEC, NOWHERE, 0)


def test_the_camera_is_refused_for_a_network_that_takes_colour() -> None:
    with pytest.raises(InputError, match="'camera' is for grey images"):
        load_test_images("sklearn-digits", "val", "camera", PreprocessSpec(56, 56, 3), NOWHERE, 0)


@pytest.mark.parametrize("name", ["nix.safetensors", "nix.onnx", "nix"])
def test_a_model_that_is_missing_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name}: (does not exist|no such file)"):
        open_subject(str(tmp_path / name))


@pytest.mark.parametrize("name", ["torn.safetensors", "torn.onnx"])
def test_a_damaged_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x00nothing")
    with pytest.raises(InputError, match=rf"\A.*{name}: "):
        open_subject(str(tmp_path / name))


@pytest.mark.parametrize("spec", [{"height": 28}, {"height": 28, "width": 28, "channels": 1, "colour": "yes"}])
def test_a_checkpoint_with_a_damaged_preprocessing_spec_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    architecture = Architecture("fcn", {"width": 4})
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, architecture.build(), Checkpoint(architecture, tuple("0123456789"), spec))
    with pytest.raises(InputError, match="preprocess"):
        open_subject(str(path))


def manifest() -> str:
    return json.dumps(
        {
            "name": "bright",
            "labels": ["0", "1"],
            "preprocess": {"height": 12, "width": 12, "channels": 1, "fit": "stretch", "interpolation": "area"},
            "transformers": [],
            "outputs": ["probabilities"],
            "export": {"form": "fused", "target": "cpu", "precision": "float32", "opset": 18},
            "schema": 1,
        }
    )


def test_an_onnx_file_is_measured_like_a_checkpoint(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    weight = np.zeros((144, 2), np.float32)
    weight[:, 1] = 1 / 144
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=kinds.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weight, "weight"),
        onnx.numpy_helper.from_array(np.array([127.5, 0], np.float32), "bias"),
    ]
    image = helper.make_tensor_value_info("image", kinds.UINT8, ["n", 12, 12, 1])
    output = helper.make_tensor_value_info("probabilities", kinds.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "bright", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.add(key="stn_edge", value=manifest())
    onnx.save(model, tmp_path / "bright.onnx")
    subject = open_subject(str(tmp_path / "bright.onnx"))
    levels = [0, 100, 127, 128, 200, 255]
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(6, 12, 12, 1)
    report = evaluate(subject, LabelledImages(images, torch.tensor([0, 0, 1, 1, 1, 0]), ("0", "1"), "hand"))
    assert report.predicted.tolist() == [0, 0, 0, 1, 1, 1]
    assert report.accuracy == pytest.approx(4 / 6)
    assert evaluate_at_identity(subject, LabelledImages(images, torch.zeros(6).long(), ("0", "1"), "hand")) is None
