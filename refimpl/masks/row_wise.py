"""Row-wise selection: every output keeps the same number of its inputs."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array
from refimpl.masks.n_of_m import n_of_m
from refimpl.masks.select import count_kept


def row_wise(saliency: np.ndarray, sparsity: float) -> np.ndarray:
    """Remove the same fraction of every row: its entries of least saliency, ties by index.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, shape (n_out, n_in) or (c_out, c_in, kh, kw)
        Larger = keep. NumPy or CuPy, without NaN. A row is all that one output sums over: for a
        convolution ``c_in * kh * kw`` entries.
    sparsity : float
        Fraction of each row to remove, in ``[0, 1)``.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept, exactly ``count_kept(row size, sparsity)`` times in each row;
        a new array.

    Raises
    ------
    TypeError, ValueError
        As `refimpl.masks.unstructured`, or if no entry of a row would stay: such an output is
        constant.

    Notes
    -----
    A row is one group of `refimpl.masks.n_of_m`, as long as the row. Only the order within a row
    counts, so a positive factor on a row changes nothing.

    References
    ----------
    Sun, Liu, Bair and Kolter (2023), whose comparison group is the output. Differs from their code
    in what becomes of halves and ties: there the count that goes is rounded down, and of equal
    scores the lowest index goes first.

    Examples
    --------
    >>> import numpy as np
    >>> row_wise(np.array([[3.0, 1.0, 2.0, 0.0], [9.0, 8.0, 7.0, 6.0]]), 0.5).astype(int)
    array([[1, 0, 1, 0],
           [1, 1, 0, 0]])
    """
    where = "row_wise"
    check_array(where, "saliency", saliency, ndim=(2, 4), dtypes=FLOAT_DTYPES)
    size = int(np.prod(saliency.shape[1:]))
    n_keep = count_kept(size, sparsity)
    if not n_keep:
        advice = "take a lower sparsity, or rank all rows together with unstructured"
        requirement = f"leave a weight in a row of {size}"
        raise bad_argument(where, "sparsity", requirement, sparsity, advice)
    rows = saliency.reshape(len(saliency), size)
    return n_of_m(rows, n_keep, size).reshape(saliency.shape)
