"""Training: what it reaches on real digits."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from refimpl.data import load_digits, load_mnist, standardize
from refimpl.nn import Adam, evaluate, fit, lenet_300_100, mlp


@pytest.fixture
def one_thread():
    """Sums in one order, whatever the number of cores."""
    with threadpool_limits(limits=1):
        yield


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_mlp_reaches_ninety_six_percent(seed):
    data = load_digits()
    rng = np.random.default_rng(seed)
    network = mlp((64, 300, 100, 10), rng=rng)
    optimizer = Adam(network.parameters(), lr=1e-3)
    fit(network, optimizer, data.train_images, data.train_labels, epochs=20, batch_size=64, rng=rng)
    assert evaluate(network, data.test_images, data.test_labels).accuracy >= 0.96


@pytest.mark.mnist
@pytest.mark.usefixtures("mnist_folder", "one_thread")
def test_mnist_lenet_300_100_reaches_ninety_eight_percent():
    data = standardize(load_mnist())
    rng = np.random.default_rng(0)
    network = lenet_300_100(rng=rng)
    optimizer = Adam(network.parameters(), lr=2e-3)
    n_steps = 6 * 600

    def decay(step):
        optimizer.lr = 2e-3 * (1 - step / n_steps)

    x, y = data.train_images, data.train_labels
    fit(network, optimizer, x, y, epochs=6, batch_size=100, rng=rng, after_step=decay)
    assert evaluate(network, data.test_images, data.test_labels).accuracy >= 0.98
