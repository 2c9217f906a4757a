"""What does a network cost: operations and parameters, layer by layer?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, check_count, xp_of
from refimpl.nn import Conv2d, Layer, Linear, Network, Residual, SparseConv2d, SparseLinear
from refimpl.nn.network import check_network


class LayerCost(NamedTuple):
    """What one layer costs for one example.

    Attributes
    ----------
    flops : int
        Two for each multiplication of a weight with an input, in the forward pass.
    parameters : int
        Entries of everything that is trained, biases included.
    """

    flops: int
    parameters: int


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one example.

    Attributes
    ----------
    layers : dict of str to LayerCost
        By the layer's name, such as ``"block1.branch.conv1"``.
    """

    layers: dict[str, LayerCost]

    @property
    def flops(self) -> int:
        """Of all layers."""
        return sum(layer.flops for layer in self.layers.values())

    @property
    def parameters(self) -> int:
        """Of all layers."""
        return sum(layer.parameters for layer in self.layers.values())


def network_cost(network: Network, input_shape: Sequence[int]) -> NetworkCost:
    """Count the operations and the parameters of a network, for one example.

    Parameters
    ----------
    network : Network
        Is read, not changed.
    input_shape : sequence of int
        Shape of one example: ``(channels, height, width)``, or ``(n_features,)``.

    Returns
    -------
    NetworkCost
        Exact counts.

    Raises
    ------
    TypeError, ValueError
        If `input_shape` is no shape, the network does not take such examples, or a layer with a
        weight is of a kind whose operations are not known.

    Notes
    -----
    Each weight of a convolution is multiplied and added once for each pixel of its output, each
    weight of a linear layer once: ``2 * weights * pixels``. By custom only these are counted, and
    not the biases, normalisations, activations and pools, which take of the order of one
    operation for each number that passes.

    Zeros count like all other weights in a dense layer, masked or not, because they are
    multiplied like all others. A sparse layer counts what it stores.

    The network is copied, and a blank example run through it, to see every shape.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> cost = network_cost(lenet5(rng=np.random.default_rng(0)), (1, 28, 28))
    >>> cost.flops, cost.parameters
    (4586000, 431080)
    >>> cost.layers["conv2"]
    LayerCost(flops=3200000, parameters=25050)
    """
    check_network("network_cost", network)
    blank = _blank(network, input_shape)
    return NetworkCost(dict(_costs(copy.deepcopy(network), "", blank)))


def _costs(network: Network, prefix: str, x: np.ndarray) -> Iterator[tuple[str, LayerCost]]:
    for key, layer in network.layers.items():
        name, y = prefix + key, layer.forward(x)
        if isinstance(layer, Residual):
            yield from _costs(layer.branch, f"{name}.branch.", x)
            if layer.shortcut is not None:
                yield from _costs(layer.shortcut, f"{name}.shortcut.", x)
        else:
            pixels = math.prod(y.shape[2:])
            n_parameters = sum(parameter.size for parameter in layer.parameters())
            yield name, LayerCost(2 * _n_weights(layer, name) * pixels, n_parameters)
        x = y


def _n_weights(layer: Layer, name: str) -> int:
    """How many weights the layer multiplies each patch or example with."""
    if isinstance(layer, Conv2d | Linear):
        return layer.weight.size
    if isinstance(layer, SparseConv2d | SparseLinear):
        return layer.values.size
    if any(len(parameter.shape) > 1 for parameter in layer.parameters()):
        advice = "count them by hand"
        requirement = "be a kind of layer whose operations are known"
        raise bad_argument("network_cost", name, requirement, type(layer).__name__, advice)
    return 0


def _blank(network: Network, input_shape: Any) -> np.ndarray:
    """One example of zeros."""
    if not isinstance(input_shape, Sequence):
        requirement, advice = "be a sequence of lengths", "give (channels, height, width)"
        actual = repr(input_shape)
        raise bad_argument(
            "network_cost", "input_shape", requirement, actual, advice, kind=TypeError
        )
    for length in input_shape:
        check_count("network_cost", "a length in input_shape", length, 1)
    values = [parameter.value for parameter in network.parameters()]
    dtype = values[0].dtype if values else np.float32
    return xp_of(*values).zeros((1, *input_shape), dtype)
