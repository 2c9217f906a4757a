"""Pooling: the largest or the mean of each window, and what comes back from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import AvgPool2d, GlobalAvgPool2d, MaxPool2d, check_gradients
from refimpl.nn.pooling import (
    average_pool,
    average_pool_gradient,
    max_pool,
    max_pool_gradient,
)
from support.images import geometries, whole_numbers, windows
from support.strategies import FLOATS, layouts, values


@st.composite
def poolings(draw):
    """Images with many ties, infinities and NaN, and windows that overlap or leave gaps."""
    shape, options = draw(geometries(most_padding=0))
    dtype = draw(st.sampled_from(FLOATS))
    elements = values(dtype) | st.sampled_from([np.nan, np.inf, -np.inf])
    return draw(hnp.arrays(dtype, shape, elements=elements)), options


def pooled_by_loops(images, kernel_shape, stride):
    """The first largest or first NaN of each window, and its place among the window's pixels."""
    places = list(windows(images.shape[2:], kernel_shape, stride))
    grid = (places[-1][0] + 1, places[-1][1] + 1)
    largest = np.empty((*images.shape[:2], *grid), images.dtype)
    chosen = np.empty(largest.shape, np.int32)
    for b, c in np.ndindex(images.shape[:2]):
        for p, q, rows, columns in places:
            window = images[b, c, rows, columns].ravel().tolist()
            nans = [k for k, pixel in enumerate(window) if pixel != pixel]
            chosen[b, c, p, q] = k = nans[0] if nans else window.index(max(window))
            largest[b, c, p, q] = window[k]
    return largest, chosen


# --- max -------------------------------------------------------------------------------------


@given(poolings())
def test_max_pool_takes_the_first_largest_or_first_nan(case):
    images, options = case
    kernel_shape, stride = options["kernel_shape"], options["stride"]
    largest, chosen = max_pool(images, kernel_shape, stride)
    expected, places = pooled_by_loops(images, kernel_shape, stride)
    np.testing.assert_array_equal(largest, expected, strict=True)
    np.testing.assert_array_equal(chosen, places, strict=True)


@given(poolings(), st.integers(0, 99))
def test_max_pool_gradient_goes_to_the_chosen_pixels(case, seed):
    images, options = case
    kernel_shape, stride = options["kernel_shape"], options["stride"]
    chosen = max_pool(images, kernel_shape, stride)[1]
    dy = whole_numbers(chosen.shape, images.dtype, np.random.default_rng(seed))
    expected = np.zeros_like(images)
    for p, q, rows, columns in windows(images.shape[2:], kernel_shape, stride):
        for b, c in np.ndindex(images.shape[:2]):
            i, j = divmod(int(chosen[b, c, p, q]), kernel_shape[1])
            expected[b, c, rows, columns][i, j] += dy[b, c, p, q]
    dx = max_pool_gradient(dy, chosen, images.shape, kernel_shape, stride)
    np.testing.assert_array_equal(dx, expected, strict=True)


@given(poolings(), st.data())
def test_max_pool_layer_is_its_two_functions(case, data):
    images, options = case
    kernel_shape, stride = options["kernel_shape"], options["stride"]
    layer = MaxPool2d(kernel_shape, stride=stride)
    y = layer.forward(data.draw(layouts(images)))
    largest, chosen = max_pool(images, kernel_shape, stride)
    np.testing.assert_array_equal(y, largest, strict=True)
    dy = whole_numbers(y.shape, y.dtype, np.random.default_rng(0))
    dx = layer.backward(data.draw(layouts(dy)))
    expected = max_pool_gradient(dy, chosen, images.shape, kernel_shape, stride)
    np.testing.assert_array_equal(dx, expected, strict=True)


def test_max_pool_gives_the_gradient_of_a_tie_to_the_first_pixel():
    layer = MaxPool2d(2)
    layer.forward(np.full((1, 1, 2, 2), 7.0))
    np.testing.assert_array_equal(layer.backward(np.ones((1, 1, 1, 1))), [[[[1, 0], [0, 0]]]])


def test_max_pool_adds_up_what_overlapping_windows_send_to_one_pixel():
    layer = MaxPool2d(2, stride=1)
    layer.forward(np.array([[[[0.0, 0, 0], [0, 9, 0], [0, 0, 0]]]]))
    dx = layer.backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    np.testing.assert_array_equal(dx, [[[[0, 0, 0], [0, 10, 0], [0, 0, 0]]]])


def test_max_pool_passes_nan_on():
    x = np.array([[[[1.0, np.nan], [3.0, 2.0]]]])
    assert np.isnan(MaxPool2d(2).forward(x)).all()


# --- mean ------------------------------------------------------------------------------------


@given(geometries(most_padding=0), st.sampled_from(FLOATS))
def test_average_pool_is_the_mean_of_each_window(geometry, dtype):
    shape, options = geometry
    kernel_shape, stride = options["kernel_shape"], options["stride"]
    images = whole_numbers(shape, dtype, np.random.default_rng(0))
    y = average_pool(images, kernel_shape, stride)
    assert y.dtype == dtype
    for p, q, rows, columns in windows(shape[2:], kernel_shape, stride):
        total = images[:, :, rows, columns].sum(axis=(2, 3))
        np.testing.assert_array_equal(y[:, :, p, q], total / dtype(np.prod(kernel_shape)))


@given(geometries(most_padding=0))
def test_average_pool_gradient_is_the_adjoint(geometry):
    shape, options = geometry
    kernel_shape, stride = options["kernel_shape"], options["stride"]
    rng, area = np.random.default_rng(0), int(np.prod(kernel_shape))
    images = area * whole_numbers(shape, np.float64, rng)  # means of whole numbers are whole
    y = average_pool(images, kernel_shape, stride)
    dy = area * whole_numbers(y.shape, np.float64, rng)
    dx = average_pool_gradient(dy, shape, kernel_shape, stride)
    assert dx.shape == shape
    assert np.vdot(y, dy) == np.vdot(images, dx)


def test_global_average_pool_is_the_mean_of_each_channel():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(GlobalAvgPool2d().forward(x), x.reshape(2, 3, 20).mean(axis=2))


def test_global_average_pool_is_average_pooling_with_one_window():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    one, other = GlobalAvgPool2d(), AvgPool2d((4, 5))
    y = one.forward(x)
    np.testing.assert_allclose(y, other.forward(x)[:, :, 0, 0], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(one.backward(y), other.backward(y[:, :, None, None]))


# --- all three -------------------------------------------------------------------------------

POOLS = {
    "max tiles": MaxPool2d(2),
    "max overlapping": MaxPool2d((3, 2), stride=1),
    "max with gaps": MaxPool2d((1, 2), stride=3),
    "mean tiles": AvgPool2d(2),
    "mean overlapping": AvgPool2d((2, 3), stride=1),
    "mean with gaps": AvgPool2d((2, 1), stride=3),
    "global": GlobalAvgPool2d(),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_gradients_match_differences(name):
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * 3 * 7 * 5).reshape(2, 3, 7, 5) / 70  # far from ties
    check_gradients(POOLS[name], x, rng=rng)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_pooling_leaves_out_rows_and_columns_that_fill_no_window(kind):
    layer, x = kind(2), np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = layer.forward(x)
    dx = layer.backward(np.ones_like(y))
    np.testing.assert_array_equal(y, kind(2).forward(x[:, :, :4, :6]))
    assert dx.shape == x.shape
    assert not dx[:, :, 4:].any()
    assert not dx[:, :, :, 6:].any()


@pytest.mark.parametrize(
    ("layer", "shape"), [(MaxPool2d(2), (0, 3, 2, 2)), (AvgPool2d(2), (0, 3, 2, 2)),
                         (GlobalAvgPool2d(), (0, 3))]
)  # fmt: skip
def test_pooling_takes_an_empty_batch(layer, shape):
    y = layer.forward(np.zeros((0, 3, 4, 5)))
    assert (y.shape, layer.backward(y).shape) == (shape, (0, 3, 4, 5))


@pytest.mark.parametrize("layer", [MaxPool2d(2), AvgPool2d(2), GlobalAvgPool2d()])
@pytest.mark.parametrize("dtype", FLOATS)
def test_pooling_keeps_the_dtype(layer, dtype):
    y = layer.forward(np.ones((2, 3, 4, 4), dtype))
    assert y.dtype == layer.backward(y).dtype == dtype


def test_pooling_gradient_is_the_callers_to_change():
    layer = GlobalAvgPool2d()
    dx = layer.backward(layer.forward(np.ones((1, 1, 2, 2))))
    dx[0, 0, 0, 0] = 7
    np.testing.assert_array_equal(dx, [[[[7, 0.25], [0.25, 0.25]]]])


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel_shape": 0}, ValueError, "kernel_shape must be at least 1, got 0"),
        ({"kernel_shape": 2.0}, TypeError, "kernel_shape must be a tuple of two, got 2.0"),
        ({"kernel_shape": True}, TypeError, "kernel_shape must be a tuple of two, got True"),
        ({"kernel_shape": 2, "stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"kernel_shape": 2, "stride": 1.5}, TypeError, "stride must be an integer, got 1.5"),
    ],
)
def test_pooling_rejects_bad_options(kind, options, error, message):
    with pytest.raises(error, match=f"^{kind.__name__}: {message}"):
        kind(**options)


@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_pooling_rejects_images_smaller_than_a_window(kind):
    with pytest.raises(ValueError, match=r"must fit into images of \(2, 4\) with a padding of 0"):
        kind(3).forward(np.ones((1, 1, 2, 4)))


def test_max_pool_backward_belongs_to_the_last_forward_that_was_accepted():
    pool, images = MaxPool2d(2), np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    pool.forward(images)
    expected = pool.backward(np.ones((2, 3, 3, 3)))
    pool.forward(images)
    with pytest.raises(ValueError, match="kernel_shape must fit"):
        pool.forward(np.zeros((1, 1, 1, 1)))
    pool.stride = 5  # of the next pass
    np.testing.assert_array_equal(pool.backward(np.ones((2, 3, 3, 3))), expected)


def test_max_pool_takes_the_other_byte_order():
    images = np.arange(16.0).reshape(1, 1, 4, 4)
    y = MaxPool2d(2).forward(images.astype(">f8"))
    np.testing.assert_array_equal(y, MaxPool2d(2).forward(images))
