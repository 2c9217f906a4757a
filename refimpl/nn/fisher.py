"""Curvature from the gradients of examples alone, and its inverse one example at a time.

Matrices are of shape (n, n) for the n parameters of a network, in the order of `as_vector`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_positive, xp_of
from refimpl.nn.layer import TRAINING_DTYPES


def empirical_fisher(gradients: np.ndarray) -> np.ndarray:
    r"""Average the outer products of the examples' gradients: :math:`\frac1N \sum g g^\top`.

    Parameters
    ----------
    gradients : ndarray of float32 or float64, shape (N, n)
        One gradient a row: ``as_vector(example_gradients(network, x, y), leading=1)``.

    Returns
    -------
    ndarray, shape (n, n)
        Symmetric, positive semi-definite, of rank N at most.

    Raises
    ------
    TypeError, ValueError
        If `gradients` is no matrix with at least one row.

    Notes
    -----
    "Empirical" because the labels are those of the data. The Fisher matrix draws them from the
    model's own predictions, and equals `gauss_newton` for the cross-entropy. Where every example
    is fitted exactly, the empirical Fisher is zero and the Hessian need not be.

    Cost: ``2 * N * n**2`` FLOPs, ``8 * n**2`` bytes in float64.

    References
    ----------
    Kunstner, Balles and Hennig, 2019, "Limitations of the empirical Fisher approximation".

    Examples
    --------
    >>> import numpy as np
    >>> empirical_fisher(np.array([[1.0, 2.0], [3.0, 0.0]]))
    array([[5., 1.],
           [1., 2.]])
    """
    _check_gradients("empirical_fisher", gradients)
    return gradients.T @ gradients / len(gradients)


def inverse_fisher(gradients: np.ndarray, damping: float) -> np.ndarray:
    r"""Invert ``damping * I + empirical_fisher(gradients)``, one gradient after the other.

    Parameters
    ----------
    gradients : ndarray of float32 or float64, shape (N, n)
        As for `empirical_fisher`. For squares, rows of `output_gradients` times
        :math:`\sqrt2` give the inverse of `gauss_newton`.
    damping : float
        The :math:`\alpha > 0` that the recursion starts from: :math:`H_0 = \alpha I`.

    Returns
    -------
    ndarray, shape (n, n)
        Symmetric up to rounding, positive definite.

    Raises
    ------
    TypeError, ValueError
        If `gradients` is no matrix with at least one row, or `damping` not positive.

    Notes
    -----
    By the Sherman-Morrison formula, with **N fixed** through the recursion,

    .. math::

        H_m = H_{m-1} + \frac1N g_m g_m^\top, \qquad H_m^{-1} = H_{m-1}^{-1} -
        \frac{H_{m-1}^{-1} g_m \, g_m^\top H_{m-1}^{-1}}{N + g_m^\top H_{m-1}^{-1} g_m} .

    No step divides by anything below N, so nothing can go wrong; what is inverted is singular
    without damping as soon as n exceeds N. Cost: ``4 * N * n**2`` FLOPs, against the ``2 * n**3``
    of an inverse, and one matrix beside the result.

    References
    ----------
    Hassibi and Stork, 1992, "Second order derivatives for network pruning: optimal brain surgeon",
    section 3.

    Examples
    --------
    >>> import numpy as np
    >>> inverse_fisher(np.array([[1.0, 0.0]]), damping=0.5).round(3)
    array([[0.667, 0.   ],
           [0.   , 2.   ]])
    """
    where = "inverse_fisher"
    _check_gradients(where, gradients)
    check_positive(where, "damping", damping)
    xp, (n_examples, n) = xp_of(gradients), gradients.shape
    inverse = xp.eye(n, dtype=gradients.dtype) / float(damping)
    for g in gradients:
        projected = inverse @ g
        inverse -= xp.outer(projected, projected / (n_examples + g @ projected))
    return inverse


def _check_gradients(where: str, gradients: Any) -> None:
    if isinstance(gradients, Mapping):
        advice = "make them one with as_vector(gradients, leading=1)"
        raise bad_argument(where, "gradients", "be an array", "a mapping", advice, kind=TypeError)
    check_array(where, "gradients", gradients, ndim=2, dtypes=TRAINING_DTYPES)
    if not len(gradients):
        advice = "give one row for each example"
        raise bad_argument(where, "gradients", "have a row", f"shape {gradients.shape}", advice)
