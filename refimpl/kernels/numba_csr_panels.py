"""CSR times a dense matrix with a panel of the result kept in registers.

The loops of `refimpl.kernels.numba_csr` load and store a row of the result for every stored
value, or for every fourth. Here 64 numbers of that row stay in registers for a whole row of the
matrix: each stored value costs one load of `x` and one fused multiply-add a register.

A row adds in an order that depends on the row alone: the bits are the same on any number of
threads, and differ from the definition's by rounding.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange
from numba.extending import register_jitable

from refimpl.kernels.numba_csr import compiled
from refimpl.kernels.vectors import (
    add_panels,
    aligned_rows,
    load_panel,
    load_panel_head,
    multiply_add,
    store_panel,
    store_panel_head,
    zero_panel,
)

WIDE, NARROW = 64, 16  # numbers in a panel; narrow ones take what is left of the batch
ONE, TWO = np.uintp(1), np.uintp(2)  # unsigned, as the positions they are added to


@compiled
def csr_matmul_register_panels(data, indices, indptr, x, out):
    """Multiply CSR with a dense matrix, 64 columns of the result in registers.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `refimpl.kernels.numba_csr.csr_matmul`.

    Notes
    -----
    A register panel: a row of the result is not stored, and never loaded, until its sum is done.

    A masked head: the last, partial panel reads and writes only the columns that exist.
    """
    n = out.shape[1]
    for row in prange(out.shape[0]):
        for j in range(0, n, WIDE):
            y, width = zero_panel(out, WIDE), min(WIDE, n - j)
            for k in range(np.uintp(indptr[row]), np.uintp(indptr[row + 1])):
                y = multiply_add(y, data[k], load_panel_head(x, indices[k], j, WIDE, width))
            store_panel_head(out, row, j, y, width)


def csr_matmul_packed_panels(data, indices, indptr, x, out):
    """Multiply CSR with a dense matrix, from packed copies of 64 of its columns.

    Parameters
    ----------
    data, indices, indptr, x, out : ndarray
        As for `refimpl.kernels.numba_csr.csr_matmul`.

    Notes
    -----
    Packing: 64 columns of `x` are copied together. Left in place, their rows lie a whole row of
    `x` apart and share few of the cache's sets, and most begin in the middle of a cache line.

    Two chains: values at even and odd places add to a panel each. A fused multiply-add takes
    four cycles, and a single chain waits for each.

    Equal work: threads share the rows so that each has as many stored values. They share the
    panels instead where that comes out even, so that each panel is packed once.
    """
    _share_packed_panels(data, indices, indptr, x, out, get_num_threads())


@compiled
def _share_packed_panels(data, indices, indptr, x, out, n_threads):
    n_wide, n_panels = panels(out.shape[1])
    n_shares = 1 if n_panels % n_threads == 0 else n_threads
    rooms = rooms_for_panels(n_threads, x.shape[0], n_wide, x)
    for thread in prange(n_threads):
        wide, narrow = as_panels(rooms[thread])
        packed = -1
        for task in tasks_of(thread, n_threads, n_panels * n_shares):
            panel, share = task // n_shares, task % n_shares
            j = first_column(panel, n_wide)
            first = share_of_rows(indptr, share, n_shares)
            last = share_of_rows(indptr, share + 1, n_shares)
            if panel < n_wide:
                if packed < panel:
                    pack_wide(x, j, wide)
                rows_times_wide(data, indices, indptr, first, last, wide, out, j)
            else:
                if packed < panel:
                    pack_narrow(x, j, narrow)
                rows_times_narrow(data, indices, indptr, first, last, narrow, out, j)
            packed = panel


@register_jitable
def panels(n):
    """Cut a batch into wide panels while one is filled by half, then into narrow ones.

    Parameters
    ----------
    n : int
        Columns of the batch.

    Returns
    -------
    int
        How many wide panels there are.
    int
        How many panels there are in all; the narrow ones come last.
    """
    n_wide = (n + WIDE // 2 - 1) // WIDE
    return n_wide, n_wide + (max(n - n_wide * WIDE, 0) + NARROW - 1) // NARROW


@register_jitable
def first_column(panel, n_wide):
    """Give the first column of a panel, where the first `n_wide` panels are wide."""
    return panel * WIDE - max(panel - n_wide, 0) * (WIDE - NARROW)


@register_jitable
def rooms_for_panels(n_threads, n_rows, n_wide, like):
    """Give each thread memory for one packed panel, before the threads begin.

    Parameters
    ----------
    n_threads, n_rows : int
        How many threads, and rows in a panel.
    n_wide : int
        How many panels are wide; without any, a room holds a narrow one.
    like : ndarray of float32 or float64
        Array whose dtype the panels have.

    Returns
    -------
    ndarray, one row for each thread
        Every row begins on a cache line. Not initialised.

    Notes
    -----
    Where a thread of a ``prange`` loop finds no memory, Numba ends its share without a word, and
    the result is garbage. Here it is a `MemoryError`.
    """
    return aligned_rows(n_threads, n_rows * (WIDE if n_wide else NARROW), like)


@register_jitable
def as_panels(room):
    """Read a thread's room as a wide panel and as a narrow one; only one of them is in use."""
    n_wide, n_narrow = room.size // WIDE, room.size // NARROW
    wide = room[: n_wide * WIDE].reshape(n_wide, WIDE)
    return wide, room[: n_narrow * NARROW].reshape(n_narrow, NARROW)


@register_jitable
def tasks_of(thread, n_threads, n_tasks):
    """Give the tasks of one thread, in order: an equal share, to one task."""
    return range(n_tasks * thread // n_threads, n_tasks * (thread + 1) // n_threads)


@register_jitable
def share_of_rows(indptr, share, n_shares):
    """Give the first row of a share, of as many stored values as every other share."""
    if share == n_shares:
        return indptr.size - 1
    return np.searchsorted(indptr, np.int64(indptr[-1]) * share // n_shares)


def _of_width(lanes):
    """Compile the packing, and the product with a packed panel, for one width."""

    @njit
    def pack(x, j, panel):
        """Copy the columns of `x` from `j` on into `panel`; zeros fill what is not there."""
        n = min(lanes, x.shape[1] - j)
        for i in range(x.shape[0]):
            store_panel(panel, i, 0, load_panel_head(x, i, j, lanes, n))

    @njit
    def rows_times_panel(data, indices, indptr, first, last, panel, out, j):
        """Write rows `first` to `last` of the product, in the columns from `j` on."""
        for row in range(first, last):
            y, z = zero_panel(out, lanes), zero_panel(out, lanes)
            k, end = np.uintp(indptr[row]), np.uintp(indptr[row + 1])
            while k + ONE < end:
                y = multiply_add(y, data[k], load_panel(panel, indices[k], 0, lanes))
                z = multiply_add(z, data[k + ONE], load_panel(panel, indices[k + ONE], 0, lanes))
                k += TWO
            if k < end:
                y = multiply_add(y, data[k], load_panel(panel, indices[k], 0, lanes))
            store_panel_head(out, row, j, add_panels(y, z), min(lanes, out.shape[1] - j))

    return pack, rows_times_panel


pack_wide, rows_times_wide = _of_width(WIDE)
pack_narrow, rows_times_narrow = _of_width(NARROW)
