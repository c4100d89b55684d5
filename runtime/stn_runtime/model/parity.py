"""How far two runs of a network are apart, output by output, and how far they may be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[np.generic]]
"""What a network answers, by the name of the output."""


@dataclass(frozen=True)
class Parity:
    """How far two runs of a network are apart.

    Attributes:
        differences: Largest absolute difference, by output.
        labels_differ: Number of pictures whose most probable label differs, at one position at least.
        pictures: Number of pictures that were compared.
        tolerances: Largest absolute difference allowed, by output.
    """

    differences: Mapping[str, float]
    labels_differ: int
    pictures: int
    tolerances: Mapping[str, float]

    def allowed(self, name: str) -> float:
        """Return the largest difference allowed for an output."""
        return self.tolerances[name]

    @property
    def passed(self) -> bool:
        """Whether every difference is allowed and every label equal."""
        return not self.labels_differ and all(map(self._is_allowed, self.differences))

    def _is_allowed(self, name: str) -> bool:
        value = self.differences[name]
        return math.isfinite(value) and value <= self.allowed(name)

    def __or__(self, other: "Parity") -> "Parity":
        """Return the worse of both, under the tolerances of the first."""
        return Parity(
            _larger(self.differences, other.differences),
            self.labels_differ + other.labels_differ,
            self.pictures + other.pictures,
            self.tolerances,
        )

    def table(self) -> str:
        """Return a line for each output."""
        lines = [
            f"{name:<14} largest difference {value:.2e}  allowed {self.allowed(name):.1e}  "
            f"{'ok' if self._is_allowed(name) else 'FAILED'}"
            for name, value in self.differences.items()
        ]
        return "\n".join([*lines, f"{self.pictures} pictures, {self.labels_differ} labels differ"])


def compare(expected: Outputs, actual: Outputs, tolerances: Mapping[str, float]) -> Parity:
    """Return how far ``actual`` outputs are from the ``expected`` ones, both (N, ...); NaN is infinitely far.

    Two labels that tie within the tolerance of ``probabilities`` count as equal.
    """
    differences = largest_differences(expected, actual)
    differ = labels_that_differ(expected["probabilities"], actual["probabilities"], tolerances["probabilities"])
    return Parity(differences, differ, len(expected["probabilities"]), tolerances)


def labels_that_differ(expected: NDArray[np.generic], actual: NDArray[np.generic], tie: float) -> int:
    """Return the number of pictures whose most probable label differs, at any position where there are several.

    Args:
        expected: Probabilities (N, K) or (N, D, K).
        actual: The others, of the same shape.
        tie: Difference of two probabilities in ``expected`` that makes their labels equal.
    """
    probabilities = expected.astype(np.float64)
    best, given = (values.argmax(axis=-1)[..., None] for values in (probabilities, actual))
    apart = np.take_along_axis(probabilities, best, -1) - np.take_along_axis(probabilities, given, -1)
    return int((apart > tie).any(axis=tuple(range(1, apart.ndim))).sum())


def largest_differences(expected: Outputs, actual: Outputs) -> dict[str, float]:
    """Return the largest absolute difference of each output; NaN is infinitely far."""
    differences = {}
    for name, values in expected.items():
        with np.errstate(invalid="ignore"):  # inf - inf
            apart = np.abs(actual[name].astype(np.float64) - values.astype(np.float64))
        differences[name] = float(np.where(np.isfinite(apart), apart, np.inf).max(initial=0.0))
    return differences


def _larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: float(np.maximum(one.get(name, 0.0), other.get(name, 0.0))) for name in {**one, **other}}
