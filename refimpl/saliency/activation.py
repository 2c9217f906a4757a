"""Wanda: a weight matters as much as the signal that passes through it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of


def wanda(w: np.ndarray, x_norm: np.ndarray) -> np.ndarray:
    r"""Score each weight by its magnitude times the norm of the input that it multiplies.

    Parameters
    ----------
    w : ndarray of float16, float32 or float64, shape (n_out, n_in) or (c_out, c_in, kh, kw)
        Weights of one layer, NumPy or CuPy. NaN stays NaN, which `refimpl.masks` refuses to rank.
    x_norm : ndarray of float, shape (n_in,) or (c_in, kh, kw), that is ``w.shape[1:]``
        Norm of each input over all examples (for a convolution: of each pixel of a patch, over all
        patches), at least 0. As `input_norms` returns it, or a positive multiple.

    Returns
    -------
    ndarray of the wider of the two dtypes, shape of `w`
        Saliency, larger = keep; a new array.

    Raises
    ------
    TypeError, ValueError
        If an argument is no float array of such a shape, or a norm is negative.

    See Also
    --------
    refimpl.masks.row_wise : The comparison group of the paper: all weights of one output.
    refimpl.prune.wanda : The scores of one layer, turned into zeros.

    Notes
    -----
    .. math:: s_{ij} = \lvert w_{ij} \rvert \, \lVert x_j \rVert_2

    Its square is what the layer's squared output error grows by if this weight alone goes. As it
    looks at one weight at a time, it is OBS, :math:`w^2 / (2 [H^{-1}]_{jj})`, with a Hessian of
    which only the diagonal is known. Two operations and three memory accesses a weight.

    References
    ----------
    Sun, Liu, Bair and Kolter (2023), "A simple and effective pruning approach for large language
    models", and ``prune_wanda`` in their code.

    Examples
    --------
    >>> import numpy as np
    >>> wanda(np.array([[3.0, -1.0], [0.5, -2.0]]), np.array([1.0, 4.0]))
    array([[3. , 4. ],
           [0.5, 8. ]])
    """
    where = "wanda"
    check_array(where, "w", w, ndim=(2, 4), dtypes=FLOAT_DTYPES)
    check_array(where, "x_norm", x_norm, shape=w.shape[1:], dtypes=FLOAT_DTYPES)
    n_negative = int((x_norm < 0).sum())
    if n_negative:
        actual = f"{n_negative} negative of {x_norm.size}"
        raise bad_argument(where, "x_norm", "be at least 0", actual, "give norms of the inputs")
    return xp_of(w, x_norm).abs(w) * x_norm


def input_norms(batches: Iterable[np.ndarray]) -> np.ndarray:
    r"""Measure the norm of every input of a layer, batch by batch.

    Parameters
    ----------
    batches : iterable of ndarray of float, each of shape (n, ...)
        Inputs of the layer, one example a row; any number of rows in each. For a convolution a row
        is one patch. NumPy or CuPy. Read once, one batch at a time.

    Returns
    -------
    ndarray of float64, shape of one example
        :math:`\lVert x_j \rVert_2` over all examples of all batches.

    Raises
    ------
    TypeError, ValueError
        If a batch is no float array or its rows have another shape than the first batch's, there is
        no example, or a sum of squares is infinite or NaN.

    Notes
    -----
    The sum of squares is kept in float64, and the root is taken at the end: 2 flops an entry, and
    memory for one row and one squared batch, however many batches there are. A layer's Hessian
    :math:`H = \frac{2}{n} \sum_t x_t x_t^\top` holds the same numbers,
    :math:`\lVert x_j \rVert^2 = \frac{n}{2} H_{jj}`, beside :math:`n_{in}^2` others.

    Examples
    --------
    >>> import numpy as np
    >>> input_norms([np.array([[3.0, 0.0]]), np.array([[4.0, 1.0], [0.0, 0.0]])])
    array([5., 1.])
    """
    where, n_seen, shape, squares = "input_norms", 0, None, 0.0
    for position, batch in enumerate(batches):
        argument = f"batches[{position}]"
        check_array(where, argument, batch, shape=shape, dtypes=FLOAT_DTYPES)
        _check_has_examples(where, argument, batch)
        squares = squares + (batch.astype(np.float64) ** 2).sum(axis=0)
        shape, n_seen = (-1, *batch.shape[1:]), n_seen + len(batch)
    if not n_seen:
        advice = "run calibration inputs through the layer"
        raise bad_argument(where, "batches", "hold an example", "none", advice)
    xp = xp_of(squares)
    if not xp.isfinite(squares).all():
        advice = "look for a division by zero or an overflow where they were computed"
        raise bad_argument(where, "batches", "be finite", "an infinite or NaN sum", advice)
    return xp.sqrt(squares)


def _check_has_examples(where: str, argument: str, batch: np.ndarray) -> None:
    """Refuse a row: what a matrix without a list around it gives one by one."""
    if batch.ndim < 2:
        advice = "put one array of shape (n, n_in) into a list"
        actual = f"shape {batch.shape}"
        raise bad_argument(where, argument, "have an axis of examples", actual, advice)
