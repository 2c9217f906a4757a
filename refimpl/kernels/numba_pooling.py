"""Max pooling and its gradient, one channel of one image at a time.

The definitions are `refimpl.nn.pooling.max_pool` and `refimpl.nn.pooling.max_pool_gradient`, which
go through the whole batch once for each pixel of a window. Here a channel is read once and its
result written once; with the same comparisons in the same order, the results are the same.

They trust their arguments, which the layer checks, and take C-contiguous arrays only.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread


@compiled
def max_pool(images, kernel_shape, stride, largest, chosen):
    """Take the largest pixel of each window, and remember which it was.

    Parameters
    ----------
    images : ndarray of float32 or float64, shape (batch, channels, height, width)
        IN.
    kernel_shape : tuple of int
        IN. ``(kh, kw)``.
    stride : int
        IN. Pixels from one window to the next.
    largest : ndarray, shape (batch, channels, h_out, w_out)
        OUT. Of the same dtype.
    chosen : ndarray of int32, same shape
        OUT. ``i * kw + j`` of the first of the largest, or of the first NaN.

    Notes
    -----
    2x2 windows side by side have a branch of their own: with these three numbers as constants
    the compiler unrolls the window and makes vector instructions of a row of them.
    """
    channels = images.reshape(-1, images.shape[2], images.shape[3])
    maxima = largest.reshape(-1, largest.shape[2], largest.shape[3])
    places = chosen.reshape(maxima.shape)
    for c in prange(len(channels)):
        if kernel_shape == (2, 2) and stride == 2:
            max_pool_channel(channels[c], 2, 2, 2, maxima[c], places[c])
        else:
            kh, kw = kernel_shape
            max_pool_channel(channels[c], kh, kw, stride, maxima[c], places[c])


@compiled_for_one_thread
def max_pool_channel(image, kh, kw, stride, largest, chosen):
    """Take the largest pixel of each window of one channel.

    Parameters
    ----------
    image : ndarray, shape (height, width)
        IN.
    kh, kw, stride : int
        IN.
    largest, chosen : ndarray, shape (h_out, w_out)
        OUT.

    Notes
    -----
    No branch depends on a pixel: which of two is larger cannot be guessed.
    """
    for p in range(largest.shape[0]):
        for q in range(largest.shape[1]):
            y, x = p * stride, q * stride
            best, place = image[y, x], np.int32(0)
            for i in range(kh):
                for j in range(kw):
                    pixel = image[y + i, x + j]
                    better = not pixel <= best and best == best  # NaN wins, the first NaN stays
                    best = pixel if better else best
                    place = np.int32(i * kw + j) if better else place
            largest[p, q], chosen[p, q] = best, place


@compiled
def max_pool_gradient(dy, chosen, kernel_shape, stride, dx):
    """Send each window's gradient to the pixel that was its largest.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (batch, channels, h_out, w_out)
        IN. Gradient at the first result of `max_pool`.
    chosen : ndarray of int32, same shape
        IN. The second result of `max_pool`; each is in ``[0, kh * kw)``.
    kernel_shape, stride
        IN. As for `max_pool`.
    dx : ndarray, shape (batch, channels, height, width)
        OUT.

    Notes
    -----
    One addition for each window, wherever its largest pixel was: how far that lies from the
    window's corner is looked up in a table. The zeros around it were written to the cache just
    before.
    """
    height, width = dx.shape[2], dx.shape[3]
    h_out, w_out = dy.shape[2], dy.shape[3]
    channels = dx.reshape(-1, height * width)
    gradients, places = dy.reshape(-1, h_out, w_out), chosen.reshape(-1, h_out, w_out)
    steps = pixel_steps(kernel_shape, width)
    for c in prange(len(channels)):
        channels[c] = 0
        for p in range(h_out):
            for q in range(w_out):
                corner = (p * width + q) * stride
                step = steps[np.uintp(places[c, p, q])]
                channels[c, np.uintp(corner + step)] += gradients[c, p, q]


@compiled_for_one_thread
def pixel_steps(kernel_shape, width):
    """How far does each pixel of a window lie behind its first, in an image of this width?"""
    kh, kw = kernel_shape
    steps = np.empty(kh * kw, np.intp)
    for place in range(kh * kw):
        steps[place] = place // kw * width + place % kw
    return steps
