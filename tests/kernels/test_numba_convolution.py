"""How convolutions are cut into tiles; that they are the definition is `test_layer_kernels`."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from refimpl.kernels import numba_convolution
from refimpl.kernels.numba_convolution import (
    CACHED,
    LEAST_COLUMNS,
    MOST_COLUMNS,
    N_GROUPS,
    UNPACKED,
    cached_columns,
    convolution_image_gradient,
    convolution_weight_gradient,
    convolve,
    one_blas_thread,
    unpacked_columns,
)
from refimpl.nn.convolution import convolve as definition
from support.tolerance import assert_product_close

SHAPES = [(20, 25), (50, 500), (64, 576), (1, 1)]  # of a matrix of kernels


def random_arrays(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def results(batch):
    """All three products of random numbers, whose sums depend on the order of additions."""
    images, weight, dy = random_arrays((batch, 3, 9, 8), (4, 3, 3, 2), (batch, 4, 5, 5))
    y, dw, dx = np.empty_like(dy), np.empty_like(weight), np.empty_like(images)
    convolve(images, weight, 2, 1, None, y)
    convolution_weight_gradient(dy, images, 2, 1, dw)
    convolution_image_gradient(dy, weight, 2, 1, dx)
    return [array.tobytes() for array in (y, dw, dx)]


@pytest.fixture
def set_threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, N_GROUPS - 1, 3 * N_GROUPS + 1])
def test_convolutions_have_the_same_bits_on_any_number_of_threads(batch, set_threads):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba was started with one thread")
    set_threads(1)
    alone = results(batch)
    set_threads(2)
    assert results(batch) == alone


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_within_and_as_many_as_before_behind():
    with threadpool_limits(2):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == before


@pytest.mark.parametrize(("c_out", "n_weights"), SHAPES)
def test_a_tile_that_blas_need_not_pack_is_below_its_limit(c_out, n_weights):
    n = unpacked_columns(c_out, n_weights)
    assert LEAST_COLUMNS <= n <= MOST_COLUMNS
    assert c_out * n_weights * n <= UNPACKED
    assert n == MOST_COLUMNS or c_out * n_weights * (n + 1) > UNPACKED


def test_kernels_too_large_for_an_unpacked_product_get_what_the_cache_holds():
    assert unpacked_columns(512, 4608) == cached_columns(4608)


@pytest.mark.parametrize("n_weights", [1, 25, 500, 4608, 10**6])
def test_a_tile_stays_in_the_cache_unless_it_would_be_too_narrow(n_weights):
    n = cached_columns(n_weights)
    assert LEAST_COLUMNS <= n <= MOST_COLUMNS
    assert n * n_weights <= CACHED or n == LEAST_COLUMNS


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_of_many_tiles_is_exact_to_rounding(dtype, monkeypatch):
    monkeypatch.setattr(numba_convolution, "MOST_COLUMNS", 32)
    images, weight = random_arrays((2, 5, 20, 19), (3, 5, 4, 4), dtype=dtype)
    y = np.empty((2, 3, 17, 16), dtype)
    convolve(images, weight, 1, 0, None, y)
    windows = np.lib.stride_tricks.sliding_window_view(images, (4, 4), axis=(2, 3))
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(80, -1)  # (c_in * kh * kw, patches)
    assert_product_close(y.swapaxes(0, 1).reshape(3, -1), weight.reshape(3, 80), columns)


def test_no_bias_is_a_bias_of_zeros():
    images, weight = random_arrays((2, 3, 6, 5), (4, 3, 3, 3))
    without, zeros = (np.empty((2, 4, 4, 3), np.float32) for _ in range(2))
    convolve(images, weight, 1, 0, None, without)
    convolve(images, weight, 1, 0, np.zeros(4, np.float32), zeros)
    assert without.tobytes() == zeros.tobytes()


def test_images_and_weight_may_be_read_only():
    images, weight = random_arrays((2, 3, 6, 5), (4, 3, 3, 3))
    expected = definition(images, weight, 1, 0)
    images.flags.writeable = weight.flags.writeable = False
    y = np.empty_like(expected)
    convolve(images, weight, 1, 0, None, y)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


# Without images neither they nor the result take memory; a row of patches takes 64 terabytes.
def test_a_convolution_without_memory_raises():
    nothing = np.zeros((0, 1, 1, 2**44), np.float32)
    weight = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(MemoryError):
        convolve(nothing, weight, 1, 0, None, np.empty_like(nothing))
