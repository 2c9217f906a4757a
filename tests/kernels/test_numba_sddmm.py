"""The compiled SDDMM kernels add whole blocks of batch and columns, on any number of threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.formats import BSR, CSR
from refimpl.kernels import SDDMM_KERNELS, numba_sddmm
from refimpl.kernels.numba_sddmm import BATCH_BLOCK, X_BLOCK_BYTES

CSR_KERNELS = [kernel for kernel in SDDMM_KERNELS if kernel.format is CSR]
NAMED = {"argvalues": CSR_KERNELS, "ids": [kernel.name for kernel in CSR_KERNELS]}
BLOCK_SHAPES = [(1, 1), (1, 8), (2, 4), (3, 5), (4, 4), (5, 3), (6, 9)]


def whole_numbers(rng, *shape, dtype=np.float32):
    """Factors whose products and sums are exact, so that any order of addition is right."""
    return rng.integers(-4, 5, shape).astype(dtype)


def gradient(kernel, dy, x, pattern):
    out = np.full(pattern.stored_values.shape, np.nan, dy.dtype)
    kernel.run(dy, x, pattern, out)
    return out


def random_csr(rng, shape, density):
    return CSR.from_dense((rng.random(shape) < density).astype(np.float32))


def at_stored(dense, pattern):
    return dense[pattern.to_dense() != 0]


@pytest.mark.parametrize("kernel", **NAMED)
@pytest.mark.parametrize("row_length", range(10))
def test_kernel_writes_every_entry_of_a_row(kernel, row_length):
    rng = np.random.default_rng(0)
    w = np.zeros((3, 10), np.float32)
    w[1, :row_length] = 1
    dy, x = whole_numbers(rng, 5, 3), whole_numbers(rng, 5, 10)
    expected = (dy.T @ x)[1, :row_length]
    np.testing.assert_array_equal(gradient(kernel, dy, x, CSR.from_dense(w)), expected)


@pytest.mark.parametrize("kernel", **NAMED)
@pytest.mark.parametrize("batch", [BATCH_BLOCK - 1, BATCH_BLOCK, BATCH_BLOCK + 1, 1200])
def test_kernel_adds_all_blocks_of_a_long_batch(kernel, batch):
    rng = np.random.default_rng(1)
    pattern = random_csr(rng, (3, 5), 0.6)
    dy, x = whole_numbers(rng, batch, 3), whole_numbers(rng, batch, 5)
    expected = at_stored(dy.T @ x, pattern)
    np.testing.assert_array_equal(gradient(kernel, dy, x, pattern), expected)


@pytest.mark.parametrize("beyond", [-1, 0, 1, 700])
def test_cache_blocks_meet_every_column(beyond):
    rng = np.random.default_rng(2)
    width = X_BLOCK_BYTES // (4 * BATCH_BLOCK)
    pattern = random_csr(rng, (4, width + beyond), 0.05)
    dy, x = whole_numbers(rng, 520, 4), whole_numbers(rng, 520, width + beyond)
    actual = gradient(CSR_KERNELS[0], dy, x, pattern)
    np.testing.assert_array_equal(actual, at_stored(dy.T @ x, pattern))


@pytest.mark.parametrize("kernel", **NAMED)
def test_kernel_reads_int64_indices(kernel):
    rng = np.random.default_rng(3)
    a = random_csr(rng, (8, 9), 0.5)
    wide = CSR(a.data, a.indices.astype(np.int64), a.indptr.astype(np.int64), a.shape)
    dy, x = whole_numbers(rng, 20, 8), whole_numbers(rng, 20, 9)
    np.testing.assert_array_equal(gradient(kernel, dy, x, wide), gradient(kernel, dy, x, a))


@pytest.mark.parametrize("kernel", SDDMM_KERNELS, ids=lambda kernel: kernel.name)
def test_kernel_gives_the_same_bits_on_one_thread_and_on_all(kernel):
    rng = np.random.default_rng(4)
    options = {"block_shape": (3, 5)} if kernel.format is BSR else {}
    w = rng.standard_normal((102, 30)) * (rng.random((102, 30)) < 0.2)
    pattern = kernel.format.from_dense(w, **options)
    dy, x = rng.standard_normal((40, 102)), rng.standard_normal((40, 30))
    on_all, n_threads = gradient(kernel, dy, x, pattern), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        on_one = gradient(kernel, dy, x, pattern)
    finally:
        numba.set_num_threads(n_threads)
    np.testing.assert_array_equal(on_one, on_all)


@pytest.mark.parametrize("block_shape", BLOCK_SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bsr_kernel_fills_blocks_of_any_shape(block_shape, dtype):
    rng = np.random.default_rng(5)
    r, c = block_shape
    blocks = np.kron(rng.random((4, 3)) < 0.5, np.ones(block_shape)).astype(dtype)
    pattern = BSR.from_dense(blocks, block_shape=block_shape)
    dy, x = whole_numbers(rng, 50, 4 * r, dtype=dtype), whole_numbers(rng, 50, 3 * c, dtype=dtype)
    kernel = next(kernel for kernel in SDDMM_KERNELS if kernel.format is BSR)
    actual = pattern.with_values(gradient(kernel, dy, x, pattern)).to_dense()
    np.testing.assert_array_equal(actual, (dy.T @ x) * blocks, strict=True)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing compiles with NUMBA_DISABLE_JIT")
@pytest.mark.parametrize("kernel", SDDMM_KERNELS, ids=lambda kernel: kernel.name)
def test_kernel_refuses_to_compile_for_a_read_only_out(kernel):
    options = {"block_shape": (1, 1)} if kernel.format is BSR else {}
    pattern = kernel.format.from_dense(np.eye(3), **options)
    out = np.zeros(pattern.stored_values.shape)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="Cannot modify readonly array"):
        kernel.run(np.ones((2, 3)), np.ones((2, 3)), pattern, out)


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_file = {name for name in vars(numba_sddmm) if name.endswith("sddmm") or "_sddmm_" in name}
    assert in_file == {kernel.name for kernel in SDDMM_KERNELS}
