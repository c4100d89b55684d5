"""Reduced precision: float16, or int8 where it is safe. Theta, grid and sampler stay in float32, whatever is asked."""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from stn_runtime import InputError
from stn_runtime.model.manifest import Precision

from ..graph.onnx_files import STANDARD
from .splitting import PIXEL_STEPS

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_QUANTISED = (*_LAYERS, "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Concat")  # no Softmax
_REPORTED = ("theta", "outline", "rectified")
LOCALIZATION = "localization"
"""Instead of a node's name: all layers that theta is computed by."""
_CALIBRATION_BATCH = 32


def reduce_precision(
    model: onnx.ModelProto, precision: Precision, pictures: NDArray[np.uint8], exclude: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return a fused graph in another precision.

    Args:
        model: The graph in float32.
        precision: float16 converts weights and activations; int8 quantises them, per channel, in the QDQ format.
        pictures: Calibrate int8, (M, H, W, C) uint8.
        exclude: Names of further nodes that stay in float32; what lies between such nodes alone stays as well.
    """
    if precision == "float32":
        return model
    island = sorted(_with_what_lies_between(model, {*float32_island(model), *exclude}))
    if precision == "float16":
        return _halved(model, set(island))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it recommends steps that are done already
        try:
            quantize_static(
                source,
                target,
                _Pictures(pictures),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                per_channel=True,
                reduce_range=True,  # 7 bits of weights: the sums of 8 saturate on x86 without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=island,
            )
        finally:
            logging.getLogger().setLevel(level)
        return _with_exact_island(onnx.load(target), set(island))


def _with_exact_island(model: onnx.ModelProto, island: set[str]) -> onnx.ModelProto:
    """Return a quantised graph whose island reads its own float32 tensors, not the quantised copies of them."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            dequantised = made_by.get(name)
            if node.name not in island or dequantised is None or dequantised.op_type != "DequantizeLinear":
                continue
            quantised = made_by.get(dequantised.input[0])
            source = made_by.get(quantised.input[0]) if quantised is not None else None
            if quantised is not None and source is not None and source.name in island:
                node.input[position] = quantised.input[0]
    return model


def find_nodes(model: onnx.ModelProto, names: Sequence[str]) -> list[str]:
    """Return the names of nodes, with ``localization`` replaced by those of the layers that theta is computed by.

    Raises:
        InputError: The graph has no node of a name.
    """
    graph = ir.from_proto(model).graph
    grids = [node.inputs[1] for node in graph if node.op_type == "GridSample"]
    upstream = _before(grids, until=("GridSample",))
    before = {node.name for node in upstream if node.name is not None and node.op_type in _LAYERS}
    wanted = {*names} - {LOCALIZATION} | (before if LOCALIZATION in names else set())
    found = [node.name for node in graph if node.name is not None and node.name in wanted]
    for unknown in sorted(wanted - {*found}):
        raise InputError(
            f"--exclude {unknown}: the graph has no node of that name; see it in a viewer such as Netron, or give "
            f"'{LOCALIZATION}' for all that theta is computed by"
        )
    return found


def _with_what_lies_between(model: onnx.ModelProto, island: set[str]) -> set[str]:
    """Return the island with the nodes without weights, such as Relu, that it alone feeds and reads."""
    graph = ir.from_proto(model).graph
    loose = {node for node in graph if node.name not in island and node.op_type not in _LAYERS}
    between: set[str] = set()
    while loose:
        group, rim = [loose.pop()], set[ir.Node]()
        for node in group:  # grows
            makers = {value.producer() for value in node.inputs if value is not None}
            readers = {reader for value in node.outputs for reader, _ in value.uses()}
            near = {other for other in makers | readers if other is not None}
            group += near & loose
            rim |= {other for other in near if other.op_type in _LAYERS or other.name in island}
            loose -= near
        if any(node.op_type in _LAYERS for node in rim) and all(node.name in island for node in rim):
            between |= {node.name for node in group if node.name}
    return island | between


def layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes with weights that may be reduced."""
    island = float32_island(model)
    return [node.name for node in model.graph.node if node.op_type in _LAYERS and node.name not in island]


def float32_island(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that stay in float32: the head of each localisation net, grid, sampler, outputs.

    The head is all that lies between the last convolution and theta: the wide range of a regression is what
    quantisation hurts most (onnxruntime#14233), and eight bits of mantissa move sampling points by visible amounts.
    """
    graph = ir.from_proto(model).graph
    samplers = [node for node in graph if node.op_type == "GridSample"]
    sources = [node.inputs[1] for node in samplers]
    sources += [value for value in graph.outputs if value.name in _REPORTED]
    island = set(samplers) | _before(sources, until=("Conv", "GridSample"))
    for node in samplers:
        image = _before([node.inputs[0]], until=())
        if all(step.op_type in PIXEL_STEPS for step in image):
            island |= image
    return {node.name for node in island if node.name}


def _halved(model: onnx.ModelProto, island: set[str]) -> onnx.ModelProto:
    """Return a graph whose floating point nodes compute in float16, but for those named and the final softmax."""
    converted = ir.from_proto(model)
    graph, opset = converted.graph, converted.opset_imports[""]
    halves = {node for node in graph if node.name not in island and _has_half_kernel(node, opset)}
    narrowed: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        for position in _half_inputs(node, opset) if node in halves else ():
            value = node.inputs[position]
            if value is not None:
                if value not in narrowed:
                    narrowed[value] = _narrowed(graph, value, halves)
                node.replace_input_with(position, narrowed[value])
    for node in halves:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.dtype = ir.DataType.FLOAT16
                _widen(graph, value, halves)
    ir.passes.common.RemoveUnusedNodesPass()(converted)
    return ir.to_proto(converted)


def _has_half_kernel(node: ir.Node, opset: int) -> bool:
    """Return whether the operator is specified for float16 and computes floats; Softmax sums and stays in float32."""
    if node.domain not in STANDARD or node.op_type in ("Softmax", "Cast", "GridSample"):
        return False
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        return False
    floats = [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    return len(floats) == 1 and floats[0] is node.outputs[0] and bool(_half_inputs(node, opset))


def _half_inputs(node: ir.Node, opset: int) -> list[int]:
    """Return the positions of the float32 inputs that have, by the operator's schema, the type of its first output."""
    schema = onnx.defs.get_schema(node.op_type, opset)
    kind = schema.outputs[0].type_str
    formals = [schema.inputs[min(index, len(schema.inputs) - 1)] for index in range(len(node.inputs))]
    return [
        index
        for index, (value, formal) in enumerate(zip(node.inputs, formals, strict=True))
        if value is not None
        and value.dtype == ir.DataType.FLOAT
        and formal.type_str == kind
        and "tensor(float16)" in formal.types
    ]


def _narrowed(graph: ir.Graph, value: ir.Value, halves: set[ir.Node]) -> ir.Value:
    """Return ``value`` in float16, for the nodes that compute in it."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        half = ir.val(f"{value.name}.half", const_value=ir.tensor(tensor.numpy().astype(np.float16)))
        graph.register_initializer(half)
        return half
    producer = value.producer()
    if producer in halves:
        return value
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT16)}, name=f"{value.name}.narrow")
    cast.outputs[0].name = f"{value.name}.half"
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return cast.outputs[0]


def _widen(graph: ir.Graph, value: ir.Value, halves: set[ir.Node]) -> None:
    """Give a float16 tensor's readers in float32, and the caller, the tensor in float32."""
    readers = [(node, position) for node, position in value.uses() if node not in halves]
    if not readers and not value.is_graph_output():
        return
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}.widen")
    wide = cast.outputs[0]
    wide.name, wide.dtype, wide.shape = f"{value.name}.wide", ir.DataType.FLOAT, value.shape
    graph.insert_after(value.producer(), cast)  # type: ignore[arg-type]  # halves produce their outputs
    for node, position in readers:
        node.replace_input_with(position, wide)
    for index, output in enumerate(graph.outputs):
        if output is value:
            wide.name, value.name = value.name, f"{value.name}.half"
            graph.outputs[index] = wide


def _before(values: Iterable[ir.Value | None], until: Sequence[str]) -> set[ir.Node]:
    """Return the nodes that ``values`` are computed by, up to, and without, operators of some kinds."""
    upstream: set[ir.Node] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        node = None if value is None else value.producer()
        if node is not None and node not in upstream and node.op_type not in until:
            upstream.add(node)
            stack.extend(node.inputs)
    return upstream


class _Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Feeds pictures to onnxruntime's calibration, a batch at a time."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        starts = range(0, len(pictures), _CALIBRATION_BATCH)
        self._batches = iter([pictures[start : start + _CALIBRATION_BATCH] for start in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}
