"""What a layer gets from its base class: names for what it holds, and half a backward pass."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.nn import Buffer, Layer, Network, Parameter, ReLU, WeightedLayer
from refimpl.nn.layer import check_dy, check_forward_ran, check_training_dtype


class Scale(Layer):
    """Multiplies by a gain, counts its passes, and holds things of other kinds."""

    def __init__(self):
        self.gain, self.rate = Parameter(np.ones(1)), 0.5
        self.passes, self.shift = Buffer(np.zeros(1)), Parameter(np.ones(1))
        self.spare = None

    def forward(self, x, *, training=False):
        return x * self.gain.value + self.shift.value

    def backward(self, dy):
        return dy * self.gain.value


class Around(Layer):
    """Runs a network, as `Residual` does."""

    def __init__(self, inner):
        self.gain, self.inner = Parameter(np.ones(1)), inner

    def forward(self, x, *, training=False):
        return self.inner.forward(x, training=training)

    def backward(self, dy):
        return self.inner.backward(dy)


class Counting(WeightedLayer):
    """Keeps a record of what was computed."""

    def __init__(self):
        self.calls = []

    def forward(self, x, *, training=False):
        return x

    def backward_parameters(self, dy):
        self.calls.append("parameters")

    def _input_gradient(self, dy):
        self.calls.append("input")
        return 2 * dy


def test_layer_lists_its_parameters_in_the_order_of_its_attributes():
    layer = Scale()
    assert layer.named_parameters() == {"gain": layer.gain, "shift": layer.shift}
    assert layer.parameters() == [layer.gain, layer.shift]


def test_layer_lists_its_buffers_apart():
    layer = Scale()
    assert layer.named_buffers() == {"passes": layer.passes}


def test_layer_names_what_a_network_within_holds():
    layer = Around(Network({"scale1": Scale(), "around": Around(Network({"scale2": Scale()}))}))
    assert list(layer.named_parameters()) == [
        "gain",
        "inner.scale1.gain",
        "inner.scale1.shift",
        "inner.around.gain",
        "inner.around.inner.scale2.gain",
        "inner.around.inner.scale2.shift",
    ]
    assert list(layer.named_buffers()) == [
        "inner.scale1.passes",
        "inner.around.inner.scale2.passes",
    ]


def test_layer_cannot_be_made_without_both_passes():
    class Half(Layer):
        def forward(self, x, *, training=False):
            return x

    with pytest.raises(TypeError, match="backward"):
        Half()


def test_weighted_layer_backward_is_both_halves():
    layer = Counting()
    np.testing.assert_array_equal(layer.backward(np.ones(3)), [2, 2, 2])
    assert layer.calls == ["parameters", "input"]


def test_weighted_layer_can_leave_the_input_gradient_out():
    layer = Counting()
    assert layer.backward_parameters(np.ones(3)) is None
    assert layer.calls == ["parameters"]


def test_weighted_layer_cannot_be_made_without_both_halves():
    class Half(WeightedLayer):
        def forward(self, x, *, training=False):
            return x

        def backward_parameters(self, dy):
            pass

    with pytest.raises(TypeError, match="_input_gradient"):
        Half()


def test_check_forward_ran_passes_what_forward_left():
    assert check_forward_ran("ReLU", np.ones(3)) is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_check_dy_passes_any_float_of_a_layer_without_parameters(dtype):
    assert check_dy("ReLU", np.ones((2, 3), dtype), (2, 3)) is None


def test_check_dy_holds_a_layer_with_parameters_to_its_dtype():
    with pytest.raises(TypeError, match=r"Linear.backward: dy must be float64, got float32"):
        check_dy("Linear", np.ones(3, np.float32), (3,), np.dtype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.dtype(np.float32), "float64"])
def test_check_training_dtype_passes_single_and_double_precision(dtype):
    assert check_training_dtype("Linear", dtype) is None


@pytest.mark.parametrize("dtype", [np.float16, int, "half", None])
def test_check_training_dtype_refuses_every_other(dtype):
    with pytest.raises(TypeError, match=r"Linear: dtype must be float32 or float64, got .+; use"):
        check_training_dtype("Linear", dtype)


def test_layer_without_parameters_lists_none():
    assert (ReLU().named_parameters(), ReLU().named_buffers()) == ({}, {})
