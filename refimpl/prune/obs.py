"""Optimal Brain Surgeon: remove one weight at a time, and let all others make up for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.saliency import obs as obs_saliency


class ObsTrace(NamedTuple):
    r"""What a run of `obs` did, one removal after the other.

    Attributes
    ----------
    order : ndarray of int64, shape (n_remove,)
        Flat indices of the weights, in the order in which they went.
    saliencies : ndarray of float64, shape (n_remove,)
        By how much each removal raised the quadratic error. Their running sum is what
        :math:`\tfrac12 (w' - w)^\top H (w' - w)` has grown to.
    weights : ndarray, n_remove + 1 arrays of the shape of `w`
        ``weights[k]`` is what `obs` returns for k removals.
    """

    order: np.ndarray
    saliencies: np.ndarray
    weights: np.ndarray


def obs(w: np.ndarray, h_inv: np.ndarray, n_remove: int) -> np.ndarray:
    r"""Remove weights one at a time, each time the one that costs least once the others adjust.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        Weights at a minimum of the error, n in all. Those that are 0 already cost nothing: they
        count, and go first.
    h_inv : ndarray of float32 or float64, shape (n, n)
        Inverse of the error's Hessian, rows and columns in the order of ``w.ravel()``.
        Symmetric and positive definite.
    n_remove : int
        How many weights are 0 afterwards, in ``[0, n]``.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        A new array with `n_remove` exact zeros, or as many as `w` had, if that is more.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above. A Hessian that is not positive definite has no least
        increase of the error to speak of, and nothing is done instead.

    See Also
    --------
    obs_trace : The same run with every stage of it.
    surgeon : Whole networks, with a new Hessian after each removal.

    Notes
    -----
    Each round takes the weight of least saliency :math:`w_i^2 / (2 [H^{-1}]_{ii})`, ties to the
    lowest index, and then calls `obs_update` and `downdate_inverse`. All of it happens in
    float64. The result is the least-squares refit of its own mask: no other weights with these
    zeros have a smaller quadratic error.

    :math:`n^3 / 3` FLOPs to see that the inverse is positive definite, and :math:`3 n^2` for
    each removal; :math:`O(n^3)` for all. Four arrays of the size of `h_inv`: for 1000 weights
    32 MB, for 100,000 320 GB.

    References
    ----------
    Hassibi and Stork (1992), the procedure in section 2. Differs in that the inverse is
    down-dated, not computed anew from the pruned network's gradients, which only a network has:
    see `surgeon`.

    Examples
    --------
    Two weights that nearly always act together. The second is the smaller, and the first takes
    over from it.

    >>> import numpy as np
    >>> h_inv = np.linalg.inv(np.array([[2.0, 1.9], [1.9, 2.0]]))
    >>> obs(np.array([3.0, 1.0]), h_inv, 1)
    array([3.95, 0.  ])
    """
    return _run("obs", w, h_inv, n_remove).weights[-1].copy()


def obs_trace(w: np.ndarray, h_inv: np.ndarray, n_remove: int | None = None) -> ObsTrace:
    """Run `obs` once, and keep the weights of every stage: any count is read off one run.

    Parameters
    ----------
    w, h_inv : ndarray
        As for `obs`.
    n_remove : int, optional
        How far to go; by default until no weight is left.

    Returns
    -------
    ObsTrace
        New arrays. The weights of all stages take ``(n_remove + 1) * w.nbytes``.

    Raises
    ------
    TypeError, ValueError
        As `obs`.

    Examples
    --------
    >>> import numpy as np
    >>> h_inv = np.linalg.inv(np.array([[2.0, 1.9], [1.9, 2.0]]))
    >>> trace = obs_trace(np.array([3.0, 1.0]), h_inv)
    >>> trace.order, trace.weights[1]
    (array([1, 0]), array([3.95, 0.  ]))
    >>> trace.saliencies.round(4)
    array([ 0.0975, 15.6025])
    """
    return _run("obs_trace", w, h_inv, np.size(w) if n_remove is None else n_remove)


def obs_update(w: np.ndarray, h_inv: np.ndarray, index: int) -> np.ndarray:
    r"""Set one weight to 0, and move all others to where the quadratic error is then least.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        Weights, n in all.
    h_inv : ndarray of float32 or float64, shape (n, n)
        As for `obs`, of which only row `index` is looked at.
    index : int
        Flat index of the weight that goes, in ``[0, n)``.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        New, exactly 0 at `index`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or ``h_inv[index, index]`` is not positive.

    Notes
    -----
    Minimise :math:`\tfrac12 u^\top H u` subject to :math:`e_i^\top u + w_i = 0`. The solution is

    .. math:: u = -\frac{w_i}{[H^{-1}]_{ii}} H^{-1} e_i , \qquad
              \tfrac12 u^\top H u = \frac{w_i^2}{2 [H^{-1}]_{ii}} .

    :math:`2 n` FLOPs.

    References
    ----------
    Hassibi and Stork (1992), equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> h_inv = np.linalg.inv(np.array([[2.0, 1.9], [1.9, 2.0]]))
    >>> obs_update(np.array([3.0, 1.0]), h_inv, 1)
    array([3.95, 0.  ])
    """
    check_array("obs_update", "w", w, dtypes=TRAINING_DTYPES)
    _check_index("obs_update", h_inv, w.size, index)
    return _updated(w.ravel(), h_inv, index).reshape(w.shape).astype(w.dtype)


def downdate_inverse(h_inv: np.ndarray, index: int) -> np.ndarray:
    r"""Take one weight out of an inverse Hessian, without inverting anything.

    Parameters
    ----------
    h_inv : ndarray of float32 or float64, shape (n, n)
        As for `obs`.
    index : int
        Flat index of the weight that goes, in ``[0, n)``.

    Returns
    -------
    ndarray of the same dtype and shape
        New. On the weights that remain it is the inverse of *their* block of H; row and column
        `index` are those of the identity, so that it stays positive definite and `index`
        concerns no other weight any more.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or ``h_inv[index, index]`` is not positive.

    Notes
    -----
    One step of Gaussian elimination,

    .. math:: H^{-1} - \frac{H^{-1} e_i \, e_i^\top H^{-1}}{[H^{-1}]_{ii}} ,

    is zero in row and column i, and elsewhere the inverse of H without them. :math:`3 n^2`
    FLOPs, where a new inverse takes :math:`2 n^3`.

    References
    ----------
    Frantar and Alistarh (2022), lemma 1.

    Examples
    --------
    >>> import numpy as np
    >>> hessian = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    >>> downdate_inverse(np.linalg.inv(hessian), 0)
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    check_array("downdate_inverse", "h_inv", h_inv, ndim=2, dtypes=TRAINING_DTYPES)
    _check_index("downdate_inverse", h_inv, len(h_inv), index)
    return _downdated(h_inv, index)


def _run(where: str, w: np.ndarray, h_inv: np.ndarray, n_remove: int) -> ObsTrace:
    _check_problem(where, w, h_inv)
    check_count(where, "n_remove", n_remove, 0, w.size)
    order, saliencies = np.empty(n_remove, np.int64), np.empty(n_remove)
    weights = np.empty((n_remove + 1, *w.shape), w.dtype)
    weights[0] = w
    flat, h_inv, left = w.ravel().astype(np.float64), h_inv.astype(np.float64), np.arange(w.size)
    for k in range(n_remove):
        saliency = obs_saliency(flat, h_inv)[left]
        least = saliency.argmin()
        order[k], saliencies[k] = left[least], saliency[least]
        flat, h_inv = _updated(flat, h_inv, order[k]), _downdated(h_inv, order[k])
        weights[k + 1] = flat.reshape(w.shape)
        left = np.delete(left, least)
    return ObsTrace(order, saliencies, weights)


def _updated(w: np.ndarray, h_inv: np.ndarray, index: int) -> np.ndarray:
    new_w = w - w[index] / h_inv[index, index] * h_inv[index]
    new_w[index] = 0  # exactly, and never -0.0
    return new_w


def _downdated(h_inv: np.ndarray, index: int) -> np.ndarray:
    row = h_inv[index]
    new_inv = h_inv - np.outer(row, row) / row[index]
    new_inv[index], new_inv[:, index] = 0, 0
    new_inv[index, index] = 1
    return new_inv


def _check_problem(where: str, w: Any, h_inv: Any) -> None:
    check_array(where, "w", w, dtypes=TRAINING_DTYPES)
    check_array(where, "h_inv", h_inv, shape=(w.size, w.size), dtypes=TRAINING_DTYPES)
    for argument, array in (("w", w), ("h_inv", h_inv)):
        if not np.isfinite(array).all():
            advice = "look for a division by zero or an overflow where it was computed"
            raise bad_argument(where, argument, "be finite", "infinity or NaN", advice)
    _check_positive_definite(where, h_inv.astype(np.float64))


def _check_positive_definite(where: str, h_inv: np.ndarray) -> None:
    if not h_inv.size:
        return
    asymmetry = float(np.abs(h_inv - h_inv.T).max())
    if asymmetry > 1e-3 * float(np.abs(h_inv).max()):
        actual, advice = f"entries that differ by {asymmetry:.3g}", "pass inverse_hessian(hessian)"
        raise bad_argument(where, "h_inv", "be symmetric", actual, advice)
    try:
        np.linalg.cholesky(h_inv)
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(h_inv)[0])
        raise _not_positive_definite(where, f"a smallest eigenvalue of {least:.3g}") from None


def _check_index(where: str, h_inv: Any, n: int, index: Any) -> None:
    check_array(where, "h_inv", h_inv, shape=(n, n), dtypes=TRAINING_DTYPES)
    check_count(where, "index", index, 0, n - 1)
    if not h_inv[index, index] > 0:
        raise _not_positive_definite(where, f"a diagonal entry of {h_inv[index, index]:.3g}")


def _not_positive_definite(where: str, actual: str) -> Exception:
    advice = "damp the Hessian before it is inverted, inverse_hessian(damp(hessian))"
    return bad_argument(where, "h_inv", "be positive definite", actual, advice)
