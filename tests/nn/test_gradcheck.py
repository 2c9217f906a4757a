"""The gradient check: right gradients pass, planted errors do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refimpl.nn import (
    Dropout,
    Flatten,
    Layer,
    Linear,
    Network,
    ReLU,
    Sigmoid,
    Tanh,
    check_gradients,
    gradient_errors,
    loss_gradient_error,
    mean_squared_error,
    mlp,
    softmax_cross_entropy,
)

SEEDS = range(5)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(seed: int = 0) -> np.ndarray:
    return generator(seed).normal(size=(6, 2, 3, 2))


def rows(n_in: int = 12, seed: int = 0) -> np.ndarray:
    return generator(seed).normal(size=(6, n_in))


def linear(n_in: int = 12, n_out: int = 12) -> Linear:
    layer = Linear(n_in, n_out, rng=generator(3), dtype=np.float64)
    layer.bias.value = generator(4).normal(size=n_out)
    return layer


def masked_linear() -> Linear:
    layer = linear()
    layer.weight.mask = generator(5).random((12, 12)) < 0.3
    return layer


def network() -> Network:
    return mlp((12, 9, 7, 5), rng=generator(6), dtype=np.float64)


RIGHT = {
    "linear": (linear, rows),
    "linear without bias": (
        lambda: Linear(12, 4, rng=generator(), dtype=np.float64, bias=False),
        rows,
    ),
    "masked linear": (masked_linear, rows),
    "relu": (ReLU, images),
    "sigmoid": (Sigmoid, images),
    "tanh": (Tanh, images),
    "flatten": (Flatten, images),
    "dropout in inference": (lambda: Dropout(0.5, rng=generator()), images),
    "network": (network, images),
    "one example, one feature": (lambda: linear(1, 1), lambda: np.array([[0.7]])),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("make", "x"), RIGHT.values(), ids=RIGHT)
def test_right_gradients_pass_with_room(make, x, seed):
    errors = check_gradients(make(), x(), rng=generator(seed), tolerance=1e-8)
    assert set(errors) == {*make().named_parameters(), "x"}


class Wrong(Linear):
    """A linear layer whose gradients are right until `spoil` has changed them."""

    def __init__(self, spoil) -> None:
        super().__init__(12, 12, rng=generator(3), dtype=np.float64)
        self.spoil = spoil

    def backward(self, dy):
        dx = super().backward(dy)
        return self.spoil(self, dx, dy)


def change(name: str, function):
    """Plant an error in one gradient; `function` gets it and ``dy``."""

    def spoil(layer: Wrong, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        if name == "x":
            return function(dx, dy)
        parameter = layer.named_parameters()[name]
        parameter.grad = function(parameter.grad, dy)
        return dx

    return spoil


def with_entry_changed(gradient: np.ndarray, _dy: np.ndarray) -> np.ndarray:
    changed = gradient.copy()
    changed.flat[5] *= 1.01
    return changed


PLANTED = {
    "weight off by 0.1 %": ("weight", lambda g, _: g * 1.001),
    "bias off by 0.1 %": ("bias", lambda g, _: g * 0.999),
    "x off by 0.1 %": ("x", lambda g, _: g * 1.001),
    "weight with the wrong sign": ("weight", lambda g, _: -g),
    "x with the wrong sign": ("x", lambda g, _: -g),
    "weight transposed": ("weight", lambda g, _: np.ascontiguousarray(g.T)),
    "weight, one entry off by 1 %": ("weight", with_entry_changed),
    "x, one entry off by 1 %": ("x", with_entry_changed),
    "bias from the first example only": ("bias", lambda _, dy: dy[0]),
    "bias averaged, not summed": ("bias", lambda _, dy: dy.mean(axis=0)),
    "weight forgotten": ("weight", lambda g, _: np.zeros_like(g)),
    "x forgotten": ("x", lambda g, _: np.zeros_like(g)),
    "weight NaN": ("weight", lambda g, _: np.full_like(g, np.nan)),
    "bias with one NaN": ("bias", lambda g, _: np.where(np.arange(12) == 3, np.nan, g)),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "function"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_is_found_and_named(name, function, seed):
    message = f"check_gradients: the gradient of {name} must agree with differences to 1e-06, got"
    with pytest.raises(ValueError, match=message):
        check_gradients(Wrong(change(name, function)), rows(), rng=generator(seed))


@pytest.mark.parametrize(("name", "function"), PLANTED.values(), ids=PLANTED)
def test_a_planted_error_leaves_the_other_arrays_unsuspected(name, function):
    errors = gradient_errors(Wrong(change(name, function)), rows(), rng=generator())
    assert max(error for other, error in errors.items() if other != name) < 1e-8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_error_of_a_scaled_gradient_is_about_its_scale(seed):
    wrong = Wrong(change("weight", lambda g, _: g * 1.001))
    error = gradient_errors(wrong, rows(), rng=generator(seed), directions=50)["weight"]
    assert 1e-3 < error < 5e-3  # the largest of 50 normal draws, times 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_planted_error_deep_in_a_network_is_found_and_named(seed):
    layers = {"fc1": linear(), "relu1": ReLU(), "fc2": linear()}
    layers["fc1"] = Wrong(change("weight", lambda g, _: g * 1.001))
    with pytest.raises(ValueError, match=r"the gradient of fc1.weight must agree"):
        check_gradients(Network(layers), rows(), rng=generator(seed))


class MaskBlind(Linear):
    """Computes with the weight as it was before pruning, and masks nothing."""

    def backward(self, dy):
        dx = super().backward(dy)
        self.weight.grad = self.weight.grad * ~self.weight.mask
        return dx


def test_a_gradient_on_the_wrong_side_of_the_mask_is_found():
    layer = MaskBlind(12, 12, rng=generator(3), dtype=np.float64)
    layer.weight.mask = generator(5).random((12, 12)) < 0.3
    with pytest.raises(ValueError, match="the gradient of weight must agree"):
        check_gradients(layer, rows(), rng=generator())


def test_only_kept_weights_move():
    layer = masked_linear()
    zero_where_pruned = []
    forward = layer.forward

    def spying_forward(x, *, training=False):
        zero_where_pruned.append(not layer.weight.value[~layer.weight.mask].any())
        return forward(x, training=training)

    layer.forward = spying_forward
    gradient_errors(layer, rows(), rng=generator())
    assert all(zero_where_pruned)


def test_a_gradient_that_is_rightly_zero_passes():
    layer = ReLU()
    errors = gradient_errors(layer, -np.abs(rows()) - 1, rng=generator())
    assert errors == {"x": 0.0}


class Centred(Layer):
    """Subtracts the mean of each row, so that a shift of the row changes nothing."""

    def forward(self, x, *, training=False):
        return x - x.mean(axis=1, keepdims=True)

    def backward(self, dy):
        return dy - dy.mean(axis=1, keepdims=True)


def test_a_gradient_that_vanishes_up_to_rounding_passes():
    class Shift(Linear):
        """One bias for all outputs."""

        def forward(self, x, *, training=False):
            return x + self.bias.value

        def backward(self, dy):
            self.bias.grad = np.array([dy.sum()])
            self.weight.grad = np.zeros((1, 1))
            return dy

    shift = Shift(1, 1, rng=generator(), dtype=np.float64)
    check_gradients(Network({"shift": shift, "centred": Centred()}), rows(), rng=generator())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (softmax_cross_entropy, np.array([0, 3, 1, 1, 2, 0])),
        (mean_squared_error, generator(9).normal(size=(6, 4))),
    ],
)
def test_losses_have_right_gradients(loss, target, seed):
    assert loss_gradient_error(loss, rows(4), target, rng=generator(seed)) < 1e-8


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [1.001, -1.0, 6.0, 0.0, math.nan])
def test_a_planted_error_in_a_loss_is_found(factor, seed):
    def wrong(prediction, target):
        value, gradient = mean_squared_error(prediction, target)
        return value, factor * gradient

    error = loss_gradient_error(wrong, rows(4), np.zeros((6, 4)), rng=generator(seed))
    assert not error <= 1e-4


def test_parameters_and_input_come_back_bit_for_bit():
    checked, x = network(), images()
    before = [p.value.tobytes() for p in checked.parameters()] + [x.tobytes()]
    gradient_errors(checked, x, rng=generator())
    assert [p.value.tobytes() for p in checked.parameters()] + [x.tobytes()] == before


def test_a_read_only_input_can_be_checked():
    x = images()
    x.flags.writeable = False
    assert max(gradient_errors(network(), x, rng=generator()).values()) < 1e-8


class BreaksLater(Linear):
    """Fails at its third forward pass, when the weight has been moved."""

    n_calls = 0

    def forward(self, x, *, training=False):
        self.n_calls += 1
        if self.n_calls == 3:
            raise OverflowError("planted")
        return super().forward(x, training=training)


def test_parameters_come_back_bit_for_bit_after_an_exception():
    layer = BreaksLater(12, 12, rng=generator(), dtype=np.float64)
    before = [p.value.tobytes() for p in layer.parameters()]
    with pytest.raises(OverflowError, match="planted"):
        gradient_errors(layer, rows(), rng=generator())
    assert [p.value.tobytes() for p in layer.parameters()] == before


def test_directions_are_independent_of_an_input_drawn_with_the_same_seed():
    # If v were x, the gradient v.T @ x would be symmetric and a transposed one would pass.
    transposed = Wrong(change("weight", lambda g, _: np.ascontiguousarray(g.T)))
    x = generator(0).standard_normal((6, 12))
    assert gradient_errors(transposed, x, rng=generator(0))["weight"] > 0.1


def test_the_same_seed_gives_the_same_errors():
    first = gradient_errors(network(), images(), rng=generator(1))
    assert gradient_errors(network(), images(), rng=generator(1)) == first


def quartic(prediction, _target):
    return float((prediction**4).sum()), 4 * prediction**3


@pytest.mark.parametrize("seed", SEEDS)
def test_truncation_error_shrinks_with_the_square_of_the_step(seed):
    large, small = (
        loss_gradient_error(quartic, rows(), None, rng=generator(seed), step=step)
        for step in (1e-2, 1e-3)
    )
    assert large / small == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_error_grows_as_the_step_shrinks(seed):
    good, rounded = (
        loss_gradient_error(quartic, rows(), None, rng=generator(seed), step=step, directions=20)
        for step in (1e-6, 1e-11)
    )
    assert rounded > 1000 * good


def test_float32_parameters_are_refused():
    message = "gradient_errors: fc1.weight must be float64, got float32; build it with dtype=np.f"
    with pytest.raises(TypeError, match=message):
        gradient_errors(mlp((12, 5), rng=generator()), images(), rng=generator())


@pytest.mark.parametrize(
    "use",
    [
        lambda x: gradient_errors(ReLU(), x, rng=generator()),
        lambda x: check_gradients(ReLU(), x, rng=generator()),
        lambda x: loss_gradient_error(mean_squared_error, x, x, rng=generator()),
    ],
)
def test_float32_inputs_are_refused(use):
    with pytest.raises(TypeError, match=r"(x|prediction) must be float64, got float32; convert"):
        use(rows().astype(np.float32))


def test_a_gradient_that_backward_forgot_is_refused():
    class Forgetful(Linear):
        def backward(self, dy):
            return dy @ self.weight.value

    layer = Forgetful(12, 3, rng=generator(), dtype=np.float64)
    with pytest.raises(ValueError, match="the gradient of weight must exist, got None; let back"):
        gradient_errors(layer, rows(), rng=generator())


def test_an_input_gradient_of_another_shape_is_refused():
    wrong = Wrong(lambda _layer, dx, _dy: dx[:1])
    with pytest.raises(ValueError, match=r"what backward returns must have shape \(6, 12\), got"):
        gradient_errors(wrong, rows(), rng=generator())


def test_a_loss_gradient_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"the gradient must have shape \(6, 12\), got \(6,\)"):
        loss_gradient_error(lambda p, _: (p.sum(), np.ones(6)), rows(), None, rng=generator())


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"step": 0.0}, ValueError, "step must be finite and above 0, got 0.0"),
        ({"directions": 0}, ValueError, "directions must be at least 1, got 0"),
        ({"rng": 0}, TypeError, r"rng must be a numpy.random.Generator, got int"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be finite and above 0, got -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, kind, message):
    with pytest.raises(kind, match=message):
        check_gradients(ReLU(), rows(), **{"rng": generator(), **settings})


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match="layer must be a Layer or a Network, got NoneType; a loss"):
        gradient_errors(None, np.ones((1, 1)), rng=np.random.default_rng(0))
