"""The direct sparse convolution is CSR times the patches, whatever the shapes."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from refimpl.formats import CSR
from refimpl.kernels.numba_sparse_convolution import csr_convolve
from support.tolerance import assert_product_close


def patches(images, kh, kw):
    """(batch, c_in * kh * kw, h_out * w_out), by NumPy's windows."""
    windows = sliding_window_view(images, (kh, kw), axis=(2, 3)).transpose(0, 1, 4, 5, 2, 3)
    n_pixels = windows.shape[4] * windows.shape[5]
    return windows.reshape(len(images), images.shape[1] * kh * kw, n_pixels)


def convolved(w, images, kh, kw, index=np.int32):
    a = CSR.from_dense(w)
    indices, indptr = a.indices.astype(index), a.indptr.astype(index)
    grid = images.shape[2] - kh + 1, images.shape[3] - kw + 1
    out = np.full((len(images), len(w), *grid), np.nan, images.dtype)
    csr_convolve(a.data, indices, indptr, images, kh, kw, out)
    return out


def random_case(rng, batch, c_in, c_out, image_shape, kernel_shape, density, dtype):
    k = c_in * kernel_shape[0] * kernel_shape[1]
    w = rng.standard_normal((c_out, k)) * (rng.random((c_out, k)) < density)
    return w.astype(dtype), rng.standard_normal((batch, c_in, *image_shape)).astype(dtype)


def assert_is_the_product(out, w, images, kh, kw):
    columns = np.moveaxis(patches(images, kh, kw), 0, 2)  # (k, pixels, batch)
    actual = out.transpose(1, 2, 3, 0).reshape(len(w), columns[0].size)
    assert_product_close(actual, w, columns.reshape(w.shape[1], columns[0].size))


@given(
    batch=st.integers(0, 3),
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    kernel_shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    spare=st.tuples(st.integers(0, 5), st.integers(0, 20)),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_direct_convolution_matches_the_patches(
    batch, c_in, c_out, kernel_shape, spare, density, dtype, seed
):
    image_shape = kernel_shape[0] + spare[0], kernel_shape[1] + spare[1]
    rng = np.random.default_rng(seed)
    w, images = random_case(rng, batch, c_in, c_out, image_shape, kernel_shape, density, dtype)
    assert_is_the_product(convolved(w, images, *kernel_shape), w, images, *kernel_shape)


# One row of outputs of every width around the panels' 32 and 64.
@pytest.mark.parametrize("width", [1, 31, 32, 33, 63, 64, 65, 96, 97, 128, 130])
def test_direct_convolution_is_right_at_the_ends_of_panels(width):
    rng = np.random.default_rng(width)
    w, images = random_case(rng, 2, 2, 3, (2, width + 1), (2, 2), 0.5, np.float32)
    assert_is_the_product(convolved(w, images, 2, 2), w, images, 2, 2)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_direct_convolution_takes_either_index(index):
    w, images = random_case(np.random.default_rng(0), 2, 2, 3, (6, 5), (3, 3), 0.5, np.float64)
    assert_is_the_product(convolved(w, images, 3, 3, index), w, images, 3, 3)


@pytest.mark.parametrize("width", [5, 34, 70])
def test_direct_convolution_reads_nothing_beyond_the_images(width):
    w, images = random_case(np.random.default_rng(0), 2, 2, 3, (4, width), (3, 3), 0.5, np.float32)
    fenced = np.full(images.size + 256, np.nan, np.float32)
    inside = fenced[128:-128].reshape(images.shape)
    inside[...] = images
    np.testing.assert_array_equal(convolved(w, inside, 3, 3), convolved(w, images, 3, 3))


def test_direct_convolution_has_the_same_bits_on_any_number_of_threads():
    w, images = random_case(np.random.default_rng(0), 9, 2, 3, (6, 9), (3, 3), 0.5, np.float32)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = convolved(w, images, 3, 3)
    finally:
        numba.set_num_threads(before)
    assert alone.tobytes() == convolved(w, images, 3, 3).tobytes()


def test_comparison_notices_a_shifted_run():
    w, images = random_case(np.random.default_rng(0), 2, 1, 2, (5, 6), (2, 2), 1.0, np.float64)
    wrong = convolved(np.roll(w, 1, axis=1), images, 2, 2)
    with pytest.raises(AssertionError, match="off by"):
        assert_is_the_product(wrong, w, images, 2, 2)
