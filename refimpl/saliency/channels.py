"""Which filters matter? One score for each output channel; larger = keep."""

from __future__ import annotations

import math

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of


def filter_l1(w: np.ndarray) -> np.ndarray:
    r"""Score each filter by the sum of its absolute weights.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64
        Weight of a linear layer, ``(n_out, n_in)``, or of a convolution,
        ``(n_out, n_in, height, width)``. NumPy or CuPy. NaN gives NaN, which `refimpl.masks`
        refuses to rank.

    Returns
    -------
    ndarray of float64, shape (n_out,)
        Saliency, larger = keep; a new array. Float64 whatever the dtype of `w`: a sum of
        float16 overflows at 65504.

    Raises
    ------
    TypeError, ValueError
        If `w` is no array of these dtypes and shapes.

    See Also
    --------
    refimpl.masks.channels : Turn the scores into a mask.

    Notes
    -----
    :math:`s_k = \sum_i \lvert W_{k i} \rvert`. Nothing is said about the weights that read the
    channel, nor about the data. Two operations a weight.

    References
    ----------
    Li, Kadav, Durdanovic, Samet and Graf (2017), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> filter_l1(np.array([[3.0, -4.0], [0.0, 6.0]]))
    array([7., 6.])
    """
    rows = _filters("filter_l1", w)
    return xp_of(w).abs(rows).sum(axis=1)


def filter_l2(w: np.ndarray) -> np.ndarray:
    r"""Score each filter by the 2-norm of its weights.

    :math:`s_k = \sqrt{\sum_i W_{k i}^2}`, with the parameters, result and errors of `filter_l1`.
    Li et al. (2017) compare the two norms and find little difference. The squares are float64's:
    a weight below 1e-162 counts as 0, and one beyond 1e154 as infinite.

    Examples
    --------
    >>> import numpy as np
    >>> filter_l2(np.array([[3.0, -4.0], [0.0, 6.0]]))
    array([5., 6.])
    """
    rows = _filters("filter_l2", w)
    return xp_of(w).linalg.norm(rows, axis=1)


@np.errstate(invalid="ignore")  # infinity minus itself is NaN, and masks refuse it
def geometric_median(w: np.ndarray) -> np.ndarray:
    r"""Score each filter by how far it is from all the others: what lies amid them can go.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64
        As `filter_l1` takes it.

    Returns
    -------
    ndarray of float64, shape (n_out,)
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        As `filter_l1`.

    Notes
    -----
    :math:`s_k = \sum_j \lVert W_k - W_j \rVert_2`. The geometric median of the filters is the
    point x of least :math:`\sum_j \lVert x - W_j \rVert_2`, and the filter nearest to it is said
    to be the one that the others can stand in for. As in the paper, x is sought among the
    filters only, so the filter of least sum goes first. Its size plays no part: of two large
    filters that are equal, one is redundant.

    With n filters of d weights: :math:`3 n^2 d` flops, a copy of the weights and another array
    of that size. Each distance is taken from the difference of two filters. One matrix product
    would give all :math:`a^2 + b^2 - 2ab` faster, but filters closer to each other than about
    :math:`10^{-8}` of their norm would drown in its rounding.

    References
    ----------
    He, Liu, Wang, Hu and Yang (2019), "Filter Pruning via Geometric Median".

    Examples
    --------
    >>> import numpy as np
    >>> geometric_median(np.array([[0.0, 5.0], [0.0, 5.0], [3.0, 1.0]]))
    array([ 5.,  5., 10.])
    """
    rows, xp = _filters("geometric_median", w), xp_of(w)
    squares, sums = xp.empty_like(rows), xp.empty(len(rows))
    for k, row in enumerate(rows):
        xp.square(xp.subtract(rows, row, out=squares), out=squares)
        sums[k] = xp.sqrt(squares.sum(axis=1)).sum()
    return sums


def batch_norm_scale(gamma: np.ndarray) -> np.ndarray:
    r"""Score each channel by the size of the factor that batch normalisation scales it with.

    Parameters
    ----------
    gamma : ndarray of float16, float32 or float64, shape (n_channels,)
        The scales, one a channel. NumPy or CuPy.

    Returns
    -------
    ndarray of float64, shape (n_channels,)
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        If `gamma` is no array of these dtypes and one axis.

    Notes
    -----
    :math:`s_k = \lvert \gamma_k \rvert`. What enters the scale is normalised, so the scales of
    one layer and of another mean the same, which norms of filters do not. The paper trains with
    an L1 penalty on all scales beforehand, which drives many of them towards 0, and ranks the
    scales of the whole network together: `refimpl.masks.global_unstructured`.

    References
    ----------
    Liu et al. (2017), "Learning Efficient Convolutional Networks through Network Slimming",
    section 3.

    Examples
    --------
    >>> import numpy as np
    >>> batch_norm_scale(np.array([0.5, -2.0, 0.0]))
    array([0.5, 2. , 0. ])
    """
    check_array("batch_norm_scale", "gamma", gamma, ndim=1, dtypes=FLOAT_DTYPES)
    return xp_of(gamma).abs(gamma.astype(np.float64))


@np.errstate(invalid="ignore")  # 0 times infinity is NaN, and masks refuse it
def channel_taylor(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    r"""Score each channel by how much the loss of an example would change without it.

    Parameters
    ----------
    activations : ndarray of float16, float32 or float64, shape (batch, n_channels, ...)
        What the channels put out: ``(batch, n_channels)`` from a linear layer,
        ``(batch, n_channels, height, width)`` from a convolution. NumPy or CuPy.
    gradients : ndarray of float, same shape
        Gradient of the loss with respect to `activations`.

    Returns
    -------
    ndarray of float64, shape (n_channels,)
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        If one is no float array, the shapes differ, or there is nothing to average over.

    See Also
    --------
    unit_norm : What the paper does before it compares layers.

    Notes
    -----
    To first order, setting channel k of example t to zero changes the loss by
    :math:`-\sum_m a_{tkm} \, \partial C_t / \partial a_{tkm}`, over the M positions m. The score
    is the mean over the examples of the size of it, over M:

    .. math:: s_k = \frac1T \sum_t \left\lvert \frac1M \sum_m
        a_{tkm} \frac{\partial C_t}{\partial a_{tkm}} \right\rvert .

    The absolute value is taken of each example: summed over a batch first, the changes of a
    trained network cancel. A loss that is the mean over a batch of T divides all scores by T,
    which no ranking within a network sees. It is the same before and after a ReLU: where the
    ReLU does not pass a value on, both products are 0. Three operations an entry, after one
    backward pass.

    References
    ----------
    Molchanov, Tyree, Karras, Aila and Kautz (2017), section 2.2: the Taylor criterion of a
    feature map, of each example of a mini-batch separately.

    Examples
    --------
    Two examples that would lose as much as they gain without channel 0:

    >>> import numpy as np
    >>> channel_taylor(np.array([[2.0, 1.0], [2.0, 0.0]]), np.array([[3.0, 1.0], [-3.0, 9.0]]))
    array([6. , 0.5])
    """
    where = "channel_taylor"
    check_array(where, "activations", activations, dtypes=FLOAT_DTYPES)
    if activations.ndim < 2 or not activations.size:
        advice, actual = "give (batch, n_channels, ...)", f"shape {activations.shape}"
        raise bad_argument(where, "activations", "hold examples of channels", actual, advice)
    check_array(where, "gradients", gradients, shape=activations.shape, dtypes=FLOAT_DTYPES)
    changes = activations.astype(np.float64) * gradients
    of_channel = changes.reshape(*changes.shape[:2], -1).mean(axis=2)  # (batch, n_channels)
    return xp_of(activations).abs(of_channel).mean(axis=0)


@np.errstate(invalid="ignore")  # infinity over itself is NaN, and masks refuse it
def unit_norm(saliency: np.ndarray) -> np.ndarray:
    r"""Scale the scores of one layer to a 2-norm of 1, so that layers can be ranked together.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, shape (n_channels,)
        Scores of all channels of a layer. NumPy or CuPy.

    Returns
    -------
    ndarray of float64, shape (n_channels,)
        :math:`s_k / \sqrt{\sum_j s_j^2}`, of the same order; zeros stay zeros, and beside an
        infinite score some are NaN. A new array.

    Raises
    ------
    TypeError, ValueError
        If `saliency` is no array of these dtypes and one axis.

    References
    ----------
    Molchanov et al. (2017), section 2.2, normalisation.

    Examples
    --------
    >>> import numpy as np
    >>> unit_norm(np.array([3.0, 4.0])), unit_norm(np.zeros(2))
    (array([0.6, 0.8]), array([0., 0.]))
    """
    check_array("unit_norm", "saliency", saliency, ndim=1, dtypes=FLOAT_DTYPES)
    xp, saliency = xp_of(saliency), saliency.astype(np.float64)
    if not saliency.any():
        return saliency
    largest = xp.abs(saliency).max()
    scaled = saliency / largest  # the square of a score may be beyond what a float can hold
    return scaled / xp.linalg.norm(scaled)


def _filters(where: str, w: np.ndarray) -> np.ndarray:
    """Lay out each filter as one row of float64."""
    check_array(where, "w", w, ndim=(2, 4), dtypes=FLOAT_DTYPES)
    return w.reshape(len(w), math.prod(w.shape[1:])).astype(np.float64)
