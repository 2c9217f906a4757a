"""The code that is generated for panels uses the machine's vectors and touches no other memory."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config, njit, types

from refimpl.kernels.vector_code import Panel
from refimpl.kernels.vectors import load_panel, multiply_add, store_panel, zero_panel


@njit
def scaled(x, value, out):
    y = zero_panel(out, 64)
    for i in range(x.shape[0]):
        y = multiply_add(y, value, load_panel(x, i, 0, 64))
    store_panel(out, 0, 0, y)


def test_panels_of_one_dtype_and_width_are_one_type():
    assert Panel(types.float32, 64) == Panel(types.float32, 64)


@pytest.mark.parametrize("other", [Panel(types.float32, 32), Panel(types.float64, 64)])
def test_panels_of_another_dtype_or_width_are_another_type(other):
    assert Panel(types.float32, 64) != other


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled without the compiler")
def test_panel_becomes_a_vector_of_its_width():
    scaled(np.ones((3, 64), np.float32), np.float32(2), np.zeros((1, 64), np.float32))
    [code] = scaled.inspect_llvm().values()
    assert "llvm.fma.v64f32" in code


def test_sum_over_rows_is_carried_in_the_panel():
    x = np.arange(192, dtype=np.float64).reshape(3, 64)
    out = np.zeros((1, 64))
    scaled(x, 2.0, out)
    np.testing.assert_array_equal(out[0], 2 * x.sum(axis=0))
