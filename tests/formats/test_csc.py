"""CSC: columns one after the other, which are the rows of the transpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import COO, CSC, CSR
from support.formats import arrays_of
from support.strategies import bit_patterns, dense_matrices

HAND = np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0], [0, 0, 5]], np.float32)


def example() -> dict:
    """The matrix HAND, worked out by hand."""
    return {
        "data": np.array([1, 4, 2, 3, 5], np.float32),
        "indices": np.array([0, 2, 0, 1, 3], np.int32),
        "indptr": np.array([0, 2, 2, 5], np.int32),
        "shape": (4, 3),
    }


def bytes_of(matrix: CSC | CSR) -> dict[str, tuple[str, bytes]]:
    return {name: (a.dtype.str, a.tobytes()) for name, a in arrays_of(matrix).items()}


def test_csc_of_the_hand_worked_example():
    csc = CSC.from_dense(HAND)
    assert csc.data.tolist() == [1, 4, 2, 3, 5]
    assert csc.indices.tolist() == [0, 2, 0, 1, 3]
    assert csc.indptr.tolist() == [0, 2, 2, 5]


@pytest.mark.parametrize(
    ("dtype", "per_entry"), [(np.float16, 6), (np.float32, 8), (np.float64, 12)]
)
def test_csc_bytes_are_data_plus_indices_plus_column_pointers(dtype, per_entry):
    dense = np.zeros((30, 50), dtype)
    dense.flat[:70] = 1
    assert CSC.from_dense(dense).nbytes == per_entry * 70 + 4 * 51


# The theorem: columns of A are rows of A.T


@given(dense=bit_patterns())
def test_csc_arrays_are_the_csr_arrays_of_the_transpose_bit_for_bit(dense):
    assert bytes_of(CSC.from_dense(dense)) == bytes_of(CSR.from_dense(dense.T))


@given(dense=dense_matrices())
def test_csc_transpose_is_csr_and_exact(dense):
    transposed = CSC.from_dense(dense).transpose()
    assert isinstance(transposed, CSR)
    transposed.check()
    np.testing.assert_array_equal(transposed.to_dense(), dense.T)


@given(dense=dense_matrices())
def test_csc_transpose_of_csr_is_exact(dense):
    transposed = CSC.transpose_of(CSR.from_dense(dense))
    assert isinstance(transposed, CSC)
    transposed.check()
    np.testing.assert_array_equal(transposed.to_dense(), dense.T)


def test_csc_transposed_twice_is_the_same_memory():
    csc = CSC(**example())
    back = CSC.transpose_of(csc.transpose())
    assert back.shape == csc.shape
    assert [a.base for a in arrays_of(back).values()] == [a.base for a in arrays_of(csc).values()]


@pytest.mark.parametrize("kind", [COO, CSC])
def test_csc_transpose_of_refuses_other_formats(kind):
    match = rf"^CSC\.transpose_of: csr must be a CSR, got {kind.__name__}; convert it with CSR"
    with pytest.raises(TypeError, match=match):
        CSC.transpose_of(kind.from_dense(HAND))


# Between formats


@given(dense=dense_matrices(), seed=st.integers(0, 2**32 - 1))
def test_csc_from_coo_sorts_any_order(dense, seed):
    coo = COO.from_dense(dense)
    order = np.random.default_rng(seed).permutation(coo.nnz)
    shuffled = COO(coo.rows[order], coo.cols[order], coo.data[order], coo.shape)
    assert bytes_of(CSC.from_coo(shuffled)) == bytes_of(CSC.from_dense(dense))


@given(dense=dense_matrices())
def test_csc_to_coo_writes_out_the_column_numbers(dense):
    coo = CSC.from_dense(dense).to_coo()
    assert (coo.cols.tolist(), coo.rows.tolist()) == tuple(i.tolist() for i in np.nonzero(dense.T))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_csc_and_coo_keep_the_index_dtype(dtype):
    coo = COO(np.array([1], dtype), np.array([0], dtype), np.ones(1), (2, 2))
    csc = CSC.from_coo(coo)
    assert csc.indptr.dtype == csc.indices.dtype == csc.to_coo().rows.dtype == dtype


# What is refused


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"indptr": [0, 2, 2, 4]}, "indptr must start at 0 and end at 5, got 0 and 4; .* columns"),
        ({"indptr": [0, 3, 2, 5]}, "indptr must never decrease, got 3 then 2 at column 1"),
        ({"indptr": [0, 2, 2, 5, 5]}, r"indptr must have shape \(4,\), got \(5,\)"),
        ({"indices": [0, 2, 0, 1, 4]}, r"indices must be in \[0, 4\), got 4 at position 4"),
        ({"indices": [0, 2, 0, 1, -1]}, r"indices must be in \[0, 4\), got -1 at position 4"),
        ({"indices": [2, 0, 0, 1, 3]}, "strictly increase within a column, got 2 then 0 in column"),
        ({"indices": [0, 2, 0, 3, 3]}, "got 3 then 3 in column 2; sort the column"),
        ({"indices": [0, 2, 0, 1]}, r"indices must have shape \(5,\), got \(4,\)"),
    ],
)
def test_csc_refuses_wrong_indices(fault, match):
    fault = {name: np.array(value, np.int32) for name, value in fault.items()}
    with pytest.raises(ValueError, match=f"^CSC: .*{match}"):
        CSC(**example() | fault)


def test_csc_refuses_the_arrays_of_the_other_shape():
    with pytest.raises(ValueError, match=r"^CSC: indptr must have shape \(5,\), got \(4,\)"):
        CSC(**example() | {"shape": (3, 4)})
