"""The order of channels: what a permutation is worth to an N:M mask, and who carries it out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.arrays import INDEX_DTYPES, bad_argument, check_array, xp_of
from refimpl.masks.stripes import saliency_columns, stripes_in_order


def efficacy(saliency: np.ndarray, permutation: np.ndarray, *, n: int = 2, m: int = 4) -> float:
    r"""Measure which part of what an N:M mask loses to its stripes a permutation brings back.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        As for `kept_saliency`.
    permutation : ndarray of int32 or int64, shape (n_in,)
        Column ``permutation[j]`` comes to place j.
    n, m : int
        The pattern, ``1 <= n <= m``.

    Returns
    -------
    float
        0 for the given order, 1 if the permuted stripes lose nothing, and below 0 if they lose
        more than in the given order.

    Raises
    ------
    TypeError, ValueError
        As `kept_saliency`; if `permutation` is none; or if the given order loses nothing.

    Notes
    -----
    :math:`(K_p - K) / (K_\text{row} - K)`: a mask keeps :math:`K_p` with the permutation,
    :math:`K` without, and :math:`K_\text{row}` if it keeps the :math:`n_\text{in} N / M` largest
    entries of each row, wherever they are.

    References
    ----------
    Pool and Yu (2021), "Channel permutations for N:M sparsity"; the formula is that of the code
    published with it.

    Examples
    --------
    >>> import numpy as np
    >>> saliency = np.array([[4.0, 3, 2, 0, 1, 0, 0, 0]])  # 2:4 keeps 8 of 10
    >>> efficacy(saliency, np.array([0, 1, 3, 4, 2, 5, 6, 7]))  # of 4 3 0 1 and 2 0 0 0, 9
    0.5
    """
    columns = saliency_columns("efficacy", saliency, n, m)
    _check_permutation("efficacy", permutation, len(columns))
    stripes = stripes_in_order(columns, m)
    given = _kept_exactly(columns, stripes, n)
    permuted = _kept_exactly(columns, permutation[stripes], n)
    best = _kept_exactly(columns, stripes.reshape(1, -1), n * len(stripes))  # rows are one stripe
    if best <= given:
        requirement = f"lose something to the stripes of {n}:{m}"
        advice = "there is nothing that a permutation could bring back"
        raise bad_argument("efficacy", "saliency", requirement, f"{given:g} kept", advice)
    return (permuted - given) / (best - given)


def permute_inputs(weight: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Reorder what comes into a layer: the columns of its weight.

    Parameters
    ----------
    weight : ndarray, shape (n_out, n_in, ...)
        Of a linear layer or a convolution, or a mask of that shape. NumPy or CuPy.
    permutation : ndarray of int32 or int64, shape (n_in,)
        Column ``permutation[j]`` comes to place j.

    Returns
    -------
    ndarray
        ``weight[:, permutation]``, a new array.

    Raises
    ------
    TypeError, ValueError
        If `weight` has fewer than two axes, or `permutation` is none of its columns.

    See Also
    --------
    permute_outputs : What the layer before needs, so that the network computes the same.

    Examples
    --------
    >>> import numpy as np
    >>> permute_inputs(np.array([[1.0, 2.0, 3.0]]), np.array([2, 0, 1]))
    array([[3., 1., 2.]])
    """
    check_array("permute_inputs", "weight", weight)
    if weight.ndim < 2:
        requirement, advice = "have 2 axes or more", "vectors of the layer before: permute_outputs"
        actual = f"shape {weight.shape}"
        raise bad_argument("permute_inputs", "weight", requirement, actual, advice)
    _check_permutation("permute_inputs", permutation, weight.shape[1])
    return weight[:, permutation]


def permute_outputs(array: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Reorder what comes out of a layer: the rows of its weight, or one of its vectors.

    Every array with an entry for each output needs it: weight and bias, and the scale, shift,
    running mean and running variance of a BatchNorm that follows. What treats each number alike,
    such as ReLU, needs nothing.

    Parameters
    ----------
    array : ndarray, shape (n_out, ...)
        NumPy or CuPy.
    permutation : ndarray of int32 or int64, shape (n_out,)
        The one by which the next layer's inputs are permuted: row ``permutation[j]`` comes to
        place j.

    Returns
    -------
    ndarray
        ``array[permutation]``, a new array.

    Raises
    ------
    TypeError, ValueError
        If `array` has no axis, or `permutation` is none of its rows.

    Examples
    --------
    >>> import numpy as np
    >>> permute_outputs(np.array([10.0, 20.0, 30.0]), np.array([2, 0, 1]))
    array([30., 10., 20.])
    """
    check_array("permute_outputs", "array", array)
    if array.ndim < 1:
        advice = "give an array with an entry for each output"
        raise bad_argument("permute_outputs", "array", "have an axis", "shape ()", advice)
    _check_permutation("permute_outputs", permutation, array.shape[0])
    return array[permutation]


def _kept_exactly(columns: np.ndarray, stripes: np.ndarray, n: int) -> float:
    """Sum what stripes keep, rounded once: differences of such sums are never mere rounding."""
    kept = np.sort(columns[stripes], axis=1)[:, stripes.shape[1] - n :]  # (n_stripes, n, n_rows)
    return math.fsum(kept.ravel())


def _check_permutation(where: str, permutation: Any, length: int) -> None:
    check_array(where, "permutation", permutation, shape=(length,), dtypes=INDEX_DTYPES)
    xp = xp_of(permutation)
    places = xp.sort(permutation)
    wrong = places != xp.arange(length)
    if wrong.any():
        requirement = f"hold each of 0 to {length - 1} once"
        actual = f"{int(places[wrong.argmax()])} in place {int(wrong.argmax())} when sorted"
        advice = "an index is missing, repeated or out of range"
        raise bad_argument(where, "permutation", requirement, actual, advice)
