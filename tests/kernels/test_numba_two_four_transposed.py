"""The transposed 2:4 product: blocks of columns cover the result once, on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.formats import TwoFour
from refimpl.kernels.numba_two_four_transposed import _share_panels, two_four_matmul_transposed


def whole_numbers(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float32)


def two_of_four(shape: tuple[int, int]) -> np.ndarray:
    dense = whole_numbers(shape, 0)
    dense[:, 1::4], dense[::2, 2::4], dense[1::2, 3::4] = 0, 0, 0
    return dense


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
@pytest.mark.parametrize("n_words", [1, 2, 4])
@pytest.mark.parametrize("batch", [16, 64, 100, 200])
def test_threads_share_the_blocks_without_gap_or_overlap(n_threads, n_words, batch):
    dense, x = two_of_four((6, 300)), whole_numbers((6, batch), 1)
    a, out = TwoFour.from_dense(dense), np.full((300, batch), np.nan, np.float32)
    _share_panels(a.values, a.meta, x, out, n_threads, n_words)
    np.testing.assert_array_equal(out, dense.T @ x)


def test_transposed_product_writes_zero_where_no_row_adds():
    a, out = TwoFour.from_dense(np.zeros((0, 36))), np.full((36, 20), np.nan)
    two_four_matmul_transposed(a.values, a.meta, np.zeros((0, 20)), out)
    np.testing.assert_array_equal(out, np.zeros((36, 20)))


def test_transposed_product_is_the_gradient_of_the_product():
    dense, x, y = two_of_four((9, 40)), whole_numbers((9, 5), 2), whole_numbers((40, 5), 3)
    a, out = TwoFour.from_dense(dense), np.zeros((40, 5), np.float32)
    two_four_matmul_transposed(a.values, a.meta, x, out)
    assert (out * y).sum() == (x * (dense @ y)).sum()
