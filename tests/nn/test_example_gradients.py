"""The gradient of each example: by definition, at once, by differences, and its mean."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import nn
from refimpl.nn.example_gradients import gradients_all_at_once, gradients_one_by_one
from support.differences import assert_gradient_close, central_differences
from support.networks import images, networks


def linear(n_in: int, n_out: int, **options) -> nn.Linear:
    return nn.Linear(n_in, n_out, rng=np.random.default_rng(n_in), dtype=np.float64, **options)


def conv(c_in: int, c_out: int, kernel: int, **options) -> nn.Conv2d:
    rng = np.random.default_rng(c_out)
    return nn.Conv2d(c_in, c_out, kernel, rng=rng, dtype=np.float64, **options)


def smooth_mlp() -> nn.Network:
    return nn.Network({"fc1": linear(6, 5), "tanh": nn.Tanh(), "fc2": linear(5, 3, bias=False)})


def convolutional() -> nn.Network:
    return nn.Network(
        {
            "conv1": conv(2, 3, 3, padding=1, stride=2),
            "sigmoid": nn.Sigmoid(),
            "pool": nn.MaxPool2d(2),
            "conv2": conv(3, 4, 1, bias=False),
            "mean": nn.AvgPool2d(1),
            "drop": nn.Dropout(0.5, rng=np.random.default_rng(0)),
            "flatten": nn.Flatten(),
            "fc": linear(4, 3),
        }
    )


AT_ONCE = {"mlp": (smooth_mlp, (6,)), "convolutions": (convolutional, (2, 4, 5))}


def example(name: str, batch: int = 4):
    make, shape = AT_ONCE[name]
    return make(), np.random.default_rng(1).standard_normal((batch, *shape))


@pytest.mark.parametrize("name", AT_ONCE)
def test_gradients_at_once_equal_those_one_by_one(name):
    network, x = example(name)
    dy = np.random.default_rng(2).standard_normal((4, 3))
    expected = gradients_one_by_one(network, x, dy)
    actual = gradients_all_at_once(network, x, dy)
    assert list(actual) == list(expected)
    pairs = [nn.as_vector(g, leading=1) for g in (actual, expected)]
    np.testing.assert_allclose(*pairs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", AT_ONCE)
@pytest.mark.parametrize("place", range(4))
def test_example_gradient_matches_differences_of_that_examples_loss(name, place):
    network, x = example(name)
    y = np.array([0, 2, 1, 1])
    weight = network.layers[next(iter(network.layers))].weight
    actual = nn.example_gradients(network, x, y)[f"{next(iter(network.layers))}.weight"][place]
    alone = x[place : place + 1], y[place : place + 1]
    loss = lambda: nn.softmax_cross_entropy(network.forward(alone[0]), alone[1])[0]  # noqa: E731
    assert_gradient_close(actual, central_differences(loss, weight.value))


LOSSES = {
    "cross-entropy": (nn.softmax_cross_entropy, np.array([0, 2, 1, 1])),
    "smoothed": (partial(nn.smoothed_cross_entropy, smoothing=0.2), np.array([0, 2, 1, 1])),
    "squares": (nn.mean_squared_error, np.random.default_rng(3).standard_normal((4, 3))),
}


@pytest.mark.parametrize(("loss", "y"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("name", AT_ONCE)
def test_mean_of_the_example_gradients_is_the_gradient_of_the_batch(name, loss, y):
    network, x = example(name)
    mean = {key: g.mean(axis=0) for key, g in nn.example_gradients(network, x, y, loss).items()}
    network.backward(loss(network.forward(x), y)[1])
    expected = {key: parameter.grad for key, parameter in network.named_parameters().items()}
    np.testing.assert_allclose(nn.as_vector(mean), nn.as_vector(expected), rtol=0, atol=1e-14)


@settings(max_examples=30)
@given(networks(), st.integers(1, 3))
def test_example_gradients_of_any_network_sum_to_the_batches_gradient(network, batch):
    rng = np.random.default_rng(batch)
    x, target = images(batch, rng), rng.standard_normal((batch, 3))
    gradients = nn.example_gradients(network, x, target, nn.mean_squared_error)
    network.backward(nn.mean_squared_error(network.forward(x), target)[1])
    expected = nn.as_vector({key: p.grad for key, p in network.named_parameters().items()})
    mean = nn.as_vector({key: g.mean(axis=0) for key, g in gradients.items()})
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-10 * scale)


def test_batch_norm_keeps_examples_apart():
    network = nn.Network(
        {"norm": nn.BatchNorm2d(2, dtype=np.float64), "flat": nn.Flatten(), "fc": linear(8, 3)}
    )
    x, y = np.random.default_rng(0).standard_normal((3, 2, 2, 2)), np.array([0, 1, 2])
    together = nn.example_gradients(network, x, y)["norm.gamma"]
    alone = [
        nn.example_gradients(network, x[i : i + 1], y[i : i + 1])["norm.gamma"] for i in (0, 1, 2)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", AT_ONCE)
@pytest.mark.parametrize("k", range(3))
def test_output_gradients_match_differences(name, k):
    network, x = example(name, batch=1)
    first = next(iter(network.layers))
    jacobian = nn.output_gradients(network, x)[f"{first}.weight"]
    assert jacobian.shape == (1, 3, *network.layers[first].weight.shape)
    output = lambda: float(network.forward(x)[0, k])  # noqa: E731
    expected = central_differences(output, network.layers[first].weight.value)
    assert_gradient_close(jacobian[0, k], expected)


@pytest.mark.parametrize("name", AT_ONCE)
def test_chain_rule_joins_jacobian_and_example_gradients(name):
    network, x = example(name)
    target = np.random.default_rng(4).standard_normal((4, 3))
    dy = 2 * (network.forward(x) - target) / 3  # of each example's own mean over 3 outputs
    jacobian = nn.as_vector(nn.output_gradients(network, x), leading=2)
    gradients = nn.example_gradients(network, x, target, nn.mean_squared_error)
    expected = np.einsum("bk,bkn->bn", dy, jacobian)
    np.testing.assert_allclose(nn.as_vector(gradients, leading=1), expected, rtol=0, atol=1e-13)


def test_gradients_are_dense_under_a_mask():
    network, x = example("mlp")
    network.layers["fc1"].weight.mask = np.zeros((5, 6), bool)
    gradients = nn.example_gradients(network, x, np.array([0, 2, 1, 1]))
    assert np.count_nonzero(gradients["fc1.weight"]) == 4 * 5 * 6


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (
            lambda net, x: nn.example_gradients(net, x[:0], np.zeros(0, int)),
            ValueError,
            r"example_gradients: x must hold an example, got shape \(0, 6\)",
        ),
        (
            lambda net, x: nn.example_gradients(net, x, np.zeros(3, int)),
            ValueError,
            r"example_gradients: y must have shape \(4,\), got \(3,\)",
        ),
        (
            lambda net, x: nn.example_gradients(net, x, [0, 2, 1, 1]),
            TypeError,
            "example_gradients: y must be an array, got list",
        ),
        (
            lambda net, x: nn.example_gradients(net.layers["fc1"], x, np.zeros(4, int)),
            TypeError,
            "example_gradients: network must be a Network, got Linear",
        ),
        (
            lambda _, x: nn.output_gradients(nn.Network({"relu": nn.ReLU()}), x[:, :, None]),
            ValueError,
            "output_gradients: the network's output must have 2 axes",
        ),
    ],
)
def test_example_gradients_refuse_what_does_not_fit(use, kind, message):
    with pytest.raises(kind, match=message):
        use(*example("mlp"))
