"""One cut, a cut to a price, many cuts: exact widths, and nothing that comes back."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import nn
from refimpl.data import load_digits
from refimpl.masks import count_kept
from refimpl.prune import (
    channel_groups,
    channel_scores,
    global_channels,
    layerwise_channels,
    prune_channels,
    prune_channels_iteratively,
    prune_channels_to_cost,
)
from refimpl.saliency import unit_norm
from support.networks import networks

GLOBAL = {
    "score": lambda net: {name: unit_norm(s) for name, s in channel_scores(net).items()},
    "choose": global_channels,
}
WAYS = pytest.mark.parametrize("way", [{}, GLOBAL], ids=["layerwise", "global"])


def leave_alone(network):
    """Fine-tune by doing nothing."""


def lenet5():
    return nn.lenet5(rng=np.random.default_rng(0))


def widths(network):
    return {name: group.size for name, group in channel_groups(network).items()}


def n_weights(network):
    return sum(weight.size for weight in network.weights().values())


def test_prune_channels_halves_every_group():
    assert widths(prune_channels(lenet5(), 0.5)) == {"conv1": 10, "conv2": 25, "fc1": 250}


def test_prune_channels_rounds_up_to_a_multiple():
    choose = partial(layerwise_channels, multiple_of=16)
    pruned = prune_channels(lenet5(), 0.5, choose=choose)
    assert widths(pruned) == {"conv1": 16, "conv2": 32, "fc1": 256}


def test_prune_channels_leaves_ignored_groups_alone():
    score = partial(channel_scores, ignore=["fc1"])
    pruned = prune_channels(lenet5(), 0.5, score=score)
    assert widths(pruned) == {"conv1": 10, "conv2": 25, "fc1": 500}


def test_prune_channels_keeps_the_strongest_filters():
    network = lenet5()
    w = network.weights()["conv1.weight"].value
    kept = np.sort(np.argsort(-np.linalg.norm(w.reshape(20, -1), axis=1), kind="stable")[:5])
    pruned = prune_channels(network, 0.75).weights()["conv1.weight"].value
    np.testing.assert_array_equal(pruned, w[kept])


def test_prune_channels_at_zero_changes_nothing():
    network = lenet5()
    state, pruned = network.state(), prune_channels(network, 0).state()
    assert all(np.array_equal(pruned[name], value) for name, value in state.items())


@WAYS
def test_prune_channels_removes_a_fraction_of_all_channels(way):
    assert sum(widths(prune_channels(lenet5(), 0.5, **way)).values()) == 285


@WAYS
@pytest.mark.parametrize("fraction", [0.9, 0.5, 0.1])
def test_prune_channels_to_cost_removes_no_more_than_it_must(way, fraction):
    network = lenet5()
    most = fraction * n_weights(network)
    costs = [n_weights(prune_channels(network, step / 1000, **way)) for step in range(0, 1000, 27)]
    found = n_weights(prune_channels_to_cost(network, most, cost=n_weights, **way))
    assert found <= most
    assert found >= max(cost for cost in costs if cost <= most)


def test_prune_channels_to_cost_of_a_network_that_is_cheap_enough_is_that_network():
    network = lenet5()
    found = prune_channels_to_cost(network, n_weights(network), cost=n_weights)
    assert widths(found) == widths(network)


def test_prune_channels_to_cost_says_what_cannot_be_reached():
    message = r"most must be a cost that can be reached, got 10, below the \d+ of the narrowest"
    with pytest.raises(ValueError, match=f"prune_channels_to_cost: {message}"):
        prune_channels_to_cost(lenet5(), 10, cost=n_weights)


@pytest.mark.parametrize("most", [0, -1.0, np.nan])
def test_prune_channels_to_cost_refuses_what_is_no_cost(most):
    with pytest.raises(ValueError, match="most must be finite and above 0, got"):
        prune_channels_to_cost(lenet5(), most, cost=n_weights)


ROUNDS = [0.15, 0.37, 0.5, 0.9]


def rounds(network, look, **way):
    """What `look` sees of the network after each round."""
    seen = []
    prune_channels_iteratively(network, ROUNDS, fine_tune=lambda n: seen.append(look(n)), **way)
    return seen


def test_iterative_rounds_have_the_widths_of_one_cut():
    network = lenet5()
    assert rounds(network, widths) == [widths(prune_channels(network, s)) for s in ROUNDS]


def test_iterative_rounds_keep_exact_fractions_of_all_channels():
    totals = [sum(found.values()) for found in rounds(lenet5(), widths, **GLOBAL)]
    assert totals == [count_kept(570, sparsity) for sparsity in ROUNDS]


def test_iterative_rounds_round_up_to_a_multiple():
    choose = partial(layerwise_channels, multiple_of=8)
    found = rounds(lenet5(), widths, choose=choose)
    assert [w["conv2"] for w in found] == [48, 32, 32, 8]


@WAYS
def test_iterative_rounds_cut_further_what_was_cut(way):
    network = lenet5()
    for name in ("conv1", "conv2", "fc1"):
        bias = network.named_parameters()[f"{name}.bias"]
        bias.value = np.arange(bias.size, dtype=np.float32)  # each channel carries its number
    numbers = rounds(network, lambda net: {n: set(v) for n, v in biases(net).items()}, **way)
    for earlier, later in pairwise(numbers):
        assert all(later[name] <= earlier[name] for name in later)


def biases(network):
    return {n: p.value.tolist() for n, p in network.named_parameters().items() if "bias" in n}


def test_iterative_rounds_score_what_training_left():
    """The last unit is the weakest until the first fine-tuning; then it is the strongest."""
    network = nn.mlp([4, 4, 2], rng=np.random.default_rng(0))
    first = network.weights()["fc1.weight"]
    first.value = np.array([4, 3, 1, 2], np.float32)[:, None] * np.ones((4, 4), np.float32)

    def strengthen_the_last(smaller):
        smaller.layers["fc1"].weight.value[-1] += 10

    pruned = prune_channels_iteratively(network, [0.25, 0.5], fine_tune=strengthen_the_last)
    assert pruned.layers["fc1"].weight.value[:, 0].tolist() == [4, 22]


def test_iterative_pruning_returns_the_network_that_was_tuned_last():
    tuned = []
    pruned = prune_channels_iteratively(lenet5(), ROUNDS, fine_tune=tuned.append)
    assert len({id(network) for network in tuned}) == len(ROUNDS)
    assert pruned is tuned[-1]


def test_iterative_pruning_leaves_the_first_network_alone():
    network = lenet5()
    before = network.state()
    rounds(network, lambda net: [p.value.fill(0) for p in net.parameters()])
    assert all(np.array_equal(value, before[name]) for name, value in network.state().items())


def test_iterative_pruning_goes_on_where_a_depthwise_convolution_has_one_channel():
    rng = np.random.default_rng(0)
    layers = {
        "conv1": nn.Conv2d(1, 2, 3, rng=rng),
        "depthwise": nn.Conv2d(2, 2, 3, groups=2, rng=rng),
        "conv2": nn.Conv2d(2, 8, 3, rng=rng),
        "conv3": nn.Conv2d(8, 2, 1, rng=rng),
    }
    assert [found["conv2"] for found in rounds(nn.Network(layers), widths)] == [7, 5, 4, 1]


@settings(max_examples=30)
@given(networks(), st.lists(st.floats(0, 0.99), min_size=1, max_size=3, unique=True).map(sorted))
def test_iterative_pruning_has_exact_widths_on_any_network(network, sparsities):
    found = prune_channels_iteratively(network, sparsities, fine_tune=leave_alone)
    wanted = {name: max(count_kept(n, sparsities[-1]), 1) for name, n in widths(network).items()}
    assert {name: widths(found)[name] for name in wanted} == wanted


@pytest.mark.parametrize("sparsities", [[], [0.5, 0.5], [0.5, 1.0]])
def test_prune_channels_iteratively_refuses_with_a_sentence(sparsities):
    with pytest.raises(ValueError, match=r"^prune_channels_iteratively: sparsities"):
        prune_channels_iteratively(lenet5(), sparsities, fine_tune=leave_alone)


def train_on_digits(network, digits):
    adam = nn.Adam(network.parameters(), lr=3e-3)
    images, labels = digits.train_images, digits.train_labels
    nn.fit(network, adam, images, labels, epochs=10, batch_size=50, rng=np.random.default_rng(0))


def test_fine_tuning_repairs_a_network_of_a_quarter_of_its_units():
    digits = load_digits()
    network = nn.mlp((64, 100, 10), rng=np.random.default_rng(0))
    train_on_digits(network, digits)
    smaller = prune_channels(network, 0.75)
    test = digits.test_images, digits.test_labels
    dense, cut = (nn.evaluate(net, *test).accuracy for net in (network, smaller))
    train_on_digits(smaller, digits)
    tuned = nn.evaluate(smaller, *test).accuracy
    assert cut < tuned
    assert dense - tuned <= 0.02
