"""Blocks go whole, as many as asked for, and BSR stores what is left without a spare zero."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats import BSR, CSR
from refimpl.masks import block_saliency, blocks, unstructured
from support.strategies import FLOATS, layouts

SPARSITIES = st.floats(0, 1, exclude_max=True)


@st.composite
def cut_arrays(draw, *, n_axes: int | None = None, min_grid: int = 0):
    """Arrays of whole numbers, of any dtype and layout, and the shape of a block of them."""
    n_axes = draw(st.integers(1, 4)) if n_axes is None else n_axes
    lengths = st.tuples(*[st.integers(min_grid, 3)] * n_axes)
    grid, block_shape = draw(lengths), draw(st.tuples(*[st.integers(1, 3)] * n_axes))
    shape = tuple(g * b for g, b in zip(grid, block_shape, strict=True))
    elements = st.integers(-3, 9).map(float)  # sums are exact, and often equal
    array = draw(hnp.arrays(draw(st.sampled_from(FLOATS)), shape, elements=elements))
    return draw(layouts(array)), block_shape


def blocks_of(shape, block_shape):
    """Oracle: the slices of every block, in C order of the grid."""
    starts = (range(0, n, b) for n, b in zip(shape, block_shape, strict=True))
    for corner in product(*starts):
        yield tuple(slice(i, i + b) for i, b in zip(corner, block_shape, strict=True))


def stable_sort_mask(saliency, block_shape, sparsity):
    """Oracle: sort all blocks, larger sums first, equal ones in order of index."""
    places = list(blocks_of(saliency.shape, block_shape))
    sums = [math.fsum(saliency[place].ravel().tolist()) for place in places]
    order = sorted(range(len(places)), key=lambda i: (-sums[i], i))
    n_removed = math.floor(Fraction(repr(sparsity)) * len(places) + Fraction(1, 2))
    mask = np.zeros(saliency.shape, bool)
    for i in order[: len(places) - n_removed]:
        mask[places[i]] = True
    return mask


@given(cut_arrays(), SPARSITIES)
def test_blocks_equal_a_stable_sort_of_the_sums(case, sparsity):
    saliency, block_shape = case
    mask = blocks(saliency, block_shape, sparsity)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, stable_sort_mask(saliency, block_shape, sparsity))


@given(cut_arrays(), SPARSITIES)
def test_block_mask_zeroes_whole_blocks(case, sparsity):
    saliency, block_shape = case
    mask = blocks(saliency, block_shape, sparsity)
    counts = [int(mask[place].sum()) for place in blocks_of(mask.shape, block_shape)]
    assert set(counts) <= {0, math.prod(block_shape)}


@pytest.mark.parametrize(
    ("sparsity", "n_kept"), [(0.0, 24), (0.1, 22), (0.5, 12), (0.75, 6), (0.9, 2), (0.99, 0)]
)
def test_blocks_keep_an_exact_count_of_equal_blocks(sparsity, n_kept):
    mask = blocks(np.ones((12, 16), np.float32), (4, 2), sparsity)
    assert int(mask.sum()) == n_kept * 8


def test_blocks_give_ties_to_the_lowest_index_of_a_block():
    mask = blocks(np.ones((4, 6)), (2, 2), 0.5)
    kept_blocks = mask[::2, ::2]
    np.testing.assert_array_equal(kept_blocks, [[True, True, True], [False, False, False]])


@given(cut_arrays(), SPARSITIES)
def test_blocks_of_one_entry_are_unstructured(case, sparsity):
    saliency, _ = case
    mask = blocks(saliency, (1,) * saliency.ndim, sparsity)
    np.testing.assert_array_equal(mask, unstructured(saliency, sparsity))


@given(cut_arrays(), SPARSITIES)
def test_blocks_serve_as_a_rule_through_partial(case, sparsity):
    saliency, block_shape = case
    rule = partial(blocks, block_shape=block_shape, sparsity=sparsity)
    np.testing.assert_array_equal(rule(saliency), blocks(saliency, block_shape, sparsity))


@given(cut_arrays(n_axes=2), SPARSITIES)
def test_bsr_stores_exactly_the_kept_blocks(case, sparsity):
    saliency, block_shape = case
    mask = blocks(saliency, block_shape, sparsity)
    w = mask.astype(np.float32)  # no entry of a kept block is zero
    bsr = BSR.from_dense(w, block_shape=block_shape)
    n_kept = int(mask.sum()) // math.prod(block_shape)
    assert bsr.data.shape == (n_kept, *block_shape)
    assert bsr.data.all()
    np.testing.assert_array_equal(bsr.to_dense(), w)


@given(cut_arrays(n_axes=2), SPARSITIES)
def test_csr_returns_a_block_masked_matrix(case, sparsity):
    saliency, block_shape = case
    masked = blocks(saliency, block_shape, sparsity) * saliency
    np.testing.assert_array_equal(CSR.from_dense(masked).to_dense(), masked)


@pytest.mark.parametrize(
    ("block_shape", "kept_at_once"),
    [((1, 1, 3, 3), 9), ((4, 4, 1, 1), 16), ((1, 8, 3, 3), 72), ((1, 1, 1, 3), 3)],
)
def test_blocks_of_a_convolution_have_any_shape(block_shape, kept_at_once):
    saliency = np.random.default_rng(0).random((4, 8, 3, 3), np.float32)
    mask = blocks(saliency, block_shape, 0.5)
    assert int(mask.sum()) == saliency.size // 2
    counts = {int(mask[place].sum()) for place in blocks_of(mask.shape, block_shape)}
    assert counts == {0, kept_at_once}


def least_change(w, block_shape, n_keep):
    """Smallest squared distance from `w` to any `w` with all but `n_keep` blocks zeroed."""
    losses = [float((w[place] ** 2).sum()) for place in blocks_of(w.shape, block_shape)]
    return min(sum(removed) for removed in combinations(losses, len(losses) - n_keep))


@given(cut_arrays(n_axes=2), SPARSITIES)
def test_blocks_of_squares_change_the_weights_least_of_all_block_masks(case, sparsity):
    w, block_shape = case
    mask = blocks(w**2, block_shape, sparsity)
    n_keep = int(mask.sum()) // math.prod(block_shape)
    assert np.sum((w - mask * w) ** 2) == least_change(w, block_shape, n_keep)


@st.composite
def nested_cuts(draw):
    """A matrix, a block shape, and another one made of whole blocks of it."""
    small, more = (draw(st.tuples(st.integers(1, 2), st.integers(1, 3))) for _ in range(2))
    large = tuple(s * m for s, m in zip(small, more, strict=True))
    grid = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shape = tuple(g * b for g, b in zip(grid, large, strict=True))
    elements = st.integers(0, 9).map(float)  # sums are exact
    return draw(hnp.arrays(np.float64, shape, elements=elements)), small, large


@given(nested_cuts(), st.data())
def test_smaller_blocks_keep_no_less_saliency(case, data):
    saliency, small, large = case
    n_large = saliency.size // math.prod(large)
    n_removed = data.draw(st.integers(0, n_large - 1))
    sparsity = n_removed / n_large
    by_small, by_large = (blocks(saliency, shape, sparsity) for shape in (small, large))
    assert (
        int(by_small.sum()) == int(by_large.sum()) == saliency.size - n_removed * math.prod(large)
    )
    assert saliency[by_small].sum() >= saliency[by_large].sum()


def test_blocks_of_magnitudes_and_of_squares_may_differ():
    w = np.array([[3.0, 0.0, 2.0, 2.0]])
    by_l1, by_l2 = blocks(np.abs(w), (1, 2), 0.5), blocks(w**2, (1, 2), 0.5)
    assert by_l1.tolist() == [[False, False, True, True]]  # 3 against 4
    assert by_l2.tolist() == [[True, True, False, False]]  # 9 against 8


@given(cut_arrays())
def test_block_saliency_sums_every_block(case):
    saliency, block_shape = case
    scores = block_saliency(saliency, block_shape)
    sums = [math.fsum(saliency[p].ravel().tolist()) for p in blocks_of(saliency.shape, block_shape)]
    assert scores.dtype == np.float64
    assert scores.shape == tuple(n // b for n, b in zip(saliency.shape, block_shape, strict=True))
    np.testing.assert_array_equal(scores.ravel(), sums)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_block_saliency_does_not_overflow_the_dtype_of_its_argument(dtype):
    largest = np.finfo(dtype).max
    scores = block_saliency(np.full((2, 2), largest, dtype), (2, 2))
    assert scores.tolist() == [[4 * float(largest)]]


def test_block_saliency_tells_apart_what_the_dtype_could_not():
    saliency = np.array([[2048.0, 0.0, 2048.0, 1.0]], np.float16)  # 2049 is no float16
    assert blocks(saliency, (1, 2), 0.5).tolist() == [[False, False, True, True]]


def test_blocks_rank_infinities():
    saliency = np.array([0.0, np.inf, 9.0, 9.0, 9.0, -np.inf])
    mask = blocks(saliency, (2,), 0.5)
    assert mask.tolist() == [True, True, False, False, False, False]


@given(cut_arrays(), SPARSITIES)
def test_blocks_leave_their_argument_alone(case, sparsity):
    saliency, block_shape = case
    before = saliency.copy()
    mask = blocks(saliency, block_shape, sparsity)
    assert saliency.tobytes() == before.tobytes()
    assert mask.flags.writeable
    assert not np.shares_memory(mask, saliency)


def test_blocks_take_lengths_of_few_bits():
    mask = blocks(np.ones((1000, 4)), (np.int8(100), np.int8(2)), 0.5)
    assert int(mask.sum()) == 2000


@given(cut_arrays(n_axes=2, min_grid=1), st.data())
def test_a_transposed_array_has_the_transposed_mask(case, data):
    saliency, (r, c) = case
    scores = block_saliency(saliency, (r, c))
    assume(np.unique(scores).size == scores.size)  # ties follow the index, which transposes
    sparsity = data.draw(SPARSITIES)
    np.testing.assert_array_equal(
        blocks(saliency.T, (c, r), sparsity), blocks(saliency, (r, c), sparsity).T
    )


@pytest.mark.parametrize(
    ("saliency", "block_shape", "kind", "message"),
    [
        (
            np.ones((10, 8)),
            (4, 4),
            ValueError,
            r"blocks: block_shape must divide the shape \(10, 8\), got \(4, 4\); choose divisors",
        ),
        (
            np.ones((8, 8)),
            (4,),
            TypeError,
            r"block_shape must be a tuple of 2, .+ got \(4,\); give",
        ),
        (np.ones((8, 8)), 4, TypeError, "block_shape must be a tuple of 2, .+ got 4; give the"),
        (np.ones((8, 8)), [4, 4], TypeError, "block_shape must be a tuple of 2, for the shape"),
        (np.ones((8, 8)), (0, 4), ValueError, "blocks: block_shape must be at least 1, got 0;"),
        (np.ones((8, 8)), (4, 2.0), TypeError, "blocks: block_shape must be an integer, got 2.0"),
        (np.ones((8, 8), int), (4, 4), TypeError, "blocks: saliency must be float16 or .+ got int"),
        ([[1.0]], (1, 1), TypeError, "blocks: saliency must be an array, got list; convert"),
        (
            np.array([[1.0, np.nan, 1.0, 1.0]]),
            (1, 2),
            ValueError,
            "blocks: saliency, summed over blocks, must hold no NaN, got 1 of 2; look for",
        ),
        (np.array([[np.inf, -np.inf]]), (1, 2), ValueError, "must hold no NaN, got 1 of 1; look"),
    ],
)
def test_blocks_refuse_with_a_sentence(saliency, block_shape, kind, message):
    with pytest.raises(kind, match=message):
        blocks(saliency, block_shape, 0.5)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, math.nan])
def test_blocks_refuse_a_sparsity_out_of_range(sparsity):
    with pytest.raises(ValueError, match=r"^blocks: sparsity must be in \[0, 1\), got"):
        blocks(np.ones((4, 4)), (2, 2), sparsity)


def test_block_saliency_names_itself_in_its_refusals():
    with pytest.raises(ValueError, match=r"^block_saliency: block_shape must divide the shape"):
        block_saliency(np.ones((4, 4)), (3, 2))


def keep_blocks_above_a_threshold(saliency, block_shape, sparsity):
    """Wrong: equal blocks stay or go together, so the count is whatever the ties make it."""
    scores = block_saliency(saliency, block_shape)
    kept = scores >= np.quantile(scores, sparsity)
    return np.kron(kept, np.ones(block_shape, bool))


def test_equal_blocks_expose_a_threshold():
    saliency = np.ones((8, 8))
    wrong = keep_blocks_above_a_threshold(saliency, (2, 2), 0.5)
    assert (int(wrong.sum()), int(blocks(saliency, (2, 2), 0.5).sum())) == (64, 32)
