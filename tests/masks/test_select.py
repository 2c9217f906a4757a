"""Selection is exact: the count, the ties, the order, whatever the array looks like."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import count_kept, global_unstructured, keep_top_k, unstructured
from support.strategies import FLOATS, layouts

SPARSITIES = st.floats(0, 1, exclude_max=True)


@st.composite
def saliencies(draw, *, unique: bool = False, min_dims: int = 0, max_side: int = 6):
    """Arrays of 0 to 3 axes, every dtype and layout, with infinities and many ties, no NaN."""
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=0, max_side=max_side))
    width = np.dtype(dtype).itemsize * 8
    ties = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf])
    elements = st.floats(width=width, allow_nan=False)
    array = draw(
        hnp.arrays(dtype, shape, elements=elements if unique else ties | elements, unique=unique)
    )
    return draw(layouts(array)) if array.ndim else array


@st.composite
def saliencies_and_count(draw, **kinds):
    saliency = draw(saliencies(**kinds))
    return saliency, draw(st.integers(0, saliency.size))


def stable_sort_mask(saliency: np.ndarray, n_keep: int) -> np.ndarray:
    """Oracle: sort everything, larger first, equal ones in order of index."""
    flat = [float(value) for value in saliency.reshape(-1)]
    order = sorted(range(len(flat)), key=lambda i: (-flat[i], i))
    mask = np.zeros(len(flat), bool)
    mask[order[:n_keep]] = True
    return mask.reshape(saliency.shape)


@given(st.integers(0, 10**9), SPARSITIES)
def test_count_kept_is_within_half_of_exact(size, sparsity):
    removed = size - count_kept(size, sparsity)
    assert abs(removed - Fraction(repr(sparsity)) * size) <= Fraction(1, 2)


@given(st.integers(0, 10**9), SPARSITIES, SPARSITIES)
def test_count_kept_never_rises_with_sparsity(size, one, other):
    low, high = sorted((one, other))
    assert count_kept(size, high) <= count_kept(size, low)


@given(st.integers(0, 10**6), SPARSITIES)
def test_count_kept_one_more_weight_is_kept_or_removed(size, sparsity):
    assert count_kept(size + 1, sparsity) - count_kept(size, sparsity) in (0, 1)


@given(st.integers(0, 10**12))
def test_count_kept_keeps_all_at_sparsity_zero(size):
    assert count_kept(size, 0) == count_kept(size, 0.0) == size


@given(st.integers(0, 99), st.integers(0, 10**4))
def test_count_kept_whole_percentages_of_hundreds_are_exact(percent, hundreds):
    assert count_kept(100 * hundreds, percent / 100) == (100 - percent) * hundreds


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (10, 0.9, 1),
        (100, 0.29, 71),  # the float product is 28.999999999999996
        (100, 0.145, 85),  # 14.499999999999998, where 14.5 is meant
        (1, 0.5, 0),
        (1, 0.49, 1),
        (5, 0.5, 2),
        (0, 0.9, 0),
        (10**8, 1e-9, 10**8),
        (10, np.float32(0.9), 1),
        (10**9, np.float32(0.9), 10**8),
        (np.int64(10), np.float64(0.9), 1),
    ],
)
def test_count_kept_reads_the_decimal_number(size, sparsity, kept):
    assert count_kept(size, sparsity) == kept


def test_count_kept_is_a_python_integer():
    assert type(count_kept(np.int32(10), np.float32(0.5))) is int


@pytest.mark.parametrize(
    ("size", "sparsity", "kind", "message"),
    [
        (10, 1.0, ValueError, r"count_kept: sparsity must be in \[0, 1\), got 1.0; 90 %"),
        (10, 1, ValueError, r"count_kept: sparsity must be in \[0, 1\), got 1;"),
        (10, -0.1, ValueError, r"count_kept: sparsity must be in \[0, 1\), got -0.1;"),
        (10, math.nan, ValueError, r"count_kept: sparsity must be in \[0, 1\), got nan;"),
        (10, "0.9", TypeError, "count_kept: sparsity must be a number, got '0.9';"),
        (-1, 0.5, ValueError, "count_kept: size must be at least 0, got -1;"),
        (10.0, 0.5, TypeError, "count_kept: size must be an integer, got 10.0;"),
    ],
)
def test_count_kept_refuses_with_a_sentence(size, sparsity, kind, message):
    with pytest.raises(kind, match=message):
        count_kept(size, sparsity)


@given(saliencies_and_count())
def test_keep_top_k_keeps_exactly_k(case):
    saliency, n_keep = case
    mask = keep_top_k(saliency, n_keep)
    assert (mask.dtype, mask.shape, int(mask.sum())) == (np.bool_, saliency.shape, n_keep)


@given(saliencies_and_count())
def test_keep_top_k_equals_a_stable_sort(case):
    saliency, n_keep = case
    np.testing.assert_array_equal(keep_top_k(saliency, n_keep), stable_sort_mask(saliency, n_keep))


@given(saliencies_and_count())
def test_keep_top_k_masks_are_nested(case):
    saliency, n_keep = case
    assume(n_keep < saliency.size)
    smaller, larger = keep_top_k(saliency, n_keep), keep_top_k(saliency, n_keep + 1)
    assert np.all(larger[smaller])


@given(saliencies_and_count())
def test_keep_top_k_sees_only_the_order(case):
    saliency, n_keep = case
    ranks = np.unique(saliency, return_inverse=True)[1].reshape(saliency.shape)
    np.testing.assert_array_equal(
        keep_top_k(saliency, n_keep), keep_top_k(ranks.astype(np.float64), n_keep)
    )


@given(saliencies_and_count(unique=True, min_dims=1), st.randoms())
def test_keep_top_k_follows_a_permutation_of_distinct_entries(case, shuffler):
    saliency, n_keep = case
    flat = saliency.ravel()
    assume(np.unique(flat).size == flat.size)  # Hypothesis counts 0.0 and -0.0 as distinct
    order = shuffler.sample(range(flat.size), flat.size)
    np.testing.assert_array_equal(keep_top_k(flat[order], n_keep), keep_top_k(flat, n_keep)[order])


@given(saliencies_and_count())
def test_keep_top_k_leaves_its_argument_alone(case):
    saliency, n_keep = case
    before = saliency.copy()
    keep_top_k(saliency, n_keep)
    assert saliency.tobytes() == before.tobytes()


TIED = {
    "21 below, 34 tied": np.repeat([1.0, 2.0, 3.0], [21, 34, 45]),
    "13 below, 44 tied": np.repeat([1.0, 2.0, 3.0], [13, 44, 43]),
    "all equal": np.ones(100),
    "all distinct": np.arange(100.0),
    "zeros of both signs": np.tile([0.0, -0.0], 50),
}


@pytest.mark.parametrize("name", TIED)
def test_keep_top_k_is_exact_on_ties(name):
    saliency = TIED[name]
    mask = keep_top_k(saliency, 50)
    np.testing.assert_array_equal(mask, stable_sort_mask(saliency, 50))


def remove_up_to_threshold(saliency: np.ndarray, sparsity: float) -> np.ndarray:
    """Wrong: everything up to the sorted entry at index k goes, which is k + 1 entries."""
    return saliency > np.sort(saliency)[int(sparsity * saliency.size)]


def remove_below_quantile(saliency: np.ndarray, sparsity: float) -> np.ndarray:
    """Wrong: what equals the quantile stays, however much that is."""
    return saliency >= np.quantile(saliency, sparsity)


@pytest.mark.parametrize(
    ("wrong", "name", "removed"),
    [
        (remove_up_to_threshold, "all distinct", 51),
        (remove_up_to_threshold, "21 below, 34 tied", 55),
        (remove_up_to_threshold, "13 below, 44 tied", 57),
        (remove_up_to_threshold, "all equal", 100),
        (remove_below_quantile, "21 below, 34 tied", 21),
        (remove_below_quantile, "13 below, 44 tied", 13),
        (remove_below_quantile, "all equal", 0),
    ],
)
def test_tied_cases_expose_the_usual_wrong_selections(wrong, name, removed):
    mask = wrong(TIED[name], 0.5)
    assert mask.size - int(mask.sum()) == removed != 50


@pytest.mark.parametrize(
    ("n_keep", "kept"), [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])]
)
def test_keep_top_k_ranks_infinities(n_keep, kept):
    mask = keep_top_k(np.array([np.inf, 0.0, -np.inf, np.inf], np.float16), n_keep)
    np.testing.assert_array_equal(np.flatnonzero(mask), kept)


def test_keep_top_k_breaks_ties_in_row_major_order_of_a_transpose():
    mask = keep_top_k(np.ones((2, 3)).T, 2)
    np.testing.assert_array_equal(mask, [[True, True], [False, False], [False, False]])


def test_keep_top_k_takes_a_count_of_few_bits():
    assert keep_top_k(np.arange(1000.0), np.int8(100)).sum() == 100


def test_keep_top_k_takes_an_array_without_axes():
    mask = keep_top_k(np.array(2.0), 1)
    assert (mask.shape, bool(mask)) == ((), True)


@pytest.mark.parametrize(
    ("saliency", "n_keep", "kind", "message"),
    [
        ([1.0], 1, TypeError, "keep_top_k: saliency must be an array, got list; convert"),
        (np.arange(3), 1, TypeError, "keep_top_k: saliency must be float16 or .+, got int64"),
        (np.array([np.nan, 1.0]), 1, ValueError, "saliency must hold no NaN, got 1 of 2;"),
        (np.array([np.nan, 1.0]), 0, ValueError, "saliency must hold no NaN, got 1 of 2;"),
        (np.ones(3), 4, ValueError, r"keep_top_k: n_keep must be in \[0, 3\], got 4;"),
        (np.ones(3), -1, ValueError, r"keep_top_k: n_keep must be in \[0, 3\], got -1;"),
        (np.ones(3), 0.5, TypeError, "n_keep must be an integer, got 0.5; give a count, not a"),
        (np.ones(3), True, TypeError, "keep_top_k: n_keep must be an integer, got True;"),
    ],
)
def test_keep_top_k_refuses_with_a_sentence(saliency, n_keep, kind, message):
    with pytest.raises(kind, match=message):
        keep_top_k(saliency, n_keep)


@given(saliencies(), SPARSITIES)
def test_unstructured_keeps_the_top_of_the_rounded_count(saliency, sparsity):
    removed = math.floor(Fraction(repr(sparsity)) * saliency.size + Fraction(1, 2))
    expected = stable_sort_mask(saliency, saliency.size - removed)
    np.testing.assert_array_equal(unstructured(saliency, sparsity), expected)


@pytest.mark.parametrize(
    ("saliency", "sparsity", "message"),
    [
        (np.array([np.nan]), 0.5, "unstructured: saliency must hold no NaN, got 1 of 1;"),
        (np.ones(3), 1.0, r"unstructured: sparsity must be in \[0, 1\), got 1.0;"),
    ],
)
def test_unstructured_refuses_with_a_sentence(saliency, sparsity, message):
    with pytest.raises(ValueError, match=message):
        unstructured(saliency, sparsity)


layers = st.lists(saliencies(max_side=3), min_size=1, max_size=4)


@given(layers, SPARSITIES)
def test_global_unstructured_ranks_all_arrays_as_one(arrays, sparsity):
    joined = np.array([float(value) for array in arrays for value in array.reshape(-1)])
    n_keep = joined.size - math.floor(Fraction(repr(sparsity)) * joined.size + Fraction(1, 2))
    masks = global_unstructured(arrays, sparsity)
    assert [mask.shape for mask in masks] == [array.shape for array in arrays]
    found = np.concatenate([mask.reshape(-1) for mask in masks])
    np.testing.assert_array_equal(found, stable_sort_mask(joined, n_keep))


@given(saliencies(), SPARSITIES)
def test_global_unstructured_of_one_array_is_unstructured(saliency, sparsity):
    (mask,) = global_unstructured([saliency], sparsity)
    np.testing.assert_array_equal(mask, unstructured(saliency, sparsity))


def test_global_unstructured_gives_ties_to_the_earlier_array():
    first, second = global_unstructured([np.ones(2), np.ones((2, 1))], 0.25)
    assert (first.tolist(), second.tolist()) == ([True, True], [[True], [False]])


def test_global_unstructured_can_empty_an_array():
    first, second = global_unstructured([np.full(4, 0.1), np.full(4, 10.0)], 0.5)
    assert (first.any(), second.all()) == (False, True)


def test_global_unstructured_masks_own_their_memory():
    first, second = global_unstructured([np.ones(2), np.ones(2)], 0.0)
    first[:] = False
    assert first.base is None
    assert second.all()


def test_global_unstructured_of_nothing_is_nothing():
    assert global_unstructured([], 0.5) == []


def test_ignored_layers_do_not_enter_the_budget():
    ignored, pruned = np.full(100, 9.0), np.arange(10.0)
    with_both = global_unstructured([ignored, pruned], 0.5)
    (alone,) = global_unstructured([pruned], 0.5)
    assert int(alone.sum()) == 5
    assert sum(int(mask.sum()) for mask in with_both) == 55


@pytest.mark.parametrize(
    ("arrays", "sparsity", "kind", "message"),
    [
        ([np.ones(2), np.array([np.nan])], 0.5, ValueError, r"saliencies\[1\] must hold no NaN"),
        ([np.ones(2), [1.0]], 0.5, TypeError, r"unstructured: saliencies\[1\] must be an array"),
        ([np.ones(2)], 1.0, ValueError, r"global_unstructured: sparsity must be in \[0, 1\)"),
        (np.ones(2), 0.5, TypeError, r"saliencies\[0\] must be an array, got float64"),
    ],
)
def test_global_unstructured_refuses_with_a_sentence(arrays, sparsity, kind, message):
    with pytest.raises(kind, match=message):
        global_unstructured(arrays, sparsity)
