"""Channel masks: whole filters, neurons or input channels are kept or removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    xp_of,
)
from refimpl.masks.blocks import sums_to_rank
from refimpl.masks.select import count_kept, keep_top_k


def channels(saliency: np.ndarray, sparsity: float, *, axis: int = 0) -> np.ndarray:
    """Remove a fraction `sparsity` of an array's channels, but never all of them.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, one axis or more
        Larger = keep. One score a weight, such as ``magnitude(w)``, or one a channel, of shape
        ``(n_channels,)``. NumPy or CuPy, without NaN.
    sparsity : float
        Fraction of the channels to remove, in ``[0, 1)``.
    axis : int
        The axis that counts the channels: 0 for what goes out of a layer, the filters of a
        convolution or the neurons of a linear layer, and 1 for what comes in.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept: everywhere in a channel or nowhere in it. Of `n` channels
        exactly ``max(count_kept(n, sparsity), 1)`` are kept. A new array.

    Raises
    ------
    TypeError
        If `saliency` is no float array.
    ValueError
        If a channel's saliency is NaN, or `sparsity` or `axis` is out of range.

    See Also
    --------
    channel_mask : Spread a decision for each channel over a weight.
    refimpl.saliency.filter_l2 : One of the criteria that score whole channels.

    Notes
    -----
    A channel scores the sum of its entries, in float64; ties go to the lowest index. It is a
    block as long as the weight along all other axes, so apart from the one channel that always
    stays, ``channels(s, sparsity)`` of a matrix of n columns is ``blocks(s, (1, n), sparsity)``.
    One channel stays because a layer without channels passes nothing on.

    The mask leaves the shape of the weight as it is. Zeros in it are stored and multiplied like
    any number, until the channels are cut out of this layer and the next.

    References
    ----------
    Li et al. (2017), section 3.1, with ``magnitude(w)`` for the saliency.

    Examples
    --------
    >>> import numpy as np
    >>> channels(np.array([[3.0, 1.0], [0.5, 2.0], [5.0, 0.0]]), 1 / 3).astype(int)
    array([[1, 1],
           [0, 0],
           [1, 1]])
    >>> channels(np.array([4.0, 2.5, 5.0]), 1 / 3)
    array([ True, False,  True])
    """
    check_array("channels", "saliency", saliency, dtypes=FLOAT_DTYPES)
    check_fraction("channels", "sparsity", sparsity)
    _check_axis("channels", "saliency", saliency.shape, axis)
    others = tuple(i for i in range(saliency.ndim) if i != axis)
    scores = sums_to_rank("channels", saliency, others, "channels")
    n_keep = min(scores.size, max(count_kept(scores.size, sparsity), 1))
    return channel_mask(keep_top_k(scores, n_keep), saliency.shape, axis=axis)


def channel_mask(kept: np.ndarray, shape: Sequence[int], *, axis: int = 0) -> np.ndarray:
    """Spread a decision for each channel over a weight.

    Parameters
    ----------
    kept : ndarray of bool, shape (n_channels,)
        True = kept. NumPy or CuPy.
    shape : sequence of int
        Shape of the weight, with ``shape[axis] == n_channels``.
    axis : int
        The axis that counts the channels: 0 for what goes out of a layer, 1 for what comes in.

    Returns
    -------
    ndarray of bool, of that shape
        ``kept[i]`` at every entry whose index along `axis` is i; a new array.

    Raises
    ------
    TypeError, ValueError
        If `kept` is no bool array of that length, `shape` is no list of lengths, or `axis` is
        none of its axes.

    Examples
    --------
    Drop the neuron that was dropped from one layer from the inputs of the next:

    >>> import numpy as np
    >>> channel_mask(np.array([True, False, True]), (2, 3), axis=1).astype(int)
    array([[1, 0, 1],
           [1, 0, 1]])
    """
    shape = _checked_shape("channel_mask", shape)
    _check_axis("channel_mask", "shape", shape, axis)
    check_array("channel_mask", "kept", kept, shape=(shape[axis],), dtypes=(np.bool_,))
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return xp_of(kept).broadcast_to(kept.reshape(along), shape).copy()


def _checked_shape(where: str, shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list):
        actual, advice = repr(shape), "give the shape of a weight, such as w.shape"
        raise bad_argument(where, "shape", "be a tuple of lengths", actual, advice, kind=TypeError)
    for length in shape:
        check_count(where, "a length in shape", length, 0)
    return tuple(map(int, shape))


def _check_axis(where: str, argument: str, shape: tuple[int, ...], axis: int) -> None:
    if not shape:
        advice = "give one score a channel, or one a weight"
        raise bad_argument(where, argument, "have an axis", "shape ()", advice)
    check_count(where, "axis", axis, 0, len(shape) - 1)
