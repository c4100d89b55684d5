"""What a model file says of itself beside its graph: card, manifest and golden vectors."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from stn_models import Labelling
from stn_runtime import ExportSpec, GoldenVector, Manifest, PreprocessSpec
from stn_runtime.model.golden import make_golden
from stn_runtime.model.manifest import SequenceSpec
from stn_runtime.model.network import Network
from stn_runtime.model.theta_statistics import ThetaStatistics

from .forms.targets import Plan
from .graph.deployment import Deployment
from .graph.onnx_files import opset_of
from .proof.gates import Gate
from .proof.reference import torch_outputs
from .proof.verification import Verification

_GOLDEN_REAL, _GOLDEN_RANDOM = 4, 2


@dataclass(frozen=True)
class Card:
    """What a manifest says of a classifier beyond its graph.

    Attributes:
        name: The model's name.
        labels: labels[i] names logit i.
        preprocess: How a picture becomes the network's input.
        license: The weights' licence, an SPDX expression.
        data: Training data and settings; free-form JSON.
        metrics: Measured figures by name, accuracy in percent.
        theta: Statistics of theta on the training pictures; None where they were not measured.
        reject: The label that means none of the others; None where there is none.
        threshold: Confidence from 0 to 1, found on validation data, below which a picture gets no label; None where it
            was not looked for.
        end: The label behind the last character, of a network that spells texts; None where a picture has one label.
    """

    name: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    license: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    theta: ThetaStatistics | None = None
    reject: str | None = None
    threshold: float | None = None
    end: str | None = None


def make_manifest(
    card: Card,
    deployment: Deployment,
    plan: Plan,
    model: onnx.ModelProto,
    verification: Verification,
    gate: Gate | None,
    labelling: Labelling | None = None,
) -> Manifest:
    """Return the manifest of a verified graph, without golden vectors.

    Args:
        card: The classifier's card.
        deployment: The network in PyTorch.
        plan: The plan of the export.
        model: The exported graph.
        verification: PyTorch against onnxruntime.
        gate: Figures on a test set; with reduced precision, its accuracy replaces the card's metrics, which are
            those of the network in float32.
        labelling: What the card's threshold does on labelled pictures; None where that was not measured.
    """
    report = verification.report()
    if gate is not None:
        report["gate"] = asdict(gate)
    if labelling is not None:
        report["threshold"] = asdict(labelling)
    measured = {} if gate is None else {gate.source.replace(",", ""): gate.accuracy}
    return Manifest(
        name=card.name,
        labels=card.labels,
        preprocess=card.preprocess,
        transformers=deployment.transformers,
        outputs=tuple(verification.own.differences),
        export=ExportSpec(form=plan.form, target=plan.target, precision=plan.precision, opset=opset_of(model)),
        data=card.data,
        metrics=card.metrics if gate is None or plan.precision == "float32" else measured,
        parity=verification.differences,
        verification=report,
        versions=_versions(),
        license=card.license,
        theta=card.theta,
        reject=card.reject,
        threshold=card.threshold,
        sequence=_sequence(card, deployment),
    )


def _sequence(card: Card, deployment: Deployment) -> SequenceSpec | None:
    """Return how the network spells texts; None where a picture has one label."""
    if card.end is None:
        return None
    spec = card.preprocess
    image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
    return SequenceSpec(torch_outputs(deployment, image)["probabilities"].shape[1], card.end)


def _versions() -> dict[str, str]:
    """Return the versions of the packages that made the file."""
    return {
        "stn-edge": metadata.version("stn-edge"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": metadata.version("onnxscript"),
        "onnxruntime": ort.__version__,
    }


def make_golden_vectors(
    deployment: Deployment, candidate: Network, spec: PreprocessSpec, images: NDArray[np.uint8], plan: Plan
) -> tuple[GoldenVector, ...]:
    """Return golden vectors: up to four of the real pictures and two random ones, with the outputs for them.

    Args:
        deployment: The network in PyTorch; its outputs are the golden ones in float32.
        candidate: The exported model, open; its outputs are the golden ones in reduced precision, which is not to
            answer as PyTorch does in float32.
        spec: The network's input.
        images: Real pictures (M, H, W, C), M may be 0.
        plan: The plan of the export.
    """
    shape = (_GOLDEN_RANDOM, spec.height, spec.width, spec.channels)
    random = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    real = images[:: max(1, len(images) // _GOLDEN_REAL)][:_GOLDEN_REAL]
    batch = np.concatenate([real, random])
    outputs = torch_outputs(deployment, batch) if plan.precision == "float32" else candidate.run(batch)
    return tuple(
        make_golden(image, {name: values[index] for name, values in outputs.items()})
        for index, image in enumerate(batch)
    )
