"""From a network that is masked to one that is sparse: smaller, and with the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.formats import COO, CSR, SparseMatrix
from refimpl.formats.indices import index_dtype
from refimpl.nn import Layer, Linear, Network, Parameter, SparseLayer, SparseLinear
from refimpl.nn.network import check_network


def sparsify(network: Network, *, store: Callable[[COO], SparseMatrix] = CSR.from_coo) -> Network:
    """Build the network that is shipped: pruned linear layers hold their weights sparse.

    Linear layers are the only dense layers with a weight so far; a `SparseConv2d` is built from
    its weight directly.

    Parameters
    ----------
    network : Network
        With a mask on the weight of one `Linear` layer or more. It is left as it is.
    store : callable
        Gives the format: the ``from_coo`` of any, such as ``TwoFour.from_coo`` or
        ``functools.partial(BSR.from_coo, block_shape=(4, 4))``.

    Returns
    -------
    Network
        New, with the same layer names. Every `Linear` layer whose weight has a mask is a
        `SparseLinear`; every other layer is a deep copy, masks included. It shares no memory
        with `network`, so training one changes nothing in the other.

    Raises
    ------
    TypeError
        If `network` is no `Network`.
    ValueError
        If no `Linear` layer has a mask on its weight, or the format cannot hold one.

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
    if not any(_is_pruned(layer) for layer in network.layers.values()):
        advice = "prune first, for instance with prune.prune_one_shot"
        requirement = "have a Linear layer whose weight is masked"
        raise bad_argument("sparsify", "network", requirement, "none", advice)
    return Network({name: _shipped(layer, store) for name, layer in network.layers.items()})


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
    sparse = (item for item in network.layers.values() if isinstance(item, SparseLayer))
    dense = sum(weight.value.nbytes for weight in network.weights().values())
    return dense + sum(layer.weight.nbytes for layer in sparse)


def _is_pruned(layer: Layer) -> bool:
    return isinstance(layer, Linear) and layer.weight.mask is not None


def _shipped(layer: Layer, store: Callable[[COO], SparseMatrix]) -> Layer:
    if not _is_pruned(layer):
        return copy.deepcopy(layer)
    return SparseLinear(store(_kept(layer.weight)), copy.deepcopy(layer.bias))


def _kept(weight: Parameter) -> COO:
    """The places that the mask keeps, and their values."""
    rows, cols = np.nonzero(weight.mask)
    index = index_dtype(weight.shape, rows.size)
    values = weight.value[rows, cols]
    return COO(rows.astype(index), cols.astype(index), values, weight.shape)
