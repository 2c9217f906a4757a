"""The whole arrow in one run: train, choose, prune, repair, store, multiply, measure."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl import deploy, formats, kernels, measure, nn, prune
from refimpl.data import load_digits

SPARSITIES = [0.6, 0.8, 0.9]
SEEDS = range(5)
POINT = 0.01


def train(network, digits, seed):
    adam = nn.Adam(network.parameters(), lr=1e-3)
    x, y = digits.train_images, digits.train_labels
    rng = np.random.default_rng(seed)
    nn.fit(network, adam, x, y, epochs=20, batch_size=50, rng=rng)


def run_arrow(seed):
    """Dense accuracy, pruned network and digits of one seed, on a split of its own."""
    digits = load_digits(rng=np.random.default_rng(seed))
    network = nn.models.mlp((64, 300, 100, 10), rng=np.random.default_rng(100 + seed))
    train(network, digits, 200 + seed)
    dense = nn.evaluate(network, digits.test_images, digits.test_labels).accuracy
    prune.prune_iteratively(
        network, SPARSITIES, fine_tune=lambda net: train(net, digits, 300 + seed)
    )
    return dense, network, digits


@pytest.fixture(scope="module")
def arrows():
    return [run_arrow(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def deployed(arrows):
    return [deploy.sparsify(network) for _, network, _ in arrows]


def test_digits_network_reaches_96_percent_on_every_seed(arrows):
    assert min(dense for dense, _, _ in arrows) >= 0.96


def test_90_percent_sparse_is_within_a_point_of_dense_over_five_seeds(arrows):
    loss = [
        dense - nn.evaluate(network, digits.test_images, digits.test_labels).accuracy
        for dense, network, digits in arrows
    ]
    assert np.mean(loss) <= POINT


def test_pruned_network_keeps_the_exact_count(arrows):
    counts = {
        name: np.count_nonzero(parameter.mask) for name, parameter in arrows[0][1].weights().items()
    }
    assert counts == {"fc1.weight": 1920, "fc2.weight": 3000, "fc3.weight": 100}


def test_deployed_network_gives_the_same_logits(arrows, deployed):
    for (_, network, digits), sparse in zip(arrows, deployed, strict=True):
        expected = network.forward(digits.test_images)
        np.testing.assert_allclose(
            sparse.forward(digits.test_images), expected, rtol=1e-4, atol=1e-4
        )


def test_deployed_weights_survive_storage_bit_for_bit(arrows, deployed):
    weight = deployed[0].layers["fc1"].weight
    assert isinstance(weight, formats.CSR)
    value = arrows[0][1].weights()["fc1.weight"].value
    assert weight.to_dense().tobytes() == value.tobytes()


def test_measurement_of_the_deployed_product_counts_its_flops(deployed):
    weight = deployed[0].layers["fc1"].weight
    x = np.ones((weight.shape[1], 16), np.float32)
    product = measure.measure(lambda: kernels.matmul(weight, x), repeats=3, flops=2 * 16 * 1920)
    assert product.flops_per_second == pytest.approx(2 * 16 * 1920 / product.median)


def test_same_seeds_give_the_same_bits(arrows):
    _, again, _ = run_arrow(SEEDS[0])
    first = arrows[0][1].state()
    assert {n: v.tobytes() for n, v in again.state().items()} == {
        n: v.tobytes() for n, v in first.items()
    }
