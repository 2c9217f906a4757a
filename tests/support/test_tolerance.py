"""The tolerance lets rounding pass and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from support.tolerance import assert_product_close

DTYPES = (np.float16, np.float32, np.float64)


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def product(request):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 40)).astype(request.param)
    x = rng.standard_normal((40, 3)).astype(request.param)
    return a, x, (a.astype(np.float64) @ x.astype(np.float64)).astype(request.param)


def test_tolerance_accepts_the_rounded_product(product):
    a, x, y = product
    assert_product_close(y, a, x)


def test_tolerance_accepts_another_order_of_summation(product):
    a, x, y = product
    wide = np.result_type(y, np.float32)
    total = np.zeros(y.shape, wide)
    for k in np.random.default_rng(1).permutation(a.shape[1]):
        total += a[:, k, None].astype(wide) * x[k]
    assert_product_close(total.astype(y.dtype), a, x)


def test_tolerance_refuses_sums_kept_in_half_precision():
    a, x = np.ones((1, 4096), np.float16), np.ones(4096, np.float16)
    stuck = np.array([2048], np.float16)  # 2048 + 1 rounds to 2048
    with pytest.raises(AssertionError, match="more than rounding allows"):
        assert_product_close(stuck, a, x)


@pytest.mark.parametrize("side", [1, -1])
def test_tolerance_refuses_a_step_past_the_bound(product, side):
    a, x, y = product
    eps = np.finfo(y.dtype).eps
    bound = 5 * 41 * min(eps, 2**-23) * (np.abs(a[2]) @ np.abs(x[:, 1])) + 2 * eps * abs(y[2, 1])
    wrong = y.astype(np.float64)
    wrong[2, 1] += side * 1.1 * bound
    with pytest.raises(AssertionError, match="more than rounding allows"):
        assert_product_close(wrong.astype(y.dtype), a, x)


def test_tolerance_refuses_a_missing_term(product):
    a, x, _ = product
    a_short = a.copy()
    a_short[3, np.abs(a[3]).argmax()] = 0
    with pytest.raises(AssertionError, match="more than rounding allows"):
        assert_product_close((a_short @ x).astype(a.dtype), a, x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_tolerance_refuses_what_is_not_finite(product, value):
    a, x, y = product
    y[0, 0] = value
    with pytest.raises(AssertionError, match="more than rounding allows"):
        assert_product_close(y, a, x)


def test_tolerance_refuses_another_shape(product):
    a, x, y = product
    with pytest.raises(AssertionError):
        assert_product_close(y[:, :1], a, x)


def test_tolerance_accepts_the_empty_product():
    assert_product_close(np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((3, 2)))
