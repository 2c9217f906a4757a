"""A residual block adds its branch to its shortcut, forward and back."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.nn import BatchNorm2d, Conv2d, Linear, Network, ReLU, Residual, check_gradients


def conv(c_in: int, c_out: int, kernel_shape: int, *, seed: int, **options) -> Conv2d:
    return Conv2d(
        c_in, c_out, kernel_shape, rng=np.random.default_rng(seed), dtype=np.float64, **options
    )


def branch(c_in: int = 2, c_out: int = 2, stride: int = 1) -> Network:
    return Network(
        {
            "conv1": conv(c_in, c_out, 3, stride=stride, padding=1, seed=0),
            "norm1": BatchNorm2d(c_out, dtype=np.float64),
            "relu1": ReLU(),
            "conv2": conv(c_out, c_out, 3, padding=1, seed=1),
        }
    )


def projection(c_in: int = 2, c_out: int = 3) -> Network:
    return Network({"conv1": conv(c_in, c_out, 1, stride=2, seed=2)})


BLOCKS = {
    "identity": lambda: Residual(branch()),
    "projection": lambda: Residual(branch(2, 3, 2), projection()),
    "nested": lambda: Residual(
        Network({"inner": Residual(branch()), "conv1": conv(2, 2, 1, seed=3)})
    ),
}
EVERY_BLOCK = pytest.mark.parametrize("name", BLOCKS)


def image_batch() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((3, 2, 4, 6))


@EVERY_BLOCK
def test_residual_gradients_match_differences(name):
    check_gradients(BLOCKS[name](), image_batch(), rng=np.random.default_rng(0))


@pytest.mark.parametrize("training", [False, True])
def test_residual_adds_the_input_to_the_branch(training):
    block, alone, x = Residual(branch()), branch(), image_batch()
    y = block.forward(x, training=training)
    np.testing.assert_array_equal(y, alone.forward(x, training=training) + x)
    dy = np.ones_like(y)
    np.testing.assert_array_equal(block.backward(dy), alone.backward(dy) + dy)


def test_residual_adds_the_shortcut_to_the_branch():
    block, x = Residual(branch(2, 3, 2), projection()), image_batch()
    alone, around = branch(2, 3, 2), projection()
    y = block.forward(x)
    np.testing.assert_array_equal(y, alone.forward(x) + around.forward(x))
    dy = np.ones_like(y)
    np.testing.assert_array_equal(block.backward(dy), alone.backward(dy) + around.backward(dy))


def test_residual_with_a_silent_branch_changes_nothing():
    block, x = Residual(branch()), image_batch()
    for parameter in block.branch.layers["conv2"].parameters():
        parameter.value = np.zeros(parameter.shape)
    np.testing.assert_array_equal(block.forward(x), x)
    np.testing.assert_array_equal(block.backward(x), x)


def test_residual_names_what_it_holds_from_the_outside_in():
    network = Network({"block1": Residual(branch(2, 3, 2), projection()), "relu1": ReLU()})
    assert list(network.named_parameters()) == [
        "block1.branch.conv1.weight",
        "block1.branch.conv1.bias",
        "block1.branch.norm1.gamma",
        "block1.branch.norm1.beta",
        "block1.branch.conv2.weight",
        "block1.branch.conv2.bias",
        "block1.shortcut.conv1.weight",
        "block1.shortcut.conv1.bias",
    ]


@EVERY_BLOCK
def test_residual_hands_out_the_parameters_themselves(name):
    block = BLOCKS[name]()
    block.forward(image_batch())
    block.backward(np.ones_like(block.forward(image_batch())))
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_residual_names_the_buffers_within():
    names = list(Residual(branch()).named_buffers())
    assert names == ["branch.norm1.running_mean", "branch.norm1.running_var"]


@pytest.mark.parametrize("side", ["branch", "shortcut"])
def test_residual_tells_both_sides_that_it_trains(side):
    sides = {"branch": branch(), "shortcut": branch()}
    Residual(**sides).forward(image_batch(), training=True)
    assert sides[side].layers["norm1"].running_mean.value.any()


def test_residual_takes_any_layers():
    linear = Linear(3, 3, rng=np.random.default_rng(0), dtype=np.float64)
    rng = np.random.default_rng(1)
    check_gradients(Residual(Network({"fc1": linear})), rng.standard_normal((4, 3)), rng=rng)


def test_residual_refuses_a_branch_of_another_shape():
    message = (
        r"Residual.forward: branch's output must have the shape of the shortcut's, got "
        r"\(3, 3, 2, 3\) beside \(3, 2, 4, 6\); give a shortcut"
    )
    with pytest.raises(ValueError, match=message):
        Residual(branch(2, 3, 2)).forward(image_batch())


@pytest.mark.parametrize(
    ("arguments", "argument"), [((ReLU(),), "branch"), ((branch(), ReLU()), "shortcut")]
)
def test_residual_refuses_what_is_no_network(arguments, argument):
    message = f"Residual: {argument} must be a Network, got ReLU; pass the Network itself"
    with pytest.raises(TypeError, match=message):
        Residual(*arguments)


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: Network({"inner": Residual(net)})])
def test_residual_blocks_of_a_network_share_no_layer(wrap):
    shared = branch()
    with pytest.raises(ValueError, match="Network: layers must differ from each other, got 4 twi"):
        Network({"block1": Residual(wrap(shared)), "block2": Residual(wrap(shared))})
