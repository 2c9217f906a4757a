"""Movement: keep the weights that training moves away from zero."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, check_array, check_positive, xp_of


@np.errstate(invalid="ignore")  # 0 times infinity is NaN, and masks refuse it
def movement(w: np.ndarray, dw: np.ndarray) -> np.ndarray:
    r"""Score each weight by how fast one step of gradient descent moves it away from zero.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights just before the step. NumPy or CuPy.
    dw : ndarray of float, same shape
        Gradient of the loss with respect to `w`. Where a mask is in the forward pass, the
        gradient at the *masked* weight, also in places that are masked.

    Returns
    -------
    ndarray of float64, same shape
        What the step adds to the saliency: positive away from zero, negative towards it. A new
        array; sum those of all steps.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, or the shapes differ.

    Notes
    -----
    Gradient descent moves weight i by :math:`-\eta g_i`, which leads away from zero where
    :math:`w_i g_i < 0`. Summed over the steps t of a training,

    .. math:: S_i = -\sum_t w_i^{(t)} g_i^{(t)} ,

    larger = keep. The learning rate is a factor on all scores, unless it changes from step to
    step: then multiply each term by its own. Two operations a weight and a step, and one array
    to sum in.

    References
    ----------
    Sanh, Wolf and Rush (2020), section 4: the scores accumulated by the gradient of the
    straight-through estimator.

    Examples
    --------
    Both weights are 1. The gradient lowers the first and raises the second:

    >>> import numpy as np
    >>> movement(np.array([1.0, 1.0]), np.array([0.5, -0.5]))
    array([-0.5,  0.5])
    """
    _check_pair("movement", w, dw)
    xp = xp_of(w, dw)
    return xp.asarray(-w.astype(np.float64) * dw)


@np.errstate(invalid="ignore")  # as movement
def soft_movement(
    scores: np.ndarray, w: np.ndarray, dw: np.ndarray, *, lr: float, penalty: float
) -> np.ndarray:
    r"""Move learned scores by one step: up with the movement of the weights, down by a penalty.

    Parameters
    ----------
    scores : ndarray of float16, float32 or float64, any shape
        Scores before the step; zeros before the first. NumPy or CuPy.
    w, dw : ndarray of float, same shape
        As for `movement`. `w` are the weights *without* their mask: one that is pruned now may
        come back.
    lr : float
        Learning rate of the scores, > 0.
    penalty : float
        Weight of the penalty on the scores, >= 0. It, and not a sparsity, decides how many stay.

    Returns
    -------
    ndarray of float64, same shape
        Scores after the step, a new array. The mask of the next step is ``scores > threshold``.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, the shapes differ, or a number is out of range.

    Notes
    -----
    The forward pass runs with :math:`w_i \, [S_i > \tau]`. Its derivative by :math:`S_i` is zero
    or does not exist; the straight-through estimator takes that of :math:`w_i S_i` in its place.
    With g the gradient at the masked weight and the penalty
    :math:`\lambda \sum_i \sigma(S_i)`,

    .. math:: S_i \leftarrow S_i - \eta \left( w_i g_i
        + \lambda \, \sigma(S_i) (1 - \sigma(S_i)) \right) .

    Without the penalty this adds up `movement`. The penalty's slope is largest at
    :math:`S_i = 0` and pulls every score down, so a score that no movement lifts ends below the
    threshold. The count is not exact; for that, keep the largest scores instead.

    References
    ----------
    Sanh, Wolf and Rush (2020), section 4.1, soft movement pruning. Bengio, Leonard and Courville
    (2013) for the straight-through estimator.

    Examples
    --------
    >>> import numpy as np
    >>> soft_movement(np.zeros(2), np.ones(2), np.array([0.5, -0.5]), lr=1.0, penalty=0.4)
    array([-0.6,  0.4])
    """
    where = "soft_movement"
    _check_pair(where, w, dw)
    check_array(where, "scores", scores, shape=w.shape, dtypes=FLOAT_DTYPES)
    check_positive(where, "lr", lr)
    check_positive(where, "penalty", penalty, zero_allowed=True)
    pull = penalty * _sigmoid_slope(scores.astype(np.float64))
    return xp_of(scores, w).asarray(scores + lr * (movement(w, dw) - pull))


def _sigmoid_slope(x: np.ndarray) -> np.ndarray:
    r""":math:`\sigma(x) (1 - \sigma(x))`, even in x: written so that no exponential overflows."""
    xp = xp_of(x)
    small = xp.exp(-xp.abs(x))
    return small / (1 + small) ** 2


def _check_pair(where: str, w: np.ndarray, dw: np.ndarray) -> None:
    check_array(where, "w", w, dtypes=FLOAT_DTYPES)
    check_array(where, "dw", dw, shape=w.shape, dtypes=FLOAT_DTYPES)
