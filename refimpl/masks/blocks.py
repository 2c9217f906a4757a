"""Block masks: small tiles of an array are kept or removed whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    check_no_nan,
    xp_of,
)
from refimpl.masks.select import count_kept, keep_top_k


def blocks(saliency: np.ndarray, block_shape: tuple[int, ...], sparsity: float) -> np.ndarray:
    r"""Remove a fraction `sparsity` of an array's blocks: those of least saliency.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, any shape
        One score a weight, larger = keep. NumPy or CuPy, without NaN.
    block_shape : tuple of int
        Lengths of a block, one for each axis of `saliency`, each a divisor of that axis.
        For a matrix ``(r, c)``; for the weight of a convolution, of shape
        ``(c_out, c_in, kh, kw)``, ``(1, 1, kh, kw)`` removes whole kernels.
    sparsity : float
        Fraction of the blocks to remove, in ``[0, 1)``.

    Returns
    -------
    ndarray of bool, same shape
        True where the entry is kept: everywhere in a block or nowhere in it. Of the
        ``n_blocks`` blocks exactly ``count_kept(n_blocks, sparsity)`` are kept. A new array.

    Raises
    ------
    TypeError
        If `saliency` is no float array, or `block_shape` no tuple of one length for each axis.
    ValueError
        If a block's saliency is NaN, `block_shape` does not divide the shape, or `sparsity` is
        out of range.

    See Also
    --------
    block_saliency : The scores that rank the blocks.
    refimpl.formats.BSR : Stores such a matrix in the bytes of its kept blocks.

    Notes
    -----
    A block scores the sum of its entries. So ``blocks(magnitude(w), ...)`` ranks by the 1-norms
    of the blocks, and ``blocks(w**2, ...)`` by their 2-norms. The latter changes the weights
    least: no mask of as many whole blocks has a smaller :math:`\lVert w - m \odot w \rVert_2`.
    Ties go to the lowest index of a block, in C (row-major) order of the grid of blocks.
    Blocks of one entry make this `unstructured`. A single -inf sends its block to the end of the
    ranking. With `n` entries: n additions and a selection among ``n_blocks``; one pass over
    `saliency`, and one to write the mask for each axis.

    References
    ----------
    Narang, Undersander and Diamos (2017); differs in that they score a block by its largest
    magnitude. Mao et al. (2017) sum the magnitudes, as here.

    Examples
    --------
    >>> import numpy as np
    >>> saliency = np.array([[4.0, 0, 1, 1], [0, 0, 1, 2]])
    >>> blocks(saliency, (2, 2), 0.5).astype(int)  # 4 against 5
    array([[0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    check_fraction("blocks", "sparsity", sparsity)
    scores = _block_sums("blocks", saliency, block_shape)
    mask = keep_top_k(scores, count_kept(scores.size, sparsity))
    for axis, length in enumerate(block_shape):
        mask = mask.repeat(int(length), axis=axis)
    return mask


def block_saliency(saliency: np.ndarray, block_shape: tuple[int, ...]) -> np.ndarray:
    """Score each block by the sum of its entries.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64, any shape
        One score a weight, larger = keep. NumPy or CuPy, without NaN.
    block_shape : tuple of int
        Lengths of a block, one for each axis of `saliency`, each a divisor of that axis.

    Returns
    -------
    ndarray of float64, shape of the grid of blocks
        One score a block; its length along each axis is that of `saliency` over the block's.

    Raises
    ------
    TypeError, ValueError
        As `blocks`.

    Notes
    -----
    The sum is taken in float64 whatever the dtype, since eleven entries of 6000 already
    overflow float16.

    Examples
    --------
    >>> import numpy as np
    >>> block_saliency(np.array([[4.0, 0, 1, 1], [0, 0, 1, 2]]), (2, 2))
    array([[4., 5.]])
    """
    return _block_sums("block_saliency", saliency, block_shape)


@np.errstate(over="ignore", invalid="ignore")  # infinities are ranked; what is NaN is refused
def sums_to_rank(where: str, saliency: np.ndarray, axes: tuple[int, ...], group: str) -> np.ndarray:
    """Sum saliencies over some axes in float64, and refuse sums that no order can rank.

    Parameters
    ----------
    where : str
        Named in the error.
    saliency : ndarray of float
        NumPy or CuPy.
    axes : tuple of int
        Summed over.
    group : str
        What is summed over, in the plural, for the error.

    Returns
    -------
    ndarray of float64
        The other axes are left.

    Raises
    ------
    ValueError
        If a sum is NaN, because an entry is, or because infinities of both signs meet.

    Examples
    --------
    >>> import numpy as np
    >>> sums_to_rank("rows", np.ones((2, 3)), (1,), "rows")
    array([3., 3.])
    """
    sums = xp_of(saliency).asarray(saliency.sum(axis=axes, dtype=np.float64))
    check_no_nan(where, f"saliency, summed over {group},", sums)
    return sums


def _block_sums(where: str, saliency: np.ndarray, block_shape: Any) -> np.ndarray:
    check_array(where, "saliency", saliency, dtypes=FLOAT_DTYPES)
    _check_divides(where, saliency.shape, block_shape)
    cut: list[int] = []
    for n, length in zip(saliency.shape, block_shape, strict=True):
        cut += [n // int(length), int(length)]  # which block, and where in it
    inside = tuple(range(1, len(cut), 2))
    return sums_to_rank(where, saliency.reshape(cut), inside, "blocks")


def _check_divides(where: str, shape: tuple[int, ...], block_shape: Any) -> None:
    if not isinstance(block_shape, tuple) or len(block_shape) != len(shape):
        requirement = f"be a tuple of {len(shape)}, for the shape {shape}"
        actual, advice = repr(block_shape), "give the length of a block along every axis"
        raise bad_argument(where, "block_shape", requirement, actual, advice, kind=TypeError)
    for length in block_shape:
        check_count(where, "block_shape", length, 1)
    if any(n % int(b) for n, b in zip(shape, block_shape, strict=True)):
        requirement, advice = f"divide the shape {shape}", "choose divisors, or pad with zeros"
        raise bad_argument(where, "block_shape", requirement, block_shape, advice)
