"""A graph in float16 as the same graph in float32: what its grids and its answers are without rounding to 11 bits."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from .rewrites import infer_shapes

_HALF, _FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
_TYPES_AS_NUMBERS = ("to", "dtype")


def has_half(model: onnx.ModelProto) -> bool:
    """Return whether inputs, outputs or constants of a graph are in float16."""
    values = (*model.graph.input, *model.graph.output)
    return any(value.type.tensor_type.elem_type == _HALF for value in values) or any(
        tensor.data_type == _HALF for tensor in _tensors(model.graph)
    )


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a graph that computes in float32 what the graph computes in float16, with the same constants."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for graph in _graphs(wide.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == _HALF:
                value.type.tensor_type.elem_type = _FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _TYPES_AS_NUMBERS and attribute.i == _HALF:
                    attribute.i = _FLOAT
    for tensor in _tensors(wide.graph):
        if tensor.data_type == _HALF:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return wide


def twin_in_float32(model: ir.Model) -> ir.Model:
    """Return a copy of a graph in float32, its tensors under the same names and with their shapes."""
    twin = ir.from_proto(in_float32(ir.to_proto(model)))
    infer_shapes(twin)
    return twin


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the graphs inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants of a graph and of the graphs inside it."""
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
