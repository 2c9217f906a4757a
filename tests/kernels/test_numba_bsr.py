"""The BSR kernels are right for every block shape, every batch, and however threads share."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.formats import BSR
from refimpl.kernels import KERNELS, matmul, matmul_transposed, numba_bsr
from refimpl.kernels.numba_bsr import lanes_of
from support.tolerance import assert_product_close

BSR_KERNELS = [kernel for kernel in KERNELS if kernel.format is BSR]
every_kernel = pytest.mark.parametrize("kernel", BSR_KERNELS, ids=lambda kernel: kernel.name)
every_block_shape = pytest.mark.parametrize(
    "block_shape",
    [(1, 1), (1, 16), (2, 3), (3, 4), (4, 4), (4, 6), (5, 1), (6, 32), (8, 2), (16, 16)],
    ids=lambda shape: "{}x{}".format(*shape),
)
ROW_PANELS, REGISTER_BLOCKS, PACKED_PANELS = (
    next(kernel for kernel in BSR_KERNELS if kernel.name == f"bsr_matmul_{name}")
    for name in ("row_panels", "register_blocks", "packed_panels")
)


def block_matrix(kept, block_shape, dtype=np.float32):
    """Whole numbers in the blocks where `kept` is true, so that sums are exact."""
    rng = np.random.default_rng(7)
    mask = np.kron(np.asarray(kept, bool), np.ones(block_shape, bool))
    return np.where(mask, rng.integers(1, 10, mask.shape), 0).astype(dtype)


def random_kept(shape=(7, 6), density=0.4, seed=0):
    return np.random.default_rng(seed).random(shape) < density


def operand(kernel, dense, batch=37, dtype=np.float32):
    shape = (dense.shape[0 if kernel.transposed else 1], batch)[: kernel.x_ndim]
    return np.random.default_rng(3).integers(-9, 10, shape).astype(dtype)


def product(kernel, a, x):
    n_rows = a.shape[1 if kernel.transposed else 0]
    out = np.full((n_rows, *x.shape[1:]), np.nan, x.dtype)
    kernel.run(a, x, out)
    return out


def left_factor(kernel, dense):
    return dense.T if kernel.transposed else dense


# Block shapes, dtypes, batches


@every_kernel
@every_block_shape
def test_kernel_is_exact_on_whole_numbers_for_any_block_shape(kernel, block_shape):
    dense = block_matrix(random_kept(), block_shape)
    x = operand(kernel, dense)
    y = product(kernel, BSR.from_dense(dense, block_shape=block_shape), x)
    np.testing.assert_array_equal(y, left_factor(kernel, dense) @ x, strict=True)


@every_kernel
@pytest.mark.parametrize(("dtype", "index"), [(np.float64, np.int32), (np.float32, np.int64)])
def test_kernel_computes_in_every_dtype(kernel, dtype, index):
    dense = block_matrix(random_kept(), (4, 4), dtype)
    a = BSR.from_dense(dense, block_shape=(4, 4))
    a = BSR(a.data, a.indices.astype(index), a.indptr.astype(index), a.shape)
    x = operand(kernel, dense, dtype=dtype)
    y = product(kernel, a, x)
    np.testing.assert_array_equal(y, left_factor(kernel, dense) @ x, strict=True)


@pytest.mark.parametrize("batch", [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 97, 130, 200])
@pytest.mark.parametrize("kernel", [k for k in BSR_KERNELS if k.x_ndim == 2], ids=lambda k: k.name)
def test_kernel_writes_every_column_of_any_batch_and_none_beside(kernel, batch):
    dense = block_matrix(random_kept(), (5, 3))
    a, x = BSR.from_dense(dense, block_shape=(5, 3)), operand(kernel, dense, batch)
    left = left_factor(kernel, dense)
    room = np.full(len(left) * batch + 100, 77, np.float32)
    kernel.run(a, x, room[: len(left) * batch].reshape(len(left), batch))
    np.testing.assert_array_equal(room[:-100].reshape(len(left), batch), left @ x)
    assert (room[-100:] == 77).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 40, 100])
def test_panel_kernels_agree_bit_for_bit(dtype, batch):
    rng = np.random.default_rng(5)
    dense = np.where(block_matrix(random_kept(), (6, 5)) > 0, rng.standard_normal((42, 30)), 0)
    a = BSR.from_dense(dense.astype(dtype), block_shape=(6, 5))
    x = rng.standard_normal((30, batch)).astype(dtype)
    y = product(PACKED_PANELS, a, x)
    assert_product_close(y, dense.astype(dtype), x)
    np.testing.assert_array_equal(product(REGISTER_BLOCKS, a, x), y)
    np.testing.assert_array_equal(product(ROW_PANELS, a, x), y)


@pytest.mark.parametrize("block_shape", [(4, 4), (3, 5)])
def test_dispatch_multiplies_by_the_kernels(block_shape):
    dense = block_matrix(random_kept(), block_shape)
    a = BSR.from_dense(dense, block_shape=block_shape)
    x, dy = np.ones((dense.shape[1], 3)), np.ones((dense.shape[0], 3))
    np.testing.assert_array_equal(matmul(a, x), dense @ x)
    np.testing.assert_array_equal(matmul_transposed(a, dy), dense.T @ dy)


# Rows of blocks without blocks, and with many


@every_kernel
@pytest.mark.parametrize(
    "kept",
    [
        np.zeros((3, 4)),
        np.ones((3, 4)),
        [[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]],
        [[1, 1, 1], [0, 0, 0], [0, 0, 1]],
        np.zeros((0, 3)),
        np.zeros((3, 0)),
    ],
    ids=["none", "all", "one row", "uneven", "no rows", "no columns"],
)
def test_kernel_writes_rows_with_and_without_blocks(kernel, kept):
    dense = block_matrix(kept, (4, 2))
    x = operand(kernel, dense)
    y = product(kernel, BSR.from_dense(dense, block_shape=(4, 2)), x)
    np.testing.assert_array_equal(y, left_factor(kernel, dense) @ x)


@pytest.fixture
def threads():
    """Set the number of threads, and set it back."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@every_kernel
def test_kernel_gives_the_same_bits_on_one_thread_and_on_all(kernel, threads):
    dense = block_matrix(random_kept((23, 6)), (4, 4)) / 7
    a, x = BSR.from_dense(dense, block_shape=(4, 4)), operand(kernel, dense, 150)
    on_all = product(kernel, a, x)
    threads(1)
    np.testing.assert_array_equal(product(kernel, a, x), on_all)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch", [1, 64, 65, 150, 300])
def test_every_number_of_shares_covers_the_product(monkeypatch, n_threads, batch):
    monkeypatch.setattr(numba_bsr, "get_num_threads", lambda: n_threads)
    kept = random_kept((5, 6))
    kept[1] = True  # one row of blocks has more than its share
    dense = block_matrix(kept, (4, 2))
    a, x = BSR.from_dense(dense, block_shape=(4, 2)), operand(PACKED_PANELS, dense, batch)
    np.testing.assert_array_equal(product(PACKED_PANELS, a, x), dense @ x)


@every_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_only_the_blocks_that_meet_them(kernel, value):
    dense = block_matrix(np.eye(2), (4, 4))
    x = np.ones((8, 20)[: kernel.x_ndim], np.float32)
    x[0] = value  # meets the first block alone
    y = product(kernel, BSR.from_dense(dense, block_shape=(4, 4)), x)
    assert not np.isfinite(y[:4]).any()
    assert np.isfinite(y[4:]).all()


# Panels fit the machine


@pytest.mark.parametrize(
    ("features", "dtype", "parts", "lanes"),
    [
        ("+avx2,+avx512f", np.float32, 1, 64),
        ("+avx2,+avx512f", np.float64, 1, 32),
        ("+avx2,+avx512f", np.float32, 2, 32),
        ("+avx2", np.float32, 1, 16),
        ("+neon", np.float64, 2, 4),
    ],
)
def test_panels_are_as_long_as_the_registers_allow(monkeypatch, features, dtype, parts, lanes):
    monkeypatch.setattr(numba_bsr, "get_host_cpu_features", lambda: features)
    assert lanes_of(np.zeros(0, dtype), parts) == lanes


@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="compiled panels have a fixed length")
@pytest.mark.parametrize("batch", [1, 8, 9, 16, 17, 40])
def test_kernels_are_right_with_short_panels(monkeypatch, batch):
    monkeypatch.setattr(numba_bsr, "get_host_cpu_features", lambda: "+avx2")
    dense = block_matrix(random_kept(), (5, 3))
    a, x = BSR.from_dense(dense, block_shape=(5, 3)), operand(PACKED_PANELS, dense, batch)
    np.testing.assert_array_equal(product(PACKED_PANELS, a, x), dense @ x)


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_file = {name for name in vars(numba_bsr) if name.startswith("bsr_")}
    assert in_file == {kernel.name for kernel in BSR_KERNELS}
