"""A convolution with sparse kernels, straight from the images: no patch is ever laid out.

The definition is `refimpl.nn.SparseConv2d`: CSR times the columns of `refimpl.nn.im2col`. At stride
1 each row of those columns is a piece of the image itself: read row after row of a padded image of
width w, pixel (i, j) of all patches of channel c is the run of memory that begins at
``(c * h + i) * w + j``. So CSR's product of a row, ``y += value * x[column]``, stays what it
is, with another address for ``x[column]``.

* The run passes over the ends of image rows and computes ``kw - 1`` outputs there that nobody
  wants, for loads without a gap; they are left out when the result is written.
* A panel of 64 outputs stays in registers while all weights of a kernel are added to it.
* The image stays in the first cache, where its columns, ``kh * kw`` times as large, would not.

The order of additions is that of CSR's definition, and the bits are the same on any number of
threads.

References
----------
Park et al., "Faster CNNs with direct sparse convolutions and guided pruning", ICLR 2017, section
2.1: the "virtual" dense matrix that is indexed, not built.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from refimpl.kernels.numba_convolution import N_GROUPS
from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread
from refimpl.kernels.vectors import (
    load_panel,
    load_panel_head,
    multiply_add,
    store_panel,
    store_panel_head,
    zero_panel,
)


@compiled
def csr_convolve(data, indices, indptr, images, kh, kw, out):
    """Slide sparse kernels over padded images, at stride 1.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (nnz,)
        IN. Stored weights, kernel after kernel.
    indices : ndarray of int32 or int64, shape (nnz,)
        IN. ``(c * kh + i) * kw + j`` of pixel (i, j) of input channel c.
    indptr : ndarray of int32 or int64, shape (c_out + 1,)
        IN. Where each kernel begins.
    images : ndarray of the dtype of `data`, shape (batch, c_in, height, width)
        IN. Padded already.
    kh, kw : int
        IN. Shape of a kernel.
    out : ndarray, shape (batch, c_out, height - kh + 1, width - kw + 1)
        OUT.
    """
    batch, c_in, height, width = images.shape
    n_run = (out.shape[2] - 1) * width + out.shape[3]
    pixels = images.reshape(batch, c_in * height * width)
    starts = np.empty(len(indices), np.int64)
    for k in range(len(indices)):
        c, i, j = indices[k] // (kh * kw), indices[k] // kw % kh, indices[k] % kw
        starts[k] = (c * height + i) * width + j
    runs = np.empty((N_GROUPS, n_run), images.dtype)
    for group in prange(N_GROUPS):
        for b in range(group * batch // N_GROUPS, (group + 1) * batch // N_GROUPS):
            for o in range(out.shape[1]):
                first, last = indptr[o], indptr[o + 1]
                add_runs(data, starts, first, last, pixels, b, runs, group)
                for p in range(out.shape[2]):
                    for q in range(out.shape[3]):
                        out[b, o, p, q] = runs[group, p * width + q]


@compiled_for_one_thread
def add_runs(data, starts, first, last, pixels, b, runs, row):
    """Sum weighted runs of image `b`, panel after panel, into one row of `runs`.

    Parameters
    ----------
    data, starts : ndarray, shape (nnz,)
        IN. Weights, and where in the image the run of each begins.
    first, last : int
        IN. Which weights, `last` excluded.
    pixels : ndarray, shape (batch, c_in * height * width)
        IN.
    b, row : int
        IN. Rows of `pixels` and of `runs`.
    runs : ndarray, shape (any, n_run)
        OUT.
    """
    n_run = runs.shape[1]
    n_whole = n_run // 64 * 64
    for t in range(0, n_whole, 64):
        y = zero_panel(runs, 64)
        for k in range(first, last):
            y = multiply_add(y, data[k], load_panel(pixels, b, starts[k] + t, 64))
        store_panel(runs, row, t, y)
    n_left = n_run - n_whole
    if n_left > 32:
        y = zero_panel(runs, 64)
        for k in range(first, last):
            x = load_panel_head(pixels, b, starts[k] + n_whole, 64, n_left)
            y = multiply_add(y, data[k], x)
        store_panel_head(runs, row, n_whole, y, n_left)
    elif n_left > 0:  # half as wide, for half the work
        z = zero_panel(runs, 32)
        for k in range(first, last):
            x = load_panel_head(pixels, b, starts[k] + n_whole, 32, n_left)
            z = multiply_add(z, data[k], x)
        store_panel_head(runs, row, n_whole, z, n_left)
