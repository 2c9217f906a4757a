"""From a network that is masked to one that is sparse: smaller, and with the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.formats import COO, CSR, SparseMatrix
from refimpl.formats.indices import index_dtype
from refimpl.nn import (
    Conv2d,
    Layer,
    Linear,
    Network,
    Parameter,
    Residual,
    SparseConv2d,
    SparseLayer,
    SparseLinear,
)
from refimpl.nn.network import check_network


def sparsify(
    network: Network,
    *,
    store: Callable[[COO], SparseMatrix] = CSR.from_coo,
    channels_last: bool = False,
) -> Network:
    """Build the network that is shipped: pruned layers hold their weights sparse.

    Parameters
    ----------
    network : Network
        With a mask on the weight of one `Linear` or `Conv2d` layer or more. It is left as it is.
    store : callable
        Gives the format: the ``from_coo`` of any, such as ``TwoFour.from_coo`` or
        ``functools.partial(BSR.from_coo, block_shape=(4, 4))``.
    channels_last : bool
        Whether convolutions store input channels side by side, as the groups of `masks.n_of_m`
        lie; by default they store the pixels of a kernel side by side.

    Returns
    -------
    Network
        New, with the same layer names. Every `Linear` and `Conv2d` layer whose weight has a mask
        is a `SparseLinear` or a `SparseConv2d`, within a `Residual` as well; every other layer,
        and a depthwise convolution, is a deep copy, masks included. It shares no memory with
        `network`, so training one changes nothing in the other.

    Raises
    ------
    TypeError
        If `network` is no `Network`.
    ValueError
        If no such layer has a mask on its weight, or the format cannot hold one.

    Notes
    -----
    What is stored is what the mask keeps, a kept weight of exactly zero included: further
    training of the shipped network moves the weights that masked training would. BSR fills up
    its blocks with zeros, which are then weights as well.

    The outputs are those of the masked network up to rounding: the same products, added in
    another order. A value of the input that is infinite or NaN meets only stored weights; in
    the dense product ``0 * inf`` is NaN.

    Below about 50 % sparsity, CSR takes more bytes than the dense weight (`weight_bytes`).

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl import nn
    >>> network = nn.Network({"fc1": nn.Linear(4, 2, rng=np.random.default_rng(0))})
    >>> network.weights()["fc1.weight"].mask = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], bool)
    >>> sparsify(network)
    Network(fc1: SparseLinear)
    """
    check_network("sparsify", network)
    if not any(_is_pruned(layer) for layer in network.named_layers().values()):
        advice = "prune first, for instance with prune.prune_one_shot"
        requirement = "have a Linear or Conv2d layer whose weight is masked"
        raise bad_argument("sparsify", "network", requirement, "none", advice)
    return _shipped_network(network, store, channels_last, {})


def weight_bytes(network: Network) -> int:
    """Count the bytes that the weights of a network take, as they are stored.

    Parameters
    ----------
    network : Network
        Dense, masked or sparse.

    Returns
    -------
    int
        The bytes of every parameter with two axes or more, zeros included, and of every
        sparse weight, indices and pointers included. Biases and masks are not counted: a bias
        is never pruned, and a mask is not shipped.

    Raises
    ------
    TypeError
        If `network` is no `Network`.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl import nn
    >>> weight_bytes(nn.models.lenet_300_100(rng=np.random.default_rng(0)))
    1064800
    """
    check_network("weight_bytes", network)
    layers = network.named_layers().values()
    sparse = (item for item in layers if isinstance(item, SparseLayer))
    dense = sum(weight.value.nbytes for weight in network.weights().values())
    return dense + sum(layer.weight.nbytes for layer in sparse)


def _is_pruned(layer: Layer) -> bool:
    dense = isinstance(layer, Linear) or (isinstance(layer, Conv2d) and layer.groups == 1)
    return dense and layer.weight.mask is not None


def _shipped_network(
    network: Network,
    store: Callable[[COO], SparseMatrix],
    channels_last: bool,
    copied: dict[int, Any],
) -> Network:
    """Ship every layer; `copied` is deepcopy's memory, so what layers share they go on sharing."""
    layers = network.layers.items()
    return Network({name: _shipped(layer, store, channels_last, copied) for name, layer in layers})


def _shipped(
    layer: Layer,
    store: Callable[[COO], SparseMatrix],
    channels_last: bool,
    copied: dict[int, Any],
) -> Layer:
    if isinstance(layer, Residual):
        paths = [layer.branch] if layer.shortcut is None else [layer.branch, layer.shortcut]
        return Residual(*(_shipped_network(path, store, channels_last, copied) for path in paths))
    if not _is_pruned(layer):
        return copy.deepcopy(layer, copied)
    bias = copy.deepcopy(layer.bias, copied)
    if isinstance(layer, Linear):
        return SparseLinear(store(_kept(layer.weight)), bias)
    return SparseConv2d(
        store(_kept(layer.weight, channels_last=channels_last)),
        bias,
        kernel_shape=layer.weight.shape[2:],
        stride=layer.stride,
        padding=layer.padding,
        channels_last=channels_last,
    )


def _kept(weight: Parameter, *, channels_last: bool = False) -> COO:
    """The places that the mask keeps and their values, a row for each output."""
    mask, values = weight.mask, weight.value
    if channels_last:
        mask, values = (array.transpose(0, 2, 3, 1) for array in (mask, values))
    mask, values = (array.reshape(len(array), -1) for array in (mask, values))
    rows, cols = np.nonzero(mask)
    index = index_dtype(mask.shape, rows.size)
    return COO(rows.astype(index), cols.astype(index), values[rows, cols], mask.shape)
