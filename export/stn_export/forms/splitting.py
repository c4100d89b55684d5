"""The split form: a localisation graph and a classifier graph, and the device warps between them with OpenCV."""

import base64

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # comes with onnx

from stn_runtime import InputError
from stn_runtime.model.contract import GRID, WARPED
from stn_runtime.model.session import CLASSIFIER_KEY, reason_of

from ..graph.onnx_files import MOST_NODES, written_out_size
from ..graph.opsets import written_in
from ..graph.rewrites import infer_shapes

PIXEL_STEPS = ("Cast", "Transpose", "Div", "Identity")
"""The operators between the input, uint8 pixels, and what a transformer on the image samples: layout and scale."""


def split_graph(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a fused graph in the split form: its localisation graph, with the classifier graph in its metadata.

    The localisation graph takes ``image`` and answers ``theta``, ``outline`` and, for each transformer, its sampling
    grid ``grid_K``. The classifier graph takes what each grid sampled, ``warped_K`` (N, C, h, w) in [0, 1].

    Args:
        model: Has the outputs ``probabilities``, ``theta`` and ``outline``, and samplers in the modes of the network.
        opset: The opset that both graphs get.

    Raises:
        InputError: A transformer samples something else than the image, the classifier sees the image itself, or a
            graph cannot be brought to ``opset``.
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
    if "theta" not in outputs:
        raise InputError("the split form needs transformers that are SpatialTransformer modules; use the portable form")
    image = graph.graph.inputs[0]
    localization = _part(
        graph,
        {"image": image},
        {name: outputs[name] for name in ("theta", "outline")}
        | {GRID.format(number): grid for number, grid in enumerate(grids)},
        opset,
    )
    warped = {WARPED.format(number): node.outputs[0] for number, node in enumerate(samplers)}
    try:
        classifier = _part(graph, warped, {"probabilities": outputs["probabilities"]}, opset)
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
        InputError: The file is not of the split form, or its classifier graph is damaged.
    """
    for entry in model.metadata_props:
        if entry.key == CLASSIFIER_KEY:
            try:
                classifier = onnx.load_from_string(base64.b64decode(entry.value, validate=True))
            except (ValueError, DecodeError) as error:
                raise InputError(f"its classifier graph is damaged ({reason_of(error)}); export it again") from error
            if not classifier.graph.output or written_out_size(classifier) > MOST_NODES:
                raise InputError("its classifier graph is damaged; export it again")
            return classifier
    raise InputError("the file is not of the split form: it carries no classifier graph")


def _is_pixels(value: ir.Value | None) -> bool:
    """Return whether a tensor is the input image as it must be, (N, C, H, W) in [0, 1]."""
    divided = 0
    while value is not None:
        if value.is_graph_input():
            return True
        node = value.producer()
        if node is None or node.op_type not in PIXEL_STEPS:
            return False
        if node.op_type == "Div":
            divisor = ir.convenience.get_const_tensor(node.inputs[1])  # type: ignore[arg-type]  # Div has two inputs
            divided += 1
            if divisor is None or divided > 1 or divisor.numpy().ravel().tolist() != [255]:
                return False
        value = node.inputs[0]
    return False


def _part(graph: ir.Model, inputs: dict[str, ir.Value], outputs: dict[str, ir.Value], opset: int) -> onnx.ModelProto:
    """Return the part of a graph between tensors, which are renamed, in another opset."""
    part = ir.convenience.extract(graph.graph, list(inputs.values()), list(outputs.values()))
    model = ir.Model(part, ir_version=graph.ir_version)
    for name, value in zip([*inputs, *outputs], [*part.inputs, *part.outputs], strict=True):
        value.name = name
    infer_shapes(model)
    return written_in(model, opset)
