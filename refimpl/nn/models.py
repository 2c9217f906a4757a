"""The networks that the book's experiments train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from refimpl.arrays import bad_argument, check_count, check_rng
from refimpl.nn.convolution import Conv2d
from refimpl.nn.layer import Layer
from refimpl.nn.layers import Flatten, Linear, ReLU
from refimpl.nn.network import Network
from refimpl.nn.pooling import MaxPool2d


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
