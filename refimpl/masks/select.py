"""Exact selection: keep a given number of weights, no more and no fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    check_array,
    check_count,
    check_fraction,
    check_no_nan,
    xp_of,
)


def count_kept(size: int, sparsity: float) -> int:
    r"""Count the weights that stay when a fraction `sparsity` of `size` weights goes.

    Parameters
    ----------
    size : int
        Number of weights, at least 0.
    sparsity : float
        Fraction to remove, in ``[0, 1)``.

    Returns
    -------
    int
        In ``[0, size]``.

    Raises
    ------
    TypeError, ValueError
        If `size` is no count or `sparsity` no fraction below 1.

    Notes
    -----
    :math:`n - \lfloor s n + 1/2 \rfloor` of :math:`n` weights: the number *removed* is rounded
    to the nearest integer, halves up. `s` is the decimal number that `sparsity` prints as, and
    the arithmetic is exact. So 0.145 of 100 is the half 14.5 and removes 15, while the float
    product is 14.499999999999998. The number removed is within 1/2 of :math:`s n`, and never
    falls when the sparsity grows: of two floats, the larger prints as the larger decimal.
    All of a few weights may go: 0.5 of one removes it.

    Examples
    --------
    >>> count_kept(10, 0.9), count_kept(5, 0.5), count_kept(7, 0.0)
    (1, 2, 7)
    """
    check_count("count_kept", "size", size, 0)
    check_fraction("count_kept", "sparsity", sparsity)
    size, exact = int(size), Fraction(str(sparsity))
    return size - math.floor(exact * size + Fraction(1, 2))


def keep_top_k(saliency: np.ndarray, n_keep: int) -> np.ndarray:
    """Keep the `n_keep` largest entries; ties go to the lowest index.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, any shape and memory layout
        Larger = keep. NumPy or CuPy. Infinities are ranked, -0.0 equals 0.0, NaN is refused.
    n_keep : int
        Number of entries to keep, ``0 <= n_keep <= saliency.size``.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept, exactly `n_keep` times; a new array.

    Raises
    ------
    TypeError
        If `saliency` is no float array or `n_keep` no integer.
    ValueError
        If `saliency` holds NaN or `n_keep` is out of range.

    See Also
    --------
    unstructured : Ask for a sparsity instead of a count.

    Notes
    -----
    The index is the one in C (row-major) order, whatever the memory layout. The order
    "larger, or equal and earlier" is total, so the mask is unique, and the mask for `k` lies
    within the mask for `k + 1`. With `n` entries: O(n) time on the CPU (introselect, no full
    sort), one copy of `saliency`.

    Examples
    --------
    >>> import numpy as np
    >>> keep_top_k(np.array([[3.0, 1.0], [1.0, 2.0]]), 3)
    array([[ True,  True],
           [False,  True]])
    """
    _check_saliency("keep_top_k", saliency)
    check_count("keep_top_k", "n_keep", n_keep, 0, saliency.size)
    return _top_k(saliency, int(n_keep))  # int8 could not count beyond 127


def unstructured(saliency: np.ndarray, sparsity: float) -> np.ndarray:
    """Remove a fraction `sparsity` of one array: its entries of least saliency.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, any shape
        Larger = keep. NumPy or CuPy, without NaN.
    sparsity : float
        Fraction to remove, in ``[0, 1)``.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept, exactly ``count_kept(saliency.size, sparsity)`` times;
        a new array.

    Raises
    ------
    TypeError, ValueError
        As `keep_top_k` and `count_kept`.

    Examples
    --------
    >>> import numpy as np
    >>> unstructured(np.array([[3.0, 1.0], [0.5, 2.0]]), 0.5)
    array([[ True, False],
           [False,  True]])
    """
    _check_saliency("unstructured", saliency)
    check_fraction("unstructured", "sparsity", sparsity)
    return _top_k(saliency, count_kept(saliency.size, sparsity))


def global_unstructured(saliencies: Sequence[np.ndarray], sparsity: float) -> list[np.ndarray]:
    """Remove a fraction `sparsity` of several arrays together, ranked as if they were one.

    Parameters
    ----------
    saliencies : sequence of ndarray of float16, float32 or float64
        One array a layer, of any shapes, on one device, without NaN. Their scales are compared
        with each other, so they must mean the same.
    sparsity : float
        Fraction of all entries to remove, in ``[0, 1)``.

    Returns
    -------
    list of ndarray of bool
        One new mask for each array, in the order given; ``count_kept(total size, sparsity)``
        entries are True in all. Some masks may be all False: layer collapse.

    Raises
    ------
    TypeError, ValueError
        As `keep_top_k` and `count_kept`.

    Notes
    -----
    Ties go to the lowest index, an earlier array before a later one.

    Examples
    --------
    >>> import numpy as np
    >>> global_unstructured([np.array([5.0, 1.0]), np.array([2.0, 3.0])], 0.5)
    [array([ True, False]), array([False,  True])]
    """
    saliencies = list(saliencies)
    for position, saliency in enumerate(saliencies):
        _check_saliency("global_unstructured", saliency, f"saliencies[{position}]")
    check_fraction("global_unstructured", "sparsity", sparsity)
    if not saliencies:
        return []
    xp = xp_of(*saliencies)
    together = xp.concatenate([xp.ravel(saliency) for saliency in saliencies])
    mask = _top_k(together, count_kept(together.size, sparsity))
    ends = np.cumsum([saliency.size for saliency in saliencies]).tolist()
    parts = [
        mask[end - saliency.size : end].reshape(saliency.shape)
        for saliency, end in zip(saliencies, ends, strict=True)
    ]
    return [part.copy() for part in parts]


def _check_saliency(where: str, saliency: np.ndarray, argument: str = "saliency") -> None:
    check_array(where, argument, saliency, dtypes=FLOAT_DTYPES)
    check_no_nan(where, argument, saliency)


def _top_k(saliency: np.ndarray, n_keep: int) -> np.ndarray:
    """Select as `keep_top_k` does, of checked arguments."""
    xp = xp_of(saliency)
    if n_keep == 0:
        return xp.zeros(saliency.shape, dtype=bool)
    flat = xp.ravel(saliency)  # in C order
    first_kept = flat.size - n_keep
    threshold = xp.partition(flat, first_kept)[first_kept]
    mask = flat > threshold  # fewer than n_keep entries
    ties = xp.flatnonzero(flat == threshold)
    mask[ties[: n_keep - int(mask.sum())]] = True
    return mask.reshape(saliency.shape)
