"""BSR times a vector (SpMV) and BSR times a dense matrix (SpMM), compiled by Numba.

The definition of the product is `refimpl.formats.BSR.matmul`. The kernels for a dense matrix are
four steps of one walk, from the plain loop to a block of registers fed from packed memory; the
table of kernels holds all of them, so that the gain of each step can be measured.

Each number of the result is summed in an order that depends on the matrix alone, so the bits
are the same on any number of threads. They trust their arguments, as all kernels do: see
`refimpl.kernels.numba_csr`.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange
from numba.core.codegen import get_host_cpu_features
from numba.extending import overload, register_jitable

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread
from refimpl.kernels.numba_csr_panels import share_of_rows
from refimpl.kernels.vectors import (
    aligned_rows,
    load_panel,
    load_panel_head,
    multiply_add,
    multiply_add_panels,
    store_panel,
    store_panel_head,
    sum_panel,
    zero_panel,
)


@compiled
def bsr_matmul(data, indices, indptr, x, out):
    """Multiply BSR with a dense matrix, one stored value at a time.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_blocks, r, c)
        IN. Stored blocks, row of blocks after row of blocks.
    indices : ndarray of int32 or int64, shape (n_blocks,)
        IN. Column of blocks of each block.
    indptr : ndarray of int32 or int64, shape (n_rows / r + 1,)
        IN. Row ``i`` of blocks is stored at ``indptr[i]:indptr[i + 1]``.
    x : ndarray of float32 or float64, shape (n_columns, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_rows, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    ``out[r i + p, :] = sum_k sum_q data[k, p, q] * x[c indices[k] + q, :]``: 2 nnz batch FLOPs.
    The loops of `refimpl.kernels.numba_csr.csr_matmul`, with one index for c values in place
    of one index each. Each value costs a load of a row of `x`, and a load and a store of a
    row of `out`.
    """
    _, r, c = data.shape
    for row in prange(indptr.size - 1):
        for p in range(r):
            y = out[row * r + p]
            y[:] = 0
            for k in range(indptr[row], indptr[row + 1]):
                for q in range(c):
                    value, source = data[k, p, q], x[indices[k] * c + q]
                    for j in range(y.size):
                        y[j] += value * source[j]


def bsr_matmul_row_panels(data, indices, indptr, x, out):
    """Multiply BSR with a dense matrix, a panel of one row of the result in registers.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `bsr_matmul`.

    Notes
    -----
    A register panel: 256 bytes of a row of `out` stay in registers until their sum is done, and
    are stored once. A value now costs the load of its panel of `x`, and nothing else.
    """
    _multiply_in_place(data, indices, indptr, x, out, 0)


def bsr_matmul_register_blocks(data, indices, indptr, x, out):
    """Multiply BSR with a dense matrix, panels of four rows of the result in registers.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `bsr_matmul`.

    Notes
    -----
    A register block: the rows of a block all need the same panel of `x`. Four of them are
    summed side by side, so that each load of it serves four multiplications.
    """
    _multiply_in_place(data, indices, indptr, x, out, _by_fours(data.shape[1]))


def bsr_matmul_packed_panels(data, indices, indptr, x, out):
    """Multiply BSR with a dense matrix by register blocks, from packed copies of its columns.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `bsr_matmul`.

    Notes
    -----
    Packing: a panel of `x` is copied before it is used, as in a dense product. In place, its
    rows lie a whole row of `x` apart and share few of the cache's sets, and most begin in the
    middle of a cache line.

    A narrow last panel: what is left of the batch takes a half or a quarter of the registers
    where that is enough.

    Equal work: each thread takes an equal share of the blocks of all panels, in order, and
    packs the panels that it meets.
    """
    _share_panels(data, None, indices, indptr, x, out, get_num_threads())


def bsr_matmul_transposed(data, indices, indptr, x, out):
    """Multiply the transpose of BSR with a dense matrix.

    Parameters
    ----------
    data, indices, indptr : ndarray
        IN. As for `bsr_matmul`.
    x : ndarray of float32 or float64, shape (n_rows, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_columns, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    Gather, not scatter: the blocks are listed by column first, which takes time for each block
    and not for each value. Then a row of blocks of the result is one thread's alone, as in
    `bsr_matmul_packed_panels`. The values stay where they are.
    """
    n_columns = len(out) // data.shape[2]
    order, rows, starts = _blocks_by_column(indices, indptr, n_columns)
    by_column = (data.transpose(0, 2, 1), order, rows, starts)
    _share_panels(*by_column, x, out, get_num_threads())


@compiled
def bsr_matvec(data, indices, indptr, x, out):
    """Multiply BSR with a vector: panels run along the rows of a block.

    Parameters
    ----------
    data, indices, indptr : ndarray
        IN. As for `bsr_matmul`.
    x : ndarray of float32 or float64, shape (n_columns,)
        IN.
    out : ndarray of float32 or float64, shape (n_rows,)
        OUT. Overwritten; must not overlap `x`.

    Notes
    -----
    2 nnz FLOPs. A row of a block lies side by side with the piece of `x` that it meets: 16 or
    4 products in one instruction where c is a multiple of that.

    Four rows at a time: they share the load of `x`, and none waits for another's sum.
    """
    _, r, c = data.shape
    fours = _by_fours(r) if c % 4 == 0 else 0
    for row in prange(indptr.size - 1):
        for p in range(0, fours, 4):
            if c % 16 == 0:
                _dot_four_rows(data, indices, indptr, row, p, x, out, 16)
            else:
                _dot_four_rows(data, indices, indptr, row, p, x, out, 4)
        for p in range(fours, r):
            total = out.dtype.type(0)
            for k in range(indptr[row], indptr[row + 1]):
                for q in range(c):
                    total += data[k, p, q] * x[indices[k] * c + q]
            out[row * r + p] = total


def bsr_matvec_transposed(data, indices, indptr, x, out):
    """Multiply the transpose of BSR with a vector, as with a matrix of one column.

    Parameters
    ----------
    data, indices, indptr : ndarray
        IN. As for `bsr_matmul`.
    x : ndarray of float32 or float64, shape (n_rows,)
        IN.
    out : ndarray of float32 or float64, shape (n_columns,)
        OUT. Overwritten; must not overlap `x`.
    """
    bsr_matmul_transposed(data, indices, indptr, x[:, None], out[:, None])


def lanes_of(x, parts):
    """Say how many numbers of the dtype of `x` are in a panel, or in a part of one.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Only its dtype counts.
    parts : int
        1, 2 or 4; a literal.

    Returns
    -------
    int
        In compiled code a literal.

    Notes
    -----
    Four panels of 256 bytes fill half of the 32 registers of AVX-512. A machine with 16
    registers of half the length has room for panels of 64 bytes: with longer ones it stores
    and loads registers all the time.
    """
    return _panel_bytes() // (parts * x.itemsize)


def _panel_bytes():
    return 256 if "+avx512f" in get_host_cpu_features() else 64


@overload(lanes_of, inline="always", prefer_literal=True)
def _compiled_lanes_of(x, parts):
    lanes = _panel_bytes() // (parts.literal_value * x.dtype.bitwidth // 8)
    return lambda x, parts: lanes  # noqa: ARG005 - the signature of `lanes_of`


@register_jitable
def _by_fours(n):
    """How many of `n` rows are taken by fours."""
    return n - n % 4


@compiled
def _multiply_in_place(data, indices, indptr, x, out, fours):
    """Compute the product from panels of `x` as they lie, the first `fours` rows by fours."""
    r, n_rows, wide = data.shape[1], indptr.size - 1, lanes_of(x, 1)
    whole = out.shape[1] - out.shape[1] % wide
    for row in prange(n_rows):
        first, last = indptr[row], indptr[row + 1]
        for j in range(0, whole, wide):
            panel, y = x[:, j : j + wide], out[row * r : (row + 1) * r, j : j + wide]
            _row_of_blocks(data, None, indices, first, last, panel, y, fours, wide)
    rest, y = x[:, whole:], out[:, whole:]  # of the batch, less than a panel
    room = aligned_rows(1, x.shape[0] * wide, x)[0]
    _multiply_packed(data, None, indices, indptr, 0, n_rows, rest, y, room, fours, wide)


@compiled
def _share_panels(data, order, sources, indptr, x, out, n_threads):
    """Compute the product from packed panels; `order` is None if blocks are read as they lie."""
    wide = lanes_of(x, 1)
    n_panels = (out.shape[1] + wide - 1) // wide
    rooms = aligned_rows(n_threads, x.shape[0] * wide, x)  # in the loop, nobody would see it fail
    for thread in prange(n_threads):
        # Each panel has n_threads shares of rows, and each thread takes n_panels shares in order.
        begin, end = thread * n_panels, (thread + 1) * n_panels
        for panel in range(begin // n_threads, (end + n_threads - 1) // n_threads):
            first = share_of_rows(indptr, max(begin - panel * n_threads, 0), n_threads)
            last = share_of_rows(indptr, min(end - panel * n_threads, n_threads), n_threads)
            j = panel * wide
            x_panel, y = x[:, j : j + wide], out[:, j : j + wide]
            _multiply_panel(data, order, sources, indptr, first, last, x_panel, y, rooms[thread])


@njit
def _multiply_panel(data, order, sources, indptr, first, last, x, out, room):
    """Write rows `first` to `last` of blocks, in registers as few as the columns of `x` allow."""
    n, wide, fours = out.shape[1], lanes_of(x, 1), _by_fours(data.shape[1])
    if n > wide // 2:
        _multiply_packed(
            data, order, sources, indptr, first, last, x, out, room, fours, lanes_of(x, 1)
        )
    elif n > wide // 4:
        _multiply_packed(
            data, order, sources, indptr, first, last, x, out, room, fours, lanes_of(x, 2)
        )
    else:
        _multiply_packed(
            data, order, sources, indptr, first, last, x, out, room, fours, lanes_of(x, 4)
        )


@njit
def _multiply_packed(data, order, sources, indptr, first, last, x, out, room, fours, lanes):
    """Write rows `first` to `last` of blocks from a packed copy of `x`, at most a panel wide."""
    if first == last or x.shape[1] == 0:
        return
    r, packed = data.shape[1], _packed(x, room, lanes)
    for row in range(first, last):
        begin, end, y = indptr[row], indptr[row + 1], out[row * r : (row + 1) * r]
        _row_of_blocks(data, order, sources, begin, end, packed, y, fours, lanes)


@njit
def _packed(x, room, lanes):
    """Copy a panel to memory where its rows follow each other, and fill it up with zeros."""
    packed, n = room[: x.shape[0] * lanes].reshape(x.shape[0], lanes), x.shape[1]
    for i in range(x.shape[0]):
        if n == lanes:
            store_panel(packed, i, 0, load_panel(x, i, 0, lanes))
        else:
            store_panel(packed, i, 0, load_panel_head(x, i, 0, lanes, n))
    return packed


@njit
def _row_of_blocks(data, order, sources, first, last, x, y, fours, lanes):
    """Write the r rows that a row of blocks has in a panel, the first `fours` by fours."""
    for p in range(0, fours, 4):
        _four_rows(data, order, sources, first, last, p, x, y, lanes)
    for p in range(fours, data.shape[1]):
        _one_row(data, order, sources, first, last, p, x, y, lanes)


@njit
def _four_rows(data, order, sources, first, last, p, x, y, lanes):
    """Write rows p to p + 3 of a panel, the sums over all blocks of their row of blocks."""
    c = data.shape[2]
    y0 = y1 = y2 = y3 = zero_panel(x, lanes)
    for k in range(first, last):
        block, top = k if order is None else order[k], sources[k] * c
        for q in range(c):
            x_panel = load_panel(x, top + q, 0, lanes)
            y0 = multiply_add(y0, data[block, p, q], x_panel)
            y1 = multiply_add(y1, data[block, p + 1, q], x_panel)
            y2 = multiply_add(y2, data[block, p + 2, q], x_panel)
            y3 = multiply_add(y3, data[block, p + 3, q], x_panel)
    store_panel_head(y, p, 0, y0, y.shape[1])
    store_panel_head(y, p + 1, 0, y1, y.shape[1])
    store_panel_head(y, p + 2, 0, y2, y.shape[1])
    store_panel_head(y, p + 3, 0, y3, y.shape[1])


@njit
def _one_row(data, order, sources, first, last, p, x, y, lanes):
    """Write row p of a panel, the sum over all blocks of its row of blocks."""
    c = data.shape[2]
    total = zero_panel(x, lanes)
    for k in range(first, last):
        block, top = k if order is None else order[k], sources[k] * c
        for q in range(c):
            x_panel = load_panel(x, top + q, 0, lanes)
            total = multiply_add(total, data[block, p, q], x_panel)
    store_panel_head(y, p, 0, total, y.shape[1])


@njit
def _dot_four_rows(data, indices, indptr, row, p, x, out, lanes):
    """Write numbers p to p + 3 of a row of blocks."""
    n_blocks, r, c = data.shape
    values, sources = data.reshape(n_blocks * r, c), x.reshape(x.size // c, c)
    y0 = y1 = y2 = y3 = zero_panel(x, lanes)
    for k in range(indptr[row], indptr[row + 1]):
        top = k * r + p
        for q in range(0, c, lanes):
            x_panel = load_panel(sources, indices[k], q, lanes)
            y0 = multiply_add_panels(y0, load_panel(values, top, q, lanes), x_panel)
            y1 = multiply_add_panels(y1, load_panel(values, top + 1, q, lanes), x_panel)
            y2 = multiply_add_panels(y2, load_panel(values, top + 2, q, lanes), x_panel)
            y3 = multiply_add_panels(y3, load_panel(values, top + 3, q, lanes), x_panel)
    y = out[row * r + p :]
    y[0], y[1], y[2], y[3] = sum_panel(y0), sum_panel(y1), sum_panel(y2), sum_panel(y3)


@compiled_for_one_thread
def _blocks_by_column(indices, indptr, n_columns):
    """List the blocks column by column: their numbers, their rows of blocks, the pointers."""
    starts = np.zeros(n_columns + 1, np.intp)
    for k in range(indices.size):
        starts[indices[k] + 1] += 1
    for column in range(n_columns):
        starts[column + 1] += starts[column]
    free = starts[:-1].copy()
    order, rows = np.empty(indices.size, np.intp), np.empty(indices.size, np.intp)
    for row in range(indptr.size - 1):
        for k in range(indptr[row], indptr[row + 1]):
            place = free[indices[k]]
            order[place], rows[place] = k, row
            free[indices[k]] += 1
    return order, rows, starts
