"""Two ways to a 2:4 network: the recipe, and dense weights seen through a mask that moves."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from refimpl.deploy import sparsify
from refimpl.formats import TwoFour
from refimpl.masks import blocks, n_of_m, unstructured
from refimpl.nn import (
    SGD,
    Conv2d,
    Linear,
    Network,
    fit,
    mean_squared_error,
    mlp,
)
from refimpl.prune import StraightThrough, apply_masks, mask_flips, shaped_masks, train_prune_train

TWO_FOUR = partial(n_of_m, n=2, m=4)
RULES = {
    "2:4": TWO_FOUR,
    "1:4": partial(n_of_m, n=1, m=4),
    "4:8": partial(n_of_m, n=4, m=8),
    "unstructured": partial(unstructured, sparsity=0.75),
    "blocks": partial(blocks, block_shape=(2, 2), sparsity=0.5),
}


def largest_of_groups(w, n, m):
    """True at the n largest magnitudes of each m, ties to the lowest index."""
    order = np.argsort(-np.abs(w).reshape(-1, m), axis=1, kind="stable")
    mask = np.zeros(order.shape, bool)
    np.put_along_axis(mask, order[:, :n], True, axis=1)
    return mask.reshape(w.shape)


def one_weight(values):
    """A network of one linear layer without bias, and its weight."""
    values = np.array(values)
    layer = Linear(*values.shape[::-1], rng=np.random.default_rng(0), bias=False, dtype=np.float64)
    layer.weight.value = values
    return Network({"fc1": layer}), layer.weight


def small_network(seed=0, dtype=np.float32):
    return mlp((8, 8, 4), rng=np.random.default_rng(seed), dtype=dtype)


def train_on_noise(network, optimizer=None, **options):
    rng = np.random.default_rng(0)
    dtype = next(iter(network.parameters())).dtype
    x, labels = rng.normal(size=(40, 8)).astype(dtype), rng.integers(0, 4, 40)
    optimizer = optimizer or SGD(network.parameters(), lr=0.3, momentum=0.9)
    settings = {"epochs": 3, "batch_size": 8, "rng": rng} | options
    return fit(network, optimizer, x, labels, **settings)


def train_sparse(network, sparse, **options):
    hooks = {"after_backward": sparse.after_backward, "after_step": sparse.after_step}
    return train_on_noise(network, **hooks, **options)


# --- the recipe ------------------------------------------------------------------------------


def test_recipe_trains_a_dense_network_and_then_a_masked_one():
    seen = []
    train_prune_train(
        small_network(), TWO_FOUR, train=lambda net: seen.append(net.weights()["fc1.weight"].mask)
    )
    assert seen[0] is None
    assert seen[1].reshape(-1, 4).sum(axis=1).tolist() == [2] * 16


@pytest.mark.parametrize("name", RULES)
def test_recipe_prunes_by_the_trained_weights_and_goes_on_from_them(name):
    network, states = small_network(), []

    def train(net):
        states.append(net.state())
        train_on_noise(net)
        states.append(net.state())

    train_prune_train(network, RULES[name], train=train)
    trained, pruned = states[1]["fc1.weight"], states[2]["fc1.weight"]
    mask = RULES[name](np.abs(trained))
    np.testing.assert_array_equal(pruned, np.where(mask, trained, 0))
    np.testing.assert_array_equal(network.weights()["fc1.weight"].mask, mask)


def test_recipe_scores_with_the_saliency_given_and_leaves_out_what_is_ignored():
    network = small_network()
    train_prune_train(
        network,
        TWO_FOUR,
        train=lambda net: None,  # noqa: ARG005 - no training
        saliency=lambda w: -np.abs(w),
        ignore=["fc2.weight"],
    )
    weights = network.weights()
    assert weights["fc2.weight"].mask is None
    start = small_network().weights()["fc1.weight"].value
    np.testing.assert_array_equal(
        weights["fc1.weight"].mask, largest_of_groups(1 / np.abs(start), 2, 4)
    )


# --- what the network holds ------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_network_holds_the_masked_dense_weights_after_every_step(name):
    network = small_network()
    sparse = StraightThrough(network, RULES[name], pruned_decay=0.1)
    weights, compared = network.weights(), []

    def compare(step):
        sparse.after_step(step)
        for key, dense in sparse.dense().items():
            mask = RULES[name](np.abs(dense))
            np.testing.assert_array_equal(sparse.masks[key], mask)
            expected = np.where(mask, dense, np.float32(0))
            compared.append(weights[key].value.tobytes() == expected.tobytes())

    train_on_noise(network, after_backward=sparse.after_backward, after_step=compare)
    assert compared == [True] * 2 * 15


def test_new_object_masks_at_once_and_forgets_nothing():
    network = small_network()
    before = {name: weight.value.copy() for name, weight in network.weights().items()}
    sparse = StraightThrough(network, TWO_FOUR)
    np.testing.assert_equal(sparse.dense(), before)
    for name, weight in network.weights().items():
        expected = np.where(largest_of_groups(before[name], 2, 4), before[name], 0)
        np.testing.assert_array_equal(weight.value, expected)


def test_finish_leaves_a_masked_network_that_computes_what_it_did():
    network = small_network()
    sparse = StraightThrough(network, TWO_FOUR)
    train_sparse(network, sparse)
    before = network.state()
    sparse.finish()
    np.testing.assert_equal(network.state(), before)
    np.testing.assert_equal({k: w.mask for k, w in network.weights().items()}, sparse.masks)


def test_finished_network_ships_as_two_four():
    network = small_network()
    sparse = StraightThrough(network, TWO_FOUR)
    train_sparse(network, sparse)
    sparse.finish()
    shipped = sparsify(network, store=TwoFour.from_coo)
    for name, layer in (("fc1", shipped.layers["fc1"]), ("fc2", shipped.layers["fc2"])):
        dense = network.weights()[f"{name}.weight"].value
        np.testing.assert_array_equal(layer.weight.to_dense(), dense)


def test_straight_through_groups_input_channels_and_leaves_ignored_weights_dense():
    rng = np.random.default_rng(0)
    layers = {f"conv{i}": Conv2d(c, 8, 3, rng=rng) for i, c in ((1, 1), (2, 8))}
    network, weights = Network(layers), Network(layers).weights()
    sparse = StraightThrough(network, TWO_FOUR, ignore=["conv1.weight"])
    sgd = SGD(list(weights.values()), lr=0.1)
    for step in (1, 2, 3):
        for weight in weights.values():
            weight.grad = rng.normal(size=weight.shape).astype(np.float32)
        sparse.after_backward(step)
        sgd.step()
        sparse.after_step(step)
    sparse.finish()
    assert weights["conv1.weight"].mask is None
    assert (weights["conv2.weight"].mask.reshape(8, 2, 4, 3, 3).sum(axis=2) == 2).all()
    assert min(sparse.flips) > 0


def test_masks_that_were_there_before_only_grow_tighter():
    network = small_network()
    first = shaped_masks(network, partial(unstructured, sparsity=0.3))
    apply_masks(network, first)
    sparse = StraightThrough(network, TWO_FOUR)
    train_sparse(network, sparse)
    sparse.finish()
    for name, weight in network.weights().items():
        assert not (weight.mask & ~first[name]).any()
        assert weight.mask.reshape(-1, 4).sum(axis=1).max() <= 2


def test_clipping_counts_the_pull_in():
    network, weight = one_weight([[3.0, 2.0, 1.0, 0.0]])
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=1e6)
    sgd, rng = SGD(network.parameters(), lr=1.0), np.random.default_rng(0)
    fit(network, sgd, np.ones((1, 4)), np.ones((1, 1)), epochs=1, batch_size=1, rng=rng,
        loss=mean_squared_error, max_gradient_norm=0.5, after_step=sparse.after_step,
        after_backward=sparse.after_backward)  # fmt: skip
    assert sparse.dense()["fc1.weight"][0, 2] == pytest.approx(0.5, abs=1e-4)
    assert weight.value[0, 2] == 0


# --- flips -----------------------------------------------------------------------------------


def test_flips_count_what_each_step_changes():
    network, masks = small_network(), []
    sparse = StraightThrough(network, TWO_FOUR, pruned_decay=0.0)
    masks.append(sparse.masks)

    def note(step):
        sparse.after_step(step)
        masks.append(sparse.masks)

    train_on_noise(network, after_backward=sparse.after_backward, after_step=note)
    expected = [sum(np.count_nonzero(a[k] != b[k]) for k in a) for a, b in pairwise(masks)]
    assert sparse.flips == expected
    assert sum(expected) > 0


def test_mask_flips_between_a_mask_and_itself_are_none():
    masks = shaped_masks(small_network(), TWO_FOUR)
    assert mask_flips(masks, masks) == 0


def test_mask_flips_between_a_mask_and_its_complement_are_all():
    masks = shaped_masks(small_network(), TWO_FOUR)
    assert mask_flips(masks, {name: ~mask for name, mask in masks.items()}) == 64 + 32


MASK = np.ones((2, 4), bool)


@pytest.mark.parametrize(
    ("before", "after", "error", "message"),
    [
        ({"a": MASK}, {"b": MASK}, ValueError, r"after must have the names \['a'\], got \['b'\];"),
        ({"a": MASK}, {"a": MASK[:1]}, ValueError, r"after\['a'\] must have shape \(2, 4\), got"),
        ({"a": MASK}, {"a": MASK + 0.0}, TypeError, r"after\['a'\] must be bool, got float64;"),
        ({"a": MASK + 0.0}, {"a": MASK}, TypeError, r"before\['a'\] must be bool, got float64;"),
    ],
)
def test_mask_flips_refuses_what_is_no_pair_of_masks(before, after, error, message):
    with pytest.raises(error, match=f"mask_flips: {message}"):
        mask_flips(before, after)


# --- refusals --------------------------------------------------------------------------------


def step_with(*methods):
    network, weight = one_weight(np.eye(3, 8))
    sparse = StraightThrough(network, TWO_FOUR)
    weight.grad = np.ones((3, 8))
    for method in methods:
        getattr(sparse, method)(*([] if method == "finish" else [1]))


@pytest.mark.parametrize(
    "methods",
    [
        ("after_backward", "after_backward"),
        ("after_backward", "finish"),
        ("finish", "after_backward"),
        ("finish", "finish"),
    ],
)
def test_straight_through_refuses_a_pass_that_was_not_sparse(methods):
    message = f"StraightThrough.{methods[-1]}: the network must hold masked weights, got the dense"
    with pytest.raises(RuntimeError, match=message):
        step_with(*methods)


@pytest.mark.parametrize("methods", [("after_step",), ("after_backward", "after_step") * 2])
def test_straight_through_refuses_a_step_of_the_masked_weights(methods):
    message = "StraightThrough.after_step: the network must hold the dense weights, got masked"
    with pytest.raises(RuntimeError, match=message):
        step_with(*methods, "after_step")


def test_straight_through_refuses_weights_without_gradient():
    network, _ = one_weight(np.eye(3, 8))
    message = r"StraightThrough.after_backward: every weight must have a gradient, got none for \["
    with pytest.raises(ValueError, match=message):
        StraightThrough(network, TWO_FOUR).after_backward(1)


@pytest.mark.parametrize("pull", [-1e-4, np.nan, np.inf])
def test_straight_through_refuses_a_pull_out_of_range(pull):
    message = "StraightThrough: pruned_decay must be finite and at least 0, got"
    with pytest.raises(ValueError, match=message):
        StraightThrough(small_network(), TWO_FOUR, pruned_decay=pull)


def test_straight_through_that_is_refused_leaves_the_network_as_it_was():
    network = small_network()
    before = network.state()
    with pytest.raises(ValueError, match="n_of_m: "):
        StraightThrough(network, partial(n_of_m, n=2, m=5))
    np.testing.assert_equal(network.state(), before)
