"""Stripes, groups of M columns: what an N:M mask keeps of them, and how columns can form them.

Which columns share a stripe decides what an N:M mask keeps. Their order within the stripe does
not matter, and nor does the order of the stripes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, check_count, check_no_nan
from refimpl.formats.base import check_numpy

MOST_DIVISIONS = 10_000  # of a few stripes: 2:4 has 35 of two and 5775 of three, 4:8 6435 of two
PART = 2**16  # entries that are compared at a time, so that they stay in a core's cache


class Ways(NamedTuple):
    """Ways to arrange the columns of a few stripes; the first leaves them as they are.

    Attributes
    ----------
    stripes : ndarray of int, shape (n_stripes, m)
        The different stripes that occur, as places among the columns.
    members : ndarray of int, shape (n_ways, together)
        Which stripes each way consists of.
    """

    stripes: np.ndarray
    members: np.ndarray

    def places(self, choice: Any) -> np.ndarray:
        """Give the places of the columns in the ways numbered `choice`: (..., together, m)."""
        return self.stripes[self.members[choice]]


def kept_saliency(saliency: np.ndarray, n: int, m: int) -> float:
    """Sum the saliency that the best N:M mask keeps.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        Larger = keep, finite. Of a linear weight, (n_out, n_in), or a convolution's,
        (c_out, c_in, kh, kw); the length of axis 1 is a multiple of `m`.
    n, m : int
        Of every `m` inputs side by side, the `n` largest are kept, ``1 <= n <= m``.

    Returns
    -------
    float
        ``(saliency * n_of_m(saliency, n, m)).sum()``, added up in float64.

    Raises
    ------
    TypeError
        If `saliency` is no NumPy array of floats, or `n` or `m` no integer.
    ValueError
        If `saliency` holds NaN, has no finite sum, or has neither 2 nor 4 axes, `n` or `m` is out
        of range, or stripes do not fill axis 1.

    See Also
    --------
    n_of_m : The mask.

    Notes
    -----
    The order of the stripes, and of the columns in a stripe, does not change a bit of the result.

    Examples
    --------
    >>> import numpy as np
    >>> kept_saliency(np.array([[4.0, 3, 2, 0, 1, 0, 0, 0]]), 2, 4)
    8.0
    """
    columns = saliency_columns("kept_saliency", saliency, n, m)
    return math.fsum(kept_by_stripe(columns, stripes_in_order(columns, m), n))


def saliency_columns(where: str, saliency: Any, n: Any, m: Any) -> np.ndarray:
    """Check a saliency and a pattern, and lay the saliency out input by input.

    Parameters
    ----------
    where : str
        Named in the error.
    saliency, n, m
        As for `kept_saliency`.

    Returns
    -------
    ndarray of float64, shape (n_in, n_rows)
        A row for each input, C-contiguous. A convolution has a column for each output and kernel
        pixel.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_numpy(where, "saliency", saliency)
    check_array(where, "saliency", saliency, ndim=(2, 4), dtypes=FLOAT_DTYPES)
    check_no_nan(where, "saliency", saliency)
    check_count(where, "m", m, 1)
    check_count(where, "n", n, 1, m)
    n_in = saliency.shape[1]
    if n_in % m:
        requirement, advice = f"be a multiple of {m}", "pad with zeros"
        raise bad_argument(where, "the number of inputs (axis 1)", requirement, n_in, advice)
    largest = float(np.abs(saliency).max(initial=0))
    if largest * saliency.size == math.inf:
        advice = "scale it down, and clip infinities"
        raise bad_argument(where, "saliency", "have a finite sum", f"entries of {largest}", advice)
    n_rows = saliency.shape[0] * math.prod(saliency.shape[2:])
    columns = np.moveaxis(saliency, 1, 0).reshape(n_in, n_rows)
    return np.ascontiguousarray(columns, np.float64)


def stripes_in_order(columns: np.ndarray, m: int) -> np.ndarray:
    """Number the columns, m to a stripe: (n_stripes, m)."""
    return np.arange(len(columns)).reshape(-1, m)


def kept_by_stripe(columns: np.ndarray, stripes: np.ndarray, n: int) -> np.ndarray:
    """Sum the n largest entries of every row of each stripe.

    Parameters
    ----------
    columns : ndarray of float, shape (n_columns, n_rows)
        From `saliency_columns`.
    stripes : ndarray of int, shape (..., m)
        Columns that share a stripe.
    n : int
        How many entries stay in each row.

    Returns
    -------
    ndarray of float, shape (...)
        The same columns give the same bits, in whatever order they come.

    Notes
    -----
    An insertion sort that forgets all but the n largest: about ``2 n m`` flops a row.
    """
    top: list[np.ndarray] = []  # of the entries seen so far, the largest first
    for column in np.moveaxis(stripes, -1, 0):
        entry = columns[column]  # (..., n_rows)
        for i, larger in enumerate(top):
            top[i], entry = np.maximum(larger, entry), np.minimum(larger, entry)
        if len(top) < n:
            top.append(entry)
    return sum(top).sum(axis=-1)


def gain(columns: np.ndarray, before: np.ndarray, after: np.ndarray, n: int) -> float:
    """Say how much more stripes keep than others; the sign is exact, whatever the rounding."""
    kept_after, kept_before = (kept_by_stripe(columns, s, n) for s in (after, before))
    return math.fsum([*kept_after, *-kept_before])


def score_ways(
    columns: np.ndarray, units: np.ndarray, n: int, ways: Ways
) -> Iterator[tuple[slice, np.ndarray]]:
    """Work out what a few stripes keep in each way to arrange their columns.

    Parameters
    ----------
    columns : ndarray of float, shape (n_columns, n_rows)
        From `saliency_columns`.
    units : ndarray of int, shape (n_units, together * m)
        The columns of the stripes of each unit.
    n : int
        How many entries stay in each row of a stripe.
    ways : Ways
        To arrange one unit.

    Yields
    ------
    part : slice
        Some of the units, few enough for a core's cache.
    kept : ndarray of float, shape (units of the part, n_ways)
        What each way keeps.
    """
    entries = len(ways.stripes) * columns.shape[1]  # of one unit
    size = max(1, PART // max(1, entries))
    for first in range(0, len(units), size):
        part = slice(first, first + size)
        kept = kept_by_stripe(columns, units[part][:, ways.stripes], n)  # (part, n_stripes)
        yield part, sum(kept[:, member] for member in ways.members.T)


@cache
def swaps(m: int) -> Ways:
    """List what becomes of two stripes of m if nothing, or one column of each, is swapped."""
    left, right = list(range(m)), list(range(m, 2 * m))
    swapped = [
        ([*left[:i], right[j], *left[i + 1 :]], [*right[:j], left[i], *right[j + 1 :]])
        for i in range(m)
        for j in range(m)
    ]
    return _numbered([(left, right), *swapped])


def divisions(where: str, m: int, together: int) -> Ways:
    """List all ways to divide the columns of a few stripes into stripes.

    Parameters
    ----------
    where : str
        Named in the error.
    m : int
        Columns of a stripe.
    together : int
        How many stripes.

    Returns
    -------
    Ways
        ``(m together)! / (m!**together together!)`` of them.

    Raises
    ------
    ValueError
        If there are more than `MOST_DIVISIONS`.
    """
    count = math.factorial(m * together) // math.factorial(m) ** together
    count //= math.factorial(together)
    if count > MOST_DIVISIONS:
        requirement = f"leave at most {MOST_DIVISIONS} divisions of {together} stripes"
        advice = "use swap_channels"
        raise bad_argument(where, "m", requirement, f"{count} with m={m}", advice)
    return _all_divisions(m, together)


@cache
def _all_divisions(m: int, together: int) -> Ways:
    return _numbered(list(_divide(tuple(range(m * together)), m)))


def _divide(places: tuple[int, ...], m: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield all divisions; a stripe begins with the first place that earlier ones leave."""
    if not places:
        yield ()
        return
    first, rest = places[0], places[1:]
    for others in combinations(rest, m - 1):
        left = tuple(place for place in rest if place not in others)
        for divided in _divide(left, m):
            yield ((first, *others), *divided)


def _numbered(arrangements: list) -> Ways:
    """Number the different stripes of arrangements, (n_ways, together, m)."""
    places = np.array(arrangements)
    stripes, members = np.unique(places.reshape(-1, places.shape[2]), axis=0, return_inverse=True)
    return Ways(stripes, members.reshape(places.shape[:2]))
