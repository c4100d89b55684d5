"""Timing the stages of a run, with the code that runs them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..images.preprocessing import largest_reduction, preprocess
from ..images.reading import Decoded, read_reduced
from ..model.classifier import Classifier

Call = Callable[[], object]

PAUSE = 0.06
"""Seconds before a contender in which threads of the one before stop spinning and leave their CPUs."""

STAGES = ("decode", "resize", "infer", "post")
_WARM_UP = 0.2  # seconds, in which caches fill and the CPU reaches its frequency
_LEAST_PASSES = 5


@dataclass(frozen=True)
class Latency:
    """How long passes took, milliseconds.

    Attributes:
        p50_ms: What half of them did not exceed.
        p95_ms: What 95 % of them did not exceed.
        p99_ms: What 99 % of them did not exceed; of fewer than 100, the slowest.
        images_per_second: Pictures a second at the median time.
        passes: How many were timed.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    images_per_second: float
    passes: int

    @classmethod
    def of(cls, seconds: Sequence[float], images: int = 1) -> "Latency":
        """Return the figures of passes that took ``seconds`` each, for ``images`` pictures each."""
        ranked = np.percentile(seconds, (50, 95, 99), method="inverted_cdf")  # times that occurred
        p50, p95, p99 = (float(value) for value in ranked)
        return cls(p50 * 1000, p95 * 1000, p99 * 1000, images / p50, len(seconds))


def decode(path: Path, classifier: Classifier) -> Decoded:
    """Return a picture as ``stn run`` reads it without views: reduced, unless the model samples the picture itself."""
    spec, is_split = classifier.manifest.preprocess, classifier.manifest.export.form == "split"
    return read_reduced(
        path, lambda height, width: 1 if is_split else largest_reduction(height, width, spec), grey=spec.channels == 1
    )


def label(path: Path, classifier: Classifier) -> str:
    """Return a picture's label: all that ``stn run`` does with it before its record is written."""
    decoded = decode(path, classifier)
    return classifier.predict([decoded.image], [decoded.size])[0].label


def warm_up(call: Call) -> None:
    """Call until the first calls' costs are paid."""
    end = time.perf_counter() + _WARM_UP
    call()
    while time.perf_counter() < end:
        call()


def time_stages(path: Path, classifier: Classifier, seconds: float) -> dict[str, Latency]:
    """Return how long each of ``STAGES`` takes for one picture, and 'whole', all of them in one."""
    spec = classifier.manifest.preprocess
    times: dict[str, list[float]] = {name: [] for name in (*STAGES, "whole")}

    def staged() -> None:
        marks = [time.perf_counter()]
        decoded = decode(path, classifier)
        marks.append(time.perf_counter())
        batch = np.stack([preprocess(decoded.image, spec)])
        marks.append(time.perf_counter())
        outputs = classifier.run(batch, [decoded.image])
        marks.append(time.perf_counter())
        classifier.prediction(decoded.size, outputs, 0, {})
        marks.append(time.perf_counter())
        for name, begin, end in zip(STAGES, marks, marks[1:], strict=False):
            times[name].append(end - begin)

    warm_up(lambda: label(path, classifier))
    time.sleep(PAUSE)
    end = time.perf_counter() + seconds
    while len(times["whole"]) < _LEAST_PASSES or time.perf_counter() < end:
        staged()
        times["whole"] += _timed(lambda: label(path, classifier))
    return {name: Latency.of(values) for name, values in times.items()}


def infer_call(decoded: Decoded, classifier: Classifier, batch: int) -> Call:
    """Return a call that runs the network on one picture ``batch`` times over."""
    pictures = np.stack([preprocess(decoded.image, classifier.manifest.preprocess)] * batch)
    frames = [decoded.image] * batch
    return lambda: classifier.run(pictures, frames)


def time_call(call: Call, seconds: float, images: int = 1) -> Latency:
    """Return how long a call takes that is for ``images`` pictures."""
    warm_up(call)
    time.sleep(PAUSE)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_PASSES or time.perf_counter() < end:
        times += _timed(call)
    return Latency.of(times, images)


def settled_median(call: Call) -> float:
    """Return the median time of a call, seconds, when another contender ran before."""
    time.sleep(PAUSE)
    end = time.perf_counter() + 0.005
    call()
    while time.perf_counter() < end:
        call()
    times: list[float] = []
    end = time.perf_counter() + 0.02
    while not times or time.perf_counter() < end:
        times += _timed(call)
    return statistics.median(times)


def _timed(call: Call) -> list[float]:
    begin = time.perf_counter()
    call()
    return [time.perf_counter() - begin]
