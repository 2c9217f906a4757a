"""The strategies do draw the matrices that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given

from support.strategies import bit_patterns, dense_matrices, products


def is_negative_zero(m):
    return (m == 0) & np.signbit(m)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda m: m.shape == (0, 3),
        lambda m: m.shape == (3, 0),
        lambda m: m.size > 4 and not m.any(),
        lambda m: m.size > 4 and m.all(),
        lambda m: m.any() and not m.any(axis=1).all(),
        lambda m: is_negative_zero(m).any(),
        lambda m: not m.flags.c_contiguous and not m.flags.f_contiguous,
        lambda m: np.unique(m[m != 0]).size < np.count_nonzero(m),
        lambda m: m.dtype == np.float16,
    ],
    ids=["0 rows", "0 columns", "zero", "full", "empty row", "-0.0", "strided", "ties", "half"],
)
def test_dense_matrices_cover(wanted):
    assert wanted(find(dense_matrices(), wanted))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda m: np.isnan(m).any() and np.signbit(m[np.isnan(m)]).any(),
        lambda m: np.isinf(m).any(),
        lambda m: is_negative_zero(m).any(),
        lambda m: ((m != 0) & (np.abs(m) < np.finfo(m.dtype).smallest_normal)).any(),
    ],
    ids=["-nan", "inf", "-0.0", "subnormal"],
)
def test_bit_patterns_cover(wanted):
    assert wanted(find(bit_patterns(), wanted))


@given(product=products())
def test_products_are_defined(product):
    a, x = product
    assert (a @ x).shape == (a.shape[0], *x.shape[1:])
