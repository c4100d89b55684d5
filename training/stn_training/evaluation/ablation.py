"""What the transformers are worth: accuracy and time with theta as learned, and held at the identity."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stn_runtime.errors import printable

from ..data.labelled_images import LabelledImages
from ..tables import aligned
from .accuracy import Predict, Subject, evaluate, evaluate_at_identity

_ROUNDS = 60
_LONGEST_NAME = 60

HEADER = ("model", "accuracy", "at the identity", "ms a picture", "at the identity")


@dataclass(frozen=True)
class Ablation:
    """One model with its transformers and without; None where theta of an exported file cannot be held.

    Attributes:
        name: The model's file.
        accuracy: Share of pictures whose most probable label is right.
        accuracy_at_identity: The same with every theta at the identity.
        milliseconds: Median time of one picture by itself.
        milliseconds_at_identity: The same at the identity; in PyTorch the localisation nets are not computed then.
    """

    name: str
    accuracy: float
    accuracy_at_identity: float | None
    milliseconds: float
    milliseconds_at_identity: float | None

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells below HEADER."""
        held, slower = self.accuracy_at_identity, self.milliseconds_at_identity
        return (
            printable(self.name, _LONGEST_NAME),
            f"{self.accuracy:.2%}",
            "-" if held is None else f"{held:.2%}",
            f"{self.milliseconds:.2f}",
            "-" if slower is None else f"{slower:.2f}",
        )


def ablate(subjects: Sequence[Subject], data: LabelledImages) -> list[Ablation]:
    """Measure each model on all pictures; then their times, single pictures in turns.

    Args:
        subjects: Models of one preprocessing.
        data: Labelled pictures, ready for them.
    """
    reports = [(evaluate(subject, data), evaluate_at_identity(subject, data)) for subject in subjects]
    ways = [way for subject in subjects for way in (subject.predict, subject.predict_at_identity)]
    times = _median_milliseconds(ways, data.images[:_ROUNDS].numpy())
    return [
        Ablation(str(subject.path), report.accuracy, None if held is None else held.accuracy, taken or 0.0, taken_held)
        for subject, (report, held), taken, taken_held in zip(subjects, reports, times[0::2], times[1::2], strict=True)
    ]


def table(rows: Sequence[Ablation]) -> str:
    """Return the rows as text, columns aligned."""
    return aligned([HEADER, *(row.cells() for row in rows)])


def _median_milliseconds(ways: Sequence[Predict | None], pictures: NDArray[np.uint8]) -> list[float | None]:
    """Return the median time of each way to predict one picture, all in turns; None for those that are missing."""
    times: list[list[float]] = [[] for _ in ways]
    order = [index % len(pictures) for index in range(_ROUNDS)]
    for round_number, index in enumerate(tqdm(order, "timing", leave=False, disable=None)):
        for way, taken in zip(ways, times, strict=True):
            if way is None:
                continue
            started = time.perf_counter()
            way(pictures[index : index + 1])
            if round_number:  # the first warms up
                taken.append(time.perf_counter() - started)
    return [1000 * statistics.median(taken) if taken else None for taken in times]
