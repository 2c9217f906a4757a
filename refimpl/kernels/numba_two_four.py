"""2:4 times a dense matrix: two values in every four columns, so nothing has to be looked up.

Every row has equally many values, and a value lies in the group that its position says: there
are no row pointers to follow, every loop has a fixed length, and a word of metadata, loaded
once, says for sixteen values which of four rows of `x` each one multiplies.

From the plain loop on, each kernel has the tricks of the one before it. The sums of a row are
split over several panels, so that their bits are the same on any number of threads, and differ
from the definition's by rounding. The product with a vector is in
`refimpl.kernels.numba_two_four_vector`, the transposed one in
`refimpl.kernels.numba_two_four_transposed`.
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
    as_panels,
    first_column,
    pack_narrow,
    pack_wide,
    panels,
    rooms_for_panels,
    tasks_of,
)
from refimpl.kernels.vectors import (
    add_panels,
    load_panel,
    load_panel_head,
    multiply_add,
    prefetch,
    store_panel_head,
    zero_panel,
)

GROUPS, COLUMNS, VALUES = 8, 32, 16  # that a word of metadata describes
PANEL_BYTES = 2**15  # of a panel that stay in a first-level cache, with room for what streams by
ROWS = 64  # that pass over all blocks before the next rows do: few pages of memory at a time
AHEAD = 8  # rows: longer than the memory takes to answer


@compiled
def two_four_matmul(values, meta, x, out):
    """Multiply 2:4 with a dense matrix, one stored value at a time.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (n_rows, n_columns / 2)
        IN. The two stored values of each group of four columns.
    meta : ndarray of uint32, shape (n_rows, ceil(n_columns / 32))
        IN. Sixteen 2-bit columns within the group a word, low bits first.
    x : ndarray of float32 or float64, shape (n_columns, batch)
        IN. C-contiguous.
    out : ndarray of float32 or float64, shape (n_rows, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    ``out[i, :] = sum_s values[i, s] * x[4 (s // 2) + index(i, s), :]`` with the index in bits
    ``2 (s % 16)`` and up of ``meta[i, s // 16]``: n_rows n_columns batch FLOPs, in the order of
    the definition.
    """
    for row in prange(out.shape[0]):
        y = out[row]
        y[:] = 0
        for slot in range(values.shape[1]):
            index = meta[row, slot // VALUES] >> 2 * (slot % VALUES) & 3
            value, source = values[row, slot], x[4 * (slot // 2) + index]
            for j in range(y.size):
                y[j] += value * source[j]


@compiled
def two_four_matmul_register_panels(values, meta, x, out):
    """Multiply 2:4 with a dense matrix, 64 columns of the result in registers.

    Parameters
    ----------
    values, meta, x, out : ndarray
        As for `two_four_matmul`.

    Notes
    -----
    A register panel: a row of the result is not stored, and never loaded, until its sum is done.
    """
    for row in prange(out.shape[0]):
        for j in range(0, out.shape[1], WIDE):
            y, width = zero_panel(out, WIDE), min(WIDE, out.shape[1] - j)
            for slot in range(values.shape[1]):
                index = meta[row, slot // VALUES] >> 2 * (slot % VALUES) & 3
                source = load_panel_head(x, 4 * (slot // 2) + index, j, WIDE, width)
                y = multiply_add(y, values[row, slot], source)
            store_panel_head(out, row, j, y, width)


def two_four_matmul_packed_panels(values, meta, x, out):
    """Multiply 2:4 with a dense matrix, a word of metadata at a time, from packed columns.

    Parameters
    ----------
    values, meta, x, out : ndarray
        As for `two_four_matmul`.

    Notes
    -----
    Packing: 64 columns of `x` are copied together, each row of them on cache lines of its own.

    Whole words: the loop over the eight groups of a word has a fixed length, so the compiler
    writes it out, and each index is two instructions, a shift and a mask.

    Four chains: a fused multiply-add takes four cycles, so that a sum that waits for each of its
    additions runs at a fraction of the machine's speed. Every fourth value adds to a panel of
    its own.
    """
    n_threads, n_words, n_rows = get_num_threads(), max(meta.shape[1], 1), max(out.shape[0], 1)
    _share_panels(values, meta, x, out, n_threads, n_words, n_rows, 0)


def two_four_matmul_cache_blocks(values, meta, x, out):
    """Multiply 2:4 with a dense matrix, a block of its columns at a time.

    Parameters
    ----------
    values, meta, x, out : ndarray
        As for `two_four_matmul`.

    Notes
    -----
    Cache blocks: of a packed panel, a block of columns of the matrix needs 32 KiB, which stay in
    the first-level cache while 64 rows pass over them. In exchange, `out` is loaded and stored
    once for each block.
    """
    n_threads, n_words = get_num_threads(), block_words(WIDE, x.itemsize)
    _share_panels(values, meta, x, out, n_threads, n_words, ROWS, 0)


def two_four_matmul_prefetched_blocks(values, meta, x, out):
    """Multiply 2:4 with a dense matrix, asking for each row of a block ahead of time.

    Parameters
    ----------
    values, meta, x, out : ndarray
        As for `two_four_matmul`.

    Notes
    -----
    Prefetching: within a block, consecutive rows of the matrix lie a whole row apart, mostly on
    another page of memory. The hardware sees no stream to run ahead of, so the kernel asks
    for what it will need eight rows later.
    """
    n_threads, n_words = get_num_threads(), block_words(WIDE, x.itemsize)
    _share_panels(values, meta, x, out, n_threads, n_words, ROWS, AHEAD)


@register_jitable
def block_words(lanes, itemsize):
    """Give the words of metadata that describe a block: it fills `PANEL_BYTES` of a panel."""
    return max(PANEL_BYTES // (COLUMNS * lanes * itemsize), 1)


@compiled
def _share_panels(values, meta, x, out, n_threads, n_words, n_rows, ahead):
    n_wide, n_panels = panels(out.shape[1])
    n_shares = 1 if n_panels % n_threads == 0 else n_threads
    many = n_words * (WIDE // NARROW)  # a block of a narrow panel has more columns
    rooms = rooms_for_panels(n_threads, x.shape[0], n_wide, x)
    for thread in prange(n_threads):
        wide, narrow = as_panels(rooms[thread])
        packed = -1
        for task in tasks_of(thread, n_threads, n_panels * n_shares):
            panel, share = task // n_shares, task % n_shares
            j, rows = first_column(panel, n_wide), tasks_of(share, n_shares, out.shape[0])
            if panel < n_wide:
                if packed < panel:
                    pack_wide(x, j, wide)
                rows_times_wide(values, meta, rows, n_words, n_rows, ahead, wide, out, j)
            else:
                if packed < panel:
                    pack_narrow(x, j, narrow)
                rows_times_narrow(values, meta, rows, many, n_rows, ahead, narrow, out, j)
            packed = panel


def _of_width(lanes):
    """Compile the product with a packed panel for one width."""

    @register_jitable
    def add_group(y, z, pair, nibble, packed, start):
        """Add a group's two products to two panels; `start` is where its first row lies."""
        first, second = start + (nibble & 3) * lanes, start + (nibble >> 2 & 3) * lanes
        y = multiply_add(y, pair[0], load_panel(packed, 0, first, lanes))
        z = multiply_add(z, pair[1], load_panel(packed, 0, second, lanes))
        return y, z

    @register_jitable
    def ask_for(values, meta, out, row, word, j):
        """Prefetch the row of a block, and of the result."""
        for near in range(PANEL_BYTES // (COLUMNS * lanes * 4)):
            prefetch(values, row, VALUES * (word + near))
        prefetch(meta, row, word)
        for near in range(0, lanes, 16):
            prefetch(out, row, j + near)

    @njit
    def rows_times_block(values, meta, rows, words, ahead, packed, out, j):
        """Add the product with one block of columns, in the columns of `out` from `j` on."""
        width, n_whole = min(lanes, out.shape[1] - j), values.shape[1] // VALUES
        for signed in rows:
            row = np.uintp(signed)
            if ahead:
                ask_for(values, meta, out, signed + ahead, words.start, j)
            a = b = c = d = zero_panel(out, lanes)
            if words.start > 0:
                a = load_panel_head(out, row, j, lanes, width)
            for word in range(words.start, min(words.stop, n_whole)):
                nibbles, slot = meta[row, np.uintp(word)], np.uintp(VALUES * word)
                for group in range(GROUPS):
                    place = slot + np.uintp(2 * group)
                    start = COLUMNS * lanes * word + 4 * lanes * group
                    pair = values[row, place], values[row, place + ONE]
                    a, b = add_group(a, b, pair, nibbles >> 4 * group, packed, start)
                    a, b, c, d = c, d, a, b  # the next group adds to the other two
            if words.stop > n_whole:
                for group in range(GROUPS * n_whole, values.shape[1] // 2):
                    nibble = meta[row, np.uintp(n_whole)] >> 4 * (group % GROUPS)
                    place, start = np.uintp(2 * group), 4 * lanes * group
                    pair = values[row, place], values[row, place + ONE]
                    a, b = add_group(a, b, pair, nibble, packed, start)
            total = add_panels(add_panels(a, b), add_panels(c, d))
            store_panel_head(out, row, j, total, width)

    @njit
    def rows_times_panel(values, meta, rows, n_words, n_rows, ahead, panel, out, j):
        """Write some rows of the product, `n_rows` at a time, block by block."""
        packed = panel.reshape(1, panel.size)  # one long row: its places need no stride
        for first in range(rows.start, rows.stop, n_rows):
            some = range(first, min(first + n_rows, rows.stop))
            for begin in range(0, max(meta.shape[1], 1), n_words):  # no columns: write zeros
                words = range(begin, min(begin + n_words, meta.shape[1]))
                rows_times_block(values, meta, some, words, ahead, packed, out, j)

    return rows_times_panel


rows_times_wide, rows_times_narrow = _of_width(WIDE), _of_width(NARROW)
