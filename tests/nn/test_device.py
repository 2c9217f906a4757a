"""The engine runs on arrays that are not NumPy's, and computes on them what it does on NumPy's.

On a machine with CuPy and a GPU these are CuPy's arrays. Everywhere, they are those of
`support.device_arrays`, which refuse what CuPy refuses; there the numbers are equal bit for bit.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest

from refimpl import nn
from refimpl.kernels import layer_kernels
from refimpl.masks import unstructured
from refimpl.nn.example_gradients import gradients_one_by_one
from refimpl.nn.layers import Linear
from refimpl.saliency import magnitude
from support.device_arrays import DeviceModule


def stand_in(monkeypatch):
    module = DeviceModule("cupy")
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def real_cupy(_):
    cupy = pytest.importorskip("cupy")
    if not cupy.is_available():
        pytest.skip("CuPy finds no GPU")
    return cupy


@pytest.fixture(params=[stand_in, real_cupy], ids=["stand-in", "CuPy"])
def xp(request, monkeypatch):
    """A module of arrays that NumPy cannot touch; on NumPy's, the engine runs the clear code."""
    monkeypatch.setattr(layer_kernels.config, "DISABLE_JIT", True)
    return request.param(monkeypatch)


def moved(network: nn.Network, xp) -> nn.Network:
    """The network, with its parameters and buffers on the device."""
    for layer in network.named_layers().values():
        for name, held in vars(layer).items():
            if isinstance(held, nn.Parameter | nn.Buffer):
                setattr(layer, name, type(held)(xp.asarray(held.value)))
    return network


def assert_same(actual, expected: np.ndarray, xp) -> None:
    assert isinstance(actual, xp.ndarray)
    if isinstance(xp, DeviceModule):
        np.testing.assert_array_equal(xp.asnumpy(actual), expected, strict=True)
    np.testing.assert_allclose(xp.asnumpy(actual), expected, rtol=1e-9, atol=1e-11)


def conv(c_in: int, c_out: int, kernel_shape, **options) -> nn.Conv2d:
    return nn.Conv2d(
        c_in, c_out, kernel_shape, rng=np.random.default_rng(0), dtype=np.float64, **options
    )


LAYERS = {
    "linear": lambda: nn.Network(
        {
            "flatten": nn.Flatten(),
            "fc": Linear(210, 4, rng=np.random.default_rng(0), dtype=np.float64),
        }
    ),
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "flatten": nn.Flatten,
    "dropout": lambda: nn.Dropout(0.5, rng=np.random.default_rng(0)),
    "convolution": lambda: conv(3, 4, (3, 2), stride=2, padding=1),
    "without padding": lambda: conv(3, 4, 3, bias=False),
    "depthwise": lambda: conv(3, 3, 3, groups=3, padding=1),
    "max pooling": lambda: nn.MaxPool2d((3, 2), stride=2),
    "mean pooling": lambda: nn.AvgPool2d(2),
    "global mean": nn.GlobalAvgPool2d,
    "batch normalisation": lambda: nn.BatchNorm2d(3, dtype=np.float64),
    "residual": lambda: nn.Residual(nn.Network({"conv1": conv(3, 3, 3, padding=1)})),
}


def as_network(layer: nn.Layer | nn.Network) -> nn.Network:
    return layer if isinstance(layer, nn.Network) else nn.Network({"layer": layer})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_computes_the_same_on_the_device(name, training, xp):
    here, there = as_network(LAYERS[name]()), moved(as_network(LAYERS[name]()), xp)
    x = np.random.default_rng(1).standard_normal((4, 3, 7, 10))
    y = here.forward(x, training=training)
    assert_same(there.forward(xp.asarray(x), training=training), y, xp)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    assert_same(there.backward(xp.asarray(dy)), here.backward(dy), xp)
    for key, parameter in here.named_parameters().items():
        assert_same(there.named_parameters()[key].grad, parameter.grad, xp)
    for key, buffer in here.named_buffers().items():
        assert_same(there.named_buffers()[key].value, buffer.value, xp)


NETWORKS = {
    "mlp": partial(nn.mlp, [64, 8, 10]),
    "small_vgg": partial(nn.small_vgg, widths=(3, 4)),
    "small_resnet": partial(nn.small_resnet, widths=(3, 4)),
}
OPTIMIZERS = {
    "SGD": partial(nn.SGD, lr=0.05),
    "momentum": partial(nn.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": partial(nn.Adam, lr=0.01, weight_decay=0.01),
}


def trained(network: nn.Network, optimizer, xp) -> nn.Evaluation:
    """Prune half of every layer, train for two epochs and evaluate, with arrays of `xp`."""
    rng = np.random.default_rng(3)
    x = xp.asarray(rng.standard_normal((30, 1, 8, 8)))
    labels = xp.asarray(rng.integers(0, 10, 30))
    for weight in network.weights().values():
        weight.mask = unstructured(magnitude(weight.value), 0.5)
    optimizer = OPTIMIZERS[optimizer](network.parameters())
    rng = np.random.default_rng(4)
    nn.fit(
        network, optimizer, x, labels, epochs=2, batch_size=8, rng=rng,
        validation=(x, labels), max_gradient_norm=1.0,
        loss=partial(nn.smoothed_cross_entropy, smoothing=0.1),
    )  # fmt: skip
    return nn.evaluate(network, x, labels)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_under_masks_is_the_same_on_the_device(name, optimizer, xp):
    here, there = (NETWORKS[name](rng=np.random.default_rng(0), dtype=np.float64) for _ in range(2))
    expected = trained(here, optimizer, np)
    assert trained(moved(there, xp), optimizer, xp) == pytest.approx(expected, rel=1e-8)
    for key, value in here.state().items():
        assert_same(there.state()[key], value, xp)


def test_regression_loss_is_the_same_on_the_device(xp):
    prediction, target = np.random.default_rng(0).standard_normal((2, 4, 3))
    loss, gradient = nn.mean_squared_error(prediction, target)
    there = nn.mean_squared_error(xp.asarray(prediction), xp.asarray(target))
    assert there[0] == pytest.approx(loss, rel=1e-14)
    assert_same(there[1], gradient, xp)


def bent() -> nn.Network:
    fc = Linear(210, 3, rng=np.random.default_rng(0), dtype=np.float64)
    last = Linear(3, 2, rng=np.random.default_rng(1), dtype=np.float64)
    return nn.Network({"flatten": nn.Flatten(), "fc": fc, "tanh": nn.Tanh(), "last": last})


SECOND_ORDER = {
    "example gradients": lambda net, x, y: nn.example_gradients(net, x, y)["fc.weight"],
    "one by one": lambda net, x, _: gradients_one_by_one(net, x, net.forward(x))["fc.weight"],
    "Jacobian": lambda net, x, _: nn.output_gradients(net, x)["fc.weight"],
    "Hessian": lambda net, x, y: nn.hessian_vector_product(
        net, x, y, {"fc.bias": x[0, 0, 0, :3]}
    )["last.weight"],
    "Gauss-Newton": lambda net, x, _: nn.gauss_newton(net, x),
    "inverse Fisher": lambda net, x, y: nn.inverse_fisher(
        nn.as_vector(nn.example_gradients(net, x, y), leading=1), 1.0
    ),
    "OBD": lambda net, x, y: nn.obd_diagonal(net, x, y)["fc.weight"],
    "Levenberg-Marquardt": lambda net, x, _: nn.levenberg_marquardt_diagonal(net, x)["fc.weight"],
    "exact diagonal": lambda net, x, y: nn.exact_diagonal(net, x, y)["fc.weight"],
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_is_the_same_on_the_device(name, xp):
    x, y = np.random.default_rng(3).standard_normal((4, 3, 7, 10)), np.array([0, 1, 1, 0])
    expected = SECOND_ORDER[name](bent(), x, y)
    actual = SECOND_ORDER[name](moved(bent(), xp), xp.asarray(x), xp.asarray(y))
    assert_same(actual, expected, xp)


def test_network_on_the_device_is_saved_and_loaded(tmp_path, xp):
    build = partial(nn.small_resnet, widths=(2, 3))
    saved, loaded = (moved(build(rng=np.random.default_rng(seed)), xp) for seed in (0, 1))
    weight = saved.named_parameters()["block1_1.branch.conv1.weight"]
    weight.mask = unstructured(magnitude(weight.value), 0.5)
    nn.save(saved, tmp_path / "net.npz")
    nn.load(loaded, tmp_path / "net.npz")
    for key, value in saved.state().items():
        assert_same(loaded.state()[key], xp.asnumpy(value), xp)


@pytest.mark.parametrize("side", ["input", "weight"])
def test_layer_refuses_a_mix_of_devices(side, xp):
    network = nn.Network({"conv": conv(3, 4, 3)})
    x = np.ones((1, 3, 5, 5))
    network, x = (network, xp.asarray(x)) if side == "input" else (moved(network, xp), x)
    with pytest.raises(TypeError, match="xp_of: arrays must all live on one device, got a mix"):
        network.forward(x)
