"""Panels in compiled code are the NumPy functions of the same name, and touch nothing else."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config, njit
from numba.core.errors import TypingError

from refimpl.kernels import vectors
from refimpl.kernels.vectors import (
    add_panels,
    aligned_rows,
    gather_panel,
    gather_panel_head,
    load_panel,
    load_panel_head,
    multiply_add,
    multiply_add_panels,
    multiply_panels,
    pick_panel,
    prefetch,
    spread_panel,
    store_panel,
    store_panel_head,
    sum_panel,
    zero_panel,
)

LANES = 16


@njit
def compiled_sum(x):
    return sum_panel(load_panel(x, 1, 2, LANES))


@njit
def compiled_combination(x, value, out):
    a, b = load_panel(x, 0, 1, LANES), load_panel(x, 2, 3, LANES)
    y = add_panels(multiply_add(zero_panel(out, LANES), value, a), multiply_panels(a, b))
    store_panel(out, 1, 4, y)


@njit
def compiled_products(x, out):
    y, a, b = load_panel(x, 0, 1, LANES), load_panel(x, 1, 2, LANES), load_panel(x, 2, 3, LANES)
    store_panel(out, 1, 4, multiply_add_panels(y, a, b))


@njit
def compiled_head(x, n, out):
    store_panel_head(out, 1, 2, load_panel_head(x, 1, 2, LANES, n), n)


@njit
def compiled_head_in_full(x, n, out):
    store_panel(out, 0, 0, load_panel_head(x, 1, 2, LANES, n))


def whole_numbers(dtype, shape=(3, 20), seed=0):
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


@njit
def compiled_gather(x, indices, out):
    store_panel(out, 0, 0, gather_panel(x, indices, 3, 8))


@njit
def compiled_gather_head(x, indices, n, out):
    store_panel(out, 0, 0, gather_panel_head(x, indices, 3, 8, n))


both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@both_dtypes
def test_sum_panel_adds_every_lane(dtype):
    x = whole_numbers(dtype)
    assert compiled_sum(x) == x[1, 2:18].sum()


@both_dtypes
def test_panels_combine_as_arrays_do(dtype):
    x, out = whole_numbers(dtype), np.full((3, 20), 7, dtype)
    compiled_combination(x, dtype(3), out)
    expected = np.full((3, 20), 7, dtype)
    a, b = x[0, 1:17], x[2, 3:19]
    expected[1, 4:20] = 3 * a + a * b
    np.testing.assert_array_equal(out, expected)


@both_dtypes
def test_multiply_add_panels_adds_the_product_of_each_lane(dtype):
    x, out = whole_numbers(dtype), np.full((3, 20), 7, dtype)
    compiled_products(x, out)
    expected = np.full((3, 20), 7, dtype)
    expected[1, 4:20] = x[0, 1:17] + x[1, 2:18] * x[2, 3:19]
    np.testing.assert_array_equal(out, expected)


@both_dtypes
@pytest.mark.parametrize("index", [np.uint16, np.int32, np.int64])
def test_gather_reads_at_the_indices(dtype, index):
    x, out = np.arange(100, dtype=dtype), np.zeros((1, 8), dtype)
    indices = np.array([50, 60, 70, 99, 0, 7, 7, 3, 98, 1, 2], index)
    compiled_gather(x, indices, out)
    assert out[0].tolist() == [99, 0, 7, 7, 3, 98, 1, 2]


@njit
def compiled_pick(x, start, word, out):
    store_panel(out, 0, 0, pick_panel(x, start, word))


@njit
def compiled_spread(values, word, out):
    store_panel(out, 0, 0, spread_panel(load_panel(values, 1, 2, LANES), word))


PAIRS = [pair for i in range(4) for pair in [(i, j) for j in range(i + 1, 4)]]


def word_of(pairs):
    """The word of eight groups that store these pairs of columns, and its sixteen columns of 32."""
    word = sum((i | j << 2) << 4 * group for group, (i, j) in enumerate(pairs))
    return np.uint32(word), [4 * group + c for group, pair in enumerate(pairs) for c in pair]


words = given(st.lists(st.sampled_from(PAIRS), min_size=8, max_size=8))


@both_dtypes
@words
def test_pick_reads_the_columns_that_a_word_names(dtype, pairs):
    word, columns = word_of(pairs)
    x, out = np.arange(50, dtype=dtype), np.zeros((1, 16), dtype)
    compiled_pick(x, 5, word, out)
    assert out[0].tolist() == [5 + column for column in columns]


@both_dtypes
@words
def test_spread_writes_the_columns_that_a_word_names(dtype, pairs):
    word, columns = word_of(pairs)
    values, out = np.arange(1, 61, dtype=dtype).reshape(3, 20), np.full((1, 32), 7, dtype)
    compiled_spread(values, word, out)
    wanted = np.zeros(32, dtype)
    wanted[columns] = values[1, 2:18]
    np.testing.assert_array_equal(out[0], wanted)


@both_dtypes
def test_spread_copies_nan_and_infinity_to_their_own_column_only(dtype):
    word, columns = word_of([(0, 3)] * 8)
    values, out = np.full((2, 20), np.nan, dtype), np.zeros((1, 32), dtype)
    values[1, 3:18:2] = np.inf
    compiled_spread(values, word, out)
    assert np.flatnonzero(out[0]).tolist() == columns


@njit
def compiled_prefetch(x, i, j):
    prefetch(x, i, j)
    return x[0, 0]


@both_dtypes
@pytest.mark.parametrize("place", [(0, 0), (2, 19), (3, 0), (-1, -1), (2**40, 2**40)])
def test_prefetch_neither_changes_nor_needs_what_it_asks_for(dtype, place):
    x = whole_numbers(dtype)
    before = x.copy()
    assert compiled_prefetch(x, *place) == before[0, 0]
    np.testing.assert_array_equal(x, before)


@both_dtypes
@pytest.mark.parametrize("index", [np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("n", range(9))
def test_gather_head_follows_n_indices_and_no_more(dtype, index, n):
    x, out = np.arange(1, 101, dtype=dtype), np.full((1, 8), 7, dtype)
    indices = np.array([50, 60, 70, 99, 0, 7, 7, 3, 98, 1, 2], index)
    indices[3 + n :] = np.iinfo(index).max  # an address that nobody may read
    compiled_gather_head(x, indices, n, out)
    assert out[0].tolist() == [*(indices[3 : 3 + n].astype(int) + 1), *[0] * (8 - n)]


@both_dtypes
@pytest.mark.parametrize("n", range(LANES + 1))
def test_head_moves_n_numbers_and_no_more(dtype, n):
    x, out = whole_numbers(dtype), np.full((3, 20), 7, dtype)
    compiled_head(x, n, out)
    expected = np.full((3, 20), 7, dtype)
    expected[1, 2 : 2 + n] = x[1, 2 : 2 + n]
    np.testing.assert_array_equal(out, expected)


@both_dtypes
@pytest.mark.parametrize("n", [0, 1, 15])
def test_head_is_filled_up_with_zeros(dtype, n):
    x, out = whole_numbers(dtype) + dtype(20), np.full((1, LANES), 7, dtype)
    compiled_head_in_full(x, n, out)
    assert out[0].tolist() == [*x[1, 2 : 2 + n], *[0] * (LANES - n)]


def test_head_ends_where_memory_ends():
    """The masked lanes lie in a page that may not be read: a full load would end the process."""
    page = mmap.PAGESIZE
    room = np.frombuffer(mmap.mmap(-1, page), np.float32)
    x = room[-20:].reshape(2, 10)  # row 1 ends with the mapping
    out = np.zeros((2, 10), np.float32)
    compiled_head(x, 8, out)
    assert (out == 0).all()


@pytest.mark.parametrize("lanes", [1, 2, 16, 64])
def test_sum_panel_in_numpy_adds_in_halves(lanes):
    panel = np.arange(lanes, dtype=np.float32)
    assert vectors.sum_panel(panel) == lanes * (lanes - 1) / 2


@njit
def compiled_aligned_rows(like):
    return aligned_rows(5, 24, like)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="NumPy refuses at the first write")
@pytest.mark.parametrize("function", [compiled_combination, compiled_head])
def test_stores_into_read_only_arrays_do_not_compile(function):
    x, out = np.zeros((3, 20)), np.zeros((3, 20))
    out.flags.writeable = False
    with pytest.raises(TypingError, match="Cannot modify readonly array"):
        function(x, 3, out)


@both_dtypes
@pytest.mark.parametrize("make", [lambda like: aligned_rows(5, 24, like), compiled_aligned_rows])
def test_aligned_rows_begin_on_a_cache_line(dtype, make):
    rows = make(np.ones(1, dtype))
    assert rows.ctypes.data % 64 == 0
    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((5, 24), dtype, True)


def test_loaded_panel_is_a_copy():
    x = np.ones((1, 4))
    panel = load_panel(x, 0, 0, 4)
    x[...] = 2
    assert panel.tolist() == [1, 1, 1, 1]
