"""The diagonal of the Hessian, by sending second derivatives back: OBD's way, and exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from refimpl.arrays import bad_argument, check_array, xp_of
from refimpl.nn.activations import Activation
from refimpl.nn.convolution import Conv2d, convolution_image_gradient
from refimpl.nn.curvature import output_hessian
from refimpl.nn.example_gradients import check_examples
from refimpl.nn.gradcheck import Loss
from refimpl.nn.layer import Layer
from refimpl.nn.layers import Dropout, Flatten, Linear, ReLU
from refimpl.nn.losses import softmax_cross_entropy
from refimpl.nn.network import Network, check_network
from refimpl.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d

_WITH_MATRICES = (Linear, Flatten, Dropout, ReLU, Activation)
_WITH_SQUARES = (*_WITH_MATRICES, Conv2d, MaxPool2d, AvgPool2d, GlobalAvgPool2d)


def obd_diagonal(
    network: Network, x: np.ndarray, y: np.ndarray, loss: Loss = softmax_cross_entropy
) -> dict[str, np.ndarray]:
    r"""Approximate the diagonal of the Hessian by OBD's recursion, second derivatives included.

    Parameters
    ----------
    network : Network
        Of `Linear`, `Conv2d` with ``groups=1``, `Flatten`, `Dropout`, `ReLU`, `Sigmoid`, `Tanh`
        and pooling layers. Runs with ``training=False``; its gradients are overwritten.
    x : ndarray of float, shape (batch, ...)
        At least one example.
    y : ndarray
        Labels or targets, as `loss` takes them.
    loss : callable
        `softmax_cross_entropy` or `mean_squared_error`.

    Returns
    -------
    dict of str to ndarray
        :math:`h_{kk} = \partial^2 L / \partial w_k^2` of the mean loss, of each parameter's shape,
        by name; dense, whatever is masked. Entries may be negative.

    Raises
    ------
    TypeError, ValueError
        If a layer has no rule, or the loss is another.

    Notes
    -----
    Second derivatives flow back like gradients, with every factor squared. With :math:`h` for
    :math:`\partial^2 L / \partial (\cdot)^2` of one example,

    .. math::

        y = W x + b: \quad h_{w_{ij}} = h_{y_i} x_j^2, \quad
        h_{x_j} = \sum_i w_{ij}^2 h_{y_i}; \qquad
        y = f(x): \quad h_x = f'(x)^2 h_y + f''(x) \, \mathrm{d}y .

    Mixed derivatives between the units of a layer are dropped on the way. That is exact for the
    last two linear layers under the mean squared error, and for the last under any loss; see
    `exact_diagonal`. Between the places of a shared kernel they are dropped as well.

    Cost: a forward pass and two backward passes, the second one with squares.

    References
    ----------
    LeCun, Denker and Solla, 1989, "Optimal brain damage", section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([2, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> x, y = np.array([[3.0, 4.0]]), np.array([[0.0]])
    >>> obd_diagonal(network, x, y, mean_squared_error)["fc1.weight"]  # 2 x^2
    array([[18., 32.]])
    """
    inputs, outputs = _run("obd_diagonal", network, x, _WITH_SQUARES)
    return _obd_recursion(network, inputs, outputs, loss(outputs, y)[1], loss)


def levenberg_marquardt_diagonal(
    network: Network, x: np.ndarray, loss: Loss = softmax_cross_entropy
) -> dict[str, np.ndarray]:
    """Approximate the diagonal as `obd_diagonal`, without f'', so that no entry is negative.

    Parameters
    ----------
    network, x, loss
        As for `obd_diagonal`. Labels have no part in it.

    Returns
    -------
    dict of str to ndarray
        As from `obd_diagonal`, each entry at least 0.

    Raises
    ------
    TypeError, ValueError
        As `obd_diagonal`.

    Notes
    -----
    The term in f'' is the only place where a first derivative enters, so this is `obd_diagonal`
    with ``dy = 0``: the diagonal of `gauss_newton` instead of the Hessian, exact for the same
    layers. For ReLU networks, whose f'' is 0, the two are one.

    References
    ----------
    LeCun, Denker and Solla, 1989, "Optimal brain damage", the end of section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Linear, Network, Tanh, mean_squared_error
    >>> fc = Linear(1, 1, rng=np.random.default_rng(0), dtype=np.float64)
    >>> network, x = Network({"fc": fc, "tanh": Tanh()}), np.array([[3.0]])
    >>> fc.weight.value = np.array([[0.2]])
    >>> levenberg_marquardt_diagonal(network, x, mean_squared_error)["fc.weight"].round(3)
    array([[9.114]])
    >>> obd_diagonal(network, x, np.array([[-1.0]]), mean_squared_error)["fc.weight"].round(3)
    array([[-12.032]])
    """
    inputs, outputs = _run("levenberg_marquardt_diagonal", network, x, _WITH_SQUARES)
    return _obd_recursion(network, inputs, outputs, xp_of(x).zeros_like(outputs), loss)


def exact_diagonal(
    network: Network, x: np.ndarray, y: np.ndarray, loss: Loss = softmax_cross_entropy
) -> dict[str, np.ndarray]:
    r"""Compute the diagonal of the Hessian of a multi-layer perceptron, with nothing dropped.

    Parameters
    ----------
    network : Network
        Of `Linear`, `Flatten`, `Dropout`, `ReLU`, `Sigmoid` and `Tanh`.
    x, y, loss
        As for `obd_diagonal`.

    Returns
    -------
    dict of str to ndarray
        As from `obd_diagonal`, exact up to rounding.

    Raises
    ------
    TypeError, ValueError
        If a layer has no rule, or the loss is another.

    Notes
    -----
    For each example the whole matrix :math:`H_y` of a layer's outputs is carried back,

    .. math::

        y = W x + b: \quad H_x = W^\top H_y W; \qquad
        y = f(x): \quad H_x = D H_y D + \operatorname{diag}(f''(x) \, \mathrm{d}y),
        \; D = \operatorname{diag}(f'(x)),

    and :math:`h_{w_{ij}} = [H_y]_{ii} x_j^2` is exact because :math:`y_i` is linear in
    :math:`w_{ij}`. Cost: ``2 * batch * n_in * n_out * (n_in + n_out)`` FLOPs for each linear layer
    behind the first, and ``8 * batch * n**2`` bytes for its widest n.

    References
    ----------
    Botev, Ritter and Barber, 2017, "Practical Gauss-Newton optimisation for deep learning",
    section 3, the recursion for the Hessian of pre-activations.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([2, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> x, y = np.array([[3.0, 4.0]]), np.array([[0.0]])
    >>> exact_diagonal(network, x, y, mean_squared_error)["fc1.weight"]
    array([[18., 32.]])
    """
    where = "exact_diagonal"
    inputs, outputs = _run(where, network, x, _WITH_MATRICES)
    h = output_hessian(outputs, loss) / len(x)  # (batch, n_outputs, n_outputs)
    dy = loss(outputs, y)[1]
    diagonal = partial(xp_of(x).einsum, "bii->bi")
    return _sent_back(network, inputs, h, dy, diagonal, _matrix_through)


def _obd_recursion(
    network: Network,
    inputs: dict[str, np.ndarray],
    outputs: np.ndarray,
    dy: np.ndarray,
    loss: Loss,
) -> dict[str, np.ndarray]:
    h = xp_of(outputs).einsum("bkk->bk", output_hessian(outputs, loss)) / len(outputs)
    return _sent_back(network, inputs, h, dy, lambda diagonal: diagonal, _squares_through)


def _sent_back(
    network: Network,
    inputs: dict[str, np.ndarray],
    h: np.ndarray,
    dy: np.ndarray,
    diagonal: Callable[[np.ndarray], np.ndarray],
    through: Callable[[Layer, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
    """Send curvature and gradient back together, down to the first layer with parameters."""
    found, wanted = {}, network.named_parameters()
    for name, layer in reversed(network.layers.items()):
        if layer.parameters():
            of_layer = _of_parameters(layer, diagonal(h))
            found |= {f"{name}.{key}": of_layer[key] for key in layer.named_parameters()}
        if len(found) < len(wanted):
            h, dy = through(layer, inputs[name], h, dy), layer.backward(dy)
    return {name: found[name] for name in wanted}


def _of_parameters(layer: Linear | Conv2d, h: np.ndarray) -> dict[str, np.ndarray]:
    """The gradients of weight and bias, of squared inputs; `h` has the shape of the output."""
    by_output = h.swapaxes(0, 1).reshape(h.shape[1], -1)  # (n_out, batch * places)
    weight = (by_output @ layer.input_rows() ** 2).reshape(layer.weight.shape)
    return {"weight": weight, "bias": by_output.sum(axis=1)}


def _squares_through(layer: Layer, x: np.ndarray, h: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """OBD's step: what `backward` does, with every factor squared."""
    match layer:
        case Linear():
            return h @ layer.weight.value**2
        case Conv2d():
            squared, how = layer.weight.value**2, (layer.stride, layer.padding)
            return convolution_image_gradient(h, squared, x.shape, *how)
        case Activation():
            return layer.slope(x) ** 2 * h + layer.second_derivative(x) * dy
        case AvgPool2d():
            return layer.backward(h) / math.prod(layer.kernel_shape)
        case GlobalAvgPool2d():
            return layer.backward(h) / math.prod(x.shape[2:])
    return layer.backward(h)  # all factors are 0 or 1, and are their own squares


def _matrix_through(layer: Layer, x: np.ndarray, h: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The exact step, on the whole matrix of each example: (batch, n_out, n_out) to n_in."""
    match layer:
        case Linear():
            return layer.weight.value.T @ h @ layer.weight.value
        case Activation():
            bend = layer.second_derivative(x) * dy
            diagonal = bend[:, :, None] * xp_of(x).eye(x.shape[1], dtype=x.dtype)
            return _scaled(h, layer.slope(x)) + diagonal
        case ReLU():
            return _scaled(h, (x > 0).astype(x.dtype))
    return h


def _scaled(h: np.ndarray, d: np.ndarray) -> np.ndarray:
    return d[:, :, None] * h * d[:, None]


def _run(
    where: str, network: Network, x: np.ndarray, known: tuple[type, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The input of every layer, and the network's output."""
    check_network(where, network)
    check_examples(where, x)
    inputs = {}
    for name, layer in network.layers.items():
        if not isinstance(layer, known) or getattr(layer, "groups", 1) > 1:
            requirement = f"be one of {', '.join(kind.__name__ for kind in known)}"
            groups = " with groups" if isinstance(layer, Conv2d) and layer.groups > 1 else ""
            actual = f"{type(layer).__name__}{groups} in {name!r}"
            advice = "average squared example_gradients, or take hessian of a small network"
            raise bad_argument(where, "each layer", requirement, actual, advice, kind=TypeError)
        inputs[name], x = x, layer.forward(x)
    check_array(where, "the network's output", x, ndim=2)
    return inputs, x
