"""How far two runs are apart: every number worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime.model.parity import Parity, compare, labels_that_differ, largest_differences

TOLERANCES = {"probabilities": 1e-5, "theta": 1e-4, "outline": 1e-3, "rectified": 1.0}


def _probabilities(*rows: list[float]) -> dict[str, NDArray[np.float32]]:
    return {"probabilities": np.array(rows, np.float32)}


def test_the_largest_absolute_difference_of_each_output_counts() -> None:
    expected = _probabilities([0.5, 0.25, 0.25], [0.75, 0.25, 0.0]) | {"theta": np.array([[1.0], [-2.0]], np.float32)}
    actual = _probabilities([0.5, 0.25, 0.25], [0.625, 0.25, 0.125]) | {"theta": np.array([[1.5], [-3.0]], np.float32)}
    parity = compare(expected, actual, TOLERANCES)
    assert parity.differences == {"probabilities": 0.125, "theta": 1.0}
    assert (parity.pictures, parity.labels_differ) == (2, 0)
    assert parity.tolerances == TOLERANCES
    assert not parity.passed


def test_equal_outputs_pass() -> None:
    outputs = _probabilities([0.9, 0.1])
    parity = compare(outputs, outputs, TOLERANCES)
    assert parity.differences == {"probabilities": 0.0}
    assert parity.passed


def test_outputs_that_were_not_recorded_are_not_compared() -> None:
    actual = _probabilities([0.9, 0.1]) | {"theta": np.full((1, 6), np.nan, np.float32)}
    assert compare(_probabilities([0.9, 0.1]), actual, TOLERANCES).passed


@pytest.mark.parametrize(("by", "passes"), [(1.0, True), (1.5, False)])
def test_a_difference_may_be_as_large_as_the_tolerance(by: float, passes: bool) -> None:
    expected = _probabilities([1.0]) | {"rectified": np.zeros((1, 2), np.float32)}
    actual = _probabilities([1.0]) | {"rectified": np.full((1, 2), by, np.float32)}
    assert compare(expected, actual, TOLERANCES).passed is passes


def test_levels_of_a_byte_are_not_subtracted_as_bytes() -> None:
    dark, bright = np.array([3], np.uint8), np.array([250], np.uint8)
    assert largest_differences({"rectified": dark}, {"rectified": bright}) == {"rectified": 247.0}
    assert largest_differences({"rectified": bright}, {"rectified": dark}) == {"rectified": 247.0}


@pytest.mark.filterwarnings("ignore:invalid value")  # infinity less infinity
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["expected", "actual", "both"])
def test_not_a_number_and_infinity_are_infinitely_far(bad: float, side: str) -> None:
    good, broken = _probabilities([0.5, 0.5]), _probabilities([0.5, bad])
    expected = good if side == "actual" else broken
    actual = good if side == "expected" else broken
    parity = compare(expected, actual, TOLERANCES)
    assert parity.differences == {"probabilities": float("inf")}
    assert not parity.passed


def test_another_most_probable_label_is_counted_but_a_tie_is_not() -> None:
    expected = _probabilities([0.6, 0.4], [0.5, 0.5])
    actual = _probabilities([0.4, 0.6], [0.499999, 0.500001])
    assert compare(expected, actual, TOLERANCES).labels_differ == 1


@pytest.mark.parametrize(("lead", "differ"), [(1e-6, 0), (9e-6, 0), (1.2e-5, 1), (1e-2, 1)])
def test_labels_tie_within_the_tolerance_of_the_probabilities(lead: float, differ: int) -> None:
    expected = _probabilities([0.5 + lead / 2, 0.5 - lead / 2])
    actual = _probabilities([0.5 - lead / 2, 0.5 + lead / 2])
    assert compare(expected, actual, TOLERANCES).labels_differ == differ


def test_a_label_that_differs_fails_whatever_the_differences_allow() -> None:
    expected, actual = _probabilities([0.51, 0.49]), _probabilities([0.49, 0.51])
    parity = compare(expected, actual, {"probabilities": 0.015})
    assert (parity.labels_differ, parity.passed) == (1, False)
    assert parity.differences["probabilities"] > 0.015
    assert not Parity({"probabilities": 0.0}, 1, 1, TOLERANCES).passed


def test_no_pictures_are_no_differences() -> None:
    nothing = {"probabilities": np.empty((0, 3), np.float32)}
    assert compare(nothing, nothing, TOLERANCES) == Parity({"probabilities": 0.0}, 0, 0, TOLERANCES)


def test_joining_parities_keeps_the_worse_of_each_output() -> None:
    first = Parity({"theta": 1e-7, "outline": 1e-8}, 0, 3, TOLERANCES)
    second = Parity({"theta": 1e-8, "outline": 1e-6}, 1, 4, {})
    joined = first | second
    assert joined == Parity({"theta": 1e-7, "outline": 1e-6}, 1, 7, TOLERANCES)
    assert not joined.passed


def test_joining_keeps_outputs_that_only_one_of_both_has() -> None:
    joined = Parity({}, 0, 0, TOLERANCES) | Parity({"theta": float("inf")}, 0, 1, TOLERANCES)
    assert joined.differences == {"theta": float("inf")}
    assert (Parity({"theta": 1.0}, 0, 1, TOLERANCES) | Parity({}, 0, 0, TOLERANCES)).differences == {"theta": 1.0}


@pytest.mark.parametrize("tolerance", [1e-4, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("difference", [np.inf, np.nan])
def test_a_difference_that_is_no_number_never_passes(difference: float, tolerance: float) -> None:
    tolerances = {"probabilities": 1e-5, "theta": tolerance}
    parity = Parity({"probabilities": 0.0, "theta": difference}, 0, 1, tolerances)
    assert not parity.passed
    probabilities, theta, _ = parity.table().splitlines()
    assert probabilities.endswith("  ok")
    assert theta.endswith("  FAILED")


def test_any_number_passes_where_any_is_allowed() -> None:
    parity = Parity({"theta": 1e30}, 0, 1, {"theta": np.inf})
    assert parity.passed
    assert parity.table().splitlines()[0].endswith("  ok")


def test_the_table_has_a_line_for_each_output_and_one_for_the_labels() -> None:
    parity = Parity({"probabilities": 2e-6, "theta": 3e-4}, 1, 12, TOLERANCES)
    assert parity.table().splitlines() == [
        "probabilities  largest difference 2.00e-06  allowed 1.0e-05  ok",
        "theta          largest difference 3.00e-04  allowed 1.0e-04  FAILED",
        "12 pictures, 1 labels differ",
    ]


def test_a_text_differs_where_one_of_its_characters_does() -> None:
    same = np.array([[[0.8, 0.2], [0.3, 0.7]]] * 3, np.float32)
    other = same.copy()
    other[1, 0] = (0.2, 0.8)
    other[2] = ((0.1, 0.9), (0.9, 0.1))
    assert labels_that_differ(same, other, 1e-5) == 2
    assert labels_that_differ(same, other, 0.7) == 0  # what ties so far apart is the same
