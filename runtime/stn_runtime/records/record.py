"""The record of a frame: a prediction, or why there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.classifier import Prediction, Score


@dataclass(frozen=True)
class Record:
    """The result for one frame: a prediction, or why there is none; or an event of a camera.

    Attributes:
        source: Name of the file, camera or stream.
        frame: Number of the frame in its source.
        time: Seconds since the start of a video, Unix time of a camera's frame, None for an image file.
        prediction: What the network says of the frame; None when it could not be read, and for an event.
        error: One sentence when there is no prediction, or why a source was lost.
        sure: Whether the confidence reaches the wanted threshold; if not, the record's label is null.
        rejected: Whether the most probable label is the one that means none of the others; the record's label is null
            then too, whatever its confidence.
        event: What happened to a camera, ``source_lost`` or ``source_back``; such a record counts as no frame.
        uncertain: Why the transformer's theta or outline makes the prediction doubtful; None when it does not.
    """

    source: str
    frame: int
    time: float | None
    prediction: Prediction | None
    error: str | None = None
    sure: bool = True
    event: str | None = None
    uncertain: str | None = None
    rejected: bool = False

    @property
    def label(self) -> str | None:
        """The label; None without a prediction, when it means none of the others, or below the threshold."""
        if self.prediction is None or self.rejected or not self.sure:
            return None
        return self.prediction.label

    @property
    def missing_label(self) -> str | None:
        """Why a prediction gives no label, in a word or two for a person; None where it gives one."""
        if self.rejected:
            return "no label"
        return None if self.sure else "unsure"

    def fields(self) -> dict[str, Any]:
        """Return the record as plain values, ready for JSON."""
        fields: dict[str, Any] = {"source": self.source, "frame": self.frame, "time": self.time}
        if self.event is not None:
            return fields | {"event": self.event} | ({"error": self.error} if self.error is not None else {})
        if self.prediction is None:
            return fields | {"error": self.error}
        prediction = self.prediction
        return fields | {
            "label": self.label,
            "confidence": _number(prediction.confidence, 6),
            "rejected": self.rejected,
            "top": _scores(prediction.top),
            **({"characters": _scores(prediction.characters)} if prediction.characters else {}),
            "theta": _numbers(np.array(prediction.theta), 6),
            "outline": _numbers(prediction.outline, 2),
            "uncertain": self.uncertain,
            "latency_ms": {stage: round(value, 3) for stage, value in prediction.latency_ms.items()},
        }


def _scores(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [{"label": score.label, "probability": _number(score.probability, 6)} for score in scores]


def _number(value: float, digits: int) -> float | None:
    """Return a rounded number; None for NaN and infinity, which JSON lacks."""
    return round(float(value), digits) if math.isfinite(value) else None


def _numbers(values: NDArray[np.floating], digits: int) -> list[Any]:
    """Return an array as nested lists of rounded numbers, with None for NaN and infinity, which JSON lacks."""
    rounded = values.astype(np.float64).round(digits)
    if not np.isfinite(rounded).all():
        rounded = np.where(np.isfinite(rounded), rounded.astype(object), np.array(None))
    listed: list[Any] = rounded.tolist()
    return listed
