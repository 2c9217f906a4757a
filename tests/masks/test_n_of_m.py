"""N:M masks: the best of each group, along the inputs, ties to the lowest index."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import NOfM, TwoFour
from refimpl.masks import n_of_m
from support.strategies import FLOATS, INFINITE, SPECIAL, saliencies


@st.composite
def cases(draw, special: list[float] = INFINITE) -> tuple[np.ndarray, int, int]:
    """A saliency of a linear layer or a convolution, its inputs a multiple of m, and n <= m."""
    m = draw(st.integers(1, 6))
    kernel = draw(st.sampled_from([(), (), (1, 2), (3, 2)]))
    shape = (draw(st.integers(0, 3)), m * draw(st.integers(0, 3)), *kernel)
    return draw(saliencies(shape, special)), draw(st.integers(1, m)), m


def groups_of(array: np.ndarray, m: int) -> list[list]:
    """Lists of m entries of consecutive inputs: one output, one pixel, one group each."""
    return [
        [array[(row, column + i, *pixel)] for i in range(m)]
        for row in range(array.shape[0])
        for pixel in np.ndindex(array.shape[2:])
        for column in range(0, array.shape[1], m)
    ]


def best_subset(group: list[float], n: int) -> tuple[int, ...]:
    """Oracle: of all subsets of n, the first in lexicographic order with the largest exact sum."""
    exact = [Fraction(float(value)) for value in group]
    return max(combinations(range(len(group)), n), key=lambda kept: sum(exact[i] for i in kept))


def kept_sum(saliency: np.ndarray, mask: np.ndarray) -> Fraction:
    return sum((Fraction(float(value)) for value in saliency[mask]), Fraction(0))


@given(cases(SPECIAL))
def test_n_of_m_is_the_best_of_all_subsets_of_each_group(case):
    saliency, n, m = case
    found = [tuple(np.flatnonzero(group)) for group in groups_of(n_of_m(*case), m)]
    assert found == [best_subset(group, n) for group in groups_of(saliency, m)]


@given(cases())
def test_n_of_m_equals_a_stable_sort_of_each_group(case):
    saliency, n, m = case
    order = [sorted(range(m), key=lambda i, g=g: (-float(g[i]), i)) for g in groups_of(saliency, m)]
    found = [set(np.flatnonzero(group)) for group in groups_of(n_of_m(*case), m)]
    assert found == [set(first[:n]) for first in order]


@given(cases())
def test_n_of_m_keeps_exactly_n_of_every_group(case):
    saliency, n, m = case
    mask = n_of_m(saliency, n, m)
    assert (mask.dtype, mask.shape, mask.flags.c_contiguous) == (np.bool_, saliency.shape, True)
    assert {sum(group) for group in groups_of(mask, m)} <= {n}


@given(cases())
def test_n_of_m_masks_are_nested_in_n(case):
    saliency, n, m = case
    assert np.all(n_of_m(saliency, min(n + 1, m), m)[n_of_m(saliency, n, m)])


@given(st.data(), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4)]), st.integers(2, 3))
def test_wider_groups_of_the_same_sparsity_never_keep_less(data, pattern, times):
    n, m = pattern
    saliency = data.draw(saliencies((2, 2 * times * m), SPECIAL))
    narrow, wide = n_of_m(saliency, n, m), n_of_m(saliency, times * n, times * m)
    assert kept_sum(saliency, narrow) <= kept_sum(saliency, wide)


@given(cases())
def test_n_of_m_leaves_its_argument_alone(case):
    before = case[0].copy()
    n_of_m(*case)
    assert case[0].tobytes() == before.tobytes()


@given(cases())
def test_n_of_m_groups_never_cross_a_row(case):
    saliency, n, m = case
    alone = [n_of_m(saliency[i : i + 1], n, m) for i in range(len(saliency))]
    np.testing.assert_array_equal(n_of_m(*case), np.concatenate([saliency[:0] > 0, *alone]))


def by_memory(saliency: np.ndarray, n: int, m: int) -> np.ndarray:
    """Wrong: groups of entries that follow each other in memory, as ``view(-1, m)`` makes them."""
    flat = np.ascontiguousarray(saliency).reshape(-1, m)
    order = np.argsort(-flat, axis=1, kind="stable")
    return (np.argsort(order, axis=1) < n).reshape(saliency.shape)


def test_groups_by_memory_cross_a_row_of_six():
    mask = by_memory(np.arange(12.0).reshape(2, 6), 2, 4)
    assert mask.sum(axis=1).tolist() == [2, 4]  # of six inputs each


@given(st.data())
def test_n_of_m_groups_conv_weights_along_input_channels(data):
    saliency = data.draw(saliencies((3, 8, 3, 2)))
    mask = n_of_m(saliency, 2, 4)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(mask[:, :, i, j], n_of_m(saliency[:, :, i, j], 2, 4))


@given(st.data())
def test_n_of_m_of_a_convolution_is_that_of_its_channels_last_matrix(data):
    saliency = data.draw(saliencies((3, 8, 3, 2)))
    mask, matrix = (
        a.transpose(0, 2, 3, 1).reshape(3, 48) for a in (n_of_m(saliency, 2, 4), saliency)
    )
    np.testing.assert_array_equal(mask, n_of_m(matrix, 2, 4))


def test_groups_by_memory_run_along_the_kernel_of_a_convolution():
    saliency = np.random.default_rng(0).random((3, 4, 2, 2))
    assert {sum(group) for group in groups_of(by_memory(saliency, 2, 4), 4)} != {2}
    assert (by_memory(saliency, 2, 4).sum(axis=(2, 3)) == 2).all()


@given(st.data())
def test_two_four_mask_leaves_no_block_empty(data):
    mask = n_of_m(data.draw(saliencies((4, 12))), 2, 4)
    assert (mask.reshape(2, 2, 3, 4).sum(axis=(1, 3)) == 4).all()


@pytest.mark.parametrize(
    ("group", "n", "kept"),
    [
        ([1, 1, 1, 1], 2, [0, 1]),
        ([0, 1, 1, 1], 2, [1, 2]),
        ([0.0, -0.0, 0.0, -0.0], 2, [0, 1]),
        ([-0.0, 0.0, -0.0, 0.0], 3, [0, 1, 2]),
        ([1, 2, 1, 2], 3, [0, 1, 3]),
        ([math.inf, 0, math.inf, math.inf], 2, [0, 2]),
        ([-math.inf, -math.inf, 0, -math.inf], 2, [0, 2]),
        ([5, 4, 3, 2], 4, [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_n_of_m_gives_ties_to_the_lowest_index(group, n, kept, dtype):
    mask = n_of_m(np.array([group], dtype), n, 4)
    assert np.flatnonzero(mask).tolist() == kept


def test_n_of_m_with_what_is_pruned_already_has_at_most_n():
    before = np.array([[False, False, False, True]])
    mask = n_of_m(np.where(before, 1.0, -np.inf), 2, 4)
    assert mask.tolist() == [[True, False, False, True]]
    assert (mask & before).sum() == 1


@given(st.data(), st.sampled_from([(1, 2), (2, 4), (3, 8), (4, 4)]))
def test_n_of_m_leaves_what_the_format_stores_exactly(data, pattern):
    w = data.draw(saliencies((3, 16), [1.0, -1.0, 2.0]))
    pruned = np.where(n_of_m(np.abs(w), *pattern), w, 0).astype(w.dtype)
    np.testing.assert_array_equal(NOfM.from_dense(pruned, pattern=pattern).to_dense(), pruned)


@given(st.data())
def test_n_of_m_two_four_is_stored_by_the_two_four_format(data):
    w = data.draw(saliencies((3, 16), [1.0, -1.0, 2.0]))
    pruned = np.where(n_of_m(np.abs(w), 2, 4), w, 0).astype(w.dtype)
    np.testing.assert_array_equal(TwoFour.from_dense(pruned).to_dense(), pruned)


def test_n_of_m_takes_counts_of_few_bits():
    mask = n_of_m(np.arange(1000.0)[None], np.int8(1), np.int8(100))
    assert np.flatnonzero(mask).tolist() == list(range(99, 1000, 100))


def test_n_of_m_counts_ties_beyond_sixteen_bits():
    mask = n_of_m(np.ones((1, 70_000)), 3, 70_000)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("saliency", "n", "m", "kind", "message"),
    [
        (
            np.ones((3, 10)),
            2,
            4,
            ValueError,
            r"^n_of_m: the number of inputs \(axis 1\) must be a multiple of 4, got 10; "
            "leave this layer dense, or pad its weight with zeros$",
        ),
        (np.ones((8, 3, 4, 4)), 2, 4, ValueError, r"inputs \(axis 1\) must be .+ of 4, got 3;"),
        (np.ones(8), 2, 4, ValueError, r"saliency must have 2 or 4 axes, got shape \(8,\);"),
        (np.full((2, 4), np.nan), 2, 4, ValueError, "saliency must hold no NaN, got 8 of 8;"),
        (np.ones((2, 4)), 0, 4, ValueError, r"n_of_m: n must be in \[1, 4\], got 0;"),
        (np.ones((2, 4)), 5, 4, ValueError, r"n_of_m: n must be in \[1, 4\], got 5;"),
        (np.ones((2, 4)), 1, 0, ValueError, "n_of_m: m must be at least 1, got 0;"),
        (np.ones((2, 4)), 0.5, 4, TypeError, "n_of_m: n must be an integer, got 0.5;"),
        (np.ones((2, 4), int), 2, 4, TypeError, "saliency must be float16 or .+, got int64;"),
        ([[1.0, 2.0]], 1, 2, TypeError, "n_of_m: saliency must be an array, got list;"),
    ],
)
def test_n_of_m_rejects_shapes_with_a_message(saliency, n, m, kind, message):
    with pytest.raises(kind, match=message):
        n_of_m(saliency, n, m)
