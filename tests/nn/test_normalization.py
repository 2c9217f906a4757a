"""Batch normalisation: what it does while training, what afterwards, and what it remembers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import BatchNorm2d, Network, check_gradients
from support.differences import assert_gradient_close, central_differences
from support.strategies import layouts

OVER = (0, 2, 3)


def batch(shape=(4, 3, 5, 2), *, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    """Channels of different mean and spread."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, shape[1] + 1)[:, None, None]
    return (rng.standard_normal(shape) * spread + 3 * spread).astype(dtype)


def used_layer(channels: int = 3, **options) -> BatchNorm2d:
    """A layer whose parameters and running statistics are not those of a new one."""
    layer, rng = BatchNorm2d(channels, dtype=np.float64, **options), np.random.default_rng(7)
    layer.gamma.value, layer.beta.value = rng.uniform(0.5, 2, (2, channels))
    layer.running_mean.value, layer.running_var.value = rng.uniform(0.5, 2, (2, channels))
    return layer


def per_channel(vector: np.ndarray) -> np.ndarray:
    return vector[:, None, None]


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (2, 1, 1, 1), (1, 2, 3, 3)])
def test_batch_norm_output_has_mean_zero_and_variance_one(shape):
    y = BatchNorm2d(shape[1], epsilon=1e-12, dtype=np.float64).forward(batch(shape), training=True)
    np.testing.assert_allclose(y.mean(axis=OVER), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=OVER), 1, atol=1e-8)


def test_batch_norm_training_follows_the_definition():
    layer, x = used_layer(epsilon=0.1), batch()
    x_hat = (x - per_channel(x.mean(axis=OVER))) / per_channel(np.sqrt(x.var(axis=OVER) + 0.1))
    expected = per_channel(layer.gamma.value) * x_hat + per_channel(layer.beta.value)
    np.testing.assert_allclose(layer.forward(x, training=True), expected, rtol=1e-13, atol=1e-13)


@given(st.data())
def test_batch_norm_reads_any_memory_layout(data):
    x, dy = batch(), batch(seed=1)
    layer = used_layer()
    expected = layer.forward(x, training=True), layer.backward(dy)
    y = layer.forward(data.draw(layouts(x)), training=True)
    dx = layer.backward(data.draw(layouts(dy)))
    np.testing.assert_allclose(y, expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["x", "gamma", "beta"])
def test_batch_norm_training_gradients_match_central_differences(name):
    layer, x, v = used_layer(), batch((3, 3, 2, 2)), batch((3, 3, 2, 2), seed=1)
    layer.forward(x, training=True)
    dx = layer.backward(v)
    grad = dx if name == "x" else layer.named_parameters()[name].grad
    moved = x if name == "x" else layer.named_parameters()[name].value
    f = lambda: float(np.vdot(v, layer.forward(x, training=True)))  # noqa: E731 - reads as f(x)
    assert_gradient_close(grad / 100, central_differences(f, moved) / 100)


def test_batch_norm_training_gradient_ignores_shift_and_scale_of_the_input():
    layer, x, dy = used_layer(epsilon=1e-12), batch(), batch(seed=1)
    layer.forward(x, training=True)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx.sum(axis=OVER), 0, atol=1e-12)
    np.testing.assert_allclose((dx * x).sum(axis=OVER), 0, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_makes_no_nan_of_a_constant_channel(dtype):
    layer = BatchNorm2d(2, dtype=dtype)
    x = np.full((3, 2, 4, 4), 7, dtype)
    y = layer.forward(x, training=True)
    dx = layer.backward(batch(x.shape, dtype=dtype))
    assert not y.any()
    assert np.isfinite(dx).all()


# --- what it remembers -----------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.25, 1.0])
def test_batch_norm_running_statistics_move_by_the_momentum(momentum):
    layer, x = used_layer(momentum=momentum), batch()
    mean, var = layer.running_mean.value.copy(), layer.running_var.value.copy()
    layer.forward(x, training=True)
    unbiased = x.var(axis=OVER, ddof=1)
    expected = (1 - momentum) * mean + momentum * x.mean(axis=OVER)
    np.testing.assert_allclose(layer.running_mean.value, expected, rtol=1e-13)
    expected = (1 - momentum) * var + momentum * unbiased
    np.testing.assert_allclose(layer.running_var.value, expected, rtol=1e-13)


def test_batch_norm_running_statistics_approach_those_of_the_data():
    layer = BatchNorm2d(3, dtype=np.float64)
    for seed in range(300):
        layer.forward(batch((50, 3, 4, 4), seed=seed), training=True)
    # 800 values a pass, averaged over about 19 passes: errors of about 1 / sqrt(15,000).
    np.testing.assert_allclose(layer.running_mean.value, [3, 6, 9], rtol=0.02)
    np.testing.assert_allclose(layer.running_var.value, [1, 4, 9], rtol=0.06)


def test_batch_norm_state_includes_the_running_statistics():
    network = Network({"norm": used_layer()})
    state = network.state()
    assert list(state) == ["norm.gamma", "norm.beta", "norm.running_mean", "norm.running_var"]


def test_batch_norm_load_state_restores_what_evaluation_sees():
    one, other = (Network({"norm": BatchNorm2d(3, dtype=np.float64)}) for _ in range(2))
    one.forward(batch(), training=True)
    before = other.forward(batch())
    other.load_state(one.state())
    assert one.forward(batch()).tobytes() == other.forward(batch()).tobytes() != before.tobytes()


def test_batch_norm_buffers_are_no_parameters():
    layer = BatchNorm2d(3)
    assert list(layer.named_parameters()) == ["gamma", "beta"]
    assert list(layer.named_buffers()) == ["running_mean", "running_var"]


# --- evaluation ------------------------------------------------------------------------------


def test_batch_norm_evaluation_uses_the_running_statistics():
    layer, x = used_layer(), batch()
    scale = layer.gamma.value / np.sqrt(layer.running_var.value + 1e-5)
    expected = (x - per_channel(layer.running_mean.value)) * per_channel(scale)
    expected += per_channel(layer.beta.value)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-13, atol=1e-13)


def test_batch_norm_evaluation_gradients_match_differences():
    rng = np.random.default_rng(0)
    check_gradients(used_layer(), rng.standard_normal((4, 3, 5, 2)), rng=rng)


def test_batch_norm_evaluation_leaves_the_running_statistics():
    network = Network({"norm": used_layer()})
    before = {name: array.tobytes() for name, array in network.state().items()}
    network.forward(batch())
    assert {name: array.tobytes() for name, array in network.state().items()} == before


def test_batch_norm_evaluates_each_image_by_itself():
    layer, x = used_layer(), batch()
    alone = np.concatenate([layer.forward(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(layer.forward(x), alone)


def test_batch_norm_evaluates_an_empty_batch():
    layer, nothing = used_layer(), np.zeros((0, 3, 4, 4))
    assert layer.backward(layer.forward(nothing)).shape == nothing.shape
    assert not layer.gamma.grad.any()


def test_batch_norm_backward_belongs_to_the_mode_of_the_last_forward():
    layer, x, dy = used_layer(), batch(), batch(seed=1)
    layer.forward(x)
    expected = layer.backward(dy)
    layer.forward(x, training=True)
    assert not np.allclose(layer.backward(dy), expected)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "n"), [((1, 3, 1, 1), 1), ((0, 3, 4, 4), 0)])
def test_batch_norm_refuses_to_train_on_too_little(shape, n):
    network = Network({"norm": used_layer()})
    before = {name: array.tobytes() for name, array in network.state().items()}
    message = f"x must hold 2 values or more for each channel while training, got {n}; train on"
    with pytest.raises(ValueError, match=f"BatchNorm2d.forward: {message}"):
        network.forward(np.zeros(shape), training=True)
    assert {name: array.tobytes() for name, array in network.state().items()} == before


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
        ({"momentum": 0.0}, ValueError, "momentum must be finite and above 0, got 0.0"),
        ({"momentum": 1.5}, ValueError, r"momentum must be in \(0, 1\], got 1.5; 0.1 keeps"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be finite and above 0, got 0.0"),
        ({"dtype": np.float16}, TypeError, "dtype must be float32 or float64, got float16"),
    ],
)
def test_batch_norm_rejects_bad_options(changed, error, message):
    with pytest.raises(error, match=f"^BatchNorm2d: {message}"):
        BatchNorm2d(**{"channels": 3, **changed})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((5, 2, 4, 4)), ValueError, r"x must have shape \(any, 3, any, any\), got"),
        (np.ones((5, 3)), ValueError, r"x must have 4 axes, got shape \(5, 3\)"),
        (np.ones((5, 3, 4, 4), np.float32), TypeError, "x must be float64, got float32"),
    ],
)
def test_batch_norm_rejects_an_input_that_does_not_fit(x, error, message):
    with pytest.raises(error, match=f"BatchNorm2d.forward: {message}"):
        used_layer().forward(x)


def test_batch_norm_takes_the_other_byte_order():
    layer, x, dy = used_layer(), batch(), batch(seed=1)
    y, dx = layer.forward(x, training=True), layer.backward(dy)
    np.testing.assert_array_equal(layer.forward(x.astype(">f8"), training=True), y)
    np.testing.assert_array_equal(layer.backward(dy.astype(">f8")), dx)
