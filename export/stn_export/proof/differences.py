"""How far two tensors of any type are apart, relative to their values."""

import numpy as np
from numpy.typing import NDArray


def relative_difference(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Return the largest difference of two tensors, relative to the largest finite value of the expected one.

    NaN or infinity in the same place in both is no difference; in only one of them it is an infinite difference.
    In uint8, a difference of one level counts as none. Another shape or type is an infinite difference.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return float("inf")
    if not np.issubdtype(expected.dtype, np.number):
        return 0.0 if np.array_equal(expected, actual) else float("inf")
    one, other = expected.astype(np.float64), actual.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    apart = np.where(same, 0.0, np.abs(one - other))
    if expected.dtype == np.uint8:  # a value between two levels may round either way
        apart = np.maximum(apart - 1, 0)
    finite = np.abs(one[np.isfinite(one)])
    largest = np.where(np.isnan(apart), np.inf, apart).max(initial=0.0)
    return float(largest / max(finite.max(initial=0.0), 1e-30)) if largest else 0.0


def is_nowhere_finite(values: NDArray[np.generic]) -> bool:
    """Return whether a floating-point tensor has values, none of them finite."""
    return bool(values.size and values.dtype.kind == "f" and not np.isfinite(values).any())
