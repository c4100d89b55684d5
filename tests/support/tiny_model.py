"""A tiny model file whose every answer can be worked out by hand, made with onnx alone.

grey: K = 3 labels of the mean brightness m in [0, 1]: dark (1-m)^2, middle 2m(1-m), bright m^2.
RGB:  K = 3 labels of the mean red r, green g, blue b in [0, 255]: (r+1, g+1, b+1) / (r+g+b+3).
theta is (0.5, 0, 0.25, 0, 0.5, -0.25) for every picture; the outline is the border of [-1, 1]^2 under it, 8 points a
side from the top left clockwise; rectified is rows 1 to 3 and columns 2 to 5 of the input.
"""

import dataclasses
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stn_runtime import ExportSpec, Manifest, PreprocessSpec, TransformerSpec
from stn_runtime.model.golden import make_golden

HEIGHT, WIDTH = 6, 8
THETA = np.array([0.5, 0.0, 0.25, 0.0, 0.5, -0.25], np.float32)
LABELS = {1: ("dark", "middle", "bright"), 3: ("red", "green", "blue")}


def outline_of_theta() -> NDArray[np.float32]:
    """(32, 2): 8 points a side of the square [-1, 1]^2, halved and moved by (0.25, -0.25)."""
    steps = np.arange(8) / 4 - 1
    top = np.stack((steps, np.full(8, -1.0)), 1)
    right = np.stack((np.full(8, 1.0), steps), 1)
    square = np.concatenate((top, right, -top, -right))
    return (square * 0.5 + (0.25, -0.25)).astype(np.float32)


def answer(image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """What the model must answer to one input (H, W, C), computed without it."""
    if image.shape[2] == 1:
        mean = image.astype(np.float64).mean() / 255
        probabilities = np.array([(1 - mean) ** 2, 2 * mean * (1 - mean), mean**2])
    else:
        means = image.astype(np.float64).mean((0, 1)) + 1
        probabilities = means / means.sum()
    return {
        "probabilities": probabilities.astype(np.float32),
        "theta": THETA,
        "outline": outline_of_theta()[None],
        "rectified": image[1:4, 2:6].astype(np.float32),
    }


def make_manifest(channels: int, **changes: Any) -> Manifest:  # noqa: ANN401
    rng = np.random.default_rng(channels)
    pictures = [rng.integers(0, high, (HEIGHT, WIDTH, channels), np.uint8, endpoint=True) for high in (60, 255)]
    manifest = Manifest(
        name="tiny",
        labels=LABELS[channels],
        preprocess=PreprocessSpec(HEIGHT, WIDTH, channels),
        transformers=(
            TransformerSpec("stn", "affine", (0, 6), (HEIGHT, WIDTH), (3, 4), "bilinear", "zeros", False, True),
        ),
        outputs=("probabilities", "theta", "outline", "rectified"),
        export=ExportSpec("fused", "cpu", "float32", 18),
        data={"name": "by hand"},
        metrics={"accuracy": 97.5},
        parity={"probabilities": 1e-7},
        versions={"onnx": onnx.__version__},
        license="Apache-2.0",
        golden=tuple(make_golden(picture, answer(picture)) for picture in pictures),
    )
    return dataclasses.replace(manifest, **changes)


def make_graph(channels: int, batch: int | str = "N", input_type: int = TensorProto.UINT8) -> onnx.ModelProto:
    nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)]
    values: dict[str, Any] = {"one": np.float32(1), "two": np.float32(2), "zero": np.float32(0)}
    if channels == 1:
        nodes += [
            helper.make_node("ReduceMean", ["pixels", "all_axes"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "full"], ["m_flat"]),
            helper.make_node("Unsqueeze", ["m_flat", "last"], ["m"]),
            helper.make_node("Sub", ["one", "m"], ["rest"]),
            helper.make_node("Mul", ["rest", "rest"], ["dark"]),
            helper.make_node("Mul", ["m", "rest"], ["half"]),
            helper.make_node("Mul", ["half", "two"], ["middle"]),
            helper.make_node("Mul", ["m", "m"], ["bright"]),
            helper.make_node("Concat", ["dark", "middle", "bright"], ["probabilities"], axis=1),
            helper.make_node("Mul", ["m", "zero"], ["nothing"]),
        ]
        values |= {"all_axes": np.array([1, 2, 3]), "full": np.float32(255), "last": np.array([1])}
    else:
        nodes += [
            helper.make_node("ReduceMean", ["pixels", "plane"], ["means"], keepdims=0),
            helper.make_node("Add", ["means", "one"], ["raised"]),
            helper.make_node("ReduceSum", ["raised", "last"], ["sum"], keepdims=1),
            helper.make_node("Div", ["raised", "sum"], ["probabilities"]),
            helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        ]
        values |= {"plane": np.array([1, 2]), "last": np.array([1])}
    nodes += [
        helper.make_node("Add", ["nothing", "constant_theta"], ["theta"]),
        helper.make_node("Reshape", ["nothing", "four_axes"], ["nothing4"]),
        helper.make_node("Add", ["nothing4", "constant_outline"], ["outline"]),
        helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["rectified"]),
    ]
    values |= {
        "constant_theta": THETA[None],
        "four_axes": np.array([-1, 1, 1, 1]),
        "constant_outline": outline_of_theta()[None, None],
        "starts": np.array([1, 2]),
        "ends": np.array([4, 6]),
        "axes": np.array([1, 2]),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", input_type, (batch, HEIGHT, WIDTH, channels))],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (batch, 3)),
            helper.make_tensor_value_info("theta", TensorProto.FLOAT, (batch, 6)),
            helper.make_tensor_value_info("outline", TensorProto.FLOAT, (batch, 1, 32, 2)),
            helper.make_tensor_value_info("rectified", input_type, (batch, 3, 4, channels)),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
