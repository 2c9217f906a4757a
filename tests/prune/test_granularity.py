"""One rule of shape reaches every weight of a network, and what comes out of it runs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from refimpl.deploy import sparsify
from refimpl.formats import BSR, CSR, TwoFour
from refimpl.masks import blocks, channels, count_kept, n_of_m, unstructured
from refimpl.nn import Conv2d, Flatten, Linear, Network, ReLU
from refimpl.prune import apply_masks, as_matrix, shaped_masks

RULES = {
    "unstructured": partial(unstructured, sparsity=0.75),
    "2:4": partial(n_of_m, n=2, m=4),
    "blocks": as_matrix(partial(blocks, block_shape=(2, 9), sparsity=0.5)),
    "channels": partial(channels, sparsity=0.5),
}
STORES = {
    "unstructured": {"store": CSR.from_coo},
    "2:4": {"store": TwoFour.from_coo, "channels_last": True},
    "blocks": {"store": partial(BSR.from_coo, block_shape=(2, 9))},
    "channels": {"store": partial(BSR.from_coo, block_shape=(1, 18))},
}
EVERY_RULE = pytest.mark.parametrize("name", RULES)


def cnn():
    rng = np.random.default_rng(0)
    layers = {
        "conv1": Conv2d(4, 6, 3, rng=rng, dtype=np.float64),
        "relu1": ReLU(),
        "flatten": Flatten(),
        "fc1": Linear(6 * 12, 8, rng=rng, dtype=np.float64),
    }
    return Network(layers), rng.standard_normal((3, 4, 6, 5))


@EVERY_RULE
def test_shaped_masks_are_what_the_rule_says_of_each_weight(name):
    network, _ = cnn()
    masks = shaped_masks(network, RULES[name])
    assert list(masks) == list(network.weights())
    expected = {key: RULES[name](np.abs(w.value)) for key, w in network.weights().items()}
    for key, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[key])


@EVERY_RULE
def test_every_granularity_ends_in_a_sparse_network_with_the_same_outputs(name):
    network, images = cnn()
    apply_masks(network, shaped_masks(network, RULES[name]))
    shipped = sparsify(network, **STORES[name])
    np.testing.assert_allclose(shipped.forward(images), network.forward(images), atol=1e-12)


def test_shaped_masks_change_nothing_by_themselves():
    network, _ = cnn()
    before = network.state()
    shaped_masks(network, RULES["2:4"])
    assert all(weight.mask is None for weight in network.weights().values())
    assert all((before[key] == value).all() for key, value in network.state().items())


def test_shaped_masks_never_bring_a_pruned_weight_back():
    network, _ = cnn()
    apply_masks(network, shaped_masks(network, RULES["unstructured"]))
    pruned = {name: ~weight.mask for name, weight in network.weights().items()}
    masks = shaped_masks(network, RULES["2:4"])
    assert not any((masks[name] & pruned[name]).any() for name in masks)


def test_shaped_masks_leave_ignored_weights_out():
    network, _ = cnn()
    assert list(shaped_masks(network, RULES["2:4"], ignore=["conv1.weight"])) == ["fc1.weight"]


def test_shaped_masks_score_with_the_saliency_given():
    network, _ = cnn()
    masks = shaped_masks(network, RULES["unstructured"], saliency=lambda w: -np.abs(w))
    weight = network.weights()["fc1.weight"].value
    smallest = np.sort(np.abs(weight).ravel())[: count_kept(weight.size, 0.75)]
    np.testing.assert_array_equal(np.sort(np.abs(weight[masks["fc1.weight"]])), smallest)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda s: s, TypeError, "mask of conv1.weight must be bool, got float64"),
        (lambda s: s[0] > 0, ValueError, r"mask of conv1.weight must have shape \(6, 4, 3, 3\)"),
        (partial(n_of_m, n=2, m=5), ValueError, "n_of_m: "),
    ],
)
def test_shaped_masks_refuse_what_is_no_mask(rule, error, message):
    with pytest.raises(error, match=message):
        shaped_masks(cnn()[0], rule)


def test_rule_for_matrices_refuses_a_vector():
    with pytest.raises(ValueError, match="as_matrix: saliency must have 2 axes or more, got shape"):
        as_matrix(RULES["unstructured"])(np.ones(4))


def test_rule_for_matrices_takes_a_weight_without_outputs():
    mask = as_matrix(RULES["unstructured"])(np.ones((0, 4, 3, 3)))
    assert mask.shape == (0, 4, 3, 3)
