"""Batch normalisation: every channel with mean 0 and variance 1, then as it learns to be."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_positive, xp_of
from refimpl.nn.layer import Layer, check_dy, check_forward_ran, check_training_dtype
from refimpl.nn.parameter import Buffer, Parameter

OVER = (0, 2, 3)  # batch, height and width: all but the channels


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
        self._seen: tuple[np.ndarray, np.ndarray, bool] | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Normalise; `x` has shape (batch, channels, height, width) and the dtype of `gamma`."""
        shape, dtypes = (-1, self.gamma.size, -1, -1), (self.gamma.dtype.type,)
        check_array("BatchNorm2d.forward", "x", x, ndim=4, shape=shape, dtypes=dtypes)
        mean, var = self.running_mean.value, self.running_var.value
        if training:
            mean, var = self._statistics(x)
        scale = 1 / xp_of(x).sqrt(var + x.dtype.type(self.epsilon))
        x_hat = (x - _per_channel(mean)) * _per_channel(scale)
        self._seen = x_hat, scale, training
        return x_hat * _per_channel(self.gamma.value) + _per_channel(self.beta.value)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient at the input; leave ``sum(dy x_hat)`` and ``sum(dy)``."""
        check_forward_ran("BatchNorm2d", self._seen)
        x_hat, scale, trained = self._seen
        check_dy("BatchNorm2d", dy, x_hat.shape, self.gamma.dtype)
        self.gamma.grad = (dy * x_hat).sum(axis=OVER)
        self.beta.grad = dy.sum(axis=OVER)
        dx_hat = dy
        if trained:
            n = dy.size // dy.shape[1]
            dx_hat = (
                dy - _per_channel(self.beta.grad / n) - x_hat * _per_channel(self.gamma.grad / n)
            )
        return dx_hat * _per_channel(self.gamma.value * scale)

    def _statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of each channel, which the running statistics take in."""
        n = x.size // x.shape[1]
        if n < 2:
            advice = "train on larger batches or larger images"
            requirement = "hold 2 values or more for each channel while training"
            raise bad_argument("BatchNorm2d.forward", "x", requirement, f"{n}", advice)
        mean = x.mean(axis=OVER)
        centred = x - _per_channel(mean)
        var = (centred * centred).mean(axis=OVER)
        for running, seen in ((self.running_mean, mean), (self.running_var, var * n / (n - 1))):
            step = (seen - running.value) * self.momentum
            running.value = (running.value + step).astype(running.dtype)
        return mean, var


def _per_channel(vector: np.ndarray) -> np.ndarray:
    return vector[:, None, None]
