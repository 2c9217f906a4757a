"""Smooth activations, whose second derivative is not zero as a ReLU's is."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, check_array, xp_of
from refimpl.nn.layer import Layer, check_dy, check_forward_ran


class Activation(Layer):
    """Apply one smooth function of one number to every entry.

    A subclass states the function and its first two derivatives, side by side. The first is all
    that `backward` needs: ``dx = dy * slope(x)``. The second is for those who ask how the slope
    itself changes, such as `hessian_diagonal`.
    """

    def __init__(self) -> None:
        self._x: np.ndarray | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Apply the function; `x` may have any shape."""
        check_array(f"{type(self).__name__}.forward", "x", x, dtypes=FLOAT_DTYPES)
        self._x = x
        return self.value(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Multiply by the slope where the last `forward` was."""
        check_forward_ran(type(self).__name__, self._x)
        check_dy(type(self).__name__, dy, self._x.shape)
        return dy * self.slope(self._x)

    @staticmethod
    @abstractmethod
    def value(x: np.ndarray) -> np.ndarray:
        """Compute the function itself, entry by entry, in a new array of the dtype of `x`."""

    @staticmethod
    @abstractmethod
    def slope(x: np.ndarray) -> np.ndarray:
        """Compute the first derivative, as `value`."""

    @staticmethod
    @abstractmethod
    def second_derivative(x: np.ndarray) -> np.ndarray:
        """Compute the second derivative, as `value`."""


class Sigmoid(Activation):
    r"""Squash every number into (0, 1): ``y = 1 / (1 + exp(-x))``.

    Notes
    -----
    With :math:`s` for the function, :math:`s' = s (1 - s)` and :math:`s'' = s' (1 - 2 s)`.
    All three are computed from ``exp(-|x|)``, which never overflows. So the slope keeps its
    digits far from 0, where ``1 - s`` would have none left: in float64 ``s(40)`` is 1.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Sigmoid()
    >>> layer.forward(np.array([[0.0, -1000.0, 1000.0]]))
    array([[0.5, 0. , 1. ]])
    >>> layer.backward(np.array([[8.0, 8.0, 8.0]]))
    array([[2., 0., 0.]])
    """

    @staticmethod
    def value(x: np.ndarray) -> np.ndarray:
        """Compute ``1 / (1 + exp(-x))``."""
        decay = _decay(x)
        return xp_of(x).where(x < 0, decay, 1) / (1 + decay)

    @staticmethod
    def slope(x: np.ndarray) -> np.ndarray:
        """Compute ``exp(-|x|) / (1 + exp(-|x|))**2``, which is even in `x`."""
        decay = _decay(x)
        return decay / (1 + decay) ** 2

    @staticmethod
    def second_derivative(x: np.ndarray) -> np.ndarray:
        """Compute ``-slope(x) * tanh(x / 2)``, since ``1 - 2 s(x) = -tanh(x / 2)``."""
        return -Sigmoid.slope(x) * xp_of(x).tanh(x / 2)


class Tanh(Activation):
    r"""Squash every number into (-1, 1): ``y = tanh(x)``.

    Notes
    -----
    :math:`\tanh' = 1 - \tanh^2` and :math:`\tanh'' = -2 \tanh \tanh'`. Since ``tanh(x) =
    2 s(2 x) - 1`` of the sigmoid s, the slope is ``4 s'(2 x)``, and computed so: ``1 - tanh**2`` is
    exactly 0 from ``x = 19.1`` on, where the slope is 1e-16 and not 0.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Tanh()
    >>> layer.forward(np.array([[0.0, -1000.0]]))
    array([[ 0., -1.]])
    >>> layer.backward(np.array([[3.0, 3.0]]))
    array([[3., 0.]])
    """

    @staticmethod
    def value(x: np.ndarray) -> np.ndarray:
        """Compute ``tanh(x)``."""
        return xp_of(x).tanh(x)

    @staticmethod
    def slope(x: np.ndarray) -> np.ndarray:
        """Compute ``1 - tanh(x)**2`` without the subtraction."""
        decay = _decay(x) ** 2  # exp(-|2 x|), where 2 x itself might overflow
        return 4 * decay / (1 + decay) ** 2

    @staticmethod
    def second_derivative(x: np.ndarray) -> np.ndarray:
        """Compute ``-2 * tanh(x) * slope(x)``."""
        return -2 * Tanh.value(x) * Tanh.slope(x)


def _decay(x: np.ndarray) -> np.ndarray:
    return xp_of(x).exp(-abs(x))
