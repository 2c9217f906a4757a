"""Frames hold images, runs of them are patches, and what is added goes back where it came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.kernels.numba_patches import (
    LANES,
    REGISTER,
    add_patches,
    copy,
    cut,
    frame_shape,
    framed,
    lay_out_patches,
    matrix_in,
    unframed,
)
from refimpl.nn import col2im, im2col
from support.guards import assert_guards_hold, guarded
from support.images import whole_numbers
from support.layer_kernels import windows


@st.composite
def framings(draw):
    """Images, the arguments of `im2col` for them, and the grid of patches."""
    (kh, kw), stride, padding, (height, width) = draw(windows(2))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 2)), height, width)
    images = whole_numbers(shape, draw(st.sampled_from([np.float32, np.float64])), rng)
    grid = (height + 2 * padding - kh) // stride + 1, (width + 2 * padding - kw) // stride + 1
    return images, {"kernel_shape": (kh, kw), "stride": stride, "padding": padding}, grid


def frames_of(case):
    images, options, grid = case
    shape = frame_shape(images.shape[1:], *options.values(), grid[1])
    return framed(images, shape, options["stride"], options["padding"])


def steps_of(case, frames):
    _, options, grid = case
    return cut(frames.shape[1:], options["kernel_shape"], options["stride"], grid, 1).steps


@given(framings())
def test_frames_hold_the_images(case):
    images, options, _ = case
    frames, again = frames_of(case), np.full_like(images, np.nan)
    unframed(frames, options["stride"], options["padding"], again)
    if min(options["kernel_shape"]) >= options["stride"]:  # no pixel lies between all patches
        np.testing.assert_array_equal(again, images)
    else:
        assert np.isin(again, [0, *images.ravel()]).all()


@given(framings())
def test_patches_of_a_frame_are_the_columns_of_im2col(case):
    images, options, grid = case
    frames, expected = frames_of(case), im2col(images, **options)
    n = grid[0] * grid[1]
    for b, frame in enumerate(frames):
        columns, room = guarded(np.full((len(expected), n), np.nan, images.dtype))
        lay_out_patches(guarded(frame)[0], steps_of(case, frames), 0, grid[1], columns)
        np.testing.assert_array_equal(columns, expected[:, b * n : (b + 1) * n])
        assert_guards_hold(room)


@given(framings(), st.data())
def test_some_rows_of_patches_are_those_columns(case, data):
    images, options, (h_out, w_out) = case
    frames, expected = frames_of(case), im2col(images, **options)
    first = data.draw(st.integers(0, h_out - 1))
    last = data.draw(st.integers(first + 1, h_out))
    for b, frame in enumerate(frames):
        columns = np.full((len(expected), (last - first) * w_out), np.nan, images.dtype)
        lay_out_patches(frame, steps_of(case, frames), first, w_out, columns)
        start = (b * h_out + first) * w_out
        wanted = expected[:, start : start + columns.shape[1]]
        np.testing.assert_array_equal(columns, wanted)


@given(framings())
def test_added_patches_are_the_images_of_col2im(case):
    images, options, grid = case
    n, n_weights = grid[0] * grid[1], images.shape[1] * np.prod(options["kernel_shape"])
    shape = (n_weights, len(images) * n)
    columns = whole_numbers(shape, images.dtype, np.random.default_rng(0))
    frames = np.zeros_like(frames_of(case))
    for b, frame in enumerate(frames):
        room = guarded(frame)
        mine = columns[:, b * n : (b + 1) * n]
        add_patches(mine, steps_of(case, frames), 0, grid[1], room[0])
        assert_guards_hold(room[1])
        frame[...] = room[0]
    out = np.full_like(images, np.nan)
    unframed(frames, options["stride"], options["padding"], out)
    np.testing.assert_array_equal(out, col2im(columns, images.shape, **options))


def test_unpadded_images_are_frames_already():
    images = np.ones((2, 3, 6, 12), np.float32)
    frames = framed(images, frame_shape((3, 6, 12), (5, 5), 1, 0, 8), 1, 0)
    assert np.shares_memory(frames, images)


def test_a_frame_of_stride_2_sorts_even_and_odd_rows_and_columns():
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    frames = framed(image, (1, 2, 2, 2, 2), 2, 0)
    assert frames.ravel().tolist() == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]


def test_a_1x1_kernel_needs_no_pixel_between_its_strides():
    assert frame_shape((3, 8, 8), (1, 1), 2, 0, 4) == (3, 1, 1, 4, LANES)


@pytest.mark.parametrize(
    ("grid", "n_columns", "tile"),
    [
        ((8, 8), 40, (1, 4)),  # 32 columns are two registers full, 40 are two and a half
        ((8, 8), 64, (1, 8)),
        ((8, 8), 256, (4, 8)),
        ((8, 8), 1, (1, 1)),
        ((5, 7), 20, (1, 2)),  # no number of rows fills registers
        ((24, 24), 256, (1, 10)),
        ((1, 40), 16, (1, 1)),
    ],
)
def test_a_tile_is_whole_images_or_rows_that_fill_registers(grid, n_columns, tile):
    cutting = cut((1, 1, 1, grid[0], grid[1]), (1, 1), 1, grid, n_columns)
    assert (cutting.n_images, cutting.n_rows) == tile


@pytest.mark.parametrize("width", [1, REGISTER - 1, REGISTER, 3 * REGISTER + 5])
def test_copy_writes_every_column_and_none_beside(width):
    source = np.arange(4.0 * width).reshape(4, width)
    room = np.full((4, width + 2), np.nan)
    copy(source, room[:, 1:-1])
    np.testing.assert_array_equal(room[:, 1:-1], source)
    assert np.isnan(room[:, [0, -1]]).all()


def test_a_matrix_in_a_room_shares_its_memory():
    room = np.zeros(10)
    matrix_in(room, 2, 3)[...] = 1
    assert room.tolist() == [1] * 6 + [0] * 4
