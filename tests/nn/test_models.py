"""The built networks have the layers, sizes and bits that their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import (
    Conv2d,
    Flatten,
    Linear,
    ReLU,
    Residual,
    check_gradients,
    lenet5,
    lenet_300_100,
    mlp,
    small_resnet,
    small_vgg,
)


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


# --- convolutional networks ------------------------------------------------------------------

CONVOLUTIONAL = {
    "lenet5": (lenet5, (1, 28, 28)),
    "small_vgg": (small_vgg, (1, 8, 8)),
    "small_resnet": (small_resnet, (1, 8, 8)),
}
EVERY_CNN = pytest.mark.parametrize("name", CONVOLUTIONAL)


def n_parameters(network) -> int:
    return sum(parameter.size for parameter in network.parameters())


@EVERY_CNN
def test_cnn_repeats_with_the_seed(name):
    first, second = (CONVOLUTIONAL[name][0](rng=np.random.default_rng(3)) for _ in range(2))
    assert {k: v.tobytes() for k, v in first.state().items()} == {
        k: v.tobytes() for k, v in second.state().items()
    }


@EVERY_CNN
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cnn_has_one_dtype(name, dtype):
    build, shape = CONVOLUTIONAL[name]
    network = build(rng=np.random.default_rng(0), dtype=dtype)
    arrays = [*network.state().values(), network.forward(np.ones((2, *shape), dtype))]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@EVERY_CNN
def test_cnn_gradients_match_differences(name):
    build, shape = CONVOLUTIONAL[name]
    rng = np.random.default_rng(0)
    network = build(rng=rng, dtype=np.float64)
    check_gradients(network, rng.standard_normal((2, *shape)), rng=rng, directions=1)


@EVERY_CNN
def test_cnn_refuses_a_bare_seed(name):
    with pytest.raises(TypeError, match=rf"{name}: rng must be a numpy.random.Generator, got int"):
        CONVOLUTIONAL[name][0](rng=0)


def test_lenet5_has_the_published_shapes():
    shapes = {k: w.shape for k, w in lenet5(rng=np.random.default_rng(0)).weights().items()}
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "fc1.weight": (500, 800),
        "fc2.weight": (10, 500),
    }


def test_lenet5_has_the_published_number_of_parameters():
    network = lenet5(rng=np.random.default_rng(0))
    assert sum(weight.size for weight in network.weights().values()) == 430_500
    assert n_parameters(network) == 431_080


def test_lenet5_has_no_relu_behind_its_convolutions():
    names = list(lenet5(rng=np.random.default_rng(0)).layers)
    assert names == ["conv1", "pool1", "conv2", "pool2", "flatten", "fc1", "relu1", "fc2"]


def test_small_vgg_names_its_layers_by_stage():
    network = small_vgg(widths=(4, 6), rng=np.random.default_rng(0))
    stages = [
        [f"{kind}{stage}_{i}" for i in (1, 2) for kind in ("conv", "norm", "relu")]
        + [f"pool{stage}"]
        for stage in (1, 2)
    ]
    assert list(network.layers) == [*stages[0], *stages[1], "flatten", "fc"]


# Counted by hand: weights of the convolutions, gamma and beta of each, then the linear layer.
@pytest.mark.parametrize(
    ("image_shape", "options", "n"),
    [
        ((1, 8, 8), {}, 9 * (16 + 16**2 + 16 * 32 + 32**2) + 4 * 48 + 10 * (32 * 2 * 2 + 1)),
        ((1, 28, 28), {"widths": (32,)}, 9 * (32 + 32**2) + 4 * 32 + 10 * (32 * 14 * 14 + 1)),
        ((3, 5, 9), {"widths": (4, 6), "n_classes": 2}, 9 * 88 + 4 * 10 + 2 * (6 * 1 * 2 + 1)),
    ],
)
def test_small_vgg_has_the_counted_parameters(image_shape, options, n):
    assert n_parameters(small_vgg(image_shape, rng=np.random.default_rng(0), **options)) == n


def test_small_vgg_has_the_documented_number_of_parameters():
    assert n_parameters(small_vgg(rng=np.random.default_rng(0))) == 17_754


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 5), (1, 4, 4)])
def test_small_vgg_takes_images_of_many_shapes(shape):
    network = small_vgg(shape, n_classes=7, widths=(2, 3), rng=np.random.default_rng(0))
    assert network.forward(np.ones((2, *shape), np.float32), training=True).shape == (2, 7)


def test_small_resnet_names_its_layers_by_stage_and_block():
    network = small_resnet(widths=(2, 3), blocks=2, rng=np.random.default_rng(0))
    blocks = [
        f"{kind}{stage}_{i}" for stage in (1, 2) for i in (1, 2) for kind in ("block", "relu")
    ]
    assert list(network.layers) == ["conv1", "norm1", "relu1", *blocks, "pool", "fc"]


@pytest.mark.parametrize(
    ("image_shape", "options", "n"),
    [
        ((1, 8, 8), {}, 19_810),
        # 269,722 is what others count for the paper's network with option A; the rest is B's.
        (
            (3, 32, 32),
            {"widths": (16, 32, 64), "blocks": 3},
            269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64),
        ),
        ((1, 28, 28), {"widths": (4,)}, 9 * (4 + 2 * 16) + 3 * 8 + 10 * (4 + 1)),
    ],
)
def test_small_resnet_has_the_counted_parameters(image_shape, options, n):
    assert n_parameters(small_resnet(image_shape, rng=np.random.default_rng(0), **options)) == n


def test_small_resnet_of_the_paper_has_twenty_layers():
    network = small_resnet((3, 32, 32), widths=(16, 32, 64), blocks=3, rng=np.random.default_rng(0))
    on_the_way = [
        name
        for name, layer in network.named_layers().items()
        if isinstance(layer, Conv2d | Linear) and "shortcut" not in name
    ]
    assert len(on_the_way) == 20


def test_small_resnet_leads_around_a_block_that_changes_the_shape():
    network = small_resnet(widths=(4, 4, 6), blocks=2, rng=np.random.default_rng(0))
    around = {
        name: layer.shortcut is not None
        for name, layer in network.layers.items()
        if isinstance(layer, Residual)
    }
    # The second stage keeps the width, but not the image's size.
    assert [name for name, led in around.items() if led] == ["block2_1", "block3_1"]
    assert len(around) == 6


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 5), (1, 1, 1)])
def test_small_resnet_takes_images_of_any_shape(shape):
    network = small_resnet(shape, n_classes=7, widths=(2, 3), rng=np.random.default_rng(0))
    assert network.forward(np.ones((2, *shape), np.float32), training=True).shape == (2, 7)


def test_small_resnet_halves_the_image_in_every_stage_but_the_first():
    network = small_resnet((1, 32, 32), widths=(2, 3, 4), rng=np.random.default_rng(0))
    x, sides = np.ones((1, 1, 32, 32), np.float32), {}
    for name, layer in network.layers.items():
        x = layer.forward(x)
        sides[name] = x.shape[2:]
    blocks = {name: side for name, side in sides.items() if name.startswith("block")}
    assert blocks == {"block1_1": (32, 32), "block2_1": (16, 16), "block3_1": (8, 8)}


@pytest.mark.parametrize("build", [small_vgg, small_resnet])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"image_shape": (8, 8)}, TypeError, r"image_shape must be a tuple of three, got \(8, 8\)"),
        ({"image_shape": (1, 8, 0)}, ValueError, "image_shape must be at least 1, got 0"),
        ({"n_classes": 0}, ValueError, "n_classes must be at least 1, got 0"),
        ({"widths": ()}, ValueError, r"widths must hold a number or more, got \[\]; give the"),
        ({"widths": 16}, TypeError, "widths must be a sequence, got 16; give the channels"),
        ({"widths": (4, 0)}, ValueError, r"widths\[1\] must be at least 1, got 0"),
        ({"dtype": int}, TypeError, "dtype must be float32 or float64, got int"),
    ],
)
def test_small_cnn_rejects_bad_options(build, changed, error, message):
    with pytest.raises(error, match=message):
        build(**{"rng": np.random.default_rng(0), **changed})


def test_small_resnet_rejects_stages_without_blocks():
    with pytest.raises(ValueError, match="small_resnet: blocks must be at least 1, got 0"):
        small_resnet(blocks=0, rng=np.random.default_rng(0))


def test_small_vgg_rejects_images_too_small_for_its_stages():
    message = (
        r"image_shape must have 8 rows and columns or more for 3 stages, got \(1, 9, 7\); give"
    )
    with pytest.raises(ValueError, match=f"small_vgg: {message}"):
        small_vgg((1, 9, 7), widths=(2, 3, 4), rng=np.random.default_rng(0))
