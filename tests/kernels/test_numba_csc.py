"""The compiled CSC kernels scatter what the definition scatters, however the rows are shared."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import scipy.sparse

from refimpl.formats import CSC, CSR
from refimpl.kernels import KERNELS, matmul, matmul_transposed, numba_csc

CSC_KERNELS = [row for row in KERNELS if row.format is CSC and not row.transposed]
MATMULS = [row for row in CSC_KERNELS if row.x_ndim == 2]
IN_ORDER = [row for row in CSC_KERNELS if row.name in ("csc_matvec", "csc_matmul")]
WIDTHS = (1, 16, 17, 32, 33, 64, 65, 170)  # each path, for whole and for partial panels


def named(rows):
    return {"argvalues": rows, "ids": [row.name for row in rows]}


def random_csc(rng, shape, density, dtype=np.float32):
    kept = rng.random(shape) < density
    return CSC.from_dense(np.where(kept, rng.standard_normal(shape), 0).astype(dtype))


def whole_csc(rng, shape, density):
    """Small whole numbers: every order of summation gives the same bits."""
    kept = rng.random(shape) < density
    return CSC.from_dense(np.where(kept, rng.integers(-9, 10, shape), 0).astype(np.float32))


def random_x(rng, kernel, n_rows, dtype=np.float32):
    return rng.standard_normal((n_rows, 70)[: kernel.x_ndim]).astype(dtype)


def product(kernel, a, x):
    out = np.full((a.shape[0], *x.shape[1:]), np.nan, np.result_type(a.dtype, x.dtype))
    kernel.run(a, x, out)
    return out


@pytest.mark.parametrize("kernel", **named(IN_ORDER))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_equals_the_definition_bit_for_bit(kernel, dtype):
    rng = np.random.default_rng(0)
    a = random_csc(rng, (40, 30), 0.3, dtype)
    x = random_x(rng, kernel, 30, dtype)
    np.testing.assert_array_equal(product(kernel, a, x), a.matmul(x), strict=True)


@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
@pytest.mark.parametrize("column_length", range(10))
def test_kernel_counts_every_value_of_a_column(kernel, column_length):
    dense = np.zeros((10, 3), np.float32)
    dense[:column_length, 1] = 2.0 ** np.arange(column_length)
    x = np.ones((3, 6)[: kernel.x_ndim], np.float32)
    np.testing.assert_array_equal(product(kernel, CSC.from_dense(dense), x), dense @ x)


@pytest.mark.parametrize("kernel", **named(MATMULS))
@pytest.mark.parametrize("batch", WIDTHS)
def test_kernel_is_exact_at_every_width_of_the_batch(kernel, batch):
    rng = np.random.default_rng(1)
    a = whole_csc(rng, (30, 20), 0.3)
    x = rng.integers(-9, 10, (20, batch)).astype(np.float32)
    np.testing.assert_array_equal(product(kernel, a, x), a.to_dense() @ x)


@pytest.mark.parametrize("kernel", **named(MATMULS))
@pytest.mark.parametrize("batch", [3, 20, 64])
@pytest.mark.parametrize("n_rows", [255, 256, 257, 1025])  # a tile has 256 rows of 64 columns
def test_kernel_is_exact_across_tiles(kernel, batch, n_rows):
    rng = np.random.default_rng(2)
    a = whole_csc(rng, (n_rows, 4), 0.1)
    x = rng.integers(-9, 10, (4, batch)).astype(np.float32)
    np.testing.assert_array_equal(product(kernel, a, x), a.to_dense() @ x)


@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
def test_kernel_reads_int64_indices(kernel):
    rng = np.random.default_rng(3)
    a = random_csc(rng, (8, 9), 0.5)
    wide = CSC(a.data, a.indices.astype(np.int64), a.indptr.astype(np.int64), a.shape)
    x = random_x(rng, kernel, 9)
    np.testing.assert_array_equal(product(kernel, wide, x), product(kernel, a, x))


@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
@pytest.mark.parametrize("n_threads", [2, 3, 7, 60])
def test_kernel_gives_the_same_bits_however_rows_are_shared(kernel, n_threads, monkeypatch):
    rng = np.random.default_rng(4)
    a = random_csc(rng, (700, 5), 0.5)  # csc_matvec shares columns of 128 entries and more
    x = random_x(rng, kernel, 5)
    monkeypatch.setattr(numba_csc, "get_num_threads", lambda: 1)
    by_one = product(kernel, a, x)
    monkeypatch.setattr(numba_csc, "get_num_threads", lambda: n_threads)
    np.testing.assert_array_equal(product(kernel, a, x), by_one)


@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
def test_kernel_agrees_with_scipy_on_small_whole_numbers(kernel):
    rng = np.random.default_rng(5)
    peer = scipy.sparse.random_array((70, 50), density=0.2, random_state=rng, format="csc")
    peer.data = np.round(9 * peer.data - 4.5).astype(np.float64)
    x = rng.integers(-9, 10, (50, 70)[: kernel.x_ndim]).astype(np.float64)
    np.testing.assert_array_equal(product(kernel, CSC.from_scipy(peer), x), peer @ x)


@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_only_the_rows_that_store_them(kernel, value):
    a = CSC.from_dense(np.array([[0, 2, 0], [1, 0, 3], [0, 0, 4]], np.float32))
    x = np.ones((3, 70)[: kernel.x_ndim], np.float32)
    x[0] = value
    expected = np.array([2, value + 3, 4], np.float32)
    np.testing.assert_array_equal(product(kernel, a, x).T, np.broadcast_to(expected, x.T.shape))


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing compiles with NUMBA_DISABLE_JIT")
@pytest.mark.parametrize("kernel", **named(CSC_KERNELS))
def test_kernel_refuses_to_compile_for_a_read_only_out(kernel):
    a = CSC.from_dense(np.eye(3, dtype=np.float32))
    out = np.zeros((3, 3)[: kernel.x_ndim], np.float32)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="Cannot modify readonly array"):
        kernel.run(a, out, out)


# The theorem: the CSR arrays of A are the CSC arrays of A.T


@pytest.mark.parametrize("kind", [CSR, CSC])
@pytest.mark.parametrize("batch", [(), (5,), (170,)])
def test_both_formats_multiply_both_ways(kind, batch):
    rng = np.random.default_rng(6)
    dense = whole_csc(rng, (9, 14), 0.4).to_dense()
    a, x = kind.from_dense(dense), rng.integers(-9, 10, (14, *batch)).astype(np.float32)
    dy = rng.integers(-9, 10, (9, *batch)).astype(np.float32)
    np.testing.assert_array_equal(matmul(a, x), dense @ x)
    np.testing.assert_array_equal(matmul_transposed(a, dy), dense.T @ dy)


@pytest.mark.parametrize(("kind", "dual"), [(CSR, CSC), (CSC, CSR)])
def test_kernels_of_a_format_are_those_of_its_dual_transposed(kind, dual):
    plain = [row.function for row in KERNELS if row.format is kind and not row.transposed]
    transposed = [row.function for row in KERNELS if row.format is dual and row.transposed]
    assert plain == transposed


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_file = {name for name in vars(numba_csc) if name.startswith("csc_")}
    assert in_file == {kernel.name for kernel in CSC_KERNELS}
