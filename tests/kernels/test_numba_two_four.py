"""2:4 times a dense matrix: every group of every word, whatever the blocks and panels are."""

from __future__ import annotations

from itertools import combinations

import numba
import numpy as np
import pytest

from refimpl.formats import TwoFour
from refimpl.kernels import KERNELS, numba_two_four
from refimpl.kernels.numba_two_four import COLUMNS, PANEL_BYTES, ROWS, block_words

TWO_FOUR = [kernel for kernel in KERNELS if kernel.format is TwoFour]
EVERY = {"argvalues": TWO_FOUR, "ids": [kernel.name for kernel in TWO_FOUR]}
every_kernel = pytest.mark.parametrize("kernel", **EVERY)


def random_two_four(shape: tuple[int, int], dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    """Whole numbers, two of every four at random places."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    kept = np.argsort(rng.random((rows, columns // 4, 4)), axis=-1) < 2
    return (kept * rng.integers(-9, 10, kept.shape)).reshape(shape).astype(dtype)


def factors(kernel, shape, batch, dtype=np.float32):
    """A dense 2:4 matrix, and an `x` of whole numbers to multiply it with."""
    dense = random_two_four(shape, dtype)
    n_rows = shape[0] if kernel.transposed else shape[1]
    x = np.random.default_rng(1).integers(-9, 10, (n_rows, batch)).astype(dtype)
    return dense, x if kernel.x_ndim == 2 else x[:, 0].copy()


def product(kernel, dense, x):
    n_rows = dense.shape[1] if kernel.transposed else dense.shape[0]
    out = np.full((n_rows, *x.shape[1:]), np.nan, dense.dtype)
    kernel.run(TwoFour.from_dense(dense), x, out)
    return out


def expected(kernel, dense, x):
    return (dense.T if kernel.transposed else dense) @ x


@every_kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [4, 28, 32, 36, 64, 124, 128, 132, 260, 516])
def test_kernel_reads_every_word_of_every_block(kernel, dtype, columns):
    dense, x = factors(kernel, (5, columns), 80, dtype)
    np.testing.assert_array_equal(product(kernel, dense, x), expected(kernel, dense, x))


@every_kernel
@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3])
def test_kernel_reads_every_row_of_every_block(kernel, rows):
    dense, x = factors(kernel, (rows, 140), 3)
    np.testing.assert_array_equal(product(kernel, dense, x), expected(kernel, dense, x))


@every_kernel
@pytest.mark.parametrize("batch", [1, 15, 16, 17, 32, 33, 64, 65, 96, 97, 128, 145])
def test_kernel_writes_every_column_of_any_batch(kernel, batch):
    dense, x = factors(kernel, (7, 36), batch)
    np.testing.assert_array_equal(product(kernel, dense, x), expected(kernel, dense, x))


@every_kernel
def test_kernel_decodes_every_nibble_at_every_place(kernel):
    places = [(group, pair) for group in range(9) for pair in combinations(range(4), 2)]
    dense = np.zeros((len(places), 36), np.float32)
    for row, (group, (i, j)) in zip(dense, places, strict=True):
        row[[4 * group + i, 4 * group + j]] = 3, 5
    x = factors(kernel, dense.shape, 2)[1]
    np.testing.assert_array_equal(product(kernel, dense, x), expected(kernel, dense, x))


@every_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_kernel_lets_nan_and_infinity_reach_only_what_stores_them(kernel, value):
    dense = np.zeros((3, 40), np.float32)
    dense[:, [4 * group + column for group in range(10) for column in (0, 3)]] = 1
    dense[1, [0, 1, 2]] = 0, 1, 0  # columns 1 and 2 are stored
    x = np.ones((3 if kernel.transposed else 40, 2)[: kernel.x_ndim], np.float32)
    x[1] = value
    y = product(kernel, dense, x)
    stored = TwoFour.from_dense(dense).to_coo()
    reached = stored.cols[stored.rows == 1] if kernel.transposed else stored.rows[stored.cols == 1]
    assert sorted({*np.nonzero(~np.isfinite(y))[0].tolist()}) == sorted(reached.tolist())


@every_kernel
def test_kernel_gives_the_same_bits_on_one_thread_and_on_all(kernel):
    rng = np.random.default_rng(2)
    dense = random_two_four((300, 260)) * rng.standard_normal((300, 260)).astype(np.float32)
    x = rng.standard_normal(factors(kernel, dense.shape, 100)[1].shape).astype(np.float32)
    on_all, n_threads = product(kernel, dense, x), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        on_one = product(kernel, dense, x)
    finally:
        numba.set_num_threads(n_threads)
    np.testing.assert_array_equal(on_one, on_all)


@pytest.mark.parametrize("name", ["two_four_matmul", "two_four_matvec"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_loops_equal_the_definition_bit_for_bit(name, dtype):
    [kernel] = [kernel for kernel in TWO_FOUR if kernel.name == name]
    rng = np.random.default_rng(3)
    dense = (random_two_four((9, 44)) * rng.standard_normal((9, 44))).astype(dtype)
    x = rng.standard_normal((44, 6)[: kernel.x_ndim]).astype(dtype)
    np.testing.assert_array_equal(product(kernel, dense, x), TwoFour.from_dense(dense).matmul(x))


def test_kernels_read_the_words_of_a_matrix_in_half_precision():
    kernel, *_ = [kernel for kernel in TWO_FOUR if kernel.x_ndim == 2 and not kernel.transposed]
    dense, x = factors(kernel, (6, 36), 20)
    out = np.zeros((6, 20), np.float32)
    kernel.run(TwoFour.from_dense(dense.astype(np.float16)), x, out)
    np.testing.assert_array_equal(out, dense @ x)


@pytest.mark.parametrize(("itemsize", "columns"), [(4, 128), (8, 64)])
def test_a_block_of_a_panel_fits_the_first_level_cache(itemsize, columns):
    assert COLUMNS * block_words(64, itemsize) == columns
    assert columns * 64 * itemsize == PANEL_BYTES


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_file = {name for name in vars(numba_two_four) if name.startswith("two_four_")}
    assert in_file <= {kernel.name for kernel in TWO_FOUR}
    assert len(in_file) == 5
