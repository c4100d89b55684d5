"""From PyTorch to a file: one ONNX graph in the form and precision of its target, proven equal before it has a name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from stn_models import CheckpointError, Labelling, load_checkpoint
from stn_runtime import InputError, Manifest, PreprocessSpec
from stn_runtime.model.golden import replay
from stn_runtime.model.manifest import METADATA_KEY, read_preprocess
from stn_runtime.model.network import Network

from .card import Card, make_golden_vectors, make_manifest
from .forms.precision import find_nodes, reduce_precision
from .forms.targets import Plan, plan_export
from .graph.deployment import Deployment
from .graph.onnx_files import write_onnx
from .network_graph import export_graph, fix_batch, shape_graph
from .proof.gates import Gate, GateError, TestSet, blame, measure
from .proof.verification import ParityError, Verification, open_both, verify
from .pytorch.plain_modules import plain_module
from .theta_lookup import theta_of
from .threshold_lookup import threshold_for

_WORST_LAYERS = 3


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: The file.
        manifest: The manifest in the file.
        verification: PyTorch against onnxruntime.
        gate: Accuracy and shift of the sampling points; None without a test set.
        labelling: What the threshold does on labelled pictures; None where it was not measured, see ``threshold_for``.
    """

    path: Path
    manifest: Manifest
    verification: Verification
    gate: Gate | None
    labelling: Labelling | None = None


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    name: str | None = None,
    license: str = "",
    images: NDArray[np.uint8] | None = None,
    image_labels: NDArray[np.int64] | None = None,
    with_rectified: bool = True,
    plan: Plan | None = None,
    data: TestSet | None = None,
    exclude: Sequence[str] = (),
) -> Exported:
    """Write a checkpoint as a model file: make its card, then call ``export_classifier``.

    Args:
        checkpoint: A file written by ``stn train``.
        output: The .onnx file.
        name: The model's name; by default the output's stem.
        license: The weights' licence, an SPDX expression.
        images: Real pictures (M, H, W, C), preprocessed. Where the checkpoint has no statistics of theta, they are
            measured on these.
        image_labels: (M,) index of each picture's label, -1 where it is unknown; see ``export_classifier``.
        with_rectified: Whether the file has the output ``rectified``.
        plan: Form, precision, opset; by default for the target ``cpu``.
        data: Labelled pictures to calibrate and measure with.
        exclude: Names of nodes that stay in float32; ``localization`` is all layers that theta is computed by.

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
    card = Card(
        name or output.stem,
        described.labels,
        spec,
        license,
        described.training,
        described.metrics,
        theta,
        described.reject,
        described.threshold,
        described.end,
    )
    return export_classifier(
        network,
        output,
        card,
        images=images,
        image_labels=image_labels,
        with_rectified=with_rectified,
        plan=plan,
        data=data,
        exclude=exclude,
    )


def export_classifier(
    network: nn.Module,
    output: Path,
    card: Card,
    *,
    images: NDArray[np.uint8] | None = None,
    image_labels: NDArray[np.int64] | None = None,
    with_rectified: bool = True,
    plan: Plan | None = None,
    data: TestSet | None = None,
    exclude: Sequence[str] = (),
) -> Exported:
    """Write a classifier as a model file, with its manifest, after verifying it against PyTorch.

    Args:
        network: Maps images (N, C, H, W) in [0, 1] to logits (N, K), or (N, D, K) to spell texts; on the CPU. It is
            exported in evaluation mode.
        output: The .onnx file; it appears only when the verification, and the gates if any, have passed.
        card: What the manifest says of the classifier beyond its graph.
        images: Real pictures (M, H, W, C), preprocessed; some become golden vectors inside the file.
        image_labels: (M,) index of each picture's label, -1 where it is unknown. On the labelled ones, or on ``data``
            where that is given, the threshold is found that the card lacks, or that reduced precision does not keep to.
        with_rectified: Whether the file has the output ``rectified``.
        plan: Form, precision, opset; by default for the target ``cpu``.
        data: Labelled pictures to calibrate and measure with; reduced precision needs them.
        exclude: Names of nodes that stay in float32; ``localization`` is all layers that theta is computed by.

    Raises:
        InputError: The network cannot be exported, or not in this form.
        ParityError: The graph differs from PyTorch; nothing was written.
        GateError: Reduced precision costs too much; nothing was written.
    """
    plan = plan or plan_export()
    _check_data(plan, data)
    if card.reject not in (None, *card.labels):
        raise InputError(f"{card.name}: the card rejects '{card.reject}', which is none of its labels")
    if card.end not in (None, *card.labels):
        raise InputError(f"{card.name}: the card ends texts with '{card.end}', which is none of its labels")
    with plain_module(network) as plain:
        return _export_plain(plain, output, card, images, image_labels, with_rectified, plan, data, exclude)


def _export_plain(
    network: nn.Module,
    output: Path,
    card: Card,
    images: NDArray[np.uint8] | None,
    image_labels: NDArray[np.int64] | None,
    with_rectified: bool,
    plan: Plan,
    data: TestSet | None,
    exclude: Sequence[str],
) -> Exported:
    """Do what ``export_classifier`` does for a network that PyTorch's exporter takes."""
    spec = card.preprocess
    none = np.empty((0, spec.height, spec.width, spec.channels), np.uint8)
    real = images if images is not None else none
    deployment = Deployment(network, spec, with_rectified).eval()
    whole = export_graph(deployment, spec, plan.form)
    exclude = find_nodes(whole, exclude)
    model = _deployed_graph(whole, plan, data.calibration if data is not None else none, exclude)
    verification = verify(deployment, model, spec, real, plan.form, plan.precision)
    if not verification.passed:
        raise ParityError(
            f"{output}: the exported graph differs from PyTorch, nothing was written (an earlier file stays)\n"
            f"{verification.table()}"
        )
    candidate, _ = open_both(model, deployment, spec, plan.form, plan.precision)
    gate = measure(deployment, candidate, plan.precision, data) if data is not None else None
    if gate is not None and data is not None and not gate.passed:
        advice = _advice(gate, whole, deployment, spec, data, exclude)
        raise GateError(f"{output}: {gate.sentence()}; nothing was written. {advice}")
    labelled = _labelled(real, image_labels, data)
    threshold, labelling = threshold_for(card, candidate, plan.precision, *labelled)
    card = replace(card, threshold=threshold)
    manifest = make_manifest(card, deployment, plan, model, verification, gate, labelling)
    manifest = replace(manifest, golden=make_golden_vectors(deployment, candidate, spec, real, plan))
    _write(model, manifest, output)
    return Exported(output, manifest, verification, gate, labelling)


def _labelled(
    images: NDArray[np.uint8], labels: NDArray[np.int64] | None, data: TestSet | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pictures whose label is known, and these: a test set, which training has not seen, goes first."""
    if data is not None:
        return data.images, data.labels
    if labels is None:
        return images[:0], np.empty(0, np.int64)
    return images[labels >= 0], labels[labels >= 0]


def _check_data(plan: Plan, data: TestSet | None) -> None:
    if plan.precision != "float32" and data is None:
        raise InputError(f"precision {plan.precision} is calibrated and judged on labelled images: give --data")


def _deployed_graph(
    whole: onnx.ModelProto, plan: Plan, calibration: NDArray[np.uint8], exclude: Sequence[str]
) -> onnx.ModelProto:
    """Return a float32 graph in one piece in the precision, batch, form and opset of a plan."""
    reduced = reduce_precision(whole, plan.precision, calibration, exclude)
    return shape_graph(fix_batch(reduced) if plan.static else reduced, plan)


def _advice(
    gate: Gate,
    model: onnx.ModelProto,
    deployment: Deployment,
    spec: PreprocessSpec,
    data: TestSet,
    exclude: Sequence[str],
) -> str:
    """Return what to do about a gate that did not pass."""
    if gate.precision == "float32":
        return "In float32 no answer may change; please report this file"
    costs = blame(deployment, model, spec, gate.precision, data, exclude)
    worst = [name for name, _ in costs[:_WORST_LAYERS]]
    return f"The layers that cost most: try --exclude {' '.join([*exclude, *worst])}"


def _write(model: onnx.ModelProto, manifest: Manifest, output: Path) -> None:
    """Write a graph with its manifest, after replaying its golden vectors as a device does."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    file = model.SerializeToString()
    replayed = replay(Network(file, providers=["CPUExecutionProvider"]))
    if not replayed.passed:
        raise ParityError(f"{output}: does not replay its own golden vectors, nothing was written\n{replayed.table()}")
    write_onnx(file, output)
