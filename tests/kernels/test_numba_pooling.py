"""Max pooling by hand; that it is the definition on any images is `test_layer_kernels`."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.kernels.numba_pooling import max_pool, max_pool_gradient, pixel_steps
from refimpl.nn.pooling import max_pool as definition


def pooled(images, kernel_shape, stride):
    height, width = images.shape[2:]
    grid = (height - kernel_shape[0]) // stride + 1, (width - kernel_shape[1]) // stride + 1
    largest = np.full((*images.shape[:2], *grid), np.nan, images.dtype)
    chosen = np.full(largest.shape, -1, np.int32)
    max_pool(images, kernel_shape, stride, largest, chosen)
    return largest, chosen


@pytest.mark.parametrize(
    ("window", "largest", "place"),
    [
        ([1, 2, 3, 4], 4, 3),
        ([5, 5, 5, 5], 5, 0),
        ([-0.0, 0.0, 0.0, -0.0], 0, 0),
        ([-np.inf, -np.inf, -np.inf, -np.inf], -np.inf, 0),
        ([1, np.nan, 9, np.nan], np.nan, 1),
        ([np.nan, 1, np.inf, 2], np.nan, 0),
    ],
)
def test_first_largest_or_first_nan_of_a_window_wins(window, largest, place):
    images = np.array(window, np.float32).reshape(1, 1, 2, 2)
    found, chosen = pooled(images, (2, 2), 2)
    np.testing.assert_array_equal(found.ravel(), [largest])
    assert chosen.ravel().tolist() == [place]


@pytest.mark.parametrize("sides", [(2, 2), (3, 5), (24, 24), (9, 40)])
def test_windows_that_tile_leave_out_what_fills_none(sides):
    images = np.random.default_rng(0).standard_normal((2, 3, *sides)).astype(np.float32)
    for mine, theirs in zip(pooled(images, (2, 2), 2), definition(images, (2, 2), 2), strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


def test_gradients_of_overlapping_windows_add_up():
    images = np.array([[[[0.0, 9.0, 0.0]]]])
    _, chosen = pooled(images, (1, 2), 1)
    dx = np.full_like(images, np.nan)
    max_pool_gradient(np.array([[[[1.0, 10.0]]]]), chosen, (1, 2), 1, dx)
    assert dx.ravel().tolist() == [0.0, 11.0, 0.0]


def test_steps_lead_from_the_corner_of_a_window_to_its_pixels():
    assert pixel_steps((2, 3), 10).tolist() == [0, 1, 2, 10, 11, 12]


def test_pooling_has_the_same_bits_on_any_number_of_threads():
    images = np.random.default_rng(0).standard_normal((5, 3, 9, 9))
    before, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            largest, chosen = pooled(images, (3, 3), 2)
            dx = np.empty_like(images)
            max_pool_gradient(largest, chosen, (3, 3), 2, dx)
            found.append([array.tobytes() for array in (largest, chosen, dx)])
    finally:
        numba.set_num_threads(before)
    assert found[0] == found[1]
