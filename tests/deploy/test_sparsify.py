"""The shipped network computes what the pruned one computed, and owns all of its memory."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest

from refimpl.deploy import sparsify, weight_bytes
from refimpl.formats import BSR, COO, CSC, CSR, NOfM, RelativeCSC, TwoFour
from refimpl.masks import n_of_m, unstructured
from refimpl.nn import (
    Adam,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Linear,
    Network,
    ReLU,
    Residual,
    SparseLayer,
    SparseLinear,
    fit,
)
from refimpl.nn.models import mlp
from support.tolerance import assert_product_close


def pruned_network(seed=0, dtype=np.float32, density=0.2, prune=("fc1", "fc2")):
    """Random weights, biases and masks; no training."""
    rng = np.random.default_rng(seed)
    network = mlp((12, 9, 7, 5), rng=rng, dtype=dtype)
    for name, layer in network.layers.items():
        if isinstance(layer, Linear):
            layer.bias.value = rng.standard_normal(layer.bias.shape).astype(dtype)
        if name in prune:
            layer.weight.mask = rng.random(layer.weight.shape) < density
    return network


def inputs(batch=6, dtype=np.float32):
    return np.random.default_rng(99).standard_normal((batch, 12)).astype(dtype)


@pytest.mark.parametrize("seed", range(5))
def test_float64_outputs_agree_to_rounding(seed):
    network, x = pruned_network(seed, np.float64), inputs(dtype=np.float64)
    y, expected = sparsify(network).forward(x), network.forward(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_layer_multiplies_within_the_tolerance(density, dtype):
    network = pruned_network(dtype=dtype, density=density, prune=("fc1",))
    layer = network.layers["fc1"]
    layer.bias = None
    x = inputs(dtype=dtype)
    y = sparsify(network).layers["fc1"].forward(x)
    assert_product_close(y.T, layer.weight.value, x.T)


def test_masked_layers_become_sparse_and_the_others_stay_what_they_were():
    network = pruned_network()
    kinds = [(name, type(layer)) for name, layer in sparsify(network).layers.items()]
    sparse = {"fc1": SparseLinear, "fc2": SparseLinear}
    assert kinds == [(n, sparse.get(n, type(layer))) for n, layer in network.layers.items()]


def test_sparse_weight_is_the_masked_weight_bit_for_bit():
    network = pruned_network()
    weight = sparsify(network).layers["fc1"].weight
    np.testing.assert_array_equal(weight.to_dense(), network.layers["fc1"].weight.value)
    assert weight.nnz == network.layers["fc1"].weight.mask.sum()


def test_kept_weight_of_exactly_zero_stays_a_weight():
    network = pruned_network()
    parameter = network.layers["fc1"].weight
    row, column = np.argwhere(parameter.mask)[0]
    parameter.value[row, column] = 0.0
    sparse = sparsify(network).layers["fc1"].weight
    np.testing.assert_array_equal(sparse.to_dense(), parameter.value)
    ones = sparse.with_values(np.ones(sparse.nnz, np.float32))
    np.testing.assert_array_equal(ones.to_dense(), parameter.mask)


@pytest.mark.parametrize(
    "store",
    [
        COO.from_coo,
        CSC.from_coo,
        partial(BSR.from_coo, block_shape=(1, 3)),
        RelativeCSC.from_coo,
        partial(NOfM.from_coo, pattern=(3, 4)),
    ],
    ids=["COO", "CSC", "BSR", "RelativeCSC", "NOfM"],
)
def test_any_format_can_be_shipped(store):
    network, x = pruned_network(prune=("fc1",), dtype=np.float64), inputs(dtype=np.float64)
    mask = network.layers["fc1"].weight.mask & (np.arange(12) % 4 < 3)
    network.layers["fc1"].weight.mask = mask
    shipped = sparsify(network, store=store)
    weight = shipped.layers["fc1"].weight
    assert type(weight) is type(store(COO.from_dense(np.zeros((9, 12)))))
    np.testing.assert_array_equal(weight.to_dense(), network.layers["fc1"].weight.value)
    np.testing.assert_allclose(shipped.forward(x), network.forward(x), rtol=0, atol=1e-13)
    assert weight_bytes(shipped) == weight.nbytes + 8 * (9 * 7 + 7 * 5)


def pruned_cnn(rule):
    """A convolution, a residual block with another one, a linear layer: all pruned by `rule`."""
    rng = np.random.default_rng(0)
    conv = partial(Conv2d, rng=rng, dtype=np.float64)
    block = Residual(Network({"conv2": conv(8, 8, 3, padding=1)}), Network({"proj": conv(8, 8, 1)}))
    layers = {"conv1": conv(4, 8, 3, stride=2), "relu1": ReLU(), "block": block}
    layers |= {"pool": GlobalAvgPool2d(), "fc": Linear(8, 4, rng=rng, dtype=np.float64)}
    network = Network(layers)
    for weight in network.weights().values():
        weight.mask = rule(np.abs(weight.value))
    return network, rng.standard_normal((3, 4, 9, 7))


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (partial(unstructured, sparsity=0.8), {}),
        (partial(unstructured, sparsity=0.8), {"store": CSC.from_coo}),
        (partial(unstructured, sparsity=0.8), {"channels_last": True}),
        (partial(n_of_m, n=2, m=4), {"store": TwoFour.from_coo, "channels_last": True}),
    ],
    ids=["CSR", "CSC", "CSR, channels last", "2:4"],
)
def test_convolutions_are_shipped_sparse_within_residual_blocks_too(rule, options):
    network, images = pruned_cnn(rule)
    shipped = sparsify(network, **options)
    layers = shipped.named_layers()
    sparse = [name for name, layer in layers.items() if isinstance(layer, SparseLayer)]
    assert sparse == ["conv1", "block.branch.conv2", "block.shortcut.proj", "fc"]
    np.testing.assert_allclose(shipped.forward(images), network.forward(images), atol=1e-12)


def test_two_of_four_channels_are_not_two_of_four_columns_with_channels_first():
    network, _ = pruned_cnn(partial(n_of_m, n=2, m=4))
    with pytest.raises(ValueError, match=r"TwoFour\.from_"):
        sparsify(network, store=TwoFour.from_coo)


def test_depthwise_convolution_is_shipped_as_it_is():
    rng = np.random.default_rng(0)
    layers = {"conv": Conv2d(4, 4, 3, groups=4, rng=rng), "pool": GlobalAvgPool2d()}
    network = Network(layers | {"fc": Linear(4, 2, rng=rng)})
    for weight in network.weights().values():
        weight.mask = np.abs(weight.value) > 0.2
    kinds = [type(layer) for layer in sparsify(network).layers.values()]
    assert kinds == [Conv2d, GlobalAvgPool2d, SparseLinear]


def test_a_format_that_cannot_hold_a_weight_says_so():
    with pytest.raises(ValueError, match=r"^BSR\.from_coo: block_shape must divide"):
        sparsify(pruned_network(), store=partial(BSR.from_coo, block_shape=(2, 2)))


def test_shipped_network_trains_on_as_the_masked_one():
    network, x = pruned_network(dtype=np.float64), inputs(40, np.float64)
    shipped, labels = sparsify(network), np.arange(40) % 5

    def trained(network):
        optimizer = Adam(network.parameters(), lr=0.01)
        rng = np.random.default_rng(1)
        fit(network, optimizer, x, labels, epochs=5, batch_size=8, rng=rng)
        return network.forward(x)

    np.testing.assert_allclose(trained(shipped), trained(network), rtol=0, atol=1e-11)


def test_layer_without_bias_is_shipped_without_bias():
    network = pruned_network()
    network.layers["fc1"].bias = None
    assert sparsify(network).layers["fc1"].bias is None


def test_the_network_given_is_left_as_it_was():
    network = pruned_network()
    before = pickle.dumps(network)
    sparsify(network)
    assert pickle.dumps(network) == before


def arrays_of(network):
    """Every array that the network's layers hold, in parameters or in sparse weights."""
    parameters = network.parameters()
    masks = [p.mask for p in parameters if p.mask is not None]
    sparse = [layer.weight for layer in network.layers.values() if hasattr(layer, "bias")]
    stored = [w for w in sparse if isinstance(w, CSR)]
    flat = [array for w in stored for array in (w.data, w.indices, w.indptr)]
    return [p.value for p in parameters] + masks + flat


def test_nothing_is_shared_with_the_network_given():
    network = pruned_network()
    shipped = arrays_of(sparsify(network))
    pairs = [(a, b) for a in arrays_of(network) for b in shipped]
    assert not any(np.shares_memory(a, b) for a, b in pairs)


def test_later_training_does_not_reach_the_shipped_network():
    network, x = pruned_network(), inputs()
    shipped = sparsify(network)
    before = shipped.forward(x).copy()
    for parameter in network.parameters():
        parameter.value = parameter.value + 1
    np.testing.assert_array_equal(shipped.forward(x), before)


def test_training_shipped_biases_does_not_reach_the_network_given():
    network, x = pruned_network(), inputs()
    before = network.forward(x).copy()
    for parameter in sparsify(network).parameters():
        parameter.value = parameter.value + 1
    np.testing.assert_array_equal(network.forward(x), before)


def test_shipped_dropout_draws_from_its_own_generator():
    rng = np.random.default_rng(0)
    layers = {**pruned_network().layers, "dropout": Dropout(0.5, rng=rng)}
    state = copy.deepcopy(rng.bit_generator.state)
    sparsify(Network(layers)).forward(inputs(), training=True)
    assert rng.bit_generator.state == state


def test_masks_of_unpruned_linear_biases_are_kept():
    network = pruned_network()
    bias = network.layers["fc1"].bias
    bias.mask = np.arange(bias.size) > 2
    shipped = sparsify(network).layers["fc1"].bias
    np.testing.assert_array_equal(shipped.mask, bias.mask)


def test_weight_bytes_of_a_dense_network_counts_zeros():
    assert weight_bytes(pruned_network()) == 4 * (12 * 9 + 9 * 7 + 7 * 5)


def test_weight_bytes_of_a_shipped_network_counts_values_indices_and_pointers():
    network = pruned_network()
    nnz = [int(network.layers[name].weight.mask.sum()) for name in ("fc1", "fc2")]
    by_hand = 8 * sum(nnz) + 4 * (9 + 1) + 4 * (7 + 1) + 4 * 7 * 5
    assert weight_bytes(sparsify(network)) == by_hand


def test_weight_bytes_of_a_network_without_weights_is_zero():
    assert weight_bytes(Network({"relu1": ReLU()})) == 0


@pytest.mark.parametrize(
    "network",
    [pruned_network(prune=()), Network({"relu1": ReLU()}), sparsify(pruned_network())],
    ids=["unpruned", "no weights", "already sparse"],
)
def test_sparsify_refuses_a_network_without_masks(network):
    message = "network must have a Linear or Conv2d layer whose weight is masked, got none; prune"
    with pytest.raises(ValueError, match=message):
        sparsify(network)


@pytest.mark.parametrize("function", [sparsify, weight_bytes])
def test_what_is_no_network_is_refused(function):
    message = f"{function.__name__}: network must be a Network, got dict"
    with pytest.raises(TypeError, match=message):
        function(pruned_network().layers)


def test_dropout_layers_go_on_sharing_their_generator():
    rng = np.random.default_rng(0)
    layers = {"fc": Linear(12, 50, rng=rng), "a": Dropout(0.5, rng=rng), "b": Dropout(0.5, rng=rng)}
    network = Network(layers)
    network.layers["fc"].weight.mask = np.ones((50, 12), bool)
    shipped, ones = sparsify(network), np.ones((1, 50), np.float32)
    first, second = (shipped.layers[name].forward(ones, training=True) for name in "ab")
    assert (first != second).any()
