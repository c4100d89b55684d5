"""An ONNX graph cut into parts at its samplers: what makes theta, the grid, the sampled image, and the outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from stn_runtime.model.session import open_session

from ..graph.opsets import NAMES_OF_MODES
from ..graph.rewrites import infer_shapes, text_attribute, whole_attribute
from .evaluation import LARGEST_THETA, Array, SamplerModes

CPU = ("CPUExecutionProvider",)
"""Execution providers of every comparison: the same on every machine, since GPUs round products to fewer bits."""

_FED = "fed to the next part: "
_SHOWN = "made by this part: "


@dataclass(frozen=True)
class Cut:
    """Where a graph is cut around one sampler, by the names of tensors.

    Attributes:
        image: What the sampler reads.
        grid: Where it reads.
        sampled: What it returns.
        theta: The last small tensor that all of the grid's data passes through; None where there is none.
        modes: How it reads.
    """

    image: str
    grid: str
    sampled: str
    theta: str | None
    modes: SamplerModes


def find_cuts(model: onnx.ModelProto) -> tuple[Cut, ...]:
    """Return the cuts around each sampler of a graph, in order; samplers inside branches and loops are not cut out."""
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)
    infer_shapes(graph)
    depends = _depends_on_data(graph.graph)
    return tuple(
        Cut(
            str(node.inputs[0].name),
            str(node.inputs[1].name),
            str(node.outputs[0].name),
            _theta(node.inputs[1], graph.graph, depends),
            _modes(node.outputs[0]),
        )
        for node in graph.graph
        if node.op_type == "GridSample" and node.inputs[0] is not None and node.inputs[1] is not None
    )


def _modes(sampled: ir.Value) -> SamplerModes:
    mode = text_attribute(sampled, "mode", "bilinear")
    return SamplerModes(
        NAMES_OF_MODES.get(mode, mode),
        text_attribute(sampled, "padding_mode", "zeros"),
        whole_attribute(sampled, "align_corners", 0) == 1,
    )


def _depends_on_data(graph: ir.Graph) -> set[ir.Value]:
    """Return the tensors that depend on the data of the graph's inputs, not on their shapes alone."""
    depends = set(graph.inputs)
    for node in graph:
        if node.op_type not in ("Shape", "Size") and any(value in depends for value in _read(node)):
            depends.update(node.outputs)
    return depends


def _theta(grid: ir.Value, graph: ir.Graph, depends: set[ir.Value]) -> str | None:
    """Return the nearest small tensor that every path from the graph's data to a grid passes through."""
    order = {node: index for index, node in enumerate(graph)}
    frontier = {grid} & depends
    while frontier:
        nearest = max(frontier, key=lambda value: order.get(value.producer(), -1))  # type: ignore[arg-type]
        node = nearest.producer()
        if node is None or node.op_type == "GridSample":
            return None
        frontier -= set(node.outputs)
        frontier |= {value for value in _read(node) if value in depends}
        if len(frontier) == 1:
            [only] = frontier
            if _is_small(only) and not only.is_graph_input():
                return str(only.name)
    return None


def _is_small(value: ir.Value) -> bool:
    sizes = list(value.shape or ())[1:] if value.shape is not None and len(value.shape) else [None]
    known = [size for size in sizes if isinstance(size, int)]
    return value.dtype is not None and len(known) == len(sizes) and int(np.prod(known)) <= LARGEST_THETA


def _read(node: ir.Node) -> list[ir.Value]:
    """Return what a node reads, also inside its branches."""
    inner = [
        value
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.GRAPH
        for step in ir.traversal.RecursiveGraphIterator(attribute.as_graph())
        for value in step.inputs
    ]
    return [value for value in (*node.inputs, *inner) if value is not None]


@dataclass(frozen=True)
class Parts:
    """What the parts of a graph made, each of what was fed to it.

    Attributes:
        shown: Values of tensors by name: thetas, grids, and images that the graph computes.
        outputs: Values of the graph's outputs by name, but for those that are themselves fed to other parts.
    """

    shown: Mapping[str, Array]
    outputs: Mapping[str, Array]


class CutGraph:
    """A graph that runs part by part: what a sampler or a theta would give to the next part is fed instead.

    Args:
        model: The graph, see ``inlined``.
        fed: Names of the tensors that are fed to whatever reads them.
        shown: Names of the tensors whose values are returned beside the outputs; a fed one as it was computed.

    Raises:
        ModelContractError: onnxruntime cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, fed: Sequence[str], shown: Sequence[str]) -> None:
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
        kinds = _kinds(proto)
        made = {name for node in proto.graph.node for name in node.output} | {
            tensor.name for tensor in proto.graph.initializer
        }
        self._fed = list(dict.fromkeys(fed))
        self._shown = [name for name in dict.fromkeys(shown) if name in made]
        replacements = {name: f"{_FED}{name}" for name in self._fed}
        _replace_reads(proto.graph, replacements)
        for name, replacement in replacements.items():
            proto.graph.input.append(onnx.helper.make_tensor_value_info(replacement, kinds[name], None))
        for name in self._shown:
            proto.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{_SHOWN}{name}"]))
            proto.graph.output.append(onnx.helper.make_tensor_value_info(f"{_SHOWN}{name}", kinds[name], None))
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input if value.name not in constants]
        self._outputs = [value.name for value in model.graph.output if value.name not in self._fed]
        data = proto.SerializeToString()
        self._sessions = [open_session(data, providers=CPU, optimize=optimize) for optimize in (True, False)]

    def run(self, inputs: Sequence[Array], fed: Mapping[str, Array]) -> Iterator[Parts]:
        """Yield what the parts make, with all of onnxruntime's graph optimisations and then with none.

        Args:
            inputs: The graph's inputs, in order.
            fed: Values of the fed tensors, by name.
        """
        feeds = dict(zip(self._inputs, inputs, strict=True)) | {f"{_FED}{name}": fed[name] for name in self._fed}
        shown = [f"{_SHOWN}{name}" for name in self._shown]
        for session in self._sessions:
            names = [*shown, *self._outputs]  # without names, onnxruntime returns everything
            values = [np.asarray(array) for array in session.run(names, feeds)] if names else []
            yield Parts(
                dict(zip(self._shown, values, strict=False)),
                dict(zip(self._outputs, values[len(shown) :], strict=True)),
            )


class CutSampler:
    """One sampler of a graph, alone.

    Args:
        model: The graph, see ``inlined``.
        cut: The cut around it.

    Raises:
        ValueError: It cannot be cut out.
    """

    def __init__(self, model: onnx.ModelProto, cut: Cut) -> None:
        graph = ir.from_proto(model)
        part = ir.convenience.extract(graph.graph, [cut.image, cut.grid], [cut.sampled])
        for value in part.inputs:
            value.shape = None  # it may be tried on grids of another size
        data = ir.to_proto(ir.Model(part, ir_version=graph.ir_version)).SerializeToString()
        self._names = [cut.image, cut.grid]
        self._sessions = [open_session(data, providers=CPU, optimize=optimize) for optimize in (True, False)]

    def run(self, image: Array, grid: Array) -> Iterator[Array]:
        """Yield what it samples, with all of onnxruntime's graph optimisations and then with none."""
        for session in self._sessions:
            yield np.asarray(session.run(None, dict(zip(self._names, (image, grid), strict=True)))[0])


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph without functions, with the types of its tensors as far as they follow."""
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)
    infer_shapes(graph)
    return ir.to_proto(graph)


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the types of a graph's tensors by name, as far as they are known."""
    graph = model.graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    made = {name for node in graph.node for name in node.output}
    return dict.fromkeys(made, onnx.TensorProto.FLOAT) | known


def _replace_reads(graph: onnx.GraphProto, replacements: Mapping[str, str]) -> None:
    """Make nodes read other tensors, also inside branches and loops."""
    for node in graph.node:
        node.input[:] = [replacements.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _replace_reads(attribute.g, replacements)
