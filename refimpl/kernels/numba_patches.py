"""Patches of an image as columns of a matrix, and back: copying runs of memory.

The definitions are `refimpl.nn.im2col` and `refimpl.nn.col2im`. Here an image is copied into a
frame first, in which each row of patches is a run of memory, whatever the stride and the padding;
what is left are loops that copy or add runs, in vector registers and without a branch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refimpl.kernels.numba_csr import compiled_for_one_thread
from refimpl.kernels.vectors import (
    add_panels,
    load_panel,
    load_panel_head,
    store_panel,
    store_panel_head,
)

REGISTER = 16  # float32 of the widest vector registers
LANES = 8  # of one addition to a frame


class Tiling(NamedTuple):
    """How a convolution is cut into products of matrices.

    Attributes
    ----------
    stride, padding : int
        As for `refimpl.nn.im2col`.
    steps : ndarray of int, shape (kh * kw,)
        How far behind the first pixel of its channel a frame has each pixel of the first patch.
    n_images, n_rows : int
        Of a tile: all rows of patches of several images, or some rows of one.
    """

    stride: int
    padding: int
    steps: np.ndarray
    n_images: int
    n_rows: int


def cut(image_shape, kernel_shape, stride, padding, grid, n_columns):
    """Choose tiles of about as many patches as asked for, and frames that suit them.

    Parameters
    ----------
    image_shape : tuple of int
        ``(c_in, height, width)``.
    kernel_shape, grid : tuple of int
        ``(kh, kw)``, and ``(h_out, w_out)`` of `refimpl.nn.lowering.patch_grid`.
    stride, padding : int
        Of the convolution.
    n_columns : int
        At least 1.

    Returns
    -------
    tiling : Tiling
        If a tile is some rows of one image, then as many as fill whole registers where there is
        such a number.
    frame_shape : tuple of int
        ``(c_in, min(kh, stride), min(kw, stride), height, width)``. A frame is an image with its
        padding, its rows and columns sorted by their remainders modulo the stride: what patches
        side by side have in one place of theirs is side by side in a frame. At stride 1 a frame
        is the padded image itself. It is wide enough to add a row of patches by whole `LANES`.
    """
    (kh, kw), w_out = kernel_shape, grid[1]
    height, width = (-(-(size + 2 * padding) // stride) for size in image_shape[1:])
    width = max(width, (kw - 1) // stride + -(-w_out // LANES) * LANES)
    i, j = np.arange(kh)[:, None], np.arange(kw)
    phases = i % stride * min(kw, stride) + j % stride
    steps = ((phases * height + i // stride) * width + j // stride).ravel()
    frame_shape = (image_shape[0], min(kh, stride), min(kw, stride), height, width)
    return Tiling(stride, padding, steps, *_tile_shape(grid, n_columns)), frame_shape


def _tile_shape(grid, n_columns):
    """Images and rows of patches in a tile."""
    h_out, w_out = grid
    n_rows = max(n_columns // w_out, 1)
    if n_rows >= h_out:
        return max(n_columns // (h_out * w_out), 1), h_out
    full = (rows for rows in range(n_rows, 0, -1) if rows * w_out % REGISTER == 0)
    return 1, next(full, n_rows)


@compiled_for_one_thread
def fill_frame(image, tiling, frame):
    """Copy an image into a frame, whose padding holds zeros already.

    Parameters
    ----------
    image : ndarray of float32 or float64, shape (channels, height, width)
        IN.
    tiling : Tiling
        IN.
    frame : ndarray, shape as `cut` says
        OUT. Its padding is not written.

    Notes
    -----
    Stride 1 has a branch of its own, in which it is a constant: the compiler then sees that
    neighbours are copied.
    """
    if tiling.stride == 1:
        _sort_pixels(image, 1, tiling.padding, frame)
    else:
        _sort_pixels(image, tiling.stride, tiling.padding, frame)


@compiled_for_one_thread
def empty_frame(frame, tiling, image):
    """Copy an image out of a frame again; pixels that the frame does not have become zeros.

    Parameters
    ----------
    frame, tiling
        IN. As for `fill_frame`.
    image : ndarray, shape (channels, height, width)
        OUT.
    """
    if frame.shape[1] * frame.shape[2] < tiling.stride**2:
        image[:] = 0
    if tiling.stride == 1:
        _unsort_pixels(frame, 1, tiling.padding, image)
    else:
        _unsort_pixels(frame, tiling.stride, tiling.padding, image)


@compiled_for_one_thread
def _sort_pixels(image, stride, padding, frame):
    for a in range(frame.shape[1]):
        top, bottom = inside(a, stride, padding, image.shape[1])
        for b in range(frame.shape[2]):
            left, right = inside(b, stride, padding, image.shape[2])
            for c in range(len(image)):
                for y in range(top, bottom):
                    row = image[c, y * stride + a - padding]
                    for x in range(left, right):
                        frame[c, a, b, y, x] = row[x * stride + b - padding]


@compiled_for_one_thread
def _unsort_pixels(frame, stride, padding, image):
    for a in range(frame.shape[1]):
        top, bottom = inside(a, stride, padding, image.shape[1])
        for b in range(frame.shape[2]):
            left, right = inside(b, stride, padding, image.shape[2])
            for c in range(len(image)):
                for y in range(top, bottom):
                    row = image[c, y * stride + a - padding]
                    for x in range(left, right):
                        row[x * stride + b - padding] = frame[c, a, b, y, x]


@compiled_for_one_thread
def inside(remainder, stride, padding, size):
    """Which of the rows of a frame with this remainder are rows of the image, not of its padding?

    Returns
    -------
    tuple of int
        ``(first, last)``, `last` excluded: those with
        ``0 <= row * stride + remainder - padding < size``.
    """
    first = max(padding - remainder + stride - 1, 0) // stride
    return first, max((size - 1 - remainder + padding) // stride + 1, first)


@compiled_for_one_thread
def lay_out_patches(frame, tiling, first_row, w_out, columns):
    """Copy each patch of some rows of patches into a column, as `refimpl.nn.im2col` orders them.

    Parameters
    ----------
    frame : ndarray, shape as `cut` says
        IN.
    tiling : Tiling
        IN.
    first_row, w_out : int
        IN. The first row of patches, and how many there are in a row.
    columns : ndarray, shape (channels * kh * kw, n_rows * w_out)
        OUT. Its rows are contiguous.

    Notes
    -----
    A masked head: what a row of patches has left over after full registers is copied at once too.
    """
    pixels, rest = frame.reshape(len(frame), -1), w_out % REGISTER
    row = 0
    for c in range(len(pixels)):
        for step in tiling.steps:
            start = step + first_row * frame.shape[4]
            for column in range(0, columns.shape[1], w_out):
                for q in range(0, w_out - rest, REGISTER):
                    run = load_panel(pixels, c, start + q, 16)
                    store_panel(columns, row, column + q, run)
                if rest:
                    q = w_out - rest
                    run = load_panel_head(pixels, c, start + q, 16, rest)
                    store_panel_head(columns, row, column + q, run, rest)
                start += frame.shape[4]
            row += 1


@compiled_for_one_thread
def add_patches(columns, tiling, first_row, w_out, frame):
    """Add each column to the pixels of a frame that it stands for, as `refimpl.nn.col2im`.

    Parameters
    ----------
    columns : ndarray, shape (channels * kh * kw, n_rows * w_out)
        IN. Its rows are contiguous.
    tiling, first_row, w_out
        IN. As for `lay_out_patches`.
    frame : ndarray, shape as `cut` says
        OUT. Is added to.

    Notes
    -----
    No masked store: behind a row of patches zeros are added to whatever lies there. What a masked
    store has written is not there yet when the next pixel of the patches is to be added to it.

    Half a register: most stores of 64 bytes would end in another cache line, with the same effect.
    """
    pixels, rest = frame.reshape(len(frame), -1), w_out % LANES
    row = 0
    for c in range(len(pixels)):
        for step in tiling.steps:
            start = step + first_row * frame.shape[4]
            for column in range(0, columns.shape[1], w_out):
                for q in range(0, w_out - rest, LANES):
                    run = load_panel(columns, row, column + q, 8)
                    total = add_panels(load_panel(pixels, c, start + q, 8), run)
                    store_panel(pixels, c, start + q, total)
                if rest:
                    q = w_out - rest
                    run = load_panel_head(columns, row, column + q, 8, rest)
                    total = add_panels(load_panel(pixels, c, start + q, 8), run)
                    store_panel(pixels, c, start + q, total)
                start += frame.shape[4]
            row += 1


@compiled_for_one_thread
def copy(source, target):
    """Copy a matrix whose rows are contiguous into another of the same shape, in registers."""
    rest = source.shape[1] % REGISTER
    for i in range(source.shape[0]):
        for j in range(0, source.shape[1] - rest, REGISTER):
            store_panel(target, i, j, load_panel(source, i, j, 16))
        if rest:
            j = source.shape[1] - rest
            store_panel_head(target, i, j, load_panel_head(source, i, j, 16, rest), rest)


@compiled_for_one_thread
def matrix_in(room, n_rows, n_columns):
    """Give a matrix at the beginning of an array that is large enough, without a copy."""
    return room[: n_rows * n_columns].reshape(n_rows, n_columns)
