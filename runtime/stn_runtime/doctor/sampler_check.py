"""Does this device sample right? One-node graphs of ``GridSample``, run here and compared with the specification.

The graphs are written as bytes, since a device has no onnx package: field numbers are those of onnx.proto.
"""

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..model.grid_sample import Interpolation, Padding, grid_sample
from .profiling import bare_session, profile_nodes

Feeds = dict[str, NDArray[np.float32]]

OPSETS = (16, 18, 20, 22)
"""One of each spelling and registration: the modes were renamed in 20, types were added in 22."""

_INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "nearest")
_PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")

KINDS = len(OPSETS) * len(_INTERPOLATIONS) * len(_PADDINGS) * 2
"""How many kinds of sampler are checked on a provider."""

_ALLOWED = 1e-4  # kernels of GPUs blend in other orders; sampling nearest instead of bilinear is off by 1e-1
_RENAMED = 20
_NEW_NAMES = {"bilinear": "linear", "nearest": "nearest"}
_IMAGE, _GRID = (1, 3, 32, 32), (1, 32, 32, 2)
_FLOAT = 1
_INT_ATTRIBUTE, _STRING_ATTRIBUTE = 2, 3
_TIMED_RUNS = 15


@dataclass(frozen=True)
class SamplerResult:
    """How one kind of sampler fared on one execution provider.

    Attributes:
        provider: The execution provider that was asked for.
        opset: Opset of the graph.
        interpolation: bilinear or nearest.
        padding: zeros, border or reflection.
        align_corners: Convention of the sampler.
        error: Largest difference from the specification on values in [0, 1]; NaN where it does not run.
        microseconds: Median of a run on 32 x 32 points in 3 channels.
        ran_on: The provider that ran the node, which may be another one; or why it did not run.
    """

    provider: str
    opset: int
    interpolation: Interpolation
    padding: Padding
    align_corners: bool
    error: float
    microseconds: float
    ran_on: str

    @property
    def is_right(self) -> bool:
        """Whether it samples as specified."""
        return self.error <= _ALLOWED

    @property
    def is_refused(self) -> bool:
        """Whether it does not run at all, which is honest."""
        return bool(np.isnan(self.error))

    @property
    def is_elsewhere(self) -> bool:
        """Whether onnxruntime ran it on another provider, with copies to and fro."""
        return not self.is_refused and self.ran_on != self.provider


def check_samplers(providers: Sequence[str]) -> Iterator[SamplerResult]:
    """Yield the result of each opset, interpolation, padding and ``align_corners`` on each provider."""
    for kind in itertools.product(providers, OPSETS, _INTERPOLATIONS, _PADDINGS, (False, True)):
        yield _check(*kind)


def _check(
    provider: str, opset: int, interpolation: Interpolation, padding: Padding, align_corners: bool
) -> SamplerResult:
    random = np.random.default_rng(0)
    image = random.random(_IMAGE, np.float32)
    grid = random.uniform(-1.4, 1.4, _GRID).astype(np.float32)
    kind = provider, opset, interpolation, padding, align_corners
    model = sampler_model(opset, interpolation, padding, align_corners)
    answer, microseconds, ran_on = _run(model, provider, {"image": image, "grid": grid})
    if answer is None:
        return SamplerResult(*kind, float("nan"), float("nan"), ran_on)
    expected = grid_sample(image, grid, interpolation, padding, align_corners)
    apart = np.abs(answer.astype(np.float64) - expected)
    largest = float(np.where(np.isfinite(apart), apart, np.inf).max())
    return SamplerResult(*kind, largest, microseconds, ran_on)


def _run(model: bytes, provider: str, feeds: Feeds) -> tuple[NDArray[np.float32] | None, float, str]:
    """Return what a graph answers, the median microseconds of a run, and which provider ran it; or None, and why."""
    times = []
    try:
        session = bare_session(model, provider)
        for _ in range(_TIMED_RUNS):
            started = time.perf_counter()
            answer = session.run(None, feeds)[0]
            times.append(time.perf_counter() - started)
        nodes = profile_nodes(model, provider, feeds)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        return None, float("nan"), f"none: {' '.join(str(error).split())[:80]}"
    return np.asarray(answer), 1e6 * statistics.median(times), nodes[0][1] if nodes else "unknown"


def sampler_model(opset: int, interpolation: Interpolation, padding: Padding, align_corners: bool) -> bytes:
    """Return an ONNX file with one ``GridSample``: inputs ``image`` and ``grid``, output ``sampled``."""
    mode = interpolation if opset < _RENAMED else _NEW_NAMES[interpolation]
    attributes = [
        _field(1, "mode") + _field(4, mode) + _field(20, _STRING_ATTRIBUTE),
        _field(1, "padding_mode") + _field(4, padding) + _field(20, _STRING_ATTRIBUTE),
        _field(1, "align_corners") + _field(3, int(align_corners)) + _field(20, _INT_ATTRIBUTE),
    ]
    node = _field(1, "image") + _field(1, "grid") + _field(2, "sampled") + _field(4, "GridSample")
    node += b"".join(_field(5, attribute) for attribute in attributes)
    sampled = (*_IMAGE[:2], *_GRID[1:3])
    graph = _field(1, node) + _field(2, "sampler")
    graph += _field(11, _tensor("image", _IMAGE)) + _field(11, _tensor("grid", _GRID))
    graph += _field(12, _tensor("sampled", sampled))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, opset))


def _tensor(name: str, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sizes)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Return one field of a protocol buffer: a varint, or text or a message with its length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode("utf-8") if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
