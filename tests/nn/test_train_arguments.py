"""Arguments of `fit` and `evaluate` that are of an unexpected kind."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.nn import SGD, evaluate, fit, mlp

X, Y = np.ones((10, 3)), np.zeros(10, np.int64)


@pytest.fixture
def network():
    return mlp((3, 2), rng=np.random.default_rng(0), dtype=np.float64)


@pytest.fixture
def settings():
    return {"epochs": 1, "batch_size": 4, "rng": np.random.default_rng(0)}


def test_fit_counts_beyond_narrow_integers(network, settings):
    narrow = {"epochs": np.int8(100), "batch_size": np.int8(4)}
    history = fit(network, SGD(network.parameters(), lr=0.1), X, Y, **settings | narrow)
    assert history.steps[-1] == 300


def test_evaluate_counts_beyond_narrow_integers(network):
    x = np.ones((200, 3))
    assert evaluate(network, x, np.zeros(200, np.int64), batch_size=np.int8(100)).loss > 0


def test_fit_refuses_what_is_no_network(network, settings):
    optimizer = SGD(network.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="fit: network must be a Network, got NoneType; pass"):
        fit(None, optimizer, X, Y, **settings)


def test_evaluate_refuses_what_is_no_network():
    with pytest.raises(TypeError, match="evaluate: network must be a Network, got NoneType; pass"):
        evaluate(None, X, Y)


def test_fit_refuses_what_is_no_optimizer(network, settings):
    with pytest.raises(TypeError, match="fit: optimizer must be an Optimizer, got float; pass"):
        fit(network, 0.1, X, Y, **settings)
