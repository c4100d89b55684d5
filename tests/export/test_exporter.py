from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from stn_export import (
    Card,
    Deployment,
    Exported,
    ParityError,
    export_classifier,
    export_graph,
    verify,
)
from stn_models import (
    Architecture,
    ParallelTransformers,
    insert_spatial_transformer,
    load_checkpoint,
    make_transformer,
)
from stn_models.transformer import SpatialTransformer
from stn_runtime import Classifier, Manifest, ModelContractError, PreprocessSpec
from stn_runtime.images.writing import write_image
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.network import Network
from tests.support.small_network import LABELS, SPEC


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def restless(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, SpatialTransformer):
            weight = module.localization.regression.weight
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    return model.eval()


def test_an_affine_transformer_is_one_grid_sample_and_no_broadcast_grid(graph: onnx.ModelProto) -> None:
    counts = operators(graph)
    assert counts["GridSample"] == 1
    assert not {"AffineGrid", "ReduceSum", "Loop", "If", "Scan"} & set(counts)


def test_the_grid_is_one_matrix_product_of_theta_and_a_constant(graph: onnx.ModelProto) -> None:
    constants = {entry.name for entry in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type == "MatMul" and "theta" in node.input]
    assert len(products) == 2  # the grid and the outline
    assert all(constants & set(node.input) for node in products)


def test_the_file_is_opset_18_of_the_standard_domain_alone(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}


def test_inputs_and_outputs_are_those_of_the_contract(graph: onnx.ModelProto) -> None:
    def described(entry: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
        tensor = entry.type.tensor_type
        return entry.name, tensor.elem_type, [size.dim_value for size in tensor.shape.dim]

    uint8, float32 = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    assert [described(entry) for entry in graph.graph.input] == [("image", uint8, [0, 28, 28, 1])]
    assert [described(entry) for entry in graph.graph.output] == [
        ("probabilities", float32, [0, 10]),
        ("theta", float32, [0, 6]),
        ("outline", float32, [0, 1, 4, 2]),
        ("rectified", uint8, [0, 28, 28, 1]),
    ]


def test_all_weights_are_inside_the_file(exported: Exported) -> None:
    model = onnx.load(exported.path, load_external_data=False)
    assert not any(entry.external_data for entry in model.graph.initializer)
    assert [path.name for path in exported.path.parent.iterdir()] == [exported.path.name]


def test_the_manifest_in_the_file_says_what_the_checkpoint_said(exported: Exported) -> None:
    model = onnx.load(exported.path)
    text = next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY)
    manifest = Manifest.from_json(text, "test")
    assert manifest == exported.manifest
    assert (manifest.name, manifest.labels, manifest.preprocess) == ("small", LABELS, SPEC)
    assert manifest.metrics == {"val_accuracy": 97.5}
    assert manifest.license == "Apache-2.0"
    assert manifest.export.opset == 18
    assert manifest.versions["torch"] == torch.__version__
    [transformer] = manifest.transformers
    assert (transformer.grid, transformer.theta, transformer.on_image) == ("affine", (0, 6), True)
    assert (transformer.interpolation, transformer.padding, transformer.align_corners) == ("bilinear", "zeros", False)


def test_golden_vectors_pass_in_the_runtime(exported: Exported) -> None:
    result = replay(Network(exported.path))
    assert result.passed
    assert result.pictures == 2
    assert set(result.differences) == {"probabilities", "theta", "outline", "rectified"}


def test_the_runtime_classifies_a_picture_as_pytorch_does(exported: Exported, checkpoint: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    write_image(tmp_path / "picture.png", picture)
    network, _ = load_checkpoint(checkpoint)
    with torch.inference_mode():
        expected = network(torch.from_numpy(picture)[None, None].float() / 255).softmax(dim=1)[0]
    prediction = Classifier(exported.path).predict(tmp_path / "picture.png")
    assert prediction.label == LABELS[int(expected.argmax())]
    assert prediction.confidence == pytest.approx(float(expected.max()), abs=1e-5)


def test_the_outline_encloses_what_the_transformer_sampled(deployment: Deployment) -> None:
    picture = torch.randint(0, 256, (1, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = deployment.outputs(picture)
    theta = outputs.theta[0].reshape(2, 3)
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]) @ theta.T
    torch.testing.assert_close(outputs.outline[0, 0], corners)


def test_a_network_without_a_transformer_has_probabilities_only() -> None:
    spec = PreprocessSpec(28, 28, 1)
    deployment = Deployment(Architecture("cnn", {"width": 8}).build().eval(), spec).eval()
    graph = export_graph(deployment, spec)
    assert [output.name for output in graph.graph.output] == ["probabilities"]
    assert verify(deployment, graph, spec, np.empty((0, 28, 28, 1), np.uint8)).passed


def test_two_transformers_in_series_are_joined_in_order_of_use() -> None:
    spec = PreprocessSpec(28, 28, 1)
    model = Architecture("st-cnn", {"image_size": 28, "width": 8, "grid": "attention"}).build()
    insert_spatial_transformer(model, "classifier.1.0.3", example=torch.rand(1, 1, 28, 28), grid="tps")
    deployment = Deployment(restless(model), spec).eval()
    first, second = deployment.transformers
    assert (first.name, first.grid, first.theta, first.on_image) == ("transformer", "attention", (0, 3), True)
    assert (second.grid, second.theta, second.on_image) == ("tps", (3, 35), False)
    assert second.input_size == (10, 10)
    with torch.no_grad():
        outputs = deployment.outputs(torch.zeros(3, 28, 28, 1, dtype=torch.uint8))
    assert outputs.outline.shape == (3, 2, 32, 2)  # the bent one needs 32 points, so the straight one has them too
    scale, x, y = outputs.theta[1, :3]
    along = torch.tensor([[-1 + step / 4, -1.0] for step in range(8)])
    torch.testing.assert_close(outputs.outline[1, 0, :8], scale * along + torch.stack([x, y]))
    torch.testing.assert_close(outputs.outline[1, 0, 31], scale * torch.tensor([-1.0, -0.75]) + torch.stack([x, y]))
    graph = export_graph(deployment, spec)
    assert operators(graph)["GridSample"] == 2
    assert verify(deployment, graph, spec, np.empty((0, 28, 28, 1), np.uint8)).passed


def test_transformers_in_parallel_are_both_on_the_image() -> None:
    pair = ParallelTransformers([make_transformer(1, (28, 28), "affine"), make_transformer(1, (28, 28), "similarity")])
    model = nn.Sequential(pair, nn.Flatten(), nn.Linear(2 * 28 * 28, 10))
    spec = PreprocessSpec(28, 28, 1)
    deployment = Deployment(restless(model), spec).eval()
    assert [transformer.on_image for transformer in deployment.transformers] == [True, True]
    assert [transformer.theta for transformer in deployment.transformers] == [(0, 6), (6, 10)]
    graph = export_graph(deployment, spec)
    assert verify(deployment, graph, spec, np.empty((0, 28, 28, 1), np.uint8)).passed


def test_rectified_is_what_the_last_of_two_transformers_in_series_made() -> None:
    first, second = make_transformer(1, (28, 28), "affine"), make_transformer(1, (28, 28), "affine", (14, 14))
    model = restless(nn.Sequential(first, second, nn.Flatten(), nn.Linear(14 * 14, 10)))
    deployment = Deployment(model, PreprocessSpec(28, 28, 1)).eval()
    picture = torch.randint(0, 256, (1, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model[1](model[0](picture.permute(0, 3, 1, 2) / 255)).permute(0, 2, 3, 1) * 255
        rectified = deployment.outputs(picture).rectified
    assert rectified.shape == (1, 14, 14, 1)
    assert (rectified - expected).abs().max() <= 0.5 + 1e-3


class MirroredInExport(nn.Module):
    """A network whose graph samples the mirrored picture, while the module itself does not mirror."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer, self.head = make_transformer(1, (28, 28)), nn.Linear(28 * 28, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        picture = image.flip(3) if torch.compiler.is_compiling() else image
        return self.head(self.transformer(picture).flatten(1))


def test_a_graph_that_differs_from_pytorch_leaves_no_file(tmp_path: Path) -> None:
    network = restless(MirroredInExport())
    with pytest.raises(ParityError, match="differs from PyTorch, nothing was written"):
        export_classifier(network, tmp_path / "wrong.onnx", Card("wrong", LABELS, SPEC))
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_with_other_outputs_than_the_graph_is_refused_on_the_device(
    exported: Exported, tmp_path: Path
) -> None:
    model = onnx.load(exported.path)
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = replace(exported.manifest, outputs=("probabilities",)).to_json()
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(Exception, match=r"outputs are .* the manifest says"):
        Classifier(tmp_path / "other.onnx")


def test_a_head_that_sums_over_positions_is_exported() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.stem = make_transformer(1, (28, 28)), nn.Conv2d(1, 6, 5, stride=4)
            self.attention, self.head = nn.Linear(6, 1), nn.Linear(6, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = self.stem(self.transformer(image)).flatten(2).transpose(1, 2)
            return self.head((self.attention(x).softmax(1) * x).sum(1))

    torch.manual_seed(0)
    deployment = Deployment(restless(Attends()), SPEC).eval()
    graph = export_graph(deployment, SPEC)
    assert operators(graph)["ReduceSum"] == 1
    assert verify(deployment, graph, SPEC, np.empty((0, 28, 28, 1), np.uint8)).passed


def test_metrics_that_are_no_numbers_are_one_sentence_and_no_file(tmp_path: Path) -> None:
    network = Architecture("cnn", {"width": 8}).build().eval()
    card = Card("mine", LABELS, SPEC, metrics={"val_accuracy": float("nan")})
    with pytest.raises(ModelContractError, match=r"^mine: its data, metrics or figures hold NaN or infinity$"):
        export_classifier(network, tmp_path / "m.onnx", card)
    assert list(tmp_path.iterdir()) == []
