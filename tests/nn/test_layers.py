"""Each layer computes what it says, and sends back the gradient of what it computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import Dropout, Flatten, Layer, Linear, Parameter, ReLU
from support.differences import assert_gradient_close, central_differences
from support.strategies import FLOATS, layouts

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)


LAYERS = {
    "Linear": lambda: Linear(6, 4, rng=np.random.default_rng(0), dtype=np.float64),
    "ReLU": ReLU,
    "Flatten": Flatten,
    "Dropout": lambda: Dropout(0.5, rng=np.random.default_rng(0)),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)


# --- what all layers share -------------------------------------------------------------------


@EVERY_LAYER
def test_layer_rejects_backward_before_forward(name):
    message = rf"{name}.backward: forward\(x\) must run first, got no call of it; backward needs"
    with pytest.raises(RuntimeError, match=message):
        LAYERS[name]().backward(np.ones((5, 4)))


@EVERY_LAYER
@pytest.mark.parametrize("training", [False, True])
def test_layer_rejects_a_gradient_of_another_shape(name, training):
    layer = LAYERS[name]()
    layer.forward(np.ones((5, 6)), training=training)
    with pytest.raises(ValueError, match=rf"{name}.backward: dy must have shape \(5, \d\), got"):
        layer.backward(np.ones((5, 9)))


@EVERY_LAYER
def test_layer_rejects_a_gradient_of_integers(name):
    layer = LAYERS[name]()
    dy = np.ones(layer.forward(np.ones((5, 6))).shape, int)
    with pytest.raises(TypeError, match=rf"{name}.backward: dy must be .*float64, got int64"):
        layer.backward(dy)


@EVERY_LAYER
@pytest.mark.parametrize(
    ("x", "actual"),
    [(np.ones((5, 6), int), "int64"), (np.ones((5, 6), bool), "bool"), ([[1.0] * 6], "list")],
    ids=["int", "bool", "list"],
)
def test_layer_rejects_an_input_that_is_no_float_array(name, x, actual):
    with pytest.raises(TypeError, match=f"{name}.forward: x must .*got {actual}; convert it"):
        LAYERS[name]().forward(x)


@EVERY_LAYER
def test_layer_leaves_input_and_gradient_as_they_were(name):
    layer, rng = LAYERS[name](), np.random.default_rng(1)
    x = rng.standard_normal((5, 6))
    x_before = x.copy()
    dy = rng.standard_normal(layer.forward(x, training=True).shape)
    dy_before = dy.copy()
    layer.backward(dy)
    assert (x.tobytes(), dy.tobytes()) == (x_before.tobytes(), dy_before.tobytes())


@EVERY_LAYER
def test_layer_backward_belongs_to_the_last_forward(name):
    layer, rng = LAYERS[name](), np.random.default_rng(1)
    first, last = rng.standard_normal((2, 5, 6))
    layer.forward(first, training=True)
    dy = np.ones(layer.forward(last).shape)
    dx = layer.backward(dy)
    layer = LAYERS[name]()
    layer.forward(last)
    np.testing.assert_array_equal(dx, layer.backward(dy))


def test_layer_cannot_be_made_without_both_passes():
    class Half(Layer):
        def forward(self, x, *, training=False):
            return x

    with pytest.raises(TypeError, match="backward"):
        Half()


@pytest.mark.parametrize("name", ["ReLU", "Flatten", "Dropout"])
def test_layer_without_parameters_lists_none(name):
    assert LAYERS[name]().parameters() == []


def test_layer_lists_every_parameter_that_it_holds():
    class Scale(Layer):
        def __init__(self):
            self.gain, self.rate, self.shift = Parameter(np.ones(1)), 0.5, Parameter(np.ones(1))

        def forward(self, x, *, training=False):
            return x * self.gain.value + self.shift.value

        def backward(self, dy):
            return dy * self.gain.value

    layer = Scale()
    assert layer.named_parameters() == {"gain": layer.gain, "shift": layer.shift}
    assert layer.parameters() == [layer.gain, layer.shift]


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
