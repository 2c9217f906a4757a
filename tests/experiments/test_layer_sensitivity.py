"""The scans have the tables they name, and the tally counts as permutations do."""

from __future__ import annotations

import itertools
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.data import load_digits
from refimpl.experiments.layer_sensitivity import (
    NETWORKS,
    SEEDS,
    SETTINGS,
    SPARSITIES,
    as_many_as_the_smallest,
    pruned_everywhere,
    run_once,
    scan_every_way,
    tally,
)
from refimpl.measure import pinned_threads
from refimpl.nn import mlp
from refimpl.prune import network_sparsity

RECORD = Path(__file__).parents[2] / "book" / "results" / "layer_sensitivity.json"
CLAIMS = ("first", "last", "either", "both")


@cache
def short_run():
    with pinned_threads(1):
        return run_once({"network": "300-100", "epochs": 2}, 0)


@pytest.mark.parametrize("way", ["fraction", "number"])
@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_run_once_has_a_row_for_each_weight(way, kind):
    assert np.shape(short_run()[f"{way}_{kind}"]) == (3, 1 + len(SPARSITIES))


@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_run_once_leaves_the_channels_of_the_last_weight_alone(kind):
    assert np.shape(short_run()[f"channels_{kind}"]) == (2, 1 + len(SPARSITIES))


def test_run_once_counts_the_weights():
    assert short_run()["sizes"] == [19_200, 30_000, 1_000]
    assert short_run()["names"] == ("fc1.weight", "fc2.weight", "fc3.weight")


@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_run_once_starts_every_scan_from_the_whole_network(kind):
    result = short_run()
    whole = {v for way in ("fraction", "number", "channels") for v in result[f"{way}_{kind}"][:, 0]}
    assert whole == {result[f"together_{kind}"][0]}


def test_run_once_takes_an_equal_number_from_the_smallest_layer_as_an_equal_fraction():
    result = short_run()
    np.testing.assert_array_equal(result["number_loss"][2], result["fraction_loss"][2])


def test_run_once_learns_the_digits():
    assert short_run()["together_accuracy"][0] >= 0.9


def test_run_once_repeats_to_the_bit():
    np.testing.assert_equal(short_run.__wrapped__(), short_run())


def test_run_once_rejects_another_network():
    with pytest.raises(KeyError, match="lenet5"):
        run_once({"network": "lenet5"}, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_digits_and_has_layers_between_its_ends(name):
    network = NETWORKS[name](rng=np.random.default_rng(0))
    assert network.forward(load_digits().test_images[:2]).shape == (2, 10)
    assert len(network.weights()) >= 3


def test_scans_measure_with_test_images_and_once_with_as_many_training_images():
    network, digits = mlp((64, 5, 10), rng=np.random.default_rng(0)), load_digits()
    swapped = digits._replace(
        train_images=digits.test_images,
        train_labels=digits.test_labels,
        test_images=digits.train_images[:360],
        test_labels=digits.train_labels[:360],
    )
    one, other = scan_every_way(network, digits), scan_every_way(network, swapped)
    np.testing.assert_array_equal(one["seen_loss"], other["fraction_loss"])
    np.testing.assert_array_equal(one["fraction_loss"], other["seen_loss"])


@pytest.mark.parametrize("size", [10, 40, 1000])
def test_every_layer_loses_as_many_weights_as_the_smallest(size):
    choose = as_many_as_the_smallest(mlp((8, 5, 2), rng=np.random.default_rng(0)))
    mask = choose(np.arange(float(size)), 0.8)
    assert np.flatnonzero(~mask).tolist() == list(range(8))


def test_pruning_everywhere_is_of_a_copy():
    network = mlp((8, 5, 2), rng=np.random.default_rng(0))
    assert network_sparsity(pruned_everywhere(network, 0.5)) == 0.5
    assert network_sparsity(network) == 0


def share_of_orders(n, claim):
    """Fraction of all orders of n layers, the most sensitive first, in which a claim holds."""
    holds = {
        "first": lambda order: order[0] == 0,
        "last": lambda order: order[0] == n - 1,
        "either": lambda order: order[0] in (0, n - 1),
        "both": lambda order: set(order[:2]) == {0, n - 1},
    }[claim]
    orders = list(itertools.permutations(range(n)))
    return sum(map(holds, orders)) / len(orders)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("n", [3, 4, 6])
def test_tally_expects_what_random_orders_give(n, claim):
    assert tally([range(n)] * 2)[claim].expected == pytest.approx(2 * share_of_orders(n, claim))


@pytest.mark.parametrize("claim", CLAIMS)
@given(st.lists(st.permutations(range(4)), min_size=1, max_size=3))
def test_tally_chance_is_that_of_as_many_networks_or_more(claim, costs):
    found, p = tally(costs)[claim], share_of_orders(4, claim)
    n = len(costs)
    chance = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(found.seen, n + 1))
    assert found.chance == pytest.approx(chance)


@pytest.mark.parametrize(
    ("costs", "seen"),
    [
        ([3, 1, 1, 2], [1, 0, 1, 1]),
        ([2, 1, 1, 3], [0, 1, 1, 1]),
        ([3, 2, 1, 1], [1, 0, 1, 0]),
        ([2, 3, 1, 1], [0, 0, 0, 0]),
        ([1, 1, 1, 1], [1, 0, 1, 0]),  # a tie goes to the earlier layer
    ],
)
def test_tally_counts_where_the_ends_lead(costs, seen):
    assert [tally([costs])[claim].seen for claim in CLAIMS] == seen


def test_tally_refuses_a_network_that_is_all_ends():
    with pytest.raises(ValueError, match="each network must have 3 layers or more, got 2;"):
        tally([[1.0, 2.0]])


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_scans_have_every_setting_and_seed(recorded):
    assert [group["setting"] for group in recorded["settings"]] == list(SETTINGS)
    assert recorded["seeds"] == list(SEEDS)


def test_recorded_scans_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
