"""Counts of operations and parameters, against sums worked out by hand and by multiplying ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import nn
from refimpl.formats import CSR
from refimpl.measure import network_cost
from refimpl.prune import mask_channels, prune_channels
from support.networks import IMAGE_SHAPE, networks

RNG = np.random.default_rng(0)


def test_lenet5_costs_what_its_shapes_say():
    cost = network_cost(nn.lenet5(rng=RNG), (1, 28, 28))
    counted = {name: tuple(layer) for name, layer in cost.layers.items() if layer.flops}
    assert counted == {
        "conv1": (2 * 20 * 25 * 24 * 24, 20 * 25 + 20),
        "conv2": (2 * 50 * 20 * 25 * 8 * 8, 50 * 20 * 25 + 50),
        "fc1": (2 * 800 * 500, 800 * 500 + 500),
        "fc2": (2 * 500 * 10, 500 * 10 + 10),
    }
    assert (cost.flops, cost.parameters) == (4_586_000, 431_080)


@settings(max_examples=30)
@given(kernel=st.integers(1, 4), stride=st.integers(1, 3), side=st.integers(4, 9))
def test_convolution_of_ones_counts_its_own_products(kernel, stride, side):
    """With weights and pixels of 1 every product is 1, so the outputs add up to their number."""
    layer = nn.Conv2d(2, 3, kernel, stride=stride, rng=RNG, dtype=np.float64)
    layer.weight.value = np.ones(layer.weight.shape)
    n_products = layer.forward(np.ones((1, 2, side, side))).sum()
    assert network_cost(nn.Network({"conv": layer}), (2, side, side)).flops == 2 * n_products


def test_depthwise_convolution_has_one_kernel_a_channel():
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=4, rng=RNG, bias=False)
    cost = network_cost(nn.Network({"conv": layer}), (4, 5, 5))
    assert (cost.flops, cost.parameters) == (2 * 4 * 9 * 25, 36)


def test_residual_block_costs_both_ways():
    branch = nn.Network({"conv1": nn.Conv2d(2, 4, 3, padding=1, stride=2, rng=RNG)})
    shortcut = nn.Network({"conv": nn.Conv2d(2, 4, 1, stride=2, rng=RNG)})
    cost = network_cost(nn.Network({"block": nn.Residual(branch, shortcut)}), (2, 6, 6))
    assert {name: layer.flops for name, layer in cost.layers.items()} == {
        "block.branch.conv1": 2 * 4 * 2 * 9 * 9,
        "block.shortcut.conv": 2 * 4 * 2 * 9,
    }


def test_normalisation_has_parameters_and_no_counted_operation():
    layers = {"norm": nn.BatchNorm2d(3), "relu": nn.ReLU(), "pool": nn.MaxPool2d(2)}
    cost = network_cost(nn.Network(layers), (3, 4, 4))
    assert [tuple(layer) for layer in cost.layers.values()] == [(0, 6), (0, 0), (0, 0)]


def test_sparse_layer_counts_what_it_stores():
    dense = np.zeros((4, 6), np.float32)
    dense[[0, 3, 3], [1, 2, 5]] = 1
    sparse = nn.SparseLinear(CSR.from_dense(dense), nn.Parameter(np.zeros(4, np.float32)))
    cost = network_cost(nn.Network({"fc1": sparse}), (6,))
    assert (cost.flops, cost.parameters) == (2 * 3, 3 + 4)


@settings(max_examples=30)
@given(networks())
def test_parameters_are_those_of_the_network(network):
    n_parameters = sum(parameter.size for parameter in network.parameters())
    assert network_cost(network, IMAGE_SHAPE).parameters == n_parameters


def test_masks_save_nothing_and_surgery_does():
    network = nn.lenet5(rng=RNG)
    half = {"conv1": np.arange(20) < 10, "conv2": np.arange(50) < 25, "fc1": np.arange(500) < 250}
    before, masked = (network_cost(n, (1, 28, 28)) for n in (network, mask_channels(network, half)))
    assert masked == before
    pruned = network_cost(prune_channels(network, 0.5), (1, 28, 28))
    assert pruned.layers["conv1"].flops * 2 == before.layers["conv1"].flops
    assert pruned.layers["conv2"].flops * 4 == before.layers["conv2"].flops


def test_network_cost_leaves_the_forward_pass_alone():
    network = nn.lenet5(rng=RNG)
    x = RNG.standard_normal((2, 1, 28, 28)).astype(np.float32)
    network.forward(x)
    network_cost(network, (1, 28, 28))
    assert network.backward(np.ones((2, 10), np.float32)).shape == x.shape


class Bilinear(nn.Layer):
    """A layer with a weight that nobody told `network_cost` about."""

    def __init__(self):
        self.weight = nn.Parameter(np.ones((2, 2)))

    def forward(self, x, *, training=False):
        return x

    def backward(self, dy):
        return dy


def test_network_cost_refuses_an_unknown_weight():
    message = "odd must be a kind of layer whose operations are known, got Bilinear;"
    with pytest.raises(ValueError, match=f"network_cost: {message}"):
        network_cost(nn.Network({"odd": Bilinear()}), (2,))


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((1, 28, 0), ValueError, "a length in input_shape must be at least 1, got 0;"),
        ((1, 28.0, 28), TypeError, "a length in input_shape must be an integer, got 28.0;"),
        (784, TypeError, r"input_shape must be a sequence of lengths, got 784;"),
        ((3, 28, 28), ValueError, r"x must have shape \(any, 1, any, any\), got \(1, 3, 28, 28\)"),
    ],
)
def test_network_cost_refuses_with_a_sentence(shape, kind, message):
    with pytest.raises(kind, match=message):
        network_cost(nn.lenet5(rng=RNG), shape)
