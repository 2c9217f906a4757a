"""COO: coordinates in any order, each position once; SciPy's matrices come in through it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import COO, CSR
from support.corruption import ONE_SENTENCE
from support.strategies import dense_matrices

SCIPY_FORMATS = ("coo", "csr", "csc", "bsr", "dia", "lil", "dok")


def example() -> dict:
    """The 3 x 3 matrix [[1, 0, 2], [0, 0, 3], [4, 0, 0]], worked out by hand."""
    return {
        "rows": np.array([0, 0, 1, 2], np.int32),
        "cols": np.array([0, 2, 2, 0], np.int32),
        "data": np.array([1, 2, 3, 4], np.float32),
        "shape": (3, 3),
    }


def test_coo_of_the_hand_worked_example():
    coo = COO.from_dense(np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    assert (coo.rows.tolist(), coo.cols.tolist()) == ([0, 0, 1, 2], [0, 2, 2, 0])
    assert coo.data.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("dtype", "per_entry"), [(np.float16, 10), (np.float32, 12), (np.float64, 16)]
)
def test_coo_bytes_are_a_value_and_two_indices(dtype, per_entry):
    rng = np.random.default_rng(0)
    dense = (rng.random((30, 50)) < 0.2).astype(dtype)
    assert COO.from_dense(dense).nbytes == per_entry * np.count_nonzero(dense)


@given(dense=dense_matrices(), seed=st.integers(0, 2**32 - 1))
def test_coo_order_does_not_matter(dense, seed):
    coo = COO.from_dense(dense)
    order = np.random.default_rng(seed).permutation(coo.nnz)
    shuffled = COO(coo.rows[order], coo.cols[order], coo.data[order], coo.shape)
    np.testing.assert_array_equal(shuffled.to_dense(), dense)


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ({"rows": [0, 0, 1, 3]}, ValueError, r"rows must be in \[0, 3\), got 3 at position 3"),
        ({"cols": [0, -1, 2, 0]}, ValueError, r"cols must be in \[0, 3\), got -1 at position 1"),
        ({"cols": [0, 0, 2, 0]}, ValueError, r"each entry once, got \(0, 0\) more than once; sum"),
        ({"rows": [0, 0, 1]}, ValueError, r"rows must have shape \(4,\), got \(3,\)"),
        ({"cols": [0, 2, 2, 0, 1]}, ValueError, r"cols must have shape \(4,\), got \(5,\)"),
        ({"cols": [[0, 2, 2, 0]]}, ValueError, r"cols must have 1 axes, got shape \(1, 4\)"),
    ],
)
def test_coo_refuses_wrong_indices(fault, error, match):
    fault = {name: np.array(value, np.int32) for name, value in fault.items()}
    with pytest.raises(error, match=f"^COO: .*{match}"):
        COO(**example() | fault)


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("rows", np.array([0, 0, 1, np.nan]), "rows must be int32 or int64, got float64"),
        ("rows", np.array([0, 0, 1, 2]), "cols must have the dtype of rows, int64, got int32"),
        ("rows", np.array([0, 0, 1, 1], bool), "rows must be int32 or int64, got bool"),
        ("cols", np.array([0, 2, 2, 0], object), "cols must be int32 or int64, got object"),
        ("cols", [0, 2, 2, 0], "cols must be an array, got list"),
        ("data", np.array([1, 2, 3, 4]), "data must be float16 or float32 or float64, got int64"),
    ],
)
def test_coo_refuses_wrong_dtypes(name, array, match):
    with pytest.raises(TypeError, match=f"^COO: {match}; "):
        COO(**example() | {name: array})


@pytest.mark.parametrize(
    ("shape", "error", "match"),
    [
        ([3, 3], TypeError, r"shape must be a tuple of two, got list; give \(rows, columns\)"),
        ((3,), TypeError, r"shape must be a tuple of two, got \(3,\)"),
        ((3.0, 3), TypeError, "shape must be an integer, got 3.0"),
        ((True, 3), TypeError, "shape must be an integer, got True"),
        ((3, -3), ValueError, "shape must be at least 0, got -3"),
        ((3, 2), ValueError, r"cols must be in \[0, 2\), got 2 at position 1"),
        ((2**31, 3), ValueError, "rows must count up to 2147483648, got int32"),
    ],
)
def test_coo_refuses_wrong_shapes(shape, error, match):
    with pytest.raises(error, match=f"^COO: {match}"):
        COO(**example() | {"shape": shape})


def test_coo_finds_duplicates_in_matrices_of_any_size():
    rows, cols = np.array([2**40, 2**40]), np.array([2**41, 2**41])
    with pytest.raises(ValueError, match="more than once"):
        COO(rows, cols, np.ones(2), (2**50, 2**50))


def test_coo_keeps_stored_zeros():
    coo = COO(**example() | {"data": np.array([1, 0, -0.0, 4], np.float32)})
    assert coo.nnz == 4
    assert np.signbit(coo.to_dense()[1, 2])


# SciPy


@pytest.mark.parametrize("name", SCIPY_FORMATS)
@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_scipy_takes_every_format(name, kind, dtype):
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((6, 9), np.float32).astype(dtype) * (rng.random((6, 9)) < 0.3)
    theirs = getattr(scipy.sparse, f"{name}_{kind}")(dense)
    np.testing.assert_array_equal(COO.from_scipy(theirs).to_dense(), dense)


@pytest.mark.parametrize("kind", [COO, CSR])
def test_from_scipy_sums_duplicates(kind):
    theirs = scipy.sparse.coo_array((np.array([1.0, 2, 4]), ([1, 0, 1], [2, 0, 2])), shape=(2, 3))
    ours = kind.from_scipy(theirs)
    assert ours.nnz == 2
    np.testing.assert_array_equal(ours.to_dense(), [[2, 0, 0], [0, 0, 5]])


def test_from_scipy_leaves_its_argument_alone():
    theirs = scipy.sparse.csr_array((np.ones(3), [2, 0, 0], [0, 3]), shape=(1, 3))
    COO.from_scipy(theirs)
    assert theirs.indices.tolist() == [2, 0, 0]


def test_from_scipy_leaves_surplus_entries_alone():
    theirs = scipy.sparse.csr_array(np.eye(3))
    theirs.data, theirs.indices = np.ones(5), np.array([0, 1, 2, 0, 0], np.int32)
    np.testing.assert_array_equal(CSR.from_scipy(theirs).to_dense(), np.eye(3))
    assert theirs.data.size == 5


def test_from_scipy_keeps_stored_zeros():
    theirs = scipy.sparse.coo_array((np.zeros(2), ([0, 1], [1, 0])), shape=(2, 2))
    assert COO.from_scipy(theirs).nnz == 2


def corrupt_csr(name: str, array: list[int]) -> scipy.sparse.csr_array:
    """A SciPy matrix whose arrays were changed after SciPy had looked at them."""
    theirs = scipy.sparse.csr_array(np.eye(3))
    setattr(theirs, name, np.array(array, np.int32))
    return theirs


def corrupt_coo() -> scipy.sparse.coo_array:
    theirs = scipy.sparse.coo_array(np.eye(3))
    theirs.coords[1][0] = 7
    return theirs


def coo_with(**arrays: np.ndarray) -> scipy.sparse.coo_array:
    """The identity, with arrays that SciPy never looked at."""
    theirs = scipy.sparse.coo_array(np.eye(3))
    row, col = theirs.coords
    theirs.coords = (arrays.get("row", row), arrays.get("col", col))
    theirs.data = arrays.get("data", theirs.data)
    return theirs


def corrupt_lil(name: str, line: list[float]) -> scipy.sparse.lil_array:
    theirs = scipy.sparse.lil_array(np.eye(3))
    getattr(theirs, name)[0] = line
    return theirs


def corrupt_dia(name: str, array: np.ndarray) -> scipy.sparse.dia_array:
    theirs = scipy.sparse.dia_array(np.eye(3))
    setattr(theirs, name, array)
    return theirs


def corrupt_dok() -> scipy.sparse.dok_array:
    theirs = scipy.sparse.dok_array(np.eye(3))
    theirs._dict[7, 0] = 1.0
    return theirs


@pytest.mark.parametrize("kind", [COO, CSR])
@pytest.mark.parametrize(
    ("theirs", "error", "match"),
    [
        (np.eye(3), TypeError, "matrix must be scipy.sparse, got ndarray"),
        (scipy.sparse.csr_array(np.eye(3, dtype=int)), TypeError, "hold floats, got int64"),
        (scipy.sparse.csr_array(np.eye(3, dtype=complex)), TypeError, "floats, got complex128"),
        (scipy.sparse.csr_array(np.eye(3, dtype=bool)), TypeError, "hold floats, got bool"),
        (scipy.sparse.coo_array(np.ones(3)), ValueError, r"have 2 axes, got shape \(3,\)"),
        (corrupt_csr("indices", [0, 1, 7]), ValueError, "matrix must be consistent"),
        (corrupt_csr("indices", [0, 1, -7]), ValueError, "matrix must be consistent"),
        (corrupt_csr("indptr", [0, 9, 2, 3]), ValueError, "matrix must be consistent"),
        (corrupt_lil("data", [1.0, 2.0]), ValueError, "'rows and data of different lengths'"),
        (corrupt_lil("rows", [0, 1]), ValueError, "'rows and data of different lengths'"),
        (corrupt_lil("rows", [7]), ValueError, "matrix must be consistent"),
        (corrupt_dia("data", np.ones((2, 3))), ValueError, "'offsets and data of different len"),
        (corrupt_dia("offsets", np.arange(2)), ValueError, "'offsets and data of different len"),
        (corrupt_dok(), ValueError, "matrix must be consistent"),
        (corrupt_coo(), ValueError, r"col must be in \[0, 3\), got 7 at position 0"),
        (coo_with(row=np.arange(2, dtype=np.int32)), ValueError, r"row must have shape \(3,\)"),
        (coo_with(data=np.ones(2)), ValueError, r"row must have shape \(2,\), got \(3,\)"),
        (coo_with(col=np.array([0.5, 1, 2])), TypeError, "col must be int32 or int64, got float64"),
    ],
    ids=[
        *("dense", "int", "complex", "bool", "vector", "far", "negative", "indptr"),
        *("lil data", "lil rows", "lil far", "dia data", "dia offsets", "dok", "coo"),
        *("few rows", "few values", "fractions"),
    ],
)
def test_from_scipy_refuses(kind, theirs, error, match):
    with pytest.raises(error, match=match) as refusal:
        kind.from_scipy(theirs)
    assert re.match(ONE_SENTENCE, str(refusal.value))
