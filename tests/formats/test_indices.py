"""Index arrays are wide enough, and every index is in range."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.formats.indices import check_index_width, check_indices, index_dtype

LIMIT = 2**31 - 1  # the largest int32


@pytest.mark.parametrize(
    ("shape", "nnz", "dtype"),
    [
        ((0, 0), 0, np.int32),
        ((LIMIT, 1), 0, np.int32),
        ((1, LIMIT), 0, np.int32),
        ((1, 1), LIMIT, np.int32),
        ((LIMIT + 1, 1), 0, np.int64),
        ((1, LIMIT + 1), 0, np.int64),
        ((1, 1), LIMIT + 1, np.int64),
    ],
)
def test_index_dtype_is_the_narrowest_that_counts(shape, nnz, dtype):
    assert index_dtype(shape, nnz) is dtype


@pytest.mark.parametrize(
    ("shape", "nnz"), [((LIMIT + 1, 1), 0), ((1, LIMIT + 1), 0), ((1, 1), LIMIT + 1)]
)
def test_index_width_refuses_more_than_it_can_count(shape, nnz):
    match = f"^COO: rows must count up to {LIMIT + 1}, got int32, at most {LIMIT}; use int64"
    with pytest.raises(ValueError, match=match):
        check_index_width("COO", shape, nnz, rows=np.zeros(0, np.int32))


def test_index_width_refuses_two_dtypes():
    match = "^CSR: indptr must have the dtype of indices, int32, got int64; convert it"
    with pytest.raises(TypeError, match=match):
        check_index_width("CSR", (1, 1), 0, indices=np.zeros(0, np.int32), indptr=np.zeros(2, int))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [-1, 3, LIMIT, -LIMIT - 1])
def test_indices_out_of_range_are_named(dtype, bad):
    indices = np.array([0, 2, bad, bad], dtype)
    match = rf"^CSR: indices must be in \[0, 3\), got {bad} at position 2; count"
    with pytest.raises(ValueError, match=match):
        check_indices("CSR", "indices", indices, 3)


def test_index_width_accepts_all_that_int32_counts():
    indices = np.zeros(0, np.int32)
    assert check_index_width("COO", (LIMIT, LIMIT), LIMIT, rows=indices, cols=indices) is None


def test_no_index_is_always_in_range():
    assert check_indices("CSR", "indices", np.zeros(0, np.int32), 0) is None
