"""The networks that the book's experiments train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_count, check_rng
from refimpl.nn.convolution import Conv2d
from refimpl.nn.layer import Layer
from refimpl.nn.layers import Flatten, Linear, ReLU
from refimpl.nn.network import Network
from refimpl.nn.normalization import BatchNorm2d
from refimpl.nn.pooling import GlobalAvgPool2d, MaxPool2d
from refimpl.nn.residual import Residual


def mlp(sizes: Sequence[int], *, rng: np.random.Generator, dtype: type = np.float32) -> Network:
    """Build a multi-layer perceptron: linear layers with a ReLU between two of them.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of each hidden layer's units, and of outputs; two or more.
    rng : numpy.random.Generator
        Draws the weights, layer by layer.
    dtype : dtype
        float32, or float64 for gradient checks.

    Returns
    -------
    Network
        With layers ``flatten, fc1, relu1, fc2, ...``; the last is linear, so the outputs
        are logits. Inputs may be images, ``(batch, channels, height, width)``.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> network = mlp([64, 32, 10], rng=np.random.default_rng(0))
    >>> list(network.layers)
    ['flatten', 'fc1', 'relu1', 'fc2']
    """
    check_rng("mlp", rng)
    if not isinstance(sizes, Iterable):
        advice = "give the inputs and the outputs, as in [64, 10]"
        raise bad_argument("mlp", "sizes", "be a sequence", repr(sizes), advice, kind=TypeError)
    sizes = list(sizes)
    if len(sizes) < 2:
        advice = "give the inputs and the outputs, as in [64, 10]"
        raise bad_argument("mlp", "sizes", "have 2 entries or more", sizes, advice)
    for i, size in enumerate(sizes):
        check_count("mlp", f"sizes[{i}]", size, 1)
    layers: dict[str, Layer] = {"flatten": Flatten()}
    for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{i}"] = Linear(n_in, n_out, rng=rng, dtype=dtype)
        layers[f"relu{i}"] = ReLU()
    layers.popitem()  # no ReLU after the last
    return Network(layers)


def lenet_300_100(*, rng: np.random.Generator, dtype: type = np.float32) -> Network:
    """Build LeNet-300-100, the fully connected network of the pruning literature.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the weights.
    dtype : dtype
        float32, or float64 for gradient checks.

    Returns
    -------
    Network
        784 inputs, hidden layers of 300 and 100 units, 10 outputs: 266,200 weights and 410
        biases.

    Notes
    -----
    ReLU replaces the sigmoidal units of the original.

    References
    ----------
    LeCun et al., 1998, "Gradient-based learning applied to document recognition".
    Han et al., 2015, "Learning both weights and connections", prune it 12-fold.

    Examples
    --------
    >>> import numpy as np
    >>> network = lenet_300_100(rng=np.random.default_rng(0))
    >>> sum(weight.size for weight in network.weights().values())
    266200
    """
    return mlp([784, 300, 100, 10], rng=rng, dtype=dtype)


def lenet5(*, rng: np.random.Generator, dtype: type = np.float32) -> Network:
    """Build LeNet-5 as Caffe had it, the convolutional network of the pruning literature.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the weights, layer by layer.
    dtype : dtype
        float32, or float64 for gradient checks.

    Returns
    -------
    Network
        For images of shape (batch, 1, 28, 28): two 5x5 convolutions with 20 and 50 kernels,
        each followed by 2x2 max pooling, 500 hidden units with ReLU, 10 outputs: 430,500 weights
        and 580 biases.

    Notes
    -----
    There is no ReLU behind the convolutions: the largest of four is what bends here.

    References
    ----------
    LeCun et al., 1998, "Gradient-based learning applied to document recognition", have 6 and 16
    kernels. The widths here are those of Caffe's example, which Han et al., 2015, "Learning
    both weights and connections", prune 12-fold.

    Examples
    --------
    >>> import numpy as np
    >>> network = lenet5(rng=np.random.default_rng(0))
    >>> sum(weight.size for weight in network.weights().values())
    430500
    """
    check_rng("lenet5", rng)
    return Network(
        {
            "conv1": Conv2d(1, 20, 5, rng=rng, dtype=dtype),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(20, 50, 5, rng=rng, dtype=dtype),
            "pool2": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": Linear(800, 500, rng=rng, dtype=dtype),
            "relu1": ReLU(),
            "fc2": Linear(500, 10, rng=rng, dtype=dtype),
        }
    )


def small_vgg(
    image_shape: tuple[int, int, int] = (1, 8, 8),
    *,
    n_classes: int = 10,
    widths: Sequence[int] = (16, 32),
    rng: np.random.Generator,
    dtype: type = np.float32,
) -> Network:
    """Build a small VGG: stages of two 3x3 convolutions, and pooling behind each stage.

    Parameters
    ----------
    image_shape : tuple of int
        ``(channels, height, width)``; each stage halves height and width, rounding down.
    n_classes : int
        Number of outputs, at least 1.
    widths : sequence of int
        Channels of both convolutions of each stage.
    rng : numpy.random.Generator
        Draws the weights, layer by layer.
    dtype : dtype
        float32, or float64 for gradient checks.

    Returns
    -------
    Network
        With layers ``conv1_1, norm1_1, relu1_1, conv1_2, norm1_2, relu1_2, pool1``, the same for
        each further stage, ``flatten, fc``. By default 17,754 parameters.

    Raises
    ------
    TypeError, ValueError
        If a number is no count of at least 1, or the images are too small for the stages.

    Notes
    -----
    Batch normalisation stands behind each convolution and shifts in place of its bias.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    ICLR 2015. Differs from the paper in depth and width, in the normalisation, which came later,
    and in one linear layer instead of three.

    Examples
    --------
    >>> import numpy as np
    >>> network = small_vgg(rng=np.random.default_rng(0))
    >>> network.forward(np.zeros((5, 1, 8, 8), np.float32)).shape
    (5, 10)
    """
    where = "small_vgg"
    channels, height, width = _image_shape(where, image_shape)
    widths = _widths(where, widths)
    check_count(where, "n_classes", n_classes, 1)
    check_rng(where, rng)
    n_stages = len(widths)
    if min(height, width) < 2**n_stages:
        requirement = f"have {2**n_stages} rows and columns or more for {n_stages} stages"
        raise bad_argument(where, "image_shape", requirement, image_shape, "give fewer widths")
    layers: dict[str, Layer] = {}
    for stage, (before, c) in enumerate(pairwise([channels, *widths]), start=1):
        for i, c_in in enumerate((before, c), start=1):
            layers |= _conv_norm(f"{stage}_{i}", c_in, c, 3, rng=rng, dtype=dtype)
            layers[f"relu{stage}_{i}"] = ReLU()
        layers[f"pool{stage}"] = MaxPool2d(2)
    layers["flatten"] = Flatten()
    n_features = widths[-1] * (height >> n_stages) * (width >> n_stages)
    layers["fc"] = Linear(n_features, n_classes, rng=rng, dtype=dtype)
    return Network(layers)


def small_resnet(
    image_shape: tuple[int, int, int] = (1, 8, 8),
    *,
    n_classes: int = 10,
    widths: Sequence[int] = (8, 16, 32),
    blocks: int = 1,
    rng: np.random.Generator,
    dtype: type = np.float32,
) -> Network:
    """Build a small residual network: stages of blocks that add to what they are given.

    Parameters
    ----------
    image_shape : tuple of int
        ``(channels, height, width)``, any size.
    n_classes : int
        Number of outputs, at least 1.
    widths : sequence of int
        Channels of each stage. Every stage but the first begins with a stride of 2.
    blocks : int
        Blocks in each stage, at least 1.
    rng : numpy.random.Generator
        Draws the weights, layer by layer.
    dtype : dtype
        float32, or float64 for gradient checks.

    Returns
    -------
    Network
        With layers ``conv1, norm1, relu1``, then ``block1_1, relu1_1`` and so on for each stage
        and block, ``pool, fc``. By default 19,810 parameters.

    Raises
    ------
    TypeError, ValueError
        If a number is no count of at least 1.

    Notes
    -----
    ``widths=(16, 32, 64)`` and ``blocks=3`` make the 20-layer network of the paper.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    Differs from the paper in that a 1x1 convolution (their option B) leads around a block that
    changes the shape; for CIFAR-10 they pad with zero channels (option A).

    Examples
    --------
    >>> import numpy as np
    >>> network = small_resnet((3, 32, 32), rng=np.random.default_rng(0))
    >>> network.forward(np.zeros((5, 3, 32, 32), np.float32)).shape
    (5, 10)
    """
    where = "small_resnet"
    channels = _image_shape(where, image_shape)[0]
    widths = _widths(where, widths)
    check_count(where, "n_classes", n_classes, 1)
    check_count(where, "blocks", blocks, 1)
    check_rng(where, rng)
    layers = _conv_norm("1", channels, widths[0], 3, rng=rng, dtype=dtype) | {"relu1": ReLU()}
    for stage, (before, c) in enumerate(pairwise([widths[0], *widths]), start=1):
        for i in range(1, blocks + 1):
            c_in, stride = (before, 1 if stage == 1 else 2) if i == 1 else (c, 1)
            layers[f"block{stage}_{i}"] = _block(c_in, c, stride, rng=rng, dtype=dtype)
            layers[f"relu{stage}_{i}"] = ReLU()
    layers["pool"] = GlobalAvgPool2d()
    layers["fc"] = Linear(widths[-1], n_classes, rng=rng, dtype=dtype)
    return Network(layers)


def _block(
    c_in: int, c_out: int, stride: int, *, rng: np.random.Generator, dtype: type
) -> Residual:
    """Two 3x3 convolutions, and a 1x1 convolution around them where they change the shape."""
    settings: dict[str, Any] = {"rng": rng, "dtype": dtype}
    branch = _conv_norm("1", c_in, c_out, 3, stride=stride, **settings) | {"relu1": ReLU()}
    branch |= _conv_norm("2", c_out, c_out, 3, **settings)
    if (c_in, stride) == (c_out, 1):
        return Residual(Network(branch))
    shortcut = _conv_norm("1", c_in, c_out, 1, stride=stride, **settings)
    return Residual(Network(branch), Network(shortcut))


def _conv_norm(
    number: str,
    c_in: int,
    c_out: int,
    side: int,
    *,
    stride: int = 1,
    rng: np.random.Generator,
    dtype: type,
) -> dict[str, Layer]:
    """A convolution that keeps the image's size at stride 1, without bias, and batch norm."""
    conv = Conv2d(
        c_in, c_out, side, stride=stride, padding=side // 2, rng=rng, dtype=dtype, bias=False
    )
    return {f"conv{number}": conv, f"norm{number}": BatchNorm2d(c_out, dtype=dtype)}


def _image_shape(where: str, image_shape: Any) -> tuple[int, int, int]:
    """Check (channels, height, width)."""
    if not isinstance(image_shape, tuple) or len(image_shape) != 3:
        actual, advice = repr(image_shape), "give (channels, height, width)"
        raise bad_argument(
            where, "image_shape", "be a tuple of three", actual, advice, kind=TypeError
        )
    for size in image_shape:
        check_count(where, "image_shape", size, 1)
    return image_shape


def _widths(where: str, widths: Any) -> list[int]:
    """Check the channels of each stage."""
    advice = "give the channels of each stage, as in (16, 32)"
    if not isinstance(widths, Iterable):
        raise bad_argument(where, "widths", "be a sequence", repr(widths), advice, kind=TypeError)
    widths = list(widths)
    if not widths:
        raise bad_argument(where, "widths", "hold a number or more", widths, advice)
    for i, width in enumerate(widths):
        check_count(where, f"widths[{i}]", width, 1)
    return widths
