"""Is the gradient right? Compare it with differences of the function itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_positive, check_rng
from refimpl.nn.layer import Layer
from refimpl.nn.network import Network

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]

# A gradient below this share of the function's own terms cannot be told from rounding.
_SMALLEST_SHARE = 1e-4


def gradient_errors(
    layer: Layer | Network,
    x: np.ndarray,
    *,
    rng: np.random.Generator,
    step: float = 1e-6,
    directions: int = 3,
) -> dict[str, float]:
    r"""Measure how far a backward pass is from what its forward pass says.

    Parameters
    ----------
    layer : Layer or Network
        In float64. Runs with ``training=False``.
    x : ndarray of float64, shape (batch, ...)
        Input at which the gradient is checked, with values of about 1.
    rng : numpy.random.Generator
        Its child draws the directions, so it may have the seed that `x` was drawn with.
    step : float
        Half the distance :math:`h` between the two points of a difference, > 0.
    directions : int
        Random directions for each array, >= 1; the worst counts.

    Returns
    -------
    dict of str to float
        Relative error for the name of each parameter, and for the input as ``"x"``.
        Right gradients give 1e-10 to 1e-8, one that is off by 0.1 % about 1e-3.

    Raises
    ------
    TypeError
        If `x` or a parameter is no float64.
    ValueError
        If the backward pass leaves a parameter without a gradient, or returns one of
        another shape than `x`.

    Notes
    -----
    With a random :math:`v`, the output becomes one number, :math:`f(\theta) = \langle v,
    y(\theta) \rangle`, whose gradient :math:`g` is what ``backward(v)`` computes. Along a
    direction :math:`u` of standard normal entries,

    .. math::

        \text{error} = \frac{1}{\lVert g \rVert} \left\lvert
        \frac{f(\theta + h u) - f(\theta - h u)}{2 h} - \langle g, u \rangle \right\rvert .

    The scale is :math:`\lVert g \rVert`, the typical size of :math:`\langle g, u \rangle`,
    and not that product itself, which may cancel to nothing. It is never taken below 1e-4 of
    :math:`\sum_i \lvert v_i y_i \rvert`, or a gradient of 0 could not be told from rounding.
    The difference has a truncation error of order :math:`h^2` and a rounding error of order
    :math:`\epsilon / h`; their sum is least near :math:`h = \epsilon^{1/3}`, that is 6e-6 in
    float64.

    Two forward passes for each direction and array, against two for each *entry* if
    derivatives were compared one by one.

    Only kept weights of a masked parameter move. Where a ReLU's input is within :math:`h`
    of 0, the function has no derivative and a right gradient may fail: draw another `x`.
    Afterwards, parameters are what they were, bit for bit, whatever happened; gradients are
    those of ``backward(v)``.

    References
    ----------
    Griewank and Walther, "Evaluating Derivatives", 2nd edition, 2008, chapter 1.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Linear, gradient_errors
    >>> rng = np.random.default_rng(0)
    >>> layer = Linear(4, 3, rng=rng, dtype=np.float64)
    >>> errors = gradient_errors(layer, rng.normal(size=(5, 4)), rng=rng)
    >>> sorted(errors)
    ['bias', 'weight', 'x']
    >>> max(errors.values()) < 1e-8
    True
    """
    where = "gradient_errors"
    _check_settings(where, step, directions, rng)
    if not isinstance(layer, Layer | Network):
        actual, advice = type(layer).__name__, "a loss goes to loss_gradient_error"
        raise bad_argument(
            where, "layer", "be a Layer or a Network", actual, advice, kind=TypeError
        )
    check_array(where, "x", x, dtypes=(np.float64,))
    _check_parameters(where, layer)
    x = x.copy()
    y = layer.forward(x)
    rng = _apart(rng)
    v = rng.standard_normal(y.shape)
    dx = np.array(layer.backward(v))
    _check_gradients(where, layer, x, dx)

    def f() -> float:
        return float(np.vdot(v, layer.forward(x)))

    floor = _SMALLEST_SHARE * float(np.abs(v * y).sum())
    probe = _Probe(f, rng=rng, step=step, directions=directions, floor=floor)
    errors = {
        name: probe.worst_error(parameter.value, parameter.grad, parameter.mask)
        for name, parameter in layer.named_parameters().items()
    }
    return errors | {"x": probe.worst_error(x, dx)}


def check_gradients(
    layer: Layer | Network,
    x: np.ndarray,
    *,
    rng: np.random.Generator,
    tolerance: float = 1e-6,
    step: float = 1e-6,
    directions: int = 3,
) -> dict[str, float]:
    """Refuse a layer or network whose gradient is wrong.

    Parameters
    ----------
    layer, x, rng, step, directions
        As for `gradient_errors`.
    tolerance : float
        Largest relative error that passes, > 0.

    Returns
    -------
    dict of str to float
        The errors, as `gradient_errors` returns them.

    Raises
    ------
    ValueError
        If an error is above `tolerance`, or NaN; the message names the worst array.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import ReLU, check_gradients
    >>> rng = np.random.default_rng(0)
    >>> list(check_gradients(ReLU(), rng.normal(size=(2, 3)), rng=rng))
    ['x']
    """
    check_positive("check_gradients", "tolerance", tolerance)
    errors = gradient_errors(layer, x, rng=rng, step=step, directions=directions)
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    if not errors[worst] <= tolerance:
        raise bad_argument(
            "check_gradients",
            f"the gradient of {worst}",
            f"agree with differences to {tolerance:g}",
            f"a relative error of {errors[worst]:.3g}",
            "look at its backward pass, or for a kink near x",
        )
    return errors


def loss_gradient_error(
    loss: Loss,
    prediction: np.ndarray,
    target: np.ndarray,
    *,
    rng: np.random.Generator,
    step: float = 1e-6,
    directions: int = 3,
) -> float:
    """Measure how far a loss's gradient is from what the loss itself says.

    Parameters
    ----------
    loss : callable
        ``loss(prediction, target) -> (number, gradient)``.
    prediction : ndarray of float64
        Where the gradient is checked.
    target : ndarray
        Handed to `loss` as it is.
    rng, step, directions
        As for `gradient_errors`.

    Returns
    -------
    float
        Relative error, defined as in `gradient_errors`.

    Raises
    ------
    TypeError
        If `prediction` is no float64.
    ValueError
        If the gradient has another shape than `prediction`.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import loss_gradient_error, softmax_cross_entropy
    >>> rng = np.random.default_rng(0)
    >>> logits, labels = rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    >>> loss_gradient_error(softmax_cross_entropy, logits, labels, rng=rng) < 1e-8
    True
    """
    where = "loss_gradient_error"
    _check_settings(where, step, directions, rng)
    check_array(where, "prediction", prediction, dtypes=(np.float64,))
    prediction = prediction.copy()
    value, gradient = loss(prediction, target)
    check_array(where, "the gradient", gradient, shape=prediction.shape)

    def f() -> float:
        return loss(prediction, target)[0]

    floor = _SMALLEST_SHARE * abs(value)
    probe = _Probe(f, rng=_apart(rng), step=step, directions=directions, floor=floor)
    return probe.worst_error(prediction, np.array(gradient))


class _Probe:
    """Central differences of a function of no arguments, whose arrays are moved under it."""

    def __init__(
        self,
        f: Callable[[], float],
        *,
        rng: np.random.Generator,
        step: float,
        directions: int,
        floor: float,
    ) -> None:
        self._f, self._rng = f, rng
        self._step, self._directions, self._floor = step, directions, floor

    def worst_error(
        self, array: np.ndarray, gradient: np.ndarray, mask: np.ndarray | None = None
    ) -> float:
        """Largest relative error of `gradient` over the directions; `array` is put back."""
        kept = True if mask is None else mask
        scale = max(float(np.linalg.norm(gradient[kept])), self._floor)
        misses = [self._miss(array, gradient, kept) for _ in range(self._directions)]
        worst = float(np.max(misses))  # NaN if one is
        return worst / scale if scale else worst

    def _miss(self, array: np.ndarray, gradient: np.ndarray, kept: Any) -> float:
        """Difference quotient minus gradient, along one random direction."""
        u = np.where(kept, self._rng.standard_normal(array.shape), 0)
        here = array.copy()
        ahead, behind = here + self._step * u, here - self._step * u
        try:
            np.copyto(array, ahead)
            rise = self._f()
            np.copyto(array, behind)
            rise -= self._f()
        finally:
            np.copyto(array, here)
        moved = np.where(kept, ahead - behind, 0)  # 2 * h * u, as it was rounded
        expected = float(np.vdot(np.where(kept, gradient, 0), moved))
        return abs(rise - expected) / (2 * self._step)


def _apart(rng: np.random.Generator) -> np.random.Generator:
    """Return a generator whose numbers are not those that `x` was drawn from.

    With ``x = default_rng(0).normal(...)`` and ``rng = default_rng(0)``, v would be x; then the
    gradient ``v.T @ x`` is symmetric, and a transposed one would pass.
    """
    return rng.spawn(1)[0]


def _check_settings(where: str, step: Any, directions: Any, rng: Any) -> None:
    check_positive(where, "step", step)
    check_count(where, "directions", directions, 1)
    check_rng(where, rng)


def _check_parameters(where: str, layer: Layer | Network) -> None:
    for name, parameter in layer.named_parameters().items():
        if parameter.dtype != np.float64:
            advice = "build it with dtype=np.float64, since float32 rounds too coarsely"
            actual = parameter.dtype.name
            raise bad_argument(where, name, "be float64", actual, advice, kind=TypeError)


def _check_gradients(where: str, layer: Layer | Network, x: np.ndarray, dx: np.ndarray) -> None:
    check_array(where, "what backward returns", dx, shape=x.shape)
    for name, parameter in layer.named_parameters().items():
        if parameter.grad is None:
            advice = "let backward set it"
            raise bad_argument(where, f"the gradient of {name}", "exist", "None", advice)
