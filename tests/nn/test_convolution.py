"""Convolution: products with every patch, and the way back to weights and pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate

from refimpl.nn import SGD, Conv2d, check_gradients
from refimpl.nn.convolution import (
    convolution_image_gradient,
    convolution_weight_gradient,
    convolve,
)
from support.images import convolve_by_loops, geometries, whole_numbers
from support.strategies import layouts
from support.tolerance import assert_product_close

FLOATS = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 2**32 - 1)


def conv(c_in: int, c_out: int, kernel_shape, *, seed: int = 0, **options) -> Conv2d:
    return Conv2d(c_in, c_out, kernel_shape, rng=np.random.default_rng(seed), **options)


@st.composite
def convolutions(draw):
    """Images, kernels, stride and padding, all in whole numbers."""
    shape, options = draw(geometries())
    dtype, rng = draw(FLOATS), np.random.default_rng(draw(SEEDS))
    channels = max(shape[1], 1)
    weight_shape = (draw(st.integers(1, 3)), channels, *options["kernel_shape"])
    images = whole_numbers((shape[0], channels, *shape[2:]), dtype, rng)
    weight = whole_numbers(weight_shape, dtype, rng)
    return images, weight, options["stride"], options["padding"]


# --- the three products ----------------------------------------------------------------------


@given(convolutions())
def test_convolve_is_the_loops_over_patches(case):
    images, weight, stride, padding = case
    expected = convolve_by_loops(images, weight, stride=stride, padding=padding)
    np.testing.assert_array_equal(convolve(*case), expected, strict=True)


@given(convolutions())
def test_convolve_adds_a_bias_to_each_channel(case):
    bias = whole_numbers((len(case[1]),), case[0].dtype.type, np.random.default_rng(0))
    y = convolve(*case, bias=bias)
    np.testing.assert_array_equal(y, convolve(*case) + bias[:, None, None], strict=True)


@given(convolutions())
def test_weight_gradient_is_the_adjoint(case):
    images, weight, stride, padding = case
    y = convolve(images, weight, stride, padding)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(0))
    dw = convolution_weight_gradient(dy, images, weight.shape[2:], stride, padding)
    assert dw.shape == weight.shape
    assert np.vdot(y, dy) == np.vdot(weight, dw)


@given(convolutions())
def test_image_gradient_is_the_adjoint(case):
    images, weight, stride, padding = case
    y = convolve(images, weight, stride, padding)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(0))
    dx = convolution_image_gradient(dy, weight, images.shape, stride, padding)
    assert dx.shape == images.shape
    assert np.vdot(y, dy) == np.vdot(images, dx)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_convolve_is_a_correlation_of_the_signal_processors(stride, padding):
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal((3, 8, 7)), rng.standard_normal((3, 3, 2))
    frame = ((0, 0), (padding, padding), (padding, padding))
    expected = correlate(np.pad(image, frame), kernel, mode="valid", method="direct")
    y = convolve(image[None], kernel[None], stride, padding)
    np.testing.assert_allclose(y[0], expected[:, ::stride, ::stride], rtol=0, atol=1e-13)


# --- the layer -------------------------------------------------------------------------------


@given(convolutions(), st.data())
def test_conv_computes_the_three_products_and_the_bias(case, data):
    images, weight, stride, padding = case
    c_out, c_in, *kernel_shape = weight.shape
    options = {"stride": stride, "padding": padding, "dtype": weight.dtype.type}
    layer = conv(c_in, c_out, tuple(kernel_shape), **options)
    bias = whole_numbers((len(weight),), weight.dtype, np.random.default_rng(1))
    layer.weight.value, layer.bias.value = weight, bias
    y = layer.forward(data.draw(layouts(images)))
    np.testing.assert_array_equal(y, convolve(*case) + bias[:, None, None], strict=True)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(2))
    dx = layer.backward(data.draw(layouts(dy)))
    expected = convolution_image_gradient(dy, weight, images.shape, stride, padding)
    np.testing.assert_array_equal(dx, expected, strict=True)
    expected = convolution_weight_gradient(dy, images, weight.shape[2:], stride, padding)
    np.testing.assert_array_equal(layer.weight.grad, expected, strict=True)
    np.testing.assert_array_equal(layer.bias.grad, dy.sum(axis=(0, 2, 3)), strict=True)


LAYERS = {
    "plain": (conv(2, 3, 3, dtype=np.float64), (2, 2, 5, 6)),
    "padded": (conv(2, 3, 3, padding=1, dtype=np.float64), (2, 2, 4, 5)),
    "stride 2": (conv(2, 3, 3, stride=2, padding=1, dtype=np.float64), (2, 2, 7, 6)),
    "stride with gaps": (conv(2, 3, 2, stride=3, dtype=np.float64), (2, 2, 7, 6)),
    "not square": (conv(2, 3, (1, 4), padding=1, dtype=np.float64), (2, 2, 3, 6)),
    "1x1": (conv(3, 2, 1, stride=2, dtype=np.float64), (2, 3, 5, 4)),
    "without bias": (conv(2, 3, 2, bias=False, dtype=np.float64), (2, 2, 3, 3)),
    "depthwise": (conv(3, 3, 3, groups=3, padding=1, dtype=np.float64), (2, 3, 4, 5)),
    "depthwise stride 2": (conv(2, 2, 2, groups=2, stride=2, dtype=np.float64), (2, 2, 5, 6)),
    "one image": (conv(1, 1, 5, dtype=np.float64), (1, 1, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_conv_gradients_match_differences(name):
    layer, shape = LAYERS[name]
    rng = np.random.default_rng(1)
    check_gradients(layer, rng.standard_normal(shape), rng=rng)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"kernel_shape": 5}, (3, 4, 24, 20)),
        ({"kernel_shape": 3, "padding": 1}, (3, 4, 28, 24)),
        ({"kernel_shape": 3, "padding": 1, "stride": 2}, (3, 4, 14, 12)),
        ({"kernel_shape": (28, 1)}, (3, 4, 1, 24)),
        ({"kernel_shape": 1, "stride": 5}, (3, 4, 6, 5)),
    ],
)
def test_conv_output_has_the_shape_of_the_patch_grid(options, shape):
    layer = conv(2, 4, **options)
    assert layer.forward(np.zeros((3, 2, 28, 24), np.float32)).shape == shape


@pytest.mark.parametrize("groups", [1, 2])
def test_conv_takes_an_empty_batch(groups):
    layer = conv(2, 2, 3, groups=groups)
    y = layer.forward(np.zeros((0, 2, 6, 5), np.float32))
    dx = layer.backward(y)
    assert (y.shape, dx.shape) == ((0, 2, 4, 3), (0, 2, 6, 5))
    assert not layer.weight.grad.any()
    assert not layer.bias.grad.any()


def test_conv_with_a_pixel_sized_kernel_is_linear_at_each_pixel():
    layer, rng = conv(5, 4, 1, bias=False), np.random.default_rng(1)
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    y = layer.forward(x)
    by_pixel = x.transpose(0, 2, 3, 1).reshape(-1, 5)
    weight = layer.weight.value.reshape(4, 5)
    assert_product_close(y.transpose(0, 2, 3, 1).reshape(-1, 4), by_pixel, weight.T)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conv_keeps_the_dtype(groups, dtype):
    layer = conv(3, 3, 2, groups=groups, dtype=dtype)
    y = layer.forward(np.ones((2, 3, 4, 4), dtype))
    arrays = [y, layer.backward(y), layer.weight.grad, layer.bias.grad]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_conv_repeats_to_the_bit():
    layer, rng = conv(3, 4, 3), np.random.default_rng(1)
    x, dy = (rng.standard_normal(s).astype(np.float32) for s in ((40, 3, 9, 9), (40, 4, 7, 7)))
    runs = [(layer.forward(x), layer.backward(dy), layer.weight.grad) for _ in range(2)]
    assert [a.tobytes() for a in runs[0]] == [a.tobytes() for a in runs[1]]


def test_conv_weight_stays_zero_under_its_mask_while_training():
    layer, rng = conv(2, 3, 3), np.random.default_rng(1)
    mask = rng.random(layer.weight.shape) < 0.3
    layer.weight.mask = mask
    before = layer.weight.value.copy()
    optimizer = SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        y = layer.forward(rng.standard_normal((4, 2, 5, 5)).astype(np.float32), training=True)
        layer.backward(y)
        assert layer.weight.grad[~mask].all()  # the gradient is dense
        optimizer.step()
    zeros = np.zeros(int((~mask).sum()), np.float32)
    assert layer.weight.value[~mask].tobytes() == zeros.tobytes()
    assert (layer.weight.value[mask] != before[mask]).all()


# --- how it begins ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(conv(20, 50, 5), 500), (conv(1000, 1000, 5, groups=1000), 25)]
)
def test_conv_initial_weights_have_variance_two_over_fan_in(layer, fan_in):
    # Laurent and Massart 2000, lemma 1, as in test_layers_linear: 25,000 squares, p = 6e-7.
    off = 2 * math.sqrt(15 / 25_000) + 2 * 15 / 25_000
    assert layer.weight.size == 25_000
    assert abs(np.square(layer.weight.value).mean() * fan_in / 2 - 1) < off


def test_conv_initial_weights_agree_between_dtypes():
    double = conv(3, 4, 5, dtype=np.float64).weight.value
    assert conv(3, 4, 5).weight.value.tobytes() == double.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ["weight", "bias"]), ({"bias": False}, ["weight"])],
)
def test_conv_lists_its_parameters(options, names):
    assert list(conv(2, 3, 3, **options).named_parameters()) == names


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"c_in": 0}, ValueError, "c_in must be at least 1, got 0"),
        ({"c_out": 2.0}, TypeError, "c_out must be an integer, got 2.0"),
        ({"kernel_shape": (3,)}, TypeError, r"kernel_shape must be a tuple of two, got \(3,\)"),
        ({"kernel_shape": 0}, ValueError, "kernel_shape must be at least 1, got 0"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"groups": 2}, ValueError, r"groups must be 1, or .* \(c_in=4\), got groups=2 with c_o"),
        ({"groups": 4}, ValueError, "groups must be 1, or .*, got groups=4 with c_out=6; use"),
        ({"groups": True}, TypeError, "groups must be an integer, got True"),
        ({"rng": 0}, TypeError, "rng must be a numpy.random.Generator, got int"),
        ({"dtype": np.float16}, TypeError, "dtype must be float32 or float64, got float16"),
    ],
)
def test_conv_rejects_bad_options(changed, error, message):
    options = {"c_in": 4, "c_out": 6, "kernel_shape": 3, "rng": np.random.default_rng(0), **changed}
    with pytest.raises(error, match=f"^Conv2d: {message}"):
        Conv2d(**options)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((5, 3, 8, 8)), ValueError, r"Conv2d.forward: x must have shape \(any, 2, any"),
        (np.ones((2, 8, 8)), ValueError, r"Conv2d.forward: x must have 4 axes, got shape"),
        (np.ones((5, 2, 8, 8), np.float32), TypeError, "x must be float64, got float32"),
        (np.ones((5, 2, 8, 2)), ValueError, r"must fit into images of \(8, 2\) with a padding"),
    ],
)
def test_conv_rejects_an_input_that_does_not_fit(x, error, message):
    with pytest.raises(error, match=message):
        conv(2, 4, 3, dtype=np.float64).forward(x)


def test_conv_depthwise_rejects_other_channels():
    with pytest.raises(ValueError, match=r"x must have shape \(any, 4, any, any\), got"):
        conv(4, 4, 3, groups=4).forward(np.ones((5, 1, 8, 8), np.float32))


def test_convolution_takes_the_other_byte_order():
    layer = Conv2d(2, 3, 3, rng=np.random.default_rng(0), dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((2, 2, 5, 5))
    y, dx = layer.forward(x), layer.backward(np.ones((2, 3, 3, 3)))
    np.testing.assert_array_equal(layer.forward(x.astype(">f8")), y)
    np.testing.assert_array_equal(layer.backward(np.ones((2, 3, 3, 3), ">f8")), dx)


def test_convolution_refuses_a_weight_that_came_between_the_passes():
    layer = Conv2d(2, 3, 3, rng=np.random.default_rng(0))
    layer.forward(np.zeros((2, 2, 5, 5), np.float32))
    layer.weight = Conv2d(40, 3, 3, rng=np.random.default_rng(0)).weight
    message = r"x of the last forward must have shape \(any, 40, any, any\), got \(2, 2, 5, 5\)"
    with pytest.raises(ValueError, match=message):
        layer.backward(np.zeros((2, 3, 3, 3), np.float32))
