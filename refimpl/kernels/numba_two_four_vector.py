"""2:4 times a vector, and its transpose times a vector: a word of metadata at a time.

With a single column of `x` every stored value is used once, and the product can be no faster
than the memory that the values come from. A loop that decodes one index at a time is slower than
that by far; these kernels decode sixteen in a few instructions.
"""

from __future__ import annotations

from numba import get_num_threads, prange
from numba.extending import register_jitable

from refimpl.kernels.numba_csr import compiled
from refimpl.kernels.numba_csr_panels import tasks_of
from refimpl.kernels.numba_two_four import COLUMNS, VALUES
from refimpl.kernels.vectors import (
    add_panels,
    load_panel,
    multiply_add,
    multiply_add_panels,
    pick_panel,
    spread_panel,
    store_panel,
    sum_panel,
    zero_panel,
)


@compiled
def two_four_matvec(values, meta, x, out):
    """Multiply 2:4 with a vector, one dot product a row.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (n_rows, n_columns / 2)
        IN. The two stored values of each group of four columns.
    meta : ndarray of uint32, shape (n_rows, ceil(n_columns / 32))
        IN. Sixteen 2-bit columns within the group a word, low bits first.
    x : ndarray of float32 or float64, shape (n_columns,)
        IN.
    out : ndarray of float32 or float64, shape (n_rows,)
        OUT. Overwritten; must not overlap `x`.

    Notes
    -----
    n_rows n_columns FLOPs, in the order of the definition.
    """
    for row in prange(out.size):
        total = out.dtype.type(0)
        for slot in range(values.shape[1]):
            total += values[row, slot] * x[_column(meta, row, slot)]
        out[row] = total


@compiled
def two_four_matvec_picked(values, meta, x, out):
    """Multiply 2:4 with a vector, sixteen stored values at a time.

    Parameters
    ----------
    values, meta, x, out : ndarray
        As for `two_four_matvec`.

    Notes
    -----
    One permutation a word: the 32 numbers of `x` that a word chooses from fill two AVX-512
    registers, and one instruction takes sixteen numbers out of two registers. Other machines,
    and float64, gather them.
    """
    n_whole = values.shape[1] // VALUES
    for row in prange(out.size):
        y = zero_panel(out, VALUES)
        for word in range(n_whole):
            stored = load_panel(values, row, VALUES * word, VALUES)
            picked = pick_panel(x, COLUMNS * word, meta[row, word])
            y = multiply_add_panels(y, stored, picked)
        total = sum_panel(y)
        for slot in range(VALUES * n_whole, values.shape[1]):
            total += values[row, slot] * x[_column(meta, row, slot)]
        out[row] = total


def two_four_matvec_transposed(values, meta, x, out):
    """Multiply the transpose of 2:4 with a vector, sixteen stored values at a time.

    Parameters
    ----------
    values, meta : ndarray
        IN. As for `two_four_matvec`.
    x : ndarray of float32 or float64, shape (n_rows,)
        IN.
    out : ndarray of float32 or float64, shape (n_columns,)
        OUT. Overwritten; must not overlap `x`.

    Notes
    -----
    Spreading: sixteen products are put into their columns in registers, with zeros in between,
    so that 32 numbers of `out` are loaded, added to and stored together.

    Threads share the columns, so that no two of them add to the same number.
    """
    _share_columns(values, meta, x, out, get_num_threads())


@compiled
def _share_columns(values, meta, x, out, n_threads):
    n_whole = values.shape[1] // VALUES
    for thread in prange(n_threads):
        words = tasks_of(thread, n_threads, meta.shape[1])
        out[COLUMNS * words.start : COLUMNS * words.stop] = 0
        y, nothing = out.reshape(1, out.size), zero_panel(out, VALUES)
        for row in range(x.size):
            for word in range(words.start, min(words.stop, n_whole)):
                stored = load_panel(values, row, VALUES * word, VALUES)
                terms = spread_panel(multiply_add(nothing, x[row], stored), meta[row, word])
                total = add_panels(load_panel(y, 0, COLUMNS * word, COLUMNS), terms)
                store_panel(y, 0, COLUMNS * word, total)
            if words.stop > n_whole:
                for slot in range(VALUES * n_whole, values.shape[1]):
                    out[_column(meta, row, slot)] += values[row, slot] * x[row]


@register_jitable
def _column(meta, row, slot):
    """The column of one stored value."""
    return 4 * (slot // 2) + (meta[row, slot // VALUES] >> 2 * (slot % VALUES) & 3)
