"""SparseGPT: its theorems, its counts, and the formulas in circulation that are not it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import count_kept, unstructured
from refimpl.nn import Conv2d, Network
from refimpl.prune import (
    damp,
    input_hessian,
    inverse_cholesky,
    layer_inputs,
    least_squares_refit,
    prune_layers,
    sparsegpt,
    sparsegpt_flops,
)
from refimpl.prune.sparsegpt import prune_block, prune_block_n_of_m, removal_scores
from support.corruption import ONE_SENTENCE
from support.counted import counted, factor_triangle, invert_triangle, operations_of
from support.sparsegpt import as_published, by_direct_inverses, error_of, least_squares_error

SEEDS = st.integers(0, 9999)


def layer(seed, n_out=8, n_in=16, dtype=np.float64):
    """A weight and a Hessian of correlated inputs, of condition number 1e4 at most."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4 * n_in, n_in)) @ rng.normal(size=(n_in, n_in))
    hessian = 2 / len(x) * x.T @ x
    hessian += 1e-2 * np.trace(hessian) / n_in * np.eye(n_in)
    return rng.normal(size=(n_out, n_in)).astype(dtype), hessian.astype(dtype)


def whole_sweep(w, hessian, mask):
    """Weights and errors of one block of all columns, without damping."""
    return prune_block(w, inverse_cholesky(hessian), mask)


def sweep(w, u, mask, step):
    """Algorithm 1 for a mask that is given, in place: blocks of `step` columns, then the rest."""
    for start in range(0, len(u), step):
        block, rest = slice(start, start + step), slice(start + step, None)
        w[:, block], errors = prune_block(w[:, block], u[block, block], mask[:, block])
        w[:, rest] -= errors @ u[block, rest]
    return w


# -- the factor and the score


@given(SEEDS, st.integers(1, 12))
def test_sparsegpt_row_is_inverse_of_remaining_submatrix(seed, n_in):
    _, hessian = layer(seed, n_in=n_in)
    u = inverse_cholesky(damp(hessian))
    for j in range(n_in):
        remaining = np.linalg.inv(damp(hessian)[j:, j:])
        np.testing.assert_allclose(u[j, j:], remaining[0] / remaining[0, 0] ** 0.5, rtol=1e-7)


def test_sparsegpt_score_is_weight_squared_over_remaining_inverse_diagonal():
    w, hessian = layer(0, n_in=12)
    remaining = [np.linalg.inv(hessian[c:, c:])[0, 0] for c in range(12)]
    cost = w**2 / remaining
    np.testing.assert_allclose(removal_scores(w, inverse_cholesky(hessian)) ** 2, cost)
    kept = sparsegpt(w, hessian, sparsity=0.5, damping=0) != 0
    np.testing.assert_array_equal(kept, unstructured(cost, 0.5))
    static = unstructured(w**2 / np.diag(np.linalg.inv(hessian)), 0.5)
    assert (kept != static).any()  # the inverse of the whole Hessian ranks otherwise


def test_sparsegpt_density_may_differ_between_columns():
    w, hessian = layer(0)
    unit = np.logspace(-1, 1, 16)  # the last inputs are a hundred times the first
    kept = sparsegpt(w, hessian * np.outer(unit, unit), sparsity=0.5) != 0
    density = kept.mean(axis=0)
    assert kept.mean() == 0.5
    assert density[:4].max() < 0.5 < density[-4:].min()


@given(SEEDS, st.floats(0, 0.95))
def test_sparsegpt_with_a_diagonal_hessian_removes_the_least_w_squared_h(seed, sparsity):
    rng = np.random.default_rng(seed)
    w, h = rng.normal(size=(5, 9)), rng.uniform(0.1, 10, size=9)
    expected = np.where(unstructured(w**2 * h, sparsity), w, 0)
    np.testing.assert_array_equal(sparsegpt(w, np.diag(h), sparsity=sparsity, damping=0), expected)


@given(SEEDS, st.sampled_from([1, 4, 16]))
def test_sparsegpt_with_much_damping_is_magnitude_pruning(seed, block_size):
    w, hessian = layer(seed)
    kept = np.concatenate(
        [
            unstructured(abs(w[:, start : start + block_size]), 0.5)
            for start in range(0, 16, block_size)
        ],
        axis=1,
    )
    found = sparsegpt(w, hessian, sparsity=0.5, damping=1e9, block_size=block_size)
    np.testing.assert_allclose(found, np.where(kept, w, 0), rtol=0, atol=1e-7)


# -- the update


@given(SEEDS, st.sampled_from([1, 2, 4, 8, 16]))
def test_sparsegpt_equals_direct_inverses_of_what_remains(seed, block_size):
    w, hessian = layer(seed)
    found = sparsegpt(w, hessian, sparsity=0.5, damping=0, block_size=block_size)
    expected, _ = by_direct_inverses(w, hessian, block_size, len(w) * block_size // 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@given(SEEDS)
def test_sparsegpt_error_is_the_sum_of_its_squared_errors(seed):
    w, hessian = layer(seed)
    mask = np.random.default_rng(seed).random(w.shape) < 0.5
    new_w, errors = whole_sweep(w, hessian, mask)
    np.testing.assert_allclose(np.sum(errors**2), error_of(new_w - w, hessian), rtol=1e-8)


@given(SEEDS)
def test_sparsegpt_error_is_what_its_removals_cost(seed):
    w, hessian = layer(seed)
    new_w = sparsegpt(w, hessian, sparsity=0.5, damping=0)
    _, cost = by_direct_inverses(w, hessian, 16, w.size // 2)
    assert error_of(new_w - w, hessian) == pytest.approx(cost)


@given(SEEDS, st.sampled_from([1, 3, 4, 7, 16]))
def test_lazy_updates_are_those_at_once(seed, step):
    """Blocks of any size leave the weights of one block of all columns, for the same mask."""
    w, hessian = layer(seed)
    u, mask = inverse_cholesky(hessian), np.random.default_rng(seed).random(w.shape) < 0.5
    expected, _ = prune_block(w, u, mask)
    np.testing.assert_allclose(sweep(w, u, mask, step), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("block_size", [16, 17, 1000])
def test_block_of_all_columns_is_the_unblocked_algorithm(block_size):
    w, hessian = layer(1)
    u = inverse_cholesky(damp(hessian))
    expected, _ = prune_block(w, u, unstructured(abs(w) / np.diag(u), 0.7))
    found = sparsegpt(w, hessian, sparsity=0.7, block_size=block_size)
    np.testing.assert_array_equal(found, expected)


@given(SEEDS, st.sampled_from([4, 5, 8, 16, 128]))
def test_n_of_m_does_not_depend_on_the_block_size(seed, block_size):
    w, hessian = layer(seed)
    expected = sparsegpt(w, hessian, n=2, m=4, block_size=1)
    found = sparsegpt(w, hessian, n=2, m=4, block_size=block_size)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@given(SEEDS, st.sampled_from([{"sparsity": 0.5}, {"sparsity": 0.8}, {"n": 2, "m": 4}]))
def test_refit_on_the_mask_of_sparsegpt_is_never_worse(seed, pattern):
    w, hessian = layer(seed)
    hessian = damp(hessian)
    new_w = sparsegpt(w, hessian, damping=0, **pattern)
    refit = least_squares_refit(w, new_w != 0, hessian)
    best = least_squares_error(w, new_w != 0, hessian)
    assert error_of(refit - w, hessian) == pytest.approx(best)
    assert best <= error_of(new_w - w, hessian)


def test_last_block_repairs_nothing_behind_it():
    """Only columns to the right move: of a layer with one column all that is left is deletion."""
    w, hessian = layer(0, n_in=1)
    np.testing.assert_array_equal(sparsegpt(w, hessian, sparsity=0.0), w)
    kept = unstructured(abs(w), 0.5)
    np.testing.assert_array_equal(sparsegpt(w, hessian, sparsity=0.5), np.where(kept, w, 0))


# -- the authors' code


@given(SEEDS, st.sampled_from([2, 4, 8, 16]), st.floats(0.1, 0.9))
def test_sparsegpt_chooses_the_masks_of_the_published_code_at_its_counts(seed, block, sparsity):
    """Its blocks lose one weight more than asked for, so that is what ours is asked for."""
    w, hessian = layer(seed)
    size = len(w) * block
    published = as_published(w, hessian, block, sparsity)
    n_removed = int(size * sparsity) + 1
    assert np.count_nonzero(published == 0) == n_removed * 16 // block
    found = sparsegpt(w, hessian, sparsity=n_removed / size, damping=0, block_size=block)
    np.testing.assert_allclose(found, published, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(found == 0, published == 0)


# -- counts


@given(
    SEEDS,
    st.integers(0, 7),
    st.integers(1, 13),
    st.floats(0, 0.999),
    st.integers(1, 14),
    st.booleans(),
)
def test_sparsegpt_removes_an_exact_count(seed, n_out, n_in, sparsity, block_size, ties):
    rng = np.random.default_rng(seed)
    w = np.ones((n_out, n_in)) if ties else rng.normal(size=(n_out, n_in))
    new_w = sparsegpt(w, np.eye(n_in), sparsity=sparsity, block_size=block_size)
    assert np.count_nonzero(new_w) == count_kept(w.size, sparsity)


@given(st.floats(0, 0.999), st.integers(1, 9))
def test_sparsegpt_counts_add_up_block_by_block(sparsity, block_size):
    w, hessian = layer(0, n_out=3)
    new_w = sparsegpt(w, hessian, sparsity=sparsity, block_size=block_size)
    for end in range(block_size, 16, block_size):
        assert np.count_nonzero(new_w[:, :end]) == count_kept(3 * end, sparsity)


def test_ties_go_to_the_lowest_index():
    new_w = sparsegpt(np.ones((2, 4)), np.eye(4), sparsity=0.5)
    assert new_w.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    by_group = sparsegpt(np.ones((2, 4)), np.eye(4), n=1, m=2)
    assert by_group.tolist() == [[1, 0, 1, 0]] * 2


def test_sparsity_zero_changes_no_weight():
    w, hessian = layer(0)
    np.testing.assert_array_equal(sparsegpt(w, hessian, sparsity=0.0), w)


def test_sparsity_next_to_one_leaves_nothing():
    w, hessian = layer(0)
    assert not sparsegpt(w, hessian, sparsity=0.999).any()


@given(SEEDS, st.sampled_from([(1, 2), (2, 4), (4, 8), (1, 16), (3, 4)]))
def test_n_of_m_keeps_exactly_n_of_every_m(seed, pattern):
    w, hessian = layer(seed)
    n, m = pattern
    kept = sparsegpt(w, hessian, n=n, m=m) != 0
    assert (kept.reshape(8, 16 // m, m).sum(axis=2) == n).all()


def test_n_equal_to_m_changes_no_weight():
    w, hessian = layer(0)
    np.testing.assert_array_equal(sparsegpt(w, hessian, n=4, m=4), w)


@given(SEEDS, st.sampled_from([(1, 2), (2, 4), (3, 8)]))
def test_first_group_of_n_of_m_keeps_what_costs_most_to_remove(seed, pattern):
    """Of the remaining inverse, not of |w|: nothing before the first group has moved it."""
    w, hessian = layer(seed)
    n, m = pattern
    remaining = [np.linalg.inv(hessian[c:, c:])[0, 0] for c in range(m)]
    cost = w[:, :m] ** 2 / remaining
    kept = sparsegpt(w, hessian, n=n, m=m, damping=0)[:, :m] != 0
    dearest_removed = np.where(kept, 0, cost).max(axis=1)
    assert (np.where(kept, cost, np.inf).min(axis=1) >= dearest_removed).all()
    np.testing.assert_array_equal(kept.sum(axis=1), n)


def test_group_keeps_what_costs_most_to_remove_and_not_what_is_largest():
    """6 / 3 is less than 4 / 1."""
    w, u = np.array([[6.0, 4.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    new_w, errors = prune_block_n_of_m(w, u, np.zeros((1, 2), bool), 1, 2)
    assert (new_w.tolist(), errors.tolist()) == ([[0, 4]], [[2, 0]])


# -- pruning again


@given(SEEDS, st.sampled_from([{"sparsity": 0.75}, {"n": 1, "m": 4}]), st.sampled_from([4, 16]))
def test_pruning_again_keeps_the_zeros_the_count_and_the_repair(seed, further, block_size):
    """A zero that earlier columns move is removed once more, and what that breaks is repaired."""
    w, hessian = layer(seed)
    first = sparsegpt(w, hessian, n=2, m=4, block_size=block_size)
    again = sparsegpt(first, hessian, damping=0, block_size=block_size, **further)
    assert not again[first == 0].any()
    assert np.count_nonzero(again) == w.size // 4
    expected, _ = whole_sweep(first, hessian, again != 0)
    np.testing.assert_allclose(again, expected, rtol=1e-7, atol=1e-9)


@given(SEEDS)
def test_zeros_stay_where_a_block_holds_more_of_them_than_its_share(seed):
    w, hessian = layer(seed)
    first = np.where(unstructured(abs(w), 0.5), w, 0)
    again = sparsegpt(first, hessian, sparsity=0.6, damping=0, block_size=1)
    assert not again[first == 0].any()
    expected, _ = whole_sweep(first, hessian, again != 0)
    np.testing.assert_allclose(again, expected, rtol=1e-7, atol=1e-9)


def test_sparsegpt_two_four_mask_beats_magnitude_after_refit():
    """Over 20 layers; the magnitude rule keeps the most of the weights, not of the outputs."""
    ours, magnitude = [], []
    for seed in range(20):
        w, hessian = layer(seed, n_out=16, n_in=32)
        chosen = sparsegpt(w, hessian, n=2, m=4) != 0
        largest = sparsegpt(w, np.eye(32), n=2, m=4) != 0
        ours.append(least_squares_error(w, chosen, hessian))
        magnitude.append(least_squares_error(w, largest, hessian))
    assert (np.array(ours) < magnitude).all()


# -- the Hessian


def test_sparsegpt_is_invariant_to_the_hessian_scale():
    w, hessian = layer(0)
    expected = sparsegpt(w, hessian, sparsity=0.5)
    np.testing.assert_array_equal(sparsegpt(w, 2.0**-40 * hessian, sparsity=0.5), expected)
    found = sparsegpt(w, 1e-9 * hessian, sparsity=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert not np.allclose(found, sparsegpt(w, 1e-9 * hessian + 1e-4 * np.eye(16), sparsity=0.5))


def test_sparsegpt_zeroes_weights_of_dead_inputs():
    w, hessian = layer(0)
    dead = [3, 15]
    hessian[dead] = hessian[:, dead] = 0
    new_w = sparsegpt(w, hessian, sparsity=0.25)
    assert not new_w[:, dead].any()
    assert np.count_nonzero(new_w == 0) == 0.25 * w.size  # they are among those that go


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5])
def test_dead_inputs_change_nothing_for_the_others(sparsity):
    """One block a column, so that what the others lose does not hang on the dead ones."""
    w, hessian = layer(0)
    alive = np.arange(16) % 5 != 4
    hessian[~alive] = hessian[:, ~alive] = 0
    new_w = sparsegpt(w, hessian, sparsity=sparsity, block_size=1)
    without = hessian[np.ix_(alive, alive)]
    mask = new_w[:, alive] != 0
    expected, _ = whole_sweep(w[:, alive], damp(without), mask)
    np.testing.assert_allclose(new_w[:, alive], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_conv_hessian_uses_unfolded_patches(stride):
    rng = np.random.default_rng(0)
    conv = Conv2d(3, 4, 2, stride=stride, rng=rng, dtype=np.float64)
    network, images = Network({"conv": conv}), rng.normal(size=(5, 3, 6, 6))
    hessian = input_hessian(layer_inputs(network, "conv.weight", [images]))
    assert hessian.shape == (12, 12)  # of patches; of channels it would be 3 x 3
    before, w = conv.forward(images), conv.weight.value.reshape(4, -1).copy()
    new_w = sparsegpt(w, hessian, sparsity=0.5)
    conv.weight.value = new_w.reshape(conv.weight.shape)
    n_patches = before.size // 4
    change = np.sum((conv.forward(images) - before) ** 2) / n_patches
    assert change == pytest.approx(error_of(new_w - w, hessian) / 2)


def test_singular_hessian_raises_or_damps_and_says_so():
    """Five examples for sixteen inputs: the Hessian has rank five."""
    w, _ = layer(0)
    hessian = input_hessian([np.random.default_rng(0).normal(size=(5, 16))])
    with pytest.raises(ValueError, match=r"positive definite.* damp") as caught:
        sparsegpt(w, hessian, sparsity=0.5, damping=0)
    caught.match(ONE_SENTENCE)
    damped = sparsegpt(w, hessian, sparsity=0.5)
    plain = np.where(damped != 0, w, 0)
    assert error_of(damped - w, hessian) < error_of(plain - w, hessian)


def test_hessian_without_a_live_input_is_refused():
    with pytest.raises(ValueError, match="positive diagonal entry") as caught:
        sparsegpt(np.ones((2, 3)), np.zeros((3, 3)), sparsity=0.5)
    caught.match(ONE_SENTENCE)


def test_pruning_a_network_gives_each_layer_its_pattern():
    rng = np.random.default_rng(0)
    conv = Conv2d(4, 6, 3, rng=rng, dtype=np.float64)
    network = Network({"conv": conv})
    prune_layers(network, [rng.normal(size=(8, 4, 9, 9))], lambda w, h: sparsegpt(w, h, n=2, m=4))
    assert (conv.weight.mask.sum(axis=1) == 2).all()  # along the input channels


# -- the cost


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("shape", [(4, 8), (1, 5), (6, 1)])
def test_sparsegpt_flop_count_matches_the_formula(shape, step):
    """Counted one by one, on numbers that count: of the factor, its inverse and the sweep."""
    w, hessian = layer(0, *shape)
    lower = counted(hessian)
    n_factor = operations_of(factor_triangle, lower) + operations_of(invert_triangle, lower)
    u, mask = counted(inverse_cholesky(hessian)), np.arange(w.size).reshape(shape) % 2 == 0
    n_sweep = operations_of(sweep, counted(w), u, mask, step)
    assert n_factor + n_sweep == sparsegpt_flops(*shape)


def test_sparsegpt_flops_grow_with_the_cube():
    """Not with the square: twice the size is eight times the work, in the limit."""
    assert sparsegpt_flops(8192, 8192) / sparsegpt_flops(4096, 4096) == pytest.approx(8, rel=1e-3)
