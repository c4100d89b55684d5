"""One run of a network as the proof sees it: what each sampler read and made, and what came out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST_THETA = 256
"""The most numbers a batch element that a tensor between network and sampling grid has, to be taken for theta."""


@dataclass(frozen=True)
class SamplerModes:
    """How a sampler reads.

    Attributes:
        interpolation: ``bilinear``, ``nearest`` or ``bicubic``.
        padding: ``zeros``, ``border`` or ``reflection``.
        align_corners: Whether +-1 are the centres of the border pixels instead of their edges.
    """

    interpolation: str
    padding: str
    align_corners: bool


@dataclass(frozen=True)
class Sampling:
    """One call of a sampler.

    Attributes:
        image: What was sampled, (N, C, H, W) or (N, C, D, H, W).
        grid: Where, (N, h, w, 2) or (N, d, h, w, 3), in the normalised coordinates of ``modes``.
        sampled: The result, (N, C, h, w) or (N, C, d, h, w).
        modes: How.
        image_operator: Number of the operator that returned ``image``; -1 where it is an input of the network.
    """

    image: Array
    grid: Array
    sampled: Array
    modes: SamplerModes
    image_operator: int = -1


@dataclass(frozen=True)
class Evaluation:
    """One run of a network.

    Attributes:
        outputs: The network's outputs, in order.
        samplings: The samplers that ran, in order of use.
        small: Tensors of at most ``LARGEST_THETA`` numbers a batch element that an operator made, by the operator's
            number; the thetas are among them.
    """

    outputs: tuple[Array, ...]
    samplings: tuple[Sampling, ...]
    small: Mapping[int, Array]

    def held(self, operators: Collection[int]) -> "Held":
        """Return what samplers and some other operators returned in this run."""
        images = {sampling.image_operator: sampling.image for sampling in self.samplings}
        values = {**self.small, **images}
        return Held(
            tuple(sampling.sampled for sampling in self.samplings), {number: values[number] for number in operators}
        )


@dataclass(frozen=True)
class Held:
    """Values that a disturbed run takes from an undisturbed one, so that each part of the network gets its input.

    Attributes:
        sampled: What each sampler returns, in order of use.
        values: What other operators return, by their number.
    """

    sampled: tuple[Array, ...]
    values: Mapping[int, Array]


class Original(Protocol):
    """The network that a graph must equal."""

    def evaluate(self, inputs: Sequence[Array]) -> Evaluation:
        """Return one run of the network."""

    def disturbed(self, inputs: Sequence[Array], seed: int, held: Held | None = None) -> Evaluation:
        """Return a run in which inputs and operators' results are moved by at most one unit in the last place.

        Numbers that are whole stay as they are: they are exact, or an index.
        """

    def sample(self, image: Array, grid: Array, modes: SamplerModes) -> Array:
        """Return what the network's kind of sampler makes of an image and a grid."""


def points_on_edges(grid: Array, image: Array, modes: SamplerModes) -> Array:
    """Return a grid in the coordinates of ``align_corners=False``, in which +-1 are the edges of the picture.

    What border padding reads outside is what lies nearest inside, so there the points are clipped to the centres of
    the border pixels. With zeros, points beyond 8 read nothing wherever they are, so they are clipped to that.
    """
    sizes = np.array(image.shape[:1:-1], grid.dtype)  # width first, as the coordinates are
    centres = (sizes - 1) / sizes
    points: Array = grid * centres if modes.align_corners else grid
    limit = {"border": centres, "zeros": np.full_like(sizes, 8)}.get(modes.padding)
    return points if limit is None else np.clip(points, -limit, limit)


def grid_for(points: Array, image: Array, modes: SamplerModes) -> Array:
    """Return the grid that reads at some points of an image; the inverse of ``points_on_edges`` inside the image."""
    if not modes.align_corners:
        return points
    sizes = np.array(image.shape[:1:-1], points.dtype)
    converted: Array = (points * (sizes / np.maximum(sizes - 1, 1))).astype(points.dtype)
    return converted
