"""Any sparsity from one trace: the choice of a heap, exact, nested, and bounded where asked."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import count_kept
from refimpl.prune import RemovalTrace

COSTS = st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 9)


@st.composite
def traces(draw, *, whole: bool = False):
    """Traces of a few rows, with ties and costs that fall; some end before the row does."""
    n_out, n_blocks, block_size = draw(st.tuples(*[st.integers(1, n) for n in (4, 6, 3)]))
    n_steps = n_blocks if whole else draw(st.integers(0, n_blocks))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    order = rng.permuted(np.tile(np.arange(n_blocks), (n_out, 1)), axis=1)[:, :n_steps]
    increase = draw(hnp.arrays(np.float64, order.shape, elements=COSTS))
    return RemovalTrace(order, increase, n_blocks * block_size, block_size)


def popped(trace: RemovalTrace, n_removed: int) -> tuple[list[int], float]:
    """Removals of each row, and their cost, from a heap of the rows' next removals."""
    heap = [(row[0], i, 0) for i, row in enumerate(trace.increase.tolist()) if row]
    counts, cost = [0] * len(trace.order), 0.0
    heapq.heapify(heap)
    for _ in range(n_removed):
        increase, row, step = heapq.heappop(heap)
        counts[row] += 1
        cost += increase
        if step + 1 < trace.order.shape[1]:
            heapq.heappush(heap, (trace.increase[row, step + 1], row, step + 1))
    return counts, cost


def removed_by_row(trace: RemovalTrace, mask: np.ndarray) -> list[int]:
    return ((~mask).sum(axis=1) // trace.block_size).tolist()


@given(traces(whole=True), st.floats(0, 0.99))
def test_mask_is_what_a_heap_chooses(trace, sparsity):
    increase = trace.increase + 1e-9 * np.arange(trace.increase.size).reshape(trace.increase.shape)
    trace = RemovalTrace(trace.order, increase, trace.n_in, trace.block_size)  # without ties
    n_removed = trace.order.size - count_kept(trace.order.size, sparsity)
    counts, cost = popped(trace, n_removed)
    assert removed_by_row(trace, trace.mask(sparsity)) == counts
    np.testing.assert_allclose(trace.curve()[n_removed], cost)


@given(traces(whole=True), st.floats(0, 0.99))
def test_mask_keeps_exactly_the_count_of_whole_blocks(trace, sparsity):
    mask = trace.mask(sparsity)
    assert mask.shape == (len(trace.order), trace.n_in)
    assert mask.sum() == trace.block_size * count_kept(trace.order.size, sparsity)


@given(traces(whole=True), st.floats(0, 0.99), st.floats(0, 0.99))
def test_masks_along_a_trace_are_nested(trace, one, other):
    low, high = sorted((one, other))
    assert (trace.mask(low) | ~trace.mask(high)).all()


@given(traces(whole=True), st.floats(0, 0.99))
def test_every_row_loses_the_beginning_of_its_trace(trace, sparsity):
    mask = trace.mask(sparsity)
    for order, kept, count in zip(trace.order, mask, removed_by_row(trace, mask), strict=True):
        gone = ~kept[:: trace.block_size]
        assert set(np.flatnonzero(gone)) == set(order[:count].tolist())


def test_of_equal_costs_the_last_row_goes_first():
    trace = RemovalTrace(np.array([[0, 1]] * 3), np.ones((3, 2)), 2)
    assert removed_by_row(trace, trace.mask(0.5)) == [0, 1, 2]


@given(traces(whole=True), st.data())
def test_mask_with_a_minimum_leaves_no_row_below_it(trace, data):
    n_out, n_blocks = trace.order.shape
    least = data.draw(st.integers(0, n_blocks))
    n_removed = data.draw(st.integers(0, n_out * (n_blocks - least)))
    mask = trace.mask(min(n_removed / trace.order.size, 0.999), least_kept=least)
    assert mask[:, :: trace.block_size].sum(axis=1).min() >= least


def test_mask_without_a_minimum_may_empty_a_row():
    trace = RemovalTrace(np.array([[0, 1], [0, 1]]), np.array([[1.0, 2], [9, 9]]), 2)
    assert trace.mask(0.5).any(axis=1).tolist() == [False, True]
    assert trace.mask(0.5, least_kept=1).any(axis=1).tolist() == [True, True]


@given(traces())
def test_last_mask_has_lost_the_whole_trace(trace):
    mask = trace.last_mask()
    assert (~mask).sum() == trace.order.size * trace.block_size


@given(traces())
def test_curve_rises_from_zero_to_the_sum(trace):
    curve = trace.curve()
    assert curve[0] == 0
    assert curve.size == trace.order.size + 1
    assert (np.diff(curve) >= 0).all()
    np.testing.assert_allclose(curve[-1], trace.increase.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.75}, r"sparsity must remove at most 4 of 8, got 0.75, which removes 6;"),
        ({"sparsity": 0.5, "least_kept": 3}, "sparsity must remove at most 2 of 8, got 0.5"),
        ({"sparsity": 0.5, "least_kept": 5}, r"least_kept must be in \[0, 4\], got 5"),
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\)"),
    ],
)
def test_mask_beyond_the_trace_is_refused(arguments, message):
    half = RemovalTrace(np.array([[0, 2], [1, 3]]), np.ones((2, 2)), 4)
    with pytest.raises(ValueError, match=message):
        half.mask(**arguments)


def test_a_trace_cannot_be_changed():
    trace = RemovalTrace(np.zeros((1, 1), int), np.zeros((1, 1)), 1)
    with pytest.raises(AttributeError):
        trace.n_in = 2
