"""The split form: two graphs that answer as one, from the frame itself."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from stn_export import Deployment, Exported, classifier_graph, export_graph, verify
from stn_export.forms.splitting import split_graph
from stn_export.graph.onnx_files import dims_of
from stn_export.proof.reference import torch_outputs
from stn_export.proof.verification import open_both
from stn_models import Architecture, ParallelTransformers, insert_spatial_transformer, make_transformer
from stn_runtime import Classifier, InputError, PreprocessSpec
from stn_runtime.images.writing import write_image
from tests.support.small_network import ARCHITECTURE, SPEC, restless

NO_IMAGES = np.empty((0, 28, 28, 1), np.uint8)


def test_neither_graph_has_a_sampler(graph: onnx.ModelProto) -> None:
    localization = split_graph(graph, 18)
    for part in (localization, classifier_graph(localization)):
        assert "GridSample" not in {node.op_type for node in part.graph.node}
    assert [output.name for output in localization.graph.output] == ["theta", "outline", "grid_0"]
    assert [value.name for value in classifier_graph(localization).graph.input] == ["warped_0"]


def test_a_frame_of_the_networks_size_gives_what_the_fused_form_gives(split_file: Exported, exported: Exported) -> None:
    pictures = list(np.random.default_rng(1).integers(0, 256, (5, 28, 28), np.uint8))
    split, fused = (Classifier(file.path).predict(pictures) for file in (split_file, exported))
    for one, other in zip(split, fused, strict=True):
        assert one.label == other.label
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        np.testing.assert_allclose(one.outline, other.outline, atol=1e-3)
        assert np.abs(one.rectified.astype(int) - other.rectified).max() <= 1


@pytest.mark.parametrize("form", ["split", "fused"])
def test_a_file_that_takes_one_picture_at_a_time_answers_for_several_as_for_each(
    form: str, split_file: Exported, single_file: Exported, exported: Exported
) -> None:
    path = (split_file if form == "split" else single_file).path
    graphs = [onnx.load(path)] + ([classifier_graph(onnx.load(path))] if form == "split" else [])
    values = [value for model in graphs for value in (*model.graph.input, *model.graph.output)]
    assert {dims_of(value)[0] for value in values} == {1}
    one_by_one, any_number = Classifier(path), Classifier(exported.path)
    pictures = list(np.random.default_rng(8).integers(0, 256, (3, 28, 28), np.uint8))
    together, apart = one_by_one.predict(pictures), [one_by_one.predict(picture) for picture in pictures]
    for several, single, fused in zip(together, apart, any_number.predict(pictures), strict=True):
        assert (several.label, several.top, several.theta) == (single.label, single.top, single.theta)
        np.testing.assert_array_equal(several.rectified, single.rectified)
        assert several.label == fused.label
        assert several.confidence == pytest.approx(fused.confidence, abs=1e-4)
        np.testing.assert_allclose(several.theta, fused.theta, atol=1e-5)


def test_both_graphs_are_of_the_opset_and_the_ir_version_that_old_converters_read(split_file: Exported) -> None:
    localization = onnx.load(split_file.path)
    for part in (localization, classifier_graph(localization)):
        onnx.checker.check_model(part, full_check=True)
        assert [(entry.domain, entry.version) for entry in part.opset_import] == [("", 13)]
        assert part.ir_version == 8


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_with_align_corners_a_frame_of_the_networks_size_gives_what_pytorch_gives(padding: str) -> None:
    options = ARCHITECTURE.options | {"padding": padding, "align_corners": True}
    deployment = Deployment(restless(Architecture("st-cnn", options)), SPEC).eval()
    model = split_graph(export_graph(deployment, SPEC, "split"), 13)
    pictures = np.random.default_rng(6).integers(0, 256, (16, 28, 28, 1), np.uint8)
    network, _ = open_both(model, deployment, SPEC, "split", "float32")
    actual, expected = network.run(pictures), torch_outputs(deployment, pictures)
    outside = np.abs(expected["outline"]).max(axis=(1, 2, 3)) > 1.1
    assert outside.sum() > 4
    np.testing.assert_allclose(actual["probabilities"], expected["probabilities"], atol=1e-4)
    assert np.abs(actual["rectified"].astype(int) - expected["rectified"]).max() <= 1
    assert verify(deployment, model, SPEC, NO_IMAGES, "split").passed


def test_a_large_frame_is_sampled_at_its_own_resolution(split_file: Exported, tmp_path: Path) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (480, 640, 3), np.uint8)
    write_image(tmp_path / "frame.png", frame)
    prediction = Classifier(split_file.path).predict(tmp_path / "frame.png")
    assert prediction.rectified.shape == (28, 28)
    assert 0 < prediction.confidence <= 1


def test_parallel_transformers_are_warped_each() -> None:
    torch.manual_seed(0)
    pair = ParallelTransformers([make_transformer(1, (28, 28), "affine"), make_transformer(1, (28, 28), "similarity")])
    for transformer in pair.transformers:
        nn.init.normal_(transformer.localization.regression.weight, std=0.2)
    deployment = Deployment(nn.Sequential(pair, nn.Flatten(), nn.Linear(2 * 28 * 28, 10)).eval(), SPEC).eval()
    model = split_graph(export_graph(deployment, SPEC), 18)
    assert [output.name for output in model.graph.output][2:] == ["grid_0", "grid_1"]
    assert verify(deployment, model, SPEC, NO_IMAGES, "split").passed


def test_a_transformer_on_feature_maps_is_refused() -> None:
    model = Architecture("st-cnn", {"image_size": 28, "width": 8}).build()
    insert_spatial_transformer(model, "classifier.1.0.3", example=torch.rand(1, 1, 28, 28))
    graph = export_graph(Deployment(model.eval(), SPEC).eval(), SPEC)
    with pytest.raises(InputError, match=r"samples what the network made of it; use the portable form"):
        split_graph(graph, 18)


def test_a_classifier_that_sees_the_image_too_is_refused() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = make_transformer(1, (28, 28))
            self.head = nn.Linear(2 * 28 * 28, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([image, self.transformer(image)], dim=1).flatten(1))

    graph = export_graph(Deployment(Both().eval(), SPEC).eval(), SPEC)
    with pytest.raises(InputError, match="a classifier that sees only what the transformers made"):
        split_graph(graph, 18)


def test_a_network_without_a_transformer_is_refused() -> None:
    spec = PreprocessSpec(28, 28, 1)
    deployment = Deployment(Architecture("cnn", {"width": 8}).build().eval(), spec).eval()
    with pytest.raises(InputError, match="the network has none; use the fused form"):
        split_graph(export_graph(deployment, spec), 18)


def test_a_file_of_another_form_has_no_classifier_graph(graph: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="not of the split form"):
        classifier_graph(graph)
