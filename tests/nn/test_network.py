"""A network is its layers one after the other, and its state is all of it or none."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import (
    BatchNorm2d,
    Dropout,
    Linear,
    Network,
    ReLU,
    Residual,
    mlp,
    small_resnet,
    small_vgg,
    softmax_cross_entropy,
)
from support.differences import assert_gradient_close, central_differences
from support.tolerance import assert_product_close


def small_network(seed: int = 0, dtype: type = np.float64) -> Network:
    return mlp([3, 4, 2], rng=np.random.default_rng(seed), dtype=dtype)


def hand_network() -> Network:
    """The 2-2-1 network of the chapter, whose numbers fit on paper."""
    rng = np.random.default_rng(0)
    fc1 = Linear(2, 2, rng=rng, dtype=np.float64)
    fc2 = Linear(2, 1, rng=rng, dtype=np.float64)
    fc1.weight.value = np.array([[1.0, -1.0], [2.0, 1.0]])
    fc1.bias.value = np.array([0.0, -1.0])
    fc2.weight.value = np.array([[3.0, 2.0]])
    fc2.bias.value = np.array([1.0])
    return Network({"fc1": fc1, "relu1": ReLU(), "fc2": fc2})


def values_of(network: Network) -> dict[str, bytes]:
    return {name: item.value.tobytes() for name, item in network.named_parameters().items()}


# --- forward and backward --------------------------------------------------------------------


def test_network_forward_matches_the_numbers_by_hand():
    y = hand_network().forward(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(y, [[7.0]])


@pytest.mark.parametrize(
    ("name", "grad"),
    [
        ("fc1.weight", [[0.0, 0.0], [4.0, 8.0]]),
        ("fc1.bias", [0.0, 4.0]),
        ("fc2.weight", [[0.0, 6.0]]),
        ("fc2.bias", [2.0]),
    ],
)
def test_network_backward_matches_the_numbers_by_hand(name, grad):
    network = hand_network()
    network.forward(np.array([[1.0, 2.0]]))
    dx = network.backward(np.array([[2.0]]))
    np.testing.assert_array_equal(dx, [[8.0, 4.0]])
    np.testing.assert_array_equal(network.named_parameters()[name].grad, grad)


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_network_forward_is_the_layers_in_order(batch, seed):
    network = small_network(seed)
    x = np.random.default_rng(seed).standard_normal((batch, 3))
    fc1, fc2 = network.layers["fc1"].weight.value, network.layers["fc2"].weight.value
    hidden = np.maximum(x @ fc1.T, 0)
    assert_product_close(network.forward(x), hidden, fc2.T)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"])
def test_network_gradients_match_central_differences(name, batch):
    network, rng = small_network(), np.random.default_rng(1)
    x, labels = rng.standard_normal((batch, 3)), rng.integers(0, 2, batch)
    network.backward(softmax_cross_entropy(network.forward(x), labels)[1])
    parameter = network.named_parameters()[name]
    expected = central_differences(
        lambda: softmax_cross_entropy(network.forward(x), labels)[0], parameter.value
    )
    assert_gradient_close(parameter.grad, expected)


@pytest.mark.parametrize("batch", [1, 5])
def test_network_input_gradient_matches_central_differences(batch):
    network, rng = small_network(), np.random.default_rng(1)
    x, labels = rng.standard_normal((batch, 3)), rng.integers(0, 2, batch)
    dx = network.backward(softmax_cross_entropy(network.forward(x), labels)[1])
    expected = central_differences(lambda: softmax_cross_entropy(network.forward(x), labels)[0], x)
    assert_gradient_close(dx, expected)


def test_network_backward_overwrites_every_gradient():
    network, x = small_network(), np.ones((5, 3))
    network.forward(x)
    network.backward(np.ones((5, 2)))
    network.backward(np.zeros((5, 2)))
    assert not any(parameter.grad.any() for parameter in network.parameters())


def test_network_keeps_single_precision_throughout():
    network = small_network(dtype=np.float32)
    y = network.forward(np.ones((5, 3), np.float32))
    arrays = [y, network.backward(y), *(p.grad for p in network.parameters())]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("training", "changed"), [(True, True), (False, False)])
def test_network_tells_its_layers_whether_it_trains(training, changed):
    network = Network({"dropout": Dropout(0.5, rng=np.random.default_rng(0))})
    x = np.ones((10, 10))
    assert np.any(network.forward(x, training=training) != x) == changed


# --- what it holds ---------------------------------------------------------------------------


def test_network_names_parameters_by_layer():
    names = list(small_network().named_parameters())
    assert names == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_network_lists_the_parameters_that_it_names():
    network = small_network()
    assert network.parameters() == list(network.named_parameters().values())


def test_network_weights_leave_out_biases():
    assert list(small_network().weights()) == ["fc1.weight", "fc2.weight"]


def test_network_hands_out_the_parameters_themselves():
    network = small_network()
    assert network.weights()["fc1.weight"] is network.layers["fc1"].weight


def test_network_lists_layers_within_layers_from_the_outside_in():
    rng = np.random.default_rng(0)
    inner = Residual(Network({"fc": Linear(3, 3, rng=rng)}))
    block = Residual(Network({"inner": inner}), Network({"fc": Linear(3, 3, rng=rng)}))
    network = Network({"block1": block, "relu1": ReLU()})
    named = network.named_layers()
    assert list(named) == [
        "block1",
        "block1.branch.inner",
        "block1.branch.inner.branch.fc",
        "block1.shortcut.fc",
        "relu1",
    ]
    assert named["block1.branch.inner"] is inner


def test_network_names_parameters_by_the_names_of_layers():
    network = small_resnet(rng=np.random.default_rng(0))
    layers = network.named_layers()
    for name, parameter in network.named_parameters().items():
        layer, _, attribute = name.rpartition(".")
        assert getattr(layers[layer], attribute) is parameter


def test_network_names_buffers_by_layer():
    network = Network({"norm1": BatchNorm2d(2), "block1": Residual(Network({"n": BatchNorm2d(2)}))})
    assert list(network.named_buffers()) == [
        "norm1.running_mean",
        "norm1.running_var",
        "block1.branch.n.running_mean",
        "block1.branch.n.running_var",
    ]


def test_network_weights_are_those_of_linear_and_convolutional_layers():
    network = small_vgg(widths=(2,), rng=np.random.default_rng(0))
    assert list(network.weights()) == ["conv1_1.weight", "conv1_2.weight", "fc.weight"]


def test_network_is_not_changed_with_the_dict_it_came_from():
    layers = {"relu1": ReLU()}
    network = Network(layers)
    layers["relu2"] = ReLU()
    assert list(network.layers) == ["relu1"]


def test_network_accepts_any_dict():
    assert list(Network(OrderedDict(relu1=ReLU())).layers) == ["relu1"]


def test_network_repr_names_the_layers():
    assert repr(hand_network()) == "Network(fc1: Linear, relu1: ReLU, fc2: Linear)"


def test_network_deep_copy_is_independent():
    network = small_network()
    before = values_of(network)
    copy.deepcopy(network).layers["fc1"].weight.value -= 1
    assert values_of(network) == before


# --- state -----------------------------------------------------------------------------------


def test_network_load_state_restores_every_bit():
    network, other = small_network(0), small_network(1)
    network.load_state(other.state())
    assert values_of(network) == values_of(other)


def test_network_state_does_not_follow_the_network():
    network = small_network()
    before, state = values_of(network), network.state()
    for parameter in network.parameters():
        parameter.value += 1
    assert {name: array.tobytes() for name, array in state.items()} == before


def test_network_does_not_follow_a_loaded_state():
    network = small_network()
    state = network.state()
    network.load_state(state)
    before = values_of(network)
    state["fc1.weight"][...] = 7
    assert values_of(network) == before


def test_network_state_ignores_gradients_and_masks():
    network = small_network()
    network.layers["fc1"].weight.mask = np.eye(4, 3, dtype=bool)
    assert list(network.state()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_network_load_state_applies_the_masks():
    network = small_network()
    initial = network.state()["fc1.weight"]
    weight, mask = network.layers["fc1"].weight, np.eye(4, 3, dtype=bool)
    state = network.state()
    weight.mask = mask
    weight.value += 1
    network.load_state(state)
    np.testing.assert_array_equal(weight.mask, mask)
    assert weight.value.tobytes() == np.where(mask, initial, 0.0).tobytes()


def test_network_state_holds_parameters_and_buffers():
    network = small_resnet(rng=np.random.default_rng(0))
    named = network.named_parameters() | network.named_buffers()
    assert {name: array.tobytes() for name, array in network.state().items()} == {
        name: item.value.tobytes() for name, item in named.items()
    }


def test_network_load_state_needs_the_buffers():
    network = Network({"norm": BatchNorm2d(2)})
    state = without(network.state(), "norm.running_var")
    with pytest.raises(ValueError, match=r"got missing \['norm.running_var'\] and unexpected"):
        network.load_state(state)


def without(state: dict, name: str) -> dict:
    return {key: array for key, array in state.items() if key != name}


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda state: without(state, "fc2.bias"),
            ValueError,
            r"state must name every parameter, got missing \['fc2.bias'\] and unexpected \[\]",
        ),
        (
            lambda state: state | {"fc3.bias": np.ones(2)},
            ValueError,
            r"got missing \[\] and unexpected \['fc3.bias'\]; pass the state of a network with",
        ),
        (
            lambda state: state | {"fc2.bias": np.ones((1, 2))},
            ValueError,
            r"state\['fc2.bias'\] must have shape \(2,\), got \(1, 2\)",
        ),
        (
            lambda state: state | {"fc2.bias": np.ones(2, np.float32)},
            TypeError,
            r"state\['fc2.bias'\] must be float64, got float32",
        ),
        (
            lambda state: state | {"fc2.bias": [1.0, 2.0]},
            TypeError,
            r"state\['fc2.bias'\] must be an array, got list",
        ),
        (
            lambda state: list(state.values()),
            TypeError,
            "state must be a mapping, got list; pass what Network.state returned",
        ),
    ],
    ids=["missing", "unexpected", "shape", "dtype", "list entry", "list"],
)
def test_network_load_state_writes_everything_or_nothing(spoil, error, message):
    network, other = small_network(0), small_network(1)
    before = values_of(network)
    with pytest.raises(error, match=f"Network.load_state: .*{message}"):
        network.load_state(spoil(other.state()))
    assert values_of(network) == before


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([ReLU()], TypeError, r'layers must be a dict .*, got list; write Network\(\{"fc1": L'),
        (ReLU(), TypeError, "layers must be a dict of names to layers, got ReLU; write"),
        ({}, ValueError, "layers must hold a layer, got an empty dict; add one"),
        ({"a.b": ReLU()}, ValueError, "a name must be a str without a dot, not empty, got 'a.b'"),
        ({"": ReLU()}, ValueError, "a name must be .*, got ''; call it fc1"),
        ({1: ReLU()}, TypeError, "a name must be .*, got 1; call it fc1"),
        ({"relu1": ReLU}, TypeError, r"layers\['relu1'\] must be a Layer, got <class .*ReLU"),
        ({"relu1": None}, TypeError, r"layers\['relu1'\] must be a Layer, got NoneType; make"),
    ],
    ids=["list", "layer", "empty", "dot", "no name", "int name", "class", "None"],
)
def test_network_rejects_what_is_no_dict_of_layers(layers, error, message):
    with pytest.raises(error, match=f"Network: {message}"):
        Network(layers)


def test_network_rejects_the_same_layer_twice():
    relu = ReLU()
    message = "Network: layers must differ from each other, got 1 twice; make one object for each"
    with pytest.raises(ValueError, match=message):
        Network({"relu1": relu, "relu2": relu})
