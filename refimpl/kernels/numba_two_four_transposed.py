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
from refimpl.kernels.numba_csr_panels import NARROW, ONE, WIDE, first_column, panels, tasks_of
from refimpl.kernels.numba_two_four import (
    AHEAD,
    COLUMNS,
    GROUPS,
    PANEL_BYTES,
    VALUES,
    block_words,
)
from refimpl.kernels.vectors import (
    aligned_rows,
    load_panel,
    load_panel_head,
    multiply_add,
    prefetch,
    store_panel,
    store_panel_head,
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

    Cache blocks: 64 columns of the result, as many rows of them as 32 KB hold, stay in the
    first-level cache while the matrix passes by. Each value costs a load and a store there, so
    stores set the pace: one of 64 bytes a cycle, where a processor can do two fused
    multiply-adds.

    Threads share the blocks, so that no two of them add to the same number.
    """
    n_threads, n_words = get_num_threads(), block_words(WIDE, x.itemsize)
    _share_blocks(values, meta, x, out, n_threads, n_words)


@compiled
def _share_blocks(values, meta, x, out, n_threads, n_words):
    (n_wide, n_panels), n_meta = panels(out.shape[1]), meta.shape[1]
    many = n_words * (WIDE // NARROW)  # a block of a narrow panel has more columns
    wide_blocks, narrow_blocks = (n_meta + n_words - 1) // n_words, (n_meta + many - 1) // many
    n_tasks = n_wide * wide_blocks + (n_panels - n_wide) * narrow_blocks
    for thread in prange(n_threads):
        room = aligned_rows(1, COLUMNS * n_words * WIDE, x)
        for task in tasks_of(thread, n_threads, n_tasks):
            rest = task - n_wide * wide_blocks
            if rest < 0:
                panel, first = task // wide_blocks, task % wide_blocks * n_words
                words = range(first, min(first + n_words, n_meta))
                write_wide(values, meta, words, x, first_column(panel, n_wide), room, out)
            else:
                panel, first = n_wide + rest // narrow_blocks, rest % narrow_blocks * many
                words = range(first, min(first + many, n_meta))
                write_narrow(values, meta, words, x, first_column(panel, n_wide), room, out)


def _of_width(lanes):
    """Compile the product of one block of columns for one width."""

    @register_jitable
    def add_group(room, start, nibble, pair, panel):
        """Add a group's two products to two rows; `start` is where its first column's row lies."""
        first, second = start + (nibble & 3) * lanes, start + (nibble >> 2 & 3) * lanes
        store_panel(room, 0, first, multiply_add(load_panel(room, 0, first, lanes), pair[0], panel))
        store_panel(
            room, 0, second, multiply_add(load_panel(room, 0, second, lanes), pair[1], panel)
        )

    @njit
    def write_block(values, meta, words, x, j, room, out):
        """Write the rows of `out` that a block of columns belongs to, from column `j` on."""
        width, n_whole = min(lanes, out.shape[1] - j), values.shape[1] // VALUES
        room[:] = 0
        for signed in range(values.shape[0]):
            for near in range(PANEL_BYTES // (COLUMNS * lanes * 4)):
                prefetch(values, signed + AHEAD, VALUES * (words.start + near))
            prefetch(meta, signed + AHEAD, words.start)
            row, panel = np.uintp(signed), load_panel_head(x, signed, j, lanes, width)
            for word in range(words.start, min(words.stop, n_whole)):
                nibbles, slot = meta[row, np.uintp(word)], np.uintp(VALUES * word)
                start = COLUMNS * lanes * (word - words.start)
                for group in range(GROUPS):
                    place, here = slot + np.uintp(2 * group), start + 4 * lanes * group
                    pair = values[row, place], values[row, place + ONE]
                    add_group(room, here, nibbles >> 4 * group, pair, panel)
            if words.stop > n_whole:
                for group in range(GROUPS * n_whole, values.shape[1] // 2):
                    nibble = meta[row, np.uintp(n_whole)] >> 4 * (group % GROUPS)
                    place, here = np.uintp(2 * group), 4 * lanes * (group - GROUPS * words.start)
                    pair = values[row, place], values[row, place + ONE]
                    add_group(room, here, nibble, pair, panel)
        first = COLUMNS * words.start
        for column in range(first, min(COLUMNS * words.stop, out.shape[0])):
            y = load_panel(room, 0, (column - first) * lanes, lanes)
            store_panel_head(out, column, j, y, width)

    return write_block


write_wide, write_narrow = _of_width(WIDE), _of_width(NARROW)
