"""PyTorch's side of the proof: pictures, hostile thetas, and what the network answers to them."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_models import GridGenerator, injected_thetas
from stn_models.transformer import SpatialTransformer
from stn_runtime import InputError, PreprocessSpec

from ..graph.deployment import Deployment

log = logging.getLogger(__name__)

BATCHES = (1, 3, 64)
"""How many generated pictures are compared at a time. Large ones come in smaller batches, of at least 4."""

SCALES = {"identity": 1.0, "zoom_in": 0.4, "zoom_out": 2.5, "half_turn": -1.0, "degenerate": 0.0, "far_outside": 30.0}
"""Injected thetas, as multiples of the identity's; a seventh, ``warped``, is the identity with noise."""

LEAST_REAL = 61
"""Real pictures that are compared however long it takes, with black, white and noise as many as the largest batch."""

REAL_SECONDS = 20.0
"""PyTorch's time after which no further real pictures are compared; the graph needs about four times as long."""

_MOST_PIXELS = 64 * 64 * 64  # in the largest batch
_REAL_WITH_INJECTED = 4  # real pictures that are compared with each hostile theta


@dataclass(frozen=True)
class Case:
    """One batch of pictures and PyTorch's outputs for it.

    Attributes:
        pictures: (N, H, W, C) uint8.
        outputs: PyTorch's outputs by name, each (N, ...).
        thetas: The injected theta (1, P) of each transformer, in order of use; empty where the network computes them.
    """

    pictures: NDArray[np.uint8]
    outputs: Mapping[str, NDArray[np.generic]]
    thetas: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Reference:
    """PyTorch's outputs for every batch and theta of a verification; it serves any number of graphs.

    Attributes:
        own: Cases in which the network computes theta.
        injected: Cases with hostile thetas; empty for a network without a transformer.
        real_pictures: Number of real pictures among the cases of ``own``; of many large ones not all.
    """

    own: tuple[Case, ...]
    injected: tuple[Case, ...]
    real_pictures: int = 0


def pytorch_reference(deployment: Deployment, spec: PreprocessSpec, images: NDArray[np.uint8]) -> Reference:
    """Return what PyTorch answers to real, random and plain pictures, and to hostile thetas.

    Args:
        deployment: The network, in evaluation mode on the CPU.
        spec: The network's input.
        images: Real pictures (M, H, W, C), M may be 0.

    Raises:
        InputError: An output is not finite.
    """
    generated = list(_generated_batches(spec))
    own = [_case(deployment, batch) for batch in generated]
    real = list(_real_cases(deployment, images))
    own += [_case(deployment, images[:1])] if len(images) > 1 else []  # alone
    compared = sum(len(case.pictures) for case in real)
    if compared < len(images):
        log.info("of %d real pictures %d are compared, so that it takes minutes, not hours", len(images), compared)
    injected: tuple[Case, ...] = ()
    if deployment.transformers:
        few = [images[:_REAL_WITH_INJECTED]] if len(images) else []
        injected = tuple(_injected_cases(deployment, [*generated, *few]))
    return Reference((*own, *real), injected, compared)


def _case(deployment: Deployment, batch: NDArray[np.uint8]) -> Case:
    outputs = torch_outputs(deployment, batch)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise InputError(f"PyTorch's own '{name}' is not finite; the checkpoint is damaged or diverged")
    return Case(batch, outputs)


def _real_cases(deployment: Deployment, images: NDArray[np.uint8]) -> Iterator[Case]:
    """Yield PyTorch's outputs for real pictures, in as many batches as their size asks for.

    Where PyTorch needs longer than ``REAL_SECONDS`` for all of them, it is given ``LEAST_REAL``, and then as many as
    it answers in that time; of a folder in its order those are of all classes.
    """
    started = time.monotonic()
    size = _largest_batch(*images.shape[1:3])
    order = np.random.default_rng(0).permutation(len(images))
    for first in range(0, len(images), size):
        if first >= LEAST_REAL and time.monotonic() - started > REAL_SECONDS:
            return
        yield _case(deployment, images[order[first : first + size]])


def _injected_cases(deployment: Deployment, batches: list[NDArray[np.uint8]]) -> Iterator[Case]:
    """Yield PyTorch's outputs for each hostile theta and batch."""
    modules = [name for name, module in deployment.model.named_modules() if isinstance(module, SpatialTransformer)]
    for thetas in hostile_thetas(deployment):
        by_module = dict(zip(modules, thetas, strict=True))
        in_order_of_use = tuple(by_module[used.name] for used in deployment.transformers)
        with injected_thetas(deployment.model, thetas):
            for batch in batches:
                yield Case(batch, torch_outputs(deployment, batch), in_order_of_use)


def torch_outputs(deployment: Deployment, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Return PyTorch's outputs by name for pictures (N, H, W, C)."""
    with torch.inference_mode():
        return {name: value.numpy() for name, value in deployment.outputs(torch.from_numpy(batch)).named().items()}


def hostile_thetas(deployment: Deployment) -> Iterator[list[Tensor]]:
    """Yield lists of one theta (1, P) per transformer, in the order of ``named_modules``: SCALES, then ``warped``."""
    grids = transformer_grids(deployment)
    for scale in SCALES.values():
        yield [grid.identity()[None] * scale for grid in grids]
    generator = torch.Generator().manual_seed(0)
    yield [grid.identity()[None] + 0.1 * torch.randn(1, grid.theta_size, generator=generator) for grid in grids]


def transformer_grids(deployment: Deployment) -> list[GridGenerator]:
    """Return the grid generators of the network's transformers, in the order of ``named_modules``."""
    return [module.grid for module in deployment.model.modules() if isinstance(module, SpatialTransformer)]


def _largest_batch(height: int, width: int) -> int:
    return max(4, min(BATCHES[-1], _MOST_PIXELS // (height * width)))


def _generated_batches(spec: PreprocessSpec) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of each size: random noise, among it a black and a white picture."""
    shape = (spec.height, spec.width, spec.channels)
    random = np.random.default_rng(0)
    for size in (*BATCHES[:-1], _largest_batch(spec.height, spec.width)):
        batch = random.integers(0, 256, (size, *shape), np.uint8)
        if size >= 3:
            batch[0], batch[1] = 0, 255
        yield batch
