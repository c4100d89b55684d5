"""The confidence below which a picture gets no label, found on labelled pictures that training has not seen.

A classifier may abstain (Chow, *On optimum recognition error and reject tradeoff*, IEEE Transactions on Information
Theory 16, 1970): it gives a label only where its confidence reaches a threshold. That is the lowest one which keeps a
wanted risk, so that it labels as many pictures as this risk allows (Geifman and El-Yaniv, *Selective classification for
deep neural networks*, NeurIPS 2017). The risk is counted on the pictures and not bounded for others: such a bound takes
hundreds of pictures a class, which own images seldom have, so the report says of how many it speaks.

Where no threshold keeps the risk, the best one is the one which separates most: Youden's index (*Index for rating
diagnostic tests*, Cancer 3, 1950), the share of the pictures to be labelled that are, less that of the others.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_runtime.model.sequences import best_sequences

_PERCENT_ALLOWED = 1  # of the pictures of the reject class, or of those with a label, that may have a wrong one
_LEAST_PICTURES = 100  # of which one is a percent

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Labelling:
    """What a threshold does on labelled pictures.

    Attributes:
        threshold: Confidence from 0 to 1 from which on a picture gets a label.
        pictures: Number of pictures of all classes but the rejected one.
        labelled: Number of those that get a label.
        right: Number of those that get the right one.
        rejected: Number of pictures of the reject class; None where the network has none.
        mistaken: Number of those that get a label.
    """

    threshold: float
    pictures: int
    labelled: int
    right: int
    rejected: int | None
    mistaken: int

    @property
    def holds(self) -> bool:
        """Whether at most 1 % of the reject class get a label, or without such a class, at most 1 % of labels err."""
        if self.rejected is not None:
            return 100 * self.mistaken <= _PERCENT_ALLOWED * self.rejected
        return 100 * (self.labelled - self.right) <= _PERCENT_ALLOWED * self.labelled

    def sentence(self) -> str:
        """Return the figures in words, and what they cannot say."""
        wanted, counted = f"{_PERCENT_ALLOWED} %", self.labelled if self.rejected is None else self.rejected
        text = f"threshold {self.threshold:.8g}: {self.labelled} of {self.pictures} pictures get a label"
        text += f" ({_percent(self.labelled, self.pictures)}), {self.right} of them the right one"
        text += f" ({_percent(self.right, self.labelled)})"
        if self.rejected is not None:
            text += f"; of the reject class {self.mistaken} of {self.rejected} do"
            text += f" ({_percent(self.mistaken, self.rejected)})"
        if not self.holds:
            return f"{text}; more than the {wanted} that should be wrong at most"
        if counted < _LEAST_PICTURES:
            return f"{text}; fewer than {_LEAST_PICTURES} pictures cannot show {wanted}"
        return text


def find_threshold(
    probabilities: Probabilities, labels: Labels, reject: int | None, end: int | None = None
) -> float | None:
    """Return the confidence below which a picture should get no label.

    Of a network with a reject class it is the lowest at which at most 1 % of the pictures of that class get another
    label; of one without, the lowest at which at least 99 % of the labels are right, 0 when that holds already. It lies
    between the confidences of two pictures, so that rounding on another device does not change who gets a label. Where
    no threshold holds that still labels a picture, it is the one which separates best (``Labelling.holds`` is false).

    Args:
        probabilities: (N, K), as the network gives them after the softmax; (N, D, K) of one that spells texts.
        labels: (N,) indices of the right classes; (N, D) those of texts.
        reject: Index of the class that means none of the others; None where there is none.
        end: Index of the label behind the last character of a text, which counts as a whole, a text without a character
            as of the reject class; None where a picture has one label.

    Returns:
        A threshold from 0 to 1; None where the pictures cannot tell: there are none, none of the reject class, or
        none of another.

    Raises:
        ValueError: The arrays do not fit, or hold what is no probability or no class.
    """
    best, confidence, labels, reject = _answers(probabilities, labels, reject, end)
    is_rejected = labels == reject if reject is not None else np.zeros(len(labels), bool)
    if is_rejected.all() or (reject is not None and not is_rejected.any()):
        return None
    is_wanted = best == labels if reject is None else ~is_rejected
    may_have_label = np.ones(len(labels), bool) if reject is None else best != reject
    levels = np.unique(confidence[may_have_label])  # from each to the next, the same pictures get a label
    if not len(levels):
        return 0.0
    wanted = _counts_from(levels, confidence[may_have_label & is_wanted])
    others = _counts_from(levels, confidence[may_have_label & ~is_wanted])
    allowed = _PERCENT_ALLOWED * (np.count_nonzero(is_rejected) if reject is not None else wanted + others)
    holding = np.flatnonzero((100 * others <= allowed) & (wanted > 0))
    if len(holding):
        chosen = int(holding[0])
    else:
        share = wanted / max(1, int(is_wanted.sum())) - others / max(1, int((~is_wanted).sum()))
        chosen = int(share.argmax())
    return _between(float(levels[chosen - 1]), float(levels[chosen])) if chosen else 0.0


def measure_threshold(
    probabilities: Probabilities, labels: Labels, reject: int | None, threshold: float, end: int | None = None
) -> Labelling:
    """Return what a threshold does on labelled pictures; the arguments are those of ``find_threshold``."""
    best, confidence, labels, reject = _answers(probabilities, labels, reject, end)
    has_label = confidence >= threshold
    is_rejected = np.zeros(len(labels), bool)
    if reject is not None:
        has_label &= best != reject
        is_rejected = labels == reject
    return Labelling(
        threshold,
        pictures=int((~is_rejected).sum()),
        labelled=int((has_label & ~is_rejected).sum()),
        right=int((has_label & ~is_rejected & (best == labels)).sum()),
        rejected=None if reject is None else int(is_rejected.sum()),
        mistaken=int((has_label & is_rejected).sum()),
    )


def _answers(
    probabilities: Probabilities, labels: Labels, reject: int | None, end: int | None
) -> tuple[NDArray[np.intp], NDArray[np.float64], Labels, int | None]:
    """Return the most probable class of each picture, its probability, the true class, and the reject class.

    Texts are numbered, so that each is a class.
    """
    if end is not None:
        return _numbered(probabilities, labels, end)
    classes = probabilities.shape[1] if probabilities.ndim == 2 else 0
    if not classes or labels.shape != (len(probabilities),):
        raise ValueError(f"probabilities are {probabilities.shape} and labels {labels.shape}, expected (N, K) and (N,)")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")
    known = range(classes)
    if reject not in (None, *known) or (len(labels) and not (0 <= labels.min() <= labels.max() < classes)):
        raise ValueError(f"labels and reject must be below {classes}, the number of classes")
    return probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64).clip(0, 1), labels, reject


def _numbered(
    probabilities: Probabilities, labels: Labels, end: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], Labels, int | None]:
    if probabilities.ndim != 3 or labels.shape != probabilities.shape[:2] or not 0 <= end < probabilities.shape[2]:
        raise ValueError(
            f"probabilities are {probabilities.shape}, labels {labels.shape}, end is {end}: expected (N, D, K), (N, D) "
            "and an index below K"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")
    best, confidence = best_sequences(probabilities, end)
    none = np.full((1, labels.shape[1]), end)
    _, numbers = np.unique(np.concatenate([none, best, labels]), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    true = numbers[1 + len(best) :]
    return (
        numbers[1 : 1 + len(best)],
        confidence.clip(0, 1),
        true,
        int(numbers[0]) if (true == numbers[0]).any() else None,
    )


def _counts_from(levels: NDArray[np.float64], confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return of how many pictures the confidence reaches each level."""
    return len(confidence) - np.searchsorted(np.sort(confidence), levels)


def _between(low: float, high: float) -> float:
    """Return the shortest decimal number near the middle that is above ``low`` and at most ``high``."""
    middle = (low + high) / 2
    for digits in range(2, 17):
        if low < round(middle, digits) <= high:
            return round(middle, digits)
    return high


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
