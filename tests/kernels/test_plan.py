"""A plan multiplies as its matrix does, whatever the matrix, the batch and the threads."""

from __future__ import annotations

import copy
import pickle

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import BSR, COO, CSR, TwoFour
from refimpl.kernels import Plan, matmul, plan
from support.formats import FORMATS
from support.strategies import FLOATS, operands
from support.tolerance import assert_product_close

W = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, -1, 0]], np.float32)
X = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
WX = np.array([[13, 16], [0, 0], [-2, 0]], np.float32)  # by hand
BATCHES = [0, 1, 2, 16, 17, 31, 32, 33, 64, 65, 96, 97, 130]


def sparse(rng, shape, density, dtype=np.float32):
    return np.where(rng.random(shape) < density, rng.integers(-9, 10, shape), 0).astype(dtype)


@given(st.data(), st.sampled_from(FORMATS), st.sampled_from(FLOATS), st.sampled_from([1, 16, 64]))
def test_plan_matches_dense_for_every_format(data, fmt, x_dtype, batch):
    dense = data.draw(fmt.matrices())
    x = data.draw(operands(dense))
    with np.errstate(over="ignore"):
        x = x.astype(x_dtype)
    y = plan(fmt.from_dense(dense), batch=batch)(x)
    assert y.dtype == np.result_type(dense, x)
    assert_product_close(y, dense, x)


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plan_is_exact_on_whole_numbers_for_any_batch(n, dtype):
    rng = np.random.default_rng(n)
    dense, x = sparse(rng, (37, 300), 0.2, dtype), sparse(rng, (300, n), 1, dtype)
    y = plan(CSR.from_dense(dense))(x)
    np.testing.assert_array_equal(y, dense @ x, strict=True)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 7), (7, 1), (1, 9999), (9999, 1)])
@pytest.mark.parametrize("rest", [(), (0,), (1,), (3,), (70,)])
def test_plan_handles_thin_and_empty_shapes(shape, rest):
    rng = np.random.default_rng(0)
    dense, x = sparse(rng, shape, 0.5), sparse(rng, (shape[1], *rest), 1)
    np.testing.assert_array_equal(plan(CSR.from_dense(dense))(x), dense @ x, strict=True)


@pytest.mark.parametrize("made_for", [1, 2])
@pytest.mark.parametrize("run_on", [1, 2])
def test_plan_gives_the_same_bits_on_any_number_of_threads(made_for, run_on):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("this machine has one thread")
    rng = np.random.default_rng(0)
    a = CSR.from_dense(rng.standard_normal((50, 300)) * (rng.random((50, 300)) < 0.3))
    x = rng.standard_normal((300, 70))
    expected, before = plan(a)(x), numba.get_num_threads()
    try:
        numba.set_num_threads(made_for)
        product = plan(a)
        numba.set_num_threads(run_on)
        np.testing.assert_array_equal(product(x), expected)
    finally:
        numba.set_num_threads(before)


def test_plan_writes_into_out():
    out = np.full(WX.shape, np.nan, np.float32)
    assert plan(CSR.from_dense(W))(X, out) is out
    np.testing.assert_array_equal(out, WX)


def test_plan_writes_into_out_of_any_memory_layout():
    room = np.full((6, 4), 7, np.float32)
    plan(CSR.from_dense(W))(X, room[::2, ::2])
    np.testing.assert_array_equal(room[::2, ::2], WX)
    assert (room[1::2] == 7).all()


@pytest.mark.parametrize("x", [np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X[:, ::-1]])
def test_plan_reads_any_memory_layout(x):
    np.testing.assert_array_equal(plan(CSR.from_dense(W))(x), W @ x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_only_the_rows_that_store_them(value):
    x = np.ones((4, 20), np.float32)
    x[0] = value
    y = plan(CSR.from_dense(W))(x)
    np.testing.assert_array_equal(y, np.tile(np.array([[3], [0], [value]], np.float32), 20))


def test_float16_is_rounded_once():
    rng = np.random.default_rng(0)
    dense, x = sparse(rng, (4, 300), 0.9, np.float16), sparse(rng, (300, 5), 1, np.float16)
    exact = dense.astype(np.float64) @ x.astype(np.float64)
    np.testing.assert_array_equal(plan(CSR.from_dense(dense))(x), exact.astype(np.float16))


def tile_bytes(value_bytes):
    nnz, n_rows, n_shares, n_blocks = 4, 3, numba.get_num_threads(), 1
    pointers = n_rows + 1 + n_shares + 1 + n_blocks + 1
    return (value_bytes + 2) * nnz + 4 * n_rows + 8 * pointers


@pytest.mark.parametrize(("dtype", "value_bytes"), [(np.float32, 4), (np.float64, 8)])
def test_plan_counts_the_bytes_of_its_tiles(dtype, value_bytes):
    assert plan(CSR.from_dense(W.astype(dtype))).nbytes == tile_bytes(value_bytes)


def test_plan_counts_the_rows_it_had_to_make():
    a = COO.from_dense(W)
    assert plan(a).nbytes == tile_bytes(4) + CSR.from_coo(a).nbytes


def test_plan_counts_values_that_were_widened():
    assert plan(CSR.from_dense(W.astype(np.float16)), batch=1).nbytes == 4 * 4 + 2 * 4


def test_plan_for_vectors_keeps_columns_in_two_bytes():
    assert plan(CSR.from_dense(W), batch=1).nbytes == 2 * 4


@pytest.mark.parametrize("kind", [TwoFour, BSR])
def test_plan_takes_a_format_of_groups_as_it_is(kind):
    options = {"block_shape": (1, 2)} if kind is BSR else {}
    product = plan(kind.from_dense(W, **options))
    assert product.nbytes == 0
    np.testing.assert_array_equal(product(X), WX)


def test_plan_shows_its_matrix():
    a = CSR.from_dense(W)
    product = plan(a)
    assert isinstance(product, Plan)
    assert product.matrix is a
    assert repr(product) == f"Plan({a!r}, nbytes={product.nbytes})"


@pytest.mark.parametrize("a", [CSR.from_dense(W), COO.from_dense(W), TwoFour.from_dense(W)])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("again", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
def test_a_copy_of_a_plan_is_planned_anew(a, batch, again):
    product = again(plan(a, batch=batch))
    arrays = [array for prepared in product._prepared.values() for array in prepared.arrays]
    assert not any(array.flags.writeable for array in arrays)
    assert product.nbytes == plan(a, batch=batch).nbytes
    np.testing.assert_array_equal(product(X), WX)


@pytest.mark.parametrize(
    ("a", "options", "error", "message"),
    [
        (W, {}, TypeError, "a must be a SparseMatrix, got ndarray; convert it with CSR"),
        (CSR.from_dense(W), {"batch": 0}, ValueError, "batch must be at least 1, got 0"),
        (CSR.from_dense(W), {"batch": 1.5}, TypeError, "batch must be an integer, got 1.5"),
    ],
)
def test_plan_refuses(a, options, error, message):
    with pytest.raises(error, match=rf"^kernels\.plan: {message}"):
        plan(a, **options)


@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (X.T, None, ValueError, r"x must have 4 rows"),
        (X.tolist(), None, TypeError, r"x must be an array, got list"),
        (X, np.zeros((3, 2)), TypeError, r"out must be float32"),
        (X, np.zeros((2, 3), np.float32), ValueError, r"out must have shape \(3, 2\)"),
    ],
)
def test_plan_refuses_operands_as_matmul_does(x, out, error, message):
    with pytest.raises(error, match=rf"^kernels\.plan: {message}"):
        plan(CSR.from_dense(W))(x, out)


@pytest.mark.parametrize("n_columns", [0, 1, 127, 128, 190, 1024, 2048, 70_000, 200_000])
@pytest.mark.parametrize("stored", [1, 8, 50])
def test_blocks_share_the_columns_evenly(n_columns, stored):
    dense = np.zeros((1, n_columns), np.float32)
    dense[:, : n_columns * stored // 100] = 1
    edges = plan(CSR.from_dense(dense))._prepared[2].arrays[-1]
    widths = np.diff(edges)
    assert edges[-1] == n_columns
    assert widths.max() <= 2**16
    assert widths.max() - widths.min() < len(widths)


def test_plan_agrees_with_matmul_where_tiles_are_many():
    rng = np.random.default_rng(1)
    a = CSR.from_dense(rng.standard_normal((500, 900)) * (rng.random((500, 900)) < 0.6))
    x = rng.standard_normal((900, 40))
    np.testing.assert_allclose(plan(a)(x), matmul(a, x), rtol=1e-12, atol=1e-11)
