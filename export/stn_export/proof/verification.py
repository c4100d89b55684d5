"""Proof that an exported file is the network it came from: PyTorch against onnxruntime, every output."""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from stn_models import CheckpointError, GridGenerator, injected_thetas, load_checkpoint
from stn_models.transformer import SpatialTransformer
from stn_runtime import ExportSpec, InputError, Manifest, PreprocessSpec
from stn_runtime.model.golden import decode_image
from stn_runtime.model.manifest import Form, Precision, read_preprocess
from stn_runtime.model.network import Network
from stn_runtime.model.parity import Parity, compare, largest_differences
from stn_runtime.model.session import open_session

from ..graph.deployment import Deployment
from ..graph.onnx_files import dims_of, opset_of

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
"""Of the split form in float32: OpenCV blends the four pixels in another order than ``grid_sample``."""

_CPU = ("CPUExecutionProvider",)  # the same everywhere: GPUs round products to fewer bits
_RELATIVE = 1e-5  # of an output's largest value, for modules of which nothing more is known
_RELATIVE_HALF = 2e-3  # of outputs in float16: two units of its last place

BATCHES = (1, 3, 64)
"""How many pictures are compared at a time; of large ones fewer, at least 4."""

_MOST_PIXELS = 64 * 64 * 64
SCALES = {"identity": 1.0, "zoom_in": 0.4, "zoom_out": 2.5, "half_turn": -1.0, "degenerate": 0.0, "far_outside": 30.0}
"""Injected thetas, as multiples of the identity's; a seventh, ``warped``, is the identity with noise."""


class ParityError(Exception):
    """The exported graph does not answer as PyTorch does; the message holds the table."""


@dataclass(frozen=True)
class Verification:
    """What comparing PyTorch with onnxruntime gave.

    Attributes:
        own: With theta as the network finds it.
        injected: With theta given; None for a network without a transformer.
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
        """Return a line for each output, theta found by the network and theta given."""
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
    """Compare PyTorch with onnxruntime: real, random and plain pictures, then injected thetas.

    An untrained or centred transformer is near the identity, where a wrong grid does not show. So the theta tensors
    of a copy of the graph are cut open and fed, in both runs, with hostile ones. Grid and sampler are in float32
    whatever the precision, so that with theta given, outline and rectified must agree as in float32.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        model: The exported graph; of the split form, with the classifier graph in its metadata.
        spec: What the network takes.
        images: Real pictures (M, H, W, C), M may be 0.
        form: Of the graph.
        precision: Of the graph.

    Raises:
        InputError: PyTorch's own outputs are not finite.
    """
    tolerances = tolerances_of(form, precision)
    parity = Parity({}, 0, 0, tolerances)
    networks = open_both(model, deployment, spec, form, precision)
    exact = copy.deepcopy(deployment).double()
    for batch in _batches(spec, images):
        expected = torch_outputs(deployment, batch)
        for name, values in expected.items():
            if not np.isfinite(values).all():
                raise InputError(f"PyTorch's own '{name}' is not finite; the checkpoint is damaged or diverged")
        rounding = largest_differences(torch_outputs(exact, batch), expected)
        rounding.pop("rectified", None)  # whole levels
        parity |= Parity({}, 0, 0, tolerances, rounding)
        for network in networks:
            parity |= compare(expected, network.run(batch), tolerances)
    if not deployment.transformers:
        return Verification(parity, None)
    return Verification(parity, verify_injected(deployment, model, spec, images, form, precision))


def verify_injected(
    deployment: Deployment,
    model: onnx.ModelProto,
    spec: PreprocessSpec,
    images: NDArray[np.uint8],
    form: Form = "fused",
    precision: Precision = "float32",
) -> Parity:
    """Compare PyTorch with onnxruntime as ``verify`` does, with hostile thetas given to both."""
    tolerances = {**tolerances_of(form, "float32"), "probabilities": tolerances_of(form, precision)["probabilities"]}
    cut, names = with_theta_inputs(model)
    networks = open_both(cut, deployment, spec, form, precision)
    modules = [name for name, module in deployment.model.named_modules() if isinstance(module, SpatialTransformer)]
    parity = Parity({}, 0, 0, tolerances)
    for thetas in hostile_thetas(deployment):
        by_module = dict(zip(modules, thetas, strict=True))
        in_order_of_use = [by_module[used.name] for used in deployment.transformers]
        for batch in _batches(spec, images):
            with injected_thetas(deployment.model, thetas):
                expected = torch_outputs(deployment, batch)
            given = {
                name: theta.expand(len(batch), -1).contiguous().numpy()
                for name, theta in zip(names, in_order_of_use, strict=True)
            }
            for network in networks:
                parity |= compare(expected, network.run(batch, given=given), tolerances)
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
        Network(data, manifest=manifest, providers=_CPU),
        Network(data, manifest=manifest, providers=_CPU, optimize=False),
    )


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


def compare_with_module(module: nn.Module, model: onnx.ModelProto, examples: Sequence[Tensor]) -> dict[str, float]:
    """Return how far a graph is from any module, by output, relative to the output's largest value.

    Compared on the example and on random tensors of its range, over batches of 1 and 3 and another size where the
    graph leaves them open, with all of onnxruntime's graph optimisations and with none. Allowed is 1e-5, or twice
    the module's own rounding error in float32 where that is larger, up to 1e-4.

    Args:
        module: In evaluation mode.
        model: Its graph.
        examples: What the module takes.

    Raises:
        ParityError: An output differs by more than that.
    """
    found: dict[str, float] = {}
    allowed: dict[str, float] = {}
    data = model.SerializeToString()
    sessions = open_session(data, providers=_CPU), open_session(data, providers=_CPU, optimize=False)
    names = [output.name for output in model.graph.output]
    for inputs in _variations(model, examples):
        try:
            expected = _leaves(module, inputs)
        except Exception as error:  # whatever the module's code raises
            raise InputError(
                f"{type(module).__name__} does not run on {_shapes(inputs)} ({str(error).splitlines()[0][:160]}), "
                "though batch or size were to stay open; export with fixed ones"
            ) from error
        if len(expected) != len(names):
            raise InputError(
                f"{type(module).__name__} returns {len(expected)} tensors, its graph {len(names)}; return tensors only"
            )
        exact = _leaves_in_double(module, inputs)
        feeds = {value.name: tensor.numpy() for value, tensor in zip(model.graph.input, inputs, strict=True)}
        for session in sessions:
            try:
                given = session.run(names, feeds)
            except Exception as error:  # onnxruntime's exceptions share no base class but this one
                raise ParityError(
                    f"the exported graph does not run on {_shapes(inputs)}, where PyTorch does "
                    f"({' '.join(str(error).split())[:160]}); nothing was written. A layer may fix a size that was to "
                    "stay open: export without dynamic_size or dynamic_batch"
                ) from error
            for name, ours, theirs, true in zip(names, expected, given, exact, strict=True):
                if is_nowhere_finite(ours):
                    raise InputError(
                        f"{type(module).__name__}: PyTorch's own '{name}' is NaN or infinite everywhere, so the graph "
                        "cannot be compared; are its weights whole?"
                    )
                limit = _RELATIVE_HALF if ours.dtype == np.float16 else _RELATIVE
                rounding = relative_difference(true.astype(ours.dtype), ours)
                found[name] = max(found.get(name, 0.0), relative_difference(ours, np.asarray(theirs)))
                allowed[name] = max(allowed.get(name, 0.0), min(max(limit, 2 * rounding), 10 * limit))
    wrong = {name: value for name, value in found.items() if not value <= allowed[name]}
    if wrong:
        named = ", ".join(f"'{name}' by {value:.1e} (allowed {allowed[name]:.1e})" for name, value in wrong.items())
        raise ParityError(f"the exported graph differs from PyTorch in {named}; nothing was written")
    return found


def _shapes(inputs: Sequence[Tensor]) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in inputs)


def relative_difference(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Return the largest difference of two tensors, relative to the largest finite value of the first.

    NaN, or infinity, in the same place in both is no difference; in one of them only it is infinitely far. Of uint8,
    one level is free.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if not np.issubdtype(one.dtype, np.number):
        return 0.0 if np.array_equal(one, other) else float("inf")
    expected, actual = one.astype(np.float64), other.astype(np.float64)
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    apart = np.where(same, 0.0, np.abs(expected - actual))
    if one.dtype == np.uint8:  # a value between two levels may round either way
        apart = np.maximum(apart - 1, 0)
    finite = np.abs(expected[np.isfinite(expected)])
    largest = np.where(np.isnan(apart), np.inf, apart).max(initial=0.0)
    return float(largest / max(finite.max(initial=0.0), 1e-30)) if largest else 0.0


def is_nowhere_finite(values: NDArray[np.generic]) -> bool:
    """Return whether there is nothing in a tensor that could be compared."""
    return bool(values.size and values.dtype.kind == "f" and not np.isfinite(values).any())


def _variations(model: onnx.ModelProto, examples: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the examples, and random tensors of their range in every batch and size that the graph takes."""
    yield tuple(examples)
    shapes = [dims_of(value) for value in model.graph.input]
    for seed, (batch, factor) in enumerate([(1, 1.0), (3, 1.0), (2, 1.5)], 1):
        yield tuple(
            _random_like(
                tensor,
                [
                    size if isinstance(size, int) else batch if axis == 0 else round(tensor.shape[axis] * factor)
                    for axis, size in enumerate(sizes)
                ],
                seed,
            )
            for sizes, tensor in zip(shapes, examples, strict=True)
        )


def _random_like(tensor: Tensor, shape: Sequence[int], seed: int) -> Tensor:
    """Return random values of another tensor's type and range."""
    generator = torch.Generator().manual_seed(seed)
    low, high = float(tensor.min()), float(tensor.max())
    if tensor.is_floating_point():
        spread = high - low or 1.0
        return (torch.rand(*shape, generator=generator) * spread + low).to(tensor.dtype)
    return torch.randint(int(low), int(high) + 1, tuple(shape), generator=generator).to(tensor.dtype)


def _leaves(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.generic]]:
    """Return every tensor that a module returns, in order."""
    with torch.inference_mode():
        return [leaf.numpy() for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


def _leaves_in_double(module: nn.Module, inputs: Sequence[Tensor]) -> list[NDArray[np.generic]]:
    """Return what a module returns in float64; in float32 where its code does not allow the other."""
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        return _leaves(copy.deepcopy(module).double(), wide)
    except (RuntimeError, TypeError, ValueError):
        return _leaves(module, inputs)


def torch_outputs(deployment: Deployment, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Return PyTorch's outputs by name for pictures (N, H, W, C)."""
    with torch.inference_mode():
        return {name: value.numpy() for name, value in deployment.outputs(torch.from_numpy(batch)).named().items()}


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
    golden = [decode_image(vector, spec) for vector in manifest.golden]
    export = manifest.export
    parity = verify(deployment, onnx.load(model), spec, np.concatenate(golden), export.form, export.precision)
    sys.stdout.write(f"against {checkpoint}:\n{parity.table()}\n")
    return 0 if parity.passed else 1


def _batches(spec: PreprocessSpec, images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of each size: random noise with a black, a white and the real pictures among it."""
    shape = (spec.height, spec.width, spec.channels)
    random = np.random.default_rng(0)
    largest = max(4, min(BATCHES[-1], _MOST_PIXELS // (spec.height * spec.width)))
    for size in (*BATCHES[:-1], largest):
        batch = random.integers(0, 256, (size, *shape), np.uint8)
        if size >= 3:
            batch[0], batch[1] = 0, 255
            real = images[:: 1 + len(images) // size][: size - 3]  # from all over, since they may be sorted by class
            batch[2 : 2 + len(real)] = real
        yield batch
    if len(images):
        yield images[:1]
