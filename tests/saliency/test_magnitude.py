"""Magnitude is |w| and optimal for the weights; random is a fair draw."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import keep_top_k
from refimpl.saliency import magnitude, random
from support.strategies import FLOATS, dense_matrices


@given(dense_matrices())
def test_magnitude_is_the_value_without_its_sign(w):
    saliency = magnitude(w)
    np.testing.assert_array_equal(saliency, np.where(w < 0, -w, w))


@given(dense_matrices())
def test_magnitude_clears_the_sign_of_negative_zero(w):
    assert not np.signbit(magnitude(w)).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 1, 2)])
def test_magnitude_keeps_dtype_and_shape(dtype, shape):
    saliency = magnitude(np.full(shape, -2, dtype))
    assert isinstance(saliency, np.ndarray)
    assert (saliency.dtype, saliency.shape) == (dtype, shape)


def test_magnitude_returns_new_memory():
    w = np.ones((2, 3))
    assert not np.shares_memory(magnitude(w), w)


@pytest.mark.parametrize("w", [[1.0, -2.0], -3.0, np.array([1, -2]), np.array([True])])
def test_magnitude_refuses_what_is_no_float_array(w):
    with pytest.raises(TypeError, match=r"^magnitude: w must be .+, got .+; convert it with"):
        magnitude(w)


def least_change(w: np.ndarray, n_keep: int) -> float:
    """Smallest squared distance from `w` to any `w` with all but `n_keep` entries zeroed."""
    removals = combinations(w.ravel().tolist(), w.size - n_keep)
    return min(sum(value**2 for value in removed) for removed in removals)


@st.composite
def small_weights_and_count(draw):
    shape = draw(hnp.array_shapes(max_dims=2, max_side=3))
    w = draw(hnp.arrays(np.float64, shape, elements=st.integers(-5, 5).map(float)))
    return w, draw(st.integers(0, w.size))


@given(small_weights_and_count())
def test_magnitude_changes_the_weights_least_of_all_masks(case):
    w, n_keep = case  # whole numbers: the sums of squares are exact
    mask = keep_top_k(magnitude(w), n_keep)
    assert np.sum((w - mask * w) ** 2) == least_change(w, n_keep)


@pytest.mark.parametrize("shape", [(), 4, (0, 3), (2, 3), [2, 3]])
def test_random_has_the_shape_asked_for(shape):
    saliency = random(shape, np.random.default_rng(0))
    assert saliency.shape == np.empty(shape).shape
    assert saliency.dtype == np.float64


def test_random_repeats_with_the_seed():
    first, second = (random((5, 4), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_random_differs_from_call_to_call():
    rng = np.random.default_rng(0)
    assert not np.array_equal(random((5, 4), rng), random((5, 4), rng))


def test_random_removes_every_weight_equally_often():
    rng = np.random.default_rng(0)
    draws, size, n_keep = 4000, 6, 2
    kept = sum(keep_top_k(random(size, rng), n_keep).astype(int) for _ in range(draws))
    expected = draws * n_keep / size
    standard_deviation = np.sqrt(expected * (1 - n_keep / size))
    assert np.abs(kept - expected).max() < 5 * standard_deviation


@pytest.mark.parametrize(
    ("shape", "rng", "kind", "message"),
    [
        ((2, 3), 0, TypeError, "random: rng must be a numpy.random.Generator, got int; pass"),
        ((2, -3), np.random.default_rng(0), ValueError, "random: a length in shape must be at"),
        ((2.0,), np.random.default_rng(0), TypeError, "random: a length in shape must be an int"),
        (None, np.random.default_rng(0), TypeError, "random: a length in shape must be an int"),
    ],
)
def test_random_refuses_with_a_sentence(shape, rng, kind, message):
    with pytest.raises(kind, match=message):
        random(shape, rng)
