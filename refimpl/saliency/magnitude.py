"""Magnitude, the saliency that asks for nothing but the weights, and its control: chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, check_array, check_count, check_rng, xp_of


def magnitude(w: np.ndarray) -> np.ndarray:
    r"""Score each weight by its absolute value.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, any shape
        Weights, NumPy or CuPy. NaN stays NaN, which `refimpl.masks` refuses to rank.

    Returns
    -------
    ndarray of the same dtype and shape
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError
        If `w` is no array of these dtypes.

    See Also
    --------
    refimpl.masks.unstructured : Turn the saliency into a mask.

    Notes
    -----
    :math:`s_i = \lvert w_i \rvert`. Among all masks that keep `k` weights, keeping the `k`
    largest magnitudes changes the weights least in the 2-norm. No data is looked at, so
    nothing is said about the change of the network's output. One operation and two memory
    accesses a weight.

    References
    ----------
    Han, Pool, Tran and Dally (2015), section 3. Differs from the paper in ranking by magnitude
    and keeping an exact count, where the paper thresholds at a multiple of the layer's
    standard deviation.

    Examples
    --------
    >>> import numpy as np
    >>> magnitude(np.array([[3.0, -1.0], [0.5, -2.0]]))
    array([[3. , 1. ],
           [0.5, 2. ]])
    """
    check_array("magnitude", "w", w, dtypes=FLOAT_DTYPES)
    xp = xp_of(w)
    return xp.asarray(xp.abs(w))  # abs of an array without axes is a scalar


def random(shape: int | Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Score each weight by chance: the control that every criterion has to beat.

    Parameters
    ----------
    shape : int or sequence of int
        Shape of the weight, such as ``w.shape``.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same scores.

    Returns
    -------
    ndarray of float64, of that shape
        Uniform in ``[0, 1)``; a new array.

    Raises
    ------
    TypeError
        If `rng` is no Generator, or a length is no integer.
    ValueError
        If a length is negative.

    Notes
    -----
    Scores are independent, so keeping the `k` largest is a draw of `k` weights without
    replacement. (Two scores are equal with a chance of 2**-53, and a tie goes to the lowest
    index.)

    Examples
    --------
    >>> import numpy as np
    >>> random((2, 3), np.random.default_rng(0)).shape
    (2, 3)
    """
    check_rng("random", rng)
    lengths = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    for length in lengths:
        check_count("random", "a length in shape", length, 0)
    return rng.random(lengths)
