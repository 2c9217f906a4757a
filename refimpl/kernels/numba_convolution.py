"""Convolution and its two gradients, a tile of patches at a time.

The definitions are `refimpl.nn.convolution.convolve` and its neighbours, which lay out the patches
of a whole batch at once: with 5x5 kernels 25 times the memory of the images, written and read
through main memory. Here

* a tile is laid out, some rows of patches of one image or all those of a few small images: always
  into the same array, which stays in the cache, and BLAS multiplies it at once;
* nothing is kept for the backward pass: laying out again costs less than reading it back;
* a tile is so small, where that is possible, that BLAS multiplies the arrays as they lie. It
  copies the factors of a larger product into an order of its own first.

Threads share the images, and BLAS multiplies a tile on the thread that laid it out. A gradient
that is summed over the batch is summed in `N_GROUPS` parts, whatever the number of threads: the
bits are the same on any.

They trust their arguments, which the layers check, and take C-contiguous arrays only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import numpy as np
import scipy.linalg  # noqa: F401  Numba calls its BLAS: loaded here, a limit reaches it
from numba import get_num_threads, prange
from threadpoolctl import ThreadpoolController

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread
from refimpl.kernels.numba_patches import (
    add_patches,
    copy,
    cut,
    frame_shape,
    framed,
    lay_out_patches,
    matrix_in,
    unframed,
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
    shape = frame_shape(images.shape[1:], weight.shape[2:], stride, padding, out.shape[3])
    frames = framed(images, shape, stride, padding)
    n_columns = unpacked_columns(len(weight), weight[0].size)
    tiling = cut(shape, weight.shape[2:], stride, out.shape[2:], n_columns)
    rooms = rooms_for(tiling, weight, out)
    with one_blas_thread():
        _share_convolution(frames, weight.reshape(len(weight), -1), bias, *tiling, *rooms, out)


@compiled
def _share_convolution(frames, kernels, bias, steps, n_images, n_rows, columns, tiles, out):
    """Give every thread as many images, and take some from its share until none is left."""
    batch, n_threads = len(frames), len(columns)
    for thread in prange(n_threads):
        end = (thread + 1) * batch // n_threads
        for b in range(thread * batch // n_threads, end, n_images):
            few = slice(b, min(b + n_images, end))
            rooms = columns[thread], tiles[thread]
            _convolve_few(frames[few], kernels, bias, steps, n_rows, *rooms, out[few])


@compiled_for_one_thread
def _convolve_few(frames, kernels, bias, steps, n_rows, columns, tile, out):
    """Multiply the kernels with one tile after the other."""
    n_images, c_out, h_out, w_out = out.shape
    y = out.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, n_rows):
        n = min(n_rows, h_out - p) * w_out
        patches = matrix_in(columns, kernels.shape[1], n_images * n)
        products = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            lay_out_patches(frames[b], steps, p, w_out, patches[:, b * n : (b + 1) * n])
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
    shape = frame_shape(images.shape[1:], out.shape[2:], stride, padding, dy.shape[3])
    frames = framed(images, shape, stride, padding)
    tiling = cut(shape, out.shape[2:], stride, dy.shape[2:], cached_columns(out[0].size))
    sums = np.zeros((N_GROUPS, len(out), out[0].size), out.dtype)
    terms = np.empty((get_num_threads(), *sums.shape[1:]), out.dtype)
    rooms = rooms_for(tiling, out, dy)
    with one_blas_thread():
        _share_weight_gradient(dy, frames, *tiling, *rooms, terms, sums)
    np.sum(sums, axis=0, out=out.reshape(sums.shape[1:]))


@compiled
def _share_weight_gradient(dy, frames, steps, n_images, n_rows, columns, tiles, terms, sums):
    """Give every thread as many groups of images; each group has a sum of its own."""
    batch, n_threads, n_groups = len(frames), len(columns), len(sums)
    for thread in prange(n_threads):
        rooms = columns[thread], tiles[thread], terms[thread]
        for group in range(thread * n_groups // n_threads, (thread + 1) * n_groups // n_threads):
            end = (group + 1) * batch // n_groups
            for b in range(group * batch // n_groups, end, n_images):
                few = slice(b, min(b + n_images, end))
                _add_weight_gradient(dy[few], frames[few], steps, n_rows, *rooms, sums[group])


@compiled_for_one_thread
def _add_weight_gradient(dy, frames, steps, n_rows, columns, tile, term, total):
    """Multiply the gradients of one tile of patches after the other with the patches."""
    n_images, c_out, h_out, w_out = dy.shape
    gradients = dy.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, n_rows):
        n = min(n_rows, h_out - p) * w_out
        patches = matrix_in(columns, total.shape[1], n_images * n)
        of_tile = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            lay_out_patches(frames[b], steps, p, w_out, patches[:, b * n : (b + 1) * n])
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
    shape = frame_shape(out.shape[1:], weight.shape[2:], stride, padding, dy.shape[3])
    frames = np.zeros((len(out), *shape), out.dtype)
    n_columns = unpacked_columns(len(weight), weight[0].size)
    tiling = cut(shape, weight.shape[2:], stride, dy.shape[2:], n_columns)
    rooms = rooms_for(tiling, weight, dy)
    with one_blas_thread():
        _share_image_gradient(dy, weight.reshape(len(weight), -1), *tiling, *rooms, frames)
    unframed(frames, stride, padding, out)


@compiled
def _share_image_gradient(dy, kernels, steps, n_images, n_rows, columns, tiles, frames):
    """Share out the images as `_share_convolution` does."""
    batch, n_threads = len(dy), len(columns)
    for thread in prange(n_threads):
        end = (thread + 1) * batch // n_threads
        for b in range(thread * batch // n_threads, end, n_images):
            few = slice(b, min(b + n_images, end))
            rooms = columns[thread], tiles[thread]
            _send_back_few(dy[few], kernels, steps, n_rows, *rooms, frames[few])


@compiled_for_one_thread
def _send_back_few(dy, kernels, steps, n_rows, columns, tile, frames):
    """Multiply the transposed kernels with the gradients of one tile after the other."""
    n_images, c_out, h_out, w_out = dy.shape
    gradients = dy.reshape(n_images, c_out, h_out * w_out)
    for p in range(0, h_out, n_rows):
        n = min(n_rows, h_out - p) * w_out
        patches = matrix_in(columns, kernels.shape[1], n_images * n)
        of_tile = matrix_in(tile, c_out, n_images * n)
        for b in range(n_images):
            copy(gradients[b, :, p * w_out : p * w_out + n], of_tile[:, b * n : (b + 1) * n])
        np.dot(kernels.T, of_tile, patches)
        for b in range(n_images):
            add_patches(patches[:, b * n : (b + 1) * n], steps, p, w_out, frames[b])


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


def rooms_for(tiling, weight, like):
    """Take the memory that the threads need, before they begin.

    Parameters
    ----------
    tiling : Tiling
        From `refimpl.kernels.numba_patches.cut`.
    weight : ndarray, shape (c_out, c_in, kh, kw)
        Whose shape counts.
    like : ndarray, shape (batch, c_out, h_out, w_out)
        Whose width and dtype count.

    Returns
    -------
    columns, tiles : ndarray
        For each thread room for a tile's patches, and for what they give or are given in every
        output channel.
    """
    n_threads, n = get_num_threads(), tiling.n_images * tiling.n_rows * like.shape[3]
    columns = np.empty((n_threads, weight[0].size * n), like.dtype)
    return columns, np.empty((n_threads, len(weight) * n), like.dtype)


def one_blas_thread() -> AbstractContextManager:
    """Keep BLAS from starting threads of its own, for as long as a ``with`` block lasts.

    Notes
    -----
    Two threads that each ask BLAS for two wait for each other. The numbers of before come back at
    the end of the block. Where several Python threads convolve at once, blocks overlap, and the
    number that stays may be another block's 1: results are right, later BLAS calls slower.
    """
    return _blas_libraries().limit(limits=1)


@cache  # looking for them takes milliseconds, setting their threads microseconds
def _blas_libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
