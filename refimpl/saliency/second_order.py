"""Second order: what does the loss do where its gradient is zero, if a weight goes?"""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, check_no_nan, xp_of


@np.errstate(invalid="ignore")  # 0 times infinity is NaN, and masks refuse it
def obd(w: np.ndarray, h_diag: np.ndarray) -> np.ndarray:
    r"""Score each weight by how much a parabola along its axis says the loss rises without it.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights, where the gradient of the loss is about 0. NumPy or CuPy.
    h_diag : ndarray of float, same shape
        Diagonal of the Hessian, :math:`h_i = \partial^2 L / \partial w_i^2`, such as
        `refimpl.nn.obd_diagonal` computes.

    Returns
    -------
    ndarray of float64, same shape
        Saliency, larger = keep, in units of the loss; a new array. Float64 because products of
        float16 and float32 numbers underflow.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, or the shapes differ.

    See Also
    --------
    obs : The rise when the other weights make up for the one that goes.

    Notes
    -----
    :math:`s_i = \frac12 h_i w_i^2`: the term of second order of :math:`L(w - w_i e_i) - L(w)`.
    Removing one weight takes nothing but :math:`h_i`; that the rises of several *add up* takes a
    diagonal Hessian as well.

    Where :math:`h_i < 0`, which happens away from a minimum and never with a Gauss-Newton
    diagonal, the parabola opens downwards and promises that the loss falls. The score is then
    negative and the weight goes first. How far the promise holds is another matter: a parabola
    without a floor is no model for a step as long as :math:`w_i`.

    Three operations and three memory accesses a weight.

    References
    ----------
    LeCun, Denker and Solla (1989), "Optimal brain damage", section 2.

    Examples
    --------
    >>> import numpy as np
    >>> obd(np.array([3.0, -1.0, 0.5]), np.array([0.1, 2.0, -8.0]))
    array([ 0.45,  1.  , -1.  ])
    """
    check_array("obd", "w", w, dtypes=FLOAT_DTYPES)
    check_array("obd", "h_diag", h_diag, shape=w.shape, dtypes=FLOAT_DTYPES)
    xp = xp_of(w, h_diag)
    return xp.asarray(w.astype(np.float64) ** 2 * h_diag / 2)  # of arrays without axes, a scalar


def obs(w: np.ndarray, h_inv: np.ndarray) -> np.ndarray:
    r"""Score each weight by how much the loss rises without it once all others have adapted.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights, where the gradient of the loss is about 0. NumPy or CuPy.
    h_inv : ndarray of float, shape (w.size, w.size) or (n_in, n_in)
        Inverse of the Hessian of all weights, in the C order of `w`; or, for a `w` of shape
        (n_out, n_in), of the Hessian that all its rows share.

    Returns
    -------
    ndarray of float64, shape of `w`
        Saliency, larger = keep, at least 0, in units of the loss; a new array.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, the shapes do not fit, or a diagonal entry of `h_inv` is not
        positive: then no Hessian with a minimum has this inverse.

    See Also
    --------
    refimpl.prune.obs : Remove weights in this order, and move the others.

    Notes
    -----
    The least of :math:`\frac12 u^\top H u` over all changes u that remove weight i,
    :math:`u_i = -w_i`:

    .. math::

        s_i = \frac{w_i^2}{2 [H^{-1}]_{ii}}, \qquad
        u = -\frac{w_i}{[H^{-1}]_{ii}} H^{-1} e_i .

    Since :math:`[H^{-1}]_{ii} \ge 1 / H_{ii}`, this is at most what `obd` says, and equal to it
    where H is diagonal. With :math:`H = I` the order is that of `magnitude`. Only the diagonal is
    read: three operations a weight.

    References
    ----------
    Hassibi and Stork (1992), "Second order derivatives for network pruning: optimal brain
    surgeon", section 2.

    Examples
    --------
    Two weights whose inputs are nearly the same, and one that is on its own:

    >>> import numpy as np
    >>> h = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> w = np.array([1.0, 1.0, 0.5])
    >>> obs(w, np.linalg.inv(h)).round(3)  # either of the two can stand in for the other
    array([0.095, 0.095, 0.125])
    >>> obd(w, np.diag(h))
    array([0.5  , 0.5  , 0.125])
    """
    check_array("obs", "w", w, dtypes=FLOAT_DTYPES)
    check_array("obs", "h_inv", h_inv, ndim=2, dtypes=FLOAT_DTYPES)
    diagonal = _diagonal(w, h_inv)
    xp = xp_of(w, h_inv)
    return xp.asarray(w.astype(np.float64) ** 2 / (2 * diagonal))


def _diagonal(w: np.ndarray, h_inv: np.ndarray) -> np.ndarray:
    """The diagonal of the inverse, laid out so that it fits `w`."""
    shared = w.ndim == 2 and h_inv.shape == (w.shape[1], w.shape[1])
    if not shared and h_inv.shape != (w.size, w.size):
        requirement = f"have shape ({w.size}, {w.size}), one row for each weight"
        requirement += f", or ({w.shape[1]}, {w.shape[1]})" if w.ndim == 2 else ""
        advice = "invert the Hessian of these weights"
        raise bad_argument("obs", "h_inv", requirement, h_inv.shape, advice)
    diagonal = h_inv.diagonal().astype(np.float64)
    _check_positive_diagonal(diagonal)
    return diagonal if shared else diagonal.reshape(w.shape)


def _check_positive_diagonal(diagonal: np.ndarray) -> None:
    check_no_nan("obs", "h_inv", diagonal)
    if diagonal.size and not diagonal.min() > 0:
        actual = f"{float(diagonal.min()):.3g} at {int(diagonal.argmin())}"
        advice = "add to the Hessian's diagonal until it is positive definite, and invert that"
        raise bad_argument("obs", "h_inv", "have a positive diagonal", actual, advice)
