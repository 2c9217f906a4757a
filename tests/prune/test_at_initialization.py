"""Masks before training: exact counts, a network left alone, and flow that never dries up."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import nn
from refimpl.masks import count_kept
from refimpl.prune import apply_masks, global_masks, grasp_masks, snip_masks, synflow_masks
from refimpl.saliency import synflow, total_flow
from support.differences import central_differences
from support.networks import images, settle
from support.networks import networks as convolutional_networks

METHODS = ("snip", "grasp", "synflow")
SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=5)


def masks_by(method, network, sparsity, **options):
    """Masks for a network whose inputs are vectors or images, with a batch from seed 0."""
    rng = np.random.default_rng(0)
    first = next(iter(network.weights().values()))
    shape = (first.shape[1],) if len(first.shape) == 2 else (first.shape[1], 6, 6)
    if method == "synflow":
        return synflow_masks(network, shape, sparsity, **options)
    x, labels = rng.standard_normal((12, *shape)).astype(first.dtype), rng.integers(0, 2, 12)
    choose = {"snip": snip_masks, "grasp": grasp_masks}[method]
    return choose(network, x, labels, sparsity, **options)


def small_mlp(sizes=(6, 5, 4, 3), seed=0, dtype=np.float64):
    return nn.mlp(sizes, rng=np.random.default_rng(seed), dtype=dtype)


def small_convolutional(seed=0):
    """Every kind of layer that flow passes: a residual block, normalisation, pooling, dropout."""
    rng = np.random.default_rng(seed)
    branch = nn.Network({"conv": nn.Conv2d(4, 4, 3, padding=1, rng=rng), "relu": nn.ReLU()})
    network = nn.Network(
        {
            "conv1": nn.Conv2d(2, 4, 3, padding=1, rng=rng),
            "norm1": nn.BatchNorm2d(4),
            "relu1": nn.ReLU(),
            "block": nn.Residual(branch),
            "pool": nn.MaxPool2d(2),
            "drop": nn.Dropout(0.5, rng=np.random.default_rng(seed)),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(36, 3, rng=rng),
        }
    )
    settle(network, rng)
    return network


def everything_in(network):
    """Bytes of all that a caller can see: values, gradients, masks and running statistics."""
    state = {name: value.tobytes() for name, value in network.state().items()}
    held = {
        name: [None if array is None else array.tobytes() for array in (item.grad, item.mask)]
        for name, item in network.named_parameters().items()
    }
    return state, held


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9, 0.95])
@pytest.mark.parametrize("make", [small_mlp, small_convolutional])
def test_masks_before_training_keep_an_exact_count(method, sparsity, make):
    network = make()
    masks = masks_by(method, network, sparsity)
    size = sum(weight.size for weight in network.weights().values())
    assert list(masks) == list(network.weights())
    assert sum(int(mask.sum()) for mask in masks.values()) == count_kept(size, sparsity)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [small_mlp, small_convolutional])
def test_masks_before_training_leave_the_network_as_it_was(method, make):
    network = make()
    first = next(iter(network.weights().values()))
    x = images(5, np.random.default_rng(1)) if first.value.ndim == 4 else np.ones((5, 6))
    y = network.forward(x.astype(first.dtype), training=True)
    network.backward(np.ones_like(y))
    before = everything_in(network)
    masks_by(method, network, 0.5)
    assert everything_in(network) == before


@pytest.mark.parametrize("method", METHODS)
def test_masks_before_training_leave_the_dropout_sequence_alone(method):
    network = small_convolutional()
    x = images(5, np.random.default_rng(1)).astype(np.float32)
    expected = copy.deepcopy(network).forward(x, training=True)
    masks_by(method, network, 0.5)
    np.testing.assert_array_equal(network.forward(x, training=True), expected)


@pytest.mark.parametrize("method", METHODS)
def test_masks_before_training_return_no_pruned_weight(method):
    network = small_mlp()
    apply_masks(network, global_masks(network, 0.4))
    pruned = {name: ~weight.mask for name, weight in network.weights().items()}
    masks = masks_by(method, network, 0.6)
    assert sum(int(mask.sum()) for mask in masks.values()) == count_kept(62, 0.6)
    assert not any((masks[name] & pruned[name]).any() for name in masks)


@pytest.mark.parametrize("method", METHODS)
def test_masks_before_training_ignore_the_layers_named(method):
    masks = masks_by(method, small_mlp(), 0.5, ignore=["fc2.weight"])
    assert list(masks) == ["fc1.weight", "fc3.weight"]
    assert sum(int(mask.sum()) for mask in masks.values()) == count_kept(42, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_masks_before_training_are_the_same_in_either_dtype(method):
    first, second = (masks_by(method, small_mlp(dtype=d), 0.5) for d in (np.float32, np.float64))
    assert all(np.array_equal(first[name], mask) for name, mask in second.items())


def batch_of_nine(seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((9, 6)), rng.integers(0, 3, 9)


def test_snip_masks_rank_by_the_slopes_of_the_loss_by_gates():
    network = small_mlp()
    x, labels = batch_of_nine()
    weights = {name: weight.value.copy() for name, weight in network.weights().items()}
    gates = {name: np.ones_like(w) for name, w in weights.items()}

    def loss():
        for name, weight in network.weights().items():
            weight.value = gates[name] * weights[name]
        return nn.softmax_cross_entropy(network.forward(x), labels)[0]

    slopes = {name: np.abs(central_differences(loss, gate)) for name, gate in gates.items()}
    loss()  # with all gates open
    assert_keeps_the_largest(snip_masks(network, x, labels, 0.5), slopes)


def test_grasp_masks_rank_by_the_growth_of_the_gradient_as_a_weight_goes():
    network = small_mlp(sizes=(6, 4, 3))
    x, labels = batch_of_nine()
    shrink = {name: np.zeros(weight.shape) for name, weight in network.weights().items()}
    weights = {name: weight.value.copy() for name, weight in network.weights().items()}

    def squared_norm():
        for name, weight in network.weights().items():
            weight.value = weights[name] * (1 - shrink[name])
        network.backward(nn.softmax_cross_entropy(network.forward(x), labels)[1])
        return sum(float((p.grad**2).sum()) for p in network.parameters())

    shrinkage = {name: -central_differences(squared_norm, by) for name, by in shrink.items()}
    squared_norm()
    assert_keeps_the_largest(grasp_masks(network, x, labels, 0.5), shrinkage)


def assert_keeps_the_largest(masks, scores):
    """No weight that went scores more, within the error of differences."""
    kept = np.concatenate([scores[name][mask] for name, mask in masks.items()])
    gone = np.concatenate([scores[name][~mask] for name, mask in masks.items()])
    assert len(kept)
    assert len(gone)
    assert kept.min() >= gone.max() - 1e-9


def test_grasp_takes_the_statistics_of_the_batch():
    network = small_convolutional()
    x = images(7, np.random.default_rng(1)).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 3, 7)
    expected = grasp_masks(network, x, labels, 0.5)
    network.named_buffers()["norm1.running_mean"].value = np.full(4, 50, np.float32)
    masks = grasp_masks(network, x, labels, 0.5)
    assert all(np.array_equal(masks[name], mask) for name, mask in expected.items())


@pytest.mark.parametrize("seed", range(3))
def test_grasp_sees_no_dropout_where_it_takes_the_statistics(seed):
    rng = np.random.default_rng(seed)
    layers = {
        "conv": nn.Conv2d(2, 4, 3, rng=rng, dtype=np.float64),
        "drop": nn.Dropout(0.5, rng=rng),
        "norm": nn.BatchNorm2d(4, dtype=np.float64),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(64, 3, rng=rng, dtype=np.float64),
    }
    without = {name: layer for name, layer in layers.items() if name != "drop"}
    x, labels = images(7, rng), rng.integers(0, 3, 7)
    dropped, whole = (grasp_masks(nn.Network(way), x, labels, 0.5) for way in (layers, without))
    assert all(np.array_equal(dropped[name], mask) for name, mask in whole.items())


def chain_of(masks, network):
    """Weights of a perceptron under masks, for the array code."""
    return [weight.value * masks[name] for name, weight in network.weights().items()]


@given(SIZES, st.integers(0, 2**32 - 1), st.data())
def test_synflow_never_empties_a_layer(sizes, seed, data):  # a step takes less than 1/L of all
    network = small_mlp(sizes, seed)
    weights = network.weights().values()
    size, layers = sum(weight.size for weight in weights), len(weights)
    n_keep = data.draw(st.integers(layers, size))
    masks = synflow_masks(network, sizes[:1], 1 - n_keep / size, n_steps=30)
    assert sum(int(mask.sum()) for mask in masks.values()) == n_keep
    assert all(mask.any() for mask in masks.values())
    assert total_flow(chain_of(masks, network)) > 0  # so a path is left from input to output


def test_one_step_of_synflow_may_empty_a_layer():
    network = small_mlp((64, 64, 64, 2))
    emptied, whole = (synflow_masks(network, (64,), 0.999, n_steps=n) for n in (1, 100))
    assert not all(mask.any() for mask in emptied.values())
    assert all(mask.any() for mask in whole.values())


def test_one_step_of_synflow_ranks_by_the_array_code():
    network = small_mlp()
    scores = synflow([weight.value for weight in network.weights().values()])
    masks = synflow_masks(network, (6,), 0.5, n_steps=1)
    assert_keeps_the_largest(masks, dict(zip(masks, scores, strict=True)))


@given(convolutional_networks(), st.integers(0, 2**32 - 1))
def test_a_step_of_synflow_ranks_by_the_slope_of_the_flow(network, seed):
    place, rng = {}, np.random.default_rng(seed)
    masks = synflow_masks(network, (2, 6, 6), 0.5, n_steps=1)
    for name, parameter in network.named_parameters().items():
        positive = name.endswith(("weight", "gamma"))
        parameter.value = np.abs(parameter.value) * positive
    for name, buffer in network.named_buffers().items():
        if name.endswith("mean"):
            buffer.value = np.zeros(buffer.shape)
    flow = lambda: float(network.forward(np.ones((1, 2, 6, 6))).sum())  # noqa: E731
    for name, weight in network.weights().items():  # two of each layer
        for i in rng.choice(weight.size, 2):
            index = np.unravel_index(i, weight.shape)
            here = weight.value[index]
            weight.value[index] = here * (1 - 1e-6)
            below = flow()
            weight.value[index] = here * (1 + 1e-6)
            place[name, index] = (flow() - below) / 2e-6
            weight.value[index] = here
    scale = flow()
    kept = [slope for (name, index), slope in place.items() if masks[name][index]]
    gone = [slope for (name, index), slope in place.items() if not masks[name][index]]
    assert min(kept, default=np.inf) >= max(gone, default=-np.inf) - 1e-8 * scale


def test_synflow_of_a_deep_network_neither_overflows_nor_empties_a_layer():
    network = small_mlp([20] * 401)
    for weight in network.weights().values():
        weight.value = 100 * weight.value
    with pytest.raises(ValueError, match="synflow: the flow must be finite"):
        synflow([weight.value for weight in network.weights().values()])
    masks = synflow_masks(network, (20,), 0.9, n_steps=10)
    assert all(mask.any() for mask in masks.values())


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_synflow_masks_do_not_see_a_factor_on_a_layer(factor):
    network = small_mlp()
    expected = synflow_masks(network, (6,), 0.8)
    network.weights()["fc2.weight"].value *= factor
    masks = synflow_masks(network, (6,), 0.8)
    assert all(np.array_equal(masks[name], mask) for name, mask in expected.items())


def test_synflow_needs_no_sign_no_bias_and_no_data():
    network = small_mlp()
    expected = synflow_masks(network, (6,), 0.8)
    for parameter in network.parameters():
        signs = np.random.default_rng(0).choice([-1.0, 1.0], parameter.shape)
        shift = 0 if len(parameter.shape) > 1 else 5
        parameter.value = parameter.value * signs + shift
    masks = synflow_masks(network, (6,), 0.8)
    assert all(np.array_equal(masks[name], mask) for name, mask in expected.items())


def test_masks_before_training_hold_through_training():
    network = small_mlp(dtype=np.float32)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    masks = snip_masks(network, x[:10], labels[:10], 0.8)
    apply_masks(network, masks)
    sgd = nn.SGD(network.parameters(), lr=0.1, momentum=0.9)
    nn.fit(network, sgd, x, labels, epochs=3, batch_size=8, rng=rng)
    for name, weight in network.weights().items():
        np.testing.assert_array_equal(weight.mask, masks[name])
        assert not weight.value[~masks[name]].any()


def tanh_network():
    rng = np.random.default_rng(0)
    return nn.Network({"fc1": nn.Linear(6, 4, rng=rng), "tanh": nn.Tanh()})


def pruned_network():
    network = small_mlp()
    for weight in network.weights().values():
        weight.mask = np.zeros(weight.shape, bool)
    return network


def silent_network():
    network = small_mlp()
    network.weights()["fc2.weight"].value = np.zeros((4, 5))
    return network


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: synflow_masks(tanh_network(), (6,), 0.5),
            ValueError,
            "network must consist of Linear, .+, got Tanh as tanh; score it with",
        ),
        (
            lambda: synflow_masks(silent_network(), (6,), 0.5),
            FloatingPointError,
            "the flow must stay finite and above 0, got 0.0; take more steps, or",
        ),
        (
            lambda: synflow_masks(pruned_network(), (6,), 0.5),
            FloatingPointError,
            "the flow must stay finite and above 0, got 0.0; take more steps, or",
        ),
        (
            lambda: synflow_masks(small_mlp(), (6,), 0.97),
            ValueError,
            "sparsity must leave a weight for each of 3 layers, got 0.97, which leaves 2 of 62;",
        ),
        (
            lambda: synflow_masks(small_mlp(), 6, 0.5),
            TypeError,
            "input_shape must be several counts, got 6; give",
        ),
        (
            lambda: synflow_masks(small_mlp(), (0,), 0.5),
            ValueError,
            "a length in input_shape must be at least 1, got 0;",
        ),
        (
            lambda: synflow_masks(small_mlp(), (6,), 0.5, n_steps=0),
            ValueError,
            "n_steps must be at least 1, got 0;",
        ),
    ],
)
def test_synflow_masks_refuse_with_a_sentence(call, kind, message):
    with pytest.raises(kind, match=f"^synflow_masks: {message}"):
        call()


@pytest.mark.parametrize("choose", [snip_masks, grasp_masks, partial(synflow_masks)])
@pytest.mark.parametrize("sparsity", [1.0, -0.1])
def test_masks_before_training_refuse_a_sparsity_out_of_range(choose, sparsity):
    network = small_mlp()
    arguments = ((6,),) if isinstance(choose, partial) else batch_of_nine()
    with pytest.raises(ValueError, match=rf"_masks: sparsity must be in \[0, 1\), got {sparsity}"):
        choose(network, *arguments, sparsity)


@pytest.mark.parametrize("choose", [snip_masks, grasp_masks])
def test_masks_from_a_batch_refuse_what_is_no_float_array(choose):
    with pytest.raises(TypeError, match="_masks: x must be float16 or float32 or float64"):
        choose(small_mlp(), np.ones((3, 6), int), np.zeros(3, int), 0.5)
