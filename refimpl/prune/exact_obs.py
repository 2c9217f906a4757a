"""Exact OBS, row by row: remove the cheapest weight, repair the rest, and ask again."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count
from refimpl.kernels import numba_exact_obs
from refimpl.kernels.layer_kernels import compiled_for
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.prune.granularity import check_pattern
from refimpl.prune.hessian import check_hessian, damp, inverse_hessian
from refimpl.prune.refit import least_squares_refit
from refimpl.prune.removal_trace import RemovalTrace


def exact_obs(
    w: np.ndarray,
    hessian: np.ndarray,
    *,
    sparsity: float | None = None,
    n: int | None = None,
    m: int | None = None,
    damping: float = 0.01,
) -> np.ndarray:
    r"""Prune a layer greedily, one weight at a time, each removal repaired by all that stay.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        The weight of a layer.
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        As `input_hessian` returns, not damped.
    sparsity : float, optional
        Fraction to remove, in ``[0, 1)``: this, or `n` and `m`. How much of it falls on a row is
        chosen by cost, and a row may end up empty; see `RemovalTrace.mask`.
    n, m : int, optional
        Keep `n` of every `m` consecutive inputs instead, ``1 <= n <= m``; `m` divides ``n_in``.
    damping : float
        As `damp` takes it.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        New. Exactly ``count_kept(w.size, sparsity)`` places, or `n` of each group, are kept;
        the others are 0. So are all weights of a dead input, kept or not: it is always 0, they
        cost nothing, and go first. Of equal costs, the last goes first. What is 0 in `w` stays 0.

    Raises
    ------
    TypeError, ValueError
        If a dtype, a shape or an option does not fit, or the damped Hessian is not positive
        definite: the message says which damping to try.

    See Also
    --------
    exact_obs_trace : The search alone, for many sparsities from one run.
    exact_obs_blocks : Several consecutive weights at a time.
    refimpl.prune.sparsegpt : A factor n_in cheaper, with an order of removal given in advance.

    Notes
    -----
    The result is `least_squares_refit` of the chosen mask, which is what the search itself would
    have left in the row: every removal keeps the rest optimal. The search is in float64.

    A row's trace takes about :math:`n_{in}^3 / 3` FLOPs, a layer's :math:`O(n_{out} n_{in}^3)`.
    For d weights that do not come in rows with one Hessian, each step of OBS updates d x d
    numbers: :math:`O(d^3)` in all, and with a new inverse at every step :math:`O(d^4)`.

    References
    ----------
    Frantar and Alistarh (2022), "Optimal brain compression", algorithms 1 and 2.

    Examples
    --------
    Inputs 0 and 1 nearly agree, so either can do the work of both. Magnitude would remove the 1.

    >>> import numpy as np
    >>> hessian = np.array([[2.0, 1.9, 0], [1.9, 2.0, 0], [0, 0, 2.0]])
    >>> exact_obs(np.array([[2.0, 2.0, 1.0]]), hessian, sparsity=0.3, damping=0)
    array([[0. , 3.9, 1. ]])
    """
    where = "exact_obs"
    w, damped = without_dead_inputs(where, w, hessian, damping)
    check_pattern(where, len(damped), sparsity=sparsity, n=n, m=m)
    if sparsity is not None:
        mask = exact_obs_trace(w, inverse_hessian(damped)).mask(sparsity)
    else:
        mask = exact_obs_trace(w, inverse_hessian(damped), n=n, m=m).last_mask()
    return least_squares_refit(w, mask & (w != 0), damped)


def exact_obs_trace(
    w: np.ndarray, h_inv: np.ndarray, *, n: int = 0, m: int | None = None
) -> RemovalTrace:
    r"""Find in which order exact OBS removes the weights of every row, and what each costs.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        The weight of a layer; 0 where its input is dead.
    h_inv : ndarray of float32 or float64, shape (n_in, n_in)
        As `inverse_hessian` returns. The search runs in its dtype.
    n, m : int, optional
        A weight may go only while its group of `m` still holds more than `n`. Left out, all may.

    Returns
    -------
    RemovalTrace
        Every removal, until each group holds `n`.

    Raises
    ------
    TypeError, ValueError
        If a dtype, a shape or a pattern does not fit, or rounding has eaten up `h_inv`.

    Notes
    -----
    To read several sparsities off one run, damp once and keep the damped Hessian for the refit:

    >>> import numpy as np
    >>> from refimpl.prune import damp, inverse_hessian, least_squares_refit
    >>> damped, w = damp(np.array([[2.0, 1.0], [1.0, 2.0]]), 0), np.array([[1.0, 3.0], [2.0, 4.0]])
    >>> trace = exact_obs_trace(w, inverse_hessian(damped))
    >>> trace.curve()
    array([ 0.  ,  0.75,  3.75, 16.  , 41.  ])
    >>> least_squares_refit(w, trace.mask(0.5), damped)
    array([[0. , 3.5],
           [0. , 5. ]])
    """
    where = "exact_obs_trace"
    check_trace_arguments(where, w, h_inv)
    m = h_inv.shape[0] if m is None else m
    check_divides(where, "m", m, w)
    check_count(where, "n", n, 0, m)
    w = np.ascontiguousarray(w, dtype=h_inv.dtype)
    h_inv = np.ascontiguousarray(h_inv)
    if compiled_for(w):
        shape = len(w), w.shape[1] // m * (m - n)
        order, increase = np.empty(shape, dtype=np.int64), np.empty(shape)
        numba_exact_obs.remove_greedily(w, h_inv, int(n), int(m), order, increase)
    else:
        order, increase = remove_greedily(w, h_inv, int(n), int(m))
    check_costs(where, increase)
    return RemovalTrace(order, increase, w.shape[1])


def remove_greedily(
    w: np.ndarray, h_inv: np.ndarray, n: int, m: int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Remove the weights of every row one by one, the cheapest first: the definition.

    Parameters
    ----------
    w, h_inv
        As `exact_obs_trace` takes them, of one dtype.
    n, m : int
        A weight may go while its group of `m` still holds more than `n`.

    Returns
    -------
    order : ndarray of int64, shape (n_out, n_in // m * (m - n))
        Places in the order of removal; of equal costs the last first, as they are ranked elsewhere.
    increase : ndarray of float64, same shape
        What each removal adds to the error.

    Notes
    -----
    With S the places that remain in a row, each step is OBS in that row:

    .. math::

        q = \arg\min_{q \in S} \frac{w_q^2}{2 [H_S^{-1}]_{qq}}, \qquad
        w \leftarrow w - \frac{w_q}{[H_S^{-1}]_{qq}} H_S^{-1} e_q, \qquad
        H_S^{-1} \leftarrow H_S^{-1} - \frac{H_S^{-1} e_q e_q^\top H_S^{-1}}{[H_S^{-1}]_{qq}} .

    `refimpl.kernels.numba_exact_obs` finds the same without ever updating the matrix.

    References
    ----------
    Frantar and Alistarh (2022), algorithm 1 and lemma 1.

    Examples
    --------
    >>> import numpy as np
    >>> remove_greedily(np.array([[3.0, 1.0, 2.0]]), np.eye(3), 0, 3)
    (array([[1, 2, 0]]), array([[0.5, 2. , 4.5]]))
    """
    shape = len(w), w.shape[1] // m * (m - n)
    order, increase = np.empty(shape, dtype=np.int64), np.empty(shape)
    for row in range(len(w)):
        _remove_from_row(w[row].copy(), h_inv.copy(), n, m, order[row], increase[row])
    return order, increase


def _remove_from_row(
    w: np.ndarray, h_inv: np.ndarray, n: int, m: int, order: np.ndarray, increase: np.ndarray
) -> None:
    remains, left = np.ones(w.size, dtype=bool), np.full(w.size // m, m)
    for step in range(order.size):
        may_go = remains & np.repeat(left > n, m)
        cost = np.full(w.size, np.inf)
        cost[may_go] = w[may_go] ** 2 / (2 * h_inv.diagonal()[may_go])
        q = w.size - 1 - int(cost[::-1].argmin())  # the last of equal ones
        order[step], increase[step] = q, cost[q]
        column = h_inv[:, q] / h_inv[q, q]
        w -= w[q] * column
        h_inv -= np.outer(column, h_inv[q])
        remains[q], left[q // m] = False, left[q // m] - 1


def without_dead_inputs(
    where: str, w: np.ndarray, hessian: np.ndarray, damping: float
) -> tuple[np.ndarray, np.ndarray]:
    """Damp in float64, and set the weights of dead inputs to 0."""
    check_hessian(where, hessian)
    check_array(where, "w", w, shape=(-1, len(hessian)), dtypes=TRAINING_DTYPES)
    dead = hessian.diagonal() == 0
    return np.where(dead, w.dtype.type(0), w), damp(hessian.astype(np.float64), damping)


def check_trace_arguments(where: str, w: Any, h_inv: Any) -> None:
    """Refuse a weight and an inverse Hessian that do not fit each other."""
    check_array(where, "h_inv", h_inv, ndim=2, dtypes=TRAINING_DTYPES)
    check_array(where, "h_inv", h_inv, shape=(len(h_inv), len(h_inv)))
    check_array(where, "w", w, shape=(-1, len(h_inv)), dtypes=TRAINING_DTYPES)
    if not np.isfinite(w).all():
        advice = "look for an overflow where it was trained"
        raise bad_argument(where, "w", "be finite", "infinity or NaN", advice)
    _check_squares(where, w, h_inv.dtype)


def _check_squares(where: str, w: np.ndarray, dtype: np.dtype) -> None:
    """Refuse weights whose costs would all be 0, and in no order, or infinite."""
    largest = np.abs(w).max(initial=0).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        square = largest * largest
    if w.any() and not np.finfo(dtype).tiny <= square < np.inf:
        requirement = f"have squares that {dtype} can hold"
        actual, advice = f"a largest magnitude of {largest:.3g}", "scale it, and the result back"
        raise bad_argument(where, "w", requirement, actual, advice)


def check_divides(where: str, argument: str, length: Any, w: np.ndarray) -> None:
    """Refuse groups or blocks that do not fill a row."""
    check_count(where, argument, length, 1)
    if w.shape[1] % length:
        advice = "pad with zeros, or choose a divisor"
        requirement = f"divide the {w.shape[1]} inputs"
        raise bad_argument(where, argument, requirement, length, advice)


def check_costs(where: str, increase: np.ndarray) -> None:
    """Refuse what comes of a diagonal that fell to 0 or below."""
    if not (np.isfinite(increase).all() and (increase >= 0).all()):
        requirement = "stay positive definite while inputs are removed"
        advice = "damp the Hessian more, or search in float64"
        raise bad_argument(where, "h_inv", requirement, "a cost below 0 or NaN", advice)
