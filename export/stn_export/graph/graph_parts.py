"""Parts of an ONNX graph: through which tensors they read their data, and what they compute when run alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from .onnx_files import STANDARD

_SHAPE_READERS = ("Shape", "Size")


class PartError(Exception):
    """A part of a graph cannot be run alone; the message is a clause that says why."""


@dataclass(frozen=True)
class Part:
    """The part of a graph between one tensor and others, ready to run.

    Attributes:
        session: Computes the targets.
        source: Name of the tensor that is fed.
        sizes: Shape of the source without its batch axis.
        batch: The only batch size that the part takes; None where it takes any.
        others: Name, shape without the batch axis where that is open, openness and type of each tensor of which the
            part reads the shape alone.
    """

    session: ort.InferenceSession
    source: str
    sizes: tuple[int, ...]
    batch: int | None
    others: tuple[tuple[str, tuple[int | None, ...], np.dtype[np.generic]], ...]

    def run(self, rows: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        """Return all targets for sources (batch, numbers); ``batch`` rows where that is fixed.

        Raises:
            PartError: It does not run.
        """
        feeds = {
            name: np.zeros([len(rows) if size is None else size for size in sizes], kind)
            for name, sizes, kind in self.others
        }
        try:
            fed = {self.source: rows.reshape(len(rows), *self.sizes), **feeds} if self.source else feeds
            return [np.asarray(value) for value in self.session.run(None, fed)]
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            raise PartError(_cannot_run(error)) from error

    def run_in_batches(self, rows: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        """Return each target for any number of rows, as (rows, numbers).

        Raises:
            PartError: It does not run, or a target has another batch than the source.
        """
        step = self.batch or len(rows)
        batches: list[list[NDArray[np.generic]]] = []
        for first in range(0, len(rows), step):
            chunk = rows[first : first + step]
            filled = np.concatenate([chunk, np.zeros((step - len(chunk), *rows.shape[1:]), np.float32)])
            values = self.run(filled)
            if any(value.size % step for value in values):
                raise PartError("one theta serves a batch of another size")
            batches.append([value.reshape(step, -1)[: len(chunk)] for value in values])
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def open_part(source: ir.Value | None, targets: Sequence[ir.Value], model: ir.Model) -> Part:
    """Return the part of a graph between a tensor, or none where nothing depends on data, and ``targets``.

    Raises:
        PartError: It cannot be run alone.
    """
    shape = [] if source is None else list(source.shape or ())
    fixed = shape[0] if shape and isinstance(shape[0], int) else None
    others = _measured(source, targets, data_dependence(model.graph))
    described = []
    for value in others:
        if value.shape is None or value.dtype is None:
            raise PartError("its sampling size depends on a tensor of unknown shape")
        sizes = [size if isinstance(size, int) else None for size in value.shape]
        if fixed is not None and sizes and sizes[0] != fixed:
            raise PartError("one theta serves a batch of another size")
        if None in sizes[1:]:
            raise PartError("its sampling size is dynamic: it follows the size of an input")
        described.append((str(value.name), tuple(sizes), value.dtype.numpy()))
    if source is None:
        batches = {sizes[0] for _, sizes, _ in described if sizes}
        fixed = next(iter(batches)) if len(batches) == 1 else None
    try:
        part = ir.convenience.extract(model.graph, [*([source] if source else []), *others], list(targets))
        proto = ir.to_proto(ir.Model(part, ir_version=model.ir_version))
        session = ort.InferenceSession(proto.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise PartError(_cannot_run(error)) from error
    each = tuple(int(size) for size in shape[1:])  # type: ignore[arg-type]  # a source's sizes are known
    return Part(session, str(source.name) if source else "", each, fixed, tuple(described))


def data_dependence(graph: ir.Graph) -> dict[ir.Value, bool]:
    """Return for each tensor of a graph whether it depends on the data of an input.

    A shape is known without the data; whatever is made of shapes alone is a constant of the input's size.
    """
    depends = dict.fromkeys(graph.inputs, True)  # also those with a default value, which a caller may replace
    for node in graph:
        from_data = node.op_type not in _SHAPE_READERS and any(depends.get(value, False) for value in read(node))
        depends.update(dict.fromkeys(node.outputs, from_data))
    return depends


def dominators(grid: ir.Value, graph: ir.Graph, steps: frozenset[str]) -> list[ir.Value]:
    """Return the tensors through which every path from the graph's data to ``grid`` leads, nearest first.

    Args:
        grid: Any tensor of the graph.
        graph: What it belongs to.
        steps: The operators that are looked through.
    """
    order = {node: index for index, node in enumerate(graph)}
    depends = data_dependence(graph)
    found: list[ir.Value] = []
    frontier = {grid}
    while True:
        nearest = max(frontier, key=lambda value: order.get(value.producer(), -1))  # type: ignore[arg-type]
        node = nearest.producer()
        if node is None or node.domain not in STANDARD or node.op_type not in steps:
            return found
        frontier -= set(node.outputs)
        frontier |= {value for value in read(node) if depends.get(value, False)}
        if not frontier:
            return found
        if len(frontier) == 1:
            [only] = frontier
            found.append(only)
            if _is_answered(only):  # theta itself: it is computed anyway
                return found


def nodes_between(source: ir.Value | None, grid: ir.Value) -> list[ir.Node]:
    """Return the nodes that compute ``grid``, up to those that compute ``source``, each after the nodes it reads."""
    ordered: dict[ir.Node, None] = {}
    behind = set(nodes_between(None, source)) if source is not None else set()
    stack: list[tuple[ir.Node, bool]] = [(node, False) for node in [grid.producer()] if node is not None]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            ordered.setdefault(node)
        elif node not in ordered and node not in behind:
            stack.append((node, True))
            makers = [value.producer() for value in read(node) if value is not source]
            stack.extend((maker, False) for maker in makers if maker is not None)
    return list(ordered)


def measure_shapes(model: ir.Model, runs: Sequence[Mapping[str, NDArray[np.generic]]]) -> None:
    """Write shapes that cannot be inferred into a graph, as they come out when it is run; in place.

    Args:
        model: A graph whose sizes are known, except that of the batch.
        runs: Its inputs, in batches of different sizes. A size that is not the same in all of them stays open.
    """
    graph = model.graph
    values = [value for node in graph for value in node.outputs if node.domain in STANDARD and _is_half_known(value)]
    if not values:
        return
    proto = ir.to_proto(model)
    declared = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in values if value.name not in declared)
    names = [str(value.name) for value in values]
    try:
        session = ort.InferenceSession(proto.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
        measured = [[np.shape(array) for array in session.run(names, dict(feeds))] for feeds in runs]
    except Exception:  # onnxruntime's exceptions share no base class but this one; shapes stay open
        return
    batches = [len(next(iter(feeds.values()))) if feeds else 0 for feeds in runs]
    batch = next((value.shape[0] for value in graph.inputs if value.shape is not None and len(value.shape)), None)
    for value, shapes in zip(values, zip(*measured, strict=True), strict=True):
        if len(set(map(len, shapes))) == 1:
            value.shape = ir.Shape([_size(sizes, batches, batch) for sizes in zip(*shapes, strict=True)])


def _is_half_known(value: ir.Value) -> bool:
    """Return whether a tensor is of floats, and of unknown size beside the batch."""
    sizes = None if value.shape is None else list(value.shape)[1:]
    return value.dtype == ir.DataType.FLOAT and (sizes is None or not all(isinstance(size, int) for size in sizes))


def _size(
    sizes: Sequence[int], batches: Sequence[int], batch: int | ir.SymbolicDim | None
) -> int | ir.SymbolicDim | None:
    """Return a size that is the same in all runs, the batch where it follows that, else None."""
    if len(set(sizes)) == 1:
        return sizes[0]
    return batch if list(sizes) == list(batches) else None


def run_moved(
    node: ir.Node, fed: Mapping[str, NDArray[np.generic]], position: int, model: ir.Model
) -> NDArray[np.intp]:
    """Return an output of a node that moves numbers, for whole numbers instead.

    Args:
        node: Any node of the standard domain.
        fed: Its inputs by position, as ``input_0``.
        position: Which output.
        model: What it belongs to.

    Raises:
        PartError: It does not take whole numbers.
    """
    renamed = ir.serde.serialize_node(node)
    del renamed.input[:], renamed.output[:]
    renamed.input.extend(f"input_{slot}" if entry is not None else "" for slot, entry in enumerate(node.inputs))
    renamed.output.extend(f"output_{index}" for index in range(len(node.outputs)))
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in fed.items()
    ]
    output = onnx.helper.make_tensor_value_info(f"output_{position}", onnx.TensorProto.INT64, None)
    opset = onnx.helper.make_opsetid("", model.opset_imports.get("", 18))
    graph = onnx.helper.make_graph([renamed], "moved", inputs, [output])
    alone = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=model.ir_version)
    try:
        [places] = ort.InferenceSession(alone.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"]).run(
            None, dict(fed)
        )
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        raise PartError(f"its {node.op_type} cannot be followed ({' '.join(str(error).split())[:120]})") from error
    return np.asarray(places)


def read(node: ir.Node) -> list[ir.Value]:
    """Return the tensors that a node reads."""
    return [value for value in node.inputs if value is not None]


def _is_answered(value: ir.Value) -> bool:
    """Return whether a tensor is an output of the graph, alone or joined to others."""
    joined = [node.outputs[0] for node, _ in value.uses() if node.op_type == "Concat"]
    return value.is_graph_output() or any(output.is_graph_output() for output in joined)


def _measured(source: ir.Value | None, targets: Iterable[ir.Value], depends: dict[ir.Value, bool]) -> list[ir.Value]:
    """Return the tensors whose shape, not data, reaches ``targets`` without passing through ``source``.

    What depends on no data is computed, not measured: its first axis may be another than the batch.
    """
    measured: dict[ir.Value, None] = {}
    seen = {source}
    stack = list(targets)
    while stack:
        value = stack.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        is_measure = node.op_type in _SHAPE_READERS and not _leads_from(source, read(node))
        from_data = [value for value in read(node) if is_measure and depends.get(value, False)]
        measured.update(dict.fromkeys(from_data))
        stack.extend(value for value in read(node) if value not in from_data)
    return list(measured)


def _leads_from(source: ir.Value | None, values: Iterable[ir.Value]) -> bool:
    stack, seen = list(values), set()
    while stack:
        value = stack.pop()
        if value is source:
            return True
        node = value.producer()
        if value not in seen and node is not None:
            stack.extend(read(node))
        seen.add(value)
    return False


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def _cannot_run(error: Exception) -> str:
    return f"the part between theta and grid cannot be run alone ({' '.join(str(error).split())[:120]})"
