"""Texts are the most probable ones of all, by trying every one; and a model that spells them says so everywhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stn_runtime.model.sequences import best_labels, best_sequences, likely_sequences, share_right

END = 2  # in the middle, so that an index is easily off by one


def every_text(probabilities: np.ndarray, end: int) -> dict[tuple[int, ...], float]:
    """The probability of every text, by its definition."""
    positions, labels = probabilities.shape
    result = {}
    for length in range(positions + 1):
        for text in itertools.product([label for label in range(labels) if label != end], repeat=length):
            value = np.prod([probabilities[place, label] for place, label in enumerate(text)])
            result[text] = float(value * (probabilities[length, end] if length < positions else 1))
    return result


def drawn(seed: int, positions: int, labels: int, sharpness: float) -> np.ndarray:
    values = np.exp(sharpness * np.random.default_rng(seed).normal(size=(positions, labels)))
    return values / values.sum(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 5), st.floats(0.1, 6), st.integers(1, 12))
def test_the_most_probable_texts_are_those_of_all(
    seed: int, positions: int, labels: int, sharpness: float, count: int
) -> None:
    probabilities, end = drawn(seed, positions, labels, sharpness), min(END, labels - 1)
    texts = every_text(probabilities, end)
    wanted = sorted(texts.values(), reverse=True)[:count]
    found = likely_sequences(probabilities, end, count)
    np.testing.assert_allclose([probability for _, probability in found], wanted, rtol=1e-9)
    for text, probability in found:
        assert probability == pytest.approx(texts[text])
    best, confidence = best_sequences(probabilities[None], end)
    assert confidence[0] == pytest.approx(wanted[0])
    length = next((place for place, label in enumerate(best[0]) if label == end), positions)
    assert texts[tuple(best[0][:length].tolist())] == pytest.approx(wanted[0])
    assert (best[0][length:] == end).all()


def test_all_probabilities_of_texts_add_up_to_one() -> None:
    assert sum(every_text(drawn(3, 3, 4, 1.0), END).values()) == pytest.approx(1)


def test_a_text_may_beat_the_label_that_is_likeliest_at_its_place() -> None:
    # at the first place 0 is likelier than the end, but behind it nothing is likely
    probabilities = np.array([[0.5, 0.05, 0.45], [0.3, 0.35, 0.35]])
    assert best_sequences(probabilities[None], END)[0].tolist() == [[END, END]]
    assert likely_sequences(probabilities, END, 1)[0][0] == ()


def test_probabilities_of_zero_and_one_are_taken() -> None:
    sure = np.eye(3)[[0, 1, END]]
    assert best_sequences(sure[None], END)[0].tolist() == [[0, 1, END]]
    (text, probability), *_ = likely_sequences(sure, END, 3)
    assert text == (0, 1)
    assert probability == pytest.approx(1)


def test_single_labels_are_the_likeliest_and_right_means_all_characters() -> None:
    single = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert best_labels(single, None).tolist() == [1, 0]
    assert share_right(np.array([1, 0]), np.array([1, 1])) == 0.5
    assert share_right(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [1, 0]])) == 0.5
