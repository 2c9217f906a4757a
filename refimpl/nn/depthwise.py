"""Depthwise convolution: each channel has a kernel of its own and sees no other channel."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import xp_of
from refimpl.nn.lowering import framed, patch_grid, pixels_of_patches


def depthwise_convolve(
    images: np.ndarray, weight: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Slide one kernel over each channel.

    Parameters
    ----------
    images : ndarray of float, shape (batch, channels, height, width)
        NumPy or CuPy.
    weight : ndarray of the same dtype, shape (channels, 1, kh, kw)
        One kernel for each channel.
    stride, padding : int
        As for `im2col`.

    Returns
    -------
    ndarray, shape (batch, channels, h_out, w_out)
        New: ``y[b, c, p, q] = sum_ij w[c, 0, i, j] x[b, c, p * stride + i, q * stride + j]``.

    Notes
    -----
    A pass over the batch for each pixel of the kernel, ``2 * kh * kw`` FLOPs for each output:
    too few for a matrix product.
    """
    grid = patch_grid(images.shape[2:], weight.shape[2:], stride=stride, padding=padding)
    y = xp_of(images).zeros((*images.shape[:2], *grid), images.dtype)
    for i, j, pixels in pixels_of_patches(framed(images, padding), weight.shape[2:], grid, stride):
        y += weight[:, :, i, j, None] * pixels
    return y


def depthwise_weight_gradient(
    dy: np.ndarray, images: np.ndarray, kernel_shape: tuple[int, int], stride: int, padding: int
) -> np.ndarray:
    """Sum what every patch adds to the gradient of its channel's kernel.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, channels, h_out, w_out)
        Gradient at the result of `depthwise_convolve`.
    images, kernel_shape, stride, padding
        As for `depthwise_convolve`.

    Returns
    -------
    ndarray, shape (channels, 1, kh, kw)
        New.
    """
    dw = xp_of(dy).empty((images.shape[1], 1, *kernel_shape), images.dtype)
    for i, j, pixels in pixels_of_patches(
        framed(images, padding), kernel_shape, dy.shape[2:], stride
    ):
        dw[:, 0, i, j] = (dy * pixels).sum(axis=(0, 2, 3))
    return dw


def depthwise_image_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    image_shape: tuple[int, int, int, int],
    stride: int,
    padding: int,
) -> np.ndarray:
    """Send the gradient of every patch back to the pixels that it was made of.

    Parameters
    ----------
    dy : ndarray of float, shape (batch, channels, h_out, w_out)
        Gradient at the result of `depthwise_convolve`.
    weight, stride, padding
        As for `depthwise_convolve`.
    image_shape : tuple of int
        ``(batch, channels, height, width)``.

    Returns
    -------
    ndarray, shape `image_shape`
        New.
    """
    batch, channels, height, width = image_shape
    shape = (batch, channels, height + 2 * padding, width + 2 * padding)
    dx = xp_of(dy).zeros(shape, dy.dtype)
    for i, j, pixels in pixels_of_patches(dx, weight.shape[2:], dy.shape[2:], stride):
        pixels += weight[:, :, i, j, None] * dy
    return dx[:, :, padding : padding + height, padding : padding + width]
