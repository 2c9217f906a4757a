"""Panels: a stretch of a row that stays in vector registers while a kernel works on it.

Numba compiles a loop over a short array into loads and stores of that array, again and again.
A panel is a value, not an array: the compiler keeps it in registers, 64 float32 of it in four
AVX-512 registers, eight AVX2 registers, or sixteen NEON registers.

Each function below is its own definition, in NumPy: that is what runs where Numba's compiler is
switched off. In compiled code the same name means the vector instructions that are generated
under it. They check nothing, as any compiled kernel: the caller keeps ``j + lanes`` within the
row.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload, register_jitable

from refimpl.kernels import vector_code


def zero_panel(like, lanes):
    """Give a panel of zeros.

    Parameters
    ----------
    like : ndarray of float32 or float64
        Array whose dtype the panel has.
    lanes : int
        How many numbers it holds; a literal, such as 64.

    Returns
    -------
    panel
        In NumPy, an array of shape (lanes,).
    """
    return np.zeros(lanes, like.dtype)


def load_panel(x, i, j, lanes):
    """Read ``x[i, j : j + lanes]``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n_rows, n_columns)
        Its rows are contiguous.
    i, j : int
        Row, and first column; ``j + lanes <= n_columns``.
    lanes : int
        A literal.

    Returns
    -------
    panel
    """
    return x[i, j : j + lanes].copy()


def load_panel_head(x, i, j, lanes, n):
    """Read ``x[i, j : j + n]`` and fill up with zeros; what lies behind is not touched.

    Parameters
    ----------
    x, i, j, lanes
        As for `load_panel`, but only ``j + n <= n_columns``.
    n : int
        Numbers to read, at most `lanes`.

    Returns
    -------
    panel
    """
    panel = np.zeros(lanes, x.dtype)
    panel[:n] = x[i, j : j + n]
    return panel


def gather_panel(x, indices, i, lanes):
    """Read ``x[indices[i : i + lanes]]``: numbers that lie apart, in one instruction.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n,)
        C-contiguous.
    indices : ndarray of an integer dtype, shape (nnz,)
        C-contiguous; each is in ``[0, n)``.
    i : int
        Of the first index; ``i + lanes <= nnz``.
    lanes : int
        A literal.

    Returns
    -------
    panel
    """
    return x[indices[i : i + lanes]]


def pick_panel(x, start, word):
    """Read the 16 of ``x[start : start + 32]`` that a word of 2:4 metadata names.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n,)
        C-contiguous; ``start + 32 <= n``.
    start : int
        Of the word's first column.
    word : uint32
        Sixteen 2-bit columns, two for each group of four, low bits first.

    Returns
    -------
    panel
        Of 16 lanes, in the order of the stored values.
    """
    return x[start + _named_columns(word)]


def spread_panel(picked, word):
    """Put 16 numbers into the columns that a word names: 32 entries of a dense row.

    Parameters
    ----------
    picked : panel
        Of 16 lanes.
    word : uint32
        As for `pick_panel`, of which this is the transpose.

    Returns
    -------
    panel
        Of 32 lanes, zeros where the word names no column.
    """
    panel = np.zeros(32, picked.dtype)
    panel[_named_columns(word)] = picked
    return panel


def _named_columns(word):
    slots = np.arange(16)
    return slots // 2 * 4 + (int(word) >> 2 * slots & 3)


def prefetch(x, i, j):
    """Ask for the cache line of ``x[i, j]``, to be there when it is read; reads nothing.

    Parameters
    ----------
    x : ndarray, two axes
    i, j : int
        May lie outside of `x`: the request is then dropped.
    """


def gather_panel_head(x, indices, i, lanes, n):
    """Read ``x[indices[i : i + n]]`` and fill up with zeros; later indices are not touched.

    Parameters
    ----------
    x, indices, i, lanes
        As for `gather_panel`, but only ``i + n <= nnz``.
    n : int
        Numbers to read, at most `lanes`.

    Returns
    -------
    panel
    """
    panel = np.zeros(lanes, x.dtype)
    panel[:n] = x[indices[i : i + n]]
    return panel


def store_panel(out, i, j, panel):
    """Write ``out[i, j : j + lanes] = panel``.

    Parameters
    ----------
    out : ndarray of float32 or float64, shape (n_rows, n_columns)
        Its rows are contiguous.
    i, j : int
        Row, and first column; ``j + lanes <= n_columns``.
    panel : panel
        Of the dtype of `out`.
    """
    out[i, j : j + len(panel)] = panel


def store_panel_head(out, i, j, panel, n):
    """Write the first `n` numbers of a panel; what lies behind in `out` is not touched.

    Parameters
    ----------
    out, i, j, panel
        As for `store_panel`, but only ``j + n <= n_columns``.
    n : int
        Numbers to write, at most the lanes of the panel.
    """
    out[i, j : j + n] = panel[:n]


def multiply_add(y, value, x):
    """Give ``y + value * x``, in one instruction a register where the machine has it.

    Parameters
    ----------
    y : panel
    value : float
        Of the dtype of the panels.
    x : panel

    Returns
    -------
    panel
        Rounded once (fused) in compiled code, twice in NumPy.
    """
    return y + value * x


def multiply_add_panels(y, a, b):
    """Give ``y + a * b``, number by number; rounded once (fused) in compiled code."""
    return y + a * b


def add_panels(y, z):
    """Give ``y + z``, number by number."""
    return y + z


def multiply_panels(y, z):
    """Give ``y * z``, number by number."""
    return y * z


def sum_panel(y):
    """Add the numbers of a panel, in halves: 64 become 32, 16, 8, 4, 2, 1.

    Parameters
    ----------
    y : panel
        Its lanes are a power of two.

    Returns
    -------
    float
    """
    while len(y) > 1:
        y = y[: len(y) // 2] + y[len(y) // 2 :]
    return y[0]


def address(array):
    """Give the address of an array's first number."""
    return array.ctypes.data


@register_jitable
def aligned_rows(n_rows, n_columns, like):
    """Give new memory whose first number lies on a cache line of its own.

    Parameters
    ----------
    n_rows, n_columns : int
        Shape. Every row begins on a cache line where `n_columns` numbers fill whole ones.
    like : ndarray of float32 or float64
        Array whose dtype the memory has.

    Returns
    -------
    ndarray, shape (n_rows, n_columns)
        Not initialised.

    Notes
    -----
    Most large arrays of NumPy begin 16 bytes into a cache line. Every 64-byte load of such an
    array touches two lines, and a kernel that is bound by its loads runs at half speed.
    """
    n_bytes = n_rows * n_columns * like.itemsize
    room = np.empty(n_bytes + 64, np.uint8)
    start = -address(room) % 64
    return room[start : start + n_bytes].view(like.dtype).reshape(n_rows, n_columns)


@overload(address)
def _compiled_address(array):
    return lambda array: vector_code.address(array)


@overload(zero_panel, prefer_literal=True)
def _compiled_zero_panel(like, lanes):
    return lambda like, lanes: vector_code.zero(like, lanes)


@overload(load_panel, prefer_literal=True)
def _compiled_load_panel(x, i, j, lanes):
    return lambda x, i, j, lanes: vector_code.load(x, i, j, lanes)


@overload(load_panel_head, prefer_literal=True)
def _compiled_load_panel_head(x, i, j, lanes, n):
    return lambda x, i, j, lanes, n: vector_code.load_head(x, i, j, lanes, n)


@overload(gather_panel, prefer_literal=True)
def _compiled_gather_panel(x, indices, i, lanes):
    return lambda x, indices, i, lanes: vector_code.gather(x, indices, i, lanes)


@overload(gather_panel_head, prefer_literal=True)
def _compiled_gather_panel_head(x, indices, i, lanes, n):
    return lambda x, indices, i, lanes, n: vector_code.gather_head(x, indices, i, lanes, n)


@overload(pick_panel)
def _compiled_pick_panel(x, start, word):
    return lambda x, start, word: vector_code.pick(x, start, word)


@overload(spread_panel)
def _compiled_spread_panel(picked, word):
    return lambda picked, word: vector_code.spread(picked, word)


@overload(prefetch)
def _compiled_prefetch(x, i, j):
    return lambda x, i, j: vector_code.prefetch(x, i, j)


@overload(store_panel)
def _compiled_store_panel(out, i, j, panel):
    return lambda out, i, j, panel: vector_code.store(out, i, j, panel)


@overload(store_panel_head)
def _compiled_store_panel_head(out, i, j, panel, n):
    return lambda out, i, j, panel, n: vector_code.store_head(out, i, j, panel, n)


@overload(multiply_add)
def _compiled_multiply_add(y, value, x):
    return lambda y, value, x: vector_code.multiply_add(y, value, x)


@overload(multiply_add_panels)
def _compiled_multiply_add_panels(y, a, b):
    return lambda y, a, b: vector_code.multiply_add_panels(y, a, b)


@overload(add_panels)
def _compiled_add_panels(y, z):
    return lambda y, z: vector_code.add(y, z)


@overload(multiply_panels)
def _compiled_multiply_panels(y, z):
    return lambda y, z: vector_code.multiply(y, z)


@overload(sum_panel)
def _compiled_sum_panel(y):
    return lambda y: vector_code.horizontal_sum(y)
