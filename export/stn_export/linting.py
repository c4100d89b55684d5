"""Findings about an ONNX file on a target: what fails there, and what only costs time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.session import CLASSIFIER_KEY

from .forms.splitting import classifier_graph
from .forms.targets import FUSED_OPSETS, Target
from .graph.grid_expressions import PointwiseGrid
from .graph.grid_products import find_grid
from .graph.onnx_files import STANDARD, dims_of, opset_of
from .graph.opsets import NAMES_OF_MODES, OPSET
from .graph.rewrites import infer_shapes, node_name, text_attribute, whole_attribute


@dataclass(frozen=True)
class Finding:
    """A problem of a file on a target.

    Attributes:
        fails: Whether it fails or answers wrongly; otherwise it only costs time.
        sentence: The problem, its public issue where known, and what to do.
    """

    fails: bool
    sentence: str


def lint(model: onnx.ModelProto, target: Target) -> list[Finding]:
    """Return the problems of a file on a target, failures first.

    Args:
        model: Any ONNX file.
        target: The engine that is to run it.
    """
    parts = [model]
    if any(entry.key == CLASSIFIER_KEY for entry in model.metadata_props):
        parts.append(classifier_graph(model))
    findings = [finding for part in parts for finding in _about_graph(part, target)]
    if len(parts) > 1 and not target.falls_back:
        findings.append(
            Finding(
                False,
                "it holds two graphs, and a converter sees the first: take the second out with "
                "stn_export.classifier_graph, and convert both",
            )
        )
    elif not any(_has_sampler(part) for part in parts):
        findings.append(Finding(False, "there is no GridSample in it: nothing about spatial transformers to look for"))
    return sorted(dict.fromkeys(findings), key=lambda finding: not finding.fails)


def _has_sampler(model: onnx.ModelProto) -> bool:
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)
    return any(node.op_type == "GridSample" for node in ir.traversal.RecursiveGraphIterator(graph.graph))


def _about_graph(model: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    graph = ir.from_proto(model)
    ir.passes.common.InlinePass()(graph)
    infer_shapes(graph)
    nodes = list(ir.traversal.RecursiveGraphIterator(graph.graph))
    yield from _about_file(model, nodes, target)
    for node in nodes:
        if node.op_type == "GridSample":
            yield from _about_sampler(node, graph, opset_of(model), target)


def _about_file(model: onnx.ModelProto, nodes: list[ir.Node], target: Target) -> Iterator[Finding]:
    counts = Counter(node.op_type for node in nodes)
    if counts["AffineGrid"]:
        yield Finding(
            not target.falls_back,
            f"{counts['AffineGrid']} AffineGrid: most engines do not have it (tvm#19690), and it is slower than one "
            "matrix product; run 'stn optimize'",
        )
    foreign = sorted({node.domain for node in nodes if node.domain not in (*STANDARD, *target.domains)})
    if foreign:
        yield Finding(
            True,
            f"operators of the domain {', '.join(foreign)}: {target.name} has those of {', '.join(target.domains)}",
        )
    open_inputs = [
        value.name for value in model.graph.input if not all(isinstance(size, int) for size in dims_of(value))
    ]
    if target.static and open_inputs:
        advice = (
            f"export the checkpoint with --target {target.name}"
            if any(entry.key == METADATA_KEY for entry in model.metadata_props)
            else "fix it with 'python -m onnxruntime.tools.make_dynamic_shape_fixed'"
        )
        yield Finding(False, f"input '{open_inputs[0]}' has an open size, {target.name} wants fixed shapes; {advice}")


def _about_sampler(node: ir.Node, graph: ir.Model, opset: int, target: Target) -> Iterator[Finding]:
    name = node_name(node.outputs[0])
    if not target.versions:
        yield Finding(True, f"{name} is a GridSample: {target.newer}; export with --target {target.name}")
        return
    if node.domain not in STANDARD:
        yield Finding(True, f"{name} is {node.domain}'s GridSample, which only old onnxruntime has; export it again")
        return
    version = onnx.defs.get_schema("GridSample", opset).since_version
    if version not in target.versions:
        yield Finding(
            not target.falls_back,
            f"{name} is of opset {opset}: {target.newer}; run 'stn optimize', which brings it to {OPSET}",
        )
    elif version > FUSED_OPSETS[0]:
        yield Finding(False, f"{name} is of opset {opset}, which other engines read wrongly; run 'stn optimize'")
    image, grid = node.inputs[:2]
    if image is not None and image.shape is not None and len(image.shape) == 5:
        if target.name != "cpu":
            yield Finding(
                not target.falls_back,
                f"{name} samples volumes (5-D): only onnxruntime on the CPU has it (onnxruntime#21382)"
                f"{_fallback(target)}",
            )
        return
    yield from _about_sampling(node, target)
    pointwise = find_grid(grid, graph) if grid is not None else "no grid"
    if isinstance(pointwise, PointwiseGrid) and not pointwise.is_written:
        shape = "a constant" if pointwise.source is None else "one matrix product"
        yield Finding(False, f"the grid of {name} is not {shape}, which is slow; run 'stn optimize'")


def _fallback(target: Target) -> str:
    return "; there it runs on the CPU" if target.falls_back else ""


def _about_sampling(node: ir.Node, target: Target) -> Iterator[Finding]:
    """Yield what a target makes of the mode, the padding, the type and the corners of a sampler of pictures."""
    sampled, image = node.outputs[0], node.inputs[0]
    name, mode = node_name(sampled), text_attribute(sampled, "mode", "bilinear")
    mode = NAMES_OF_MODES.get(mode, mode)
    padding, corners = text_attribute(sampled, "padding_mode", "zeros"), whole_attribute(sampled, "align_corners", 0)
    instead = _fallback(target)
    if mode not in target.modes:
        yield Finding(
            not target.falls_back,
            f"{name} has the mode {mode}: {target.name} samples {' and '.join(target.modes)} only{instead}",
        )
    if padding not in target.paddings:
        yield Finding(
            not target.falls_back,
            f"{name} has the padding {padding}: {target.name} has {', '.join(target.paddings)} only{instead}",
        )
    if not target.takes_half and image is not None and image.dtype == ir.DataType.FLOAT16:
        yield Finding(
            not target.falls_back,
            f"{name} samples in float16: {target.name}'s kernel is float32{instead}; keep theta, grid and sampler "
            "in float32, as 'stn export --precision float16' does",
        )
    if mode == "bicubic":
        yield Finding(False, f"{name} is bicubic: PyTorch and onnxruntime differ at borders (onnxruntime#10607)")
    if mode == "bilinear" and (padding != "zeros" or corners):
        yield Finding(
            False,
            f"{name} has padding {padding} and align_corners {corners}: engines are fastest with zeros and 0 "
            "(onnxruntime#27359, openvino#28448); 'stn optimize' rewrites it where that is equal",
        )
