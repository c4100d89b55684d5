"""The split form: a localisation graph and a classifier graph, and the device warps between them with OpenCV."""

import base64

import onnx
import onnx_ir as ir

from stn_runtime import InputError
from stn_runtime.session import CLASSIFIER_KEY, GRID, WARPED

from .rewrites import infer_shapes

_PIXEL_STEPS = frozenset({"Cast", "Transpose", "Div", "Mul", "Reshape", "Identity"})


def split_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a fused graph in the split form: its localisation graph, with the classifier graph in its metadata.

    The localisation graph takes ``image`` and answers ``theta``, ``outline`` and, for each transformer, its sampling
    grid ``grid_K``. The classifier graph takes what each grid sampled, ``warped_K`` (N, C, h, w) in [0, 1].

    Args:
        model: With the outputs ``probabilities``, ``theta`` and ``outline``.

    Raises:
        InputError: A transformer samples something else than the image, or the classifier sees the image itself.
    """
    graph = ir.from_proto(model)
    samplers = [node for node in graph.graph if node.op_type == "GridSample"]
    if not samplers:
        raise InputError("the split form needs a spatial transformer, the network has none; use the fused form")
    for node in samplers:
        if not _is_pixels(node.inputs[0]):
            raise InputError(
                f"the split form warps the frame, but '{node.name}' samples what the network made of it; "
                "use the portable form"
            )
    grids = [value for node in samplers for value in node.inputs[1:2] if value is not None]
    outputs = {str(value.name): value for value in graph.graph.outputs}
    image = graph.graph.inputs[0]
    localization = _part(
        graph,
        {"image": image},
        {name: outputs[name] for name in ("theta", "outline")}
        | {GRID.format(number): grid for number, grid in enumerate(grids)},
    )
    warped = {WARPED.format(number): node.outputs[0] for number, node in enumerate(samplers)}
    try:
        classifier = _part(graph, warped, {"probabilities": outputs["probabilities"]})
    except ValueError as error:
        raise InputError(
            "the split form needs a classifier that sees only what the transformers made; use the portable form"
        ) from error
    for entry in model.metadata_props:
        added = localization.metadata_props.add()
        added.key, added.value = entry.key, entry.value
    added = localization.metadata_props.add()
    added.key, added.value = CLASSIFIER_KEY, base64.b64encode(classifier.SerializeToString()).decode("ascii")
    return localization


def classifier_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the classifier graph of a file of the split form, for toolchains that convert the two parts apart.

    Raises:
        InputError: The file is not of the split form.
    """
    for entry in model.metadata_props:
        if entry.key == CLASSIFIER_KEY:
            return onnx.load_from_string(base64.b64decode(entry.value))
    raise InputError("the file is not of the split form: it carries no classifier graph")


def _is_pixels(value: ir.Value | None) -> bool:
    """Return whether a tensor is the input image, but for its layout and scale."""
    while value is not None:
        if value.is_graph_input():
            return True
        node = value.producer()
        if node is None or node.op_type not in _PIXEL_STEPS:
            return False
        value = node.inputs[0]
    return False


def _part(graph: ir.Model, inputs: dict[str, ir.Value], outputs: dict[str, ir.Value]) -> onnx.ModelProto:
    """Return the part of a graph between tensors, which are renamed."""
    part = ir.convenience.extract(graph.graph, list(inputs.values()), list(outputs.values()))
    model = ir.Model(part, ir_version=graph.ir_version)
    for name, value in zip([*inputs, *outputs], [*part.inputs, *part.outputs], strict=True):
        value.name = name
    infer_shapes(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto
