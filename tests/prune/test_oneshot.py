"""Pruning and fine-tuning: what is removed, what stays, and what training repairs."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from refimpl import nn
from refimpl.data import load_digits
from refimpl.prune import (
    apply_masks,
    compound_sparsities,
    global_masks,
    layerwise_masks,
    network_sparsity,
    prune_iteratively,
    prune_one_shot,
)

ROUNDS = compound_sparsities(0.2, 5)
CHOOSERS = (layerwise_masks, global_masks)
OPTIMIZERS = {
    "SGD": partial(nn.SGD, lr=0.1),
    "SGD with momentum and decay": partial(nn.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": partial(nn.Adam, lr=0.01),
    "Adam with decay": partial(nn.Adam, lr=0.01, weight_decay=0.01),
}


def leave_alone(network):
    """Fine-tune by doing nothing."""


def small_network(seed=0):
    return nn.mlp((20, 10, 5), rng=np.random.default_rng(seed))


def train_on_noise(network, optimizer, **options):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 20)).astype(np.float32), rng.integers(0, 5, 40)
    nn.fit(network, optimizer, x, labels, epochs=3, batch_size=8, rng=rng, **options)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.2, [0.2, 0.36, 0.488, 0.5904, 0.67232]),
        (0.5, [0.5, 0.75, 0.875]),
        (0.9, [0.9, 0.99, 0.999]),
        (0.0, [0.0, 0.0]),
        (0, [0.0]),
    ],
)
def test_compound_sparsities_are_those_of_the_survivors(rate, expected):
    assert compound_sparsities(rate, len(expected)) == expected


@pytest.mark.parametrize(
    ("rate", "rounds", "message"),
    [
        (1.0, 3, r"compound_sparsities: rate must be in \[0, 1\), got 1.0;"),
        (-0.2, 3, r"compound_sparsities: rate must be in \[0, 1\), got -0.2;"),
        (0.2, 0, "compound_sparsities: rounds must be at least 1, got 0;"),
    ],
)
def test_compound_sparsities_refuses_with_a_sentence(rate, rounds, message):
    with pytest.raises(ValueError, match=message):
        compound_sparsities(rate, rounds)


def sparsities_by_round(choose):
    """Sparsity after each of five rounds."""
    network, seen = small_network(), []
    prune_iteratively(
        network, ROUNDS, choose=choose, fine_tune=lambda net: seen.append(network_sparsity(net))
    )
    return np.array(seen)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_iterative_pruning_compounds_sparsity(choose):
    seen = sparsities_by_round(choose)
    half_a_weight_in_each_of_two_layers = 1 / 250
    assert np.abs(seen - [0.2, 0.36, 0.488, 0.5904, 0.67232]).max() <= (
        half_a_weight_in_each_of_two_layers
    )


def below_quantile_of_all_weights(network, sparsity):  # noqa: ARG001  (the mistake ignores it)
    """Wrong: each round removes the least 20 % of all weights, zeros included."""
    weights = {name: np.abs(w.value) for name, w in network.weights().items()}
    threshold = np.quantile(np.concatenate([w.ravel() for w in weights.values()]), 0.2)
    return {name: w >= threshold for name, w in weights.items()}


def test_threshold_over_all_weights_never_gets_past_the_first_round():
    np.testing.assert_allclose(sparsities_by_round(below_quantile_of_all_weights), 0.2)


def test_one_shot_is_one_round():
    first, second = small_network(), small_network()
    prune_one_shot(first, 0.7, fine_tune=leave_alone)
    prune_iteratively(second, [0.7], fine_tune=leave_alone)
    pairs = zip(first.state().values(), second.state().values(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_rounds_remove_more_and_return_nothing():
    masks = []
    prune_iteratively(
        small_network(),
        ROUNDS,
        fine_tune=lambda net: masks.append(net.weights()["fc1.weight"].mask.copy()),
    )
    assert not any((later & ~earlier).any() for earlier, later in pairwise(masks))
    assert [int(mask.sum()) for mask in masks] == [160, 128, 102, 82, 66]


def test_fine_tune_is_called_once_a_round():
    calls = []
    prune_iteratively(small_network(), ROUNDS, fine_tune=calls.append)
    assert len(calls) == len(ROUNDS)
    assert len({id(network) for network in calls}) == 1


def test_fine_tuning_starts_from_the_surviving_weights():
    network, started_from = small_network(), {}
    dense = network.state()
    masks = layerwise_masks(network, 0.8)
    prune_one_shot(network, 0.8, fine_tune=lambda net: started_from.update(net.state()))
    expected = {name: np.where(masks.get(name, True), value, 0) for name, value in dense.items()}
    assert all(np.array_equal(started_from[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_mask_is_constant_during_training(name):
    network = small_network()
    apply_masks(network, layerwise_masks(network, 0.8))
    masks = {name: weight.mask.copy() for name, weight in network.weights().items()}
    zeros = []

    def look(_step):
        zeros.append([not w.value[~masks[name]].any() for name, w in network.weights().items()])

    train_on_noise(network, OPTIMIZERS[name](network.parameters()), after_step=look)
    assert np.array(zeros).shape == (15, 2)
    assert np.all(zeros)
    assert all(np.array_equal(masks[name], w.mask) for name, w in network.weights().items())


def test_training_without_the_mask_is_dense_again():
    network = small_network()
    apply_masks(network, layerwise_masks(network, 0.8))
    for weight in network.weights().values():
        weight.mask = None  # planted: zeros that nobody protects
    train_on_noise(network, nn.Adam(network.parameters(), lr=0.01))
    assert network_sparsity(network) < 0.1


@pytest.mark.parametrize("choose", CHOOSERS)
def test_biases_are_never_masked(choose):
    network = small_network()
    for name, parameter in network.named_parameters().items():
        if name.endswith("bias"):
            parameter.value = np.full(parameter.shape, 1e-9, np.float32)  # the least of all
    prune_one_shot(network, 0.99, fine_tune=leave_alone, choose=choose)
    biases = [p for name, p in network.named_parameters().items() if name.endswith("bias")]
    assert len(biases) == 2
    assert all(bias.mask is None and bias.value.all() for bias in biases)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_the_given_saliency_decides_the_mask(choose):
    network = small_network()
    dense = network.state()
    smallest_first = partial(choose, saliency=lambda w: -np.abs(w))
    prune_one_shot(network, 0.5, fine_tune=leave_alone, choose=smallest_first)
    for name, weight in network.weights().items():
        kept, pruned = np.abs(dense[name][weight.mask]), np.abs(dense[name][~weight.mask])
        assert kept.max() <= pruned.min()


@pytest.mark.parametrize(
    ("sparsities", "kind", "message"),
    [
        ([], ValueError, r"sparsities must increase from round to round, got \[\];"),
        ([0.5, 0.5], ValueError, r"sparsities must increase .+, got \[0.5, 0.5\]; give one"),
        ([0.9, 0.5], ValueError, r"sparsities must increase .+, got \[0.9, 0.5\];"),
        ([0.5, 1.0], ValueError, r"sparsities\[1\] must be in \[0, 1\), got 1.0;"),
        ([0.5, "0.9"], TypeError, r"sparsities\[1\] must be a number, got '0.9';"),
        (0.5, TypeError, "sparsities must be a sequence, got 0.5; pass a list such as"),
    ],
)
def test_prune_iteratively_refuses_before_the_first_round(sparsities, kind, message):
    network = small_network()
    with pytest.raises(kind, match=f"prune_iteratively: {message}"):
        prune_iteratively(network, sparsities, fine_tune=leave_alone)
    assert network_sparsity(network) == 0.0


def test_prune_iteratively_takes_an_array_of_sparsities():
    network = small_network()
    prune_iteratively(network, np.linspace(0.2, 0.8, 4), fine_tune=leave_alone)
    assert network_sparsity(network) == 0.8


def train_on_digits(network, digits, seed):
    adam, rng = nn.Adam(network.parameters(), lr=3e-3), np.random.default_rng(seed)
    x, labels = digits.train_images, digits.train_labels
    nn.fit(network, adam, x, labels, epochs=20, batch_size=50, rng=rng)


def dense_and_pruned_accuracy(seed):
    """Test accuracy dense, and 90 % sparse after as many epochs again, on a split of its own."""
    digits = load_digits(rng=np.random.default_rng(seed))
    network = nn.mlp((64, 300, 10), rng=np.random.default_rng(100 + seed))
    train_on_digits(network, digits, 200 + seed)
    dense = nn.evaluate(network, digits.test_images, digits.test_labels).accuracy
    prune_one_shot(network, 0.9, fine_tune=lambda net: train_on_digits(net, digits, 300 + seed))
    assert network_sparsity(network) == 0.9
    return dense, nn.evaluate(network, digits.test_images, digits.test_labels).accuracy


@pytest.fixture(scope="module")
def accuracies():
    """Mean over five seeds, dense and pruned."""
    return np.mean([dense_and_pruned_accuracy(seed) for seed in range(5)], axis=0)


def test_dense_digits_network_reaches_96_percent(accuracies):
    assert accuracies[0] >= 0.96


def test_90_percent_sparse_digits_network_is_within_a_point_of_dense(accuracies):
    assert accuracies[0] - accuracies[1] <= 0.01
