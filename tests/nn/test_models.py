"""The built networks have the layers, sizes and bits that their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import Flatten, Linear, ReLU, lenet_300_100, mlp


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_mlp_weights_have_the_given_sizes(sizes):
    network = mlp(sizes, rng=np.random.default_rng(0))
    shapes = [weight.shape for weight in network.weights().values()]
    assert shapes == list(zip(sizes[1:], sizes[:-1], strict=True))


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ([3, 2], ["flatten", "fc1"]),
        ([4, 3, 2], ["flatten", "fc1", "relu1", "fc2"]),
        ((5, 4, 3, 2), ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]),
    ],
)
def test_mlp_names_its_layers_in_order(sizes, names):
    assert list(mlp(sizes, rng=np.random.default_rng(0)).layers) == names


def test_mlp_names_say_what_the_layers_are():
    kinds = [type(layer) for layer in mlp([4, 3, 2], rng=np.random.default_rng(0)).layers.values()]
    assert kinds == [Flatten, Linear, ReLU, Linear]


def test_mlp_draws_its_weights_layer_by_layer():
    network, rng = mlp([4, 3, 2], rng=np.random.default_rng(7)), np.random.default_rng(7)
    fc1, fc2 = Linear(4, 3, rng=rng), Linear(3, 2, rng=rng)
    drawn = [weight.value.tobytes() for weight in network.weights().values()]
    assert drawn == [fc1.weight.value.tobytes(), fc2.weight.value.tobytes()]


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 2, 2), (0, 12)])
def test_mlp_takes_flat_inputs_and_images(shape):
    network = mlp([12, 3, 2], rng=np.random.default_rng(0))
    assert network.forward(np.ones(shape, np.float32)).shape == (shape[0], 2)


def test_mlp_outputs_are_logits_of_either_sign():
    network = mlp([4, 8, 8], rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((100, 4)).astype(np.float32)
    y = network.forward(x)
    assert y.min() < 0 < y.max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mlp_has_one_dtype(dtype):
    network = mlp([4, 3, 2], rng=np.random.default_rng(0), dtype=dtype)
    assert {parameter.dtype for parameter in network.parameters()} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, r"sizes must have 2 entries or more, got \[\]; give the inputs and"),
        ([64], ValueError, r"sizes must have 2 entries or more, got \[64\]"),
        ([64, 0, 10], ValueError, r"sizes\[1\] must be at least 1, got 0"),
        ([64, 10.0], TypeError, r"sizes\[1\] must be an integer, got 10.0"),
    ],
)
def test_mlp_rejects_bad_sizes(sizes, error, message):
    with pytest.raises(error, match=f"mlp: {message}"):
        mlp(sizes, rng=np.random.default_rng(0))


def test_mlp_rejects_a_bare_seed():
    with pytest.raises(TypeError, match=r"mlp: rng must be a numpy.random.Generator, got int"):
        mlp([3, 2], rng=0)


def test_lenet_300_100_has_the_published_shapes():
    network = lenet_300_100(rng=np.random.default_rng(0))
    shapes = [parameter.shape for parameter in network.parameters()]
    assert shapes == [(300, 784), (300,), (100, 300), (100,), (10, 100), (10,)]


def test_lenet_300_100_classifies_images_into_ten():
    network = lenet_300_100(rng=np.random.default_rng(0))
    assert network.forward(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_lenet_300_100_repeats_with_the_seed():
    first, second = (lenet_300_100(rng=np.random.default_rng(3)).state() for _ in range(2))
    assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}


def test_mlp_refuses_a_single_number_of_units():
    with pytest.raises(TypeError, match="mlp: sizes must be a sequence, got 5; give the inputs"):
        mlp(5, rng=np.random.default_rng(0))
