"""Batch normalisation, one channel at a time.

The definitions are in `refimpl.nn.normalization`, where each operation is a pass over the whole
batch and writes an array as large as the images. Here the statistics read a channel twice, and
what follows from them takes one pass.

Sums go pixel by pixel: a channel of every image is added to a row of as many sums as it has pixels.
No two of them wait for each other, so the compiler adds whole registers; at the end they are added
up in float64. A channel is one thread's, so the bits are the same on any number of threads.

They trust their arguments, which the layer checks, and take C-contiguous arrays only.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread


def channel_statistics(x, mean, var):
    """Take mean and biased variance of each channel.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (batch, channels, height, width)
        IN. Of one image and one pixel or more.
    mean, var : ndarray, shape (channels,)
        OUT. Of the same dtype.
    """
    channels = flat(x)
    _channel_statistics(channels, np.empty(channels.shape[1:], x.dtype), mean, var)


@compiled
def _channel_statistics(x, sums, mean, var):
    batch, channels, n_pixels = x.shape
    for c in prange(channels):
        row = sums[c]
        row[:] = 0
        for b in range(batch):
            for j in range(n_pixels):
                row[j] += x[b, c, j]
        mean[c] = m = x.dtype.type(total(row) / (batch * n_pixels))
        row[:] = 0
        for b in range(batch):
            for j in range(n_pixels):
                centred = x[b, c, j] - m
                row[j] += centred * centred
        var[c] = total(row) / (batch * n_pixels)


def normalize(x, mean, scale, gamma, beta, out):
    """Give each channel mean 0 and variance 1, then the ones that it has learned.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (batch, channels, height, width)
        IN.
    mean, scale, gamma, beta : ndarray, shape (channels,)
        IN. `scale` is 1 over the standard deviation.
    out : ndarray, shape of `x`
        OUT.
    """
    _normalize(flat(x), mean, scale, gamma, beta, flat(out))


@compiled
def _normalize(x, mean, scale, gamma, beta, out):
    batch, channels, n_pixels = x.shape
    for c in prange(channels):
        m, s, g, shift = mean[c], scale[c], gamma[c], beta[c]
        for b in range(batch):
            for j in range(n_pixels):
                out[b, c, j] = (x[b, c, j] - m) * s * g + shift


def normalization_sums(dy, x, mean, scale, dgamma, dbeta):
    """Sum up what the gradients of `gamma` and `beta` are.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (batch, channels, height, width)
        IN. Gradient at the result of `normalize`.
    x, mean, scale
        IN. As for `normalize`.
    dgamma, dbeta : ndarray, shape (channels,)
        OUT.
    """
    channels = flat(dy)
    sums = np.empty((2, *channels.shape[1:]), x.dtype)
    _normalization_sums(channels, flat(x), mean, scale, sums, dgamma, dbeta)


@compiled
def _normalization_sums(dy, x, mean, scale, sums, dgamma, dbeta):
    batch, channels, n_pixels = x.shape
    for c in prange(channels):
        m, s, of_products, of_dy = mean[c], scale[c], sums[0, c], sums[1, c]
        of_products[:] = 0
        of_dy[:] = 0
        for b in range(batch):
            for j in range(n_pixels):
                of_products[j] += dy[b, c, j] * ((x[b, c, j] - m) * s)
                of_dy[j] += dy[b, c, j]
        dgamma[c] = total(of_products)
        dbeta[c] = total(of_dy)


def normalization_gradient(dy, x, mean, scale, gamma, dgamma, dbeta, out):
    """Send the gradient back through `normalize` and the statistics that it used.

    Parameters
    ----------
    dy, x, mean, scale
        IN. As for `normalization_sums`.
    gamma, dgamma, dbeta : ndarray, shape (channels,)
        IN. The last two as `normalization_sums` left them.
    out : ndarray, shape of `x`
        OUT.
    """
    n = x.dtype.type(max(x.size // x.shape[1], 1))
    of_products, of_dy = dgamma / n, dbeta / n
    _normalization_gradient(flat(dy), flat(x), mean, scale, gamma, of_products, of_dy, flat(out))


@compiled
def _normalization_gradient(dy, x, mean, scale, gamma, of_products, of_dy, out):
    batch, channels, n_pixels = x.shape
    for c in prange(channels):
        m, s, factor = mean[c], scale[c], gamma[c] * scale[c]
        per_dy, per_product = of_dy[c], of_products[c]
        for b in range(batch):
            for j in range(n_pixels):
                x_hat = (x[b, c, j] - m) * s
                out[b, c, j] = (dy[b, c, j] - per_dy - x_hat * per_product) * factor


def flat(images):
    """Give images as (batch, channels, pixels), without a copy."""
    return images.reshape(*images.shape[:2], images.shape[2] * images.shape[3])


@compiled_for_one_thread
def total(row):
    """Add up the numbers of a vector in float64."""
    result = np.float64(0)
    for number in row:
        result += number
    return result
