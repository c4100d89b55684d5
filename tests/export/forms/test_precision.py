"""Reduced precision: what becomes smaller, and the island that stays in float32."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stn_export import Deployment, Exported, GateError, TestSet, export_checkpoint, export_graph, plan_export
from stn_export.forms.precision import LOCALIZATION, find_nodes, float32_island, layers, reduce_precision
from stn_export.proof import gates
from stn_export.proof.gates import LARGEST_SHIFT, Gate, blame, measure, point_shifts
from stn_export.proof.reference import torch_outputs
from stn_export.proof.verification import open_both
from stn_models import Architecture, make_transformer
from stn_runtime import InputError
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import METADATA_KEY, Precision
from stn_runtime.model.network import Network
from tests.support.small_network import ARCHITECTURE, SPEC


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (48, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def data(deployment: Deployment, pictures: NDArray[np.uint8]) -> TestSet:
    """Pictures whose true label is what PyTorch answers: accuracy 100 % by construction."""
    labels = torch_outputs(deployment, pictures)["probabilities"].argmax(axis=-1)
    return TestSet(pictures, labels, pictures[:16], "random pictures")


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that the graph computes."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}


def test_the_island_is_head_grid_and_sampler_and_holds_no_convolution(graph: onnx.ModelProto) -> None:
    operators = {node.name: node.op_type for node in graph.graph.node}
    island = float32_island(graph)
    assert {"GridSample", "MatMul", "Gemm"} <= {operators[name] for name in island}
    assert "Conv" not in {operators[name] for name in island}
    assert sorted(operators[name] for name in layers(graph)).count("Conv") == 4


def test_float16_halves_the_weights_and_leaves_grid_and_sampler_alone(
    graph: onnx.ModelProto, pictures: NDArray[np.uint8]
) -> None:
    half = reduce_precision(graph, "float16", pictures)
    onnx.checker.check_model(half, full_check=True)
    types = kinds(half)
    [sampler] = [node for node in half.graph.node if node.op_type == "GridSample"]
    assert {types[name] for name in [*sampler.input, *sampler.output]} == {onnx.TensorProto.FLOAT}
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    assert [value.type.tensor_type.elem_type for value in half.graph.output] == [
        value.type.tensor_type.elem_type for value in graph.graph.output
    ]


def test_a_network_that_enlarges_its_maps_keeps_the_factors_in_float32_in_float16(
    pictures: NDArray[np.uint8],
) -> None:
    class Enlarges(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.stem = make_transformer(1, (28, 28)), nn.Conv2d(1, 4, 3, stride=2)
            self.head = nn.Linear(4 * 26 * 26, 10)

        def forward(self, image: Tensor) -> Tensor:
            maps = functional.interpolate(self.stem(self.transformer(image)), scale_factor=2, mode="bilinear")
            return self.head(maps.flatten(1))

    torch.manual_seed(0)
    deployment = Deployment(Enlarges().eval(), SPEC).eval()
    half = reduce_precision(export_graph(deployment, SPEC), "float16", pictures)
    onnx.checker.check_model(half, full_check=True)
    [resize] = [node for node in half.graph.node if node.op_type == "Resize"]
    constants = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    types = {**constants, **kinds(half)}
    assert types[resize.input[0]] == types[resize.output[0]] == onnx.TensorProto.FLOAT16
    assert constants[resize.input[2]] == onnx.TensorProto.FLOAT
    network, _ = open_both(half, deployment, SPEC, "fused", "float16")
    actual, expected = network.run(pictures[:4]), torch_outputs(deployment, pictures[:4])
    np.testing.assert_allclose(actual["probabilities"], expected["probabilities"], atol=1e-2)


@pytest.fixture(scope="module")
def quantised(graph: onnx.ModelProto, pictures: NDArray[np.uint8]) -> onnx.ModelProto:
    return reduce_precision(graph, "int8", pictures)


def test_int8_answers_probabilities_as_softmax_makes_them(quantised: onnx.ModelProto) -> None:
    [softmax] = [node for node in quantised.graph.node if "probabilities" in node.output]
    assert softmax.op_type == "Softmax"
    [output] = [value for value in quantised.graph.output if value.name == "probabilities"]
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert "Softmax" not in {node.op_type for node in quantised.graph.node if node is not softmax}
    assert all("probabilities" not in node.input for node in quantised.graph.node)


def test_the_weights_of_int8_have_seven_bits(quantised: onnx.ModelProto) -> None:
    """Sums of two products of eight bits overflow on processors without VNNI."""
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in quantised.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(weights) >= 4
    assert all(np.abs(values.astype(int)).max() <= 64 for values in weights)
    assert max(np.abs(values.astype(int)).max() for values in weights) >= 63


def test_int8_quantises_the_convolutions_per_channel_and_nothing_of_the_island(
    graph: onnx.ModelProto, quantised: onnx.ModelProto
) -> None:
    constants = {tensor.name: tensor for tensor in quantised.graph.initializer}
    made_by = {name: node for node in quantised.graph.node for name in node.output}
    for node in quantised.graph.node:
        if node.op_type == "Conv":
            dequantised = made_by[node.input[1]]
            assert dequantised.op_type == "DequantizeLinear"
            assert constants[dequantised.input[0]].data_type == onnx.TensorProto.INT8
            assert len(constants[dequantised.input[1]].dims) == 1  # a scale for each channel
        if node.name in float32_island(graph) and node.op_type in ("MatMul", "Gemm"):
            assert made_by.get(node.input[1]) is None  # its weights are as they were


def test_a_node_can_be_excluded_by_name(graph: onnx.ModelProto, pictures: NDArray[np.uint8]) -> None:
    name = layers(graph)[0]
    kept = reduce_precision(graph, "float16", pictures, [name])
    [node] = [node for node in kept.graph.node if node.name == name]
    assert kinds(kept)[node.output[0]] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_without_the_localisation_net_theta_is_as_in_float32(
    graph: onnx.ModelProto, deployment: Deployment, pictures: NDArray[np.uint8], precision: Precision
) -> None:
    """Also what lies between its layers stays in float32."""
    kept = reduce_precision(graph, precision, pictures, find_nodes(graph, [LOCALIZATION]))
    exact, given = (
        open_both(model, deployment, SPEC, "fused", kind)[0].run(pictures)
        for model, kind in ((graph, "float32"), (kept, precision))
    )
    np.testing.assert_allclose(given["theta"], exact["theta"], atol=1e-5)
    assert np.abs(given["probabilities"] - exact["probabilities"]).max() > 5e-6  # the classifier is reduced


def test_the_localisation_net_is_the_layers_that_theta_is_computed_by(graph: onnx.ModelProto) -> None:
    samplers = [place for place, node in enumerate(graph.graph.node) if node.op_type == "GridSample"]
    before = [node.name for node in graph.graph.node[: samplers[0]] if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert find_nodes(graph, [LOCALIZATION]) == before
    last = layers(graph)[-1]
    assert last not in before
    assert find_nodes(graph, [last, LOCALIZATION]) == [*before, last]


def test_a_gate_measures_accuracy_against_the_labels_and_shift_in_pixels(
    deployment: Deployment, graph: onnx.ModelProto, data: TestSet
) -> None:
    network, _ = open_both(graph, deployment, SPEC, "fused", "float32")
    same = measure(deployment, network, "float32", data)
    assert (same.reference, same.accuracy, same.labels_differ) == (100.0, 100.0, 0)
    assert same.shift < 1e-3
    assert same.passed


def test_points_moved_by_half_a_pixel_fail_the_gate(
    deployment: Deployment, graph: onnx.ModelProto, data: TestSet
) -> None:
    moved = onnx.ModelProto()
    moved.CopyFrom(graph)
    made_by = {name: node for node in moved.graph.node for name in node.output}
    bias = made_by["theta"].input[2]
    [tensor] = [tensor for tensor in moved.graph.initializer if tensor.name == bias]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[2] += 2 * 0.5 / 28  # tx: half a pixel of 28
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, bias))
    network, _ = open_both(moved, deployment, SPEC, "fused", "int8")
    gate = measure(deployment, network, "int8", data)
    assert gate.shift == pytest.approx(0.5, abs=0.01)
    assert not gate.passed
    assert "FAILED" in gate.sentence()


@pytest.mark.parametrize(
    ("precision", "reference", "accuracy", "passes"),
    [
        ("float16", 99.0, 98.9, True),
        ("float16", 99.0, 98.89, False),
        ("int8", 99.0, 98.5, True),
        ("int8", 99.0, 98.4, False),
        ("float32", 99.0, 98.99, False),
        ("float32", 99.0, 99.0, True),
        ("int8", 98.0, 99.0, True),
    ],
)
def test_how_far_accuracy_may_drop(precision: str, reference: float, accuracy: float, passes: bool) -> None:
    assert Gate(precision, reference, accuracy, 0, 0.0, 10_000, "x").passed is passes
    assert not Gate(precision, reference, accuracy, 0, LARGEST_SHIFT + 0.01, 10_000, "x").passed


def test_in_float32_one_label_lost_and_one_gained_are_two_too_many() -> None:
    assert not Gate("float32", 99.0, 99.0, 2, 0.0, 10_000, "x").passed
    assert Gate("float16", 99.0, 99.0, 2, 0.0, 10_000, "x").passed


class Answers:
    """A network that answers as PyTorch does, but for what a function does to its outputs."""

    def __init__(self, deployment: Deployment, change: Callable[[int, dict[str, NDArray[np.generic]]], None]) -> None:
        self.deployment, self.change, self.seen = deployment, change, 0

    def run(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        outputs = {name: values.copy() for name, values in torch_outputs(self.deployment, batch).items()}
        self.change(self.seen, outputs)
        self.seen += len(batch)
        return outputs


@pytest.mark.parametrize("third", [0, 1, 2])
def test_points_that_move_in_a_third_of_many_pictures_are_noticed_wherever_they_come(
    deployment: Deployment, third: int
) -> None:
    """Data sets come class by class."""

    def move(first: int, outputs: dict[str, NDArray[np.generic]]) -> None:
        if first // 1000 == third:
            outputs["theta"][:, 2] += 2 * 0.5 / 28

    images = np.zeros((3000, 28, 28, 1), np.uint8)
    data = TestSet(images, np.zeros(3000, np.int64), images[:1], "black")
    gate = measure(deployment, Answers(deployment, move), "int8", data)
    assert gate.shift == pytest.approx(0.5, abs=1e-3)
    assert gate.pictures == 3000


def test_labels_that_differ_are_counted_also_where_accuracy_stays(deployment: Deployment, data: TestSet) -> None:
    """Two labels exchanged: one picture is lost, another gained."""
    best = data.labels
    other = int(np.flatnonzero(best != best[0])[0])

    def exchange(first: int, outputs: dict[str, NDArray[np.generic]]) -> None:
        outputs["probabilities"][[0, other]] = outputs["probabilities"][[other, 0]]

    labels = best.copy()
    labels[other] = best[0]
    gate = measure(
        deployment, Answers(deployment, exchange), "float32", TestSet(data.images, labels, data.calibration, "x")
    )
    assert gate.reference == gate.accuracy
    assert gate.labels_differ == 2
    assert not gate.passed


def test_points_far_outside_count_where_the_border_is_read_there() -> None:
    near = np.array([[1, 0, 0, 0, 1, 0]], np.float32)
    far = [near + np.array([[0, 0, shift, 0, 0, 0]], np.float32) for shift in (6.0, 6.5)]
    moved = {}
    for padding in ("zeros", "border", "reflection"):
        network = Architecture("st-cnn", ARCHITECTURE.options | {"padding": padding}).build().eval()
        [moved[padding]] = point_shifts(Deployment(network, SPEC).eval(), *far)
    assert moved["zeros"].max() == 0
    np.testing.assert_allclose(moved["border"], 0.5 * 28 / 2, atol=1e-4)
    np.testing.assert_allclose(moved["reflection"], 0.5 * 28 / 2, atol=1e-4)


def damages(name: str) -> Callable[..., onnx.ModelProto]:
    """Return a reduction that spoils every layer a little, and one of that name a lot."""

    def reduce(
        model: onnx.ModelProto, precision: str, pictures: NDArray[np.uint8], exclude: Sequence[str] = ()
    ) -> onnx.ModelProto:
        reduced = onnx.ModelProto()
        reduced.CopyFrom(model)
        weights = {
            node.input[1]: node.name
            for node in reduced.graph.node
            if node.name in layers(model) and node.name not in exclude
        }
        for tensor in reduced.graph.initializer:
            if tensor.name in weights:
                factor = np.float32(-1 if weights[tensor.name] == name else 1.0001)
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * factor, tensor.name))
        return reduced

    return reduce


@pytest.mark.parametrize("position", [0, -1])
def test_blame_names_the_damaged_layer_first(
    deployment: Deployment, graph: onnx.ModelProto, data: TestSet, position: int
) -> None:
    damaged = layers(graph)[position]
    found = blame(deployment, graph, SPEC, "int8", data, reduce=damages(damaged))
    assert {name for name, _ in found} == set(layers(graph))
    assert found[0][0] == damaged
    assert found[0][1] > 5 * found[1][1]


def test_blame_leaves_out_what_stays_in_float32_already(
    deployment: Deployment, graph: onnx.ModelProto, data: TestSet
) -> None:
    """Were the excluded layer reduced along with each other one, all would cost as much as it does."""
    first, *rest = layers(graph)
    found = blame(deployment, graph, SPEC, "int8", data, [first], damages(first))
    assert {name for name, _ in found} == set(rest)
    spoilt = blame(deployment, graph, SPEC, "int8", data, reduce=damages(first))[0][1]
    assert max(cost for _, cost in found) < spoilt / 5


def test_an_int8_file_passes_its_gate_and_its_golden_vectors(
    checkpoint: Path, data: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = TestSet(data.images[:8], data.labels[:8], data.images, data.source)
    monkeypatch.setattr(gates, "LARGEST_DROP", {"int8": 100.0})  # labels of random weights on noise are a toss-up
    done = export_checkpoint(checkpoint, tmp_path / "int8.onnx", plan=plan_export("cpu", precision="int8"), data=sure)
    assert replay(Network(done.path)).passed
    report = done.manifest.verification["gate"]
    assert (report["precision"], report["reference"], report["pictures"]) == ("int8", 100.0, 8)
    text = next(entry.value for entry in onnx.load(done.path).metadata_props if entry.key == METADATA_KEY)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    assert json.loads(text, parse_constant=refuse)["export"]["precision"] == "int8"


def test_a_float16_file_is_smaller_and_passes_its_gate_and_its_golden_vectors(
    checkpoint: Path, exported: Exported, deployment: Deployment, data: TestSet, tmp_path: Path
) -> None:
    top = np.sort(torch_outputs(deployment, data.images)["probabilities"], axis=-1)
    sure = top[:, -1] - top[:, -2] > 5e-3  # a label that hangs by less may change without anything being wrong
    assert sure.sum() >= 8
    chosen = TestSet(data.images[sure], data.labels[sure], data.calibration, data.source)
    plan = plan_export("cpu", precision="float16")
    done = export_checkpoint(checkpoint, tmp_path / "half.onnx", plan=plan, data=chosen)
    assert done.gate is not None
    assert (done.gate.accuracy, done.gate.labels_differ) == (100.0, 0)
    replayed = replay(Network(done.path))
    assert replayed.passed
    assert replayed.pictures == len(done.manifest.golden) > 0
    assert done.manifest.export.precision == "float16"
    assert done.path.stat().st_size < 0.8 * exported.path.stat().st_size


def test_a_gate_that_fails_leaves_no_file_and_names_layers(checkpoint: Path, data: TestSet, tmp_path: Path) -> None:
    right = TestSet(data.images, data.labels, np.zeros_like(data.calibration), "calibrated on black")
    plan = plan_export("cpu", precision="int8")
    with pytest.raises(GateError, match=r"calibrated on black: top-1 .* try --exclude node_\w+ node_\w+"):
        export_checkpoint(checkpoint, tmp_path / "int8.onnx", plan=plan, data=right)
    assert list(tmp_path.iterdir()) == []


def test_reduced_precision_without_data_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision int8 is calibrated and judged on labelled images: give --data"):
        export_checkpoint(checkpoint, tmp_path / "m.onnx", plan=plan_export("cpu", precision="int8"))


def test_excluding_a_node_that_is_not_there_is_one_sentence(checkpoint: Path, data: TestSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--exclude nothing: the graph has no node of that name"):
        export_checkpoint(
            checkpoint,
            tmp_path / "m.onnx",
            plan=plan_export("cpu", precision="float16"),
            data=data,
            exclude=["nothing"],
        )
