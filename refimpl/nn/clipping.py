"""How long may a gradient be? One that explodes is shortened, and keeps its direction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refimpl.arrays import bad_argument, check_positive, xp_of
from refimpl.nn.parameter import Parameter, distinct_parameters


@np.errstate(over="ignore", invalid="ignore")  # at pruned places, where nothing moves
def clip_gradients(parameters: Sequence[Parameter], max_norm: float) -> float:
    r"""Shorten the gradient of all parameters together, if it is longer than `max_norm`.

    Parameters
    ----------
    parameters : sequence of Parameter
        Such as ``network.parameters()``, each with a gradient. Those that are too long are
        replaced by new arrays; the old ones are not written to.
    max_norm : float
        > 0: the norm that is left of a longer gradient.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    TypeError, ValueError
        If `parameters` is empty, or one of them has no gradient yet.
    FloatingPointError
        If a gradient is NaN or infinite where a weight is kept: it has no length to shorten.
        Then no gradient has changed.

    Notes
    -----
    The norm is that of one long vector, :math:`\norm{g} = \sqrt{\sum_i g_i^2}` over the kept
    weights of all parameters: a pruned weight does not move, so its gradient does not count.
    It is scaled like the others, by :math:`c / \norm{g}`, so that the direction stays, and the
    order of pruned weights for a method that regrows them.

    Every entry is divided by the largest before it is squared, so that no square overflows; in
    float32, that of 2e19 would. Cost: 3 FLOPs a weight, 2 more if the gradient is too long; each
    weight is read four times and written once.

    References
    ----------
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    ICML 2013, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Parameter
    >>> w, b = Parameter(np.zeros(2)), Parameter(np.zeros(1))
    >>> w.grad, b.grad = np.array([2.0, 3.0]), np.array([6.0])
    >>> clip_gradients([w, b], 1.0)
    7.0
    >>> np.concatenate([w.grad, b.grad]) * 7
    array([2., 3., 6.])
    """
    where = "clip_gradients"
    check_positive(where, "max_norm", max_norm)
    parameters = distinct_parameters(where, parameters)
    kept = [_kept_gradient(parameter) for parameter in parameters]
    largest = _largest(kept)
    root = math.sqrt(sum(_sum_of_squares(g, largest) for g in kept))
    if largest * root > max_norm:
        for parameter in parameters:
            # In two steps, because one factor alone may be too small a number.
            unit, length = map(parameter.dtype.type, (largest, max_norm / root))
            parameter.grad = parameter.grad / unit * length
    return largest * root


def _kept_gradient(parameter: Parameter) -> np.ndarray:
    """The gradient where the parameter can move, 0 elsewhere."""
    if parameter.grad is None:
        advice = "call network.forward and network.backward first"
        raise bad_argument("clip_gradients", "every parameter", "have a gradient", "none", advice)
    if parameter.mask is None:
        return parameter.grad
    return xp_of(parameter.grad).where(parameter.mask, parameter.grad, 0)


def _largest(gradients: list[np.ndarray]) -> float:
    """The largest absolute value, if all are finite."""
    ends = [float(end) for g in gradients if g.size for end in (g.max(), -g.min())]
    largest = float(np.max([0.0, *ends]))  # NaN if there is one; Python's max may miss it
    if not math.isfinite(largest):
        where, advice, kind = "clip_gradients", "try a smaller learning rate", FloatingPointError
        raise bad_argument(where, "gradients", "be finite", f"one {largest}", advice, kind=kind)
    return largest


def _sum_of_squares(gradient: np.ndarray, unit: float) -> float:
    if not unit:
        return 0.0
    scaled = (gradient / gradient.dtype.type(unit)).ravel(order="A")
    return float(scaled.dot(scaled))
