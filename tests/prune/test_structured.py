"""Surgery: the network that is left computes what the masked network computes, in every pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl import nn
from refimpl.prune import channel_groups, mask_channels, remove_channels
from support.networks import images, networks, settle

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=30)  # a network each
TRAINING = pytest.mark.parametrize("training", [False, True])


@st.composite
def networks_and_keeps(draw):
    """A network, and for some of its groups which channels stay: at least one."""
    network, keeps = draw(networks()), {}
    for name, group in channel_groups(network).items():
        keep = draw(st.none() | st.lists(st.booleans(), min_size=group.size, max_size=group.size))
        if keep is not None:
            keeps[name] = np.array(keep if any(keep) else [True] * group.size)
    return network, keeps


def fixed_case(build):
    """One of the book's networks, and every second channel of each group."""
    rng = np.random.default_rng(0)
    network = build(rng=rng, dtype=np.float64)
    settle(network, rng)
    groups = channel_groups(network).values()
    return network, {group.name: np.arange(group.size) % 2 == 0 for group in groups}


def assert_same(actual, expected):
    """Equal up to the order of summation; normalising a nearly constant channel magnifies it."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * scale)


def outputs(network, x, *, training=False):
    return network.forward(x, training=training)


def gradients(network, x, *, training):
    """At the input and at every parameter, of a fixed random combination of the outputs."""
    y = network.forward(x, training=training)
    dx = network.backward(np.random.default_rng(1).standard_normal(y.shape))
    return dx, {name: parameter.grad for name, parameter in network.named_parameters().items()}


def kept_part(network, name, array):
    """What the mask of the parameter called `name` keeps, in order."""
    mask = network.named_parameters()[name].mask
    return array.ravel() if mask is None else array[mask]


@TRAINING
@FEW
@given(case=networks_and_keeps(), seed=SEEDS)
def test_removed_channels_leave_the_next_layer_consistent(training, case, seed):
    network, keeps = case
    x = images(3, np.random.default_rng(seed))
    masked = outputs(mask_channels(network, keeps), x, training=training)
    assert_same(outputs(remove_channels(network, keeps), x, training=training), masked)


@TRAINING
@FEW
@given(case=networks_and_keeps(), seed=SEEDS)
def test_gradients_of_what_is_kept_are_those_of_the_masked_network(training, case, seed):
    network, keeps = case
    x = images(3, np.random.default_rng(seed))
    masked = mask_channels(network, keeps)
    dx, grads = gradients(remove_channels(network, keeps), x, training=training)
    masked_dx, masked_grads = gradients(masked, x, training=training)
    assert_same(dx, masked_dx)
    for name, grad in grads.items():
        assert_same(grad.ravel(), kept_part(masked, name, masked_grads[name]))


@FEW
@given(case=networks_and_keeps(), seed=SEEDS)
def test_training_keeps_both_networks_equal(case, seed):
    network, keeps = case
    x = images(3, np.random.default_rng(seed))
    both = [mask_channels(network, keeps), remove_channels(network, keeps)]
    for one in both:
        sgd = nn.SGD(one.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.01)
        for _ in range(3):
            one.backward(np.tanh(outputs(one, x, training=True)))
            sgd.step()
    assert_same(outputs(both[1], x), outputs(both[0], x))


@FEW
@given(networks_and_keeps())
def test_masked_zeros_are_as_many_as_the_removed_weights(case):
    network, keeps = case
    masked, smaller = mask_channels(network, keeps), remove_channels(network, keeps)
    for name, parameter in masked.named_parameters().items():
        n_kept = parameter.size if parameter.mask is None else int(parameter.mask.sum())
        assert n_kept == smaller.named_parameters()[name].size


@FEW
@given(networks_and_keeps())
def test_kept_values_are_copied_bit_for_bit(case):
    network, keeps = case
    masked, smaller = mask_channels(network, keeps), remove_channels(network, keeps)
    for name, parameter in smaller.named_parameters().items():
        before = network.named_parameters()[name].value
        assert parameter.value.tobytes() == kept_part(masked, name, before).tobytes()


@FEW
@given(networks_and_keeps())
def test_surgery_leaves_the_old_network_alone(case):
    network, keeps = case
    before = network.state()
    for build in (mask_channels, remove_channels):
        changed = build(network, keeps)
        for parameter in changed.parameters():
            parameter.value = parameter.value + 1
    assert all(np.array_equal(value, before[name]) for name, value in network.state().items())
    assert all(parameter.mask is None for parameter in network.parameters())


@pytest.mark.parametrize("build", [nn.lenet5, nn.small_vgg, nn.small_resnet])
def test_books_networks_survive_losing_half_their_channels(build):
    network, keeps = fixed_case(build)
    side = 28 if build is nn.lenet5 else 8
    x = np.random.default_rng(0).standard_normal((2, 1, side, side))
    masked = outputs(mask_channels(network, keeps), x)
    assert_same(outputs(remove_channels(network, keeps), x), masked)
    assert np.abs(masked - outputs(network, x)).max() > 0.1  # it is another network


# LeNet-5 by hand, without refimpl


def convolved(x, w, b):
    patches = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("bchwij,ocij->bohw", patches, w) + b[:, None, None]


def pooled(x):
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def lenet5_by_hand(state, x):
    x = pooled(convolved(x, state["conv1.weight"], state["conv1.bias"]))
    x = pooled(convolved(x, state["conv2.weight"], state["conv2.bias"])).reshape(len(x), -1)
    x = np.maximum(x @ state["fc1.weight"].T + state["fc1.bias"], 0)
    return x @ state["fc2.weight"].T + state["fc2.bias"]


def test_lenet5_without_channels_is_lenet5_sliced_by_hand():
    rng = np.random.default_rng(0)
    network = nn.lenet5(rng=rng, dtype=np.float64)
    settle(network, rng)
    one, two, three = np.array([0, 7, 19]), np.array([1, 2, 30, 49]), np.arange(0, 500, 3)
    keeps = {"conv1": np.isin(np.arange(20), one), "conv2": np.isin(np.arange(50), two)}
    keeps["fc1"] = np.isin(np.arange(500), three)
    state = network.state()
    features = (16 * two[:, None] + np.arange(16)).ravel()  # 4x4 pixels of each channel
    sliced = state | {
        "conv1.weight": state["conv1.weight"][one],
        "conv1.bias": state["conv1.bias"][one],
        "conv2.weight": state["conv2.weight"][two][:, one],
        "conv2.bias": state["conv2.bias"][two],
        "fc1.weight": state["fc1.weight"][three][:, features],
        "fc1.bias": state["fc1.bias"][three],
        "fc2.weight": state["fc2.weight"][:, three],
    }
    smaller = remove_channels(network, keeps)
    assert {name: value.tobytes() for name, value in smaller.state().items()} == {
        name: value.tobytes() for name, value in sliced.items()
    }
    x = rng.standard_normal((2, 1, 28, 28))
    assert_same(outputs(smaller, x), lenet5_by_hand(sliced, x))


# What a removed channel must not leave behind


@pytest.fixture
def normalized():
    """Convolution, normalisation, linear layer; channel 1 of 3 is to go."""
    rng = np.random.default_rng(0)
    layers = {
        "conv1": nn.Conv2d(1, 3, 3, rng=rng, dtype=np.float64),
        "norm1": nn.BatchNorm2d(3, dtype=np.float64),
        "relu1": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(3 * 4 * 4, 2, rng=rng, dtype=np.float64),
    }
    network = nn.Network(layers)
    settle(network, rng)
    return network


KEEP_0_2 = {"conv1": np.array([True, False, True])}


@pytest.mark.parametrize("forgotten", [["conv1.bias"], ["norm1.beta"]])
def test_channel_of_zero_weights_still_adds_a_constant(normalized, forgotten):
    """The planted mistake: weights are masked, the shift behind them is not."""
    x = np.random.default_rng(0).standard_normal((2, 1, 6, 6))
    masked = mask_channels(normalized, KEEP_0_2)
    parameters = masked.named_parameters()
    for name in (*forgotten, "fc1.weight", "norm1.gamma"):
        parameters[name].mask = None
        parameters[name].value = normalized.named_parameters()[name].value
    smaller = outputs(remove_channels(normalized, KEEP_0_2), x)
    with pytest.raises(AssertionError, match="Not equal"):
        assert_same(outputs(masked, x), smaller)


def test_masked_channel_is_zero_behind_its_normalisation(normalized):
    masked = mask_channels(normalized, KEEP_0_2)
    x = np.random.default_rng(0).standard_normal((2, 1, 6, 6))
    for name in ("conv1", "norm1", "relu1"):
        x = masked.layers[name].forward(x)
        assert not x[:, 1].any()
        assert x[:, 0].any()


@pytest.mark.parametrize("build", [mask_channels, remove_channels])
def test_new_networks_have_run_no_forward_pass(normalized, build):
    normalized.forward(np.ones((2, 1, 6, 6)))
    with pytest.raises(RuntimeError, match=r"Linear\.backward: forward.+ must run first"):
        build(normalized, KEEP_0_2).backward(np.ones((2, 2)))


def test_removing_cuts_masks_that_were_there(normalized):
    mask = np.random.default_rng(0).random((2, 48)) < 0.5
    normalized.weights()["fc1.weight"].mask = mask
    cut = remove_channels(normalized, KEEP_0_2).weights()["fc1.weight"]
    np.testing.assert_array_equal(cut.mask, np.delete(mask, np.s_[16:32], axis=1))


def test_masking_keeps_masks_that_were_there(normalized):
    mask = np.random.default_rng(0).random((2, 48)) < 0.5
    normalized.weights()["fc1.weight"].mask = mask
    both = mask_channels(normalized, KEEP_0_2).weights()["fc1.weight"].mask
    mask[:, 16:32] = False
    np.testing.assert_array_equal(both, mask)


def test_removing_carries_running_statistics_and_options():
    layers = {
        "conv1": nn.Conv2d(1, 3, (3, 2), stride=2, padding=1, rng=np.random.default_rng(0)),
        "norm1": nn.BatchNorm2d(3, momentum=0.25, epsilon=1e-3),
        "pool1": nn.MaxPool2d((2, 3), stride=1),
        "conv2": nn.Conv2d(3, 2, 1, rng=np.random.default_rng(0)),
    }
    layers["norm1"].running_mean.value = np.array([1, 2, 3], np.float32)
    layers = remove_channels(nn.Network(layers), KEEP_0_2).layers
    assert layers["norm1"].running_mean.value.tolist() == [1, 3]
    assert (layers["norm1"].momentum, layers["norm1"].epsilon) == (0.25, 1e-3)
    assert (layers["conv1"].stride, layers["conv1"].padding) == (2, 1)
    assert (layers["pool1"].kernel_shape, layers["pool1"].stride) == ((2, 3), 1)


def test_removing_keeps_dropout_apart():
    rng = np.random.default_rng(0)
    layers = {"fc1": nn.Linear(4, 4, rng=rng), "drop": nn.Dropout(0.5, rng=rng)}
    network = nn.Network({**layers, "fc2": nn.Linear(4, 2, rng=rng)})
    smaller = remove_channels(network, {"fc1": np.array([True, True, False, True])})
    x, before = np.ones((3, 4), np.float32), rng.bit_generator.state
    smaller.forward(x, training=True)
    assert smaller.layers["drop"].rate == 0.5
    assert rng.bit_generator.state == before


def test_depthwise_convolution_of_one_channel_is_an_ordinary_one():
    rng = np.random.default_rng(0)
    layers = {
        "conv1": nn.Conv2d(1, 3, 1, rng=rng),
        "depthwise": nn.Conv2d(3, 3, 3, groups=3, rng=rng),
        "conv2": nn.Conv2d(3, 2, 1, rng=rng),
    }
    smaller = remove_channels(nn.Network(layers), {"conv1": np.array([False, True, False])})
    assert smaller.layers["depthwise"].groups == 1
    assert smaller.forward(np.ones((1, 1, 5, 5), np.float32)).shape == (1, 2, 3, 3)


@pytest.mark.parametrize("build", [mask_channels, remove_channels])
@pytest.mark.parametrize(
    ("keeps", "kind", "message"),
    [
        ([True], TypeError, "keeps must be a dict of arrays, got list;"),
        ({"norm1": np.ones(3, bool)}, ValueError, r"name groups among \['conv1'\], got \['norm1'"),
        ({"fc1": np.ones(2, bool)}, ValueError, r"got \['fc1'\]; .+ input and output stay whole"),
        ({"conv1": np.ones(2, bool)}, ValueError, r"must have shape \(3,\), got \(2,\);"),
        ({"conv1": np.ones(3)}, TypeError, r"keeps\['conv1'\] must be bool, got float64;"),
        ({"conv1": [True] * 3}, TypeError, r"keeps\['conv1'\] must be an array, got list;"),
        ({"conv1": np.zeros(3, bool)}, ValueError, r"must keep a channel, got none; a layer"),
    ],
)
def test_surgery_refuses_with_a_sentence(normalized, build, keeps, kind, message):
    with pytest.raises(kind, match=f"^{build.__name__}: .*{message}"):
        build(normalized, keeps)


@pytest.mark.parametrize("build", [mask_channels, remove_channels])
def test_surgery_refuses_what_is_no_network(build):
    with pytest.raises(TypeError, match=f"{build.__name__}: network must be a Network, got dict;"):
        build({}, {})


def test_dropout_layers_go_on_sharing_their_generator():
    rng = np.random.default_rng(0)
    layers = {
        "fc1": nn.Linear(4, 60, rng=rng),
        "a": nn.Dropout(0.5, rng=rng),
        "b": nn.Dropout(0.5, rng=rng),
    }
    network = nn.Network(layers | {"fc2": nn.Linear(60, 3, rng=rng)})
    cut, ones = remove_channels(network, {"fc1": np.arange(60) < 50}), np.ones((1, 50), np.float32)
    first, second = (cut.layers[name].forward(ones, training=True) for name in "ab")
    assert (first != second).any()
