"""How does a gradient become the next weight? SGD with momentum, and Adam."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_fraction, check_positive, xp_of
from refimpl.kernels import numba_update
from refimpl.kernels.layer_kernels import compiled_for
from refimpl.nn.parameter import Parameter, distinct_parameters


def sgd_update(
    grad: np.ndarray,
    mask: np.ndarray | None,
    lr: float,
    momentum: float,
    weight_decay: float,
    value: np.ndarray,
    velocity: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Work out a step of `SGD`.

    Parameters
    ----------
    grad : ndarray of float, shape (n,)
        NumPy or CuPy.
    mask : ndarray of bool, same shape, or None
        True where a weight is kept.
    lr, momentum, weight_decay : float
        As for `SGD`.
    value : ndarray, same shape
        The weights.
    velocity : ndarray, same shape, optional
        None for a step without momentum.

    Returns
    -------
    tuple of ndarray
        What `value` becomes, and `velocity` if there is one; both +0.0 where a weight is pruned.
    """
    gradient = _kept(_decayed(grad, value, weight_decay), mask)
    if velocity is None:
        return (_kept(value - lr * gradient, mask),)
    velocity = momentum * _kept(velocity, mask) + gradient
    return _kept(value - lr * velocity, mask), velocity


def adam_update(
    grad: np.ndarray,
    mask: np.ndarray | None,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    t: int,
    value: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Work out a step of `Adam`.

    Parameters
    ----------
    grad, mask, lr, weight_decay
        As for `sgd_update`.
    beta1, beta2, epsilon : float
        As for `Adam`.
    t : int
        Number of this step, from 1.
    value, m, v : ndarray, shape of `grad`
        The weights, and the running means of gradient and squared gradient.

    Returns
    -------
    tuple of ndarray
        What `value`, `m` and `v` become; +0.0 where a weight is pruned.
    """
    gradient = _kept(_decayed(grad, value, weight_decay), mask)  # Alg. 1, l. 6
    m = beta1 * _kept(m, mask) + (1 - beta1) * gradient  # l. 7
    v = beta2 * _kept(v, mask) + (1 - beta2) * (gradient * gradient)  # l. 8
    m_hat = m / (1 - beta1**t)  # l. 9
    v_hat = v / (1 - beta2**t)  # l. 10
    move = lr * (m_hat / (np.sqrt(v_hat) + epsilon))
    return _kept(value - move, mask), m, v  # l. 11


class Optimizer(ABC):
    """Rule that moves parameters, in place, by what it makes of their gradients.

    Every optimiser shares one promise: a pruned weight is exactly +0.0 after each step,
    and so is whatever the optimiser remembers about it. A weight that comes back later
    therefore starts without memory.

    Parameters
    ----------
    parameters : sequence of Parameter
        Such as ``network.parameters()``; each one once.
    lr : float
        Learning rate, > 0. A plain attribute: schedules may change it between steps.
    weight_decay : float
        >= 0; adds ``weight_decay * value`` to each gradient, the derivative of the
        penalty ``weight_decay / 2 * sum(value**2)``.
    n_buffers : int
        Arrays of state for each parameter, allocated here, once, as zeros.

    Attributes
    ----------
    parameters : list of Parameter
        What `step` moves.
    n_steps : int
        Steps taken.

    Raises
    ------
    TypeError, ValueError
        If `parameters` is empty or holds anything else, or a number is out of range.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        lr: float,
        weight_decay: float,
        n_buffers: int,
    ) -> None:
        self.parameters = distinct_parameters(type(self).__name__, parameters)
        check_positive(type(self).__name__, "lr", lr)
        check_positive(type(self).__name__, "weight_decay", weight_decay, zero_allowed=True)
        self.lr = lr
        self.weight_decay = float(weight_decay)
        self.n_steps = 0
        self._buffers = [
            tuple(xp_of(p.value).zeros_like(p.value) for _ in range(n_buffers))
            for p in self.parameters
        ]

    @property
    def buffers(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """What is remembered of each parameter, in their order; the arrays themselves."""
        return tuple(self._buffers)

    def forget(self, parameter: Parameter, where: np.ndarray) -> None:
        """Set what is remembered of some entries of a parameter to +0.0, as it was at first.

        For weights that are taken out and put back between two steps: no step sees them pruned.

        Parameters
        ----------
        parameter : Parameter
            One of `parameters`; neither its value nor its mask changes.
        where : ndarray of bool, shape of the parameter
            True where to forget.

        Raises
        ------
        TypeError, ValueError
            If `where` is no such array, or `parameter` is none of `parameters`.
        """
        name = f"{type(self).__name__}.forget"
        check_array(name, "where", where, shape=parameter.shape, dtypes=(np.bool_,))
        if not any(parameter is own for own in self.parameters):
            actual, advice = repr(parameter), "pass the object itself"
            raise bad_argument(name, "parameter", "be one that it moves", actual, advice)
        for own, buffers in zip(self.parameters, self._buffers, strict=True):
            for buffer in buffers if own is parameter else ():
                xp_of(buffer).copyto(buffer, 0, where=where)

    def step(self) -> None:
        """Move every parameter once, by the gradient of the last backward pass.

        Raises
        ------
        ValueError
            If a parameter has no gradient yet; then none has moved.

        Notes
        -----
        Gradients are read, never written. A mask that was set since the last step counts
        from this step on; NaN or infinity in the gradient of a pruned weight does no harm.

        NumPy arrays take the compiled twin of the rule, in `refimpl.kernels.numba_update`.
        """
        self._check_gradients_exist()
        self.n_steps += 1
        for parameter, buffers in zip(self.parameters, self._buffers, strict=True):
            state = [array.reshape(-1) for array in (parameter.value, *buffers)]
            mask = None if parameter.mask is None else parameter.mask.reshape(-1)
            grad = parameter.grad.reshape(-1).astype(parameter.dtype, copy=False)
            arguments = (grad, mask, *self._settings(), *state)
            if compiled_for(parameter.value):
                self._compiled_update(*arguments)
            else:
                _overwrite(state, self._update(*arguments))

    @staticmethod
    @abstractmethod
    def _update(*arguments: Any) -> tuple[np.ndarray, ...]:
        """The rule: from gradient, mask, `_settings`, value and buffers to new ones."""

    @staticmethod
    @abstractmethod
    def _compiled_update(*arguments: Any) -> None:
        """The same, in place."""

    @abstractmethod
    def _settings(self) -> tuple[float, ...]:
        """What the rule takes between mask and value."""

    def _check_gradients_exist(self) -> None:
        missing = sum(parameter.grad is None for parameter in self.parameters)
        if missing:
            raise bad_argument(
                f"{type(self).__name__}.step",
                "every parameter",
                "have a gradient",
                f"none for {missing} of {len(self.parameters)}",
                "call network.forward and network.backward first",
            )


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum if asked for.

    Parameters
    ----------
    parameters : sequence of Parameter
        Such as ``network.parameters()``.
    lr : float
        Learning rate, > 0.
    momentum : float
        In [0, 1): the share of the last velocity that stays. 0 keeps no velocity at all.
    weight_decay : float
        >= 0, added to the gradient as ``weight_decay * value``.

    Notes
    -----
    With weight :math:`w`, gradient :math:`g`, momentum :math:`\mu` and weight decay
    :math:`\lambda`, starting from :math:`v = 0`,

    .. math:: v \leftarrow \mu v + g + \lambda w, \qquad w \leftarrow w - \eta v.

    The learning rate :math:`\eta` stands outside the velocity, as in PyTorch; Sutskever et
    al. keep it inside, which differs only while the learning rate changes. A step costs
    2 FLOPs a weight, 2 more for momentum and 2 more for weight decay; the state is one
    number a weight with momentum, none without.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
    in deep learning", ICML 2013, equations 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import SGD, Parameter
    >>> w = Parameter(np.array([1.0]))
    >>> optimizer = SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     w.grad = w.value.copy()  # the gradient of w**2 / 2
    ...     optimizer.step()
    >>> w.value.round(3)
    array([0.72])
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        check_fraction("SGD", "momentum", momentum)
        super().__init__(
            parameters, lr=lr, weight_decay=weight_decay, n_buffers=1 if momentum else 0
        )
        self.momentum = float(momentum)

    _update = staticmethod(sgd_update)
    _compiled_update = staticmethod(numba_update.sgd_update)

    def _settings(self) -> tuple[float, ...]:
        return float(self.lr), self.momentum, self.weight_decay


class Adam(Optimizer):
    r"""Gradient descent whose step is scaled, weight by weight, by the gradients seen so far.

    Parameters
    ----------
    parameters : sequence of Parameter
        Such as ``network.parameters()``.
    lr : float
        Learning rate, > 0; about the size of one step of one weight.
    beta1, beta2 : float
        In [0, 1): how much of the running means of gradient and squared gradient stays.
    epsilon : float
        > 0; keeps the division away from 0.
    weight_decay : float
        >= 0, added to the gradient as ``weight_decay * value``.

    Notes
    -----
    With gradient :math:`g` at step :math:`t`, starting from :math:`m = v = 0`,

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \\
        w &\leftarrow w - \eta \,
        \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}.

    Weight decay enters through the gradient (an L2 penalty) and is scaled like it;
    Loshchilov and Hutter's AdamW, which decays the weight directly, is another rule.
    A step costs 14 FLOPs a weight (a division and a square root count as one), 2 more for
    weight decay; the state is two numbers a weight. All weights share :math:`t`, also one
    that was pruned for a while.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    Comments count its lines from the first initialisation.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Adam, Parameter
    >>> w = Parameter(np.array([1.0, -3.0]))
    >>> w.grad = np.array([0.5, -200.0])
    >>> Adam([w], lr=0.1).step()
    >>> w.value.round(3)  # both moved by lr, whatever the gradient's size
    array([ 0.9, -2.9])
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        check_fraction("Adam", "beta1", beta1)
        check_fraction("Adam", "beta2", beta2)
        check_positive("Adam", "epsilon", epsilon)
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, n_buffers=2)  # l. 1-3
        self.beta1, self.beta2, self.epsilon = float(beta1), float(beta2), float(epsilon)

    _update = staticmethod(adam_update)
    _compiled_update = staticmethod(numba_update.adam_update)

    def _settings(self) -> tuple[float, ...]:
        rates = self.beta1, self.beta2, self.epsilon
        return float(self.lr), *rates, self.weight_decay, self.n_steps  # l. 5


def _decayed(grad: np.ndarray, value: np.ndarray, weight_decay: float) -> np.ndarray:
    return grad + weight_decay * value if weight_decay else grad


def _kept(array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The array with +0.0 where the mask prunes; a product with the mask would keep NaN."""
    return array if mask is None else xp_of(array).where(mask, array, array.dtype.type(0))


def _overwrite(arrays: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> None:
    for array, values in zip(arrays, new, strict=True):
        array[...] = values
