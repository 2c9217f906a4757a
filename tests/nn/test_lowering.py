"""Lowering copies patches to columns, and its adjoint adds them back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d

from refimpl.nn import col2im, im2col, patch_grid
from support.images import geometries


def patches_one_by_one(images, kernel_shape, stride, padding):
    """The columns, patch by patch."""
    p = padding
    padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
    (kh, kw), (height, width) = kernel_shape, padded.shape[2:]
    columns = [
        image[:, top : top + kh, left : left + kw].ravel()
        for image in padded
        for top in range(0, height - kh + 1, stride)
        for left in range(0, width - kw + 1, stride)
    ]
    return np.array(columns, images.dtype).reshape(len(columns), images.shape[1] * kh * kw).T


@given(geometries(), st.sampled_from([np.float32, np.float64]))
def test_columns_are_the_patches(geometry, dtype):
    shape, options = geometry
    images = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    expected = patches_one_by_one(images, **options)
    np.testing.assert_array_equal(im2col(images, **options), expected, strict=True)


@given(geometries(), st.integers(0, 99))
def test_col2im_is_the_adjoint(geometry, seed):
    shape, options = geometry
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, shape).astype(np.float64)  # whole numbers: no rounding
    columns = im2col(x, **options)
    y = rng.integers(-9, 10, columns.shape).astype(np.float64)
    assert np.vdot(columns, y) == np.vdot(x, col2im(y, shape, **options))


@given(geometries())
def test_patch_grid_counts_the_patches(geometry):
    shape, options = geometry
    h_out, w_out = patch_grid(shape[2:], **options)
    assert im2col(np.zeros(shape), **options).shape[1] == shape[0] * h_out * w_out


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_product_with_the_columns_is_a_correlation(padding):
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal((6, 7)), rng.standard_normal((3, 2))
    y = kernel.ravel() @ im2col(image[None, None], (3, 2), padding=padding)
    expected = correlate2d(np.pad(image, padding), kernel, mode="valid")
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=0, atol=1e-14)


def test_col2im_counts_how_many_patches_hold_a_pixel():
    counts = col2im(np.ones((9, 4)), (1, 1, 5, 5), (3, 3), stride=2)
    np.testing.assert_array_equal(counts[0, 0], np.outer([1, 1, 2, 1, 1], [1, 1, 2, 1, 1]))


def test_patches_side_by_side_are_put_back_exactly():
    images = np.random.default_rng(0).standard_normal((2, 3, 6, 4))
    tiles = im2col(images, (2, 2), stride=2)
    np.testing.assert_array_equal(col2im(tiles, images.shape, (2, 2), stride=2), images)


def test_columns_begin_on_a_cache_line():
    columns = im2col(np.ones((1, 1, 9, 9), np.float32), (2, 2))
    assert columns.ctypes.data % 64 == 0
    assert columns.flags.c_contiguous


def test_any_memory_layout_is_read():
    images = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    turned = np.asfortranarray(images)
    np.testing.assert_array_equal(im2col(turned, (2, 3)), im2col(images, (2, 3)))


def test_images_are_left_as_they_were():
    images = np.ones((1, 1, 3, 3))
    im2col(images, (2, 2), padding=1)[...] = 7
    np.testing.assert_array_equal(images, np.ones((1, 1, 3, 3)))


IMAGES = np.zeros((1, 1, 4, 5))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"images": IMAGES[0]}, ValueError, r"im2col: images must have 4 axes, got shape"),
        ({"images": IMAGES.astype(int)}, TypeError, "im2col: images must be float16 or"),
        ({"kernel_shape": 3}, TypeError, "patch_grid: kernel_shape must be a tuple of two, got 3"),
        ({"kernel_shape": (2, 0)}, ValueError, "kernel_shape must be at least 1, got 0"),
        (
            {"kernel_shape": (2, 6)},
            ValueError,
            r"kernel_shape must fit into images of \(4, 5\) with a padding of 0, got \(2, 6\)",
        ),
        ({"stride": 0}, ValueError, "patch_grid: stride must be at least 1, got 0"),
        ({"padding": -1}, ValueError, "patch_grid: padding must be at least 0, got -1"),
    ],
)
def test_im2col_refuses_what_does_not_fit(changed, error, message):
    with pytest.raises(error, match=message):
        im2col(**{"images": IMAGES, "kernel_shape": (2, 2), **changed})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"columns": np.zeros((4, 11))}, ValueError, r"columns must have shape \(4, 12\), got"),
        ({"image_shape": (4, 5)}, TypeError, r"image_shape must be a tuple of four, got \(4, 5\)"),
        ({"image_shape": (1, 1, 4, -5)}, ValueError, "image_shape must be at least 0, got -5"),
        ({"kernel_shape": [2, 2]}, TypeError, r"kernel_shape must be a tuple of two, got \[2, 2\]"),
    ],
)
def test_col2im_refuses_what_does_not_fit(changed, error, message):
    arguments = {
        "columns": np.zeros((4, 12)),
        "image_shape": IMAGES.shape,
        "kernel_shape": (2, 2),
        **changed,
    }
    with pytest.raises(error, match=f"^col2im: {message}"):
        col2im(**arguments)
