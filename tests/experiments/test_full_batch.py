"""L-BFGS on all examples ends where the gradient is nearly zero, and pruned weights stay pruned."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl import nn
from refimpl.experiments.full_batch import (
    DAMPING,
    damped_gauss_newton,
    sigmoid_network,
    train_full_batch,
)
from refimpl.prune import kept_places, parameter_vector

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
OR = np.array([[0.0], [1.0], [1.0], [1.0]])
DECAY = 1e-3


@pytest.fixture
def network():
    return sigmoid_network((2, 3, 1), np.random.default_rng(0))


def objective(network) -> float:
    """What training minimises, by its definition."""
    w = parameter_vector(network)
    return float(np.mean((network.forward(X) - OR) ** 2) + DECAY * np.sum(w**2))


def gradient(network) -> np.ndarray:
    """The gradient of `objective` by central differences."""
    named, w, slopes = network.named_parameters(), parameter_vector(network), []
    for step in 1e-5 * np.eye(w.size):
        ends = []
        for end in (w + step, w - step):
            network.load_state(nn.as_arrays(end, named))
            ends.append(objective(network))
        slopes.append((ends[0] - ends[1]) / 2e-5)
    network.load_state(nn.as_arrays(w, named))
    return np.array(slopes)


def test_sigmoid_network_has_a_sigmoid_behind_every_layer(network):
    assert list(network.layers) == ["fc1", "sigmoid1", "fc2", "sigmoid2"]
    assert kept_places(network).size == 3 * 3 + 4
    assert parameter_vector(network).dtype == np.float64


def test_training_learns_or(network):
    train_full_batch(network, X, OR, weight_decay=DECAY)
    np.testing.assert_array_equal(network.forward(X) > 0.5, OR > 0.5)


def test_training_ends_where_the_gradient_is_nearly_zero(network):
    before = np.abs(gradient(network)).max()
    train_full_batch(network, X, OR, weight_decay=DECAY)
    assert np.abs(gradient(network)).max() < before / 1000


def test_training_keeps_pruned_weights_pruned(network):
    mask = np.array([[True, False], [False, True], [True, True]])
    network.weights()["fc1.weight"].mask = mask
    train_full_batch(network, X, OR, weight_decay=DECAY)
    w = network.weights()["fc1.weight"].value
    np.testing.assert_array_equal(w == 0, ~mask)
    assert np.abs(gradient(network)[kept_places(network)]).max() < 1e-4


def test_training_stops_after_the_iterations_it_was_given(network):
    before = objective(network)
    train_full_batch(network, X, OR, weight_decay=DECAY, max_iterations=1)
    after_one = objective(network)
    train_full_batch(network, X, OR, weight_decay=DECAY)
    assert before > after_one > objective(network)


def test_training_leaves_the_best_weights_in_place(network):
    """The last point that L-BFGS looks at need not be the one it returns."""
    train_full_batch(network, X, OR, weight_decay=DECAY)
    w = parameter_vector(network)
    train_full_batch(network, X, OR, weight_decay=DECAY, max_iterations=0)
    np.testing.assert_array_equal(parameter_vector(network), w)


def test_damped_gauss_newton_is_the_gauss_newton_matrix_with_a_little_more(network):
    jacobian = np.empty((4, 13))
    named, w = network.named_parameters(), parameter_vector(network)
    for i, step in enumerate(1e-6 * np.eye(13)):
        ends = []
        for end in (w + step, w - step):
            network.load_state(nn.as_arrays(end, named))
            ends.append(network.forward(X)[:, 0])
        jacobian[:, i] = (ends[0] - ends[1]) / 2e-6
    network.load_state(nn.as_arrays(w, named))
    expected = 2 / 4 * jacobian.T @ jacobian + DAMPING * np.eye(13)
    np.testing.assert_allclose(damped_gauss_newton(network, X), expected, atol=1e-9)
