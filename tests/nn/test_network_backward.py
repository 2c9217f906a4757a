"""A training step needs the gradients of the parameters, and not the one at the input."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.nn import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Network,
    ReLU,
    mlp,
    small_resnet,
    small_vgg,
)


def pooled_first() -> Network:
    """The first layer with parameters is not the first layer."""
    rng = np.random.default_rng(0)
    conv, fc = Conv2d(1, 2, 3, rng=rng), Linear(8, 3, rng=rng)
    return Network({"pool": MaxPool2d(2), "conv": conv, "flatten": Flatten(), "fc": fc})


def normalized_first() -> Network:
    """The first layer with parameters can only do the whole of its backward pass."""
    fc = Linear(64, 3, rng=np.random.default_rng(0))
    return Network({"norm": BatchNorm2d(1), "flatten": Flatten(), "fc": fc})


STARTS = {
    "linear": lambda: mlp([64, 5, 3], rng=np.random.default_rng(0)),
    "convolution": lambda: small_vgg(widths=(2, 3), n_classes=3, rng=np.random.default_rng(0)),
    "residual": lambda: small_resnet(widths=(2, 3), n_classes=3, rng=np.random.default_rng(0)),
    "pooling": pooled_first,
    "normalisation": normalized_first,
}


@pytest.mark.parametrize("start", STARTS)
def test_network_backward_of_parameters_gives_the_same_bits(start):
    network, rng = STARTS[start](), np.random.default_rng(1)
    x = rng.standard_normal((4, 1, 8, 8)).astype(np.float32)
    dy = network.forward(x, training=True)
    network.backward(dy)
    expected = [parameter.grad.tobytes() for parameter in network.parameters()]
    network.backward_parameters(np.zeros_like(dy))
    assert network.backward_parameters(dy) is None
    assert [parameter.grad.tobytes() for parameter in network.parameters()] == expected


@pytest.mark.parametrize("start", ["linear", "convolution", "residual", "pooling"])
def test_network_backward_of_parameters_spares_the_first_input_gradient(start, monkeypatch):
    network = STARTS[start]()
    dy = network.forward(np.ones((4, 1, 8, 8), np.float32))
    first = next(layer for layer in network.layers.values() if layer.parameters())
    monkeypatch.setattr(first, "_input_gradient", None)  # a call of it would raise
    network.backward_parameters(dy)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_network_without_parameters_has_nothing_to_go_back_for():
    network = Network({"relu1": ReLU()})
    assert network.backward_parameters(network.forward(np.ones((2, 3)))) is None
