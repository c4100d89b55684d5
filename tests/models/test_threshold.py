"""The threshold: worked out by hand on a few pictures, and by trying every one on many."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stn_models import find_threshold, measure_threshold

NOTHING = 0


def _answers(*answers: tuple[int, float, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return probabilities (N, 3) and labels (N,) of pictures: best class, its probability, right class."""
    probabilities = np.zeros((len(answers), 3), np.float32)
    for row, (best, confidence, _) in zip(probabilities, answers, strict=True):
        row[:] = (1 - confidence) / 2
        row[best] = confidence
    return probabilities, np.array([right for _, _, right in answers], np.int64)


def _random(seed: int, classes: int, count: int, sureness: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A network that is often right, and the surer the oftener."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(0, 1, (count, classes))
    logits[np.arange(count), labels] += sureness
    exponential = np.exp(2 * logits)
    return (exponential / exponential.sum(1, keepdims=True)).astype(np.float32), labels


def _with_label(probabilities: NDArray[np.float32], reject: int | None, threshold: float) -> NDArray[np.bool_]:
    """Which pictures the device labels: its rule, one picture at a time."""
    return np.array([row.max() >= threshold and row.argmax() != reject for row in probabilities])


def test_the_threshold_is_above_every_picture_of_nothing_and_below_the_others() -> None:
    nothings = [(NOTHING, 0.9, NOTHING)] * 8 + [(1, 0.55, NOTHING), (2, 0.7, NOTHING)]
    others = [(1, 0.6, 1), (2, 0.8, 2), (1, 0.95, 1), (NOTHING, 0.7, 2)]
    probabilities, labels = _answers(*nothings, *others)
    threshold = find_threshold(probabilities, labels, NOTHING)
    assert threshold == 0.75
    done = measure_threshold(probabilities, labels, NOTHING, threshold)
    assert (done.pictures, done.labelled, done.right, done.rejected, done.mistaken) == (4, 2, 2, 10, 0)
    assert done.holds
    assert done.sentence() == (
        "threshold 0.75: 2 of 4 pictures get a label (50.0 %), 2 of them the right one (100.0 %); of the reject "
        "class 0 of 10 do (0.0 %); fewer than 100 pictures cannot show 1 %"
    )


def test_of_a_hundred_pictures_of_nothing_one_may_get_a_label() -> None:
    nothings = [(NOTHING, 0.9, NOTHING)] * 98 + [(1, 0.6, NOTHING), (1, 0.8, NOTHING)]
    probabilities, labels = _answers(*nothings, (2, 0.55, 2), (2, 0.95, 2))
    threshold = find_threshold(probabilities, labels, NOTHING)
    assert threshold is not None
    assert 0.6 < threshold <= 0.8
    done = measure_threshold(probabilities, labels, NOTHING, threshold)
    assert (done.labelled, done.mistaken, done.holds) == (1, 1, True)
    assert done.sentence().endswith("of the reject class 1 of 100 do (1.0 %)")


def test_where_nothing_is_never_taken_for_something_every_picture_keeps_its_label() -> None:
    probabilities, labels = _answers((NOTHING, 0.5, NOTHING), (1, 0.4, 1), (2, 0.9, 2))
    assert find_threshold(probabilities, labels, NOTHING) == 0.0


def test_without_a_rejected_class_99_of_100_labels_are_right() -> None:
    right, wrong = [(1, 0.9, 1)] * 198, [(2, 0.5, 1), (2, 0.6, 1), (2, 0.7, 1)]
    probabilities, labels = _answers(*right, *wrong)
    threshold = find_threshold(probabilities, labels, None)
    assert threshold == 0.55  # two wrong ones of 200 are allowed
    done = measure_threshold(probabilities, labels, None, threshold)
    assert (done.labelled, done.right, done.rejected, done.holds) == (200, 198, None, True)
    assert done.sentence() == (
        "threshold 0.55: 200 of 201 pictures get a label (99.5 %), 198 of them the right one (99.0 %)"
    )


def test_a_network_that_is_right_often_enough_needs_no_threshold() -> None:
    probabilities, labels = _answers(*[(1, 0.4, 1)] * 99, (1, 0.4, 2))
    assert find_threshold(probabilities, labels, None) == 0.0


@pytest.mark.parametrize("reject", [None, NOTHING])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sureness", [1.0, 2.0, 4.0])
def test_no_lower_threshold_keeps_the_risk(reject: int | None, seed: int, sureness: float) -> None:
    """Against a search through all thresholds that differ, each judged by the device's rule."""
    probabilities, labels = _random(seed, 4, 400, sureness)
    holding = []
    for threshold in [0.0, *sorted(probabilities.max(1).astype(float))]:
        labelled = _with_label(probabilities, reject, threshold)
        if reject is None:
            holds = labelled.any() and np.mean(probabilities.argmax(1)[labelled] == labels[labelled]) >= 0.99
        else:
            holds = (labelled & (labels != reject)).any() and labelled[labels == reject].mean() <= 0.01
        if holds:
            holding.append(threshold)
    found = find_threshold(probabilities, labels, reject)
    assert found is not None
    assert measure_threshold(probabilities, labels, reject, found).holds == bool(holding)
    if holding:
        lowest = _with_label(probabilities, reject, holding[0])
        np.testing.assert_array_equal(_with_label(probabilities, reject, found), lowest)


@pytest.mark.parametrize("reject", [None, NOTHING])
def test_who_gets_a_label_does_not_change_with_rounding(reject: int | None) -> None:
    probabilities, labels = _random(0, 3, 60, 1.0)
    found = find_threshold(probabilities, labels, reject)
    assert found is not None
    assert found > 0
    gap = np.abs(probabilities.max(1).astype(float) - found).min()
    assert gap > 1e-4
    before = _with_label(probabilities, reject, found)
    for moved in (-1e-5, 1e-5):
        np.testing.assert_array_equal(_with_label(probabilities + np.float32(moved), reject, found), before)


def test_confidences_of_one_are_told_from_those_just_below() -> None:
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    probabilities, labels = _answers((1, below, NOTHING), (NOTHING, 0.9, NOTHING), (1, 1.0, 1))
    found = find_threshold(probabilities, labels, NOTHING)
    assert found is not None
    assert below < found <= 1
    assert measure_threshold(probabilities, labels, NOTHING, found).holds


@pytest.mark.parametrize(
    ("answers", "threshold"),
    [
        ([(1, 1.0, NOTHING), (1, 0.9, NOTHING), (2, 1.0, 2), (2, 1.0, 2)], 0.95),  # as sure of nothing as of others
        ([(1, 0.6, NOTHING)] * 3 + [(1, 0.6, 1)] * 3, 0.0),  # confidence tells nothing apart
    ],
)
def test_where_no_threshold_keeps_the_risk_the_one_that_separates_best_is_taken_and_said(
    answers: list[tuple[int, float, int]], threshold: float
) -> None:
    probabilities, labels = _answers(*answers)
    assert find_threshold(probabilities, labels, NOTHING) == threshold
    done = measure_threshold(probabilities, labels, NOTHING, threshold)
    assert not done.holds
    assert done.sentence().endswith("; more than the 1 % that should be wrong at most")


def test_a_network_that_is_always_wrong_is_no_error() -> None:
    probabilities, labels = _answers((1, 0.6, 2), (1, 0.9, 2))
    found = find_threshold(probabilities, labels, None)
    assert found is not None
    assert not measure_threshold(probabilities, labels, None, found).holds


def test_a_network_that_rejects_everything_labels_nothing_at_any_threshold() -> None:
    probabilities, labels = _answers((NOTHING, 0.6, 1), (NOTHING, 0.9, NOTHING))
    assert find_threshold(probabilities, labels, NOTHING) == 0.0
    assert measure_threshold(probabilities, labels, NOTHING, 0.0).sentence() == (
        "threshold 0: 0 of 1 pictures get a label (0.0 %), 0 of them the right one (none); of the reject class "
        "0 of 1 do (0.0 %); fewer than 100 pictures cannot show 1 %"
    )


@pytest.mark.parametrize(
    ("labels", "reject"), [([], None), ([], NOTHING), ([1, 2, 1], NOTHING), ([NOTHING] * 3, NOTHING)]
)
def test_pictures_that_cannot_tell_give_no_threshold(labels: list[int], reject: int | None) -> None:
    probabilities, rights = _answers(*[(1, 0.9, label) for label in labels])
    assert find_threshold(probabilities, rights, reject) is None


@pytest.mark.parametrize(
    ("probabilities", "labels", "reject", "told"),
    [
        (np.ones((3, 2)), [0, 1], None, r"probabilities are \(3, 2\) and labels \(2,\), expected \(N, K\) and \(N,\)"),
        (np.ones(3), [0, 1, 1], None, r"probabilities are \(3,\)"),
        (np.ones((2, 0)), [0, 0], None, r"probabilities are \(2, 0\)"),
        (np.ones((2, 2)), [0, 2], None, "labels and reject must be below 2, the number of classes"),
        (np.ones((2, 2)), [-1, 0], None, "labels and reject must be below 2"),
        (np.ones((2, 2)), [1, 0], 2, "labels and reject must be below 2"),
        (np.full((2, 2), math.nan), [1, 0], None, "probabilities hold NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    probabilities: NDArray[np.float64], labels: list[int], reject: int | None, told: str
) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        find_threshold(probabilities, np.array(labels), reject)


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 60))
def test_texts_of_one_place_are_as_labels_with_a_reject_class(seed: int, classes: int, count: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.3), count)
    labels, end = random.integers(classes, size=count), int(random.integers(classes))
    single = find_threshold(probabilities, labels, end)
    text = find_threshold(probabilities[:, None], labels[:, None], None, end)
    if (labels == end).any():  # else a network with a reject class is not told from one without
        assert text == single
    if single is not None:
        one, other = (
            measure_threshold(probabilities, labels, end, single),
            measure_threshold(probabilities[:, None], labels[:, None], None, single, end),
        )
        assert one == other


def test_a_text_is_right_as_a_whole() -> None:
    probabilities = np.array([[[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]] * 3)  # spells 0, 1; 2 is the end
    labels = np.array([[0, 1], [0, 2], [0, 1]])
    done = measure_threshold(probabilities, labels, None, 0.5, 2)
    assert (done.pictures, done.labelled, done.right, done.rejected) == (3, 3, 2, None)
    assert measure_threshold(probabilities, labels, None, 0.82, 2).labelled == 0  # 0.9 x 0.9 is 0.81


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 3), (4, 2)])
def test_texts_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    probabilities = np.full((3, 2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"expected \(N, D, K\)"):
        find_threshold(probabilities, np.zeros(shape, int), None, 3 if shape == (3, 2) else 2)
