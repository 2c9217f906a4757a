"""Blocks go together: the same search as for single weights, with groups of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import blocks, count_kept
from refimpl.prune import exact_obs_block_trace, exact_obs_blocks, exact_obs_trace
from support.corruption import ONE_SENTENCE
from support.removals import correlated_layer, error_of, greedy_removals, refit

SEEDS = st.integers(0, 9999)


def traced(w, hessian, block_size):
    return exact_obs_block_trace(w, np.linalg.inv(hessian), block_size=block_size)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_block_trace_is_brute_force_greedy(seed, block_size, n_blocks):
    (row,), hessian = correlated_layer(seed, 1, block_size * n_blocks)
    order, increase = greedy_removals(row, hessian, block_size=block_size)
    trace = traced(row[None], hessian, block_size)
    assert trace.order[0].tolist() == order
    np.testing.assert_allclose(trace.increase[0], increase, rtol=1e-7, atol=1e-10)


@given(SEEDS, st.integers(1, 3), st.integers(1, 6))
def test_blocks_of_one_are_single_weights(seed, n_out, n_in):
    w, hessian = correlated_layer(seed, n_out, n_in)
    ours, single = traced(w, hessian, 1), exact_obs_trace(w, np.linalg.inv(hessian))
    np.testing.assert_array_equal(ours.order, single.order)
    np.testing.assert_allclose(ours.increase, single.increase, rtol=1e-8, atol=1e-12)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.floats(0, 0.99))
def test_curve_of_blocks_is_the_error_of_the_mask(seed, block_size, n_blocks, sparsity):
    w, hessian = correlated_layer(seed, 3, block_size * n_blocks)
    trace = traced(w, hessian, block_size)
    mask = trace.mask(sparsity)
    new = [refit(row, hessian, kept) for row, kept in zip(w, mask, strict=True)]
    exact = sum(error_of(*rows, hessian) for rows in zip(w, new, strict=True))
    n_removed = 3 * n_blocks - count_kept(3 * n_blocks, sparsity)
    np.testing.assert_allclose(trace.curve()[n_removed], exact, rtol=1e-7, atol=1e-9)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.floats(0, 0.99))
def test_exact_obs_blocks_keeps_whole_blocks_and_the_count(seed, block_size, n_blocks, sparsity):
    w, hessian = correlated_layer(seed, 3, block_size * n_blocks)
    kept = exact_obs_blocks(w, hessian, sparsity=sparsity, block_size=block_size) != 0
    by_block = kept.reshape(3, n_blocks, block_size)
    assert (by_block.any(axis=2) == by_block.all(axis=2)).all()
    assert by_block.all(axis=2).sum() == count_kept(3 * n_blocks, sparsity)


def test_exact_obs_blocks_with_the_identity_keeps_the_largest_norms():
    w, _ = correlated_layer(0, 4, 12)
    kept = exact_obs_blocks(w, np.eye(12), sparsity=0.5, block_size=3, damping=0) != 0
    np.testing.assert_array_equal(kept, blocks(w**2, (1, 3), 0.5))


def test_of_equal_blocks_the_last_goes_first():
    assert traced(np.ones((1, 6)), np.eye(6), 2).order.tolist() == [[2, 1, 0]]


def test_blocks_of_dead_inputs_go_first():
    w, hessian = correlated_layer(0, 2, 6)
    hessian[2:4], hessian[:, 2:4] = 0, 0
    kept = exact_obs_blocks(w, hessian, sparsity=1 / 3, block_size=2) != 0
    np.testing.assert_array_equal(kept, [[True, True, False, False, True, True]] * 2)


def test_zeros_inside_a_block_that_is_kept_stay():
    w, hessian = correlated_layer(0, 4, 12)
    first = np.where(np.abs(w) > 0.3, w, 0)
    again = exact_obs_blocks(first, hessian, sparsity=0.5, block_size=3)
    assert not again[first == 0].any()
    assert again.any()


W, H = np.ones((2, 4)), np.eye(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact_obs_blocks(W, H, sparsity=0.5, block_size=3), "block_size must divide"),
        (lambda: exact_obs_blocks(W, H, sparsity=0.5, block_size=0), "block_size must be at least"),
        (lambda: exact_obs_blocks(W, H, sparsity=1, block_size=2), "sparsity must be in"),
        (lambda: exact_obs_block_trace(W, np.eye(3), block_size=1), "w must have shape"),
        (lambda: exact_obs_block_trace(W, -H, block_size=1), "h_inv must stay positive definite"),
    ],
)
def test_exact_obs_blocks_refuses_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert re.match(ONE_SENTENCE, str(raised.value))
