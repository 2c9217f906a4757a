"""First order: what would the loss, or its gradient, do if a weight went?"""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, check_positive, xp_of


@np.errstate(invalid="ignore")  # 0 times infinity is NaN, and masks refuse it
def taylor(w: np.ndarray, dw: np.ndarray) -> np.ndarray:
    r"""Score each weight by how much, to first order, the loss changes without it.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights. NumPy or CuPy.
    dw : ndarray of float, same shape
        Gradient of the loss with respect to `w`, as a backward pass leaves it in
        ``parameter.grad``.

    Returns
    -------
    ndarray of float64, same shape
        Saliency, larger = keep; a new array. Float64 because products of float16 and float32
        numbers underflow.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, or the shapes differ.

    See Also
    --------
    taylor_squared : The mean of its square over batches, which does not vanish at an optimum.

    Notes
    -----
    Moving weight i from :math:`w_i` to 0 changes the loss by :math:`-w_i g_i` plus terms of
    second order; :math:`s_i = \lvert w_i g_i \rvert` is the size of that. Where the loss is
    least, :math:`g = 0` and so is every score: there the second order decides. Two operations
    and three memory accesses a weight, after one backward pass.

    References
    ----------
    Mozer and Smolensky (1989), "Skeletonization"; Molchanov et al. (2017), section 2.2, for
    whole feature maps.

    Examples
    --------
    >>> import numpy as np
    >>> taylor(np.array([3.0, -1.0, 0.5]), np.array([0.1, 2.0, -2.0])).round(3)
    array([0.3, 2. , 1. ])
    """
    effects = _product("taylor", w, "dw", dw)
    return xp_of(effects).abs(effects, out=effects)


@np.errstate(invalid="ignore")  # as taylor
def taylor_squared(w: np.ndarray, dws: np.ndarray) -> np.ndarray:
    r"""Score each weight by the mean square of its first-order effects on many batches.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights. NumPy or CuPy.
    dws : ndarray of float, shape (n_batches, ...)
        A gradient for each batch, or for each example; at least one.

    Returns
    -------
    ndarray of float64, shape of `w`
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, the shapes do not fit, or there is no batch.

    Notes
    -----
    :math:`s_i = \frac1B \sum_b (w_i g_{b,i})^2`. Batches pull in different directions, so the
    squares stay when the mean gradient is 0. With a gradient for each example,
    :math:`\frac1B \sum_b g_{b,i}^2` is the diagonal of the empirical Fisher matrix, and the score
    twice what OBD makes of it. Three operations an entry of `dws`, and a copy of it in float64.

    References
    ----------
    Molchanov, Mallya, Tyree, Frosio and Kautz (2019), section 3.1: the importance of one
    parameter is the square of its first-order effect, averaged over mini-batches.

    Examples
    --------
    Two batches whose gradients cancel:

    >>> import numpy as np
    >>> taylor_squared(np.array([3.0, 1.0]), np.array([[1.0, 0.5], [-1.0, 0.5]]))
    array([9.  , 0.25])
    """
    where = "taylor_squared"
    check_array(where, "w", w, dtypes=FLOAT_DTYPES)
    check_array(where, "dws", dws, shape=(-1, *w.shape), dtypes=FLOAT_DTYPES)
    if not len(dws):
        advice = "stack the gradients of some batches"
        raise bad_argument(where, "dws", "hold a batch or more", f"shape {dws.shape}", advice)
    xp = xp_of(w, dws)
    return xp.asarray(xp.square(w * dws.astype(np.float64)).mean(axis=0))


@np.errstate(invalid="ignore")  # as taylor
def snip(w: np.ndarray, dw: np.ndarray, *, total: float | None = None) -> np.ndarray:
    r"""Score each weight by its connection sensitivity: its share of all first-order effects.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights of one layer before training. NumPy or CuPy.
    dw : ndarray of float, same shape
        Gradient of the loss of one batch with respect to `w`.
    total : float, optional
        > 0: what the effects add up to, ``sum(abs(w * dw))`` over *all* layers, so that their
        scores sum to 1 together and can be ranked together. By default over this array alone.

    Returns
    -------
    ndarray of float64, same shape
        Saliency in ``[0, 1]``, larger = keep; a new array. All zeros stay zeros.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, the shapes differ, or `total` is no positive number.

    See Also
    --------
    taylor : The same without the sum; between layers, rank by this one or pass `total`.
    refimpl.prune.snip_masks : Score a network with one batch.

    Notes
    -----
    A gate :math:`c_i`, 1 for a connection that is there and 0 for one that is not, stands before
    every weight: the loss is :math:`L(c \odot w)`. Its derivative at :math:`c = 1` is
    :math:`w_i g_i`, with :math:`g` the gradient at the weights, and

    .. math:: s_i = \frac{\lvert w_i g_i \rvert}{\sum_k \lvert w_k g_k \rvert} .

    The derivative is not the gradient at the weights itself, and no weight stands in for it.

    References
    ----------
    Lee, Ajanthan and Torr (2019), section 4.1, connection sensitivity.

    Examples
    --------
    >>> import numpy as np
    >>> snip(np.array([3.0, -1.0, 0.5]), np.array([1.0, 1.0, 2.0]))
    array([0.6, 0.2, 0.2])
    """
    effects = _product("snip", w, "dw", dw)
    xp_of(effects).abs(effects, out=effects)
    if total is None:
        total = float(effects.sum()) or 1.0
    else:
        check_positive("snip", "total", total)
    effects /= total
    return effects


@np.errstate(invalid="ignore")  # as taylor
def grasp(w: np.ndarray, hg: np.ndarray) -> np.ndarray:
    r"""Score each weight by how much, to first order, the gradient shrinks without it.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights before training. NumPy or CuPy.
    hg : ndarray of float, same shape
        The Hessian of the loss times its gradient, :math:`H g`: the entries that belong to `w`
        of the product over *all* parameters.

    Returns
    -------
    ndarray of float64, same shape
        Saliency of either sign, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, or the shapes differ.

    See Also
    --------
    refimpl.prune.grasp_masks : Score a network with one batch.

    Notes
    -----
    A step of gradient descent lowers the loss by about :math:`\eta \lVert g \rVert^2`, so a
    pruned network that is to learn should keep its gradient long. Moving the weights by
    :math:`\delta` changes :math:`\lVert g \rVert^2` by :math:`2 \delta^\top H g`, and removing
    weight i, :math:`\delta = -w_i e_i`, by :math:`-2 w_i (H g)_i`. The paper's score
    :math:`S(-\theta) = -\theta \odot H g` is half of this change. Where it is most *positive*,
    the gradient grows when the weight goes: that weight is pruned first. So

    .. math:: s_i = w_i (H g)_i

    is the saliency by which larger means keep. Its sign counts: a negative score is worse than 0.

    References
    ----------
    Wang, Zhang and Grosse (2020), section 4. Differs from the paper in the sign, because
    everywhere here larger means keep; the mask is the same.

    Examples
    --------
    Without the second weight the gradient would grow:

    >>> import numpy as np
    >>> grasp(np.array([3.0, -1.0, 0.5]), np.array([1.0, 2.0, 0.0]))
    array([ 3., -2.,  0.])
    """
    return _product("grasp", w, "hg", hg)


def _product(where: str, w: np.ndarray, name: str, slope: np.ndarray) -> np.ndarray:
    """Weight times slope, in float64."""
    check_array(where, "w", w, dtypes=FLOAT_DTYPES)
    check_array(where, name, slope, shape=w.shape, dtypes=FLOAT_DTYPES)
    xp = xp_of(w, slope)
    return xp.asarray(w.astype(np.float64) * slope)  # of arrays without axes, a scalar
