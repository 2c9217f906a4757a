"""Row-wise masks: the same exact count in every row, ties to the lowest index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import count_kept, row_wise
from support.strategies import saliencies

SPARSITIES = (0.0, 0.1, 0.145, 0.29, 1 / 3, 0.5, 0.75)


@st.composite
def cases(draw):
    """A saliency of a linear layer or a convolution, and a sparsity that leaves each row one."""
    kernel = draw(st.sampled_from([(), (2, 3)]))
    shape = (draw(st.integers(0, 4)), draw(st.integers(3, 9)), *kernel)
    return draw(saliencies(shape)), draw(st.sampled_from(SPARSITIES))


@given(cases())
def test_row_wise_keeps_exactly_the_count_in_every_row(case):
    saliency, sparsity = case
    mask = row_wise(saliency, sparsity)
    size = saliency[:1].size or np.prod(saliency.shape[1:])
    assert (mask.dtype, mask.shape) == (np.bool_, saliency.shape)
    assert set(mask.reshape(len(mask), size).sum(axis=1)) <= {count_kept(int(size), sparsity)}


@given(cases())
def test_row_wise_equals_a_stable_sort_of_each_row(case):
    saliency, sparsity = case
    mask = row_wise(saliency, sparsity)
    for row, kept in zip(saliency, mask, strict=True):
        flat = row.ravel().astype(np.float64)
        first = np.argsort(-flat, kind="stable")[: count_kept(flat.size, sparsity)]
        assert set(np.flatnonzero(kept)) == set(first)


def test_row_wise_ignores_the_scale_of_a_row():
    saliency = np.random.default_rng(0).random((3, 8))
    scaled = saliency * np.array([[1.0], [1e-6], [1e6]])
    np.testing.assert_array_equal(row_wise(saliency, 0.5), row_wise(scaled, 0.5))


def test_row_wise_treats_a_convolution_as_its_matrix():
    saliency = np.random.default_rng(0).random((3, 4, 2, 2))
    expected = row_wise(saliency.reshape(3, 16), 0.6).reshape(saliency.shape)
    np.testing.assert_array_equal(row_wise(saliency, 0.6), expected)


@pytest.mark.parametrize(
    ("saliency", "sparsity", "kind", "message"),
    [
        (np.ones((2, 5)), 0.9, ValueError, "sparsity must leave a weight in a row of 5, got 0.9;"),
        (np.ones((2, 0)), 0.5, ValueError, "sparsity must leave a weight in a row of 0, got 0.5;"),
        (np.ones((2, 5)), 1.0, ValueError, r"sparsity must be in \[0, 1\), got 1.0;"),
        (np.ones(5), 0.5, ValueError, "saliency must have 2 or 4 axes, got shape"),
        (np.array([[np.nan, 1.0]]), 0.5, ValueError, "saliency must hold no NaN, got 1 of 2"),
        ([[1.0, 2.0]], 0.5, TypeError, "saliency must be an array, got list"),
    ],
)
def test_row_wise_refuses_with_a_sentence(saliency, sparsity, kind, message):
    with pytest.raises(kind, match=message):
        row_wise(saliency, sparsity)
