"""Reduced precision: what becomes smaller, and the island that stays in float32."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from stn_export import Deployment, GateError, TestSet, export_checkpoint, gates, plan_export, verify
from stn_export.gates import LARGEST_SHIFT, Gate, blame, measure
from stn_export.precision import float32_island, layers, reduce_precision
from stn_export.verification import open_both, torch_outputs
from stn_runtime import InputError
from stn_runtime.golden import replay
from stn_runtime.network import Network

from .conftest import SPEC


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


def test_int8_quantises_the_convolutions_per_channel_and_nothing_of_the_island(
    graph: onnx.ModelProto, pictures: NDArray[np.uint8]
) -> None:
    quantised = reduce_precision(graph, "int8", pictures)
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


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_with_theta_given_the_sampler_is_as_exact_as_in_float32(
    deployment: Deployment, graph: onnx.ModelProto, pictures: NDArray[np.uint8], precision: str
) -> None:
    found = verify(
        deployment, reduce_precision(graph, precision, pictures), SPEC, pictures[:2], precision=precision
    ).injected
    assert found.differences["outline"] <= 1e-4
    assert found.differences["rectified"] <= 1


def test_a_node_can_be_excluded_by_name(graph: onnx.ModelProto, pictures: NDArray[np.uint8]) -> None:
    name = layers(graph)[0]
    kept = reduce_precision(graph, "float16", pictures, [name])
    [node] = [node for node in kept.graph.node if node.name == name]
    assert kinds(kept)[node.output[0]] == onnx.TensorProto.FLOAT


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
        ("int8", 98.0, 99.0, True),
    ],
)
def test_how_far_accuracy_may_drop(precision: str, reference: float, accuracy: float, passes: bool) -> None:
    assert Gate(precision, reference, accuracy, 0, 0.0, 10_000, "x").passed is passes
    assert not Gate(precision, reference, accuracy, 0, LARGEST_SHIFT + 0.01, 10_000, "x").passed


def test_blame_names_every_layer_worst_first(deployment: Deployment, graph: onnx.ModelProto, data: TestSet) -> None:
    found = blame(deployment, graph, SPEC, "int8", data)
    assert {name for name, _ in found} == set(layers(graph))
    assert [cost for _, cost in found] == sorted((cost for _, cost in found), reverse=True)


def test_an_int8_file_passes_its_gate_and_its_golden_vectors(
    checkpoint: Path, data: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = TestSet(data.images[:8], data.labels[:8], data.images, data.source)
    monkeypatch.setattr(gates, "LARGEST_DROP", {"int8": 100.0})  # labels of random weights on noise are a toss-up
    done = export_checkpoint(checkpoint, tmp_path / "int8.onnx", plan=plan_export("cpu", precision="int8"), data=sure)
    assert replay(Network(done.path)).passed
    report = done.manifest.verification["gate"]
    assert (report["precision"], report["reference"], report["pictures"]) == ("int8", 100.0, 8)


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
