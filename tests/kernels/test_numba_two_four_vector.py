"""2:4 times a vector: the sums of sixteen lanes are those of the definition, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import TwoFour
from refimpl.kernels import KERNELS, numba_two_four_vector
from refimpl.kernels.numba_two_four_vector import (
    two_four_matvec_picked,
    two_four_matvec_transposed,
)
from support.tolerance import assert_product_close


def random_two_four(rng: np.random.Generator, rows: int, groups: int) -> np.ndarray:
    kept = np.argsort(rng.random((rows, groups, 4)), axis=-1) < 2
    return (kept * rng.standard_normal(kept.shape)).reshape(rows, 4 * groups).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 40))
def test_picked_sums_are_those_of_the_dense_product(seed, rows, groups):
    rng = np.random.default_rng(seed)
    dense = random_two_four(rng, rows, groups)
    a, x = TwoFour.from_dense(dense), rng.standard_normal(4 * groups).astype(np.float32)
    out = np.full(rows, np.nan, np.float32)
    two_four_matvec_picked(a.values, a.meta, x, out)
    assert_product_close(out, dense, x)


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 40))
def test_transposed_sums_are_those_of_the_dense_product(seed, rows, groups):
    rng = np.random.default_rng(seed)
    dense = random_two_four(rng, rows, groups)
    a, x = TwoFour.from_dense(dense), rng.standard_normal(rows).astype(np.float32)
    out = np.full(4 * groups, np.nan, np.float32)
    two_four_matvec_transposed(a.values, a.meta, x, out)
    assert_product_close(out, dense.T, x)


@pytest.mark.parametrize("columns", [31 * 4, 32 * 4])
def test_transposed_product_writes_zero_where_no_row_adds(columns):
    a = TwoFour.from_dense(np.zeros((0, columns), np.float32))
    out = np.full(columns, np.nan, np.float32)
    two_four_matvec_transposed(a.values, a.meta, np.zeros(0, np.float32), out)
    np.testing.assert_array_equal(out, np.zeros(columns, np.float32))


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_file = {name for name in vars(numba_two_four_vector) if name.startswith("two_four_")}
    rows = {kernel.name for kernel in KERNELS if kernel.format is TwoFour and kernel.x_ndim == 1}
    assert in_file == rows
