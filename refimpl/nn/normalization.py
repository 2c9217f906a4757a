"""Batch normalisation: every channel with mean 0 and variance 1, then as it learns to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_positive, xp_of
from refimpl.kernels import numba_normalization
from refimpl.kernels.layer_kernels import compiled_for
from refimpl.nn.layer import Layer, check_dy, check_forward_ran, check_training_dtype
from refimpl.nn.parameter import Buffer, Parameter

OVER = (0, 2, 3)  # batch, height and width: all but the channels


def channel_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take mean and biased variance of each channel.

    Parameters
    ----------
    x : ndarray of float, shape (batch, channels, height, width)
        NumPy or CuPy.

    Returns
    -------
    mean, var : ndarray, shape (channels,)
        New.
    """
    mean = x.mean(axis=OVER)
    centred = x - _per_channel(mean)
    return mean, (centred * centred).mean(axis=OVER)


def normalize(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, gamma: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    """Give each channel mean 0 and variance 1, then the ones that it has learned.

    Parameters
    ----------
    x : ndarray of float, shape (batch, channels, height, width)
        NumPy or CuPy.
    mean, scale, gamma, beta : ndarray, shape (channels,)
        `scale` is 1 over the standard deviation.

    Returns
    -------
    ndarray, shape of `x`
        New.
    """
    x_hat = (x - _per_channel(mean)) * _per_channel(scale)
    return x_hat * _per_channel(gamma) + _per_channel(beta)


def normalization_sums(
    dy: np.ndarray, x: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum up what the gradients of `gamma` and `beta` are.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, channels, height, width)
        Gradient at the result of `normalize`.
    x, mean, scale
        As for `normalize`.

    Returns
    -------
    dgamma, dbeta : ndarray, shape (channels,)
        New.
    """
    x_hat = (x - _per_channel(mean)) * _per_channel(scale)
    return (dy * x_hat).sum(axis=OVER), dy.sum(axis=OVER)


def normalization_gradient(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    gamma: np.ndarray,
    dgamma: np.ndarray,
    dbeta: np.ndarray,
) -> np.ndarray:
    """Send the gradient back through `normalize` and the statistics that it used.

    Parameters
    ----------
    dy, x, mean, scale
        As for `normalization_sums`.
    gamma, dgamma, dbeta : ndarray, shape (channels,)
        The last two as `normalization_sums` returns them.

    Returns
    -------
    ndarray, shape of `x`
        New.
    """
    n = max(dy.size // dy.shape[1], 1)
    x_hat = (x - _per_channel(mean)) * _per_channel(scale)
    dx_hat = dy - _per_channel(dbeta / n) - x_hat * _per_channel(dgamma / n)
    return dx_hat * _per_channel(gamma * scale)


class BatchNorm2d(Layer):
    r"""Normalise each channel over the batch while training, by running statistics afterwards.

    Parameters
    ----------
    channels : int
        At least 1.
    momentum : float
        In (0, 1]: how much of the running statistics each training pass replaces.
    epsilon : float
        > 0; keeps the division away from 0.
    dtype : dtype
        float32, or float64 for gradient checks.

    Attributes
    ----------
    gamma, beta : Parameter, shape (channels,)
        Scale and shift, ones and zeros at first. `Network.weights` does not list them.
    running_mean, running_var : Buffer, shape (channels,)
        What `forward` normalises by when not training, zeros and ones at first. Part of
        `Network.state`.

    Notes
    -----
    With mean :math:`\mu` and biased variance :math:`\sigma^2` of the n values of a channel,

    .. math::

        \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = \gamma \hat x + \beta,
        \qquad
        dx = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
        \Bigl(dy - \tfrac1n \textstyle\sum dy - \hat x \, \tfrac1n \sum dy \, \hat x\Bigr).

    When not training, :math:`\mu` and :math:`\sigma^2` are constants, and the two sums are
    missing from dx. The running variance takes in the unbiased :math:`\sigma^2 n / (n - 1)`.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", ICML 2015, Algorithm 1; section 3.2 for
    convolutions. Differs from the paper in that inference uses running averages, not a pass over
    the training data (Algorithm 2), as all libraries do.

    Examples
    --------
    >>> import numpy as np
    >>> layer = BatchNorm2d(1, dtype=np.float64)
    >>> x = np.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    >>> layer.forward(x, training=True).ravel().round(3)
    array([-1.,  1.])
    >>> layer.running_mean.value, layer.running_var.value  # a tenth of the way to 2 and to 2
    (array([0.2]), array([1.1]))
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        dtype: type = np.float32,
    ) -> None:
        check_count("BatchNorm2d", "channels", channels, 1)
        check_positive("BatchNorm2d", "momentum", momentum)
        if momentum > 1:
            advice = "0.1 keeps nine tenths of the running statistics"
            raise bad_argument("BatchNorm2d", "momentum", "be in (0, 1]", momentum, advice)
        check_positive("BatchNorm2d", "epsilon", epsilon)
        check_training_dtype("BatchNorm2d", dtype)
        self.gamma = Parameter(np.ones(channels, dtype))
        self.beta = Parameter(np.zeros(channels, dtype))
        self.running_mean = Buffer(np.zeros(channels, dtype))
        self.running_var = Buffer(np.ones(channels, dtype))
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self._seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._trained = False

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Normalise; `x` has shape (batch, channels, height, width) and the dtype of `gamma`."""
        shape, dtypes = (-1, self.gamma.size, -1, -1), (self.gamma.dtype.type,)
        check_array("BatchNorm2d.forward", "x", x, ndim=4, shape=shape, dtypes=dtypes)
        x = xp_of(x).ascontiguousarray(x, dtype=self.gamma.dtype)
        mean, var = self._statistics(x) if training else self._running_statistics()
        scale = 1 / xp_of(x).sqrt(var + x.dtype.type(self.epsilon))
        self._seen, self._trained = (x, mean, scale), training
        arguments = (*self._seen, self.gamma.value, self.beta.value)
        return _computed(normalize, numba_normalization.normalize, arguments, x.shape)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient at the input; leave ``sum(dy x_hat)`` and ``sum(dy)``."""
        check_forward_ran("BatchNorm2d", self._seen)
        shape, dtype = self._seen[0].shape, self.gamma.dtype
        check_dy("BatchNorm2d", dy, shape, dtype)
        arguments = (xp_of(dy).ascontiguousarray(dy, dtype=dtype), *self._seen)
        kernel = numba_normalization.normalization_sums
        sums = _computed(normalization_sums, kernel, arguments, self.gamma.shape, self.beta.shape)
        self.gamma.grad, self.beta.grad = sums
        if not self._trained:  # then mean and variance were constants
            return dy * _per_channel(self.gamma.value * self._seen[2])
        arguments = (*arguments, self.gamma.value, *sums)
        kernel = numba_normalization.normalization_gradient
        return _computed(normalization_gradient, kernel, arguments, shape)

    def _running_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        return self.running_mean.value.copy(), self.running_var.value.copy()

    def _statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of each channel, which the running statistics take in."""
        n = x.size // x.shape[1]
        if n < 2:
            advice = "train on larger batches or larger images"
            requirement = "hold 2 values or more for each channel while training"
            raise bad_argument("BatchNorm2d.forward", "x", requirement, f"{n}", advice)
        shapes = self.running_mean.shape, self.running_var.shape
        kernel = numba_normalization.channel_statistics
        mean, var = _computed(channel_statistics, kernel, (x,), *shapes)
        for running, seen in ((self.running_mean, mean), (self.running_var, var * n / (n - 1))):
            step = (seen - running.value) * self.momentum
            running.value = (running.value + step).astype(running.dtype)
        return mean, var


def _per_channel(vector: np.ndarray) -> np.ndarray:
    return vector[:, None, None]


def _computed(
    clear: Callable[..., Any], compiled: Callable[..., None], arguments: tuple, *shapes: tuple
) -> Any:
    """What the definition returns, or what its compiled twin leaves in arrays of these shapes."""
    if not compiled_for(arguments[0]):
        return clear(*arguments)
    results = tuple(np.empty(shape, arguments[0].dtype) for shape in shapes)
    compiled(*arguments, *results)
    return results if len(results) > 1 else results[0]
