"""Layers that state their forward and their backward pass side by side."""

from __future__ import annotations

import math

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
    check_rng,
    xp_of,
)
from refimpl.nn.layer import (
    Layer,
    WeightedLayer,
    check_dy,
    check_forward_ran,
    check_training_dtype,
)
from refimpl.nn.parameter import Parameter


class Linear(WeightedLayer):
    """Multiply by a weight matrix and add a bias: ``y = x @ W.T + b``.

    Parameters
    ----------
    n_in, n_out : int
        Features that come in and go out, at least 1.
    rng : numpy.random.Generator
        Draws the weight. The draw is made in float64 and rounded, so that one seed gives
        the same network in either dtype, up to rounding.
    dtype : dtype
        float32, or float64 for gradient checks.
    bias : bool
        Whether there is a bias.

    Attributes
    ----------
    weight : Parameter, shape (n_out, n_in)
        He-normal: mean 0, variance ``2 / n_in``.
    bias : Parameter of shape (n_out,), or None
        Zeros.

    Notes
    -----
    With ``dy`` the gradient at the output, the chain rule gives::

        dx = dy @ W        dW = dy.T @ x        db = dy.sum(axis=0)

    Cost: ``2 * batch * n_in * n_out`` FLOPs forward, twice that backward. The gradient of
    the weight is dense, also where a mask prunes the weight.

    References
    ----------
    Initialisation: He et al., 2015, "Delving Deep into Rectifiers", equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Linear(2, 1, rng=np.random.default_rng(0))
    >>> layer.weight.value = np.array([[3.0, -1.0]], dtype=np.float32)
    >>> layer.forward(np.array([[1.0, 2.0]], dtype=np.float32))
    array([[1.]], dtype=float32)
    >>> layer.backward(np.array([[10.0]], dtype=np.float32))
    array([[ 30., -10.]], dtype=float32)
    >>> layer.weight.grad
    array([[10., 20.]], dtype=float32)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rng: np.random.Generator,
        dtype: type = np.float32,
        bias: bool = True,
    ) -> None:
        check_count("Linear", "n_in", n_in, 1)
        check_count("Linear", "n_out", n_out, 1)
        check_rng("Linear", rng)
        check_training_dtype("Linear", dtype)
        weight = rng.standard_normal((n_out, n_in)) * math.sqrt(2 / n_in)
        self.weight = Parameter(weight.astype(dtype))
        self.bias = Parameter(np.zeros(n_out, dtype)) if bias else None
        self._x: np.ndarray | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Compute ``x @ W.T + b``; `x` has shape (batch, n_in) and the weight's dtype."""
        shape = (-1, self.weight.shape[1])
        dtypes = (self.weight.dtype.type,)
        check_array("Linear.forward", "x", x, ndim=2, shape=shape, dtypes=dtypes)
        self._x = x
        y = x @ self.weight.value.T  # (batch, n_out)
        if self.bias is not None:
            y += self.bias.value
        return y

    def input_rows(self) -> np.ndarray:
        """What the weight met in the last `forward`: that very input, (batch, n_in)."""
        check_forward_ran("Linear", self._x)
        return self._x

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Leave ``dy.T @ x`` and ``dy.sum(axis=0)`` as the gradients."""
        check_forward_ran("Linear", self._x)
        shape = (len(self._x), self.weight.shape[0])
        check_dy("Linear", dy, shape, self.weight.dtype)
        self.weight.grad = dy.T @ self._x  # (n_out, n_in)
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=0)

    def _input_gradient(self, dy: np.ndarray) -> np.ndarray:
        return dy @ self.weight.value  # (batch, n_in)


class ReLU(Layer):
    """Keep what is positive, and put zero elsewhere: ``y = max(x, 0)``.

    Notes
    -----
    ``dx = dy`` where ``x > 0``, and 0 elsewhere. At ``x = 0`` there is no derivative; like
    everybody else's, ours is 0 there. NaN comes out as NaN.

    Examples
    --------
    >>> import numpy as np
    >>> layer = ReLU()
    >>> layer.forward(np.array([[-2.0, 3.0]]))
    array([[0., 3.]])
    >>> layer.backward(np.array([[5.0, 5.0]]))
    array([[0., 5.]])
    """

    def __init__(self) -> None:
        self._active: np.ndarray | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Compute ``max(x, 0)``; `x` may have any shape."""
        check_array("ReLU.forward", "x", x, dtypes=FLOAT_DTYPES)
        self._active = x > 0
        return xp_of(x).maximum(x, 0)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Pass the gradient where the input was positive."""
        check_forward_ran("ReLU", self._active)
        check_dy("ReLU", dy, self._active.shape)
        # All bits or none: a product would turn infinity into NaN, and np.where branches on
        # signs that no processor can guess.
        bits = dy.view(f"i{dy.dtype.itemsize}")
        return (bits & -self._active.astype(bits.dtype)).view(dy.dtype)


class Flatten(Layer):
    """Lay out each example as one row: ``(batch, channels, height, width)`` to ``(batch, n)``.

    Notes
    -----
    Nothing is computed, and where the memory layout allows nothing is copied: the output
    may share memory with the input.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten().forward(np.zeros((5, 1, 8, 8))).shape
    (5, 64)
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Reshape to two axes; `x` has shape (batch, ...) with at least one more axis."""
        check_array("Flatten.forward", "x", x, dtypes=FLOAT_DTYPES)
        if x.ndim < 2:
            advice = "add a batch axis with x[np.newaxis]"
            actual = f"shape {x.shape}"
            raise bad_argument("Flatten.forward", "x", "have 2 axes or more", actual, advice)
        self._shape = x.shape
        return x.reshape(_flat(x.shape))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Reshape the gradient back to the input's shape."""
        check_forward_ran("Flatten", self._shape)
        check_dy("Flatten", dy, _flat(self._shape))
        return dy.reshape(self._shape)


class Dropout(Layer):
    """Drop each activation with a given probability while training, and scale up the rest.

    Parameters
    ----------
    rate : float
        Probability to drop, in [0, 1).
    rng : numpy.random.Generator
        Draws what is dropped, anew for every training pass.

    Notes
    -----
    Inverted dropout: a kept activation is divided by ``1 - rate``, so that the expected
    output is the input and nothing has to be rescaled afterwards. When not training, the
    layer returns its input, the very same array. `backward` repeats the choice of the last
    `forward`.

    References
    ----------
    Srivastava et al., 2014, "Dropout", section 4; differs from the paper in that it scales
    while training (their section 10) instead of at test time.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Dropout(0.5, rng=np.random.default_rng(0))
    >>> layer.forward(np.ones((1, 4)), training=True)
    array([[2., 0., 0., 0.]])
    >>> layer.forward(np.ones((1, 4)))
    array([[1., 1., 1., 1.]])
    """

    def __init__(self, rate: float, *, rng: np.random.Generator) -> None:
        check_fraction("Dropout", "rate", rate)
        check_rng("Dropout", rng)
        self.rate = float(rate)
        self._rng = rng
        self._shape: tuple[int, ...] | None = None
        self._kept: np.ndarray | None = None  # None when the last pass dropped nothing

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Drop at random if `training`, else return `x` itself; `x` may have any shape."""
        check_array("Dropout.forward", "x", x, dtypes=FLOAT_DTYPES)
        self._shape = x.shape
        self._kept = None
        if training:
            self._kept = xp_of(x).asarray(self._rng.random(x.shape) >= self.rate)
        return self._drop(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Drop and scale the gradient where the last `forward` did."""
        check_forward_ran("Dropout", self._shape)
        check_dy("Dropout", dy, self._shape)
        return self._drop(dy)

    def _drop(self, x: np.ndarray) -> np.ndarray:
        if self._kept is None:
            return x
        return xp_of(x).where(self._kept, x / (1 - self.rate), x.dtype.type(0))


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])
