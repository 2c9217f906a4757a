"""The Hessian of a layer: streamed or at once, of the inputs that its weight really meets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import n_of_m, unstructured
from refimpl.nn import Conv2d, Flatten, Network, Residual, lenet5, mlp
from refimpl.prune import input_hessian, layer_inputs, least_squares_refit, prune_layers
from support.corruption import ONE_SENTENCE

F32 = np.float32


def inputs_of(seed, n, n_in, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, n_in)).astype(dtype)


def halve(w, _hessian):
    return np.where(unstructured(abs(w), 0.5), w, 0)


def smallest_out(w, hessian):
    """The better half of the magnitudes, refitted."""
    return least_squares_refit(w, unstructured(abs(w), 0.5), hessian + 1e-3 * np.eye(len(hessian)))


def small_convolutional(dtype=np.float64):
    rng = np.random.default_rng(0)
    conv = Conv2d(4, 3, 3, padding=1, rng=rng, dtype=dtype)
    head = mlp([3 * 5 * 5, 2], rng=rng, dtype=dtype)
    return Network({"conv": conv, "flatten": Flatten(), **head.layers})


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 99))
def test_input_hessian_in_batches_is_that_of_all_at_once(sizes, n_in, seed):
    x = inputs_of(seed, sum(sizes), n_in)
    batches = np.split(x, np.cumsum(sizes)[:-1])
    expected = np.einsum("ti,tj->ij", x, x) * 2 / len(x)
    np.testing.assert_allclose(input_hessian(batches), expected, rtol=1e-12, atol=1e-12)


def test_input_hessian_is_the_second_derivative_of_the_squared_output_change():
    x, w = inputs_of(0, 9, 4), inputs_of(1, 1, 4)[0]

    def loss(change):
        return np.mean((x @ (w + change) - x @ w) ** 2)

    unit = np.eye(4)
    second = [[loss(a + b) - loss(a) - loss(b) + loss(0 * a) for b in unit] for a in unit]
    np.testing.assert_allclose(input_hessian([x]), second, rtol=1e-12, atol=1e-12)


def test_input_hessian_reads_its_batches_once():
    batches = iter([inputs_of(0, 3, 2), inputs_of(1, 4, 2)])
    assert input_hessian(batches).shape == (2, 2)
    assert next(batches, None) is None


def test_input_hessian_sums_float32_in_float64():
    x = np.full((3, 1), 1e30, dtype=F32)  # the square overflows float32
    np.testing.assert_allclose(input_hessian([x]), [[2e60]], rtol=1e-6)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "calibration data, got none"),
        ([np.zeros((0, 3))], "calibration data, got none"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"batches\[1\] must have shape \(any, 3\)"),
        ([np.array([[np.nan]])], "must be finite"),
        ([np.array([[1e300]])], "must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_input_hessian_refuses_in_one_sentence(batches, message):
    with pytest.raises(ValueError, match=message) as refused:
        input_hessian(batches)
    assert np.all([part in str(refused.value) for part in ("input_hessian", "must", "got", ";")])


def test_input_hessian_refuses_one_array_for_many():
    with pytest.raises(TypeError, match="put one batch into a list") as refused:
        input_hessian(np.ones((3, 2)))
    refused.match(ONE_SENTENCE)


def test_layer_inputs_are_what_the_weight_is_multiplied_with():
    network = mlp([4, 3, 2], rng=np.random.default_rng(0), dtype=np.float64)
    x = inputs_of(0, 5, 4)
    fc1 = network.layers["fc1"]
    (seen,) = layer_inputs(network, "fc2.weight", [x])
    expected = np.maximum(x @ fc1.weight.value.T + fc1.bias.value, 0)
    np.testing.assert_allclose(seen, expected)


def test_layer_inputs_of_a_convolution_are_its_patches():
    network = small_convolutional()
    images = np.random.default_rng(1).normal(size=(2, 4, 5, 5))
    (rows,) = layer_inputs(network, "conv.weight", [images])
    conv = network.layers["conv"]
    y = rows @ conv.weight.value.reshape(3, -1).T + conv.bias.value
    by_layer = conv.forward(images).transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(y, by_layer)


def test_layer_inputs_reach_into_residual_blocks():
    rng = np.random.default_rng(0)
    branch = Network({"conv": Conv2d(2, 2, 3, padding=1, rng=rng, dtype=np.float64)})
    network = Network({"block": Residual(branch)})
    (rows,) = layer_inputs(network, "block.branch.conv.weight", [np.ones((1, 2, 4, 4))])
    assert rows.shape == (16, 18)


@pytest.mark.parametrize("name", ["fc9.weight", "fc1.bias", "fc1", 3, None])
def test_layer_inputs_refuse_what_names_no_weight(name):
    network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"among \['fc1.weight', 'fc2.weight'\]"):
        next(layer_inputs(network, name, [np.zeros((1, 4), F32)]))


def test_layer_inputs_refuse_a_depthwise_convolution():
    rng = np.random.default_rng(0)
    network = Network({"conv": Conv2d(2, 2, 3, groups=2, rng=rng)})
    with pytest.raises(ValueError, match="groups must be 1, got groups=2; leave this layer out"):
        next(layer_inputs(network, "conv.weight", [np.zeros((1, 2, 4, 4), F32)]))


def test_prune_layers_prunes_every_weight_and_keeps_it_pruned():
    network = mlp([8, 6, 4], rng=np.random.default_rng(0))
    prune_layers(network, [inputs_of(0, 20, 8, F32)], halve)
    kept = {name: int(weight.mask.sum()) for name, weight in network.weights().items()}
    assert kept == {"fc1.weight": 24, "fc2.weight": 12}


def test_prune_layers_shows_each_layer_what_the_pruned_ones_leave():
    network = mlp([6, 5, 3], rng=np.random.default_rng(0), dtype=np.float64)
    x, seen = inputs_of(0, 30, 6), []

    def noted(w, hessian):
        seen.append(hessian)
        return halve(w, hessian)

    prune_layers(network, [x], noted)
    hidden = np.maximum(x @ network.weights()["fc1.weight"].value.T, 0)  # biases are 0
    np.testing.assert_allclose(seen[1], 2 / 30 * hidden.T @ hidden, atol=1e-12)


def test_prune_layers_with_a_refit_beats_plain_deletion():
    x = inputs_of(0, 50, 8) @ inputs_of(1, 8, 8)  # correlated
    dense = mlp([8, 6, 4], rng=np.random.default_rng(2), dtype=np.float64).forward(x)
    errors = []
    for compress in (halve, smallest_out):
        network = mlp([8, 6, 4], rng=np.random.default_rng(2), dtype=np.float64)
        prune_layers(network, [x], compress)
        errors.append(np.square(network.forward(x) - dense).sum())
    assert errors[1] < errors[0]


def test_prune_layers_shows_a_convolution_with_its_channels_side_by_side():
    network = small_convolutional()
    before = network.weights()["conv.weight"].value.copy()

    def two_four(w, _hessian):
        return np.where(n_of_m(abs(w), 2, 4), w, 0)

    images = np.random.default_rng(1).normal(size=(2, 4, 5, 5))
    prune_layers(network, [images], two_four, ignore=["fc1.weight"])
    expected = n_of_m(abs(before), 2, 4)  # groups along the input channels
    np.testing.assert_array_equal(network.weights()["conv.weight"].mask, expected)


def test_prune_layers_hands_a_convolution_the_hessian_of_its_columns():
    network = small_convolutional()
    images = np.random.default_rng(1).normal(size=(2, 4, 5, 5))
    w, outputs = network.weights()["conv.weight"].value.copy(), []

    def noted(matrix, hessian):
        outputs.append(np.einsum("oi,ij,oj->", matrix, hessian, matrix))
        return matrix

    (rows,) = layer_inputs(network, "conv.weight", [images])
    prune_layers(network, [images], noted, ignore=["fc1.weight"])
    np.testing.assert_allclose(outputs[0], 2 * np.square(rows @ w.reshape(3, -1).T).sum() / 50)


def test_prune_layers_leaves_ignored_weights_alone():
    network = mlp([8, 6, 4], rng=np.random.default_rng(0))
    prune_layers(network, [inputs_of(0, 20, 8, F32)], halve, ignore=["fc2.weight"])
    assert network.weights()["fc2.weight"].mask is None


def test_prune_layers_never_brings_a_weight_back():
    network = mlp([8, 6, 4], rng=np.random.default_rng(0))
    mask = np.random.default_rng(1).random((6, 8)) < 0.7
    network.weights()["fc1.weight"].mask = mask
    prune_layers(network, [inputs_of(0, 20, 8, F32)], lambda w, _: w + 1)
    np.testing.assert_array_equal(network.weights()["fc1.weight"].mask, mask)


def test_prune_layers_leaves_the_network_as_it_was_when_a_layer_fails():
    network = lenet5(rng=np.random.default_rng(0))
    before = network.state()

    def fail_late(w, hessian):
        if len(w) == 500:
            raise ValueError("out of luck")
        return halve(w, hessian)

    images = np.random.default_rng(0).random((2, 1, 28, 28), dtype=F32)
    with pytest.raises(ValueError, match="out of luck") as failed:
        prune_layers(network, [images], fail_late)
    assert "this was fc1.weight" in failed.value.__notes__[0]
    assert 'ignore=["fc1.weight"] leaves it out' in failed.value.__notes__[0]
    assert all(weight.mask is None for weight in network.weights().values())
    for name, value in network.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_prune_layers_leaves_the_network_as_it_was_when_interrupted():
    network, calls = mlp([4, 3, 2], rng=np.random.default_rng(0)), []
    before = network.state()

    def interrupted(w, hessian):
        calls.append(w.shape)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return halve(w, hessian)

    with pytest.raises(KeyboardInterrupt):
        prune_layers(network, [inputs_of(0, 9, 4, F32)], interrupted)
    assert all(weight.mask is None for weight in network.weights().values())
    for name, value in network.state().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_prune_layers_refuses_a_weight_that_is_not_finite(value):
    network = mlp([4, 2], rng=np.random.default_rng(0))
    message = "what compress returns must be finite, got infinity or NaN as float32; look"
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        prune_layers(network, [np.ones((1, 4), F32)], lambda w, _: np.full(w.shape, value))
    assert network.weights()["fc1.weight"].mask is None


def test_prune_layers_refuses_a_mask_for_a_weight():
    network = mlp([4, 2], rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="what compress returns must be float32 or float64, got bo"):
        prune_layers(network, [np.ones((1, 4), F32)], lambda w, _: w > 0)


def test_prune_layers_refuses_a_weight_of_another_shape():
    network = mlp([4, 2], rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="what compress returns must have shape"):
        prune_layers(network, [np.ones((1, 4), F32)], lambda w, _: w[:, :1])


@pytest.mark.parametrize("name", ["fc1.weight", "fc2.weight"])
def test_layer_inputs_leave_the_network_as_it_is(name):
    network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    before = network.state()
    assert len(list(layer_inputs(network, name, [np.ones((2, 4), F32)]))) == 1
    for key, value in network.state().items():
        np.testing.assert_array_equal(value, before[key])
