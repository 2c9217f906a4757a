"""SparseGPT: how are a layer's weights pruned in one pass over its columns, and made up for?

Columns go from left to right and never come back. What the removal of a weight breaks, the columns
to its right repair, as well as they can together: row j of the Cholesky factor of the inverse
Hessian says how.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count
from refimpl.kernels import numba_sparsegpt
from refimpl.kernels.layer_kernels import compiled_for
from refimpl.masks import count_kept, keep_top_k, n_of_m
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.prune.granularity import check_pattern
from refimpl.prune.hessian import check_hessian, damp, inverse_cholesky

ROWS = 512  # updated at a time, so that the product needs no array as large as the weight

Pruned = tuple[np.ndarray, np.ndarray]


def sparsegpt(
    w: np.ndarray,
    hessian: np.ndarray,
    *,
    sparsity: float | None = None,
    n: int | None = None,
    m: int | None = None,
    damping: float = 0.01,
    block_size: int = 128,
) -> np.ndarray:
    r"""Prune a layer in one pass over its columns, each repaired by those to its right.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        Weight of one layer.
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        As `input_hessian` returns. It is factored in its own dtype; the weights are updated in
        theirs.
    sparsity : float
        Fraction of the weights to remove, in ``[0, 1)``; or else:
    n, m : int
        Weights to keep of every m consecutive inputs of a row.
    damping : float
        As for `damp`.
    block_size : int
        Columns among which the weights to remove are chosen together, at least 1. The published
        128 is meant for thousands of inputs; with fewer, 1/32 to 1/8 of them did best. With `n`
        and `m` the choice is made in groups of m, and this only sets how many columns are
        updated at a time.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        A new array. All but ``count_kept(w.size, sparsity)`` weights are zero; of the first
        columns of any number of blocks, all but as many as `count_kept` says. Nothing is said of
        rows: one may end up empty. Weights of dead inputs (:math:`H_{jj} = 0`) are zero besides.
        What is zero in `w` goes first and stays zero: a pruned weight is moved by the removals
        before it, and removed anew.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, `w` is not finite, not exactly one of `sparsity` and
        (`n`, `m`) is given, or as `damp` and `inverse_cholesky`: a Hessian that is not positive
        definite is never replaced by something else.

    See Also
    --------
    refimpl.prune.least_squares_refit : The best values for the same mask, at a higher cost.

    Notes
    -----
    With :math:`H^{-1} = U^\top U` for the damped Hessian, column j is pruned where the mask says
    so, and the rest of the row moves to where the error is least, its left part fixed:

    .. math:: e = w_j / U_{jj}, \qquad w_{j:} \leftarrow w_{j:} - e \, U_{j,j:} .

    The sum of all :math:`e^2` is :math:`\operatorname{tr}(D H D^\top)` of the whole change D, so
    :math:`w_c^2 / U_{cc}^2` is what removing a weight costs when its turn comes; a block removes
    the least, ties from the highest index. The columns right of the block are updated once, by a
    product with the errors of all its columns.

    `sparsegpt_flops` counts: :math:`\tfrac23 n_{in}^3` for U and :math:`n_{out} n_{in}^2` for the
    updates. Memory beyond the arguments: two and a half arrays of their size while U is computed,
    then U, the result and a few blocks.

    References
    ----------
    Frantar and Alistarh (2023), algorithm 1, whose lines are counted from its first. Differs in
    counts that are exact, with any ties; in taking U from a Cholesky factor of the reversed H,
    without the inverse of H; and in n, which here is kept and there removed.

    Examples
    --------
    Two inputs that always agree: the second takes over what the first did.

    >>> import numpy as np
    >>> hessian = np.array([[2.0, 1.9], [1.9, 2.0]])
    >>> sparsegpt(np.array([[0.5, 1.0]]), hessian, sparsity=0.5, damping=0)
    array([[0.   , 1.475]])
    """
    where = "sparsegpt"
    check_hessian(where, hessian)
    check_array(where, "w", w, shape=(-1, len(hessian)), dtypes=TRAINING_DTYPES)
    check_pattern(where, len(hessian), sparsity=sparsity, n=n, m=m)
    check_count(where, "block_size", block_size, 1)
    _check_finite(where, w)
    if m is None:
        step, prune = int(block_size), partial(_prune_share, sparsity=sparsity)
    else:
        n, m = int(n), int(m)
        step, prune = max(int(block_size) // m, 1) * m, partial(_prune_groups, n=n, m=m)
    u = inverse_cholesky(damp(hessian, damping))  # Alg. 1, l. 3
    new_w = np.where(hessian.diagonal() > 0, w, w.dtype.type(0))
    for start in range(0, len(u), step):  # l. 4
        block, rest = slice(start, start + step), slice(start + step, None)
        u_block = u[block, block].astype(new_w.dtype)
        gone = w[:, block] == 0  # pruned before
        pruned, errors = prune(new_w[:, block].copy(), u_block, gone, start)  # l. 5-12
        new_w[:, block] = pruned  # l. 15
        u_rest = u[block, rest].astype(new_w.dtype)
        _subtract_product(new_w[:, rest], errors, u_rest)  # l. 13
    return new_w


def prune_block(w: np.ndarray, u: np.ndarray, mask: np.ndarray) -> Pruned:
    """Prune a block of columns by a mask, one column after the other.

    Parameters
    ----------
    w : ndarray of float, shape (n_out, width)
        The columns, updated for all that was pruned before them.
    u : ndarray of the same dtype, shape (width, width)
        Their part of the upper triangular U with ``H^-1 = U.T @ U``.
    mask : ndarray of bool, shape (n_out, width)
        True = kept.

    Returns
    -------
    ndarray, shape (n_out, width)
        The new columns, zero where `mask` is False.
    ndarray, shape (n_out, width)
        Errors: a removed weight, as it was when its turn came, over ``u[j, j]``; zero where
        `mask` is True. ``errors @ U`` of the columns behind is what these have to be lowered by.

    Notes
    -----
    Nothing is checked. `refimpl.kernels.numba_sparsegpt.prune_block` gives the same bits.
    ``n_out * width**2`` FLOPs.
    """
    w, errors = w.copy(), np.empty_like(w)
    for j in range(w.shape[1]):  # l. 5
        errors[:, j] = _prune_column(w, u, j, mask[:, j])
    return w, errors


def prune_block_n_of_m(w: np.ndarray, u: np.ndarray, gone: np.ndarray, n: int, m: int) -> Pruned:
    """Prune a block of columns, of every `m` that stand side by side all but `n`, row by row.

    Parameters
    ----------
    w, u : ndarray
        As for `prune_block`; the block begins with a group and ends with one.
    gone : ndarray of bool, shape (n_out, width)
        True = not to be kept, whatever its score.
    n, m : int
        Weights to keep of every group, and its length. A group is chosen when its first column
        has its turn, by its weights as they are then.

    Returns
    -------
    ndarray, ndarray
        As `prune_block`.
    """
    w, errors = w.copy(), np.empty_like(w)
    for j in range(w.shape[1]):  # l. 5
        if j % m == 0:  # l. 6
            group = slice(j, j + m)
            scores = removal_scores(w[:, group], u[group, group])
            mask = n_of_m(np.where(gone[:, group], -1, scores), n, m) & ~gone[:, group]  # l. 7
        errors[:, j] = _prune_column(w, u, j, mask[:, j % m])
    return w, errors


def removal_scores(w: np.ndarray, u: np.ndarray) -> np.ndarray:
    r"""Rank the weights of some columns: the square is what removing one costs at its turn.

    Parameters
    ----------
    w : ndarray of float, shape (n_out, width)
        The columns as they are before any of them is pruned.
    u : ndarray of float, shape (width, width)
        Their part of U.

    Returns
    -------
    ndarray of float, shape (n_out, width)
        :math:`|w_c| / U_{cc}`, larger = keep: the root of Algorithm 1's :math:`w_c^2 / U_{cc}^2`,
        which ranks alike and neither overflows nor underflows.
    """
    return np.abs(w) / u.diagonal()


def sparsegpt_flops(n_out: int, n_in: int) -> int:
    r"""Count the operations of `sparsegpt`, whatever the block size, but for choosing the mask.

    Parameters
    ----------
    n_out, n_in : int
        Shape of the weight.

    Returns
    -------
    int
        :math:`\tfrac23 n_{in}^3 + \tfrac12 n_{in}^2 + \tfrac56 n_{in}` for a Cholesky factor and
        the inverse of a triangle, and :math:`n_{out} n_{in}^2` for the updates: of each weight one
        division, and a multiplication and a subtraction for every weight behind it. Nothing is
        saved where a weight is kept.

    Raises
    ------
    TypeError, ValueError
        If an argument is no count.

    Examples
    --------
    Of d x d weights :math:`\tfrac53 d^3`, and not :math:`O(d^2)`:

    >>> [round(sparsegpt_flops(d, d) / d**3, 3) for d in (64, 512, 4096)]
    [1.675, 1.668, 1.667]
    """
    check_count("sparsegpt_flops", "n_out", n_out, 0)
    check_count("sparsegpt_flops", "n_in", n_in, 0)
    n_out, n_in = int(n_out), int(n_in)
    factor = (4 * n_in**3 + 3 * n_in**2 + 5 * n_in) // 6
    return factor + n_out * n_in**2


def _prune_share(
    w: np.ndarray, u: np.ndarray, gone: np.ndarray, start: int, sparsity: float
) -> Pruned:
    """Prune a block that begins with column `start` to its share of the whole count."""
    n_before, n_after = (count_kept(len(w) * end, sparsity) for end in (start, start + len(u)))
    scores = np.where(gone, -1, removal_scores(w, u))
    mask = keep_top_k(scores, n_after - n_before) & ~gone  # l. 7
    return _computed(prune_block, numba_sparsegpt.prune_block, w, u, mask)


def _prune_groups(
    w: np.ndarray, u: np.ndarray, gone: np.ndarray, _start: int, n: int, m: int
) -> Pruned:
    return _computed(prune_block_n_of_m, numba_sparsegpt.prune_block_n_of_m, w, u, gone, n, m)


def _computed(
    clear: Callable[..., Pruned], compiled: Callable[..., None], *arguments: Any
) -> Pruned:
    """What the definition returns, from the definition or from its compiled twin."""
    w = arguments[0]
    if not compiled_for(w):
        return clear(*arguments)
    pruned = np.empty_like(w), np.empty_like(w)
    compiled(*arguments, *pruned)
    return pruned


def _prune_column(w: np.ndarray, u: np.ndarray, j: int, kept: np.ndarray) -> np.ndarray:
    """Prune column j in place, update the columns behind it, and return the errors."""
    zero = w.dtype.type(0)
    errors = np.where(kept, zero, w[:, j] / u[j, j])  # l. 9, 10
    w[:, j] = np.where(kept, w[:, j], zero)  # l. 15
    w[:, j + 1 :] -= errors[:, None] * u[j, j + 1 :]  # l. 11
    return errors


def _subtract_product(w: np.ndarray, errors: np.ndarray, u: np.ndarray) -> None:
    """Compute ``w -= errors @ u`` in place, some rows at a time."""
    for start in range(0, len(w), ROWS):
        rows = slice(start, start + ROWS)
        w[rows] -= errors[rows] @ u


def _check_finite(where: str, w: np.ndarray) -> None:
    n_finite = int(np.isfinite(w).sum())
    if n_finite < w.size:
        actual = f"{w.size - n_finite} infinite or NaN of {w.size}"
        raise bad_argument(where, "w", "be finite", actual, "look at how it was trained")
