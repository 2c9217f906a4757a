"""What are the best values for the weights that stay? The reference for every compensation."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from refimpl.arrays import check_array
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.prune.hessian import check_hessian, not_positive_definite, pivot_is_rounding


def reconstruction_error(w: np.ndarray, new_w: np.ndarray, hessian: np.ndarray) -> float:
    r"""Measure how far a layer's outputs move when its weight does.

    Parameters
    ----------
    w, new_w : ndarray of float32 or float64, shape (n_out, n_in)
        The weight before and after.
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        :math:`H = \frac2n \sum_t x_t x_t^\top`, as `input_hessian` returns.

    Returns
    -------
    float
        :math:`\frac1n \sum_t \lVert (W' - W) x_t \rVert^2`: the squared change of the outputs,
        summed over outputs, averaged over the inputs that `hessian` was made of. Computed in
        float64.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit.

    Notes
    -----
    With :math:`D = W' - W` this is :math:`\tfrac12 \operatorname{tr}(D H D^\top)`, the quadratic
    form that all methods of this package minimise, each under a constraint of its own.
    :math:`2 n_{out} n_{in}^2` FLOPs.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]])  # two inputs
    >>> hessian = 2 / 2 * x.T @ x
    >>> reconstruction_error(np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]]), hessian)
    2.0
    """
    where = "reconstruction_error"
    check_hessian(where, hessian)
    check_array(where, "w", w, shape=(-1, len(hessian)), dtypes=TRAINING_DTYPES)
    check_array(where, "new_w", new_w, shape=w.shape, dtypes=TRAINING_DTYPES)
    change = new_w.astype(np.float64) - w
    return float(np.vdot(change @ hessian.astype(np.float64), change)) / 2


def least_squares_refit(w: np.ndarray, mask: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    r"""Give the weights that a mask keeps the values that change the layer's outputs least.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        The weight before pruning, whose outputs are to be matched.
    mask : ndarray of bool, same shape
        True = kept.
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        As `input_hessian` returns, damped if its inputs are few or depend on each other.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        New, zero where `mask` is False. No other weight with these zeros has a smaller
        `reconstruction_error`.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, or `hessian` is not positive definite, up to rounding,
        on the places that a row keeps.

    Notes
    -----
    Each row is a least-squares problem of its own. With K the places kept and R those removed,
    the gradient of the error vanishes where

    .. math:: w'_K = w_K + H_{KK}^{-1} H_{KR} w_R .

    Of a row that keeps k places: :math:`k^3 / 3 + 2 k (n_{in} - k) + 2 k^2` FLOPs, so
    :math:`O(n_{out} n_{in}^3)` in all, against one :math:`O(n_{in}^3)` for all rows together in
    `sparsegpt`. Rows of equal masks share a factorisation.

    References
    ----------
    Frantar and Alistarh (2022), section 4: the optimum for a fixed mask.

    Examples
    --------
    Two inputs that always agree: the one that stays takes over from the other.

    >>> import numpy as np
    >>> hessian = np.array([[2.0, 1.9], [1.9, 2.0]])
    >>> w, mask = np.array([[1.0, 1.0]]), np.array([[True, False]])
    >>> least_squares_refit(w, mask, hessian)
    array([[1.95, 0.  ]])
    """
    where = "least_squares_refit"
    check_hessian(where, hessian)
    check_array(where, "w", w, shape=(-1, len(hessian)), dtypes=TRAINING_DTYPES)
    check_array(where, "mask", mask, shape=w.shape, dtypes=(np.bool_,))
    new_w = np.zeros_like(w)
    patterns, pattern_of_row = np.unique(mask, axis=0, return_inverse=True)
    for number, kept in enumerate(patterns):
        rows = np.flatnonzero(pattern_of_row.ravel() == number)
        new_w[np.ix_(rows, kept)] = _refit_rows(where, w[rows].astype(np.float64), kept, hessian)
    return new_w


def _refit_rows(where: str, w: np.ndarray, kept: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Values at the kept places of rows with one mask."""
    if not kept.any():
        return w[:, kept]
    block = hessian[np.ix_(kept, kept)]
    pull = hessian[np.ix_(kept, ~kept)] @ w[:, ~kept].T  # (n_kept, n_rows)
    try:
        factor = cho_factor(block.astype(np.float64), check_finite=False)
    except LinAlgError:
        raise not_positive_definite(where, block, hessian) from None
    if pivot_is_rounding(factor[0], block.diagonal()):
        raise not_positive_definite(where, block, hessian)
    return w[:, kept] + cho_solve(factor, pull, check_finite=False).T
