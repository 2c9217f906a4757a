"""BSR: blocks of any shape that divides the matrix, one index for all of a block's values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import BSR, COO, CSR
from support.strategies import bit_patterns, cropped, dense_matrices, operands
from support.tolerance import assert_product_close

BLOCK_SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4))


def example() -> dict:
    """The 4 x 6 matrix of blocks of 2 x 3 at (0, 1), (1, 0) and (1, 1), worked out by hand."""
    return {
        "data": np.arange(1, 19, dtype=np.float32).reshape(3, 2, 3),
        "indices": np.array([1, 0, 1], np.int32),
        "indptr": np.array([0, 1, 3], np.int32),
        "shape": (4, 6),
    }


DENSE = np.array(
    [
        [0, 0, 0, 1, 2, 3],
        [0, 0, 0, 4, 5, 6],
        [7, 8, 9, 13, 14, 15],
        [10, 11, 12, 16, 17, 18],
    ],
    np.float32,
)


@st.composite
def blocked(draw, matrices=dense_matrices):
    """A block shape, and a matrix that it divides."""
    block_shape = draw(BLOCK_SHAPES)
    return block_shape, draw(cropped(matrices, block_shape)())


def test_bsr_of_the_hand_worked_example():
    bsr = BSR.from_dense(DENSE, block_shape=(2, 3))
    assert {name: getattr(bsr, name).tolist() for name in ("data", "indices", "indptr")} == {
        name: array.tolist() for name, array in example().items() if name != "shape"
    }
    assert bsr.block_shape == (2, 3)


def test_bsr_counts_every_entry_of_a_stored_block():
    bsr = BSR.from_dense(np.eye(4), block_shape=(2, 2))
    assert (bsr.nnz, len(bsr.indices)) == (8, 2)


# Any block shape


@given(blocked(bit_patterns))
def test_bsr_roundtrip_is_exact_for_any_block_shape(drawn):
    block_shape, dense = drawn
    back = BSR.from_dense(dense, block_shape=block_shape).to_dense()
    assert back.tobytes() == np.where(dense == 0, dense.dtype.type(0), dense).tobytes()


@given(blocked())
def test_bsr_stores_the_blocks_that_hold_an_entry(drawn):
    (r, c), dense = drawn
    bsr = BSR.from_dense(dense, block_shape=(r, c))
    assert len(bsr.data) == len({(i // r, j // c) for i, j in np.argwhere(dense).tolist()})


@given(blocked(), st.data())
def test_bsr_matmul_matches_dense_algebra_for_any_block_shape(drawn, data):
    block_shape, dense = drawn
    x = data.draw(operands(dense))
    assert_product_close(BSR.from_dense(dense, block_shape=block_shape) @ x, dense, x)


@given(blocked(), st.integers(0, 2**32 - 1))
def test_bsr_from_coo_sorts_any_order(drawn, seed):
    block_shape, dense = drawn
    coo = COO.from_dense(dense)
    order = np.random.default_rng(seed).permutation(coo.nnz)
    shuffled = COO(coo.rows[order], coo.cols[order], coo.data[order], coo.shape)
    bsr = BSR.from_coo(shuffled, block_shape=block_shape)
    expected = BSR.from_dense(dense, block_shape=block_shape)
    assert bsr.data.tobytes() == expected.data.tobytes()
    assert bsr.indices.tolist() == expected.indices.tolist()
    assert bsr.indptr.tolist() == expected.indptr.tolist()


@given(dense=dense_matrices())
def test_bsr_of_single_entries_is_csr(dense):
    bsr, csr = BSR.from_dense(dense, block_shape=(1, 1)), CSR.from_dense(dense)
    assert bsr.data.tobytes() == csr.data.tobytes()
    assert bsr.indices.tolist() == csr.indices.tolist()
    assert bsr.indptr.tolist() == csr.indptr.tolist()


@given(blocked(lambda: dense_matrices(dtypes=(np.float32, np.float64))))
def test_bsr_stores_the_same_arrays_as_scipy(drawn):
    block_shape, dense = drawn
    bsr = BSR.from_dense(dense, block_shape=block_shape)
    theirs = scipy.sparse.csr_array(dense).tobsr(blocksize=block_shape)
    theirs.sort_indices()
    np.testing.assert_array_equal(bsr.data, theirs.data)
    np.testing.assert_array_equal(bsr.indices, theirs.indices)
    np.testing.assert_array_equal(bsr.indptr, theirs.indptr)


@pytest.mark.parametrize("shape", [(0, 6), (4, 0), (0, 0), (4, 6)])
def test_bsr_without_blocks_remembers_its_block_shape(shape):
    bsr = BSR.from_dense(np.zeros(shape), block_shape=(2, 3))
    assert (bsr.data.shape, bsr.block_shape) == ((0, 2, 3), (2, 3))
    assert BSR.from_scipy(bsr.to_scipy()).block_shape == (2, 3)


def test_bsr_keeps_a_block_of_stored_zeros():
    zeros = BSR(**example()).with_values(np.zeros((3, 2, 3)))
    assert BSR.from_coo(zeros.to_coo(), block_shape=(2, 3)).data.tobytes() == zeros.data.tobytes()


def test_bsr_multiplies_the_zeros_of_a_stored_block():
    bsr = BSR.from_dense(np.diag([1.0, 2, 0, 0]), block_shape=(2, 2))
    y = bsr @ np.array([np.inf, 1, np.inf, 1])
    np.testing.assert_array_equal(y, [np.inf, np.nan, 0, 0])


# Bytes


def test_bsr_of_a_scattered_mask_takes_more_bytes_than_dense():
    dense = np.kron(np.ones((8, 8)), np.diag([1.0, 0, 0, 0]))  # one entry in each 4 x 4 block
    assert CSR.from_dense(dense).nbytes < dense.nbytes
    assert BSR.from_dense(dense, block_shape=(4, 4)).nbytes > dense.nbytes


# SciPy


def test_bsr_from_scipy_keeps_the_blocks():
    theirs = scipy.sparse.bsr_array(DENSE, blocksize=(2, 3))
    assert BSR.from_scipy(theirs).block_shape == (2, 3)


@pytest.mark.parametrize("kind", ["bsr", "csr", "coo"])
def test_bsr_from_scipy_cuts_any_format(kind):
    theirs = scipy.sparse.bsr_array(DENSE, blocksize=(2, 3)).asformat(kind)
    bsr = BSR.from_scipy(theirs, block_shape=(4, 2))
    assert bsr.block_shape == (4, 2)
    np.testing.assert_array_equal(bsr.to_dense(), DENSE)


def test_bsr_from_scipy_sums_blocks_stored_twice():
    twice = np.ones((2, 2, 3), np.float32)
    theirs = scipy.sparse.bsr_array((twice, [1, 1], [0, 2]), shape=(2, 6))
    assert BSR.from_scipy(theirs).data.tolist() == [[[2, 2, 2], [2, 2, 2]]]


def test_bsr_from_scipy_asks_for_a_block_shape():
    match = "^BSR.from_scipy: block_shape must be given, except for bsr, got None and csr; say"
    with pytest.raises(ValueError, match=match):
        BSR.from_scipy(scipy.sparse.csr_array(DENSE))


# Indices


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_bsr_and_coo_keep_the_index_dtype(dtype):
    coo = COO(np.array([1], dtype), np.array([0], dtype), np.ones(1), (2, 2))
    bsr = BSR.from_coo(coo, block_shape=(2, 1))
    assert bsr.indptr.dtype == bsr.indices.dtype == bsr.to_coo().rows.dtype == dtype


def test_bsr_of_int32_holds_columns_that_int32_does_not_count():
    indices, indptr = np.array([2**30], np.int32), np.array([0, 1], np.int32)
    bsr = BSR(np.ones((1, 1, 3)), indices, indptr, (1, 3 * 2**30 + 3))
    assert bsr.to_coo().cols.tolist() == [3 * 2**30, 3 * 2**30 + 1, 3 * 2**30 + 2]


# What is refused


@pytest.mark.parametrize("shape", [(5, 6), (4, 7), (3, 5)])
@pytest.mark.parametrize("make", ["from_dense", "from_coo"])
def test_bsr_refuses_a_shape_that_blocks_do_not_fill(make, shape):
    dense = np.zeros(shape)
    source = dense if make == "from_dense" else COO.from_dense(dense)
    match = rf"block_shape must divide the shape \({shape[0]}, {shape[1]}\), got \(2, 3\); choose"
    with pytest.raises(ValueError, match=f"^BSR.{make}: {match} divisors .* or pad with"):
        getattr(BSR, make)(source, block_shape=(2, 3))


@pytest.mark.parametrize(
    ("block_shape", "error", "match"),
    [
        (4, TypeError, r"block_shape must be a tuple of two, got 4; give \(rows, columns\)"),
        ([2, 3], TypeError, r"block_shape must be a tuple of two, got \[2, 3\]"),
        ((2,), TypeError, r"block_shape must be a tuple of two, got \(2,\)"),
        ((2.0, 3), TypeError, "block_shape must be an integer, got 2.0"),
        ((0, 3), ValueError, "block_shape must be at least 1, got 0"),
        ((2, -3), ValueError, "block_shape must be at least 1, got -3"),
        ((2**16, 2**15), ValueError, r"block_shape must have at most 2147483647 entries, got \("),
    ],
)
def test_bsr_refuses_what_is_no_block_shape(block_shape, error, match):
    with pytest.raises(error, match=f"^BSR.from_dense: {match}"):
        BSR.from_dense(DENSE, block_shape=block_shape)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"indptr": [0, 1, 2]}, "indptr must start at 0 and end at 3, got 0 and 2; one pointer"),
        ({"indptr": [0, 4, 3]}, "indptr must never decrease, got 4 then 3 at row 1"),
        ({"indptr": [0, 1, 2, 3, 3]}, r"indptr must have shape \(3,\), got \(5,\)"),
        ({"indices": [1, 0, 2]}, r"indices must be in \[0, 2\), got 2 at position 2"),
        ({"indices": [1, 1, 0]}, "strictly increase within a row, got 1 then 0 in row 1; sort"),
        ({"indices": [1, 0]}, r"indices must have shape \(3,\), got \(2,\)"),
    ],
)
def test_bsr_refuses_wrong_indices(fault, match):
    fault = {name: np.array(value, np.int32) for name, value in fault.items()}
    with pytest.raises(ValueError, match=f"^BSR: .*{match}"):
        BSR(**example() | fault)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"shape": (5, 6)}, r"block_shape must divide the shape \(5, 6\), got \(2, 3\)"),
        ({"data": np.ones((3, 0, 3))}, "block_shape must be at least 1, got 0"),
        ({"data": np.ones((3, 6))}, r"data must have 3 axes, got shape \(3, 6\)"),
        ({"shape": (4, 3 * 2**62)}, "shape must be in .*; give a count"),
    ],
)
def test_bsr_refuses_wrong_blocks(fault, match):
    with pytest.raises(ValueError, match=f"^BSR: {match}"):
        BSR(**example() | fault)
