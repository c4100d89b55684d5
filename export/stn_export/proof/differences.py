"""How far two tensors of any type are apart, relative to their values."""

import numpy as np
from numpy.typing import NDArray


def relative_difference(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    """Return the largest difference of two tensors, relative to the largest finite value of the expected one.

    NaN or infinity in the same place in both is no difference; in only one of them it is an infinite difference.
    In uint8, a difference of one level counts as none. Another shape or type is an infinite difference.
    """
    return float(relative_differences(expected, actual).max(initial=0.0))


def relative_differences(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the difference of each element, flattened, as ``relative_difference`` takes the largest of."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return np.array([np.inf])
    if not np.issubdtype(expected.dtype, np.number):
        return np.array([0.0 if np.array_equal(expected, actual) else np.inf])
    apart = _absolute_differences(expected, actual)
    if expected.dtype == np.uint8:  # a value between two levels may round either way
        apart = np.maximum(apart - 1, 0)
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    relative: NDArray[np.float64] = apart / max(finite.max(initial=0.0), 1e-30)
    return relative


def differences_of_points(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the difference of each coordinate of two sampling grids, flattened, relative to 1 or its own size.

    A coordinate of size 1 is an edge of the picture; one of size 100 lies far outside, where less precision matters.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return np.array([np.inf])
    sizes = np.abs(np.where(np.isfinite(expected), expected, 1).astype(np.float64)).ravel()
    relative: NDArray[np.float64] = _absolute_differences(expected, actual) / np.maximum(sizes, 1.0)
    return relative


def _absolute_differences(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> NDArray[np.float64]:
    one, other = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):  # inf - inf, which is in the same place in both
        apart = np.where(same, 0.0, np.abs(one - other))
    return np.where(np.isnan(apart), np.inf, apart)


def is_nowhere_finite(values: NDArray[np.generic]) -> bool:
    """Return whether a floating-point tensor has values, none of them finite."""
    return bool(values.size and values.dtype.kind == "f" and not np.isfinite(values).any())
