"""How the gradient itself changes: the Hessian, its products, and its Gauss-Newton part.

Matrices are of shape (n, n) for the n parameters of a network, in the order of `as_vector`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_positive, xp_of
from refimpl.nn.example_gradients import output_gradients
from refimpl.nn.flattening import as_arrays, as_vector
from refimpl.nn.gradcheck import Loss
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.nn.losses import mean_squared_error, softmax_cross_entropy
from refimpl.nn.network import Network, check_network
from refimpl.nn.parameter import Parameter


def hessian_vector_product(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    v: Mapping[str, np.ndarray],
    loss: Loss = softmax_cross_entropy,
    *,
    step: float | None = None,
) -> dict[str, np.ndarray]:
    r"""Multiply the Hessian of the loss by a vector, without the Hessian.

    Parameters
    ----------
    network : Network
        Runs with ``training=False``. Its values come back bit for bit; gradients are overwritten.
    x : ndarray of float, shape (batch, ...)
        Input of the network.
    y : ndarray
        Labels or targets, as `loss` takes them.
    v : mapping of str to ndarray
        A direction for each parameter that moves, by name, of its shape and dtype; the others
        stay. Pruned weights stay as well: under a mask, v counts as zero there.
    loss : callable
        ``loss(outputs, y) -> (number, gradient)``.
    step : float, optional
        Length of the step along v to either side, > 0. By default the cube root of the dtype's
        precision: 6e-6 in float64, 5e-3 in float32.

    Returns
    -------
    dict of str to ndarray
        :math:`H v` for every parameter of the network, by name; dense, like a gradient.

    Raises
    ------
    TypeError, ValueError
        If v is no mapping, names no parameter, or has another shape or dtype, or `step` is not
        positive.

    Notes
    -----
    With the unit vector :math:`u = v / \lVert v \rVert` and the gradient :math:`g`,

    .. math:: H v \approx \lVert v \rVert \frac{g(\theta + h u) - g(\theta - h u)}{2 h} .

    Truncation errs by :math:`h^2 / 6` times the third derivative of :math:`g` along u, rounding by
    about :math:`\varepsilon \lVert g \rVert / h`, so the default balances them at about
    :math:`\varepsilon^{2/3}`: ten digits in float64, four in float32. Where a ReLU's input changes
    sign within the step, the gradient jumps, and the jump counts as curvature.

    Cost: two gradients.

    References
    ----------
    Pearlmutter, 1994, "Fast exact multiplication by the Hessian", whose R-operator takes no step
    and so has no such error.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([2, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> v = {"fc1.weight": np.array([[1.0, 0.0]])}
    >>> x, y = np.array([[3.0, 4.0]]), np.array([[0.0]])
    >>> hv = hessian_vector_product(network, x, y, v, mean_squared_error)
    >>> hv["fc1.weight"].round(6)  # the first column of 2 x x^T
    array([[18., 24.]])
    """
    where = "hessian_vector_product"
    check_network(where, network)
    _check_direction(where, network, v)
    length = math.sqrt(sum(_squared_length(direction) for direction in v.values()))
    dtype = np.result_type(*(parameter.dtype for parameter in network.parameters()))
    step = float(np.finfo(dtype).eps) ** (1 / 3) if step is None else step
    check_positive(where, "step", step)
    stretch = step / length if length else 0.0
    ahead, behind = (_gradient_aside(network, x, y, loss, v, s) for s in (stretch, -stretch))
    return {name: (ahead[name] - behind[name]) * (length / (2 * step)) for name in ahead}


def hessian(
    network: Network, x: np.ndarray, y: np.ndarray, loss: Loss = softmax_cross_entropy
) -> np.ndarray:
    """Compute every second derivative of the loss, one column at a time.

    Parameters
    ----------
    network : Network
        In float64 for ten digits; see `hessian_vector_product`.
    x, y, loss
        As for `hessian_vector_product`.

    Returns
    -------
    ndarray, shape (n, n)
        Exactly symmetric: the mean of what the differences give and its transpose. Rows and
        columns of pruned weights are zero, since these cannot move.

    Raises
    ------
    TypeError, ValueError
        If the network has no parameter, or what network and loss refuse.

    Notes
    -----
    Cost: 2 n gradients and ``8 n**2`` bytes; 2410 parameters make 46 MB, 266,610 would make
    569 GB. To see what pruned weights would do, lift the masks first.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([1, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> hessian(network, np.array([[3.0]]), np.array([[0.0]]), mean_squared_error).round(6)
    array([[18.,  6.],
           [ 6.,  2.]])
    """
    check_network("hessian", network)
    parameters = network.named_parameters()
    values = as_vector({name: parameter.value for name, parameter in parameters.items()})
    columns = [
        as_vector(hessian_vector_product(network, x, y, as_arrays(unit, parameters), loss))
        for unit in xp_of(values).eye(values.size, dtype=values.dtype)
    ]
    differences = xp_of(values).stack(columns) * _moving(parameters)
    return (differences + differences.T) / 2


def output_hessian(outputs: np.ndarray, loss: Loss = softmax_cross_entropy) -> np.ndarray:
    r"""Compute the Hessian of each example's loss with respect to its own outputs.

    Parameters
    ----------
    outputs : ndarray of float, shape (batch, n_outputs)
        Logits or predictions.
    loss : callable
        `softmax_cross_entropy` or `mean_squared_error`. Neither needs labels or targets.

    Returns
    -------
    ndarray, shape (batch, n_outputs, n_outputs)
        New, positive semi-definite, for the loss of one example alone: divide by the batch for
        its part in the mean.

    Raises
    ------
    TypeError, ValueError
        If the outputs are no matrix of floats, or the loss is another.

    Notes
    -----
    For the cross-entropy :math:`\operatorname{diag}(p) - p p^\top` of the softmax :math:`p`. For
    the mean squared error :math:`(2 / n_\text{out}) I`: the 2 and the mean over outputs are the
    loss's own, where textbooks often have 1/2 and a sum.

    Examples
    --------
    >>> import numpy as np
    >>> output_hessian(np.array([[0.0, 0.0]]))
    array([[[ 0.25, -0.25],
            [-0.25,  0.25]]])
    """
    check_array("output_hessian", "outputs", outputs, ndim=2, dtypes=TRAINING_DTYPES)
    xp, n_outputs = xp_of(outputs), outputs.shape[1]
    identity = xp.eye(n_outputs, dtype=outputs.dtype)
    if loss is mean_squared_error:
        return xp.tile(2 / n_outputs * identity, (len(outputs), 1, 1))
    if loss is not softmax_cross_entropy:
        actual, advice = getattr(loss, "__name__", repr(loss)), "its curvature is not known here"
        requirement = "be softmax_cross_entropy or mean_squared_error"
        raise bad_argument("output_hessian", "loss", requirement, actual, advice)
    p = xp.exp(outputs - outputs.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p[:, :, None] * (identity - p[:, None])


def gauss_newton(network: Network, x: np.ndarray, loss: Loss = softmax_cross_entropy) -> np.ndarray:
    r"""Approximate the Hessian as if the outputs were linear in the parameters.

    Parameters
    ----------
    network : Network
        With outputs of shape (batch, n_outputs). Runs with ``training=False``.
    x : ndarray of float, shape (batch, ...)
        At least one example.
    loss : callable
        As for `output_hessian`.

    Returns
    -------
    ndarray, shape (n, n)
        Positive semi-definite, symmetric up to rounding; dense, whatever is masked.

    Raises
    ------
    TypeError, ValueError
        As `output_gradients` and `output_hessian`, and if the network has no parameter.

    Notes
    -----
    With the Jacobian :math:`J_b` of the outputs of example b and the output Hessian :math:`A_b`,

    .. math::

        G = \frac1N \sum_b J_b^\top A_b J_b, \qquad
        H = G + \frac1N \sum_b \sum_k \frac{\partial \ell_b}{\partial f_{bk}} \nabla^2 f_{bk} .

    The second term is **added**: for squares :math:`\partial \ell / \partial f` is proportional to
    :math:`f - y`. It vanishes where the network fits, and where outputs are linear in the
    parameters. With cross-entropy, G is the Fisher matrix: the mean of :math:`g g^\top` over labels
    drawn from the softmax.

    Cost: `output_gradients`, and ``2 * batch * n_outputs * n**2`` FLOPs.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mean_squared_error, mlp
    >>> network = mlp([1, 1], rng=np.random.default_rng(0), dtype=np.float64)
    >>> gauss_newton(network, np.array([[3.0]]), mean_squared_error)
    array([[18.,  6.],
           [ 6.,  2.]])
    """
    check_network("gauss_newton", network)
    jacobian = as_vector(output_gradients(network, x), leading=2)  # (batch, n_outputs, n)
    bent = output_hessian(network.forward(x), loss) @ jacobian
    flat = (-1, jacobian.shape[2])
    return jacobian.reshape(flat).T @ bent.reshape(flat) / len(x)


def _moving(parameters: Mapping[str, Parameter]) -> np.ndarray:
    """1 where a parameter is kept and 0 where it is pruned, as one vector."""
    ones = {name: xp_of(p.value).ones_like(p.value) for name, p in parameters.items()}
    masks = {name: p.mask for name, p in parameters.items() if p.mask is not None}
    return as_vector(ones | {name: mask * ones[name] for name, mask in masks.items()})


def _squared_length(direction: np.ndarray) -> float:
    return float((direction.astype(np.float64) ** 2).sum())  # a square underflows in float32


def _gradient_aside(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    v: Mapping[str, np.ndarray],
    stretch: float,
) -> dict[str, np.ndarray]:
    """The gradient where the parameters have moved by `stretch` times v; they are put back."""
    parameters = network.named_parameters()
    start = {name: parameters[name].value.copy() for name in v}
    try:
        for name, direction in v.items():
            parameters[name].value += stretch * direction
        network.backward_parameters(loss(network.forward(x), y)[1])
    finally:
        for name, value in start.items():
            parameters[name].value = value
    return {name: parameter.grad for name, parameter in parameters.items()}


def _check_direction(where: str, network: Network, v: Any) -> None:
    if not isinstance(v, Mapping):
        actual, advice = type(v).__name__, "pass a dict of names to arrays, from as_arrays"
        raise bad_argument(where, "v", "be a mapping", actual, advice, kind=TypeError)
    parameters = network.named_parameters()
    for name, direction in v.items():
        if name not in parameters:
            advice = f"take one of {', '.join(parameters)}"
            raise bad_argument(where, "v", "name parameters", repr(name), advice)
        parameter, argument = parameters[name], f"v[{name!r}]"
        dtypes = (parameter.dtype.type,)
        check_array(where, argument, direction, shape=parameter.shape, dtypes=dtypes)
