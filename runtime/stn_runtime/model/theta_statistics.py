"""What theta was on the training pictures, and how far another theta is from that."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_INSIDE = 0.999  # share of the training pictures that the limit is drawn around
_MARGIN = 1.25  # tests/runtime/test_theta.py shows what it is for
_LEAST_DEVIATION = 0.25  # pixels: what reduced precision may shift sampling points by
_LEAST_DISTANCE = 1.0  # standard deviations; a theta that never moved would have a limit of 0
_LEAST_PICTURES, _LEAST_PER_PARAMETER = 100, 20


@dataclass(frozen=True)
class ThetaStatistics:
    """What theta was on the training pictures.

    Attributes:
        mean: (P,), in the order of the ``theta`` output.
        whitening: (P, P); each row a principal direction of theta, divided by the standard deviation along it.
        limit: A theta further than this from the mean is unlike training.
        pictures: How many were measured.
    """

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    limit: float
    pictures: int

    def distances(self, thetas: Floats) -> NDArray[np.float64]:
        """Return how far thetas (..., P) are from the mean, in standard deviations: Mahalanobis' distance."""
        mean, whitening = self._arrays
        distances: NDArray[np.float64] = np.linalg.norm((thetas - mean) @ whitening.T, axis=-1)
        return distances

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.mean), np.array(self.whitening)

    def fault(self) -> str | None:
        """Return what is wrong with these numbers, or None."""
        parameters = len(self.mean)
        if not parameters or [len(row) for row in self.whitening] != [parameters] * parameters:
            return f"whitening must be {parameters} x {parameters} numbers, as many as mean has"
        if not np.isfinite([self.limit, *self.mean, *np.ravel(self.whitening)]).all():
            return "holds NaN or infinity"
        if self.limit <= 0 or self.pictures < 1:
            return f"has limit {self.limit:g} of {self.pictures} pictures"
        return None


def describe_theta(thetas: Floats, pixels: Floats) -> ThetaStatistics | None:
    """Return what theta was on pictures, or None when these are too few to say: below 100, or 20 a parameter.

    A standard deviation of less than a quarter of a pixel is taken for a quarter: reduced precision may shift theta as
    much, and in a direction in which it never moved every rounding would be a surprise. The limit is a quarter above
    the distance that 999 of 1000 pictures keep, since few pictures tell so rare a distance only roughly.

    Args:
        thetas: (N, P).
        pixels: (P,), by how much a parameter changes when it moves the grid by a pixel: 2 / the longer side, in
            pixels, of what its transformer samples.
    """
    count, parameters = thetas.shape
    if count < max(_LEAST_PICTURES, _LEAST_PER_PARAMETER * parameters) or not np.isfinite(thetas).all():
        return None
    exact = thetas.astype(np.float64)
    variances, directions = np.linalg.eigh(np.cov(exact / pixels, rowvar=False))
    deviations = np.sqrt(variances.clip(_LEAST_DEVIATION**2))
    whitening = tuple(_rounded(row) for row in (directions / deviations).T / pixels)
    described = ThetaStatistics(_rounded(exact.mean(axis=0)), whitening, math.inf, count)
    limit = _MARGIN * max(_LEAST_DISTANCE, np.quantile(described.distances(exact), _INSIDE))
    return replace(described, limit=float(f"{limit:.6g}"))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return numbers to six digits, about what float32 holds, which halves the JSON."""
    return tuple(float(f"{value:.6g}") for value in values)
