"""How is a layer's Hessian inverted? Damped first, by Cholesky, or not at all: in a sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh
from scipy.linalg.lapack import get_lapack_funcs

from refimpl.arrays import bad_argument, check_array, check_positive
from refimpl.nn.layer import TRAINING_DTYPES


def damp(hessian: np.ndarray, damping: float = 0.01) -> np.ndarray:
    r"""Add a little to the diagonal, so that the Hessian can be inverted.

    Parameters
    ----------
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        As `refimpl.prune.input_hessian` returns. An input that is always 0 is dead: its row and
        column are 0.
    damping : float
        What is added, in units of the mean diagonal entry of the inputs that are alive; >= 0.

    Returns
    -------
    ndarray of the same dtype and shape
        A new array, C-contiguous. Its inverse scales with that of `hessian`: with relative
        damping, no method that minimises the output error depends on the unit of the inputs.

    Raises
    ------
    TypeError, ValueError
        If `hessian` is no symmetric matrix with a positive entry on its diagonal, or `damping`
        no number >= 0.

    Notes
    -----
    :math:`H + \lambda \bar h I` with the mean :math:`\bar h` over the inputs that are alive.
    Dead ones get :math:`\bar h` on their diagonal, so that there is an inverse. No other input
    depends on the number, since their row is 0 beside it; but a ranking of weights would, as if
    such an input were an average one. So `sparsegpt` and `exact_obs` set the weights of dead
    inputs to 0 first, and so must who ranks by the inverse alone.

    The result is the Hessian of the layer with a penalty
    :math:`\tfrac12 \lambda \bar h \lVert W' - W \rVert^2`: more damping trusts the data less,
    and in the limit all that counts is the size of the change, which is magnitude pruning.

    References
    ----------
    Frantar and Alistarh (2023), whose code adds 1 % of the mean diagonal. Differs in leaving
    dead inputs out of that mean, and in giving them its unit rather than 1.

    Examples
    --------
    >>> import numpy as np
    >>> damp(np.diag([3.0, 0.0, 1.0]), 0.1)
    array([[3.2, 0. , 0. ],
           [0. , 2. , 0. ],
           [0. , 0. , 1.2]])
    """
    where = "damp"
    check_hessian(where, hessian)
    check_positive(where, "damping", damping, zero_allowed=True)
    diagonal = hessian.diagonal()
    alive = diagonal > 0
    if not alive.any():
        advice = "look at the calibration inputs, which are all 0"
        raise bad_argument(where, "hessian", "have a positive diagonal entry", "none", advice)
    mean = diagonal[alive].mean(dtype=np.float64)
    damped = np.array(hessian, order="C")
    np.fill_diagonal(damped, np.where(alive, diagonal + damping * mean, mean))
    return damped


def inverse_cholesky(hessian: np.ndarray) -> np.ndarray:
    r"""Factor the inverse of a Hessian: the upper triangular U with :math:`H^{-1} = U^\top U`.

    Parameters
    ----------
    hessian : ndarray of float32 or float64, shape (n, n)
        Symmetric and positive definite, damped as by `damp`.

    Returns
    -------
    ndarray of the same dtype, shape (n, n)
        A new array, zero below the diagonal, positive on it.

    Raises
    ------
    TypeError
        If `hessian` is no array of these dtypes.
    ValueError
        If it is no symmetric matrix, or not positive definite up to rounding: the message says
        how much damping to try. There is no fallback.

    Notes
    -----
    Row j of U says all about the inverse of what remains when inputs 0 to j - 1 are gone:
    :math:`U_{j,j:} = (H_{j:,j:}^{-1})_{0,:} / \sqrt{(H_{j:,j:}^{-1})_{00}}`.

    With J the reversal of the order, :math:`J H J = L L^\top` gives
    :math:`U = (J L J)^{-1} = J L^{-1} J`: one Cholesky factorisation and one inverse of a
    triangle. That is :math:`\tfrac23 n^3` FLOPs, where inverting H and then factoring the inverse
    takes twice that; in memory for the result and half of it.

    Examples
    --------
    >>> import numpy as np
    >>> inverse_cholesky(np.array([[2.0, 1.0], [1.0, 1.0]])).round(12)
    array([[ 1., -1.],
           [ 0.,  1.]])
    """
    where = "inverse_cholesky"
    check_hessian(where, hessian)
    u = _triangle_inverse(where, hessian)
    _reverse(u.ravel())  # a view: both orders at once
    return u


def inverse_hessian(hessian: np.ndarray) -> np.ndarray:
    r"""Invert a Hessian.

    Parameters
    ----------
    hessian : ndarray of float32 or float64, shape (n, n)
        Symmetric and positive definite, damped as by `damp`.

    Returns
    -------
    ndarray of the same dtype, shape (n, n)
        :math:`H^{-1}`, symmetric to the last bit; a new array.

    Raises
    ------
    TypeError, ValueError
        As `inverse_cholesky`.

    Notes
    -----
    :math:`H^{-1} = U^\top U`, in :math:`2 n^3` FLOPs.

    Examples
    --------
    >>> import numpy as np
    >>> inverse_hessian(np.array([[2.0, 1.0], [1.0, 1.0]])).round(12)
    array([[ 1., -1.],
           [-1.,  2.]])
    """
    where = "inverse_hessian"
    check_hessian(where, hessian)
    triangle = _triangle_inverse(where, hessian)[::-1, ::-1]
    inverse = triangle.T @ triangle
    return np.triu(inverse) + np.triu(inverse, 1).T


def check_hessian(where: str, hessian: Any) -> None:
    """Refuse what is no finite, symmetric matrix with a diagonal >= 0.

    Parameters
    ----------
    where : str
        Named in the error.
    hessian : ndarray of float32 or float64
        Anything else is refused.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_array(where, "hessian", hessian, ndim=2, dtypes=TRAINING_DTYPES)
    advice = "make one with input_hessian"
    if hessian.shape[0] != hessian.shape[1] or not hessian.size:
        actual = f"shape {hessian.shape}"
        raise bad_argument(where, "hessian", "be square, not empty", actual, advice)
    if not np.isfinite(hessian).all():
        raise bad_argument(where, "hessian", "be finite", "infinity or NaN", advice)
    least = float(hessian.diagonal().min())
    if least < 0:
        requirement = "have a diagonal of at least 0"
        raise bad_argument(where, "hessian", requirement, f"{least:.3g}", advice)
    asymmetry = _asymmetry(hessian)
    if asymmetry > 1e-3 * float(hessian.diagonal().max()):
        actual = f"entries that differ by {asymmetry:.3g}"
        raise bad_argument(where, "hessian", "be symmetric", actual, advice)


def not_positive_definite(
    where: str, hessian: np.ndarray, whole: np.ndarray | None = None
) -> Exception:
    """Say that a Hessian cannot be inverted, and how much damping would do.

    Parameters
    ----------
    where : str
        Named in the error.
    hessian : ndarray, shape (n, n)
        The matrix that could not be factored.
    whole : ndarray, optional
        The Hessian that it is a block of, and that the caller can damp; by default itself.

    Returns
    -------
    Exception
        To raise.
    """
    least = float(eigvalsh(hessian.astype(np.float64), subset_by_index=(0, 0))[0])
    diagonal = (hessian if whole is None else whole).diagonal()
    mean = float(diagonal.mean())
    if mean:
        enough = max(0.01, 10.0 ** math.ceil(math.log10(max(-least / mean, 1e-12)) + 1))
        advice = f"damp it first, damp(hessian, {enough:g}), or calibrate with more examples"
    else:
        advice = "look at the calibration inputs, which are all 0"
    actual = f"a smallest eigenvalue of {least:.3g} beside a mean diagonal of {mean:.3g}"
    return bad_argument(where, "hessian", "be positive definite", actual, advice)


def pivot_is_rounding(factor: np.ndarray, diagonal: np.ndarray) -> bool:
    """Say whether a Cholesky factor divides by what is nothing but rounding.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        Triangular.
    diagonal : ndarray of float32 or float64, shape (n,)
        Of the matrix that was factored, in the dtype that rounded it.

    Returns
    -------
    bool
        True if some input is explained by those before it up to ten units of precision.
    """
    unexplained = factor.diagonal() ** 2 / diagonal  # what those before leave of each input
    return bool(unexplained.min() <= 10 * np.finfo(diagonal.dtype).eps)


def _asymmetry(hessian: np.ndarray) -> float:
    """How far two mirror images differ at most; some rows at a time, in little memory."""
    bands = (slice(start, start + 256) for start in range(0, len(hessian), 256))
    mirrored = ((hessian[band, : band.stop], hessian[: band.stop, band].T) for band in bands)
    return max(float(np.abs(entries - images).max()) for entries, images in mirrored)


def _reverse(entries: np.ndarray) -> None:
    """Reverse a vector in place, with memory for half of it."""
    half = entries.size // 2
    first = entries[:half].copy()
    entries[:half] = entries[: -half - 1 : -1]
    entries[entries.size - half :] = first[::-1]


def _triangle_inverse(where: str, hessian: np.ndarray) -> np.ndarray:
    """The inverse of the lower Cholesky factor of the Hessian in reversed order."""
    reverse = np.array(hessian[::-1, ::-1], order="C").T  # LAPACK counts down the columns
    potrf, trtri = get_lapack_funcs(("potrf", "trtri"), (reverse,))
    factor, failed = potrf(reverse, lower=False, overwrite_a=True, clean=True)
    if failed or pivot_is_rounding(factor, hessian.diagonal()[::-1]):
        raise not_positive_definite(where, hessian)
    inverse, _ = trtri(factor, lower=False, overwrite_c=True)
    return inverse.T
