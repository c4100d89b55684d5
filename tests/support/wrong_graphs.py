"""Graphs with a sampler that is slightly wrong, made of right ones: what a proof must refuse."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

Wrong = Callable[[onnx.ModelProto, onnx.NodeProto], bool]
"""Makes a graph wrong at one of its samplers, in place; returns whether it applies there."""


def wrong_graphs(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """Return each graph that is wrong at its first or its last sampler, by a description of what is wrong and where."""
    made: dict[str, onnx.ModelProto] = {}
    for number in sorted({0, len(samplers(model)) - 1}):
        for name, change in WRONGS.items():
            copied = onnx.ModelProto()
            copied.CopyFrom(model)
            if change(copied, samplers(copied)[number]):
                made[f"{name}, sampler {number}"] = copied
    return made


def samplers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the samplers of a graph, in order."""
    return [node for node in model.graph.node if node.op_type == "GridSample"]


def _attribute(name: str, value: str | int) -> Wrong:
    def change(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
        before = {entry.name: helper.get_attribute_value(entry) for entry in sampler.attribute}
        defaults = {"mode": b"bilinear", "padding_mode": b"zeros", "align_corners": 0}
        if name == "padding_mode" and _is_clipped(model, sampler):
            return False  # no point is outside, so that the padding does not matter
        if before.get(name, defaults[name]) == (value.encode() if isinstance(value, str) else value):
            return False
        kept = [entry for entry in sampler.attribute if entry.name != name]
        del sampler.attribute[:]
        sampler.attribute.extend([*kept, helper.make_attribute(name, value)])
        return True

    return change


def _is_clipped(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
    """Return whether a grid ends in a clip to the picture."""
    makers = {name: node for node in model.graph.node for name in node.output}
    reshape = makers[sampler.input[1]]
    return reshape.op_type == "Reshape" and makers[reshape.input[0]].op_type == "Min"


def _before(position: int, kind: str, *constants: np.ndarray, **attributes: int) -> Wrong:
    """Put an operator in front of what a sampler reads: 0 is the image, 1 the grid."""

    def change(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
        names = [f"wrong_{index}" for index in range(len(constants))]
        model.graph.initializer.extend(map(numpy_helper.from_array, constants, names))
        node = helper.make_node(kind, [sampler.input[position], *names], ["wrong"], **attributes)
        model.graph.node.insert(list(model.graph.node).index(sampler), node)
        sampler.input[position] = "wrong"
        return True

    return change


def _behind(kind: str, value: float) -> Wrong:
    """Put an operator behind a sampler."""

    def change(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
        sampled = sampler.output[0]
        sampler.output[0] = "right"
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), "wrong_0"))
        place = list(model.graph.node).index(sampler) + 1
        model.graph.node.insert(place, helper.make_node(kind, ["right", "wrong_0"], [sampled]))
        return True

    return change


def _on_grid(kind: str, x: float, y: float) -> Wrong:
    return _before(1, kind, np.array([x, y], np.float32))


def _shifted_by_half_a_pixel(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
    return _on_grid("Add", 1 / _width(model, sampler), 0.0)(model, sampler)


def _on_centres(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
    """Place +-1 of the grid on the centres of the border pixels instead of their edges."""
    scale = 1 - 1 / _width(model, sampler)
    return _on_grid("Mul", scale, scale)(model, sampler)


def _width(model: onnx.ModelProto, sampler: onnx.NodeProto) -> int:
    values = [*model.graph.input, *model.graph.value_info]
    image = next(value for value in values if value.name == sampler.input[0])
    return int(image.type.tensor_type.shape.dim[3].dim_value)


def _of_the_first_picture(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
    """Use the grid of the first picture of a batch for all of them, as a graph without a batch does."""
    _before(1, "Gather", np.zeros(1, np.int64), axis=0)(model, sampler)
    names = ["size_of_grid", "spread"]
    place = list(model.graph.node).index(sampler)
    first, sampler.input[1] = sampler.input[1], names[1]
    gather = model.graph.node[place - 1]
    model.graph.node.insert(place, helper.make_node("Shape", [gather.input[0]], names[:1]))
    model.graph.node.insert(place + 1, helper.make_node("Expand", [first, names[0]], names[1:]))
    return True


def _basis(model: onnx.ModelProto, sampler: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the constant of the product that makes a sampler's grid."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    name = sampler.input[1]
    while name in makers and makers[name].op_type in ("Reshape", "Min", "Max", "Add", "Clip"):
        name = makers[name].input[0]
    product = makers.get(name)
    return constants.get(product.input[1]) if product is not None and product.op_type == "MatMul" else None


def _on_basis(alter: Callable[[np.ndarray], np.ndarray]) -> Wrong:
    def change(model: onnx.ModelProto, sampler: onnx.NodeProto) -> bool:
        basis = _basis(model, sampler)
        if basis is None:
            return False
        altered = np.ascontiguousarray(alter(numpy_helper.to_array(basis).copy()))
        own = numpy_helper.from_array(altered, "wrong_basis")  # several samplers may share a basis
        model.graph.initializer.append(own)
        makers = {name: node for node in model.graph.node for name in node.output}
        name = sampler.input[1]
        while makers[name].op_type != "MatMul":
            name = makers[name].input[0]
        product = makers[name]
        product.input[1] = own.name
        return True

    return change


def _off(row: int) -> Callable[[np.ndarray], np.ndarray]:
    def alter(basis: np.ndarray) -> np.ndarray:
        basis[row] += np.float32(1e-4)
        return basis

    return alter


def _swapped(basis: np.ndarray) -> np.ndarray:
    half = len(basis) // 2
    return np.concatenate([basis[half:], basis[:half]])


WRONGS: dict[str, Wrong] = {
    "align_corners on": _attribute("align_corners", 1),
    "align_corners off": _attribute("align_corners", 0),
    "border": _attribute("padding_mode", "border"),
    "reflection": _attribute("padding_mode", "reflection"),
    "nearest": _attribute("mode", "nearest"),
    "bicubic": _attribute("mode", "bicubic"),
    "first row of the basis off by 1e-4": _on_basis(_off(0)),
    "last row of the basis off by 1e-4": _on_basis(_off(-1)),
    "rows of theta swapped": _on_basis(_swapped),
    "x and y exchanged": _before(1, "Gather", np.array([1, 0], np.int64), axis=3),
    "x mirrored": _on_grid("Mul", -1.0, 1.0),
    "grid shifted by half a pixel": _shifted_by_half_a_pixel,
    "grid shifted by 1e-4": _on_grid("Add", 0.0, 1e-4),
    "grid on the centres": _on_centres,
    "grid of the first picture for all": _of_the_first_picture,
    "image divided by 256 and not by 255": _before(0, "Mul", np.array(255 / 256, np.float32)),
    "image brighter by a hundredth": _before(0, "Add", np.array(0.01, np.float32)),
    "gamma of 1.1 on the sampled image": _behind("Pow", 1.1),
}
"""By what is wrong."""
