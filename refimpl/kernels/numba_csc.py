"""CSC times a vector (SpMV) and CSC times a dense matrix (SpMM), compiled by Numba.

The definition of the product is `refimpl.formats.CSC.matmul`: each column scatters multiples of
a row of `x` over the rows of `out`. Two threads that scatter into one row would lose additions.
So each thread owns a range of the rows of `out`, and finds in each column, by bisection, the
entries that fall into its range. The additions to a row keep the order of the columns, and the
bits are the same on any number of threads.

On the arrays of a CSR matrix `a`, these functions compute ``a.T @ x``: the rows of `a` are the
columns of its transpose. Every size is read off `x` and `out`.

They trust their arguments, as all kernels do: see `refimpl.kernels.numba_csr`.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread
from refimpl.kernels.numba_csr_panels import csr_matmul_packed_panels
from refimpl.kernels.vectors import (
    aligned_rows,
    load_panel,
    load_panel_head,
    multiply_add,
    store_panel,
    store_panel_head,
)

ONE = np.uintp(1)  # unsigned, as the positions they are added to
TILE_BYTES = 65_536  # of the second-level cache; smaller tiles cut the columns into more pieces
SORTING_PAYS = 160  # columns of x from which on the sort is faster than scattering


def csc_matvec(data, indices, indptr, x, out):
    """Multiply CSC with a vector: each column scatters multiples of one entry of `x`.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (nnz,)
        IN. Stored values, column after column.
    indices : ndarray of int32 or int64, shape (nnz,)
        IN. Row of each value, increasing within a column.
    indptr : ndarray of int32 or int64, shape (n_columns + 1,)
        IN. Column ``j`` is stored at ``indptr[j]:indptr[j + 1]``.
    x : ndarray of float32 or float64, shape (n_columns,)
        IN.
    out : ndarray of float32 or float64, shape (n_rows,)
        OUT. Overwritten; must not overlap `x`.

    Notes
    -----
    ``out[indices[k]] += data[k] * x[j]`` over the entries of column j: 2 nnz FLOPs.

    As many ranges as pay: a bisection takes as long as some 40 additions, so a thread more needs
    64 entries of a column.
    """
    per_column = data.size // max(x.size, 1)
    n_ranges = max(min(get_num_threads(), per_column // 64), 1)
    _scatter_numbers(data, indices, indptr, x, out, n_ranges)


def csc_matmul(data, indices, indptr, x, out):
    """Multiply CSC with a dense matrix: each column scatters multiples of one row of `x`.

    Parameters
    ----------
    data, indices, indptr : ndarray
        IN. As for `csc_matvec`.
    x : ndarray of float32 or float64, shape (n_columns, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_rows, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    ``out[indices[k], :] += data[k] * x[j, :]``: 2 nnz batch FLOPs. Each stored value costs a
    load and a store of a whole row of `out`.
    """
    _scatter_rows(data, indices, indptr, x, out, get_num_threads())


def csc_matmul_tiles(data, indices, indptr, x, out):
    """Multiply CSC with a dense matrix, scattering into a tile of the result at a time.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `csc_matmul`.

    Notes
    -----
    A tile: up to 64 columns of as many rows of the result as fit into 64 KB. It stays in the
    nearest caches until all columns of the matrix have scattered into it.

    Cursors: each column remembers where the tile above ended, and goes on from there.

    A register panel: the piece of a row of `x` that a column scatters is loaded once a tile.
    """
    _scatter_into_tiles(data, indices, indptr, x, out, get_num_threads())


def csc_matmul_sorted(data, indices, indptr, x, out):
    """Multiply CSC with a dense matrix by sorting it into CSR first.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `csc_matmul`.

    Notes
    -----
    The sort takes the same time for any batch. The gather that follows stores each number of
    the result once, where a scatter stores it for every value.

    Side by side: the value and the column of an entry lie in one cache line, so that moving it
    touches one line and not two.
    """
    begins = _begins_of_rows(indices, indptr, out.shape[0])
    entry = np.dtype([("value", data.dtype), ("column", indices.dtype)], align=True)
    by_row = np.empty(data.size, entry)
    values, columns, free = by_row["value"], by_row["column"], begins[:-1].copy()
    _sort_by_row(data, indices, indptr, free, values, columns, get_num_threads())
    csr_matmul_packed_panels(values, columns, begins, x, out)


def csc_matmul_tiles_or_sorted(data, indices, indptr, x, out):
    """Multiply CSC with a dense matrix, sorting it first where the batch is wide enough.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `csc_matmul`.
    """
    matmul = csc_matmul_sorted if x.shape[1] >= SORTING_PAYS else csc_matmul_tiles
    matmul(data, indices, indptr, x, out)


@njit
def _rows_of(thread, n_threads, n_rows):
    """The range of rows that a thread owns."""
    return n_rows * thread // n_threads, n_rows * (thread + 1) // n_threads


@njit
def _entries(indices, indptr, column, low, high, n_rows):
    """Where the entries of a column in rows `low` to `high` begin and end."""
    begin, end = np.uintp(indptr[column]), np.uintp(indptr[column + 1])
    if high < n_rows:
        end = _first_from(indices, begin, end, high)
    if low > 0:
        begin = _first_from(indices, begin, end, low)
    return begin, end


@njit
def _first_from(indices, begin, end, row):
    """Which is the first of the entries whose row is `row` or lies below it, by bisection."""
    while begin < end:
        middle = (begin + end) >> ONE
        if indices[middle] < row:
            begin = middle + ONE
        else:
            end = middle
    return begin


@compiled
def _scatter_numbers(data, indices, indptr, x, out, n_threads):
    for thread in prange(n_threads):
        low, high = _rows_of(thread, n_threads, out.size)
        out[low:high] = 0
        for column in range(x.size):
            source = x[column]
            begin, end = _entries(indices, indptr, column, low, high, out.size)
            for k in range(begin, end):
                out[np.uintp(indices[k])] += data[k] * source


@compiled
def _scatter_rows(data, indices, indptr, x, out, n_threads):
    for thread in prange(n_threads):
        low, high = _rows_of(thread, n_threads, out.shape[0])
        out[low:high] = 0
        for column in range(x.shape[0]):
            source = x[column]
            begin, end = _entries(indices, indptr, column, low, high, out.shape[0])
            for k in range(begin, end):
                value, y = data[k], out[indices[k]]
                for j in range(y.size):
                    y[j] += value * source[j]


@compiled
def _scatter_into_tiles(data, indices, indptr, x, out, n_threads):
    n_rows, batch = out.shape
    # Memory before the loop: in it, nobody would see that there is none.
    all_starts = np.empty((n_threads, x.shape[0]), np.uintp)
    all_cursors = np.empty_like(all_starts)
    tiles = aligned_rows(n_threads, TILE_BYTES // out.itemsize, out)
    for thread in prange(n_threads):
        low, high = _rows_of(thread, n_threads, n_rows)
        starts, cursors, tile = all_starts[thread], all_cursors[thread], tiles[thread]
        for column in range(starts.size):
            starts[column] = _entries(indices, indptr, column, low, n_rows, n_rows)[0]
        for j in range(0, batch, 64):
            cursors[:] = starts
            if batch - j > 32:
                _scatter_panel(data, indices, indptr, x, out, low, high, cursors, tile, j, 64)
            elif batch - j > 16:
                _scatter_panel(data, indices, indptr, x, out, low, high, cursors, tile, j, 32)
            else:
                _scatter_panel(data, indices, indptr, x, out, low, high, cursors, tile, j, 16)


@njit(inline="always")  # so that `lanes` is a literal
def _scatter_panel(data, indices, indptr, x, out, low, high, cursors, room, j, lanes):
    """Write rows `low` to `high` of the result, in up to `lanes` columns from `j` on."""
    tile, n = room.reshape(room.size // lanes, lanes), min(out.shape[1] - j, lanes)
    for top in range(low, high, len(tile)):
        bottom = min(top + len(tile), high)
        tile[: bottom - top] = 0
        for column in range(cursors.size):
            k, end = cursors[column], np.uintp(indptr[column + 1])
            x_panel = load_panel_head(x, column, j, lanes, n)
            while k < end and indices[k] < bottom:
                row = indices[k] - top
                y = load_panel(tile, row, 0, lanes)
                store_panel(tile, row, 0, multiply_add(y, data[k], x_panel))
                k += ONE
            cursors[column] = k
        for row in range(bottom - top):
            store_panel_head(out, top + row, j, load_panel(tile, row, 0, lanes), n)


@compiled_for_one_thread
def _begins_of_rows(indices, indptr, n_rows):
    """The row pointers: a running total of the entries in each row."""
    begins = np.zeros(n_rows + 1, indptr.dtype)
    for k in range(indices.size):
        begins[np.uintp(indices[k]) + ONE] += 1
    for row in range(n_rows):
        begins[row + 1] += begins[row]
    return begins


@compiled
def _sort_by_row(data, indices, indptr, free, values, columns, n_threads):
    """Move each entry to the next free place of its row."""
    for thread in prange(n_threads):
        low, high = _rows_of(thread, n_threads, free.size)
        for column in range(indptr.size - 1):
            begin, end = _entries(indices, indptr, column, low, high, free.size)
            for k in range(begin, end):
                row = np.uintp(indices[k])
                place = np.uintp(free[row])
                values[place], columns[place] = data[k], column
                free[row] += 1
