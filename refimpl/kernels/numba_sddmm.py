"""SDDMM, the product of two dense matrices at the places of a pattern only, compiled by Numba.

The definition is `refimpl.kernels.sddmm.sddmm_by_example`. For a weight of shape (n_out, n_in) it
is the weight's gradient, ``sum over the batch of dy[b, i] * x[b, j]``, at its stored entries.

Every kernel reads both factors feature by feature: `dy` is (n_out, batch) and `x` is (n_in,
batch), so that an entry is the dot product of two rows. `refimpl.kernels.feature_rows` lays them
out: a row begins on a cache line and is filled up with zeros to a multiple of 16 numbers, which
add nothing. The kernels trust their arguments; `refimpl.kernels.sddmm` checks them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from refimpl.kernels.numba_csr import compiled
from refimpl.kernels.vectors import load_panel, multiply_add_panels, sum_panel, zero_panel

LANES = 16  # partial sums of a dot product, side by side in a panel
BATCH_BLOCK = 512  # numbers of a row that are multiplied before the next block of columns
X_BLOCK_BYTES = 3 * 2**18  # of x in one block; measured where a core has 2 MB of L2 cache


@compiled
def csr_sddmm(indices, indptr, dy, x, out):
    """Compute the gradient of a CSR weight, one number of a dot product after the other.

    Parameters
    ----------
    indices : ndarray of int32 or int64, shape (nnz,)
        IN. Column of each stored entry.
    indptr : ndarray of int32 or int64, shape (n_out + 1,)
        IN. Row ``i`` is stored at ``indptr[i]:indptr[i + 1]``.
    dy : ndarray of float32 or float64, shape (n_out, batch)
        IN. C-contiguous; batch is a multiple of 16.
    x : ndarray of float32 or float64, shape (n_in, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (nnz,)
        OUT. Overwritten; must not overlap `dy` or `x`.

    Notes
    -----
    ``out[k] = sum_b dy[i, b] * x[indices[k], b]`` for each entry k of row i: 2 nnz batch FLOPs.
    Without ``fastmath`` the additions keep their order, so each waits for the one before it.
    """
    for row in prange(dy.shape[0]):
        for k in range(indptr[row], indptr[row + 1]):
            total = out.dtype.type(0)
            for b in range(x.shape[1]):
                total += dy[row, b] * x[indices[k], b]
            out[k] = total


@compiled
def csr_sddmm_sixteen_sums(indices, indptr, dy, x, out):
    """Compute the gradient of a CSR weight, sixteen partial sums of a dot product at a time.

    Parameters
    ----------
    indices, indptr, dy, x, out : ndarray
        As for `csr_sddmm`.

    Notes
    -----
    Sixteen sums in one vector register wait for each other no more, and are added up at the end.
    """
    for row in prange(dy.shape[0]):
        for k in range(indptr[row], indptr[row + 1]):
            out[k] = _dot(dy, row, x, indices[k], 0, x.shape[1])


@compiled
def csr_sddmm_four_entries(indices, indptr, dy, x, out):
    """Compute the gradient of a CSR weight, four entries of a row at a time.

    Parameters
    ----------
    indices, indptr, dy, x, out : ndarray
        As for `csr_sddmm`.

    Notes
    -----
    Four entries of a row at a time: each panel of `dy` is loaded once for four panels of `x`.
    """
    out[:] = 0
    for row in prange(dy.shape[0]):
        _add_dots(indices, indptr[row], indptr[row + 1], dy, row, x, 0, x.shape[1], out)


@compiled
def csr_sddmm_cache_blocks(indices, indptr, dy, x, out):
    """Compute the gradient of a CSR weight, one cache-sized block of `x` after the other.

    Parameters
    ----------
    indices, indptr, dy, x, out : ndarray
        As for `csr_sddmm`.

    Notes
    -----
    Blocks of 512 numbers of the batch times as many rows of `x` as fill 768 KB: every
    row of the weight meets a block while it lies in the second-level cache. `cursor` is where
    each row has got to; its columns increase, so the entries of a block are a stretch of it.
    """
    batch = x.shape[1]
    width = X_BLOCK_BYTES // (x.itemsize * max(1, min(batch, BATCH_BLOCK)))
    cursor = np.empty_like(indptr)
    out[:] = 0
    for start in range(0, batch, BATCH_BLOCK):
        end = min(start + BATCH_BLOCK, batch)
        cursor[:] = indptr
        for next_block in range(width, x.shape[0] + width, width):
            for row in prange(dy.shape[0]):
                first, last = cursor[row], indptr[row + 1]
                if first < last and indices[last - 1] >= next_block:
                    last = first + np.searchsorted(indices[first:last], next_block)
                cursor[row] = last
                _add_dots(indices, first, last, dy, row, x, start, end, out)


@compiled
def bsr_sddmm(indices, indptr, dy, x, out):
    """Compute the gradient of a BSR weight, two rows and four columns of a block at a time.

    Parameters
    ----------
    indices : ndarray of int32 or int64, shape (n_blocks,)
        IN. Block column of each stored block.
    indptr : ndarray of int32 or int64, shape (n_out / r + 1,)
        IN. Block row ``i`` is stored at ``indptr[i]:indptr[i + 1]``.
    dy, x : ndarray
        IN. As for `csr_sddmm`.
    out : ndarray of float32 or float64, shape (n_blocks, r, c)
        OUT. Overwritten; must not overlap `dy` or `x`.

    Notes
    -----
    2 n_blocks r c batch FLOPs. Two rows of `dy` and four of `x` make eight dot products from six
    loads a step, where one entry at a time takes two loads for each.
    """
    r, c = out.shape[1:]
    for block_row in prange(indptr.size - 1):
        for k in range(indptr[block_row], indptr[block_row + 1]):
            for i in range(0, r, 2):
                for j in range(0, c, 4):
                    if i + 2 <= r and j + 4 <= c:
                        row, column = block_row * r + i, indices[k] * c + j
                        _store_eight_dots(dy, row, x, column, out, k, i, j)
                    else:  # at the edge of a block of another size
                        for p in range(i, min(i + 2, r)):
                            for q in range(j, min(j + 4, c)):
                                row, column = block_row * r + p, indices[k] * c + q
                                out[k, p, q] = _dot(dy, row, x, column, 0, x.shape[1])


@njit(inline="always")
def _dot(dy, i, x, j, start, end):
    """Give the dot product of ``dy[i, start:end]`` and ``x[j, start:end]``."""
    sums = zero_panel(x, LANES)
    for b in range(start, end, LANES):
        sums = multiply_add_panels(sums, load_panel(dy, i, b, LANES), load_panel(x, j, b, LANES))
    return sum_panel(sums)


@njit(inline="always")
def _four_dots(dy, i, x, indices, k, start, end):
    """Give the dot products of one row of `dy` with the rows of `x` of four entries."""
    j0, j1, j2, j3 = indices[k], indices[k + 1], indices[k + 2], indices[k + 3]
    s0 = s1 = s2 = s3 = zero_panel(x, LANES)
    for b in range(start, end, LANES):
        y = load_panel(dy, i, b, LANES)
        s0 = multiply_add_panels(s0, y, load_panel(x, j0, b, LANES))
        s1 = multiply_add_panels(s1, y, load_panel(x, j1, b, LANES))
        s2 = multiply_add_panels(s2, y, load_panel(x, j2, b, LANES))
        s3 = multiply_add_panels(s3, y, load_panel(x, j3, b, LANES))
    return sum_panel(s0), sum_panel(s1), sum_panel(s2), sum_panel(s3)


@njit(inline="always")
def _add_dots(indices, first, last, dy, row, x, start, end, out):
    """Add to the entries `first` to `last` of a row what the batch from `start` to `end` gives."""
    rest = last - (last - first) % 4
    for k in range(first, rest, 4):
        d0, d1, d2, d3 = _four_dots(dy, row, x, indices, k, start, end)
        out[k] += d0
        out[k + 1] += d1
        out[k + 2] += d2
        out[k + 3] += d3
    for k in range(rest, last):
        out[k] += _dot(dy, row, x, indices[k], start, end)


@njit(inline="always")
def _store_eight_dots(dy, row, x, column, out, k, i, j):
    """Write a tile of 2 by 4 of block k: two rows of `dy` with four rows of `x`."""
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = zero_panel(x, LANES)
    for b in range(0, x.shape[1], LANES):
        x0, x1 = load_panel(x, column, b, LANES), load_panel(x, column + 1, b, LANES)
        x2, x3 = load_panel(x, column + 2, b, LANES), load_panel(x, column + 3, b, LANES)
        y = load_panel(dy, row, b, LANES)
        s0, s1 = multiply_add_panels(s0, y, x0), multiply_add_panels(s1, y, x1)
        s2, s3 = multiply_add_panels(s2, y, x2), multiply_add_panels(s3, y, x3)
        y = load_panel(dy, row + 1, b, LANES)
        t0, t1 = multiply_add_panels(t0, y, x0), multiply_add_panels(t1, y, x1)
        t2, t3 = multiply_add_panels(t2, y, x2), multiply_add_panels(t3, y, x3)
    out[k, i, j], out[k, i, j + 1] = sum_panel(s0), sum_panel(s1)
    out[k, i, j + 2], out[k, i, j + 3] = sum_panel(s2), sum_panel(s3)
    out[k, i + 1, j], out[k, i + 1, j + 1] = sum_panel(t0), sum_panel(t1)
    out[k, i + 1, j + 2], out[k, i + 1, j + 3] = sum_panel(t2), sum_panel(t3)
