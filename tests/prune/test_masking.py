"""Masks of a network: exact counts, the right candidates, nothing pruned comes back."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.deploy import sparsify
from refimpl.formats import BSR, CSC, TwoFour
from refimpl.masks import erdos_renyi_counts, n_of_m, uniform_counts
from refimpl.nn import Flatten, Network, mlp
from refimpl.prune import (
    apply_masks,
    budgeted_masks,
    global_masks,
    layerwise_masks,
    network_sparsity,
    shaped_masks,
)


def uniformly_budgeted_masks(network, sparsity, **options):
    return budgeted_masks(network, sparsity, budget=uniform_counts, **options)


CHOOSERS = (layerwise_masks, global_masks, uniformly_budgeted_masks)
SIZES = (6, 5, 4, 3)  # weights of 30, 20 and 12 entries
FC1, FC2, FC3 = "fc1.weight", "fc2.weight", "fc3.weight"


def small_network(seed=0):
    return mlp(SIZES, rng=np.random.default_rng(seed))


def lost_to_sort(magnitudes, n_removed):
    """Oracle: the positions of the `n_removed` least, the later of two equal ones first."""
    order = sorted(range(len(magnitudes)), key=lambda i: (magnitudes[i], -i))
    return set(order[:n_removed])


def flat_values(network):
    return [weight.value.ravel().tolist() for weight in network.weights().values()]


def flat_pruned(masks):
    return set(np.flatnonzero(~np.concatenate([mask.ravel() for mask in masks.values()])).tolist())


def halve(network, seed=1):
    """Prune a random half of every weight."""
    rng = np.random.default_rng(seed)
    apply_masks(network, layerwise_masks(network, 0.5, saliency=lambda w: rng.random(w.shape)))


@given(st.integers(0, 99), st.integers(0, 99))
def test_layerwise_masks_remove_the_least_of_each_layer(seed, percent):
    network = small_network(seed)
    masks = layerwise_masks(network, percent / 100)
    for (name, mask), values in zip(masks.items(), flat_values(network), strict=True):
        n_removed = (2 * percent * len(values) + 100) // 200  # half up, in whole numbers
        expected = lost_to_sort([abs(value) for value in values], n_removed)
        assert flat_pruned({name: mask}) == expected


@given(st.integers(0, 99), st.integers(0, 99))
def test_global_masks_remove_the_least_of_all_layers(seed, percent):
    network = small_network(seed)
    values = [abs(value) for layer in flat_values(network) for value in layer]
    expected = lost_to_sort(values, (2 * percent * len(values) + 100) // 200)
    assert flat_pruned(global_masks(network, percent / 100)) == expected


@pytest.mark.parametrize("choose", CHOOSERS)
def test_masks_have_the_names_and_shapes_of_the_weights(choose):
    network = small_network()
    shapes = {name: mask.shape for name, mask in choose(network, 0.5).items()}
    assert shapes == {FC1: (5, 6), FC2: (4, 5), FC3: (3, 4)}


@pytest.mark.parametrize("choose", CHOOSERS)
def test_choosing_changes_nothing(choose):
    network = small_network()
    before = network.state()
    choose(network, 0.5)
    assert all(weight.mask is None for weight in network.weights().values())
    assert all(np.array_equal(value, before[name]) for name, value in network.state().items())


@pytest.mark.parametrize("choose", CHOOSERS)
def test_masks_share_no_memory_with_the_network(choose):
    network = small_network()
    halve(network)
    masks = choose(network, 0.5)
    shared = [np.shares_memory(masks[name], w.mask) for name, w in network.weights().items()]
    assert not any(shared)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_sparsity_zero_keeps_every_weight(choose):
    assert all(mask.all() for mask in choose(small_network(), 0.0).values())


@pytest.mark.parametrize("choose", CHOOSERS)
def test_ignored_weights_get_no_mask(choose):
    assert list(choose(small_network(), 0.5, ignore=[FC1, FC3])) == [FC2]


def test_ignored_weights_do_not_enter_the_budget_of_global_masks():
    network = small_network()
    network.weights()[FC1].value = np.full((5, 6), 1e-3, np.float32)  # first to go, if asked
    masks = global_masks(network, 0.5, ignore=[FC1])
    assert sum(int(mask.sum()) for mask in masks.values()) == (20 + 12) // 2


def test_global_masks_can_empty_a_layer():
    network = small_network()
    network.weights()[FC1].value = np.full((5, 6), 1e-3, np.float32)
    masks = global_masks(network, 0.5)  # 31 of 62 go, and fc1 has 30
    assert {name: int(mask.sum()) for name, mask in masks.items()}[FC1] == 0


def test_global_masks_spare_a_layer_when_asked():
    network = small_network()
    network.weights()[FC1].value = np.full((5, 6), 1e-3, np.float32)
    masks = global_masks(network, 0.5, allow_empty=False)
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    assert kept[FC1] == 1
    assert sum(kept.values()) == 31
    assert masks[FC1][0, 0]  # of equal ones, the lowest index


@given(st.integers(0, 99), st.integers(0, 90))
def test_global_masks_that_spare_layers_change_nothing_where_none_is_empty(seed, percent):
    network = small_network(seed)
    network.weights()[FC1].value /= 10
    free, spared = (global_masks(network, percent / 100, allow_empty=a) for a in (True, False))
    if all(mask.any() for mask in free.values()):
        assert all(np.array_equal(free[name], spared[name]) for name in free)
    assert all(mask.any() for mask in spared.values())


@given(st.integers(0, 99), st.integers(0, 95))
def test_budgeted_masks_keep_the_largest_of_each_layer(seed, percent):
    network = small_network(seed)
    masks = budgeted_masks(network, percent / 100, budget=erdos_renyi_counts)
    counts = erdos_renyi_counts([(5, 6), (4, 5), (3, 4)], percent / 100)
    for (name, mask), values, n_keep in zip(
        masks.items(), flat_values(network), counts, strict=True
    ):
        lost = lost_to_sort([abs(value) for value in values], len(values) - n_keep)
        assert flat_pruned({name: mask}) == lost


def test_budgeted_masks_ask_the_budget_about_what_is_not_ignored():
    asked = []

    def budget(shapes, sparsity):
        asked.append((shapes, sparsity))
        return [7, 5]

    masks = budgeted_masks(small_network(), 0.25, budget=budget, ignore=[FC2])
    assert asked == [([(5, 6), (3, 4)], 0.25)]
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {FC1: 7, FC3: 5}


@pytest.mark.parametrize(
    ("counts", "kind", "message"),
    [
        ([7, 5], ValueError, r"budget must return 3 counts, got \[7, 5\]; return the counts in"),
        (None, ValueError, "budget must return 3 counts, got None; return the counts in the order"),
        ([7, 5, 13], ValueError, r"budget of fc3.weight must be in \[0, 12\], got 13;"),
        ([7, 5, 0.5], TypeError, "budget of fc3.weight must be an integer, got 0.5; give a count"),
    ],
)
def test_budgeted_masks_refuse_what_is_no_budget(counts, kind, message):
    with pytest.raises(kind, match=f"^budgeted_masks: {message}"):
        budgeted_masks(small_network(), 0.5, budget=lambda _shapes, _sparsity: counts)


def test_budgeted_masks_refuse_a_layer_more_than_is_left_of_it():
    network = small_network()
    halve(network)  # 15, 10 and 6 are left
    with pytest.raises(ValueError, match=r"leave pruned weights out, got 1 of fc3.weight coming"):
        budgeted_masks(network, 0.5, budget=lambda _shapes, _sparsity: [15, 9, 7])


@pytest.mark.parametrize("choose", CHOOSERS)
def test_saliency_sees_each_weight_and_its_order_decides(choose):
    network = small_network()
    masks = choose(network, 0.5, saliency=lambda w: -np.abs(w))
    largest = [np.abs(w.value).argmax() for w in network.weights().values()]
    assert not any(mask.flat[i] for mask, i in zip(masks.values(), largest, strict=True))


@pytest.mark.parametrize("choose", CHOOSERS)
@pytest.mark.parametrize("sparsity", [0.5, 0.7, 0.9])
def test_pruned_weights_never_come_back(choose, sparsity):
    network = small_network()
    halve(network)
    masks = choose(network, sparsity, saliency=lambda w: -np.abs(w))  # zeros would rank first
    old = np.concatenate([w.mask.ravel() for w in network.weights().values()])
    new = np.concatenate([mask.ravel() for mask in masks.values()])
    assert not (new & ~old).any()
    assert new.size - new.sum() >= math.floor(sparsity * new.size)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_asking_again_for_the_same_sparsity_gives_the_same_masks(choose):
    network = small_network()
    apply_masks(network, choose(network, 0.6))
    again = choose(network, 0.6, saliency=lambda w: -np.abs(w))
    assert all(np.array_equal(again[name], w.mask) for name, w in network.weights().items())


@pytest.mark.parametrize("choose", CHOOSERS)
def test_nan_saliency_of_pruned_weights_does_no_harm(choose):
    network = small_network()
    halve(network)
    masks = choose(network, 0.75, saliency=lambda w: np.where(w == 0, np.nan, w))
    assert all(mask.any() for mask in masks.values())


@pytest.mark.parametrize("choose", CHOOSERS)
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"sparsity": 1.0}, ValueError, r"sparsity must be in \[0, 1\), got 1.0;"),
        ({"sparsity": "0.5"}, TypeError, "sparsity must be a number, got '0.5';"),
        ({"ignore": ["fc9.weight"]}, ValueError, r"ignore must name weights among \['fc1.weight'"),
        ({"ignore": ["fc1.bias"]}, ValueError, r"ignore must name .+, got \['fc1.bias'\];"),
        ({"ignore": FC1}, TypeError, "ignore must be several names, got 'fc1.weight'; pass a"),
        ({"ignore": None}, TypeError, "ignore must be several names, got None;"),
        ({"ignore": [FC1, FC2, FC3]}, ValueError, "a weight to prune, got 3 weights, all ignored"),
        ({"saliency": lambda w: w[0]}, ValueError, r"saliency of fc1.weight must have shape"),
        ({"saliency": lambda w: w > 0}, TypeError, "saliency of fc1.weight must be float16 or"),
        ({"saliency": lambda w: w.tolist()}, TypeError, "fc1.weight must be an array, got list;"),
        (
            {"saliency": lambda w: w * np.nan},
            ValueError,
            "saliency of fc1.weight must hold no NaN, got 30 of 30;",
        ),
    ],
)
def test_choosing_refuses_with_a_sentence(choose, options, kind, message):
    where = choose.__name__.removeprefix("uniformly_")
    with pytest.raises(kind, match=f"{where}: .*{message}"):
        choose(small_network(), **{"sparsity": 0.5, **options})


@pytest.mark.parametrize("choose", CHOOSERS)
def test_choosing_refuses_a_network_without_weights(choose):
    with pytest.raises(ValueError, match="network must have a weight to prune, got none;"):
        choose(Network({"flatten": Flatten()}), 0.5)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_choosing_refuses_less_than_is_pruned_already(choose):
    network = small_network()
    halve(network)
    with pytest.raises(ValueError, match="masks must leave pruned weights out, got"):
        choose(network, 0.3)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_choosing_refuses_to_rank_survivors_with_the_pruned(choose):
    network = small_network()
    halve(network)
    with pytest.raises(ValueError, match="keep saliencies above -inf"):
        choose(network, 0.5, saliency=lambda w: np.full_like(w, -np.inf))


def test_apply_masks_zeroes_what_is_pruned_and_keeps_the_rest():
    network = small_network()
    before, masks = network.state(), layerwise_masks(small_network(), 0.5)
    apply_masks(network, masks)
    for name, weight in network.weights().items():
        np.testing.assert_array_equal(weight.value, np.where(masks[name], before[name], 0))
        np.testing.assert_array_equal(weight.mask, masks[name])


def test_apply_masks_copies_the_masks():
    network = small_network()
    masks = layerwise_masks(network, 0.5)
    apply_masks(network, masks)
    masks[FC1][:] = True
    assert int(network.weights()[FC1].mask.sum()) == 15


def test_apply_masks_leaves_unnamed_weights_alone():
    network = small_network()
    apply_masks(network, {FC2: np.zeros((4, 5), bool)})
    assert [w.mask is None for w in network.weights().values()] == [True, False, True]


GOOD = np.zeros((5, 6), bool)


@pytest.mark.parametrize(
    ("masks", "kind", "message"),
    [
        ({FC1: GOOD, FC2: np.zeros((5, 4), bool)}, ValueError, r"masks\['fc2.weight'\] must have"),
        ({FC1: GOOD, FC2: np.zeros((4, 5))}, TypeError, r"masks\['fc2.weight'\] must be bool, got"),
        ({FC1: GOOD, FC2: None}, TypeError, r"masks\['fc2.weight'\] must be an array, got NoneTy"),
        ({FC1: GOOD, "fc1.bias": np.zeros(5, bool)}, ValueError, r"masks must name weights among"),
        ([GOOD], TypeError, "masks must be a dict of arrays, got list; pass what"),
    ],
)
def test_apply_masks_writes_all_or_nothing(masks, kind, message):
    network = small_network()
    before = network.state()
    with pytest.raises(kind, match=f"apply_masks: {message}"):
        apply_masks(network, masks)
    assert all(weight.mask is None for weight in network.weights().values())
    assert all(np.array_equal(value, before[name]) for name, value in network.state().items())


def test_network_sparsity_counts_zeros_by_value():
    network = small_network()
    value = np.ones((5, 6), np.float32)
    value[0] = [0.0, -0.0, np.nan, 1e-45, 1.0, 1.0]
    network.weights()[FC1].value = value
    assert network_sparsity(network) == 2 / 62


def test_network_sparsity_does_not_count_biases():
    network = small_network()
    assert not network.named_parameters()["fc1.bias"].value.any()  # all zero at first
    assert network_sparsity(network) == 0.0


@pytest.mark.parametrize("ignore", [(), [FC2]])
def test_network_sparsity_counts_sparse_layers_too(ignore):
    network = small_network()
    apply_masks(network, layerwise_masks(network, 0.9, ignore=ignore))
    assert network_sparsity(sparsify(network)) == network_sparsity(network)


def test_network_sparsity_counts_whatever_the_format():
    network = mlp([8, 12, 4], rng=np.random.default_rng(0))
    apply_masks(network, shaped_masks(network, partial(n_of_m, n=2, m=4)))
    stores = (TwoFour.from_coo, CSC.from_coo, partial(BSR.from_coo, block_shape=(2, 2)))
    measured = {network_sparsity(sparsify(network, store=store)) for store in stores}
    assert measured == {network_sparsity(network)} == {0.5}


@pytest.mark.parametrize(
    "function",
    [
        lambda network: layerwise_masks(network, 0.5),
        lambda network: global_masks(network, 0.5),
        lambda network: apply_masks(network, {}),
        network_sparsity,
    ],
)
def test_what_is_no_network_is_refused(function):
    with pytest.raises(TypeError, match=r"^\w+: network must be a Network, got dict; pass"):
        function({})


def test_network_sparsity_refuses_a_network_without_weights():
    with pytest.raises(ValueError, match="network_sparsity: network must have a weight"):
        network_sparsity(Network({"flatten": Flatten()}))
