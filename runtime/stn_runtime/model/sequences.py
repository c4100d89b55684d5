"""Texts that a network spells character by character, such as house numbers: the most probable ones.

At each of D positions the network gives the probability of each character, independent of the others; one label,
``end``, stands at every position behind the last character. A text of L characters has the probability of its
characters times that of ``end`` behind them, where there is a position left (Goodfellow et al. 2014, "Multi-digit
Number Recognition from Street View Imagery using Deep Convolutional Neural Networks", section 4; Jaderberg et al.
2015, appendix A.2).
"""

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from .theta_statistics import Floats

_Scored = tuple[tuple[int, ...], float]
"""Labels and the logarithm of their probability."""

_LEAST = 1e-30  # a probability of 0 has no logarithm


def best_labels(probabilities: Floats, end: int | None) -> NDArray[np.intp]:
    """Return the answer to each picture: the most probable label (N,), or the labels of the most probable text (N, D).

    Args:
        probabilities: (N, K), or (N, D, K).
        end: Index of the label behind the last character; None where a picture has one label.
    """
    return probabilities.argmax(axis=-1) if end is None else best_sequences(probabilities, end)[0]


def share_right(answers: NDArray[np.integer], true: NDArray[np.integer]) -> float:
    """Return the share of pictures whose answer is right, of a text in all its characters; both (N,) or (N, D)."""
    return float((answers == true).all(axis=tuple(range(1, true.ndim))).mean())


def best_sequences(probabilities: Floats, end: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the most probable sequence of each picture.

    Args:
        probabilities: (N, D, K), each position's adding up to 1.
        end: Index of the label behind the last character.

    Returns:
        Labels (N, D), ``end`` at every position from the end on, and the probabilities of the sequences (N,).
    """
    count, positions, _ = probabilities.shape
    characters = np.delete(probabilities, end, axis=2)
    best = characters.argmax(axis=2)
    best = best + (best >= end)
    spelled = np.cumprod(characters.max(axis=2).astype(np.float64), axis=1)  # probability of the first i + 1
    before = np.concatenate([np.ones((count, 1)), spelled], axis=1)
    ended = np.concatenate([probabilities[:, :, end].astype(np.float64), np.ones((count, 1))], axis=1)
    lengths = (before * ended).argmax(axis=1)
    labels = np.where(np.arange(positions) < lengths[:, None], best, end)
    return labels, (before * ended)[np.arange(count), lengths]


def likely_sequences(probabilities: Floats, end: int, count: int) -> list[tuple[tuple[int, ...], float]]:
    """Return the ``count`` most probable sequences of one picture, without their end, each with its probability.

    Args:
        probabilities: (D, K), each position's adding up to 1.
        end: Index of the label behind the last character.
        count: How many sequences; there may be fewer.
    """
    growing: list[_Scored] = [((), 0.0)]
    ended: list[_Scored] = []
    for position in np.log(np.maximum(probabilities.astype(np.float64), _LEAST)):
        ended += [(labels, score + float(position[end])) for labels, score in growing]
        likely = [label for label in np.argsort(-position, kind="stable").tolist() if label != end][:count]
        grown = [((*labels, label), score + float(position[label])) for labels, score in growing for label in likely]
        growing = heapq.nlargest(count, grown, key=_score)
    best = heapq.nlargest(count, [*ended, *growing], key=_score)
    return [(labels, math.exp(score)) for labels, score in best]


def _score(entry: _Scored) -> float:
    return entry[1]
