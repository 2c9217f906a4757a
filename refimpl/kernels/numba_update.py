"""What an optimiser does with a gradient, in one pass over the weights.

The definitions are `refimpl.nn.optim.sgd_update` and `refimpl.nn.optim.adam_update`: one NumPy
operation after the other, each of which reads and writes arrays as large as the weights. Here a
weight, its gradient, its mask and what is remembered of it are read once, and written once. With
the same operations in the same order and rounding, the results have the same bits.

No mask and no velocity are passed as None, and compiled for by themselves. They trust their
arguments, which the optimiser checks; all arrays are flat and contiguous.
"""

from __future__ import annotations

import numpy as np

from refimpl.kernels.numba_csr import compiled_for_one_thread


@compiled_for_one_thread
def sgd_update(grad, mask, lr, momentum, weight_decay, value, velocity=None):
    """Take a step of stochastic gradient descent.

    Parameters
    ----------
    grad : ndarray of float32 or float64, shape (n,)
        IN. The gradient; what a pruned weight's says has no effect, not even NaN.
    mask : ndarray of bool, shape (n,), or None
        IN. True where a weight is kept.
    lr, momentum, weight_decay : float
        IN. Each is rounded to the dtype of `value` first.
    value : ndarray, shape (n,)
        IN and OUT. The weights; a pruned one becomes +0.0.
    velocity : ndarray, shape (n,), optional
        IN and OUT. None for a step without momentum.

    Notes
    -----
    Choosing between a number and zero is no branch: the compiler makes vector instructions of
    the whole loop.
    """
    number = value.dtype.type
    zero, rate, share, decay = number(0), number(lr), number(momentum), number(weight_decay)
    for i in range(value.size):
        kept = mask is None or mask[i]
        g = grad[i] + decay * value[i] if decay else grad[i]
        if velocity is not None:
            g = share * velocity[i] + g
            velocity[i] = g if kept else zero
        w = value[i] - rate * g
        value[i] = w if kept else zero


@compiled_for_one_thread
def adam_update(grad, mask, lr, beta1, beta2, epsilon, weight_decay, t, value, m, v):
    """Take a step of Adam.

    Parameters
    ----------
    grad, mask, lr, weight_decay
        IN. As for `sgd_update`.
    beta1, beta2, epsilon : float
        IN. As for `refimpl.nn.Adam`.
    t : int
        IN. Number of this step, from 1.
    value, m, v : ndarray, shape (n,)
        IN and OUT. The weights, and the running means of gradient and squared gradient.
    """
    number = value.dtype.type
    zero, rate, decay, eps = number(0), number(lr), number(weight_decay), number(epsilon)
    old_m, new_m, all_m = number(beta1), number(1 - beta1), number(1 - beta1 ** float(t))
    old_v, new_v, all_v = number(beta2), number(1 - beta2), number(1 - beta2 ** float(t))
    for i in range(value.size):
        kept = mask is None or mask[i]
        g = grad[i] + decay * value[i] if decay else grad[i]
        first = old_m * m[i] + new_m * g
        second = old_v * v[i] + new_v * (g * g)
        spread = np.sqrt(np.divide(second, all_v)) + eps
        w = value[i] - rate * np.divide(np.divide(first, all_m), spread)
        m[i] = first if kept else zero
        v[i] = second if kept else zero
        value[i] = w if kept else zero
