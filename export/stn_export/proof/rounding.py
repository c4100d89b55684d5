"""What a tensor may differ by: a tight tolerance, or what rounding alone moves in the original."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn_runtime import InputError

from .differences import relative_difference, relative_differences
from .evaluation import Array, Evaluation, Original

FACTOR = 4.0
"""How many times what rounding moves in the original a graph may differ from it."""

_SEEDS = (range(4), range(4, 16))  # runs to measure with, and further ones before a graph is refused
_TOLERANCE_IN_HALF = 2e-3  # two units in the last place
_SHARES = (0.5, 0.9, 1.0)  # of a tensor's numbers

Differences = NDArray[np.float64]
Noise = Callable[[int], Differences]
"""Returns how far rounding moves the numbers of a tensor, drawn with a seed."""


@dataclass(frozen=True)
class PartDifference:
    """How far one tensor of a graph is from the original's.

    Attributes:
        stage: Which part made it: ``theta``, ``sampling grid``, ``image to sample``, ``sampled image``,
            ``output behind the samplers``, or ``output``, which is end to end.
        name: Name of the tensor in the graph.
        largest: The largest difference of a number; relative to the tensor's largest value, of points to the distance
            between the centre and an edge of the picture.
        difference: The difference of the share of numbers that is nearest to what is allowed, or farthest above it.
        allowed: What is allowed there.
    """

    stage: str
    name: str
    largest: float
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed; one that is infinite or NaN never is."""
        return bool(np.isfinite(self.difference)) and self.difference <= self.allowed

    @property
    def excess(self) -> float:
        """How many times what is allowed the difference is."""
        return self.difference / self.allowed if np.isfinite(self.difference) else float("inf")

    def sentence(self) -> str:
        """Return where the difference is, how large, and what is allowed."""
        return f"{self.stage} '{self.name}' by {self.difference:.1e} (allowed {self.allowed:.1e})"


class DisturbedRuns:
    """One batch of inputs, what the original makes of it, and what rounding alone changes about that.

    Args:
        original: The network.
        inputs: The network's inputs.
    """

    def __init__(self, original: Original, inputs: Sequence[Array]) -> None:
        self.original, self.inputs = original, tuple(inputs)
        self.evaluation = original.evaluate(inputs)
        self._runs: dict[tuple[int, tuple[int, ...] | None], Evaluation] = {}

    def end_to_end(self, seed: int) -> Evaluation:
        """Return a run in which the rounding of every operator reaches the outputs."""
        return self._run(seed, None)

    def by_parts(self, seed: int, operators: Sequence[int]) -> Evaluation:
        """Return a run in which the rounding of a part reaches that part's results only.

        Args:
            seed: Seed of the rounding.
            operators: Numbers of the operators at which the network is cut, beside its samplers.
        """
        return self._run(seed, tuple(operators))

    def _run(self, seed: int, operators: tuple[int, ...] | None) -> Evaluation:
        if not self._runs:
            self._check_steadiness()
        if (seed, operators) not in self._runs:
            held = None if operators is None else self.evaluation.held(operators)
            self._runs[seed, operators] = self.original.disturbed(self.inputs, seed, held)
        return self._runs[seed, operators]

    def _check_steadiness(self) -> None:
        """Raise ``InputError`` where the original itself answers otherwise each time, which would explain anything."""
        for one, other in zip(self.evaluation.outputs, self.original.evaluate(self.inputs).outputs, strict=True):
            if relative_difference(one, other) > tolerance_of(one):
                raise InputError(
                    "the network answers the same input otherwise each time, so its graph cannot be compared; "
                    "take the randomness out of its forward"
                )


def judge(stage: str, name: str, apart: Differences, tolerance: float, noise: Noise | None) -> PartDifference:
    """Return whether differences are within a tolerance, or explained by rounding.

    A graph that is wrong differs in most of a tensor's numbers; rounding grows in a few of them. So the median, the
    upper tenth and the largest of the differences are each held to those of the rounding.

    Args:
        stage: See ``PartDifference``.
        name: Name of the tensor.
        apart: Difference of each number.
        tolerance: What is allowed in any case.
        noise: Rounding of the same tensor, in the same unit; None where nothing beyond the tolerance is allowed.
    """
    shares, allowed = _shares_of(apart), np.full(len(_SHARES), tolerance)
    moved = np.zeros(len(_SHARES))
    for seeds in _SEEDS:
        if noise is None or (shares <= allowed).all():
            break
        for seed in seeds:
            drawn = _shares_of(noise(seed))
            moved = np.maximum(moved, np.where(np.isfinite(drawn), drawn, 0.0))  # what is not finite explains nothing
        allowed = np.maximum(tolerance, FACTOR * moved)
    worst = int(np.argmax(shares / allowed))
    return PartDifference(stage, name, float(shares[-1]), float(shares[worst]), float(allowed[worst]))


def _shares_of(apart: Differences) -> NDArray[np.float64]:
    if not apart.size:
        return np.zeros(len(_SHARES))
    return np.quantile(apart, _SHARES, method="higher")


def tolerance_of(values: Array) -> float:
    """Return what a tensor may differ by in any case, relative to its largest value."""
    return _TOLERANCE_IN_HALF if values.dtype == np.float16 else 1e-5


def unit_of(values: Array) -> float:
    """Return the unit in the last place of 1 in a tensor's type."""
    return float(np.finfo(values.dtype).eps)


def worse(one: PartDifference | None, other: PartDifference) -> PartDifference:
    """Return of two results for the same tensor the one nearer to a refusal, with the larger largest difference."""
    if one is None:
        return other
    chosen = other if other.excess > one.excess else one
    largest = max(one.largest, other.largest)
    return PartDifference(chosen.stage, chosen.name, largest, chosen.difference, chosen.allowed)


def half_difference(name: str, exact: Array, expected: Array, actual: Array) -> PartDifference:
    """Return how far an output of a graph in float16 is from what float32 makes of the same numbers.

    It may be as far as two units in the last place, or twice as far as the original's own output in float16 is.

    Args:
        name: Name of the output.
        exact: The original's output, computed in float32 from the same inputs and weights.
        expected: The original's output.
        actual: The graph's.
    """
    apart = relative_difference(expected, actual)
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return PartDifference("output", name, apart, apart, tolerance_of(expected))
    distance = relative_difference(exact, actual.astype(exact.dtype))
    allowed = max(_TOLERANCE_IN_HALF, 2 * relative_difference(exact, expected.astype(exact.dtype)))
    return PartDifference("output", name, apart, distance, allowed)


def output_differences(
    runs: DisturbedRuns, names: Sequence[str], actual: Sequence[Array], explained: bool = True
) -> list[PartDifference]:
    """Return how far a graph's outputs are from the original's, end to end.

    Args:
        runs: The original on some inputs.
        names: Names of the outputs.
        actual: What the graph gives for the same inputs.
        explained: Whether what rounding explains is allowed; without a proof of the parts, it is not.
    """

    def noise(index: int) -> Noise:
        expected = runs.evaluation.outputs[index]
        return lambda seed: relative_differences(expected, runs.end_to_end(seed).outputs[index])

    return [
        judge(
            "output",
            name,
            relative_differences(expected, ours),
            tolerance_of(expected),
            noise(index) if explained else None,
        )
        for index, (name, expected, ours) in enumerate(zip(names, runs.evaluation.outputs, actual, strict=True))
    ]
