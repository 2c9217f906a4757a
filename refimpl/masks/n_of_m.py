"""N:M masks: N of every M inputs stay, and 2:4 masks whose transpose is 2:4 as well."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_no_nan,
    xp_of,
)

DIGIT_BITS = 48  # eight such digits can be added, and sums of them compared, in float64
PANEL_BLOCKS = 4096  # blocks scored at a time: 90 sums of each are 3 MB, which a cache holds


def n_of_m(saliency: np.ndarray, n: int, m: int) -> np.ndarray:
    """Keep the `n` largest of every `m` consecutive inputs; ties go to the lowest index.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        Larger = keep, of a linear weight, (n_out, n_in), or a convolution's, (c_out, c_in, kh,
        kw). NumPy or CuPy, any memory layout. Infinities are ranked, NaN is refused. The length
        of axis 1 is a multiple of `m`.
    n : int
        Entries to keep of each group, ``1 <= n <= m``; m keeps all. A pattern of none would leave
        a layer without weights, and is refused.
    m : int
        Length of a group, at least 1.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept, exactly `n` times in each group; a new C-contiguous array.

    Raises
    ------
    TypeError
        If `saliency` is no float array, or `n` or `m` no integer.
    ValueError
        If `saliency` holds NaN or has neither 2 nor 4 axes, `n` or `m` is out of range, or groups
        do not fill axis 1.

    See Also
    --------
    transposable_two_four : A mask that is 2:4 along both axes of a matrix.
    refimpl.formats.NOfM : Stores what such a mask leaves.

    Notes
    -----
    Groups run along axis 1, over which a layer sums, and each begins at a multiple of `m`: never
    across the end of a row. For a convolution the group of input channels ``g m`` to
    ``g m + m - 1`` is formed for every output and every kernel pixel by itself. In the layout of
    matrix hardware, a row of K = (kh, kw, c_in) for each output with channels last, these lie side
    by side.

    Among all masks with `n` True in each group, none keeps more of the saliency; nor among those
    with fewer, if no saliency is negative. An entry of -inf stays where a group has too few
    others: ``mask & before`` takes it out, has at most `n`, and is N:M too.

    About ``size log2(m)`` comparisons; a copy of `saliency` and about 14 bytes an entry.

    References
    ----------
    Mishra et al. (2021), "Accelerating sparse deep neural networks", for 2:4. Zhou et al. (2021),
    "Learning N:M fine-grained structured sparse neural networks from scratch", for N:M.

    Examples
    --------
    >>> import numpy as np
    >>> n_of_m(np.array([[1.0, 4, 3, 2, 5, 5, 5, 5]]), 2, 4).astype(int)
    array([[0, 1, 1, 0, 1, 1, 0, 0]])
    """
    where = "n_of_m"
    check_array(where, "saliency", saliency, ndim=(2, 4), dtypes=FLOAT_DTYPES)
    check_no_nan(where, "saliency", saliency)
    check_count(where, "m", m, 1)
    check_count(where, "n", n, 1, m)
    n, m = int(n), int(m)  # int8 could not divide a length beyond 127
    _check_multiple(where, "the number of inputs (axis 1)", saliency.shape[1], m)
    xp = xp_of(saliency)
    rows = xp.moveaxis(saliency, 1, -1)  # (n_out, n_in), (c_out, kh, kw, c_in)
    groups = rows.reshape(*rows.shape[:-1], rows.shape[-1] // m, m)
    mask = _largest_of_each(groups, n).reshape(rows.shape)
    return xp.ascontiguousarray(xp.moveaxis(mask, -1, 1))


def transposable_two_four(saliency: np.ndarray) -> np.ndarray:
    """Keep two in each row and each column of every 4 x 4 block: the best of all 90 ways.

    W and its transpose are then both 2:4, so the same hardware can multiply by W in the forward
    pass and by the transpose of W in the backward pass.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, shape (n_out, n_in)
        Larger = keep. Finite. NumPy or CuPy, any memory layout. Both sides are multiples of 4.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept; a new C-contiguous array. Of masks that keep equally much
        of a block, the one that keeps the first entry, in row-major order, in which they differ.

    Raises
    ------
    TypeError
        If `saliency` is no float array.
    ValueError
        If `saliency` is no matrix, has a side that is no multiple of 4, or holds an infinity or
        NaN.

    See Also
    --------
    n_of_m : Any pattern, along one axis.

    Notes
    -----
    Of the 1296 blocks with two True in each row, 90 have two in each column. All 90 are scored by
    one product, ``(blocks, 16) @ (16, 90)``, without rounding: the best is the best, and a tie is
    a tie. That takes 180 flops an entry. Blocks do not depend on each other, and are scored 4096
    at a time: a few bytes an entry, and some 8 MB for the scores.

    "At most two" would be 2:4 both ways as well, and a block of seven may keep more than any of
    eight, where the one free row and the one free column meet in an entry that is kept.

    References
    ----------
    Hubara et al. (2021), "Accelerated sparse neural training: a provable and efficient method to
    find N:M transposable masks", defines these masks and finds the best by minimum-cost flow; for
    4 x 4 blocks all can be tried.

    Examples
    --------
    >>> import numpy as np
    >>> saliency = np.array([[9.0, 8, 0, 0], [7, 6, 0, 0], [5, 0, 4, 3], [0, 2, 3, 1]])
    >>> transposable_two_four(saliency).astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    where = "transposable_two_four"
    check_array(where, "saliency", saliency, ndim=2, dtypes=FLOAT_DTYPES)
    _check_finite(where, saliency)
    for axis, name in enumerate(("outputs", "inputs")):
        _check_multiple(where, f"the number of {name} (axis {axis})", saliency.shape[axis], 4)
    xp, (rows, columns) = xp_of(saliency), saliency.shape
    blocks = saliency.reshape(rows // 4, 4, columns // 4, 4).swapaxes(1, 2)
    flat = blocks.reshape(saliency.size // 16, 16)
    panels = xp.array_split(flat, 1 + len(flat) // PANEL_BLOCKS)
    patterns = xp.asarray(_transposable_patterns())
    best = xp.concatenate([_best_patterns(panel, patterns) for panel in panels])
    mask = patterns[best].reshape(blocks.shape).swapaxes(1, 2)
    return xp.ascontiguousarray(mask).reshape(saliency.shape)


def _largest_of_each(groups: np.ndarray, n: int) -> np.ndarray:
    """Mark the n largest along the last axis, ties in order of index."""
    xp, first_kept = xp_of(groups), groups.shape[-1] - n
    ordered = xp.partition(groups, first_kept, axis=-1)
    threshold = ordered[..., first_kept, None]
    above = groups > threshold  # fewer than n of each group
    ties = groups == threshold
    missing = n - above.sum(axis=-1, keepdims=True)
    return above | ties & (xp.cumsum(ties, axis=-1, dtype=np.int32) <= missing)


@cache
def _transposable_patterns() -> np.ndarray:
    """List the 4 x 4 blocks with two True per row and column, (90, 16)."""
    pairs = [[i in two for i in range(4)] for two in combinations(range(4), 2)]
    patterns = np.array(list(product(pairs, repeat=4)))  # (1296, 4, 4)
    return patterns[(patterns.sum(axis=1) == 2).all(axis=1)].reshape(-1, 16)


def _best_patterns(blocks: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Find the pattern that keeps the largest sum of each block, without rounding.

    Entries are read in digits of 48 bits, counted from the largest of their block. The first
    decides, except between patterns that it leaves equal or nearly so: these wait for the next.
    """
    xp = xp_of(blocks)
    rest, columns = blocks.astype(np.float64), patterns.T.astype(np.float64)
    largest = xp.abs(rest).max(axis=1, keepdims=True)
    exponent = xp.frexp(largest)[1]  # largest < 2**exponent
    lead = xp.zeros((len(rest), len(patterns)))  # sum so far less the best
    while rest.any():
        exponent = exponent - DIGIT_BITS  # of the unit of this digit
        digit = xp.trunc(xp.ldexp(rest, -exponent))
        rest -= xp.ldexp(digit, exponent)  # less than a unit
        lead *= 2.0**DIGIT_BITS
        lead += digit @ columns  # of integers, none above 2**53
        lead -= lead.max(axis=1, keepdims=True)
        lead[lead < -16] = -np.inf  # the rest gives or takes less than 8
        alive = xp.isfinite(lead).sum(axis=1, keepdims=True)
        rest *= alive > 1  # where one is left, nothing else matters
    return lead.argmax(axis=1)  # the first of equal ones


def _check_multiple(where: str, argument: str, length: int, m: int) -> None:
    """Refuse an axis that groups of m do not fill."""
    if length % m:
        advice = "leave this layer dense, or pad its weight with zeros"
        raise bad_argument(where, argument, f"be a multiple of {m}", length, advice)


def _check_finite(where: str, saliency: np.ndarray) -> None:
    """Refuse NaN, and infinities too: sums of them cannot be compared."""
    n_finite = int(xp_of(saliency).isfinite(saliency).sum())
    if n_finite < saliency.size:
        actual = f"{saliency.size - n_finite} infinite or NaN of {saliency.size}"
        raise bad_argument(where, "saliency", "be finite", actual, "put finite numbers there")
