"""Which weights go, and which come in their place? The two halves of an update of a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    check_no_nan,
    check_rng,
    xp_of,
)
from refimpl.masks import count_kept, keep_top_k


def drop_smallest(w: np.ndarray, mask: np.ndarray, fraction: float) -> np.ndarray:
    """Keep all but the given fraction of the active weights: the smallest go.

    Parameters
    ----------
    w, mask, fraction
        As for `refimpl.prune.rigl_update`.

    Returns
    -------
    ndarray of bool, same shape
        The active weights that stay: a new array, True only where `mask` is, exactly
        ``count_kept(active, fraction)`` times. Ties go to the lowest index.

    Raises
    ------
    TypeError, ValueError
        As `refimpl.prune.rigl_update`.

    Examples
    --------
    >>> import numpy as np
    >>> drop_smallest(np.array([3.0, -1.0, 0.0]), np.array([True, True, False]), 0.5)
    array([ True, False, False])
    """
    _check_weights("drop_smallest", w, mask, fraction)
    return _keep_among(mask, xp_of(w).abs(w), fraction)


def drop_smallest_of_each_sign(w: np.ndarray, mask: np.ndarray, fraction: float) -> np.ndarray:
    """Keep all but the smallest positive and the largest negative weights, a fraction of each.

    Parameters
    ----------
    w, mask, fraction
        As for `refimpl.prune.set_update`.

    Returns
    -------
    ndarray of bool, same shape
        The active weights that stay, as `drop_smallest`, with a count for each sign. An active
        0 counts as the smallest of the positive weights.

    Raises
    ------
    TypeError, ValueError
        As `refimpl.prune.set_update`.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.array([3.0, 1.0, -0.1, -0.2])
    >>> drop_smallest_of_each_sign(w, np.ones(4, dtype=bool), 0.5)
    array([ True, False, False,  True])
    """
    _check_weights("drop_smallest_of_each_sign", w, mask, fraction)
    positive, negative = mask & (w >= 0), mask & (w < 0)
    return _keep_among(positive, w, fraction) | _keep_among(negative, -w, fraction)


def grow_by_gradient(kept: np.ndarray, gradient: np.ndarray, n_grow: int) -> np.ndarray:
    """Add the `n_grow` weights with the largest gradients to those that are kept.

    Parameters
    ----------
    kept : ndarray of bool, any shape
        Not to be grown; everything else is a candidate.
    gradient : ndarray of float, same shape
        Ranked by absolute value outside `kept`; ties go to the lowest index.
    n_grow : int
        At most as many as there are candidates.

    Returns
    -------
    ndarray of bool, same shape
        A new mask: `kept` and `n_grow` more.

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes do not fit, `n_grow` is out of range, or a candidate's gradient is
        NaN.

    Examples
    --------
    >>> import numpy as np
    >>> kept = np.array([True, False, False])
    >>> grow_by_gradient(kept, np.array([9.0, -2.0, 1.0]), 1)
    array([ True,  True, False])
    """
    where = "grow_by_gradient"
    _check_candidates(where, kept, n_grow)
    check_array(where, "gradient", gradient, shape=kept.shape, dtypes=FLOAT_DTYPES)
    xp = xp_of(kept, gradient)
    scores = xp.where(kept, gradient.dtype.type(-np.inf), xp.abs(gradient))
    check_no_nan(where, "gradient", scores)
    return kept | keep_top_k(scores, n_grow)


def grow_at_random(kept: np.ndarray, n_grow: int, rng: np.random.Generator) -> np.ndarray:
    """Add `n_grow` weights, each set of them equally likely, to those that are kept.

    Parameters
    ----------
    kept : ndarray of bool, any shape
        Not to be grown; everything else is a candidate.
    n_grow : int
        At most as many as there are candidates.
    rng : numpy.random.Generator
        Asked for `n_grow` ranks among the candidates, counted in C order.

    Returns
    -------
    ndarray of bool, same shape
        A new mask: `kept` and `n_grow` more.

    Raises
    ------
    TypeError, ValueError
        If `kept` is no boolean array, `n_grow` is out of range or `rng` no Generator.

    Examples
    --------
    >>> import numpy as np
    >>> grow_at_random(np.array([True, False, False]), 2, np.random.default_rng(0))
    array([ True,  True,  True])
    """
    _check_candidates("grow_at_random", kept, n_grow)
    check_rng("grow_at_random", rng)
    xp = xp_of(kept)
    candidates = xp.flatnonzero(~kept)
    ranks = rng.choice(candidates.size, size=int(n_grow), replace=False)
    mask = kept.flatten()  # in C order, a copy
    mask[candidates[xp.asarray(ranks)]] = True
    return mask.reshape(kept.shape)


def _keep_among(members: np.ndarray, scores: np.ndarray, fraction: float) -> np.ndarray:
    """Keep all but `fraction` of the members, those of largest score."""
    scores = xp_of(scores).where(members, scores, scores.dtype.type(-np.inf))
    return members & keep_top_k(scores, count_kept(int(members.sum()), fraction))


def _check_weights(where: str, w: Any, mask: Any, fraction: Any) -> None:
    check_array(where, "w", w, dtypes=FLOAT_DTYPES)
    check_array(where, "mask", mask, shape=w.shape, dtypes=(np.bool_,))
    check_fraction(where, "fraction", fraction)
    xp = xp_of(w, mask)
    check_no_nan(where, "active w", xp.where(mask, w, w.dtype.type(0)))


def _check_candidates(where: str, kept: Any, n_grow: Any) -> None:
    check_array(where, "kept", kept, dtypes=(np.bool_,))
    check_count(where, "n_grow", n_grow, 0)
    n_candidates = kept.size - int(kept.sum())
    if n_grow > n_candidates:
        advice = "grow as many as were dropped"
        requirement = f"be at most the {n_candidates} outside kept"
        raise bad_argument(where, "n_grow", requirement, n_grow, advice)
