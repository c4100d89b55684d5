"""ONNX graphs made by hand, run, and read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.support.transformer_files import base

RELATIVE = 1e-5  # of the largest value


def run(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    sampled: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return sampled


def run_all(path: Path, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float32]] = session.run(None, feeds)
    return answers


def assert_equal(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * np.abs(expected).max())


def samplers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "GridSample"]


def attributes(node: onnx.NodeProto) -> dict[str, str | int]:
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def steps_of(model: onnx.ModelProto, sampler: onnx.NodeProto) -> list[str]:
    """Return the operators that make a grid, from its product with a constant on."""
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = {entry.name for entry in model.graph.initializer}
    node, steps = makers[sampler.input[1]], []
    while True:
        steps.insert(0, node.op_type)
        assert set(node.input[1:]) <= constants, f"{node.op_type} reads more than one tensor"
        if node.op_type == "MatMul":
            return steps
        node = makers[node.input[0]]


def hand_made(body: str, inputs: str, outputs: str, opset: int = 18, **constants: object) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def sampler_in_a_function() -> onnx.ModelProto:
    """Return a graph whose sampler, with its grid, is a function of the file."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "somebody": 1]> graph (float[N, 6] theta, float[N, 1, 5, 7] image)'
        " => (float[N, 1, 4, 3] sampled) { sampled = somebody.Warp(image, theta, base) }"
        ' <domain: "somebody", opset_import: ["": 18]> Warp (image, theta, base) => (sampled) {'
        " matrix = Constant<value_ints = [-1, 2, 3]>() sizes = Constant<value_ints = [-1, 4, 3, 2]>()"
        ' t = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        " sampled = GridSample<align_corners = 1>(image, grid) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(base((4, 3), True).numpy(), "base"))
    onnx.checker.check_model(model, full_check=True)
    return model
