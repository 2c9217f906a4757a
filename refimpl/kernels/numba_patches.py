"""Patches of images as columns of a matrix, and back: copying runs of memory.

The definitions are `refimpl.nn.im2col` and `refimpl.nn.col2im`. Here images are copied into frames
first, in which each row of patches is a run of memory, whatever the stride and the padding; what
is left to compile are loops that copy or add runs, in vector registers and without a branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
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
    steps : ndarray of int, shape (kh * kw,)
        How far behind the first pixel of its channel a frame has each pixel of the first patch.
    n_images, n_rows : int
        Of a tile: all rows of patches of several images, or some rows of one.
    """

    steps: np.ndarray
    n_images: int
    n_rows: int


def cut(frame_shape, kernel_shape, stride, grid, n_columns):
    """Choose tiles of about as many patches as asked for.

    Parameters
    ----------
    frame_shape : tuple of int
        From `frame_shape`.
    kernel_shape, grid : tuple of int
        ``(kh, kw)``, and ``(h_out, w_out)`` of `refimpl.nn.lowering.patch_grid`.
    stride : int
        Of the convolution.
    n_columns : int
        At least 1.

    Returns
    -------
    Tiling
        If a tile is some rows of one image, then as many as fill whole registers where there is
        such a number.
    """
    i, j = np.arange(kernel_shape[0])[:, None], np.arange(kernel_shape[1])
    _, _, n_phases, height, width = frame_shape
    phases = i % stride * n_phases + j % stride
    steps = (phases * height + i // stride) * width + j // stride
    return Tiling(steps.ravel(), *_tile_shape(grid, n_columns))


def _tile_shape(grid, n_columns):
    """Images and rows of patches in a tile."""
    h_out, w_out = grid
    n_rows = max(n_columns // w_out, 1)
    if n_rows >= h_out:
        return max(n_columns // (h_out * w_out), 1), h_out
    full = (rows for rows in range(n_rows, 0, -1) if rows * w_out % REGISTER == 0)
    return 1, next(full, n_rows)


def frame_shape(image_shape, kernel_shape, stride, padding, w_out):
    """Give the shape of a frame that has room for an image.

    Parameters
    ----------
    image_shape : tuple of int
        ``(channels, height, width)``.
    kernel_shape : tuple of int
        ``(kh, kw)``.
    stride, padding : int
        As for `refimpl.nn.im2col`.
    w_out : int
        Patches side by side.

    Returns
    -------
    tuple of int
        ``(channels, min(kh, stride), min(kw, stride), height, width)``. A frame is an image with
        its padding, its rows and columns sorted by their remainders modulo the stride: what
        patches side by side have in one place of theirs is side by side in a frame. At stride 1 a
        frame is the padded image itself. It is wide enough to add a row of patches by whole
        `LANES`.
    """
    (kh, kw), (channels, *sides) = kernel_shape, image_shape
    height, width = (-(-(side + 2 * padding) // stride) for side in sides)
    width = max(width, (kw - 1) // stride + -(-w_out // LANES) * LANES)
    return channels, min(kh, stride), min(kw, stride), height, width


def framed(images, shape, stride, padding):
    """Copy images into frames.

    Parameters
    ----------
    images : ndarray of float32 or float64, shape (batch, channels, height, width)
        C-contiguous.
    shape : tuple of int
        From `frame_shape`.
    stride, padding : int
        As there.

    Returns
    -------
    ndarray, the batch and then `shape`
        A view of the images where a frame is an image.
    """
    if stride == 1 and images.shape[1:] == (shape[0], *shape[3:]):
        return images.reshape(-1, *shape)
    frames = np.zeros((len(images), *shape), images.dtype)
    for in_frame, in_image in _phases(images.shape[2:], shape, stride, padding):
        frames[in_frame] = images[in_image]
    return frames


def unframed(frames, stride, padding, out):
    """Copy images out of frames again; pixels of no frame become zeros.

    Parameters
    ----------
    frames, stride, padding
        As `framed` has them.
    out : ndarray, shape (batch, channels, height, width)
        OUT.
    """
    if frames.shape[2] * frames.shape[3] < stride**2:
        out[...] = 0
    for in_frame, in_image in _phases(out.shape[2:], frames.shape[1:], stride, padding):
        out[in_image] = frames[in_frame]


def _phases(sides, shape, stride, padding) -> Iterator[tuple]:
    """For each pair of remainders, where its pixels are in frames and where in images."""
    for remainders in product(range(shape[1]), range(shape[2])):
        in_frame, in_image = [slice(None)] * 2 + list(remainders), [slice(None)] * 2
        for remainder, side in zip(remainders, sides, strict=True):
            start = (remainder - padding) % stride
            first = (start + padding - remainder) // stride
            in_frame.append(slice(first, first + len(range(start, side, stride))))
            in_image.append(slice(start, None, stride))
        yield tuple(in_frame), tuple(in_image)


@compiled_for_one_thread
def lay_out_patches(frame, steps, first_row, w_out, columns):
    """Copy each patch of some rows of patches into a column, as `refimpl.nn.im2col` orders them.

    Parameters
    ----------
    frame : ndarray, shape as `frame_shape` says
        IN.
    steps : ndarray of int
        IN. Of the `Tiling`.
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
        for step in steps:
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
def add_patches(columns, steps, first_row, w_out, frame):
    """Add each column to the pixels of a frame that it stands for, as `refimpl.nn.col2im`.

    Parameters
    ----------
    columns : ndarray, shape (channels * kh * kw, n_rows * w_out)
        IN. Its rows are contiguous.
    steps, first_row, w_out
        IN. As for `lay_out_patches`.
    frame : ndarray, shape as `frame_shape` says
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
        for step in steps:
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
