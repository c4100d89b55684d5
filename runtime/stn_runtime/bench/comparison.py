"""Two models measured against each other: in turns, in one process, on the same pictures."""

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, isfinite

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelContractError
from ..images.preprocessing import Image, preprocess
from ..model.classifier import Classifier
from ..model.golden import golden_image
from .timing import Call, settled_median, warm_up

_LEAST_ROUNDS = 6  # the fewest values that have an interval
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """How two calls compare that took turns.

    Attributes:
        first_ms: Median time of the first.
        other_ms: Median time of the other.
        ratio: Median of other / first, round by round; under 1 the other is faster.
        low: Lower end of its 95 % interval.
        high: Upper end.
        rounds: How many there were.
    """

    first_ms: float
    other_ms: float
    ratio: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, first: Sequence[float], other: Sequence[float]) -> "Ratio":
        """Return the figures of times in seconds, first[i] and other[i] of the same round."""
        ratios = [theirs / ours for ours, theirs in zip(first, other, strict=True)]
        medians = [float(np.median(values)) for values in (first, other, ratios)]
        return cls(medians[0] * 1000, medians[1] * 1000, medians[2], *median_interval(ratios), len(ratios))


@dataclass(frozen=True)
class Agreement:
    """Whether two models answer the same.

    Attributes:
        pictures: How many were asked about.
        same_labels: Number of pictures with the same most probable label.
        largest_difference: Largest difference of a probability; None when one is NaN.
    """

    pictures: int
    same_labels: int
    largest_difference: float | None


def time_in_turns(first: Call, other: Call, seconds: float) -> Ratio:
    """Return how two calls compare in rounds that last ``seconds`` for each, who begins alternating."""
    calls = (first, other)
    times: tuple[list[float], list[float]] = ([], [])
    for call in calls:
        warm_up(call)
    end = time.perf_counter() + 2 * seconds
    while len(times[0]) < _LEAST_ROUNDS or time.perf_counter() < end:
        for index in (0, 1) if len(times[0]) % 2 == 0 else (1, 0):
            times[index].append(settled_median(calls[index]))
    return Ratio.of(*times)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a median, of whatever distribution: two of the values, at least six.

    The k-th smallest and the k-th largest enclose the median unless fewer than k values lie on one side of it, and
    each lies there with probability 1/2.
    """
    if len(values) < _LEAST_ROUNDS:
        raise ValueError(f"an interval needs {_LEAST_ROUNDS} values, got {len(values)}")
    ranked, count = sorted(values), len(values)
    rank, missed = 0, 0.0
    while missed + 2 * comb(count, rank) / 2**count <= 1 - _CONFIDENCE:
        missed += 2 * comb(count, rank) / 2**count
        rank += 1
    return ranked[rank - 1], ranked[count - rank]


def golden_pictures(classifiers: Sequence[Classifier]) -> Iterator[Image]:
    """Yield the golden inputs that models carry, each once.

    Raises:
        ModelContractError: One is damaged.
    """
    vectors = {vector.image: (vector, each) for each in classifiers for vector in each.manifest.golden}
    for vector, classifier in vectors.values():
        try:
            yield golden_image(vector, classifier.manifest.preprocess)[0]
        except (ValueError, zlib.error) as error:
            raise ModelContractError(f"{classifier.path}: a golden vector is damaged ({error})") from error


def agreement(first: Classifier, other: Classifier, pictures: Sequence[Image]) -> Agreement:
    """Return whether two models with the same labels answer the same on pictures of any sizes."""
    pairs = [(_probabilities(first, picture), _probabilities(other, picture)) for picture in pictures]
    same = sum(int((ours.argmax(axis=-1) == theirs.argmax(axis=-1)).all()) for ours, theirs in pairs)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    return Agreement(len(pairs), same, difference if isfinite(difference) else None)


def _probabilities(classifier: Classifier, picture: Image) -> NDArray[np.float32]:
    batch = preprocess(picture, classifier.manifest.preprocess)[None]
    return np.asarray(classifier.run(batch, [picture])["probabilities"][0], np.float32)
