"""Statistics and normalisation by hand; that they are the definition is `test_layer_kernels`."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from refimpl.kernels.numba_normalization import (
    channel_statistics,
    flat,
    normalization_gradient,
    normalization_sums,
    normalize,
    total,
)

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def statistics(x):
    mean, var = np.empty((2, x.shape[1]), x.dtype)
    channel_statistics(x, mean, var)
    return mean, var


@DTYPES
def test_statistics_of_a_channel_by_hand(dtype):
    mean, var = statistics(np.array([1, 2, 3, 6], dtype).reshape(2, 1, 1, 2))
    assert (mean.tolist(), var.tolist()) == ([3.0], [(4 + 1 + 0 + 9) / 4])


def test_variance_of_numbers_far_from_zero_keeps_its_digits():
    x = (1e4 + np.resize([0.0, 1.0], (50, 2, 8, 8))).astype(np.float32)
    assert statistics(x)[1].tolist() == [0.25, 0.25]


def test_mean_of_a_million_numbers_is_right_to_rounding():
    x = np.random.default_rng(0).uniform(1, 2, (100, 1, 100, 100)).astype(np.float32)
    exact = x.astype(np.float64)
    mean, var = statistics(x)
    np.testing.assert_allclose(mean, exact.mean(), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(), rtol=1e-5)


def test_normalization_by_hand():
    x, out = np.array([1.0, 3.0]).reshape(1, 1, 1, 2), np.empty((1, 1, 1, 2))
    mean, scale, gamma, beta = (np.array([v]) for v in (2.0, 1.0, 5.0, 7.0))
    normalize(x, mean, scale, gamma, beta, out)
    assert out.ravel().tolist() == [2.0, 12.0]


def test_gradients_by_hand():
    x, dy = np.array([1.0, 3.0]).reshape(1, 1, 1, 2), np.array([4.0, 2.0]).reshape(1, 1, 1, 2)
    mean, scale, gamma, dgamma, dbeta = (np.array([v]) for v in (2.0, 1.0, 5.0, np.nan, np.nan))
    normalization_sums(dy, x, mean, scale, dgamma, dbeta)
    assert (dgamma.tolist(), dbeta.tolist()) == ([-4 + 2], [4 + 2])
    out = np.empty_like(x)
    normalization_gradient(dy, x, mean, scale, gamma, dgamma, dbeta, out)
    assert out.ravel().tolist() == [0.0, 0.0]  # two numbers are always normalised to -1 and 1


def test_normalization_has_the_same_bits_on_any_number_of_threads():
    x, dy = np.random.default_rng(0).standard_normal((2, 7, 5, 3, 3)).astype(np.float32)
    before, found = numba.get_num_threads(), []
    try:
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            mean, var = statistics(x)
            sums = np.empty((2, 5), np.float32)
            normalization_sums(dy, x, mean, 1 / np.sqrt(var), *sums)
            found.append([array.tobytes() for array in (mean, var, sums)])
    finally:
        numba.set_num_threads(before)
    assert found[0] == found[1]


def test_total_is_taken_in_float64():
    assert total(np.array([2.0**24, 1.0, 1.0], np.float32)) == 2**24 + 2


def test_flat_images_share_their_memory():
    x = np.zeros((2, 3, 4, 5))
    assert np.shares_memory(flat(x), x)
    assert flat(x).shape == (2, 3, 20)
