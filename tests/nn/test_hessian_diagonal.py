"""Where OBD's recursion is exact, where it is not, and what each of its steps does."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl import nn
from support.differences import assert_hessian_close, diagonal_differences


def linear(n_in: int, n_out: int, seed: int, **options) -> nn.Linear:
    rng = np.random.default_rng(seed)
    layer = nn.Linear(n_in, n_out, rng=rng, dtype=np.float64, **options)
    for bias in layer.parameters()[1:]:
        bias.value = rng.normal(size=n_out)
    return layer


def conv(c_in: int, c_out: int, kernel: int, seed: int, **options) -> nn.Conv2d:
    rng = np.random.default_rng(seed)
    layer = nn.Conv2d(c_in, c_out, kernel, rng=rng, dtype=np.float64, **options)
    layer.bias.value = rng.normal(size=c_out)
    return layer


def perceptron(*activations: type, seed: int = 0) -> nn.Network:
    """Inputs of shape (batch, 2, 1, 1), three units a hidden layer, and two outputs."""
    layers: dict[str, nn.Layer] = {"flatten": nn.Flatten()}
    sizes = [2, *(3 for _ in activations), 2]
    for i, activation in enumerate(activations):
        layers[f"fc{i}"] = linear(sizes[i], 3, seed + i)
        layers[f"act{i}"] = activation()
    layers["drop"] = nn.Dropout(0.5, rng=np.random.default_rng(0))
    layers["last"] = linear(sizes[-2], 2, seed + 9, bias=False)
    return nn.Network(layers)


X = np.random.default_rng(5).normal(size=(5, 2, 1, 1))
TARGETS = {
    nn.mean_squared_error: np.random.default_rng(6).normal(size=(5, 2)),
    nn.softmax_cross_entropy: np.array([0, 1, 1, 0, 1]),
}
EITHER_LOSS = pytest.mark.parametrize("loss", TARGETS, ids=["squares", "cross-entropy"])
SMOOTH = pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh])


def diagonal_by_differences(network: nn.Network, x, y, loss) -> dict[str, np.ndarray]:
    parameters = network.named_parameters()
    values = [parameter.value for parameter in parameters.values()]
    diagonal = diagonal_differences(lambda: loss(network.forward(x), y)[0], values)
    return nn.as_arrays(diagonal, parameters)


# --- where it is exact ------------------------------------------------------------------------


@SMOOTH
@pytest.mark.parametrize("seed", range(3))
def test_obd_recursion_is_exact_for_one_hidden_layer_and_squares(activation, seed):
    network, y = perceptron(activation, seed=seed), TARGETS[nn.mean_squared_error]
    found = nn.obd_diagonal(network, X, y, nn.mean_squared_error)
    expected = diagonal_by_differences(network, X, y, nn.mean_squared_error)
    assert_hessian_close(nn.as_vector(found), nn.as_vector(expected))


@SMOOTH
@EITHER_LOSS
def test_obd_recursion_is_exact_for_the_last_layer(activation, loss):
    network, y = perceptron(activation, activation), TARGETS[loss]
    found = nn.obd_diagonal(network, X, y, loss)["last.weight"]
    assert_hessian_close(found, diagonal_by_differences(network, X, y, loss)["last.weight"])


@SMOOTH
@pytest.mark.parametrize("layer", ["fc1.weight", "fc1.bias", "last.weight"])
def test_obd_recursion_is_exact_for_the_last_two_layers_under_squares(activation, layer):
    network, y = perceptron(activation, activation), TARGETS[nn.mean_squared_error]
    found = nn.obd_diagonal(network, X, y, nn.mean_squared_error)[layer]
    expected = diagonal_by_differences(network, X, y, nn.mean_squared_error)[layer]
    assert_hessian_close(found, expected)


@SMOOTH
@pytest.mark.parametrize("seed", range(3))
def test_levenberg_marquardt_is_the_gauss_newton_diagonal_of_one_hidden_layer(activation, seed):
    network = perceptron(activation, seed=seed)
    found = nn.levenberg_marquardt_diagonal(network, X, nn.mean_squared_error)
    expected = nn.gauss_newton(network, X, nn.mean_squared_error).diagonal()
    np.testing.assert_allclose(nn.as_vector(found), expected, rtol=1e-12, atol=1e-15)


@SMOOTH
@pytest.mark.parametrize("depth", [1, 2, 3])
@EITHER_LOSS
def test_exact_diagonal_matches_second_differences_at_every_depth(activation, depth, loss):
    network, y = perceptron(*[activation] * depth), TARGETS[loss]
    found = nn.as_vector(nn.exact_diagonal(network, X, y, loss))
    assert_hessian_close(found, nn.as_vector(diagonal_by_differences(network, X, y, loss)))


@EITHER_LOSS
def test_exact_diagonal_of_a_relu_network_is_that_of_gauss_newton(loss):
    network = perceptron(nn.ReLU, nn.ReLU)
    found = nn.as_vector(nn.exact_diagonal(network, X, TARGETS[loss], loss))
    expected = nn.gauss_newton(network, X, loss).diagonal()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


# --- where it is not --------------------------------------------------------------------------

INEXACT = {
    "two hidden layers": ((nn.Tanh, nn.Tanh), nn.mean_squared_error),
    "cross-entropy": ((nn.Tanh,), nn.softmax_cross_entropy),
}


@pytest.mark.parametrize(("activations", "loss"), INEXACT.values(), ids=INEXACT)
def test_obd_recursion_drops_something_below_the_exact_layers(activations, loss):
    network, y = perceptron(*activations), TARGETS[loss]
    found = nn.obd_diagonal(network, X, y, loss)["fc0.weight"]
    exact = nn.exact_diagonal(network, X, y, loss)["fc0.weight"]
    assert np.abs(found - exact).max() > 0.1 * np.abs(exact).max()


def test_obd_recursion_drops_what_two_places_of_a_kernel_share():
    network = nn.Network({"conv": conv(1, 1, 1, 0), "flatten": nn.Flatten(), "fc": linear(4, 1, 1)})
    x = np.ones((1, 1, 2, 2))
    network.layers["fc"].weight.value = np.array([[1.0, 1.0, 1.0, 1.0]])
    found = nn.obd_diagonal(network, x, np.zeros((1, 1)), nn.mean_squared_error)
    whole = nn.hessian(network, x, np.zeros((1, 1)), nn.mean_squared_error)
    assert found["conv.weight"].item() == 2 * 4  # four places of slope 1
    assert whole[0, 0] == pytest.approx(2 * 4**2)  # one weight that moves the output by 4


# --- its steps --------------------------------------------------------------------------------


@EITHER_LOSS
def test_levenberg_marquardt_is_never_negative(loss):
    found = nn.levenberg_marquardt_diagonal(perceptron(nn.Tanh, nn.Sigmoid), X, loss)
    assert nn.as_vector(found).min() >= 0


def test_obd_diagonal_can_be_negative():
    network = nn.Network({"fc": linear(2, 1, 0), "tanh": nn.Tanh()})
    y = np.where(network.forward(X[:, :, 0, 0]) > 0, -9.0, 9.0)  # on the side where tanh bends away
    found = nn.obd_diagonal(network, X[:, :, 0, 0], y, nn.mean_squared_error)
    assert nn.as_vector(found).max() < -0.1


@EITHER_LOSS
def test_both_forms_agree_where_nothing_bends(loss):
    network = perceptron(nn.ReLU, nn.ReLU)
    both = (
        nn.obd_diagonal(network, X, TARGETS[loss], loss),
        nn.levenberg_marquardt_diagonal(network, X, loss),
    )
    np.testing.assert_array_equal(*map(nn.as_vector, both))


IMAGES = np.random.default_rng(4).normal(size=(3, 2, 4, 4))
# Chains in which a place of one layer reaches one unit of the next convolution alone: exact.
ONE_PATH = {
    "kernel as large as the image": lambda: {"conv": conv(2, 3, 4, 0), "tanh": nn.Tanh()},
    "max pooling": lambda: {"conv": conv(2, 3, 4, 0), "pool": nn.MaxPool2d(1)},
    "mean pooling": lambda: {"pool": nn.AvgPool2d(2), "conv": conv(2, 3, 2, 0)},
    "global mean": lambda: {"conv": conv(2, 3, 4, 0), "mean": nn.GlobalAvgPool2d()},
    "two kernels": lambda: {
        "conv1": conv(2, 2, 4, 0), "sigmoid": nn.Sigmoid(), "conv2": conv(2, 3, 1, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("make", ONE_PATH.values(), ids=ONE_PATH)
def test_obd_recursion_through_convolutions_is_exact_where_places_share_nothing(make):
    network = nn.Network(make() | {"flatten": nn.Flatten()})
    y = np.random.default_rng(6).normal(size=(3, 3))
    found = nn.obd_diagonal(network, IMAGES, y, nn.mean_squared_error)
    expected = diagonal_by_differences(network, IMAGES, y, nn.mean_squared_error)
    assert_hessian_close(nn.as_vector(found), nn.as_vector(expected))


CHAIN = {
    "convolution": lambda: conv(3, 2, 3, 7, padding=1, stride=2),
    "mean pooling": lambda: nn.AvgPool2d((2, 3), stride=1),
    "max pooling": lambda: nn.MaxPool2d(2),
    "global mean": nn.GlobalAvgPool2d,
}


def sum_of_squared_paths(network: nn.Network, x: np.ndarray) -> np.ndarray:
    """Each output's slope by the first convolution's outputs, squared: the recursion, undone."""
    first = network.layers["first"]
    y = network.forward(x)
    total = np.zeros(first.forward(x).shape)
    for k in np.ndindex(y.shape[1:]):
        network.forward(x)
        dy = np.zeros_like(y)
        dy[(slice(None), *k)] = 1
        for layer in list(network.layers.values())[:0:-1]:
            dy = layer.backward(dy)
        total += dy**2
    return total


@pytest.mark.parametrize("make", CHAIN.values(), ids=CHAIN)
def test_curvature_flows_back_through_a_layer_as_squared_slopes(make):
    network = nn.Network({"first": conv(2, 3, 1, 0), "layer": make(), "flatten": nn.Flatten()})
    squared = sum_of_squared_paths(network, IMAGES)
    n_outputs = network.forward(IMAGES).shape[1]
    found = nn.levenberg_marquardt_diagonal(network, IMAGES, nn.mean_squared_error)["first.bias"]
    expected = 2 / n_outputs / len(IMAGES) * squared.sum(axis=(0, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_diagonal_of_a_mean_loss_is_the_mean_over_examples():
    network, y = perceptron(nn.Tanh), TARGETS[nn.mean_squared_error]
    whole = nn.as_vector(nn.obd_diagonal(network, X, y, nn.mean_squared_error))
    each = [
        nn.as_vector(nn.obd_diagonal(network, X[i : i + 1], y[i : i + 1], nn.mean_squared_error))
        for i in range(len(X))
    ]
    np.testing.assert_allclose(whole, np.mean(each, axis=0), rtol=0, atol=1e-14)


def test_diagonal_has_an_entry_for_every_parameter_in_order():
    network = nn.mlp([6, 5, 4, 3], rng=np.random.default_rng(0))
    found = nn.levenberg_marquardt_diagonal(network, np.ones((1, 6), np.float32))
    parameters = network.named_parameters()
    assert list(found) == list(parameters)
    assert all(found[name].shape == parameters[name].shape for name in found)
    assert {h.dtype for h in found.values()} == {np.dtype(np.float32)}


# --- what it refuses --------------------------------------------------------------------------

DIAGONALS = {
    "obd_diagonal": lambda network, x: nn.obd_diagonal(network, x, np.zeros(len(x), int)),
    "levenberg_marquardt_diagonal": nn.levenberg_marquardt_diagonal,
    "exact_diagonal": lambda network, x: nn.exact_diagonal(network, x, np.zeros(len(x), int)),
}
EVERY_DIAGONAL = pytest.mark.parametrize("name", DIAGONALS)


@EVERY_DIAGONAL
@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(2, dtype=np.float64),
        nn.Residual(nn.Network({"relu": nn.ReLU()})),
        conv(2, 2, 1, 0, groups=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_diagonal_refuses_a_layer_that_it_has_no_rule_for(name, layer):
    network = nn.Network({"other": layer, "flatten": nn.Flatten()})
    message = rf"^{name}: each layer must be one of .*, got {type(layer).__name__}.* in 'other'; av"
    with pytest.raises(TypeError, match=message):
        DIAGONALS[name](network, X)


def test_exact_diagonal_refuses_a_convolution():
    network = nn.Network({"conv": conv(2, 2, 1, 0), "flatten": nn.Flatten()})
    with pytest.raises(
        TypeError, match=r"exact_diagonal: each layer must be .*, got Conv2d in 'conv"
    ):
        DIAGONALS["exact_diagonal"](network, X)


@EVERY_DIAGONAL
def test_diagonal_refuses_an_empty_batch(name):
    with pytest.raises(ValueError, match=f"{name}: x must hold an example"):
        DIAGONALS[name](perceptron(nn.Tanh), X[:0])


@EVERY_DIAGONAL
def test_diagonal_refuses_outputs_that_are_images(name):
    with pytest.raises(ValueError, match=f"{name}: the network's output must have 2 axes"):
        DIAGONALS[name](nn.Network({"relu": nn.ReLU()}), X)
