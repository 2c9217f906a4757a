"""The transpose of 2:4 times a dense matrix, from the same arrays: what backpropagation needs.

A stored value now says which row of the *result* it adds to. The transpose of a 2:4 matrix is
2:4 along its columns only, so there is no other copy to make: the kernel reads the matrix as it
is and keeps a block of the result in the first-level cache.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange
from numba.extending import register_jitable

from refimpl.kernels.numba_csr import compiled
from refimpl.kernels.numba_csr_panels import (
    NARROW,
    ONE,
    WIDE,
    first_column,
    panels,
    rooms_for_panels,
    tasks_of,
)
from refimpl.kernels.numba_two_four import (
    AHEAD,
    COLUMNS,
    GROUPS,
    PANEL_BYTES,
    ROWS,
    VALUES,
    block_words,
)
from refimpl.kernels.vectors import (
    load_panel,
    load_panel_head,
    multiply_add,
    prefetch,
    store_panel,
    store_panel_head,
    zero_panel,
)


def two_four_matmul_transposed(values, meta, x, out):
    """Multiply the transpose of 2:4 with a dense matrix, a block of the result in the cache.

    Parameters
    ----------
    values, meta : ndarray
        IN. As for `refimpl.kernels.numba_two_four.two_four_matmul`.
    x : ndarray of float32 or float64, shape (n_rows, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_columns, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    ``out[4 (s // 2) + index(i, s), :] += values[i, s] * x[i, :]``: n_rows n_columns batch FLOPs.

    A panel of `x` in registers: 64 numbers of a row of `x` are loaded once for all the values
    that they are multiplied with.

    Cache blocks: 64 columns of the result are summed side by side, and of these, as many rows as
    32 KiB hold stay in the first-level cache while 64 rows of the matrix pass by. Each value costs
    a load and a store there, so stores set the pace: one of 64 bytes a cycle, where a processor
    can do two fused multiply-adds.

    Threads share the panels, or the columns of the matrix, so that no two of them add to the same
    number.
    """
    n_threads, n_words = get_num_threads(), block_words(WIDE, x.itemsize)
    _share_panels(values, meta, x, out, n_threads, n_words)


@compiled
def _share_panels(values, meta, x, out, n_threads, n_words):
    n_wide, n_panels = panels(out.shape[1])
    n_shares = 1 if n_panels % n_threads == 0 else n_threads
    many = n_words * (WIDE // NARROW)  # a block of a narrow panel has more columns
    rooms = rooms_for_panels(n_threads, out.shape[0], n_wide, x)
    for thread in prange(n_threads):
        sums = rooms[thread].reshape(1, rooms.shape[1])  # one long row: its places need no stride
        for task in tasks_of(thread, n_threads, n_panels * n_shares):
            panel, share = task // n_shares, task % n_shares
            j, words = first_column(panel, n_wide), tasks_of(share, n_shares, meta.shape[1])
            if panel < n_wide:
                write_wide(values, meta, words, n_words, x, j, sums, out)
            else:
                write_narrow(values, meta, words, many, x, j, sums, out)


def _of_width(lanes):
    """Compile the product with one panel of `x` for one width."""

    @register_jitable
    def add_group(sums, start, nibble, pair, panel):
        """Add a group's two products to two rows; `start` is where its first column's row lies."""
        first, second = start + (nibble & 3) * lanes, start + (nibble >> 2 & 3) * lanes
        y = multiply_add(load_panel(sums, 0, first, lanes), pair[0], panel)
        store_panel(sums, 0, first, y)
        z = multiply_add(load_panel(sums, 0, second, lanes), pair[1], panel)
        store_panel(sums, 0, second, z)

    @njit
    def add_block(values, meta, rows, words, x, j, sums, width):
        """Add the products of some rows and one block of columns."""
        n_whole = values.shape[1] // VALUES
        for signed in rows:
            for near in range(PANEL_BYTES // (COLUMNS * lanes * 4)):
                prefetch(values, signed + AHEAD, VALUES * (words.start + near))
            prefetch(meta, signed + AHEAD, words.start)
            row, panel = np.uintp(signed), load_panel_head(x, signed, j, lanes, width)
            for word in range(words.start, min(words.stop, n_whole)):
                nibbles, slot = meta[row, np.uintp(word)], np.uintp(VALUES * word)
                for group in range(GROUPS):
                    place = slot + np.uintp(2 * group)
                    start = COLUMNS * lanes * word + 4 * lanes * group
                    pair = values[row, place], values[row, place + ONE]
                    add_group(sums, start, nibbles >> 4 * group, pair, panel)
            if words.stop > n_whole:
                for group in range(GROUPS * n_whole, values.shape[1] // 2):
                    nibble = meta[row, np.uintp(n_whole)] >> 4 * (group % GROUPS)
                    place, start = np.uintp(2 * group), 4 * lanes * group
                    pair = values[row, place], values[row, place + ONE]
                    add_group(sums, start, nibble, pair, panel)

    @njit
    def write_panel(values, meta, words, n_words, x, j, sums, out):
        """Write the rows of `out` that belong to some words, in the columns from `j` on."""
        width = min(lanes, out.shape[1] - j)
        columns = range(COLUMNS * words.start, min(COLUMNS * words.stop, out.shape[0]))
        for column in columns:
            store_panel(sums, 0, column * lanes, zero_panel(out, lanes))
        for first in range(0, values.shape[0], ROWS):
            rows = range(first, min(first + ROWS, values.shape[0]))
            for begin in range(words.start, words.stop, n_words):
                block = range(begin, min(begin + n_words, words.stop))
                add_block(values, meta, rows, block, x, j, sums, width)
        for column in columns:
            store_panel_head(out, column, j, load_panel(sums, 0, column * lanes, lanes), width)

    return write_panel


write_wide, write_narrow = _of_width(WIDE), _of_width(NARROW)
