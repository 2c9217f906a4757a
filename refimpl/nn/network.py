"""Named layers in order: what they compute together, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, xp_of
from refimpl.nn.layer import Layer, WeightedLayer
from refimpl.nn.parameter import Buffer, Parameter


class Network:
    """Run named layers one after the other.

    Parameters
    ----------
    layers : dict of str to Layer
        In the order in which they run. Names are non-empty and hold no dot, because
        ``"fc1.weight"`` names the weight of the layer ``"fc1"``. Each layer appears once,
        because it remembers one forward pass.

    Attributes
    ----------
    layers : dict of str to Layer
        The layers by name, in order.

    Raises
    ------
    TypeError
        If `layers` is no dict, a name no str, or what it names no layer.
    ValueError
        If there is no layer, a name is empty or holds a dot, or a layer appears twice.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Linear, ReLU
    >>> rng = np.random.default_rng(0)
    >>> network = Network({"fc1": Linear(4, 3, rng=rng), "relu1": ReLU()})
    >>> network.forward(np.ones((5, 4), dtype=np.float32)).shape
    (5, 3)
    >>> list(network.named_parameters())
    ['fc1.weight', 'fc1.bias']
    """

    def __init__(self, layers: dict[str, Layer]) -> None:
        _check_layers(layers)
        self.layers = dict(layers)

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Run every layer in order.

        Parameters
        ----------
        x : ndarray of float, shape (batch, ...)
            Input of the first layer.
        training : bool
            Handed to every layer.

        Returns
        -------
        ndarray of float, shape (batch, ...)
            Output of the last layer.
        """
        for layer in self.layers.values():
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Run every layer's backward pass in reverse order, and overwrite every gradient.

        Parameters
        ----------
        dy : ndarray of float
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray of float
            Gradient of the loss with respect to the input of the last `forward`.
        """
        for layer in reversed(self.layers.values()):
            dy = layer.backward(dy)
        return dy

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Overwrite every gradient as `backward` does, and stop there: all that training needs.

        Spared is the gradient at the network's input, which in the first layer costs as much as
        the gradient of its weight.

        Parameters
        ----------
        dy : ndarray of float
            As for `backward`.
        """
        layers = list(self.layers.values())
        while layers and not layers[0].parameters():
            layers.pop(0)
        for layer in reversed(layers[1:]):
            dy = layer.backward(dy)
        if layers:
            _backward_parameters(layers[0], dy)

    def named_layers(self) -> dict[str, Layer]:
        """List every layer, those of networks within a layer as well, from the outside in.

        Returns
        -------
        dict of str to Layer
            Such as ``{"block1": ..., "block1.branch.conv1": ...}``: with a dot and a name
            behind it, the name of a parameter.
        """
        found: dict[str, Layer] = {}
        for name, layer in self.layers.items():
            found[name] = layer
            for held_name, held in vars(layer).items():
                if isinstance(held, Network):
                    inner = held.named_layers()
                    found |= {f"{name}.{held_name}.{key}": item for key, item in inner.items()}
        return found

    def parameters(self) -> list[Parameter]:
        """List every parameter in the order of the layers, as the optimisers take them."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, Parameter]:
        """List every parameter by layer and name, such as ``"fc1.weight"``."""
        return {
            f"{layer_name}.{name}": parameter
            for layer_name, layer in self.layers.items()
            for name, parameter in layer.named_parameters().items()
        }

    def named_buffers(self) -> dict[str, Buffer]:
        """List what the forward pass keeps up to date, such as ``"norm1.running_mean"``."""
        return {
            f"{layer_name}.{name}": buffer
            for layer_name, layer in self.layers.items()
            for name, buffer in layer.named_buffers().items()
        }

    def weights(self) -> dict[str, Parameter]:
        """List what may be pruned: the parameters with two axes or more, so never a bias."""
        named = self.named_parameters()
        return {name: parameter for name, parameter in named.items() if len(parameter.shape) > 1}

    def state(self) -> dict[str, np.ndarray]:
        """Copy the value of every parameter and every buffer, by name.

        Returns
        -------
        dict of str to ndarray
            Copies, without gradients and masks, for `load_state`.
        """
        return {name: item.value.copy() for name, item in self._stateful().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set every parameter and every buffer to the value that it has in `state`.

        Masks stay and are applied to the new values: this is how a pruned network is rewound.
        Either everything is written or, after an error, nothing.

        Parameters
        ----------
        state : mapping of str to ndarray
            As `state` returned it: the same names, shapes and dtypes.

        Raises
        ------
        TypeError
            If `state` is no mapping, or an entry is no array of the parameter's dtype.
        ValueError
            If names are missing or unexpected, or a shape differs.
        """
        stateful = self._stateful()
        _check_state(state, stateful)
        for name, item in stateful.items():
            item.value = state[name]

    def _stateful(self) -> dict[str, Parameter | Buffer]:
        return self.named_parameters() | self.named_buffers()

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {type(item).__name__}" for name, item in self.layers.items())
        return f"Network({inside})"


def check_network(where: str, network: Any, argument: str = "network") -> None:
    """Refuse what is no network.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    network : Network
        Anything else is refused.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if not isinstance(network, Network):
        actual, advice = type(network).__name__, "pass the Network itself"
        raise bad_argument(where, argument, "be a Network", actual, advice, kind=TypeError)


def _check_layers(layers: Any) -> None:
    where, argument = "Network", "layers"
    if not isinstance(layers, dict):
        requirement, actual = "be a dict of names to layers", type(layers).__name__
        advice = 'write Network({"fc1": Linear(...), "relu1": ReLU()})'
        raise bad_argument(where, argument, requirement, actual, advice, kind=TypeError)
    if not layers:
        raise bad_argument(where, argument, "hold a layer", "an empty dict", "add one")
    for name, layer in layers.items():
        _check_name(name)
        _check_layer(name, layer)
    every = [item for layer in layers.values() for item in _with_inner(layer)]
    n_twice = len(every) - len({id(item) for item in every})
    if n_twice:
        advice = "make one object for each name"
        raise bad_argument(where, argument, "differ from each other", f"{n_twice} twice", advice)


def _with_inner(layer: Layer) -> list[Layer]:
    """A layer, and those of the networks that it holds."""
    networks = [held for held in vars(layer).values() if isinstance(held, Network)]
    return [layer, *(item for net in networks for item in net.named_layers().values())]


def _check_name(name: Any) -> None:
    requirement, advice = "be a str without a dot, not empty", "call it fc1, say"
    if not isinstance(name, str):
        raise bad_argument("Network", "a name", requirement, repr(name), advice, kind=TypeError)
    if not name or "." in name:
        raise bad_argument("Network", "a name", requirement, repr(name), advice)


def _check_layer(name: str, layer: Any) -> None:
    if not isinstance(layer, Layer):
        argument, advice = f"layers[{name!r}]", "make one, such as ReLU()"
        actual = repr(layer) if isinstance(layer, type) else type(layer).__name__
        raise bad_argument("Network", argument, "be a Layer", actual, advice, kind=TypeError)


def _backward_parameters(layer: Layer, dy: np.ndarray) -> None:
    if isinstance(layer, WeightedLayer):
        layer.backward_parameters(dy)
    else:
        layer.backward(dy)


def _check_state(state: Any, stateful: dict[str, Parameter | Buffer]) -> None:
    where = "Network.load_state"
    if not isinstance(state, Mapping):
        advice = "pass what Network.state returned"
        actual = type(state).__name__
        raise bad_argument(where, "state", "be a mapping", actual, advice, kind=TypeError)
    missing = [name for name in stateful if name not in state]
    unexpected = [name for name in state if name not in stateful]
    if missing or unexpected:
        actual = f"missing {missing} and unexpected {unexpected}"
        advice = "pass the state of a network with the same layers"
        raise bad_argument(where, "state", "name every parameter", actual, advice)
    for name, item in stateful.items():
        argument, dtypes = f"state[{name!r}]", (item.dtype.type,)
        check_array(where, argument, state[name], shape=item.shape, dtypes=dtypes)
        xp_of(state[name], item.value)  # refuses a mix of devices
