"""Proof that an exported file is the network it came from: PyTorch against onnxruntime, every output."""

import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_models import CheckpointError, GridGenerator, injected_thetas, load_checkpoint
from stn_models.transformer import SpatialTransformer
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.golden import decode_image
from stn_runtime.manifest import read_preprocess
from stn_runtime.session import open_session, read_manifest

from .deployment import Deployment

# Largest absolute differences allowed. tests/parity/test_matrix.py sweeps 5 transformers x 3 paddings x 2 sizes x
# 3 batches x 7 thetas and prints the largest difference seen for each output.
TOLERANCES: Mapping[str, float] = {"probabilities": 1e-5, "theta": 1e-5, "outline": 1e-4, "rectified": 1.0}
"""By output; ``rectified`` in levels of 255, where a value that lies between two levels may round either way."""

BATCHES = (1, 3, 64)
SCALES = {"identity": 1.0, "zoom_in": 0.4, "zoom_out": 2.5, "half_turn": -1.0, "degenerate": 0.0, "far_outside": 30.0}
"""Injected thetas, as multiples of the identity's; a seventh, ``warped``, is the identity with noise."""


@dataclass(frozen=True)
class Parity:
    """How far two runs of a network are apart.

    Attributes:
        differences: Largest absolute difference, by output.
        labels_differ: Of how many pictures the most probable label differs.
        pictures: How many pictures were compared.
        rounding: How far PyTorch itself is from the same network in float64, by output; where it was measured.
    """

    differences: Mapping[str, float]
    labels_differ: int
    pictures: int
    rounding: Mapping[str, float] = field(default_factory=dict)

    def allowed(self, name: str) -> float:
        """Return the largest difference allowed for an output.

        TOLERANCES, or twice PyTorch's own rounding error where that is larger, up to ten times TOLERANCES: two
        correct float32 runs of a sensitive network may err to either side of the exact answer.
        """
        return min(max(TOLERANCES[name], 2 * self.rounding.get(name, 0.0)), 10 * TOLERANCES[name])

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed and every label equal."""
        return not self.labels_differ and all(value <= self.allowed(name) for name, value in self.differences.items())

    def __or__(self, other: "Parity") -> "Parity":
        """Return the worse of both."""
        return Parity(
            _larger(self.differences, other.differences),
            self.labels_differ + other.labels_differ,
            self.pictures + other.pictures,
            _larger(self.rounding, other.rounding),
        )

    def table(self) -> str:
        """Return a line for each output."""
        lines = [
            f"{name:<14} largest difference {value:.2e}  allowed {self.allowed(name):.1e}  "
            f"{'ok' if value <= self.allowed(name) else 'FAILED'}"
            for name, value in self.differences.items()
        ]
        return "\n".join([*lines, f"{self.pictures} pictures, {self.labels_differ} labels differ"])


def _larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def compare(expected: Mapping[str, NDArray[np.generic]], actual: Mapping[str, NDArray[np.generic]]) -> Parity:
    """Return how far ``actual`` outputs are from the ``expected`` ones; NaN counts as infinitely far."""
    differences = largest_differences(expected, actual)
    # Two labels may tie within the tolerance: a tie is no difference.
    probabilities = expected["probabilities"]
    rows = np.arange(len(probabilities))
    best, given = probabilities.argmax(axis=-1), actual["probabilities"].argmax(axis=-1)
    apart = np.abs(probabilities[rows, best].astype(np.float64) - probabilities[rows, given].astype(np.float64))
    differ = int((apart > TOLERANCES["probabilities"]).sum())
    return Parity(differences, differ, len(probabilities))


def largest_differences(
    expected: Mapping[str, NDArray[np.generic]], actual: Mapping[str, NDArray[np.generic]]
) -> dict[str, float]:
    """Return the largest absolute difference of each output; NaN counts as infinitely far."""
    differences = {}
    for name, values in expected.items():
        apart = np.abs(actual[name].astype(np.float64) - values.astype(np.float64))
        differences[name] = float(np.where(np.isfinite(apart), apart, np.inf).max(initial=0.0))
    return differences


def verify(deployment: Deployment, model: onnx.ModelProto, spec: PreprocessSpec, images: NDArray[np.uint8]) -> Parity:
    """Compare PyTorch with onnxruntime: real, random and plain pictures, then injected thetas.

    An untrained or centred transformer is near the identity, where a wrong grid does not show. So the theta tensors
    of a copy of the graph are cut open and fed, in both runs, with hostile ones.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        model: The exported graph.
        spec: What the network takes.
        images: Real pictures (M, H, W, C), M may be 0.

    Raises:
        InputError: PyTorch's own outputs are not finite.
    """
    parity = Parity({}, 0, 0)
    optimized, plain = _session(model), _session(model, optimize=False)
    exact = copy.deepcopy(deployment).double()
    for batch in _batches(spec, images):
        expected = torch_outputs(deployment, batch)
        for name, values in expected.items():
            if not np.isfinite(values).all():
                raise InputError(f"PyTorch's own '{name}' is not finite; the checkpoint is damaged or diverged")
        rounding = largest_differences(torch_outputs(exact, batch), expected)
        rounding.pop("rectified", None)  # whole levels
        parity = parity | Parity({}, 0, 0, rounding)
        for session in (optimized, plain):
            parity = parity | compare(expected, ort_outputs(session, {"image": batch}))
    if deployment.transformers:
        parity = parity | _verify_injected(deployment, model, spec, images)
    return parity


def _verify_injected(
    deployment: Deployment, model: onnx.ModelProto, spec: PreprocessSpec, images: NDArray[np.uint8]
) -> Parity:
    cut, names = with_theta_inputs(model)
    sessions = _session(cut), _session(cut, optimize=False)
    modules = [name for name, module in deployment.model.named_modules() if isinstance(module, SpatialTransformer)]
    parity = Parity({}, 0, 0)
    for thetas in hostile_thetas(deployment):
        by_module = dict(zip(modules, thetas, strict=True))
        in_order_of_use = [by_module[used.name] for used in deployment.transformers]
        for batch in _batches(spec, images):
            with injected_thetas(deployment.model, thetas):
                expected = torch_outputs(deployment, batch)
            feeds = {
                name: theta.expand(len(batch), -1).contiguous().numpy()
                for name, theta in zip(names, in_order_of_use, strict=True)
            }
            for session in sessions:
                parity = parity | compare(expected, ort_outputs(session, {"image": batch, **feeds}))
    return parity


def hostile_thetas(deployment: Deployment) -> Iterator[list[Tensor]]:
    """Yield lists of one theta (1, P) a transformer: SCALES, and the identity with noise."""
    grids = transformer_grids(deployment)
    for scale in SCALES.values():
        yield [grid.identity()[None] * scale for grid in grids]
    generator = torch.Generator().manual_seed(0)
    yield [grid.identity()[None] + 0.1 * torch.randn(1, grid.theta_size, generator=generator) for grid in grids]


def transformer_grids(deployment: Deployment) -> list[GridGenerator]:
    """Return the grid generators of the network's transformers, in the order of ``named_modules``."""
    return [module.grid for module in deployment.model.modules() if isinstance(module, SpatialTransformer)]


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
    for index, name in enumerate(names):
        fed = f"theta_{index}"
        for node in cut.graph.node:
            for position, consumed in enumerate(node.input):
                if consumed == name:
                    node.input[position] = fed
        size = sizes[name][1].dim_value
        cut.graph.input.append(onnx.helper.make_tensor_value_info(fed, onnx.TensorProto.FLOAT, ["N", size]))
    if names == ["theta"]:  # the output itself was produced by the localisation net
        producer.output[0] = "theta_unused"
        cut.graph.node.append(onnx.helper.make_node("Identity", ["theta_0"], ["theta"]))
    return cut, [f"theta_{index}" for index in range(len(names))]


def torch_outputs(deployment: Deployment, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Return PyTorch's outputs by name for pictures (N, H, W, C)."""
    with torch.inference_mode():
        return {name: value.numpy() for name, value in deployment.outputs(torch.from_numpy(batch)).named().items()}


def ort_outputs(
    session: ort.InferenceSession, feeds: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """Return onnxruntime's outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(names, dict(feeds))), strict=True))


def compare_files(model: Path, checkpoint: Path) -> int:
    """Compare an exported file with a checkpoint, its golden pictures among others; return the exit status.

    Raises:
        InputError: One of the files cannot be used, or they do not belong together.
    """
    try:
        network, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    manifest = read_manifest(open_session(model), str(model))
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
    golden = [decode_image(vector, spec) for vector in manifest.golden]
    parity = verify(deployment, onnx.load(model), spec, np.concatenate(golden))
    sys.stdout.write(f"against {checkpoint}:\n{parity.table()}\n")
    return 0 if parity.passed else 1


def _batches(spec: PreprocessSpec, images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of each size: random noise with a black, a white and the real pictures among it."""
    shape = (spec.height, spec.width, spec.channels)
    random = np.random.default_rng(0)
    for size in BATCHES:
        batch = random.integers(0, 256, (size, *shape), np.uint8)
        if size >= 3:
            batch[0], batch[1] = 0, 255
            real = images[: size - 3]
            batch[2 : 2 + len(real)] = real
        yield batch
    if len(images):
        yield images[:1]


def _session(model: onnx.ModelProto, optimize: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
