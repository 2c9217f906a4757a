"""Convolution and its two gradients, a few images at a time so that the columns stay in cache.

The definitions are `refimpl.nn.convolution.convolve` and its neighbours, which lay out the patches
of a whole batch at once: with 5x5 kernels 25 times the memory of the images, written and read
through main memory. Here

* one image is laid out at a time, into the same small array again and again;
* that array is multiplied at once by BLAS, which finds it in the cache;
* nothing is kept for the backward pass: laying out again costs less than reading it back.

A batch is cut into `N_GROUPS` groups of images whatever the number of threads, so that gradients
that are summed over the batch have the same bits on any.

They trust their arguments, which the layers check, and take C-contiguous arrays only.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread

N_GROUPS = 16


@compiled
def convolve(images, weight, stride, padding, out):
    """Slide kernels over images.

    Parameters
    ----------
    images : ndarray of float32 or float64, shape (batch, c_in, height, width)
        IN.
    weight : ndarray, shape (c_out, c_in, kh, kw)
        IN. Of the same dtype.
    stride, padding : int
        IN. As for `refimpl.nn.im2col`.
    out : ndarray, shape (batch, c_out, h_out, w_out)
        OUT.
    """
    batch, (c_out, _, kh, kw) = len(images), weight.shape
    n_pixels = out.shape[2] * out.shape[3]
    kernels = weight.reshape(c_out, -1)
    products = out.reshape(batch, c_out, n_pixels)
    columns = np.empty((N_GROUPS, kernels.shape[1], n_pixels), images.dtype)
    for group in prange(N_GROUPS):
        for b in range(group * batch // N_GROUPS, (group + 1) * batch // N_GROUPS):
            lay_out_patches(images[b], kh, kw, stride, padding, out.shape[3], columns[group])
            np.dot(kernels, columns[group], products[b])


@compiled
def convolution_weight_gradient(dy, images, stride, padding, out):
    """Sum what every patch adds to the gradient of the kernels.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (batch, c_out, h_out, w_out)
        IN. Gradient at the result of `convolve`.
    images : ndarray, shape (batch, c_in, height, width)
        IN.
    stride, padding : int
        IN.
    out : ndarray, shape (c_out, c_in, kh, kw)
        OUT.
    """
    batch, c_out, h_out, w_out = dy.shape
    kh, kw = out.shape[2], out.shape[3]
    gradients = dy.reshape(batch, c_out, h_out * w_out)
    n_weights = out.shape[1] * kh * kw
    columns = np.empty((N_GROUPS, n_weights, h_out * w_out), images.dtype)
    sums = np.zeros((N_GROUPS, c_out, n_weights), images.dtype)
    terms = np.empty((N_GROUPS, c_out, n_weights), images.dtype)
    for group in prange(N_GROUPS):
        for b in range(group * batch // N_GROUPS, (group + 1) * batch // N_GROUPS):
            lay_out_patches(images[b], kh, kw, stride, padding, w_out, columns[group])
            np.dot(gradients[b], columns[group].T, terms[group])
            add_to(sums[group], terms[group])
    total = out.reshape(c_out, n_weights)
    total[:] = 0
    for group in range(N_GROUPS):
        add_to(total, sums[group])


@compiled
def convolution_image_gradient(dy, weight, stride, padding, out):
    """Send the gradient of every patch back to the pixels that it was copied from.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (batch, c_out, h_out, w_out)
        IN. Gradient at the result of `convolve`.
    weight : ndarray, shape (c_out, c_in, kh, kw)
        IN.
    stride, padding : int
        IN.
    out : ndarray, shape (batch, c_in, height, width)
        OUT.
    """
    batch, c_out, h_out, w_out = dy.shape
    kh, kw = weight.shape[2], weight.shape[3]
    kernels = weight.reshape(c_out, -1)
    gradients = dy.reshape(batch, c_out, h_out * w_out)
    columns = np.empty((N_GROUPS, kernels.shape[1], h_out * w_out), dy.dtype)
    for group in prange(N_GROUPS):
        for b in range(group * batch // N_GROUPS, (group + 1) * batch // N_GROUPS):
            np.dot(kernels.T, gradients[b], columns[group])
            add_patches(columns[group], kh, kw, stride, padding, w_out, out[b])


@compiled_for_one_thread
def lay_out_patches(image, kh, kw, stride, padding, w_out, columns):
    """Copy each patch of one image into a column, as `refimpl.nn.im2col` orders them.

    Parameters
    ----------
    image : ndarray, shape (channels, height, width)
        IN.
    kh, kw, stride, padding, w_out : int
        IN. Shape of a patch, and how many patches fit side by side.
    columns : ndarray, shape (channels * kh * kw, h_out * w_out)
        OUT.

    Notes
    -----
    The innermost loop reads and writes neighbours in memory, and what lies outside the image is
    settled before it: it only copies.
    """
    channels, height, width = image.shape
    h_out = columns.shape[1] // w_out
    for row in range(channels * kh * kw):
        c, i, j = row // (kh * kw), row // kw % kh, row % kw
        first, last = inside(j, stride, padding, width, w_out)
        for p in range(h_out):
            y, start = p * stride + i - padding, p * w_out
            if y < 0 or y >= height:
                columns[row, start : start + w_out] = 0
                continue
            for q in range(first):
                columns[row, start + q] = 0
            for q in range(first, last):
                columns[row, start + q] = image[c, y, q * stride + j - padding]
            for q in range(last, w_out):
                columns[row, start + q] = 0


@compiled_for_one_thread
def add_patches(columns, kh, kw, stride, padding, w_out, image):
    """Add each column to the pixels of one image that it stands for, as `refimpl.nn.col2im`.

    Parameters
    ----------
    columns : ndarray, shape (channels * kh * kw, h_out * w_out)
        IN.
    kh, kw, stride, padding, w_out : int
        IN. As for `lay_out_patches`.
    image : ndarray, shape (channels, height, width)
        OUT. What it held is overwritten.
    """
    _, height, width = image.shape
    h_out = columns.shape[1] // w_out
    image[:] = 0
    for row in range(len(columns)):
        c, i, j = row // (kh * kw), row // kw % kh, row % kw
        first, last = inside(j, stride, padding, width, w_out)
        for p in range(h_out):
            y, start = p * stride + i - padding, p * w_out
            if 0 <= y < height:
                for q in range(first, last):
                    image[c, y, q * stride + j - padding] += columns[row, start + q]


@compiled_for_one_thread
def inside(j, stride, padding, width, w_out):
    """Which patches of a row have their pixel in column `j` on the image, not on its frame?

    Returns
    -------
    tuple of int
        ``(first, last)``, `last` excluded: those with ``0 <= q * stride + j - padding < width``.
    """
    first = min(max(padding - j + stride - 1, 0) // stride, w_out)
    last = max(width - 1 - j + padding + stride, 0) // stride
    return first, max(min(last, w_out), first)


@compiled_for_one_thread
def add_to(total, term):
    """Add a matrix to another, in place."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            total[i, j] += term[i, j]
