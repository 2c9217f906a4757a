"""Surgery: channels are cut out of a network, or masked so that it computes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, xp_of
from refimpl.masks import channel_mask
from refimpl.nn import (
    AvgPool2d,
    BatchNorm2d,
    Buffer,
    Conv2d,
    Dropout,
    Layer,
    Linear,
    MaxPool2d,
    Network,
    Parameter,
    Residual,
)
from refimpl.nn.network import check_network
from refimpl.prune.channel_graph import ChannelGroup, channel_groups, is_depthwise

Held = Parameter | Buffer
Keeps = Mapping[str, np.ndarray]
Cuts = dict[str, dict[int, np.ndarray]]  # name of what is held -> axis -> entries kept along it
Operation = Callable[[Held, dict[int, np.ndarray]], Held]


def remove_channels(network: Network, keeps: Keeps) -> Network:
    """Build the smaller network that is left when whole channels go.

    Parameters
    ----------
    network : Network
        As `channel_groups` takes it. It is left as it is.
    keeps : mapping of str to ndarray of bool
        For each group that loses channels, by its name, True for those that stay: one entry a
        channel, at least one of them True. Groups that are not named stay whole.

    Returns
    -------
    Network
        New, with the same layer names, dense and narrower. Values, masks and running statistics
        are copied; gradients, and what layers remember of their last forward pass, are not. An
        optimiser of the old network knows nothing of the new parameters: make another one.

    Raises
    ------
    TypeError, ValueError
        As `channel_groups`; if `keeps` is no mapping, names an unknown group, or holds anything
        but bool arrays of the groups' sizes that keep a channel.

    See Also
    --------
    mask_channels : The network of the same size that this one is equal to.
    prune_channels : Chooses the channels as well.

    Notes
    -----
    A channel is cut from everything that `channel_groups` lists: the rows of weight and bias
    that compute it, the entries of batch normalisation and depthwise convolution that carry it,
    and the columns that read it.

    The outputs are those of `mask_channels`, up to rounding, and so is every training step:
    the gradients of what is kept are equal too. `Dropout` is the exception while training, since
    it draws fewer numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> network = lenet5(rng=np.random.default_rng(0))
    >>> smaller = remove_channels(network, {"conv2": np.arange(50) < 10})
    >>> {name: weight.shape for name, weight in smaller.weights().items()}
    {'conv1.weight': (20, 1, 5, 5),
     'conv2.weight': (10, 20, 5, 5),
     'fc1.weight': (500, 160),
     'fc2.weight': (10, 500)}
    """
    return _rebuilt(network, "", _cuts("remove_channels", network, keeps), _cut, {})


def mask_channels(network: Network, keeps: Keeps) -> Network:
    """Build the network of the same size in which whole channels are zero.

    Parameters
    ----------
    network : Network
        As `channel_groups` takes it. It is left as it is.
    keeps : mapping of str to ndarray of bool
        As `remove_channels` takes it.

    Returns
    -------
    Network
        New, of the same shapes. What `remove_channels` would cut is masked: weights, biases,
        and scale and shift of batch normalisations. Masks that were there stay as well.

    Raises
    ------
    TypeError, ValueError
        As `remove_channels`.

    Notes
    -----
    A masked channel is zero wherever it goes. With bias and weight zero it leaves its
    convolution as zero, and a batch normalisation makes ``gamma * x_hat + beta`` of it: it is
    zero behind that only because beta is masked too. Not faster than the network as it was.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Linear, Network
    >>> rng = np.random.default_rng(0)
    >>> network = Network({"fc1": Linear(3, 2, rng=rng), "fc2": Linear(2, 1, rng=rng)})
    >>> masked = mask_channels(network, {"fc1": np.array([True, False])})
    >>> [int(np.count_nonzero(w.value)) for w in masked.weights().values()]
    [3, 1]
    """
    return _rebuilt(network, "", _cuts("mask_channels", network, keeps), _masked, {})


def _cuts(where: str, network: Network, keeps: Keeps) -> Cuts:
    """What is kept of every axis that loses something, after all checks."""
    check_network(where, network)
    groups = channel_groups(network)
    _check_keeps(where, keeps, groups)
    cuts: Cuts = {}
    for name, keep in keeps.items():
        for part in groups[name].slices:
            cuts.setdefault(part.name, {})[part.axis] = keep.repeat(part.repeat)
    return cuts


def _cut(item: Held, cuts: dict[int, np.ndarray]) -> Held:
    """A smaller copy, without gradient."""
    smaller = type(item)(_along_axes(item.value, cuts))
    if getattr(item, "mask", None) is not None:
        smaller.mask = _along_axes(item.mask, cuts)
    return smaller


def _masked(item: Held, cuts: dict[int, np.ndarray]) -> Held:
    """A copy with a mask; running statistics need none, since what follows them is zero."""
    copied = _cut(item, {})
    if isinstance(copied, Parameter):
        for axis, keep in cuts.items():
            kept = channel_mask(keep, item.shape, axis=axis)
            copied.mask = kept if copied.mask is None else kept & copied.mask
    return copied


def _along_axes(array: np.ndarray, cuts: dict[int, np.ndarray]) -> np.ndarray:
    for axis, keep in cuts.items():
        array = xp_of(array, keep).compress(keep, array, axis=axis)
    return array


def _rebuilt(
    network: Network, prefix: str, cuts: Cuts, operate: Operation, copied: dict[int, Any]
) -> Network:
    """The same layers by the same names, around copies of what they hold.

    `copied` is deepcopy's memory: layers that share a generator go on sharing it.
    """
    return Network(
        {
            name: _rebuilt_layer(layer, prefix + name, cuts, operate, copied)
            for name, layer in network.layers.items()
        }
    )


def _rebuilt_layer(
    layer: Layer, name: str, cuts: Cuts, operate: Operation, copied: dict[int, Any]
) -> Layer:
    if isinstance(layer, Residual):
        branch = _rebuilt(layer.branch, f"{name}.branch.", cuts, operate, copied)
        if layer.shortcut is None:
            return Residual(branch)
        shortcut = _rebuilt(layer.shortcut, f"{name}.shortcut.", cuts, operate, copied)
        return Residual(branch, shortcut)
    held = {
        key: operate(item, cuts.get(f"{name}.{key}", {}))
        for key, item in (layer.named_parameters() | layer.named_buffers()).items()
    }
    new = _new_layer(layer, held, copied)
    vars(new).update(held)
    return new


def _new_layer(layer: Layer, held: dict[str, Held], copied: dict[int, Any]) -> Layer:
    """A layer of the kind and width that has run no forward pass.

    The weights that it draws are replaced by what is held.
    """
    match layer:
        case Conv2d():
            return _new_convolution(layer, held["weight"].shape)
        case Linear():
            n_out, n_in = held["weight"].shape
            return Linear(n_in, n_out, rng=np.random.default_rng(0), bias=layer.bias is not None)
        case BatchNorm2d():
            options = {"momentum": layer.momentum, "epsilon": layer.epsilon}
            return BatchNorm2d(held["gamma"].size, **options)
        case MaxPool2d() | AvgPool2d():
            return type(layer)(layer.kernel_shape, stride=layer.stride)
        case Dropout():
            return Dropout(layer.rate, rng=copy.deepcopy(layer._rng, copied))
    return type(layer)()


def _new_convolution(layer: Conv2d, shape: tuple[int, ...]) -> Conv2d:
    c_out, c_in, *kernel_shape = shape
    groups = c_out if is_depthwise(layer) else 1
    return Conv2d(
        c_in * groups,
        c_out,
        tuple(kernel_shape),
        stride=layer.stride,
        padding=layer.padding,
        groups=groups,
        rng=np.random.default_rng(0),
        bias=layer.bias is not None,
    )


def _check_keeps(where: str, keeps: Any, groups: dict[str, ChannelGroup]) -> None:
    if not isinstance(keeps, Mapping):
        advice = 'pass a dict such as {"conv1": keep}'
        actual = type(keeps).__name__
        raise bad_argument(where, "keeps", "be a dict of arrays", actual, advice, kind=TypeError)
    unknown = [name for name in keeps if name not in groups]
    if unknown:
        advice = "channel_groups(network) lists them; input and output stay whole"
        raise bad_argument(where, "keeps", f"name groups among {list(groups)}", unknown, advice)
    for name, keep in keeps.items():
        argument, shape = f"keeps[{name!r}]", (groups[name].size,)
        check_array(where, argument, keep, shape=shape, dtypes=(np.bool_,))
        if not keep.any():
            advice = "a layer without channels passes nothing on"
            raise bad_argument(where, argument, "keep a channel", "none", advice)
