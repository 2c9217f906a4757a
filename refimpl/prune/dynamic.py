"""One update of a mask that keeps its count, when it is due, and what it costs: SET and RigL."""

from __future__ import annotations

import math

import numpy as np

from refimpl.arrays import check_count, check_fraction, check_positive
from refimpl.prune.drop_and_grow import (
    drop_smallest,
    drop_smallest_of_each_sign,
    grow_at_random,
    grow_by_gradient,
)


def rigl_update(
    w: np.ndarray, mask: np.ndarray, gradient: np.ndarray, fraction: float
) -> np.ndarray:
    r"""Replace the smallest active weights by those with the largest gradients.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights, NumPy or CuPy; those that `mask` prunes are not looked at.
    mask : ndarray of bool, same shape
        True = active.
    gradient : ndarray of float, same shape
        Dense: the derivative of the loss by every weight, pruned ones included.
    fraction : float
        Share of the active weights to drop, in ``[0, 1)``.

    Returns
    -------
    ndarray of bool, same shape
        A new mask with as many True entries as `mask`.

    Raises
    ------
    TypeError, ValueError
        If shapes or dtypes do not fit, `fraction` is out of range, or a number that is ranked
        is NaN.

    See Also
    --------
    drop_smallest, grow_by_gradient : The two halves.
    refimpl.prune.RigL : Trains a network this way.

    Notes
    -----
    With :math:`k` active weights and :math:`d` of them to drop, by `count_kept`,

    .. math::

        K = \operatorname{top}_{k - d} \{\lvert w_i \rvert : m_i = 1\}, \qquad
        G = \operatorname{top}_{d} \{\lvert g_i \rvert : i \notin K\}, \qquad m' = K \cup G .

    `G` is chosen among everything outside `K`, so a weight that was dropped a moment ago may
    return, as a new one. Ties go to the lowest index. For `n` weights O(n) time, and the
    gradient costs what the weight gradient of a dense layer does.

    References
    ----------
    Evci et al. (2020), Algorithm 1: `drop_smallest` and then `grow_by_gradient`. Differs from
    their code in rounding the number of dropped weights, which is cut off there, and in ties,
    which are broken by noise there.

    Examples
    --------
    >>> import numpy as np
    >>> w, mask = np.array([3.0, -1.0, 0.0, 0.0]), np.array([True, True, False, False])
    >>> rigl_update(w, mask, np.array([9.0, 1.0, -2.0, 0.5]), 0.5)
    array([ True, False,  True, False])
    """
    kept = drop_smallest(w, mask, fraction)
    return grow_by_gradient(kept, gradient, _n_true(mask) - _n_true(kept))


def set_update(
    w: np.ndarray, mask: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Replace the active weights nearest to zero, of each sign, by others drawn at random.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights, NumPy or CuPy; those that `mask` prunes are not looked at.
    mask : ndarray of bool, same shape
        True = active.
    fraction : float
        Share of the positive weights to drop, and of the negative ones, in ``[0, 1)``.
    rng : numpy.random.Generator
        Draws what grows.

    Returns
    -------
    ndarray of bool, same shape
        A new mask with as many True entries as `mask`.

    Raises
    ------
    TypeError, ValueError
        As `rigl_update`; if `rng` is no Generator.

    See Also
    --------
    set_update_by_magnitude : Drops by magnitude, whatever the signs.
    drop_smallest_of_each_sign, grow_at_random : The two halves.

    Notes
    -----
    Drawn is among everything outside the kept weights, so one that was dropped a moment ago may
    return, as a new one. For `n` weights O(n) time; no gradient is needed.

    References
    ----------
    Mocanu et al. (2018), SET: after each epoch a fraction zeta of the smallest positive and of
    the largest negative weights goes, and as many random ones come, anywhere outside what was
    kept. Differs from the authors' code in exact counts: there, two thresholds decide.

    Examples
    --------
    >>> import numpy as np
    >>> w, mask = np.array([3.0, 1.0, -0.1, -0.2, 0.0]), np.array([True] * 4 + [False])
    >>> mask = set_update(w, mask, 0.5, np.random.default_rng(0))
    >>> int(mask.sum()), mask[[0, 3]]
    (4, array([ True,  True]))
    """
    kept = drop_smallest_of_each_sign(w, mask, fraction)
    return grow_at_random(kept, _n_true(mask) - _n_true(kept), rng)


def set_update_by_magnitude(
    w: np.ndarray, mask: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Replace the smallest active weights by others drawn at random.

    Parameters
    ----------
    w, mask, fraction, rng
        As for `set_update`; `fraction` is that of all active weights.

    Returns
    -------
    ndarray of bool, same shape
        A new mask with as many True entries as `mask`.

    Raises
    ------
    TypeError, ValueError
        As `set_update`.

    References
    ----------
    Evci et al. (2020), section 4: SET as it is compared with RigL there, with RigL's drop.

    Examples
    --------
    >>> import numpy as np
    >>> w, mask = np.array([3.0, 1.0, -0.1, -0.2, 0.0]), np.array([True] * 4 + [False])
    >>> mask = set_update_by_magnitude(w, mask, 0.5, np.random.default_rng(0))
    >>> int(mask.sum()), mask[[0, 1]]
    (4, array([ True,  True]))
    """
    kept = drop_smallest(w, mask, fraction)
    return grow_at_random(kept, _n_true(mask) - _n_true(kept), rng)


def cosine_drop_fraction(step: int, *, alpha: float, t_end: int) -> float:
    r"""Let the share of dropped weights fall along half a cosine, to 0 at `t_end` and after.

    Parameters
    ----------
    step : int
        Training step, >= 0.
    alpha : float
        Share at step 0, in ``[0, 1)``; 0.3 in the paper.
    t_end : int
        First step without any drop, >= 1; three quarters of the training in the paper.

    Returns
    -------
    float
        In [0, alpha].

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    :math:`\tfrac\alpha2 \left(1 + \cos(\pi t / T_\mathrm{end})\right)`, and 0 for
    :math:`t \ge T_\mathrm{end}`, where the cosine would rise again.

    References
    ----------
    Evci et al. (2020), section 3, "update schedule".

    Examples
    --------
    >>> [round(cosine_drop_fraction(t, alpha=0.3, t_end=100), 3) for t in (0, 50, 100, 200)]
    [0.3, 0.15, 0.0, 0.0]
    """
    where = "cosine_drop_fraction"
    check_count(where, "step", step, 0)
    check_fraction(where, "alpha", alpha)
    check_count(where, "t_end", t_end, 1)
    if step >= t_end:
        return 0.0
    return alpha / 2 * (1 + math.cos(math.pi * int(step) / int(t_end)))


def rigl_flops(sparse: float, dense: float, delta_t: int) -> float:
    r"""Count RigL's training FLOPs for one example, on average over the steps up to `t_end`.

    Parameters
    ----------
    sparse, dense : float
        FLOPs of the forward pass of one example through the sparse network, and through a dense
        one of the same shape; > 0.
    delta_t : int
        Steps from one update of the masks to the next, >= 1.

    Returns
    -------
    float
        FLOPs. Without any update, a sparse training takes ``3 * sparse``, a dense one
        ``3 * dense``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Of :math:`\Delta T + 1` steps, :math:`\Delta T` take :math:`3 f_S` and one takes
    :math:`2 f_S + f_D`, for the dense gradient of the weights:

    .. math:: \frac{3 f_S \Delta T + 2 f_S + f_D}{\Delta T + 1} .

    Where an update replaces a step, one step in :math:`\Delta T` is dense; the paper counts one
    in :math:`\Delta T + 1`.

    References
    ----------
    Evci et al. (2020), the appendix that counts FLOPs.

    Examples
    --------
    >>> rigl_flops(1.0, 100.0, 100), rigl_flops(1.0, 100.0, 1)
    (3.98019801980198, 52.5)
    """
    where = "rigl_flops"
    check_positive(where, "sparse", sparse)
    check_positive(where, "dense", dense)
    check_count(where, "delta_t", delta_t, 1)
    return (3 * sparse * delta_t + 2 * sparse + dense) / (delta_t + 1)


def _n_true(mask: np.ndarray) -> int:
    return int(mask.sum())
