"""Gates: what reduced precision may cost on a test set, and which layers are to blame when it costs more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from stn_models import SpatialTransformer
from stn_runtime import PreprocessSpec
from stn_runtime.model.manifest import Precision, TransformerSpec
from stn_runtime.model.network import Network
from stn_runtime.model.parity import labels_that_differ
from stn_runtime.model.sequences import best_labels, share_right

from ..forms.precision import layers, reduce_precision
from ..graph.deployment import Deployment
from .reference import torch_outputs
from .verification import open_both

LARGEST_DROP = {"float32": 0.0, "float16": 0.1, "int8": 0.5}
"""Largest allowed drop of top-1 accuracy, in points, by precision."""

LARGEST_SHIFT = 0.25
"""Allowed movement of sampling points, its 99th percentile, in pixels of the sampled tensor."""

_BATCH = 200
_TIE = 1e-5
_SHIFT_PICTURES = 1000
_BLAME_PICTURES = 256


@dataclass(frozen=True)
class TestSet:
    """Labelled pictures to measure with, and others to calibrate with.

    Attributes:
        images: (N, H, W, C) uint8, preprocessed.
        labels: (N,) indices into the model's labels; (N, D) of a network that spells texts.
        calibration: (M, H, W, C) uint8, not among ``images``.
        source: Name of the data set, for reports.
        end: Index of the label behind the last character of a text; None where a picture has one label.
    """

    __test__ = False  # not one of pytest's

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    calibration: NDArray[np.uint8]
    source: str
    end: int | None = None


@dataclass(frozen=True)
class Gate:
    """What an exported model costs against PyTorch.

    Attributes:
        precision: Precision of the exported model.
        reference: Top-1 accuracy of PyTorch, percent.
        accuracy: Top-1 accuracy of the exported model, percent.
        labels_differ: Number of pictures whose most probable label differs; two that PyTorch finds equally probable,
            within 1e-5, count as one.
        shift: Movement of the sampling points, its 99th percentile, in pixels; of the worst transformer, on up to
            1000 of the pictures.
        pictures: Number of pictures that were classified.
        source: Name of the data set.
    """

    precision: Precision
    reference: float
    accuracy: float
    labels_differ: int
    shift: float
    pictures: int
    source: str

    @property
    def passed(self) -> bool:
        """Whether accuracy dropped and points moved by no more than is allowed; in float32, no label may differ."""
        if self.precision == "float32" and self.labels_differ:
            return False
        drop = round(self.reference - self.accuracy, 6)  # a tenth of a point is a tenth in float64 too
        return drop <= LARGEST_DROP[self.precision] and self.shift <= LARGEST_SHIFT

    def sentence(self) -> str:
        """Return the figures, and whether they pass."""
        return (
            f"{self.source}: top-1 {self.accuracy:.2f} % (PyTorch {self.reference:.2f} %, at most "
            f"{LARGEST_DROP[self.precision]} points lower), {self.labels_differ} of {self.pictures} labels differ, "
            f"99 % of the sampling points within {self.shift:.3f} pixels (allowed {LARGEST_SHIFT}): "
            f"{'ok' if self.passed else 'FAILED'}"
        )


class GateError(Exception):
    """Reduced precision costs more than is allowed; the message says how much, and which layers to exclude."""


def measure(deployment: Deployment, network: Network, precision: Precision, data: TestSet) -> Gate:
    """Measure an exported model and PyTorch on the same pictures.

    Args:
        deployment: The network in PyTorch.
        network: The exported model, open.
        precision: Precision of the exported model.
        data: Labelled pictures.
    """
    starts = range(0, len(data.images), _BATCH)
    every = -(-len(starts) * _BATCH // _SHIFT_PICTURES)  # of all classes some, also where they come in order
    reference_labels, labels, shifts = [], [], []
    differ = 0
    for start in tqdm(starts, "measuring", unit=" batches", leave=False, disable=None):
        batch = data.images[start : start + _BATCH]
        ours, theirs = torch_outputs(deployment, batch), network.run(batch)
        best, exported = (
            best_labels(outputs["probabilities"].astype(np.float32), data.end) for outputs in (ours, theirs)
        )
        differ += labels_that_differ(ours["probabilities"], theirs["probabilities"], _TIE)
        reference_labels.append(best)
        labels.append(exported)
        if "theta" in ours and (start // _BATCH) % every == 0:
            shifts.append(point_shifts(deployment, ours["theta"], theirs["theta"]))
    reference, actual = np.concatenate(reference_labels), np.concatenate(labels)
    shift = max((float(np.quantile(np.concatenate(moved), 0.99)) for moved in zip(*shifts, strict=True)), default=0.0)
    return Gate(
        precision,
        100 * share_right(reference, data.labels),
        100 * share_right(actual, data.labels),
        differ,
        shift,
        len(data.labels),
        data.source,
    )


def point_shifts(
    deployment: Deployment, expected: NDArray[np.generic], given: NDArray[np.generic]
) -> list[NDArray[np.float32]]:
    """Return how far each transformer's sampling points are apart for two thetas (N, P), pixels of what it samples."""
    modules = dict(deployment.model.named_modules())
    return [_moved(modules[used.name], used, expected, given) for used in deployment.transformers]


def _moved(
    module: torch.nn.Module, used: TransformerSpec, expected: NDArray[np.generic], given: NDArray[np.generic]
) -> NDArray[np.float32]:
    if not isinstance(module, SpatialTransformer):
        raise TypeError(f"{used.name} is no SpatialTransformer")
    part = slice(*used.theta)
    ours, theirs = (module.grid(torch.from_numpy(theta[:, part].astype(np.float32))) for theta in (expected, given))
    height, width = used.input_size
    if used.padding == "zeros":  # points far outside sample nothing, wherever they are
        ours, theirs = ours.clamp(-2, 2), theirs.clamp(-2, 2)
    apart = (ours - theirs) * torch.tensor([width / 2, height / 2])
    moved: NDArray[np.float32] = apart.norm(dim=-1).flatten().numpy()
    return moved


def blame(
    deployment: Deployment,
    model: onnx.ModelProto,
    spec: PreprocessSpec,
    precision: Precision,
    data: TestSet,
    exclude: Sequence[str] = (),
    reduce: Callable[..., onnx.ModelProto] = reduce_precision,
) -> Sequence[tuple[str, float]]:
    """Return the layers by how much each alone, reduced, disturbs the answers; worst first.

    Args:
        deployment: The network in PyTorch.
        model: Its graph in one piece, in float32.
        spec: The network's input.
        precision: The reduced precision.
        data: Labelled pictures.
        exclude: Layers that stay in float32 already.
        reduce: Brings a graph into a precision; takes the arguments of ``reduce_precision``.

    Returns:
        (node name, mean absolute change of the probabilities plus the share of the allowed shift).
    """
    names = [name for name in layers(model) if name not in exclude]
    pictures = data.images[:: max(1, len(data.images) // _BLAME_PICTURES)][:_BLAME_PICTURES]
    expected = torch_outputs(deployment, pictures)
    costs = []
    for name in tqdm(names, "finding the layers", unit=" layers", leave=False, disable=None):
        others = [*exclude, *(other for other in names if other != name)]
        alone = reduce(model, precision, data.calibration, others)
        given = open_both(alone, deployment, spec, "fused", precision)[0].run(pictures)
        change = float(
            np.abs(given["probabilities"].astype(np.float64) - expected["probabilities"].astype(np.float64)).mean()
        )
        shifts = point_shifts(deployment, expected["theta"], given["theta"]) if "theta" in expected else []
        change += sum(float(np.quantile(moved, 0.99)) for moved in shifts) / LARGEST_SHIFT
        costs.append((name, change))
    return sorted(costs, key=lambda entry: -entry[1])
