"""Sigmoid and tanh: right values and derivatives, also where a naive formula has no digits left."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import Sigmoid, Tanh
from support.strategies import FLOATS, layouts

BOTH = pytest.mark.parametrize("activation", [Sigmoid, Tanh])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


def exact_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


EXACT = {Sigmoid: exact_sigmoid, Tanh: math.tanh}


@BOTH
@given(st.data())
def test_activation_values_match_the_definition(activation, data):
    dtype = data.draw(st.sampled_from(FLOATS))
    floats = st.floats(-1e4, 1e4, width=8 * np.dtype(dtype).itemsize)
    x = data.draw(layouts(data.draw(hnp.arrays(dtype, SHAPES, elements=floats))))
    y = activation().forward(x)
    expected = np.array([EXACT[activation](float(value)) for value in x.ravel()]).reshape(x.shape)
    assert y.dtype == x.dtype
    info = np.finfo(dtype)
    tiny = float(info.smallest_subnormal)
    np.testing.assert_allclose(y, expected, rtol=4 * float(info.eps), atol=2 * tiny)


@BOTH
@pytest.mark.parametrize("x", [-3.0, -0.7, 0.0, 0.2, 2.5])
def test_activation_slope_matches_differences(activation, x):
    step = 1e-5
    rise = EXACT[activation](x + step) - EXACT[activation](x - step)
    slope = activation.slope(np.array([x])).item()
    assert slope == pytest.approx(rise / (2 * step), rel=1e-8)


@BOTH
@pytest.mark.parametrize("x", [-3.0, -0.7, 0.0, 0.2, 2.5])
def test_activation_second_derivative_matches_differences(activation, x):
    step = 1e-5
    near = activation.slope(np.array([x - step, x + step]))
    bend = activation.second_derivative(np.array([x])).item()
    assert bend == pytest.approx((near[1] - near[0]).item() / (2 * step), rel=1e-8, abs=1e-12)


@BOTH
@pytest.mark.parametrize("sign", [-1, 1])
def test_activation_slope_keeps_its_digits_far_from_zero(activation, sign):
    rate = {Sigmoid: 1, Tanh: 2}[activation]
    expected = rate**2 * math.exp(-40 * rate)  # the tail of the derivative, to 1e-17
    assert activation.slope(np.array([sign * 40.0])).item() == pytest.approx(expected, rel=1e-14)


def test_naive_tanh_slope_is_zero_where_the_right_one_is_not():
    x = np.array([20.0])
    assert (1 - np.tanh(x) ** 2).item() == 0 < Tanh.slope(x).item()


@BOTH
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("x", [-np.inf, -6e4, 6e4, np.inf])
def test_activation_saturates_without_a_warning(activation, dtype, x):
    layer, ends = activation(), {Sigmoid: (0, 1), Tanh: (-1, 1)}[activation]
    assert layer.forward(np.array([x], dtype)).item() == ends[x > 0]
    assert layer.backward(np.ones(1, dtype)).item() == 0


@BOTH
def test_activation_does_not_hide_nan(activation):
    assert np.isnan(activation().forward(np.array([np.nan]))).all()


@pytest.mark.parametrize("x", [-5.0, -0.3, 0.0, 4.0])
def test_tanh_is_a_stretched_sigmoid(x):
    stretched = 2 * Sigmoid.value(np.array([2 * x])) - 1
    np.testing.assert_allclose(Tanh.value(np.array([x])), stretched, rtol=0, atol=4e-16)
