"""Depthwise convolution: each channel by itself, forward and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import Conv2d
from refimpl.nn.depthwise import (
    depthwise_convolve,
    depthwise_image_gradient,
    depthwise_weight_gradient,
)
from support.images import convolve_by_loops, geometries, whole_numbers


@st.composite
def depthwise_convolutions(draw):
    """Images, one kernel for each channel, stride and padding, all in whole numbers."""
    shape, options = draw(geometries())
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = whole_numbers(shape, dtype, rng)
    weight = whole_numbers((shape[1], 1, *options["kernel_shape"]), dtype, rng)
    return images, weight, options["stride"], options["padding"]


@given(depthwise_convolutions())
def test_depthwise_convolve_is_a_convolution_of_each_channel(case):
    images, weight, stride, padding = case
    y = depthwise_convolve(*case)
    assert (y.dtype, y.shape[:2]) == (images.dtype, images.shape[:2])
    for c in range(images.shape[1]):
        channel, kernel = images[:, c : c + 1], weight[c : c + 1]
        expected = convolve_by_loops(channel, kernel, stride=stride, padding=padding)
        np.testing.assert_array_equal(y[:, c : c + 1], expected)


@given(depthwise_convolutions())
def test_depthwise_weight_gradient_is_the_adjoint(case):
    images, weight, stride, padding = case
    y = depthwise_convolve(*case)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(0))
    dw = depthwise_weight_gradient(dy, images, weight.shape[2:], stride, padding)
    assert (dw.dtype, dw.shape) == (weight.dtype, weight.shape)
    assert np.vdot(y, dy) == np.vdot(weight, dw)


@given(depthwise_convolutions())
def test_depthwise_image_gradient_is_the_adjoint(case):
    images, weight, stride, padding = case
    y = depthwise_convolve(*case)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(0))
    dx = depthwise_image_gradient(dy, weight, images.shape, stride, padding)
    assert (dx.dtype, dx.shape) == (images.dtype, images.shape)
    assert np.vdot(y, dy) == np.vdot(images, dx)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (3, 2)])
def test_depthwise_layer_is_a_full_one_with_zeros_between_channels(stride, padding):
    options = {"stride": stride, "padding": padding, "rng": np.random.default_rng(0)}
    depthwise = Conv2d(3, 3, (3, 2), groups=3, dtype=np.float64, **options)
    full = Conv2d(3, 3, (3, 2), dtype=np.float64, **options)
    full.weight.value = np.eye(3)[:, :, None, None] * depthwise.weight.value
    x = np.random.default_rng(1).standard_normal((2, 3, 7, 6))
    y = full.forward(x)
    np.testing.assert_allclose(depthwise.forward(x), y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(depthwise.backward(y), full.backward(y), rtol=0, atol=1e-12)
    own = full.weight.grad[np.arange(3), np.arange(3)][:, None]
    np.testing.assert_allclose(depthwise.weight.grad, own, rtol=0, atol=1e-12)
