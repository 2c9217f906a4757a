"""Each layer computes what it says, and sends back the gradient of what it computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Network,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
    WeightedLayer,
    check_gradients,
)
from support.differences import assert_gradient_close, central_differences
from support.strategies import FLOATS, layouts

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)
ROWS, IMAGES = (5, 6), (5, 3, 4, 6)


def convolution() -> Conv2d:
    return Conv2d(3, 3, 3, padding=1, rng=np.random.default_rng(0), dtype=np.float64)


# How each layer is made, and the shape of an input for it.
LAYERS = {
    "Linear": (lambda: Linear(6, 4, rng=np.random.default_rng(0), dtype=np.float64), ROWS),
    "ReLU": (ReLU, ROWS),
    "Sigmoid": (Sigmoid, ROWS),
    "Tanh": (Tanh, ROWS),
    "Flatten": (Flatten, ROWS),
    "Dropout": (lambda: Dropout(0.5, rng=np.random.default_rng(0)), ROWS),
    "Conv2d": (convolution, IMAGES),
    "MaxPool2d": (lambda: MaxPool2d(2), IMAGES),
    "AvgPool2d": (lambda: AvgPool2d(2), IMAGES),
    "GlobalAvgPool2d": (GlobalAvgPool2d, IMAGES),
    "BatchNorm2d": (lambda: BatchNorm2d(3, dtype=np.float64), IMAGES),
    "Residual": (lambda: Residual(Network({"conv1": convolution()})), IMAGES),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


def made(name: str):
    """A new layer, and an input for it."""
    make, shape = LAYERS[name]
    return make(), np.random.default_rng(1).standard_normal(shape)


# --- what all layers share -------------------------------------------------------------------


@EVERY_LAYER
def test_layer_rejects_backward_before_forward(name):
    layer, x = made(name)
    message = rf"{name}.backward: forward\(x\) must run first, got no call of it; backward needs"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(x)


@EVERY_LAYER
@pytest.mark.parametrize("training", [False, True])
def test_layer_rejects_a_gradient_of_another_shape(name, training):
    layer, x = made(name)
    layer.forward(x, training=training)
    with pytest.raises(ValueError, match=rf"{name}.backward: dy must have shape \(5, .*\), got"):
        layer.backward(np.ones((5, 9)))


@EVERY_LAYER
def test_layer_rejects_a_gradient_of_integers(name):
    layer, x = made(name)
    dy = np.ones(layer.forward(x).shape, int)
    with pytest.raises(TypeError, match=rf"{name}.backward: dy must be .*float64, got int64"):
        layer.backward(dy)


@EVERY_LAYER
@pytest.mark.parametrize("convert", [np.int64, np.bool_, list], ids=["int", "bool", "list"])
def test_layer_rejects_an_input_that_is_no_float_array(name, convert):
    layer, x = made(name)
    x = x.tolist() if convert is list else x.astype(convert)
    actual = "list" if convert is list else x.dtype.name
    with pytest.raises(TypeError, match=f"{name}.forward: x must .*got {actual}; convert it"):
        layer.forward(x)


@EVERY_LAYER
def test_layer_leaves_input_and_gradient_as_they_were(name):
    layer, x = made(name)
    x_before = x.copy()
    dy = np.random.default_rng(2).standard_normal(layer.forward(x, training=True).shape)
    dy_before = dy.copy()
    layer.backward(dy)
    assert (x.tobytes(), dy.tobytes()) == (x_before.tobytes(), dy_before.tobytes())


@EVERY_LAYER
def test_layer_backward_belongs_to_the_last_forward(name):
    layer, first = made(name)
    last, other = first[::-1].copy(), made(name)[0]
    layer.forward(first, training=True)
    for twin, buffer in layer.named_buffers().items():
        other.named_buffers()[twin].value = buffer.value
    dy = layer.forward(last)
    other.forward(last)
    np.testing.assert_array_equal(layer.backward(dy), other.backward(dy))


@EVERY_LAYER
def test_layer_gradients_match_differences(name):
    layer, x = made(name)
    check_gradients(layer, x, rng=np.random.default_rng(2))


@EVERY_LAYER
def test_layer_takes_an_empty_batch(name):
    layer, x = made(name)
    y = layer.forward(x[:0])
    assert y.shape == (0, *layer.forward(x).shape[1:])
    layer.forward(x[:0])
    assert layer.backward(y).shape == x[:0].shape


@EVERY_LAYER
def test_layer_computes_each_example_by_itself(name):
    layer, x = made(name)
    alone = np.concatenate([layer.forward(example[None]) for example in x])
    np.testing.assert_allclose(layer.forward(x), alone, rtol=0, atol=1e-14)


@EVERY_LAYER
def test_layer_backward_overwrites_the_gradients(name):
    layer, x = made(name)
    dy = layer.forward(x)
    layer.backward(dy)
    layer.backward(np.zeros_like(dy))
    assert not any(parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize(
    "name", [n for n, (make, _) in LAYERS.items() if isinstance(make(), WeightedLayer)]
)
def test_weighted_layer_gradients_do_not_need_the_one_of_the_input(name):
    layer, x = made(name)
    dy = layer.forward(x)
    layer.backward(dy)
    expected = [parameter.grad.tobytes() for parameter in layer.parameters()]
    layer.backward_parameters(dy)
    assert [parameter.grad.tobytes() for parameter in layer.parameters()] == expected


# --- ReLU ------------------------------------------------------------------------------------


@given(st.data())
def test_relu_is_the_positive_part(data):
    dtype = data.draw(st.sampled_from(FLOATS))
    floats = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=False)
    x = data.draw(layouts(data.draw(hnp.arrays(dtype, SHAPES, elements=floats))))
    y = ReLU().forward(x)
    assert y.dtype == x.dtype
    assert y.ravel().tolist() == [max(value, 0.0) for value in x.ravel().tolist()]


@given(st.data())
def test_relu_backward_passes_where_the_input_was_positive(data):
    dtype = data.draw(st.sampled_from(FLOATS))
    floats = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=False)
    x = data.draw(hnp.arrays(dtype, SHAPES, elements=floats))
    dy = data.draw(layouts(data.draw(hnp.arrays(dtype, x.shape, elements=floats))))
    layer = ReLU()
    layer.forward(x)
    dx = layer.backward(dy)
    pairs = zip(x.ravel().tolist(), dy.ravel().tolist(), strict=True)
    expected = np.array([dv if value > 0 else 0.0 for value, dv in pairs], dtype)
    assert dx.dtype == x.dtype
    assert dx.tobytes() == expected.tobytes()


def test_relu_gradient_matches_central_differences():
    layer, rng = ReLU(), np.random.default_rng(0)
    x = rng.choice([-1, 1], (3, 4)) * rng.uniform(0.1, 2, (3, 4))  # away from the kink
    v = rng.standard_normal((3, 4))
    layer.forward(x)
    expected = central_differences(lambda: float(np.vdot(v, layer.forward(x))), x)
    layer.forward(x)
    assert_gradient_close(layer.backward(v), expected)


def test_relu_gradient_at_zero_is_zero():
    layer = ReLU()
    layer.forward(np.array([[0.0, -0.0]]))
    assert layer.backward(np.array([[5.0, -5.0]])).tobytes() == np.zeros((1, 2)).tobytes()


def test_relu_does_not_hide_nan():
    assert np.isnan(ReLU().forward(np.array([[np.nan]]))).all()


# --- Flatten ---------------------------------------------------------------------------------


@given(st.data())
def test_flatten_puts_each_example_in_a_row(data):
    shape = data.draw(SHAPES)
    x = data.draw(layouts(np.arange(math.prod(shape), dtype=np.float32).reshape(shape)))
    y = Flatten().forward(x)
    assert y.shape == (shape[0], math.prod(shape[1:]))
    assert [row.tolist() for row in y] == [list(example.flat) for example in x]


@given(st.data())
def test_flatten_backward_restores_shape_and_places(data):
    dtype, shape = data.draw(st.sampled_from(FLOATS)), data.draw(SHAPES)
    x = data.draw(layouts(data.draw(hnp.arrays(dtype, shape))))
    layer = Flatten()
    restored = layer.backward(layer.forward(x))
    assert (restored.shape, restored.dtype) == (x.shape, x.dtype)
    assert restored.tobytes() == x.tobytes()


@pytest.mark.parametrize("shape", [(3,), ()])
def test_flatten_rejects_an_input_without_features(shape):
    message = "Flatten.forward: x must have 2 axes or more, got shape .*; add a batch axis"
    with pytest.raises(ValueError, match=message):
        Flatten().forward(np.ones(shape))
