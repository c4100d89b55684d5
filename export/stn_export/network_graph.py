"""The graph of a classifier: traced once, checked to be the fast one, then brought into the form of a plan."""

import onnx
import onnx_ir as ir
import torch

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.model.manifest import Form

from .forms.splitting import split_graph
from .forms.targets import Plan
from .graph.deployment import Deployment
from .graph.grid_expressions import PointwiseGrid
from .graph.grid_products import find_grid
from .graph.onnx_files import STANDARD
from .graph.opsets import written_in
from .graph.portable import make_portable
from .graph.rewrites import fold_constants, infer_shapes
from .proof.verification import ParityError
from .pytorch.tracing import rewrite, trace


def export_graph(deployment: Deployment, spec: PreprocessSpec, form: Form = "fused") -> onnx.ModelProto:
    """Return the network as an ONNX graph with a dynamic batch, in one piece and in float32, checked.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        spec: The network's input.
        form: The form that the graph will be brought into; see ``rewrite_graph``.

    Raises:
        InputError: PyTorch cannot export the network.
        ParityError: The graph is not the fast one.
    """
    return rewrite_graph(trace_network(deployment, spec), deployment, form)


def trace_network(deployment: Deployment, spec: PreprocessSpec) -> onnx.ModelProto:
    """Return the network as PyTorch's exporter writes it; one trace serves every form.

    Raises:
        InputError: PyTorch cannot export the network.
    """
    example = torch.zeros(2, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    with torch.no_grad():
        names = list(deployment.outputs(example).named())
    return trace(deployment, (example,), input_names=["image"], output_names=names)


def rewrite_graph(traced: onnx.ModelProto, deployment: Deployment, form: Form = "fused") -> onnx.ModelProto:
    """Return a traced network with its sampling grids and layers rewritten, checked.

    Args:
        traced: Returned by ``trace_network`` for this network.
        deployment: The network.
        form: Export form; in the split form the device samples as the manifest says, so the grids keep PyTorch's modes;
            in the other forms the modes may be expressed in the grids.

    Raises:
        InputError: The graph cannot be rewritten.
        ParityError: The graph is not the fast one.
    """
    model = rewrite(traced, type(deployment).__name__, modes=form != "split")
    _check_graph(model, deployment)
    return model


def shape_graph(model: onnx.ModelProto, plan: Plan) -> onnx.ModelProto:
    """Return a fused graph in the form and opset of a plan.

    Raises:
        InputError: The graph cannot have this form or opset; the message says why.
    """
    if plan.form == "split":
        return split_graph(model, plan.opset)
    graph = ir.from_proto(model)
    if plan.form == "portable":
        obstacles = make_portable(graph)
        if obstacles:
            raise InputError(obstacles[0])
    return written_in(graph, plan.opset)


def fix_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that takes one picture at a time, all shapes fixed."""
    graph = ir.from_proto(model)
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        value.shape = ir.Shape([1, *(value.shape or ())[1:]])
    for node in graph.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    fold_constants(graph)
    infer_shapes(graph)
    return ir.to_proto(graph)


def _check_graph(model: onnx.ModelProto, deployment: Deployment) -> None:
    """Raise ``ParityError`` unless each transformer has a sampler and each linear grid is one matrix product."""
    graph = ir.from_proto(model)
    infer_shapes(graph)
    samplers = [node for node in graph.graph if node.op_type == "GridSample"]
    faults = []
    if len(samplers) < len(deployment.transformers):
        faults.append(f"{len(samplers)} GridSample for {len(deployment.transformers)} transformers")
    expected = len(deployment.transformers)
    grids = [node.inputs[1] for node in samplers]
    products = sum(grid is not None and _is_product(grid, graph) for grid in grids)
    if products < expected:
        faults.append(f"{products} of {expected} sampling grids as one matrix product")
    if any(node.domain not in STANDARD for node in model.graph.node):
        faults.append("operators outside the standard")
    if faults:
        raise ParityError(f"the exporter made another graph than expected: {', '.join(faults)}; nothing was written")


def _is_product(grid: ir.Value, graph: ir.Model) -> bool:
    found = find_grid(grid, graph)
    return isinstance(found, PointwiseGrid) and found.is_written
