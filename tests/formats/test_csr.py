"""CSR: rows one after the other, columns in order, pointers where rows begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import COO, CSR
from support.strategies import dense_matrices


def example() -> dict:
    """The 3 x 3 matrix [[1, 0, 2], [0, 0, 3], [4, 0, 0]], worked out by hand."""
    return {
        "data": np.array([1, 2, 3, 4], np.float32),
        "indices": np.array([0, 2, 2, 0], np.int32),
        "indptr": np.array([0, 2, 3, 4], np.int32),
        "shape": (3, 3),
    }


def test_csr_of_the_hand_worked_example():
    csr = CSR.from_dense(np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    assert csr.data.tolist() == [1, 2, 3, 4]
    assert csr.indices.tolist() == [0, 2, 2, 0]
    assert csr.indptr.tolist() == [0, 2, 3, 4]


# Between formats


@given(dense=dense_matrices(), seed=st.integers(0, 2**32 - 1))
def test_csr_from_coo_sorts_any_order(dense, seed):
    coo = COO.from_dense(dense)
    order = np.random.default_rng(seed).permutation(coo.nnz)
    csr = CSR.from_coo(COO(coo.rows[order], coo.cols[order], coo.data[order], coo.shape))
    expected = CSR.from_dense(dense)
    assert csr.data.tobytes() == expected.data.tobytes()
    assert csr.indices.tolist() == expected.indices.tolist()
    assert csr.indptr.tolist() == expected.indptr.tolist()


@given(dense=dense_matrices())
def test_csr_to_coo_writes_out_the_row_numbers(dense):
    coo = CSR.from_dense(dense).to_coo()
    assert (coo.rows.tolist(), coo.cols.tolist()) == tuple(i.tolist() for i in np.nonzero(dense))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_csr_and_coo_keep_the_index_dtype(dtype):
    coo = COO(np.array([1], dtype), np.array([0], dtype), np.ones(1), (2, 2))
    csr = CSR.from_coo(coo)
    assert csr.indptr.dtype == csr.indices.dtype == csr.to_coo().rows.dtype == dtype


@given(dense=dense_matrices())
def test_csr_transpose_is_exact(dense):
    transposed = CSR.from_dense(dense).transpose()
    np.testing.assert_array_equal(transposed.to_dense(), dense.T)


def test_csr_holds_more_columns_than_int32_counts():
    csr = CSR(np.ones(1), np.array([2**40]), np.array([0, 1]), (1, 2**41))
    assert csr.to_coo().cols.tolist() == [2**40]


@pytest.mark.parametrize("empty", [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]])
def test_csr_matmul_handles_empty_rows(empty):
    dense = np.arange(1.0, 13).reshape(3, 4)
    dense[empty] = 0
    np.testing.assert_array_equal(CSR.from_dense(dense) @ np.ones(4), dense.sum(axis=1))


# What is refused


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"indptr": [1, 2, 3, 4]}, "indptr must start at 0 and end at 4, got 1 and 4; one pointer"),
        ({"indptr": [0, 2, 3, 3]}, "indptr must start at 0 and end at 4, got 0 and 3"),
        ({"indptr": [0, 2, 3, 5]}, "indptr must start at 0 and end at 4, got 0 and 5"),
        ({"indptr": [0, 3, 2, 4]}, "indptr must never decrease, got 3 then 2 at row 1"),
        ({"indptr": [0, 9, 3, 4]}, "indptr must never decrease, got 9 then 3 at row 1"),
        ({"indptr": [0, -1, 3, 4]}, "indptr must never decrease, got 0 then -1 at row 0"),
        ({"indptr": [0, 2, 4]}, r"indptr must have shape \(4,\), got \(3,\)"),
        ({"indptr": [[0, 2, 3, 4]]}, r"indptr must have 1 axes, got shape \(1, 4\)"),
        ({"indices": [0, 3, 2, 0]}, r"indices must be in \[0, 3\), got 3 at position 1"),
        ({"indices": [-1, 2, 2, 0]}, r"indices must be in \[0, 3\), got -1 at position 0"),
        ({"indices": [2, 0, 2, 0]}, "strictly increase within a row, got 2 then 0 in row 0; sort"),
        ({"indices": [2, 2, 2, 0]}, "strictly increase within a row, got 2 then 2 in row 0"),
        ({"indices": [0, 2, 2]}, r"indices must have shape \(4,\), got \(3,\)"),
    ],
)
def test_csr_refuses_wrong_indices(fault, match):
    fault = {name: np.array(value, np.int32) for name, value in fault.items()}
    with pytest.raises(ValueError, match=f"^CSR: .*{match}"):
        CSR(**example() | fault)


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("indices", np.array([0, 2, 2, np.nan]), "indices must be int32 or int64, got float64"),
        ("indices", np.array([0, 2, 2, 0]), "indptr must have the dtype of indices, int64, got"),
        ("indptr", np.array([0, 2, 3, 4]), "indptr must have the dtype of indices, int32, got"),
        ("indptr", np.array([0, 1, 1, 1], bool), "indptr must be int32 or int64, got bool"),
        ("data", np.array([1j, 2, 3, 4]), "data must be float16 .* got complex128"),
    ],
)
def test_csr_refuses_wrong_dtypes(name, array, match):
    with pytest.raises(TypeError, match=f"^CSR: {match}"):
        CSR(**example() | {name: array})


def test_csr_names_the_row_of_a_fault_after_empty_rows():
    indptr = np.array([0, 0, 2, 2, 4], np.int32)
    indices = np.array([0, 2, 2, 0], np.int32)
    with pytest.raises(ValueError, match="got 2 then 0 in row 3"):
        CSR(np.ones(4), indices, indptr, (4, 3))


def test_csr_rows_may_begin_at_any_column():
    csr = CSR(np.ones(4), np.array([1, 2, 0, 2]), np.array([0, 2, 2, 4]), (3, 3))
    np.testing.assert_array_equal(csr.to_dense(), [[0, 1, 1], [0, 0, 0], [1, 0, 1]])
