"""Convolution and its two gradients, a tile of patches at a time.

The definitions are `refimpl.nn.convolution.convolve` and its neighbours, which lay out the patches
of a whole batch at once: with 5x5 kernels 25 times the memory of the images, written and read
through main memory. Here

* a tile is laid out, some rows of patches of one image or all those of a few small images: always
  into the same array, which stays in the cache, and BLAS multiplies it at once;
* nothing is kept for the backward pass: laying out again costs less than reading it back;
* a tile is so small, where that is possible, that BLAS multiplies the arrays as they lie. It
  copies the factors of a larger product into an order of its own first.

A gradient that is summed over the batch is summed in `N_GROUPS` parts, whatever the number of
threads: the bits are the same on any.

They trust their arguments, which the layers check, and take C-contiguous arrays only.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread
from refimpl.kernels.numba_patches import (
    add_patches,
    copy,
    cut,
    empty_frame,
    fill_frame,
    lay_out_patches,
    matrix_in,
)

N_GROUPS = 8
UNPACKED = 1_000_000  # multiplications in the largest product that OpenBLAS does not pack
LEAST_COLUMNS, MOST_COLUMNS = 16, 256  # of a tile
CACHED = 2**16  # numbers: in float32 an eighth of a second-level cache of 2 MB


def convolve(images, weight, stride, padding, bias, out):
    """Slide kernels over images, and add a bias to each output channel.

    Parameters
    ----------
    images : ndarray of float32 or float64, shape (batch, c_in, height, width)
        IN.
    weight : ndarray, shape (c_out, c_in, kh, kw)
        IN. Of the same dtype.
    stride, padding : int
        IN. As for `refimpl.nn.im2col`.
    bias : ndarray, shape (c_out,), or None
        IN.
    out : ndarray, shape (batch, c_out, h_out, w_out)
        OUT.

    Notes
    -----
    The bias is added where a product is copied from its tile to its image, and takes no pass of
    its own.
    """
    bias = np.zeros(len(weight), weight.dtype) if bias is None else bias
    n_columns = unpacked_columns(len(weight), weight[0].size)
    how = prepare(images.shape, weight.shape, stride, padding, out, n_columns)
    _share_convolution(images, weight.reshape(len(weight), -1), bias, *how, out)


@compiled
def _share_convolution(images, kernels, bias, tiling, frames, columns, tiles, out):
    """Give every thread as many images, and take some from its share until none is left."""
    batch, n_threads = len(images), len(frames)
    for thread in prange(n_threads):
        end = (thread + 1) * batch // n_threads
        for b in range(thread * batch // n_threads, end, tiling.n_images):
            few = slice(b, min(b + tiling.n_images, end))
            rooms = frames[thread], columns[thread], tiles[thread]
            _convolve_few(images[few], kernels, bias, tiling, *rooms, out[few])


@compiled_for_one_thread
def _convolve_few(images, kernels, bias, tiling, frame, columns, tile, out):
    """Multiply the kernels with one tile after the other."""
    n_images, c_out, h_out, w_out = out.shape
    y = out.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, tiling.n_rows):
        n = min(tiling.n_rows, h_out - p) * w_out
        patches = matrix_in(columns, kernels.shape[1], n_images * n)
        products = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            if p == 0:
                fill_frame(images[b], tiling, frame)
            lay_out_patches(frame, tiling, p, w_out, patches[:, b * n : (b + 1) * n])
        np.dot(kernels, patches, products)
        for b in range(n_images):
            for o in range(c_out):
                for j in range(n):
                    y[b, o, p * w_out + j] = products[o, b * n + j] + bias[o]


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
    n_columns = cached_columns(out[0].size)
    how = prepare(images.shape, out.shape, stride, padding, dy, n_columns)
    sums = np.zeros((N_GROUPS, len(out), out[0].size), out.dtype)
    terms = np.empty((get_num_threads(), *sums.shape[1:]), out.dtype)
    _share_weight_gradient(dy, images, *how, terms, sums)
    np.sum(sums, axis=0, out=out.reshape(sums.shape[1:]))


@compiled
def _share_weight_gradient(dy, images, tiling, frames, columns, tiles, terms, sums):
    """Give every thread as many groups of images; each group has a sum of its own."""
    batch, n_threads = len(images), len(frames)
    for thread in prange(n_threads):
        rooms = frames[thread], columns[thread], tiles[thread], terms[thread]
        for group in range(thread * N_GROUPS // n_threads, (thread + 1) * N_GROUPS // n_threads):
            end = (group + 1) * batch // N_GROUPS
            for b in range(group * batch // N_GROUPS, end, tiling.n_images):
                few = slice(b, min(b + tiling.n_images, end))
                _add_weight_gradient(dy[few], images[few], tiling, *rooms, sums[group])


@compiled_for_one_thread
def _add_weight_gradient(dy, images, tiling, frame, columns, tile, term, total):
    """Multiply the gradients of one tile of patches after the other with the patches."""
    n_images, c_out, h_out, w_out = dy.shape
    gradients = dy.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, tiling.n_rows):
        n = min(tiling.n_rows, h_out - p) * w_out
        patches = matrix_in(columns, total.shape[1], n_images * n)
        of_tile = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            if p == 0:
                fill_frame(images[b], tiling, frame)
            lay_out_patches(frame, tiling, p, w_out, patches[:, b * n : (b + 1) * n])
            copy(gradients[b, :, p * w_out : p * w_out + n], of_tile[:, b * n : (b + 1) * n])
        np.dot(of_tile, patches.T, term)
        for i in range(total.shape[0]):
            for j in range(total.shape[1]):
                total[i, j] += term[i, j]


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
    n_columns = unpacked_columns(len(weight), weight[0].size)
    how = prepare(out.shape, weight.shape, stride, padding, dy, n_columns)
    _share_image_gradient(dy, weight.reshape(len(weight), -1), *how, out)


@compiled
def _share_image_gradient(dy, kernels, tiling, frames, columns, tiles, out):
    """Share out the images as `_share_convolution` does."""
    batch, n_threads = len(dy), len(frames)
    for thread in prange(n_threads):
        end = (thread + 1) * batch // n_threads
        for b in range(thread * batch // n_threads, end, tiling.n_images):
            few = slice(b, min(b + tiling.n_images, end))
            rooms = frames[thread], columns[thread], tiles[thread]
            _send_back_few(dy[few], kernels, tiling, *rooms, out[few])


@compiled_for_one_thread
def _send_back_few(dy, kernels, tiling, frame, columns, tile, out):
    """Multiply the transposed kernels with the gradients of one tile after the other."""
    n_images, c_out, h_out, w_out = dy.shape
    gradients = dy.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, tiling.n_rows):
        n = min(tiling.n_rows, h_out - p) * w_out
        patches = matrix_in(columns, kernels.shape[1], n_images * n)
        of_tile = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            copy(gradients[b, :, p * w_out : p * w_out + n], of_tile[:, b * n : (b + 1) * n])
        np.dot(kernels.T, of_tile, patches)
        for b in range(n_images):
            if p == 0:
                frame[:] = 0
            add_patches(patches[:, b * n : (b + 1) * n], tiling, p, w_out, frame)
            if p + tiling.n_rows >= h_out:
                empty_frame(frame, tiling, out[b])


def unpacked_columns(c_out, n_weights):
    """How many patches may a tile have for BLAS to multiply it as it lies?

    Parameters
    ----------
    c_out, n_weights : int
        Shape of the matrix of kernels that it is multiplied with.

    Returns
    -------
    int
        At least 1; `cached_columns` where too few would be left.
    """
    n = UNPACKED // (c_out * n_weights)
    return min(n, MOST_COLUMNS) if n >= LEAST_COLUMNS else cached_columns(n_weights)


def cached_columns(n_weights):
    """How many patches of this many pixels may a tile have to stay in the cache?"""
    return min(max(CACHED // n_weights, LEAST_COLUMNS), MOST_COLUMNS)


def prepare(image_shape, weight_shape, stride, padding, like, n_columns):
    """Choose tiles, and take the memory that the threads need before they begin.

    Parameters
    ----------
    image_shape, weight_shape : tuple of int
        ``(batch, c_in, height, width)`` and ``(c_out, c_in, kh, kw)``.
    stride, padding : int
        Of the convolution.
    like : ndarray, shape (batch, c_out, h_out, w_out)
        Of which shape and dtype count.
    n_columns : int
        Patches in a tile, about.

    Returns
    -------
    tiling : Tiling
        From `cut`.
    frames, columns, tiles : ndarray
        For each thread a frame of zeros, room for a tile's patches, and for what they give or are
        given in every output channel.
    """
    (c_out, c_in, kh, kw), grid = weight_shape, like.shape[2:]
    tiling, frame_shape = cut(image_shape[1:], (kh, kw), stride, padding, grid, n_columns)
    n_threads, n = get_num_threads(), tiling.n_images * tiling.n_rows * grid[1]
    frames = np.zeros((n_threads, *frame_shape), like.dtype)
    columns = np.empty((n_threads, c_in * kh * kw * n), like.dtype)
    return tiling, frames, columns, np.empty((n_threads, c_out * n), like.dtype)
