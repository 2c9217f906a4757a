"""The gradient of each example alone, where a backward pass gives the sum over a batch."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array, xp_of
from refimpl.nn.convolution import Conv2d
from refimpl.nn.gradcheck import Loss
from refimpl.nn.layer import Layer
from refimpl.nn.layers import Linear
from refimpl.nn.losses import softmax_cross_entropy
from refimpl.nn.network import Network, check_network


def example_gradients(
    network: Network, x: np.ndarray, y: np.ndarray, loss: Loss = softmax_cross_entropy
) -> dict[str, np.ndarray]:
    """Compute the gradient that each example would give if it were the whole batch.

    Parameters
    ----------
    network : Network
        Runs with ``training=False``, so a batch norm uses its running statistics, and an example
        meets no other.
    x : ndarray of float, shape (batch, ...)
        At least one example.
    y : ndarray, shape (batch, ...)
        Labels or targets, as `loss` takes them.
    loss : callable
        ``loss(outputs, y) -> (number, gradient)``; it is called on one example at a time.

    Returns
    -------
    dict of str to ndarray, shape (batch, ...)
        New, by the names of `Network.named_parameters`, with the axes of the parameter behind that
        of the batch; dense, whatever is masked. Their mean over the batch is the gradient of a
        loss that averages over the batch.

    Raises
    ------
    TypeError, ValueError
        If there is no example, `y` has another length, or what network and loss refuse.

    Notes
    -----
    `gradients_all_at_once` where it applies, else `gradients_one_by_one`. Both overwrite the
    ``grad`` of every parameter. The result takes ``batch`` times the memory of the network:
    LeNet-300-100 and 1000 examples in float32 make 1.07 GB.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([1, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> network.load_state({"fc1.weight": np.array([[2.0]]), "fc1.bias": np.zeros(1)})
    >>> x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [5.0]])
    >>> gradients = example_gradients(network, x, y, mean_squared_error)
    >>> gradients["fc1.weight"].ravel()  # 2 * (prediction - target) * x
    array([4., 6.])
    """
    outputs = _outputs("example_gradients", network, x)
    check_array("example_gradients", "y", y)
    check_array("example_gradients", "y", y, shape=(len(x), *y.shape[1:]))
    each = [loss(outputs[i : i + 1], y[i : i + 1])[1] for i in range(len(x))]
    return _pulled_back(network, x, xp_of(x).concatenate(each))


def output_gradients(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the Jacobian: how each output of each example moves with each parameter.

    Parameters
    ----------
    network : Network
        With outputs of shape (batch, n_outputs). Runs with ``training=False``.
    x : ndarray of float, shape (batch, ...)
        At least one example.

    Returns
    -------
    dict of str to ndarray, shape (batch, n_outputs, ...)
        New, by the names of `Network.named_parameters`.

    Raises
    ------
    TypeError, ValueError
        If there is no example, or the outputs do not have two axes.

    Notes
    -----
    Every example is repeated once for each output, and sent back a one there: the time and memory
    of `example_gradients` on ``batch * n_outputs`` examples.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([2, 2], rng=np.random.default_rng(0), dtype=np.float64)
    >>> output_gradients(network, np.array([[5.0, 7.0]]))["fc1.weight"]
    array([[[[5., 7.],
             [0., 0.]],
    <BLANKLINE>
            [[0., 0.],
             [5., 7.]]]])
    """
    outputs = _outputs("output_gradients", network, x)
    check_array("output_gradients", "the network's output", outputs, ndim=2)
    xp, (batch, n_outputs) = xp_of(x), outputs.shape
    ones = xp.tile(xp.eye(n_outputs, dtype=outputs.dtype), (batch, 1))  # (batch * n_outputs, same)
    gradients = _pulled_back(network, xp.repeat(x, n_outputs, axis=0), ones)
    return {name: g.reshape(batch, n_outputs, *g.shape[1:]) for name, g in gradients.items()}


def gradients_one_by_one(network: Network, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Send each example through the network and back by itself: the definition, for any network.

    Parameters
    ----------
    network : Network
        Runs with ``training=False``.
    x : ndarray of float, shape (batch, ...)
        The examples, at least one.
    dy : ndarray of float, shape of the outputs
        What is sent back for each example.

    Returns
    -------
    dict of str to ndarray, shape (batch, ...)
        New: the gradient of ``<dy[i], output[i]>`` for example i.
    """
    each = []
    for i in range(len(x)):
        network.forward(x[i : i + 1])
        network.backward_parameters(dy[i : i + 1])
        each.append([parameter.grad for parameter in network.parameters()])
    stacked = map(xp_of(x).stack, zip(*each, strict=True))
    return dict(zip(network.named_parameters(), stacked, strict=True))


def gradients_all_at_once(network: Network, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what `gradients_one_by_one` does, from one pass forward and one back.

    Parameters
    ----------
    network : Network
        Whose parameters are those of `Linear` and of `Conv2d` with ``groups=1``.
    x, dy
        As for `gradients_one_by_one`.

    Returns
    -------
    dict of str to ndarray
        As from `gradients_one_by_one`, equal up to rounding.

    Notes
    -----
    A weight's gradient sums one product of input and ``dy`` for each example; here they stay
    apart. For example b of a linear layer it is ``outer(dy[b], x[b])``, for one of a convolution
    the product of ``dy[b]``, (c_out, places), and that image's patches, (places, c_in * kh * kw).

    References
    ----------
    Goodfellow, 2015, "Efficient per-example gradient computations", which needs only the norms.
    """
    network.forward(x)
    found = {}
    for name, layer in reversed(network.layers.items()):
        if layer.parameters():
            of_layer = _layer_gradients(layer, dy)
            found |= {f"{name}.{key}": of_layer[key] for key in layer.named_parameters()}
        dy = layer.backward(dy)
    return {name: found[name] for name in network.named_parameters()}


def check_examples(where: str, x: np.ndarray) -> None:
    """Refuse what is no batch of at least one example.

    Parameters
    ----------
    where : str
        Named in the error.
    x : ndarray of float, shape (batch, ...)
        Input of a network.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_array(where, "x", x, dtypes=FLOAT_DTYPES)
    if not x.size:
        advice = "leave empty batches out"
        raise bad_argument(where, "x", "hold an example", f"shape {x.shape}", advice)


def _pulled_back(network: Network, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    at_once = all(map(_has_rule, network.layers.values()))
    return (gradients_all_at_once if at_once else gradients_one_by_one)(network, x, dy)


def _has_rule(layer: Layer) -> bool:
    match layer:
        case Linear():
            return True
        case Conv2d():
            return layer.groups == 1
    return not layer.parameters()


def _layer_gradients(layer: Linear | Conv2d, dy: np.ndarray) -> dict[str, np.ndarray]:
    batch, n_out = dy.shape[:2]
    dy = dy.reshape(batch, n_out, -1)  # (batch, n_out, places), one place if linear
    rows = layer.input_rows().reshape(batch, dy.shape[2], -1)  # (batch, places, n_in)
    weight = (dy @ rows).reshape(batch, *layer.weight.shape)
    return {"weight": weight, "bias": dy.sum(axis=2)}


def _outputs(where: str, network: Network, x: np.ndarray) -> np.ndarray:
    check_network(where, network)
    check_examples(where, x)
    return network.forward(x)
