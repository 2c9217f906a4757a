"""Which N of M columns are stored, and how their indices are packed into words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats.groups import (
    check_groups,
    check_pattern,
    index_bits,
    pack_groups,
    pack_indices,
    stored_columns,
    unpack_indices,
)


@st.composite
def patterns(draw, most: int = 20):
    m = draw(st.integers(2, most))
    return draw(st.integers(1, m)), m


def mask(*columns: int, m: int) -> np.ndarray:
    return np.isin(np.arange(m), columns)


@pytest.mark.parametrize(
    ("nonzero", "stored"),
    [
        *[(pair, pair) for pair in combinations(range(4), 2)],
        ((), (2, 3)),
        ((0,), (0, 2)),
        ((1,), (1, 2)),
        ((2,), (2, 3)),
        ((3,), (2, 3)),
    ],
)
def test_columns_of_two_in_four_fill_up_from_column_two_then_three(nonzero, stored):
    np.testing.assert_array_equal(stored_columns(mask(*nonzero, m=4), 2), mask(*stored, m=4))


@given(data=st.data(), pattern=patterns())
def test_columns_are_the_nonzeros_and_the_first_free_of_the_last_columns(data, pattern):
    n, m = pattern
    columns = data.draw(st.sets(st.integers(0, m - 1), max_size=n))
    free = [column for column in range(m - n, m) if column not in columns]
    wanted = sorted([*columns, *free[: n - len(columns)]])
    assert np.flatnonzero(stored_columns(mask(*columns, m=m), n)).tolist() == wanted


@pytest.mark.parametrize(
    ("m", "bits"), [(2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (32, 8), (256, 8)]
)
def test_indices_take_the_fewest_bits_that_divide_a_word(m, bits):
    assert index_bits(m) == bits


@given(data=st.data(), bits=st.sampled_from([1, 2, 4, 8]), rows=st.integers(0, 3))
def test_indices_are_read_back_as_they_were_packed(data, bits, rows):
    shape = (rows, data.draw(st.integers(0, 70)))
    indices = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2**bits - 1)))
    words = pack_indices(indices, 1, bits)
    assert words.dtype == np.uint32
    np.testing.assert_array_equal(unpack_indices(words, bits)[:, : shape[1]], indices)


@pytest.mark.parametrize(
    ("indices", "n", "bits", "word"),
    [
        ([1, 3, 2, 3], 2, 2, 0b01_00_01_00_01_00_01_00_01_00_01_00_11_10_11_01),
        ([1, 0, 1], 1, 1, 0b101),
        ([4, 7, 1], 3, 4, 0x10_210_174),
        ([9, 255], 2, 8, 0x01_00_FF_09),
    ],
)
def test_words_hold_the_first_index_in_the_lowest_bits_and_are_filled_up(indices, n, bits, word):
    assert pack_indices(np.array([indices]), n, bits).tolist() == [[word]]


def test_a_word_that_is_full_is_not_filled_up():
    assert pack_indices(np.arange(32).reshape(2, 16) % 4, 2, 2).shape == (2, 1)


@given(data=st.data(), pattern=patterns(9))
def test_groups_pass_their_own_check(data, pattern):
    n, m = pattern
    rows, groups = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 12))
    kept = data.draw(hnp.arrays(np.bool_, (rows, groups, m))).reshape(rows, groups, m)
    dense = (kept & (np.cumsum(kept, axis=-1) <= n)).reshape(rows, groups * m).astype(np.float32)
    values, meta = pack_groups("here", dense, pattern)
    assert check_groups("here", values, meta, pattern, dense.shape) is None


@pytest.mark.parametrize(
    ("pattern", "error", "match"),
    [
        ([2, 4], TypeError, r"pattern must be a tuple of two, got \[2, 4\]; give \(n, m\)"),
        ((2, 4, 8), TypeError, "pattern must be a tuple of two"),
        ("2:4", TypeError, "pattern must be a tuple of two, got '2:4'"),
        ((2, 4.0), TypeError, r"pattern\[1\] must be an integer, got 4.0"),
        ((0, 4), ValueError, r"pattern\[0\] must be in \[1, 4\], got 0"),
        ((5, 4), ValueError, r"pattern\[0\] must be in \[1, 4\], got 5"),
        ((1, 1), ValueError, r"pattern\[1\] must be in \[2, 256\], got 1"),
        ((1, 257), ValueError, r"pattern\[1\] must be in \[2, 256\], got 257"),
    ],
)
def test_pattern_is_refused(pattern, error, match):
    with pytest.raises(error, match=f"^here: {match}"):
        check_pattern("here", pattern)


@pytest.mark.parametrize("pattern", [(1, 2), (4, 4), (256, 256), (np.int64(2), np.int32(4))])
def test_pattern_passes(pattern):
    assert check_pattern("here", pattern) == pattern
