"""SparseGPT's inner loop: prune a block of columns one by one, and let those behind make up for it.

The definitions are `refimpl.prune.sparsegpt.prune_block` and `prune_block_n_of_m`, which take a
column of all rows at a time: each subtracts an outer product from the whole rest of the block, in
memory. Here 64 rows are taken through all columns of the block before the next 64 begin.

Transposed tiles: a tile holds a column of its rows side by side, so that a column, its mask and
its errors are a few vector registers, and the whole tile stays in the first-level cache. The
operations on a number, their order and their rounding are those of the definition: the bits are
the same, on any number of threads.

They trust their arguments, and take C-contiguous arrays only.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numba.extending import register_jitable

from refimpl.kernels.numba_csr import compiled

TILE = 64  # rows: a tile of 128 columns of them is 32 KiB in float32


@compiled
def prune_block(w, u, mask, out, errors):
    """Prune a block of columns by a mask.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, width)
        IN. The columns, updated for all that was pruned before them.
    u : ndarray, shape (width, width)
        IN. Their part of the upper triangular U with ``H^-1 = U.T @ U``.
    mask : ndarray of bool, shape (n_out, width)
        IN. True = kept.
    out : ndarray, shape (n_out, width)
        OUT. The new columns, zero where `mask` is False.
    errors : ndarray, shape (n_out, width)
        OUT. What each removed weight leaves to the columns behind the block, in units of
        ``u[j, j]``; zero where `mask` is True.
    """
    n_rows, width = w.shape
    for tile in prange((n_rows + TILE - 1) // TILE):
        first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
        columns, kept = transposed(w, first, last), np.empty(last - first, np.bool_)
        left = np.empty_like(columns)
        for j in range(width):
            for i in range(last - first):
                kept[i] = mask[first + i, j]
            prune_column(columns, u, j, kept, left[j])
        put_back(columns, first, out)
        put_back(left, first, errors)


@compiled
def prune_block_n_of_m(w, u, gone, n, m, out, errors):
    """Prune a block of columns, of every `m` that stand side by side all but `n`, row by row.

    Parameters
    ----------
    w, u, out, errors : ndarray
        As for `prune_block`; the block begins with a group and ends with one.
    gone : ndarray of bool, shape (n_out, width)
        IN. True = not to be kept, whatever its score.
    n, m : int
        IN. Weights to keep of every group, and its length.

    Notes
    -----
    Ranks instead of a sort: a weight stays if fewer than n of its group come before it. These
    are m comparisons for each weight, all of them of whole registers.
    """
    n_rows, width = w.shape
    for tile in prange((n_rows + TILE - 1) // TILE):
        first, last = tile * TILE, min((tile + 1) * TILE, n_rows)
        columns, kept = transposed(w, first, last), np.empty((m, last - first), np.bool_)
        left = np.empty_like(columns)
        for j in range(width):
            if j % m == 0:
                keep_n_of_group(columns, u, gone[first:last], j, n, kept)
            prune_column(columns, u, j, kept[j % m], left[j])
        put_back(columns, first, out)
        put_back(left, first, errors)


@register_jitable
def prune_column(columns, u, j, kept, left):
    """Take one column of a tile out where it is not kept, and update the columns behind it.

    Parameters
    ----------
    columns : ndarray, shape (width, rows)
        IN and OUT. The tile.
    u : ndarray, shape (width, width)
        IN. As for `prune_block`.
    j : int
        IN. Which column.
    kept : ndarray of bool, shape (rows,)
        IN. Its mask.
    left : ndarray, shape (rows,)
        OUT. Its errors.
    """
    column, zero = columns[j], u.dtype.type(0)
    for i in range(kept.size):
        left[i] = zero if kept[i] else column[i] / u[j, j]
        column[i] = column[i] if kept[i] else zero
    for k in range(j + 1, len(columns)):
        later, factor = columns[k], u[j, k]
        for i in range(kept.size):
            later[i] -= left[i] * factor


@register_jitable
def keep_n_of_group(columns, u, gone, start, n, kept):
    """Mark the `n` weights of each row of a group that cost most to remove; ties to the first.

    Parameters
    ----------
    columns, u : ndarray
        IN. As for `prune_column`.
    gone : ndarray of bool, shape (rows, width)
        IN. True = goes first, and never stays.
    start, n : int
        IN. First column of the group, and how many of its weights stay.
    kept : ndarray of bool, shape (m, rows)
        OUT. The group's mask.
    """
    m, n_rows = kept.shape
    scores, before = np.empty((m, n_rows), u.dtype), np.empty(n_rows, np.int32)
    for a in range(m):
        for i in range(n_rows):
            score = abs(columns[start + a, i]) / u[start + a, start + a]
            scores[a, i] = u.dtype.type(-1) if gone[i, start + a] else score
    for a in range(m):
        before[:] = 0
        for b in range(m):
            for i in range(n_rows):
                tie = b < a and scores[b, i] == scores[a, i]
                before[i] += scores[b, i] > scores[a, i] or tie
        for i in range(n_rows):
            kept[a, i] = before[i] < n and scores[a, i] >= 0


@register_jitable
def transposed(w, first, last):
    """Copy rows of a block as a tile, (width, rows)."""
    columns = np.empty((w.shape[1], last - first), w.dtype)
    for i in range(first, last):
        for j in range(w.shape[1]):
            columns[j, i - first] = w[i, j]
    return columns


@register_jitable
def put_back(columns, first, out):
    """Copy a tile to the rows of an array that begin with `first`."""
    for i in range(columns.shape[1]):
        for j in range(columns.shape[0]):
            out[first + i, j] = columns[j, i]
