"""From PyTorch to a file: one ONNX graph in the form and precision of its target, proven equal before it has a name."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_models import CheckpointError, load_checkpoint
from stn_runtime import ExportSpec, GoldenVector, InputError, Manifest, PreprocessSpec
from stn_runtime.model.golden import make_golden, replay
from stn_runtime.model.manifest import METADATA_KEY, Form, read_preprocess
from stn_runtime.model.network import Network
from stn_runtime.model.theta_statistics import ThetaStatistics

from .forms.precision import reduce_precision
from .forms.splitting import split_graph
from .forms.targets import Plan, plan_export
from .graph.deployment import Deployment
from .graph.onnx_files import STANDARD, opset_of, write_onnx
from .graph.opsets import written_in
from .graph.portable import make_portable
from .graph.rewrites import fold_constants, infer_shapes, is_clipped
from .graph.sampling_grids import LinearGrid, find_linear_grid
from .graph.tracing import trace
from .proof.gates import Gate, GateError, TestSet, blame, measure
from .proof.verification import ParityError, Verification, compare_with_module, open_both, torch_outputs, verify
from .theta_lookup import theta_of

_GOLDEN_REAL, _GOLDEN_RANDOM = 4, 2
_WORST_LAYERS = 3


@dataclass(frozen=True)
class Card:
    """What a manifest says of a classifier beyond its graph.

    Attributes:
        name: Of the model.
        labels: labels[i] names logit i.
        preprocess: How a picture becomes its input.
        license: Of the weights, an SPDX expression.
        data: What it was trained on and how; free-form JSON.
        metrics: Measured figures by name, accuracy in percent.
        theta: What theta was on the training pictures; None where that was not measured.
    """

    name: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    license: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    theta: ThetaStatistics | None = None


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: Of the file.
        manifest: In the file.
        verification: PyTorch against onnxruntime.
        gate: Accuracy and shift of the sampling points; None without a test set.
    """

    path: Path
    manifest: Manifest
    verification: Verification
    gate: Gate | None


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    name: str | None = None,
    license: str = "",
    images: NDArray[np.uint8] | None = None,
    with_rectified: bool = True,
    plan: Plan | None = None,
    data: TestSet | None = None,
    exclude: Sequence[str] = (),
) -> Exported:
    """Write a checkpoint as a model file; see ``export_classifier``.

    Args:
        checkpoint: Written by ``stn train``.
        output: The .onnx file.
        name: Of the model; by default the output's stem.
        license: Of the weights, an SPDX expression.
        images: As for ``export_classifier``, as all that follows; where the checkpoint does not know what theta was
            in training, the manifest says what it is on these.
        with_rectified: See there.
        plan: See there.
        data: See there.
        exclude: See there.

    Raises:
        InputError: The checkpoint cannot be used, or not in this form.
        ParityError: The graph differs from PyTorch; nothing was written.
        GateError: Reduced precision costs too much; nothing was written.
    """
    try:
        network, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    spec = read_preprocess(described.preprocess, str(checkpoint))
    theta = theta_of(described, str(checkpoint), Deployment(network, spec), images)
    card = Card(name or output.stem, described.labels, spec, license, described.training, described.metrics, theta)
    return export_classifier(
        network, output, card, images=images, with_rectified=with_rectified, plan=plan, data=data, exclude=exclude
    )


def export_classifier(
    network: nn.Module,
    output: Path,
    card: Card,
    *,
    images: NDArray[np.uint8] | None = None,
    with_rectified: bool = True,
    plan: Plan | None = None,
    data: TestSet | None = None,
    exclude: Sequence[str] = (),
) -> Exported:
    """Write a classifier as a model file, with its manifest, after verifying it against PyTorch.

    Args:
        network: From images (N, C, H, W) in [0, 1] to logits (N, K), in evaluation mode on the CPU.
        output: The .onnx file; it appears only when the verification, and the gates if any, have passed.
        card: What the manifest says of it.
        images: Real pictures (M, H, W, C), preprocessed; some become golden vectors inside the file.
        with_rectified: Whether the file has the output ``rectified``.
        plan: Form, precision, opset; by default for the target ``cpu``.
        data: To calibrate and measure with; reduced precision needs it.
        exclude: Names of nodes that stay in float32.

    Raises:
        InputError: The network cannot be exported, or not in this form.
        ParityError: The graph differs from PyTorch; nothing was written.
        GateError: Reduced precision costs too much; nothing was written.
    """
    plan = plan or plan_export()
    spec = card.preprocess
    if plan.precision != "float32" and data is None:
        raise InputError(f"precision {plan.precision} is calibrated and judged on labelled images: give --data")
    deployment = Deployment(network, spec, with_rectified).eval()
    whole = export_graph(deployment, spec, plan.form)
    unknown = sorted(set(exclude) - {node.name for node in whole.graph.node})
    if unknown:
        raise InputError(
            f"--exclude {unknown[0]}: the graph has no node of that name; see it in a viewer such as Netron"
        )
    none = np.empty((0, spec.height, spec.width, spec.channels), np.uint8)
    calibration = data.calibration if data is not None else none
    reduced = reduce_precision(whole, plan.precision, calibration, exclude)
    model = shape_graph(_of_one_picture(reduced) if plan.static else reduced, plan)
    real = images if images is not None else none
    verification = verify(deployment, model, spec, real, plan.form, plan.precision)
    if not verification.passed:
        raise ParityError(
            f"{output}: the exported graph differs from PyTorch, nothing was written (an earlier file stays)\n"
            f"{verification.table()}"
        )
    candidate, _ = open_both(model, deployment, spec, plan.form, plan.precision)
    gate = measure(deployment, candidate, plan.precision, data) if data is not None else None
    if gate is not None and not gate.passed:
        raise GateError(
            f"{output}: {gate.sentence()}; nothing was written. {_advice(gate, whole, deployment, spec, data, exclude)}"
        )
    manifest = _manifest(card, deployment, plan, model, verification, gate)
    manifest = replace(manifest, golden=_golden(deployment, candidate, spec, real, plan))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    file = model.SerializeToString()
    replayed = replay(Network(file, providers=["CPUExecutionProvider"]))
    if not replayed.passed:
        raise ParityError(f"{output}: does not replay its own golden vectors, nothing was written\n{replayed.table()}")
    write_onnx(file, output)
    return Exported(output, manifest, verification, gate)


def export_onnx(
    module: nn.Module,
    path: Path | str,
    example: Tensor | Sequence[Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    dynamic_size: bool = False,
    plan: Plan | None = None,
    card: Card | None = None,
) -> dict[str, float]:
    """Write any module with a spatial transformer as ONNX: its own forward and signature, its samplers made fast.

    ``affine_grid`` and ``grid_sample`` may be called anywhere in it. The file appears only after PyTorch and
    onnxruntime gave the same answers on the example and on random inputs of its range.

    Args:
        module: Any module whose forward takes tensors and returns tensors; it is exported in evaluation mode.
        path: The .onnx file to write.
        example: One batch of what the module takes.
        input_names: Of the graph's inputs; by default the names of forward's arguments.
        output_names: Of the graph's outputs; by default the exporter's.
        dynamic_batch: Whether the batch size stays open; by default, unless the target wants fixed shapes.
        dynamic_size: Whether height and width of images stay open, which costs the constant grid.
        plan: Form and opset, see ``plan_export``; by default fused, opset 18.
        card: Makes it a model file for ``stn run``, with manifest: the module is then a classifier of images in
            [0, 1], and names and dynamic sizes are those of the contract. See ``export_classifier``.

    Returns:
        Largest difference of each output from PyTorch, relative to the output's largest value; with a card, as such.

    Raises:
        InputError: The module cannot be exported like this.
        ParityError: The graph differs from PyTorch; nothing was written.
    """
    plan, output = plan or plan_export(), Path(path)
    if plan.precision != "float32":
        raise InputError(
            f"precision {plan.precision} is judged on labelled images: use export_classifier(data=...), "
            "or 'stn export --data' for a checkpoint"
        )
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module is exported, this is a {type(module).__name__}")
    if output.suffix != ".onnx":
        raise InputError(f"{output}: the output must end in .onnx")
    given = [example] if isinstance(example, Tensor) else list(example)
    if not given or not all(isinstance(tensor, Tensor) for tensor in given):
        raise InputError("the example must be a tensor, or several: one batch of what the module takes")
    away = {tensor.device for tensor in [*module.parameters(), *module.buffers()]} - {torch.device("cpu")}
    if away:
        raise InputError(f"{type(module).__name__} is on {away.pop()}; move it to the CPU first: module.cpu()")
    examples = tuple(tensor.detach().cpu() for tensor in given)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        if card is not None:
            return export_classifier(module, output, card, plan=plan).verification.differences
        if plan.form == "split":
            raise InputError("the split form needs a classifier with a manifest: give a card")
        traced = trace(
            module,
            examples,
            input_names=input_names,
            output_names=output_names,
            dynamic_batch=not plan.static if dynamic_batch is None else dynamic_batch,
            dynamic_size=dynamic_size,
        )
        model = shape_graph(traced, plan)
        differences = compare_with_module(module, model, examples)
    finally:
        for part in training:
            part.training = True
    write_onnx(model.SerializeToString(), output)
    return differences


def export_graph(deployment: Deployment, spec: PreprocessSpec, form: Form = "fused") -> onnx.ModelProto:
    """Return the network as an ONNX graph with a dynamic batch, in one piece and in float32, checked.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        spec: What it takes.
        form: What is to be made of it: of the split form, the grids stay as the manifest describes the samplers.

    Raises:
        InputError: PyTorch cannot export it.
        ParityError: The graph does not have the shape that it must have.
    """
    example = torch.zeros(2, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    with torch.no_grad():
        names = list(deployment.outputs(example).named())
    model = trace(deployment, (example,), input_names=["image"], output_names=names, modes=form != "split")
    _check_graph(model, deployment)
    return model


def shape_graph(model: onnx.ModelProto, plan: Plan) -> onnx.ModelProto:
    """Return a fused graph in the form and opset of a plan.

    Raises:
        InputError: It cannot be brought there; the message says why.
    """
    if plan.form == "split":
        return split_graph(model, plan.opset)
    graph = ir.from_proto(model)
    if plan.form == "portable":
        kept = make_portable(graph)
        if kept:
            raise InputError(kept[0])
    return written_in(graph, plan.opset)


def _of_one_picture(model: onnx.ModelProto) -> onnx.ModelProto:
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
    """Refuse a graph that is not the fast one: a sampler for each transformer, a grid that is one matrix product."""
    graph = ir.from_proto(model)
    infer_shapes(graph)
    samplers = [node for node in graph.graph if node.op_type == "GridSample"]
    faults = []
    if len(samplers) < len(deployment.transformers):
        faults.append(f"{len(samplers)} GridSample for {len(deployment.transformers)} transformers")
    linear = sum(transformer.grid != "projective" for transformer in deployment.transformers)
    grids = [node.inputs[1] for node in samplers]
    products = sum(grid is not None and (is_clipped(grid) or _is_product(grid, graph)) for grid in grids)
    if products < linear:
        faults.append(f"{products} of {linear} sampling grids as one matrix product")
    if any(node.domain not in STANDARD for node in model.graph.node):
        faults.append("operators outside the standard")
    if faults:
        raise ParityError(f"the exporter made another graph than expected: {', '.join(faults)}; nothing was written")


def _is_product(grid: ir.Value, graph: ir.Model) -> bool:
    found = find_linear_grid(grid, graph)
    return isinstance(found, LinearGrid) and found.is_product


def _advice(
    gate: Gate,
    model: onnx.ModelProto,
    deployment: Deployment,
    spec: PreprocessSpec,
    data: TestSet | None,
    exclude: Sequence[str],
) -> str:
    """Return what to do about a gate that did not pass."""
    if gate.precision == "float32" or data is None:
        return "In float32 no answer may change; please report this file"
    worst = [name for name, _ in blame(deployment, model, spec, gate.precision, data, exclude)[:_WORST_LAYERS]]
    return f"The layers that cost most: try --exclude {' '.join([*exclude, *worst])}"


def _manifest(
    card: Card,
    deployment: Deployment,
    plan: Plan,
    model: onnx.ModelProto,
    verification: Verification,
    gate: Gate | None,
) -> Manifest:
    versions = {
        "stn-edge": metadata.version("stn-edge"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": metadata.version("onnxscript"),
        "onnxruntime": ort.__version__,
    }
    report = verification.report()
    if gate is not None:
        report["gate"] = asdict(gate)
    return Manifest(
        name=card.name,
        labels=card.labels,
        preprocess=card.preprocess,
        transformers=deployment.transformers,
        outputs=tuple(verification.own.differences),
        export=ExportSpec(form=plan.form, target=plan.target, precision=plan.precision, opset=opset_of(model)),
        data=card.data,
        metrics=card.metrics if gate is None or plan.precision == "float32" else _measured(gate),
        parity=verification.differences,
        verification=report,
        versions=versions,
        license=card.license,
        theta=card.theta,
    )


def _measured(gate: Gate) -> Mapping[str, float]:
    """Return the accuracy of the file itself, since the card's is that of the network in float32."""
    return {gate.source.replace(",", ""): gate.accuracy}


def _golden(
    deployment: Deployment, candidate: Network, spec: PreprocessSpec, images: NDArray[np.uint8], plan: Plan
) -> tuple[GoldenVector, ...]:
    random = np.random.default_rng(1).integers(
        0, 256, (_GOLDEN_RANDOM, spec.height, spec.width, spec.channels), np.uint8
    )
    real = images[:: max(1, len(images) // _GOLDEN_REAL)][:_GOLDEN_REAL]
    batch = np.concatenate([real, random])
    # a file of reduced precision is held to itself: PyTorch's float32 is not what it should answer
    outputs = torch_outputs(deployment, batch) if plan.precision == "float32" else candidate.run(batch)
    return tuple(
        make_golden(image, {name: values[index] for name, values in outputs.items()})
        for index, image in enumerate(batch)
    )
