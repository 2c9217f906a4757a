"""Named layers in order: what they compute together, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, xp_of
from refimpl.nn.layers import Layer
from refimpl.nn.parameter import Parameter


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

    def weights(self) -> dict[str, Parameter]:
        """List what may be pruned: the parameters with two axes or more, so never a bias."""
        named = self.named_parameters()
        return {name: parameter for name, parameter in named.items() if len(parameter.shape) > 1}

    def state(self) -> dict[str, np.ndarray]:
        """Copy the value of every parameter, by name.

        Returns
        -------
        dict of str to ndarray
            Copies, without gradients and masks, for `load_state`.
        """
        return {name: item.value.copy() for name, item in self.named_parameters().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set every parameter to the value that it has in `state`.

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
        parameters = self.named_parameters()
        _check_state(state, parameters)
        for name, parameter in parameters.items():
            parameter.value = state[name]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {type(item).__name__}" for name, item in self.layers.items())
        return f"Network({inside})"


def check_network(where: str, network: Any) -> None:
    """Refuse what is no network.

    Parameters
    ----------
    where : str
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
        raise bad_argument(where, "network", "be a Network", actual, advice, kind=TypeError)


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
    n_twice = len(layers) - len({id(layer) for layer in layers.values()})
    if n_twice:
        advice = "make one object for each name"
        raise bad_argument(where, argument, "differ from each other", f"{n_twice} twice", advice)


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


def _check_state(state: Any, parameters: dict[str, Parameter]) -> None:
    where = "Network.load_state"
    if not isinstance(state, Mapping):
        advice = "pass what Network.state returned"
        actual = type(state).__name__
        raise bad_argument(where, "state", "be a mapping", actual, advice, kind=TypeError)
    missing = [name for name in parameters if name not in state]
    unexpected = [name for name in state if name not in parameters]
    if missing or unexpected:
        actual = f"missing {missing} and unexpected {unexpected}"
        advice = "pass the state of a network with the same layers"
        raise bad_argument(where, "state", "name every parameter", actual, advice)
    for name, parameter in parameters.items():
        argument, dtypes = f"state[{name!r}]", (parameter.dtype.type,)
        check_array(where, argument, state[name], shape=parameter.shape, dtypes=dtypes)
        xp_of(state[name], parameter.value)  # refuses a mix of devices
