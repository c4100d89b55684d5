"""Bringing a graph to an older opset, which more engines know: 20 and later renamed the modes of ``GridSample``."""

import onnx
import onnx_ir as ir

from stn_runtime import InputError

from .onnx_files import STANDARD
from .rewrites import Changes

OPSET = 18
"""What PyTorch's exporter writes well, and the newest that an export can have."""

NAMES_OF_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""The modes of ``GridSample`` by the names that they have from opset 20 on."""

_RENAMED_MODES = 20
_IR_VERSION = 8  # of the ONNX release that had opset 16: what older engines still open
_AXES_AS_INPUT = {"ReduceSum": 13, "Unsqueeze": 13, "Squeeze": 13} | dict.fromkeys(
    (
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceLogSum",
        "ReduceSumSquare",
    ),
    18,
)
"""From which opset these take their axes as an input and no longer as an attribute."""
_NEW_VALUES = {
    ("Pad", "mode", "wrap"): 19,
    ("Resize", "coordinate_transformation_mode", "half_pixel_symmetric"): 19,
} | {(kind, "reduction", value): 18 for kind in ("ScatterND", "ScatterElements") for value in ("max", "min")}
"""From which opset an attribute may have a value."""
_SHAPE_SLICES = 15  # from which opset Shape has a start and an end
_LAST = 2**31 - 1


def lower_opset(model: ir.Model, opset: int, changes: Changes) -> str | None:
    """Bring the standard operators of a graph down to ``opset``; in place, and only if all of them can be.

    Args:
        model: Any graph; one that is at ``opset`` or below stays as it is.
        opset: 13 or later.
        changes: Receives what was done.

    Returns:
        Why it cannot be done, as a sentence; None when the graph is at ``opset`` or below.
    """
    spelled = next((domain for domain in STANDARD if domain in model.opset_imports), "")
    current = model.opset_imports.get(spelled, 0)
    if current <= opset:
        return None
    nodes = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.domain in STANDARD]
    obstacle = next(filter(None, (_obstacle(node, current, opset) for node in nodes)), None)
    if obstacle is not None:
        return obstacle
    for node in nodes:
        _lower(node, current, opset)
        if node.op_type == "Shape" and opset < _SHAPE_SLICES:
            _slice_afterwards(node)
    for imports in (model.opset_imports, model.graph.opset_imports):
        imports[spelled] = opset
    changes.made.append(f"opset {current} is now {opset}, which more engines read right")
    return None


def written_in(model: ir.Model, opset: int) -> onnx.ModelProto:
    """Return a graph as a file in ``opset``, checked.

    Raises:
        InputError: It cannot be brought there; the message says why.
    """
    newest = model.opset_imports.get("", 0)
    obstacle = lower_opset(model, opset, Changes())
    if obstacle is not None:
        raise InputError(f"opset {opset}: {obstacle}; use opset {newest}")
    ir.passes.common.RemoveUnusedNodesPass()(model)
    written = ir.to_proto(model)
    written.ir_version = _IR_VERSION
    onnx.checker.check_model(written, full_check=True)
    return written


def _obstacle(node: ir.Node, current: int, opset: int) -> str | None:
    """Return why a node cannot be brought to ``opset``."""
    new = onnx.defs.get_schema(node.op_type, current)
    try:
        old = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return f"{node.op_type} exists only from opset {_first_version(node.op_type)} on, so it stays opset {current}"
    if old.since_version == new.since_version:
        return None
    stays = f"so it stays opset {current}"
    image = node.inputs[0] if node.inputs else None
    if node.op_type == "GridSample" and image is not None and image.shape is not None and len(image.shape) == 5:
        return f"GridSample of volumes (5-D) exists only from opset 20 on, {stays}"
    if node.op_type == "DFT":
        return f"DFT is another operator in opset {opset}, {stays}"
    for name, attribute in node.attributes.items():
        if name not in old.attributes and attribute.value != _default(new, name) and not _is_idle(node, name):
            return f"{node.op_type} uses '{name}', which opset {opset} does not have, {stays}"
        if opset < _NEW_VALUES.get((node.op_type, name, str(attribute.value)), 0):
            return f"{node.op_type} has the {name} '{attribute.value}', which opset {opset} does not have, {stays}"
    if len(node.inputs) > old.max_input and _axes(node, opset) is None:
        return f"{node.op_type} takes more inputs than in opset {opset}, {stays}"
    foreign = _foreign_type(node, old)
    return foreign and f"{node.op_type} of {foreign} exists only after opset {opset}, {stays}"


def _foreign_type(node: ir.Node, schema: onnx.defs.OpSchema) -> str | None:
    """Return the first type of a node's inputs and outputs that an operator does not have."""
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for position, value in enumerate(values):
            if value is None or not isinstance(value.type, ir.TensorType) or not formals:
                continue
            kind = value.type.dtype.name.lower()
            if f"tensor({kind})" not in formals[min(position, len(formals) - 1)].types:
                return kind
    return None


def _lower(node: ir.Node, current: int, opset: int) -> None:
    if node.op_type == "GridSample" and opset < _RENAMED_MODES <= current:
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "linear"
        node.attributes["mode"] = ir.AttrString("mode", NAMES_OF_MODES.get(mode, mode))
    axes = _axes(node, opset)
    if axes is not None:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        node.resize_inputs(1)
    known = onnx.defs.get_schema(node.op_type, opset).attributes
    for name in [name for name in node.attributes if name not in known and node.op_type != "Shape"]:
        del node.attributes[name]


def _slice_afterwards(node: ir.Node) -> None:
    """Make ``Shape`` of some axes the shape of all, and a slice of it."""
    start, end = (node.attributes.pop(name, None) for name in ("start", "end"))
    if (start is None and end is None) or node.graph is None:
        return
    shape = node.outputs[0]
    first, last = (0 if start is None else start.as_int()), (_LAST if end is None else end.as_int())
    bounds = [
        ir.val(f"{shape.name}.{label}", const_value=ir.tensor([bound]))
        for label, bound in (("start", first), ("end", last))
    ]
    for value in bounds:
        node.graph.register_initializer(value)
    part = ir.node("Slice", [shape, *bounds], name=f"{node.name or shape.name}.part")
    wanted, whole = part.outputs[0], f"{shape.name}.whole"
    wanted.type, wanted.shape, shape.shape = shape.type, shape.shape, None
    node.graph.insert_after(node, part)
    ir.convenience.replace_all_uses_with(shape, wanted, replace_graph_outputs=True)
    part.replace_input_with(0, shape)
    wanted.name, shape.name = shape.name, whole


def _axes(node: ir.Node, opset: int) -> list[int] | None:
    """Return the axes that are an input here and an attribute in ``opset``."""
    if opset >= _AXES_AS_INPUT.get(node.op_type, 0) or len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    tensor = ir.convenience.get_const_tensor(node.inputs[1])
    return None if tensor is None else [int(axis) for axis in tensor.numpy()]


def _is_idle(node: ir.Node, name: str) -> bool:
    """Return whether an attribute that is not at its default changes nothing in this node, or becomes a ``Slice``."""
    if node.op_type == "Shape":
        return True
    if node.op_type == "Split" and name == "num_outputs":  # without it, older opsets split evenly
        shape, axis = node.inputs[0].shape, node.attributes.get("axis")  # type: ignore[union-attr]  # Split has an input
        size = None if shape is None else shape[axis.as_int() if axis is not None else 0]
        return isinstance(size, int) and size % len(node.outputs) == 0
    if node.op_type != "Reshape" or name != "allowzero":
        return False
    sizes = ir.convenience.get_const_tensor(node.inputs[1])  # type: ignore[arg-type]  # Reshape has two inputs
    return sizes is None or 0 not in sizes.numpy()  # a computed shape is zero for empty pictures only


def _default(schema: onnx.defs.OpSchema, name: str) -> object:
    if name not in schema.attributes:
        return None
    default = schema.attributes[name].default_value
    value = onnx.helper.get_attribute_value(default) if default.type else None
    return value.decode() if isinstance(value, bytes) else value


def _first_version(kind: str) -> int:
    return min(schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if schema.name == kind)
