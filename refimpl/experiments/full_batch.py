"""Small sigmoid networks, trained to a minimum as the papers of around 1990 needed it.

Optimal Brain Damage and Optimal Brain Surgeon presume that the gradient is zero. Mini-batches do
not get there; L-BFGS on all examples at once does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from refimpl.nn import (
    Layer,
    Linear,
    Network,
    Sigmoid,
    as_arrays,
    as_vector,
    gauss_newton,
    mean_squared_error,
)
from refimpl.prune import kept_places, parameter_vector

DAMPING = 1e-6  # added to the diagonal of a Gauss-Newton matrix, so that it has an inverse


def sigmoid_network(sizes: Sequence[int], rng: np.random.Generator) -> Network:
    """Build a network of linear layers in float64, each with a sigmoid behind it.

    Parameters
    ----------
    sizes : sequence of int
        Features from the input to the output, such as ``(17, 3, 1)``.
    rng : numpy.random.Generator
        Draws the weights as `Linear` does; biases are 0.

    Returns
    -------
    Network
        Layers ``fc1, sigmoid1, fc2, sigmoid2, ...``.

    Examples
    --------
    >>> from refimpl.prune import kept_places
    >>> kept_places(sigmoid_network((17, 3, 1), np.random.default_rng(0))).size
    58
    """
    layers: dict[str, Layer] = {}
    for number, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{number}"] = Linear(n_in, n_out, rng=rng, dtype=np.float64)
        layers[f"sigmoid{number}"] = Sigmoid()
    return Network(layers)


def train_full_batch(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    *,
    weight_decay: float,
    max_iterations: int = 500,
) -> None:
    r"""Train on all examples at once by L-BFGS, until the gradient is nearly zero.

    Parameters
    ----------
    network : Network
        In float64; changes in place. Pruned parameters stay pruned.
    x : ndarray of float64, shape (n, ...)
        The examples.
    y : ndarray of float64, shape of the outputs
        The targets.
    weight_decay : float
        :math:`\lambda` of what is minimised, the mean squared error
        :math:`+ \lambda \lVert w \rVert^2` over all parameters, biases too. (`SGD` has
        :math:`\tfrac12 \lambda \lVert w \rVert^2`.)
    max_iterations : int
        Of L-BFGS.

    Examples
    --------
    >>> x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])
    >>> network = sigmoid_network((1, 1), np.random.default_rng(0))
    >>> train_full_batch(network, x, y, weight_decay=1e-5)
    >>> network.forward(x).round().ravel()
    array([1., 0.])
    """
    named, kept = network.named_parameters(), kept_places(network)

    def place(free: np.ndarray) -> None:
        vector = np.zeros(kept.size)
        vector[kept] = free
        for name, value in as_arrays(vector, named).items():
            named[name].value = value

    def objective(free: np.ndarray) -> tuple[float, np.ndarray]:
        place(free)
        loss, dy = mean_squared_error(network.forward(x), y)
        network.backward_parameters(dy)
        gradient = as_vector({name: parameter.grad for name, parameter in named.items()})[kept]
        return loss + weight_decay * float(free @ free), gradient + 2 * weight_decay * free

    free, options = parameter_vector(network)[kept], {"maxiter": max_iterations}
    place(minimize(objective, free, jac=True, method="L-BFGS-B", options=options).x)


def damped_gauss_newton(network: Network, x: np.ndarray) -> np.ndarray:
    """Compute the Gauss-Newton matrix of the mean squared error, plus `DAMPING` on the diagonal.

    Parameters
    ----------
    network : Network
        As it is.
    x : ndarray of float64, shape (n, ...)
        The examples.

    Returns
    -------
    ndarray, shape (n, n)
        Positive definite, in the order of `parameter_vector`.
    """
    matrix = gauss_newton(network, x, mean_squared_error)
    return matrix + DAMPING * np.eye(len(matrix))
