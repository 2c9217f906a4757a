"""The walk finds everything that belongs to a channel, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from refimpl import nn
from refimpl.formats import CSR
from refimpl.prune import channel_groups
from support.networks import networks

RNG = np.random.default_rng(0)


def conv(c_in, c_out, kernel=1, **options):
    return nn.Conv2d(c_in, c_out, kernel, rng=RNG, **options)


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, rng=RNG)


def sizes(network):
    return {name: group.size for name, group in channel_groups(network).items()}


def names(slices):
    return [part.name for part in slices]


def test_lenet5_has_three_groups():
    groups = channel_groups(nn.lenet5(rng=RNG))
    assert {name: group.size for name, group in groups.items()} == {
        "conv1": 20,
        "conv2": 50,
        "fc1": 500,
    }
    assert groups["conv1"].producers == (("conv1.weight", 0, 1), ("conv1.bias", 0, 1))
    assert groups["conv1"].carriers == ()
    assert groups["conv1"].consumers == (("conv2.weight", 1, 1),)


def test_flatten_makes_a_channel_as_many_features_as_it_has_pixels():
    groups = channel_groups(nn.lenet5(rng=RNG))
    assert groups["conv2"].consumers == (("fc1.weight", 1, 16),)
    assert groups["fc1"].consumers == (("fc2.weight", 1, 1),)


def test_normalisation_and_depthwise_convolution_carry_a_channel():
    layers = {
        "conv1": conv(1, 4, bias=False),
        "norm1": nn.BatchNorm2d(4),
        "relu1": nn.ReLU(),
        "conv2": conv(4, 4, 3, groups=4),
        "pool": nn.GlobalAvgPool2d(),
        "fc1": linear(4, 2),
    }
    group = channel_groups(nn.Network(layers))["conv1"]
    assert names(group.producers) == ["conv1.weight"]
    norm = ["norm1.gamma", "norm1.beta", "norm1.running_mean", "norm1.running_var"]
    assert names(group.carriers) == [*norm, "conv2.weight", "conv2.bias"]
    assert group.consumers == (("fc1.weight", 1, 1),)
    assert {part.axis for part in group.producers + group.carriers} == {0}


def test_identity_shortcut_couples_the_ends_of_its_branch():
    branch = nn.Network({"conv1": conv(4, 3), "relu1": nn.ReLU(), "conv2": conv(3, 4)})
    layers = {"stem": conv(1, 4), "block": nn.Residual(branch), "last": conv(4, 2)}
    groups = channel_groups(nn.Network(layers))
    assert list(groups) == ["stem", "block.branch.conv1"]
    stem = groups["stem"]
    assert {"stem.weight", "block.branch.conv2.weight"} <= set(names(stem.producers))
    assert names(stem.consumers) == ["block.branch.conv1.weight", "last.weight"]
    assert names(groups["block.branch.conv1"].consumers) == ["block.branch.conv2.weight"]


def test_projection_shortcut_couples_the_two_convolutions_that_are_added():
    block = nn.Residual(
        nn.Network({"conv1": conv(4, 6)}), nn.Network({"conv": conv(4, 6, bias=False)})
    )
    groups = channel_groups(nn.Network({"stem": conv(1, 4), "block": block, "last": conv(6, 2)}))
    added = ["block.branch.conv1.weight", "block.branch.conv1.bias", "block.shortcut.conv.weight"]
    assert names(groups["block.branch.conv1"].producers) == added
    read = ["block.branch.conv1.weight", "block.shortcut.conv.weight"]
    assert names(groups["stem"].consumers) == read


def test_residual_blocks_in_each_other_are_one_group():
    inner = nn.Network({"conv1": conv(4, 4)})
    outer = nn.Network({"inner": nn.Residual(inner), "conv2": conv(4, 4)})
    layers = {"stem": conv(1, 4), "outer": nn.Residual(outer), "last": conv(4, 2)}
    (group,) = channel_groups(nn.Network(layers)).values()
    weights = [name for name in names(group.producers) if name.endswith("weight")]
    assert weights == [
        "stem.weight",
        "outer.branch.inner.branch.conv1.weight",
        "outer.branch.conv2.weight",
    ]


def test_branch_that_mixes_nothing_is_added_to_its_own_input():
    branch = nn.Network({"relu": nn.ReLU()})
    layers = {"stem": conv(1, 4), "block": nn.Residual(branch), "last": conv(4, 2)}
    assert sizes(nn.Network(layers)) == {"stem": 4}


def test_what_is_added_to_the_input_stays():
    branch = nn.Network({"conv1": conv(2, 3), "conv2": conv(3, 2)})
    layers = {"block": nn.Residual(branch), "last": conv(2, 2)}
    assert sizes(nn.Network(layers)) == {"block.branch.conv1": 3}


def test_what_is_added_to_the_output_stays():
    branch = nn.Network({"conv1": conv(4, 3), "conv2": conv(3, 4)})
    layers = {"stem": conv(1, 4), "block": nn.Residual(branch)}
    assert sizes(nn.Network(layers)) == {"block.branch.conv1": 3}


def test_channels_of_the_input_and_of_the_output_stay():
    layers = {"norm": nn.BatchNorm2d(2), "conv1": conv(2, 2, 3, groups=2), "conv2": conv(2, 5)}
    assert sizes(nn.Network(layers)) == {}


def test_multilayer_perceptron_has_its_hidden_units():
    assert sizes(nn.mlp([64, 30, 20, 10], rng=RNG)) == {"fc1": 30, "fc2": 20}


def test_small_resnet_couples_a_stage():
    groups = channel_groups(nn.small_resnet(rng=RNG, widths=(8, 16)))
    assert all(group.size in (8, 16) for group in groups.values())
    assert any(len([n for n in names(g.producers) if "weight" in n]) > 1 for g in groups.values())


@settings(max_examples=50)
@given(networks())
def test_no_axis_belongs_to_two_groups(network):
    parts = [part for group in channel_groups(network).values() for part in group.slices]
    places = [(part.name, part.axis) for part in parts]
    assert len(set(places)) == len(places)


@settings(max_examples=50)
@given(networks())
def test_slices_have_the_length_of_their_group(network):
    held = network.named_parameters() | network.named_buffers()
    for group in channel_groups(network).values():
        lengths = {held[p.name].shape[p.axis] / p.repeat for p in group.slices}
        assert lengths == {group.size}


class Tanh(nn.Layer):
    """A layer that the walk has never heard of."""

    def forward(self, x, *, training=False):
        return np.tanh(x)

    def backward(self, dy):
        return dy


@pytest.mark.parametrize(
    "layer", [Tanh(), nn.SparseLinear(CSR.from_dense(np.eye(3, dtype=np.float32)), None)]
)
def test_channel_groups_refuses_an_unknown_layer(layer):
    network = nn.Network({"fc1": linear(3, 3), "odd": layer, "fc2": linear(3, 2)})
    kind = type(layer).__name__
    message = f"channel_groups: odd must be a kind of layer whose channels can be cut, got {kind};"
    with pytest.raises(ValueError, match=message):
        channel_groups(network)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"a": conv(1, 4), "b": conv(3, 2)}, r"b.weight .+ fits the 4 channels of a, got 3;"),
        ({"a": conv(1, 4), "b": conv(8, 2)}, r"b.weight .+ fits the 4 channels of a, got 8;"),
        ({"a": conv(1, 4), "n": nn.BatchNorm2d(5)}, r"n.gamma .+ the 4 channels of a, got 5;"),
        ({"a": conv(1, 4), "f": nn.Flatten(), "b": linear(9, 2)}, r"b.weight .+ of a, got 9;"),
        (
            {"a": conv(1, 4), "r": nn.Residual(nn.Network({"c": conv(4, 5)}))},
            r"r's branch or shortcut must have a width that fits the 4 channels of a, got 5;",
        ),
    ],
)
def test_channel_groups_refuses_widths_that_do_not_fit(layers, message):
    with pytest.raises(ValueError, match=message):
        channel_groups(nn.Network(layers))


def test_channel_groups_refuses_what_is_no_network():
    with pytest.raises(TypeError, match="channel_groups: network must be a Network, got list;"):
        channel_groups([])
