"""Predictions held steady from frame to frame."""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..model.classifier import Prediction, best_answers
from ..model.contract import are_probabilities
from ..model.manifest import Manifest
from ..model.theta_statistics import Floats


class Smoother:
    """Averages the predictions of a source over time, so that its label does not flicker.

    Probabilities, theta and outline follow a new frame by 1 - exp(-dt / seconds) of the way, dt the time since the
    last; label, confidence and top follow from the probabilities. A source starts anew with its first frame, after a
    gap of five time constants, when the clock stands or runs backwards, and when frames or outlines change their shape.

    Args:
        seconds: The time constant.
        manifest: The model's, which names its labels.
    """

    def __init__(self, seconds: float, manifest: Manifest) -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"the time constant must be above 0 seconds, got {seconds}")
        self.seconds, self.manifest = seconds, manifest
        self._last: dict[str, _State] = {}

    def smooth(self, source: str, moment: float, prediction: Prediction, frame_size: tuple[int, int]) -> Prediction:
        """Return the average of a source's predictions; ``rectified`` and ``latency_ms`` are this frame's.

        A prediction that is not finite, or has no probabilities from 0 to 1, is returned as it is, and forgotten.

        Args:
            source: Name of the frame's source.
            moment: When it was taken, in seconds: of a camera by any clock, of a video in the video.
            prediction: Prediction for the frame.
            frame_size: (height, width) of the frame, pixels.
        """
        values = (prediction.probabilities, np.array(prediction.theta), prediction.outline)
        if not are_probabilities(values[0]) or not all(np.isfinite(value).all() for value in values):
            return prediction
        last, now = self._last.get(source), _State(moment, frame_size, values)
        if last is None or not last.leads_to(now, _GAP * self.seconds):
            self._last[source] = now
            return prediction
        weight = 1 - math.exp(-(moment - last.moment) / self.seconds)
        mixed = [old + weight * (new - old) for old, new in zip(last.values, values, strict=True)]
        self._last[source] = replace(now, values=tuple(mixed))
        probabilities, theta, outline = mixed
        top, characters = best_answers(probabilities.astype(np.float32), self.manifest, len(prediction.top))
        return replace(
            prediction,
            label=top[0].label,
            confidence=top[0].probability,
            top=top,
            theta=tuple(map(float, theta)),
            outline=outline,
            probabilities=probabilities,
            characters=characters,
        )

    def reset(self, source: str) -> None:
        """Forget a source, as when it was lost."""
        self._last.pop(source, None)


_GAP = 5  # time constants, after which 0.7 % of a frame is left


@dataclass(frozen=True, eq=False)
class _State:
    """What is known of a source after a frame: probabilities (K,) or (D, K), theta (P,) and outline (T, 4 m, 2)."""

    moment: float
    frame_size: tuple[int, int]
    values: tuple[Floats, ...]

    def leads_to(self, later: "_State", gap: float) -> bool:
        shapes = [[value.shape for value in state.values] for state in (self, later)]
        alike = shapes[0] == shapes[1] and self.frame_size == later.frame_size
        return alike and 0 < later.moment - self.moment <= gap
