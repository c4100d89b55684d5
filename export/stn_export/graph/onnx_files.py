"""ONNX files on disk: read with every fault as one sentence, written under their name only once whole."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx

from stn_runtime import ModelContractError
from stn_runtime.errors import printable
from stn_runtime.machine.filesystem import write_whole

_MOST_BYTES = 1 << 31  # of a message of protocol buffers
MOST_NODES = 1_000_000
"""Of a graph whose functions have been written out."""

STANDARD = ("", "ai.onnx")
"""The names of the standard operator domain."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return an ONNX file, its external data included.

    Raises:
        ModelContractError: It is missing, a folder, damaged, its weights are elsewhere and not found, or its functions
            call each other without end.
    """
    if path.is_dir():
        raise ModelContractError(f"{path}: is a folder; give an .onnx file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelContractError(f"{path}: is larger than 2 GiB, which no ONNX file can be; export it again")
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise ModelContractError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelContractError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (DecodeError, ValueError) as error:
        raise ModelContractError(f"{path}: is not an ONNX file, or only a part of one; export it again") from error
    if not model.graph.output or not model.opset_import:
        raise ModelContractError(f"{path}: is not an ONNX file, or only a part of one; export it again")
    newest = onnx.defs.onnx_opset_version()
    if opset_of(model) > newest:
        raise ModelContractError(
            f"{path}: has opset {opset_of(model)}, the onnx package here knows up to {newest}; pip install -U onnx"
        )
    if written_out_size(model) > MOST_NODES:
        raise ModelContractError(
            f"{path}: its functions call each other so often that it would have over {MOST_NODES} nodes; "
            "export it again without functions"
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        ir.to_proto(ir.from_proto(model))  # a name that is no text is found here
    except (OSError, ValueError, onnx.checker.ValidationError, ir.serde.SerdeError) as error:
        lost = _external_file(path)
        if lost is not None:
            raise ModelContractError(
                f"{path}: its weights are in '{printable(lost)}', which is not beside it; copy that file too, "
                "or export it whole"
            ) from error
        raise ModelContractError(f"{path}: is not valid ONNX ({_first_line(error)}); export it again") from error
    return model


def write_onnx(data: bytes, path: Path) -> None:
    """Write a file as a whole or not at all, and make its folder.

    Raises:
        ModelContractError: The file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise ModelContractError(f"{path}: cannot be written ({error.strerror or error})") from error


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a file asks for."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=0)


def written_out_size(model: onnx.ModelProto) -> float:
    """Return how many nodes a file has once its functions are written out where they are called.

    Without writing them out: thirty functions, each of which calls the one before twice, make 2^30 nodes.

    Returns:
        The number of nodes; infinity where a function calls itself, also by way of others.
    """
    bodies = {(entry.domain, entry.name): entry.node for entry in model.functions}
    sizes: dict[tuple[str, str], float] = {}
    waiting = [*bodies]
    under_way: set[tuple[str, str]] = set()
    while waiting:  # without recursion, which thousands of functions would exhaust
        name = waiting[-1]
        missing = [called for called in _called(bodies[name]) if called in bodies and called not in sizes]
        if name not in sizes and missing:
            if name in under_way:
                return math.inf
            under_way.add(name)
            waiting.extend(missing)
            continue
        sizes.setdefault(name, sum(sizes.get(called, 1.0) for called in _called(bodies[name])))
        under_way.discard(name)
        waiting.pop()
    return sum(sizes.get(called, 1.0) for called in _called(model.graph.node))


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """Yield the operator or function of each node, of those in inner graphs too."""
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _called(graph.node)


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Return a tensor's shape as declared; a size that is only known by name is its name, one unknown is ''."""
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim]


def has_external_data(path: Path) -> bool:
    """Return whether weights of a file lie in other files."""
    return any(tensor.external_data for tensor in _tensors(onnx.load(path, load_external_data=False).graph))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the constants of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)


def _external_file(path: Path) -> str | None:
    """Return the first file with weights that ``path`` names and that is not there."""
    for tensor in _tensors(onnx.load(path, load_external_data=False).graph):
        for entry in tensor.external_data:
            if entry.key == "location" and not (path.parent / entry.value).is_file():
                return str(entry.value)
    return None


def _first_line(error: Exception) -> str:
    return printable(str(error).strip().splitlines()[0], 200) if str(error).strip() else type(error).__name__
