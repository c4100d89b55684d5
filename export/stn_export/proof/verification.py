"""Proof that an exported file is the network it came from: PyTorch against onnxruntime, every output."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from stn_models import CheckpointError, load_checkpoint
from stn_runtime import ExportSpec, InputError, Manifest, PreprocessSpec
from stn_runtime.model.golden import golden_image
from stn_runtime.model.manifest import Form, Precision, read_preprocess
from stn_runtime.model.network import Network
from stn_runtime.model.parity import Parity, compare

from ..graph.deployment import Deployment
from ..graph.onnx_files import dims_of, opset_of
from .reference import Reference, pytorch_reference

# Largest absolute differences from PyTorch allowed. ``python -m tests.parity.matrix`` sweeps 5 transformers x
# 3 paddings x 2 sizes x 3 batches x 7 thetas x forms x precisions; export/README.md keeps what it printed.
TOLERANCES: Mapping[str, Mapping[str, float]] = {
    "float32": {"probabilities": 1e-5, "theta": 1e-5, "outline": 1e-4, "rectified": 1.0},
    "float16": {"probabilities": 2e-2, "theta": 5e-3, "outline": 5e-3, "rectified": 255.0},
    "int8": {"probabilities": 1.0, "theta": 1e3, "outline": 1e3, "rectified": 255.0},
}
"""By precision and output; ``rectified`` in levels of 255, where a value between two levels may round either way.

What reduced precision costs is decided on a test set, by the gates; here it only must not be broken.
"""

SPLIT_TOLERANCES: Mapping[str, float] = {"probabilities": 1e-4, "theta": 1e-5, "outline": 1e-4, "rectified": 1.0}
"""Tolerances of the split form in float32: OpenCV blends the four pixels in another order than ``grid_sample``."""

CPU = ("CPUExecutionProvider",)
"""Execution providers of every comparison: the same on every machine, since GPUs round products to fewer bits."""


class ParityError(Exception):
    """The exported graph does not answer as PyTorch does; the message holds the table."""


@dataclass(frozen=True)
class Verification:
    """Result of comparing PyTorch with onnxruntime.

    Attributes:
        own: Comparison with the network's own theta.
        injected: Comparison with injected theta; None for a network without a transformer.
    """

    own: Parity
    injected: Parity | None

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed and every label equal."""
        return self.own.passed and (self.injected is None or self.injected.passed)

    @property
    def differences(self) -> dict[str, float]:
        """Return the largest difference of each output."""
        given = self.injected.differences if self.injected is not None else {}
        return {name: max(value, given.get(name, 0.0)) for name, value in self.own.differences.items()}

    def table(self) -> str:
        """Return a line for each output: first with the network's own theta, then with injected theta."""
        if self.injected is None:
            return self.own.table()
        return f"theta of the network:\n{self.own.table()}\ntheta given:\n{self.injected.table()}"

    def report(self) -> dict[str, object]:
        """Return the figures for the manifest."""
        runs = {"own": self.own, "given": self.injected}
        return {
            f"theta_{name}": {
                "differences": dict(run.differences),
                "allowed": {output: run.allowed(output) for output in run.differences},
                "labels_differ": run.labels_differ,
                "pictures": run.pictures,
            }
            for name, run in runs.items()
            if run is not None
        }


def verify(
    deployment: Deployment,
    model: onnx.ModelProto,
    spec: PreprocessSpec,
    images: NDArray[np.uint8],
    form: Form = "fused",
    precision: Precision = "float32",
) -> Verification:
    """Compare PyTorch with onnxruntime on real, random and plain pictures, then on injected thetas.

    An untrained or centred transformer is near the identity, where a wrong grid does not show. So the theta tensors
    of a copy of the graph are cut open, and hostile thetas are fed to both sides. Grid and sampler are in float32
    whatever the precision, so that with injected thetas, outline and rectified must agree as in float32.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        model: The exported graph; in the split form, its metadata holds the classifier graph.
        spec: The network's input.
        images: Real pictures (M, H, W, C), M may be 0.
        form: The graph's form.
        precision: The graph's precision.

    Raises:
        InputError: PyTorch's own outputs are not finite.
    """
    return verify_against(pytorch_reference(deployment, spec, images), deployment, model, spec, form, precision)


def verify_against(
    reference: Reference,
    deployment: Deployment,
    model: onnx.ModelProto,
    spec: PreprocessSpec,
    form: Form = "fused",
    precision: Precision = "float32",
) -> Verification:
    """Compare a graph with PyTorch's outputs as ``verify`` does; several graphs can share one reference.

    Args:
        reference: Returned by ``pytorch_reference`` for this network.
        deployment: The network, in evaluation mode on the CPU.
        model: The exported graph; in the split form, its metadata holds the classifier graph.
        spec: The network's input.
        form: The graph's form.
        precision: The graph's precision.
    """
    tolerances = tolerances_of(form, precision)
    parity = Parity({}, 0, 0, tolerances, reference.rounding)
    networks = open_both(model, deployment, spec, form, precision)
    for case in reference.own:
        for network in networks:
            parity |= compare(case.outputs, network.run(case.pictures), tolerances)
    if not reference.injected:
        return Verification(parity, None)
    return Verification(parity, _verify_injected(reference, deployment, model, spec, form, precision))


def _verify_injected(
    reference: Reference,
    deployment: Deployment,
    model: onnx.ModelProto,
    spec: PreprocessSpec,
    form: Form,
    precision: Precision,
) -> Parity:
    """Compare a graph with PyTorch's outputs where both use the same hostile thetas."""
    tolerances = {**tolerances_of(form, "float32"), "probabilities": tolerances_of(form, precision)["probabilities"]}
    cut, names = with_theta_inputs(model)
    networks = open_both(cut, deployment, spec, form, precision)
    parity = Parity({}, 0, 0, tolerances)
    for case in reference.injected:
        thetas = {
            name: theta.expand(len(case.pictures), -1).contiguous().numpy()
            for name, theta in zip(names, case.thetas, strict=True)
        }
        for network in networks:
            parity |= compare(case.outputs, network.run(case.pictures, given=thetas), tolerances)
    return parity


def tolerances_of(form: Form, precision: Precision) -> Mapping[str, float]:
    """Return the largest differences from PyTorch that a form in a precision may have, by output."""
    return SPLIT_TOLERANCES if form == "split" and precision == "float32" else TOLERANCES[precision]


def open_both(
    model: onnx.ModelProto, deployment: Deployment, spec: PreprocessSpec, form: Form, precision: Precision
) -> tuple[Network, Network]:
    """Return a graph opened with all of onnxruntime's graph optimisations, and with none."""
    with torch.no_grad():
        example = deployment.outputs(torch.zeros(1, spec.height, spec.width, spec.channels, dtype=torch.uint8)).named()
    manifest = Manifest(
        name="candidate",
        labels=tuple(map(str, range(example["probabilities"].shape[-1]))),
        preprocess=spec,
        transformers=deployment.transformers,
        outputs=tuple(example),
        export=ExportSpec(form, "cpu", precision, opset_of(model)),
    )
    data = model.SerializeToString()
    return (
        Network(data, manifest=manifest, providers=CPU),
        Network(data, manifest=manifest, providers=CPU, optimize=False),
    )


def with_theta_inputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy of a graph whose thetas are inputs instead of results, and the names of those inputs.

    Raises:
        ValueError: The graph has no output ``theta``.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    producer = next((node for node in cut.graph.node if "theta" in node.output), None)
    if producer is None:
        raise ValueError("the graph has no output 'theta'")
    names = list(producer.input) if producer.op_type == "Concat" else ["theta"]
    if producer.op_type == "Identity":
        names = [producer.input[0]]
    sizes = {entry.name: entry.type.tensor_type.shape.dim for entry in [*cut.graph.value_info, *cut.graph.output]}
    batch = dims_of(cut.graph.input[0])[0]
    for index, name in enumerate(names):
        fed = f"theta_{index}"
        for node in cut.graph.node:
            for position, consumed in enumerate(node.input):
                if consumed == name:
                    node.input[position] = fed
        size = sizes[name][1].dim_value
        cut.graph.input.append(onnx.helper.make_tensor_value_info(fed, onnx.TensorProto.FLOAT, [batch, size]))
    if names == ["theta"]:  # the output itself was produced by the localisation net
        producer.output[0] = "theta_unused"
        cut.graph.node.append(onnx.helper.make_node("Identity", ["theta_0"], ["theta"]))
    return cut, [f"theta_{index}" for index in range(len(names))]


def compare_files(model: Path, checkpoint: Path) -> int:
    """Compare an exported file with a checkpoint, its golden pictures among others; return the exit status.

    Raises:
        InputError: One of the files cannot be used, or they do not belong together.
    """
    try:
        network, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    manifest = Network(model).manifest
    deployment = Deployment(network, manifest.preprocess, with_rectified="rectified" in manifest.outputs).eval()
    spec = manifest.preprocess
    same = {
        "transformers": deployment.transformers == manifest.transformers,
        "labels": described.labels == manifest.labels,
        "preprocessing": read_preprocess(described.preprocess, str(checkpoint)) == spec,
    }
    for name, equal in same.items():
        if not equal:
            raise InputError(f"{model}: its {name} are not those of {checkpoint}")
    golden = [golden_image(vector, spec) for vector in manifest.golden]
    export = manifest.export
    parity = verify(deployment, onnx.load(model), spec, np.concatenate(golden), export.form, export.precision)
    sys.stdout.write(f"against {checkpoint}:\n{parity.table()}\n")
    return 0 if parity.passed else 1
