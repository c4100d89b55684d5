"""Proof that an exported file is the network it came from: PyTorch against onnxruntime, every output."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stn_models import CheckpointError, SpatialTransformer, injected_thetas, load_checkpoint
from stn_runtime import ExportSpec, InputError, Manifest, PreprocessSpec
from stn_runtime.model.golden import golden_image
from stn_runtime.model.manifest import Form, Precision, SequenceSpec, TransformerSpec, read_preprocess
from stn_runtime.model.network import Network
from stn_runtime.model.parity import Parity, compare, largest_differences

from ..graph.deployment import Deployment
from ..graph.onnx_files import dims_of, opset_of
from .graph_cuts import CPU, find_cuts
from .graph_proof import GraphProof
from .module_evaluation import ModuleOriginal
from .reference import Case, Reference, pytorch_reference
from .rounding import FACTOR, DisturbedRuns, PartDifference

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


_DRAWS = 8  # runs of PyTorch with other rounding, before a difference is refused
_LARGEST_FOR_PARTS = 4  # pictures at a time; larger batches are compared end to end


class ParityError(Exception):
    """The exported graph does not answer as PyTorch does; the message holds the table."""


@dataclass(frozen=True)
class Verification:
    """Result of comparing PyTorch with onnxruntime.

    Attributes:
        own: Comparison with the network's own theta.
        injected: Comparison with injected theta; None for a network without a transformer.
        parts: Comparison of the graph's parts, each made of PyTorch's own values; empty for other forms than ``fused``
            and for reduced precision.
        real_pictures: Number of real pictures among those that were compared with the network's own theta.
    """

    own: Parity
    injected: Parity | None
    parts: tuple[PartDifference, ...] = ()
    real_pictures: int = 0

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed and every label equal."""
        parts = all(part.passed for part in self.parts)
        return self.own.passed and parts and (self.injected is None or self.injected.passed)

    @property
    def differences(self) -> dict[str, float]:
        """Return the largest difference of each output."""
        given = self.injected.differences if self.injected is not None else {}
        return {name: max(value, given.get(name, 0.0)) for name, value in self.own.differences.items()}

    def table(self) -> str:
        """Return a line for each output, with the network's own theta and with injected theta, and each wrong part."""
        wrong = [f"in {part.sentence()}: FAILED" for part in self.parts if not part.passed]
        lines = [self.own.table(), *wrong]
        if self.injected is not None:
            lines = ["theta of the network:", *lines, "theta given:", self.injected.table()]
        return "\n".join([*lines, f"{self.real_pictures} of the pictures are real"])

    def report(self) -> dict[str, object]:
        """Return the figures for the manifest."""
        runs = {"own": self.own, "given": self.injected}
        parts = [
            {"stage": part.stage, "name": part.name, "difference": part.difference, "allowed": part.allowed}
            for part in self.parts
        ]
        return {"real_pictures": self.real_pictures, "parts": parts} | {
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
    networks = open_both(model, deployment, spec, form, precision)

    def answer(case: Case) -> list[dict[str, NDArray[np.generic]]]:
        return [network.run(case.pictures) for network in networks]

    is_exact = precision == "float32"
    parity = _compare_cases(reference.own, answer, tolerances_of(form, precision), deployment if is_exact else None)
    parts = _compare_parts(reference, deployment, model) if is_exact and form == "fused" else ()
    injected = _verify_injected(reference, deployment, model, spec, form, precision) if reference.injected else None
    return Verification(parity, injected, parts, reference.real_pictures)


def _compare_cases(
    cases: Sequence[Case],
    answer: Callable[[Case], Sequence[Mapping[str, NDArray[np.generic]]]],
    tolerances: Mapping[str, float],
    deployment: Deployment | None,
) -> Parity:
    """Compare answers with PyTorch's; where the tolerances do not hold, allow what PyTorch's own rounding explains.

    Args:
        cases: PyTorch's outputs.
        answer: Returns the outputs of the same graph, run in several ways.
        tolerances: Largest absolute differences allowed in any case.
        deployment: The network whose rounding is measured; None where only the tolerances count.
    """
    compared = _join(cases, answer, tolerances)
    if compared.passed or deployment is None:
        return compared
    moved = dict.fromkeys(tolerances, 0.0)
    for case in cases:
        original = ModuleOriginal(deployment, partial(_given_thetas, used=deployment.transformers, thetas=case.thetas))
        runs = DisturbedRuns(original, [case.pictures])
        for seed in range(_DRAWS):
            outputs = dict(zip(case.outputs, runs.end_to_end(seed).outputs, strict=True))
            for name, value in largest_differences(case.outputs, outputs).items():
                moved[name] = max(moved[name], value if np.isfinite(value) else 0.0)
    return _join(cases, answer, {name: max(value, FACTOR * moved[name]) for name, value in tolerances.items()})


def _join(
    cases: Sequence[Case],
    answer: Callable[[Case], Sequence[Mapping[str, NDArray[np.generic]]]],
    tolerances: Mapping[str, float],
) -> Parity:
    parity = Parity({}, 0, 0, tolerances)
    for case in cases:
        for outputs in answer(case):
            parity |= compare(case.outputs, outputs, tolerances)
    return parity


@contextmanager
def _given_thetas(module: nn.Module, used: Sequence[TransformerSpec], thetas: Sequence[Tensor]) -> Iterator[None]:
    """Make the transformers of a deployment use some thetas, in order of use; their own where there are none."""
    if not thetas or not isinstance(module, Deployment):
        yield
        return
    by_name = dict(zip((transformer.name for transformer in used), thetas, strict=True))
    transformers = {name: part for name, part in module.model.named_modules() if isinstance(part, SpatialTransformer)}
    given = [by_name.get(name, part.grid.identity()[None]) for name, part in transformers.items()]
    with injected_thetas(module.model, given):
        yield


def _compare_parts(reference: Reference, deployment: Deployment, model: onnx.ModelProto) -> tuple[PartDifference, ...]:
    """Compare each part of a graph between its samplers on PyTorch's own values, for the smaller batches."""
    proof, original = GraphProof(model, find_cuts(model)), ModuleOriginal(deployment)
    for case in reference.own:
        if len(case.pictures) <= _LARGEST_FOR_PARTS:
            proof.add_parts(DisturbedRuns(original, [case.pictures]))
    return tuple(proof.results)


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

    def answer(case: Case) -> list[dict[str, NDArray[np.generic]]]:
        thetas = {
            name: theta.expand(len(case.pictures), -1).contiguous().numpy()
            for name, theta in zip(names, case.thetas, strict=True)
        }
        return [network.run(case.pictures, given=thetas) for network in networks]

    return _compare_cases(reference.injected, answer, tolerances, deployment if precision == "float32" else None)


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
        sequence=_some_sequence(example["probabilities"].shape[1:]),
    )
    data = model.SerializeToString()
    return (
        Network(data, manifest=manifest, providers=CPU),
        Network(data, manifest=manifest, providers=CPU, optimize=False),
    )


def _some_sequence(shape: Sequence[int]) -> SequenceSpec | None:
    """Return a description of texts that fits one picture's probabilities; None where these are of one label."""
    return SequenceSpec(shape[0], "0") if len(shape) == 2 else None


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
    spec = manifest.preprocess
    same = {
        "labels": (described.labels, described.reject, described.end)
        == (manifest.labels, manifest.reject, manifest.sequence.end if manifest.sequence else None),
        "size and preprocessing": read_preprocess(described.preprocess, str(checkpoint)) == spec,
    }
    if all(same.values()):  # else the network may not even run
        deployment = Deployment(network, spec, with_rectified="rectified" in manifest.outputs).eval()
        same["transformers"] = deployment.transformers == manifest.transformers
    for name, equal in same.items():
        if not equal:
            raise InputError(f"{model}: its {name} are not those of {checkpoint}; they are of two networks")
    golden = [golden_image(vector, spec) for vector in manifest.golden]
    export = manifest.export
    parity = verify(deployment, onnx.load(model), spec, np.concatenate(golden), export.form, export.precision)
    sys.stdout.write(f"against {checkpoint}:\n{parity.table()}\n")
    if described.threshold not in (None, manifest.threshold):
        other = "it has no threshold" if manifest.threshold is None else f"its threshold is {manifest.threshold:.8g}"
        sys.stdout.write(f"{other}, and the checkpoint's is {described.threshold:.8g}\n")
    return 0 if parity.passed else 1
