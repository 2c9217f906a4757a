"""PyTorch, which shares no code with ours, computes the same values, gradients and steps."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from refimpl.nn import (
    SGD,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Network,
    ReLU,
    Residual,
    lenet5,
    small_resnet,
    small_vgg,
    softmax_cross_entropy,
)

torch = pytest.importorskip("torch")


class Sum(torch.nn.Module):
    """What `Residual` is."""

    def __init__(self, branch, shortcut):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x):
        return self.branch(x) + (x if self.shortcut is None else self.shortcut(x))


def peer_of(layer: Layer) -> torch.nn.Module:
    """PyTorch's layer of the same settings, with values of its own; its names are ours."""
    nn = torch.nn
    match layer:
        case Linear():
            return nn.Linear(*layer.weight.shape[::-1], bias=layer.bias is not None)
        case Conv2d():
            c_out, c_in, *kernel_shape = layer.weight.shape
            settings = {name: getattr(layer, name) for name in ("stride", "padding", "groups")}
            bias = layer.bias is not None
            return nn.Conv2d(c_in * layer.groups, c_out, kernel_shape, bias=bias, **settings)
        case BatchNorm2d():
            return nn.BatchNorm2d(layer.gamma.size, eps=layer.epsilon, momentum=layer.momentum)
        case MaxPool2d():
            return nn.MaxPool2d(layer.kernel_shape, layer.stride)
        case AvgPool2d():
            return nn.AvgPool2d(layer.kernel_shape, layer.stride)
        case GlobalAvgPool2d():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Residual():
            shortcut = None if layer.shortcut is None else peer_of_network(layer.shortcut)
            return Sum(peer_of_network(layer.branch), shortcut)
    return {ReLU: nn.ReLU, Flatten: nn.Flatten}[type(layer)]()


def peer_of_network(network: Network) -> torch.nn.Module:
    peers = ((name, peer_of(layer)) for name, layer in network.layers.items())
    return torch.nn.Sequential(OrderedDict(peers))


def twins(network: Network) -> torch.nn.Module:
    """The peer of a network, with its values, in double precision."""
    peer = peer_of_network(network).double()
    theirs = peer.state_dict()
    for name, value in network.state().items():
        theirs[their_name(name)].copy_(torch.from_numpy(value))
    return peer


def their_name(name: str) -> str:
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def assert_same_parameters(network: Network, peer: torch.nn.Module, *, gradients: bool) -> None:
    theirs = dict(peer.named_parameters())
    for name, parameter in network.named_parameters().items():
        their = theirs[their_name(name)]
        expected = (their.grad if gradients else their.detach()).numpy()
        actual = parameter.grad if gradients else parameter.value
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11, err_msg=name)


def double(build, **options) -> Network:
    return build(rng=np.random.default_rng(0), dtype=np.float64, **options)


# --- layer by layer --------------------------------------------------------------------------


def conv(c_in: int, c_out: int, kernel_shape, **options) -> Conv2d:
    return Conv2d(
        c_in, c_out, kernel_shape, rng=np.random.default_rng(0), dtype=np.float64, **options
    )


LAYERS = {
    "convolution": lambda: conv(3, 4, (3, 2)),
    "padded": lambda: conv(3, 4, 3, padding=1, bias=False),
    "strided": lambda: conv(3, 4, (2, 3), stride=2, padding=2),
    "depthwise": lambda: conv(3, 3, 3, groups=3, padding=1),
    "depthwise strided": lambda: conv(3, 3, (3, 2), groups=3, stride=2),
    "batch normalisation": lambda: BatchNorm2d(3, momentum=0.3, dtype=np.float64),
    "max pooling": lambda: MaxPool2d(2),
    "max pooling, overlapping": lambda: MaxPool2d((3, 2), stride=1),
    "max pooling, with gaps": lambda: MaxPool2d((1, 2), stride=3),
    "mean pooling": lambda: AvgPool2d(2),
    "mean pooling, overlapping": lambda: AvgPool2d((2, 3), stride=2),
    "global mean": GlobalAvgPool2d,
    "residual": lambda: Residual(Network({"conv1": conv(3, 3, 3, padding=1)})),
    "residual, projected": lambda: Residual(
        Network({"conv1": conv(3, 4, 3, stride=2, padding=1)}),
        Network({"conv1": conv(3, 4, 1, stride=2)}),
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_agrees_with_pytorch(name, training):
    network, rng = Network({"layer": LAYERS[name]()}), np.random.default_rng(1)
    peer = twins(network).train(training)
    x = rng.standard_normal((4, 3, 9, 8))
    their_x = torch.from_numpy(x.copy()).requires_grad_()
    y, their_y = network.forward(x, training=training), peer(their_x)
    np.testing.assert_allclose(y, their_y.detach().numpy(), rtol=1e-11, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    their_y.backward(torch.from_numpy(dy))
    dx = network.backward(dy)
    np.testing.assert_allclose(dx, their_x.grad.numpy(), rtol=1e-11, atol=1e-12)
    assert_same_parameters(network, peer, gradients=True)


def test_max_pooling_breaks_ties_as_pytorch_does():
    rng = np.random.default_rng(0)
    x = rng.choice([0.0, 1.0], (4, 3, 9, 9))
    layer, their_x = MaxPool2d(3, stride=2), torch.from_numpy(x).requires_grad_()
    their_y = torch.nn.MaxPool2d(3, 2)(their_x)
    np.testing.assert_array_equal(layer.forward(x), their_y.detach().numpy())
    dy = rng.integers(1, 9, their_y.shape).astype(float)
    their_y.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(layer.backward(dy), their_x.grad.numpy())


def test_max_pooling_passes_nan_as_pytorch_does():
    x = np.random.default_rng(0).choice([0.0, 1.0, np.nan], (4, 3, 9, 9), p=[0.5, 0.45, 0.05])
    expected = torch.nn.MaxPool2d(3, 2)(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(MaxPool2d(3, stride=2).forward(x), expected)


# --- whole steps -----------------------------------------------------------------------------

NETWORKS = {
    "lenet5": (lambda: double(lenet5), (1, 28, 28)),
    "small_vgg": (lambda: double(small_vgg, widths=(3, 4)), (1, 8, 8)),
    "small_resnet": (lambda: double(small_resnet, widths=(3, 4), blocks=2), (1, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_agree_with_pytorch(name):
    build, shape = NETWORKS[name]
    network, rng = build(), np.random.default_rng(1)
    peer = twins(network).train()
    settings = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-3}
    ours, theirs = (
        SGD(network.parameters(), **settings),
        torch.optim.SGD(peer.parameters(), **settings),
    )
    for _ in range(4):
        x, labels = rng.standard_normal((10, *shape)), rng.integers(0, 10, 10)
        loss, dy = softmax_cross_entropy(network.forward(x, training=True), labels)
        network.backward_parameters(dy)
        theirs.zero_grad()
        their_loss = torch.nn.functional.cross_entropy(
            peer(torch.from_numpy(x)), torch.from_numpy(labels)
        )
        their_loss.backward()
        assert loss == pytest.approx(their_loss.item(), rel=1e-10)
        assert_same_parameters(network, peer, gradients=True)
        ours.step()
        theirs.step()
        assert_same_parameters(network, peer, gradients=False)
    for name, buffer in network.named_buffers().items():
        np.testing.assert_allclose(buffer.value, peer.state_dict()[name].numpy(), rtol=1e-10)
    x = rng.standard_normal((5, *shape))
    expected = peer.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(network.forward(x), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "parameter", ["conv1.weight", "norm1.gamma", "block2_1.shortcut.conv1.weight"]
)
def test_comparison_of_parameters_notices_a_planted_error(parameter):
    network = double(small_resnet, widths=(3, 4))
    peer = twins(network)
    network.named_parameters()[parameter].value[0] += 1e-6
    with pytest.raises(AssertionError, match=parameter):
        assert_same_parameters(network, peer, gradients=False)
