"""LAMP: magnitudes that can be compared between layers."""

from __future__ import annotations

import math

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of


def lamp(w: np.ndarray) -> np.ndarray:
    r"""Score each weight by its square, relative to what its layer still holds when it goes.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape and memory layout
        All weights of one layer, NumPy or CuPy, finite.

    Returns
    -------
    ndarray of float64, same shape
        Saliency in ``[0, 1]``, larger = keep; a new array. The largest magnitude scores
        exactly 1, every other at most 1/2.

    Raises
    ------
    TypeError
        If `w` is no array of these dtypes.
    ValueError
        If a weight is infinite or NaN.

    See Also
    --------
    refimpl.masks.global_unstructured : Rank the scores of all layers as one.

    Notes
    -----
    Order the weights of the layer by rising magnitude, of equal ones the higher index first.
    Then

    .. math:: s_u = \frac{w_u^2}{\sum_{v \ge u} w_v^2} .

    Within a layer the order is that of the magnitudes, so LAMP is unstructured, and decides
    nothing but how many weights each layer keeps. The largest is alone in its sum and scores
    1: whoever keeps at least as many weights as there are layers, by one ranking over all,
    empties none. A factor on the whole layer changes nothing.

    Pruned weights are zero, add nothing to a sum and score 0. In a layer of nothing but zeros
    the first scores 1.

    Squares are of the weights divided by the largest, in float64: none overflows, and of
    float16 and float32 weights none underflows. Float64 weights below 1e-162 of the largest
    score 0. Two that agree to 15 digits may have equal scores.

    One sort: O(n log n) time, and about 48 bytes a weight.

    References
    ----------
    Lee et al. (2021), figure 1. Differs from their code in the order of the sums, which here
    begin with the largest weight: a total less the sum of the smaller ones cancels in float32.

    Examples
    --------
    >>> import numpy as np
    >>> lamp(np.array([[3.0, -1.0], [0.0, -2.0]])).round(3)
    array([[1.   , 0.071],
           [0.   , 0.308]])
    """
    check_array("lamp", "w", w, dtypes=FLOAT_DTYPES)
    xp = xp_of(w)
    magnitudes = xp.abs(xp.ravel(w)).astype(np.float64)
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    if not math.isfinite(largest):
        advice = "look for a division by zero or an overflow where it was computed"
        raise bad_argument("lamp", "w", "be finite", f"a largest magnitude of {largest}", advice)
    order = xp.argsort(-magnitudes, kind="stable")  # of equal ones, the lowest index first
    squares = (magnitudes[order] / (largest or 1.0)) ** 2
    squares[:1] = 1.0  # as it is already, unless all weights are zero
    scores = xp.empty_like(squares)
    scores[order] = squares / xp.cumsum(squares)
    return scores.reshape(w.shape)
