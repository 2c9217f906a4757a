"""Which slices of which arrays make up one channel? A walk from layer to layer that finds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from refimpl.arrays import bad_argument
from refimpl.nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Network,
    ReLU,
    Residual,
)
from refimpl.nn.network import check_network

# They hold nothing, mix no channels, and make zero of zero.
CHANNELWISE = (ReLU, Dropout, MaxPool2d, AvgPool2d, GlobalAvgPool2d, Flatten)


class ChannelSlice(NamedTuple):
    """One axis of a parameter or buffer, along which the channels of a group lie one by one.

    Attributes
    ----------
    name : str
        Of the parameter or buffer, such as ``"fc1.weight"``.
    axis : int
        0 where the channels go out, 1 where they come in.
    repeat : int
        Entries for each channel, side by side: 1, or as many as a channel has pixels where
        `Flatten` lies between.
    """

    name: str
    axis: int
    repeat: int


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together, in all arrays that know of them.

    Attributes
    ----------
    name : str
        The first layer that produces them, such as ``"conv1"``.
    size : int
        How many they are.
    producers : tuple of ChannelSlice
        Weights and biases that compute the channels: of several layers where a residual block
        adds one's output to another's.
    carriers : tuple of ChannelSlice
        What depthwise convolutions and batch normalisations hold of each channel.
    consumers : tuple of ChannelSlice
        Weights that read the channels.
    """

    name: str
    size: int
    producers: tuple[ChannelSlice, ...]
    carriers: tuple[ChannelSlice, ...]
    consumers: tuple[ChannelSlice, ...]

    @property
    def slices(self) -> tuple[ChannelSlice, ...]:
        """All of them: producers, carriers, consumers."""
        return self.producers + self.carriers + self.consumers


@dataclass(eq=False)
class _Draft:
    """A group while the walk goes on; the channels of the input have no known size."""

    name: str = ""
    size: int | None = None
    producers: list[ChannelSlice] = field(default_factory=list)
    carriers: list[ChannelSlice] = field(default_factory=list)
    consumers: list[ChannelSlice] = field(default_factory=list)

    def absorb(self, other: _Draft) -> None:
        self.producers += other.producers
        self.carriers += other.carriers
        self.consumers += other.consumers

    def finished(self) -> ChannelGroup:
        slices = (tuple(part) for part in (self.producers, self.carriers, self.consumers))
        return ChannelGroup(self.name, self.size, *slices)


def channel_groups(network: Network) -> dict[str, ChannelGroup]:
    """Find the channels that can be removed from a network, and all that goes with each.

    Parameters
    ----------
    network : Network
        Of convolutions, linear layers, batch normalisations, residual blocks, pooling, `ReLU`,
        `Dropout` and `Flatten`. Is read, not changed.

    Returns
    -------
    dict of str to ChannelGroup
        By the groups' names, in the order of the layers. The channels of the network's input
        and of its output are missing: neither can be removed. Those that a residual block adds
        to the input or hands to the output are missing for the same reason.

    Raises
    ------
    TypeError, ValueError
        If `network` is no network, holds another kind of layer, such as a `SparseLinear`, or
        widths do not fit each other.

    Notes
    -----
    One pass over the layers, with the group of the present channels in hand:

    * a convolution or linear layer reads them with axis 1 of its weight, and begins a new group
      with axis 0 of weight and bias;
    * a depthwise convolution or a batch normalisation hands them on, with axis 0 of all it holds;
    * a residual block adds channel i to channel i: the groups at the ends of branch and shortcut
      become one;
    * all other layers hold nothing. Behind `Flatten`, a channel is as many features as it had
      pixels, side by side; a weight's width divided by the number of channels says how many.

    O(layers) time; no image and no value is looked at.

    References
    ----------
    Fang, Ma, Song, Mi and Wang (2023), "DepGraph", find such groups in the record of a forward
    pass. Differs in that each kind of layer is stated, as everywhere in this package.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> groups = channel_groups(lenet5(rng=np.random.default_rng(0)))
    >>> {name: group.size for name, group in groups.items()}
    {'conv1': 20, 'conv2': 50, 'fc1': 500}
    >>> groups["conv2"].consumers
    (ChannelSlice(name='fc1.weight', axis=1, repeat=16),)
    """
    check_network("channel_groups", network)
    drafts = [_Draft()]
    last = _walk(network, "", drafts[0], drafts)
    free = (draft for draft in drafts[1:] if draft is not last)
    return {draft.name: draft.finished() for draft in free}


def is_depthwise(layer: Layer) -> bool:
    """Say whether a layer is a convolution that sees each channel by itself.

    Parameters
    ----------
    layer : Layer
        Of any kind.

    Returns
    -------
    bool
        False for a convolution of one channel, which is both: it counts as an ordinary one.
    """
    return type(layer) is Conv2d and layer.groups > 1


def _walk(network: Network, prefix: str, here: _Draft, drafts: list[_Draft]) -> _Draft:
    """Go through the layers with the group `here` in hand; return the group at the end."""
    for name, layer in network.layers.items():
        here = _through(layer, prefix + name, here, drafts)
    return here


def _through(layer: Layer, name: str, here: _Draft, drafts: list[_Draft]) -> _Draft:
    if type(layer) in CHANNELWISE:
        return here
    if type(layer) is BatchNorm2d or is_depthwise(layer):
        here.carriers += _channels_of(layer, name, here)
        return here
    if type(layer) in (Conv2d, Linear):
        return _produced(layer, name, here, drafts)
    if type(layer) is Residual:
        return _added(layer, name, here, drafts)
    requirement = "be a kind of layer whose channels can be cut"
    advice = "remove channels before weights are stored sparse, and use the layers of refimpl.nn"
    raise bad_argument("channel_groups", name, requirement, type(layer).__name__, advice)


def _produced(layer: Conv2d | Linear, name: str, here: _Draft, drafts: list[_Draft]) -> _Draft:
    """Let a layer read the channels in hand; take up those that it produces."""
    behind_flatten = type(layer) is Linear
    n_in = layer.weight.shape[1]
    repeat = _fitting(f"{name}.weight", n_in, here, several=behind_flatten)
    here.consumers.append(ChannelSlice(f"{name}.weight", 1, repeat))
    made = _Draft(name, layer.weight.shape[0])
    made.producers += _channels_of(layer, name, made)
    drafts.append(made)
    return made


def _added(layer: Residual, name: str, here: _Draft, drafts: list[_Draft]) -> _Draft:
    """Couple the channels that a residual block adds, under the name of the older group."""
    branch = _walk(layer.branch, f"{name}.branch.", here, drafts)
    short = here
    if layer.shortcut is not None:
        short = _walk(layer.shortcut, f"{name}.shortcut.", here, drafts)
    older, newer = sorted((branch, short), key=drafts.index)
    if older is newer:
        return older
    _fitting(f"{name}'s branch or shortcut", newer.size, older, several=False)
    older.absorb(newer)
    drafts.remove(newer)
    return older


def _channels_of(layer: Layer, name: str, group: _Draft) -> list[ChannelSlice]:
    """Axis 0 of everything that the layer holds."""
    held = layer.named_parameters() | layer.named_buffers()
    for key, item in held.items():
        _fitting(f"{name}.{key}", item.shape[0], group, several=False)
    return [ChannelSlice(f"{name}.{key}", 0, 1) for key in held]


def _fitting(name: str, width: int, group: _Draft, *, several: bool) -> int:
    """Entries of an axis for each channel; refuse a network that could not run."""
    if group.size is None:  # the input, from which nothing is removed
        return 1
    repeat, left = divmod(width, group.size)
    if left or repeat < 1 or (repeat > 1 and not several):
        requirement = f"have a width that fits the {group.size} channels of {group.name}"
        advice = "a forward pass says where the network breaks"
        raise bad_argument("channel_groups", name, requirement, width, advice)
    return repeat
