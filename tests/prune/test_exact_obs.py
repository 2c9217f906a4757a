"""Exact OBS: its search against brute force, its values against least squares, its refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import count_kept, n_of_m, unstructured
from refimpl.prune import (
    damp,
    exact_obs,
    exact_obs_trace,
    input_hessian,
    inverse_hessian,
    layerwise_obs,
    least_squares_refit,
    reconstruction_error,
    sparsegpt,
)
from refimpl.prune.exact_obs import remove_greedily
from support.corruption import ONE_SENTENCE
from support.removals import correlated_layer, error_of, greedy_removals, refit

SEEDS = st.integers(0, 9999)
SPARSITIES = st.floats(0, 0.99)
PATTERNS = st.tuples(st.integers(1, 4), st.integers(1, 3)).flatmap(
    lambda sides: st.tuples(st.integers(0, sides[0]), st.just(sides[0]), st.just(sides[1]))
)  # n, m, groups


def traced(w, hessian, **pattern):
    return exact_obs_trace(w, np.linalg.inv(hessian), **pattern)


def relative_steps(increase, wanted):
    """Largest error of a cost, relative to the largest cost."""
    return np.max(np.abs(np.asarray(increase) - wanted)) / max(wanted)


# -- the search


@given(SEEDS, st.integers(1, 7))
def test_exact_obs_trace_is_brute_force_greedy(seed, n_in):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    trace = traced(row[None], hessian)
    order, increase = greedy_removals(row, hessian)
    assert trace.order[0].tolist() == order
    assert relative_steps(trace.increase[0], increase) < 1e-10


@given(SEEDS, PATTERNS)
def test_exact_obs_trace_within_groups_is_brute_force_greedy(seed, pattern):
    n, m, groups = pattern
    (row,), hessian = correlated_layer(seed, 1, m * groups)
    order, increase = greedy_removals(row, hessian, n=n, m=m)
    trace = traced(row[None], hessian, n=n, m=m)
    assert trace.order[0].tolist() == order
    np.testing.assert_allclose(trace.increase[0], increase, rtol=1e-7, atol=1e-10)


def removed(w, h_inv, q):
    """One step of OBS: the row, and the inverse for what remains."""
    column = h_inv[q] / h_inv[q, q]
    return w - w[q] * column, h_inv - np.outer(column, h_inv[q])


def removed_with_a_plus(w, h_inv, q):
    return 2 * w - removed(w, h_inv, q)[0], removed(w, h_inv, q)[1]


def removed_without_a_down_date(w, h_inv, q):
    return removed(w, h_inv, q)[0], h_inv


def searched_with(step, row, hessian):
    """Costs of a greedy search that updates as `step` does."""
    w, h_inv, remains, increase = row, np.linalg.inv(hessian), list(range(row.size)), []
    while remains:
        cost = [w[q] ** 2 / (2 * h_inv[q, q]) for q in remains]
        q = remains[int(np.argmin(cost))]
        increase.append(min(cost))
        w, h_inv = step(w, h_inv, q)
        remains.remove(q)
    return increase


def test_brute_force_agrees_with_the_textbook():
    (row,), hessian = correlated_layer(0, 1, 6)
    wanted = greedy_removals(row, hessian)[1]
    assert relative_steps(searched_with(removed, row, hessian), wanted) < 1e-10


@pytest.mark.parametrize("step", [removed_with_a_plus, removed_without_a_down_date])
def test_brute_force_finds_a_planted_error(step):
    (row,), hessian = correlated_layer(0, 1, 6)
    wanted = greedy_removals(row, hessian)[1]
    assert relative_steps(searched_with(step, row, hessian), wanted) > 0.05


@given(SEEDS, st.integers(1, 3), st.integers(1, 8))
def test_rows_of_a_trace_do_not_feel_each_other(seed, n_out, n_in):
    w, hessian = correlated_layer(seed, n_out, n_in)
    together = traced(w, hessian)
    alone = [traced(row[None], hessian).order[0] for row in w]
    np.testing.assert_array_equal(together.order, alone)


@given(SEEDS, st.integers(1, 3), st.integers(1, 8))
def test_whole_trace_costs_the_whole_output(seed, n_out, n_in):
    w, hessian = correlated_layer(seed, n_out, n_in)
    np.testing.assert_allclose(traced(w, hessian).curve()[-1], np.vdot(w @ hessian, w) / 2)


def test_of_equal_costs_the_last_place_goes_first():
    trace = exact_obs_trace(np.array([[1.0, -1, 2, 1], [3, 0, 0, 3]]), np.eye(4))
    assert trace.order.tolist() == [[3, 1, 0, 2], [2, 1, 3, 0]]


def test_compiled_search_and_definition_agree():
    w, hessian = correlated_layer(1, 4, 12)
    h_inv = np.linalg.inv(hessian)
    order, increase = remove_greedily(w, h_inv, 0, 12)
    trace = exact_obs_trace(w, h_inv)
    np.testing.assert_array_equal(trace.order, order)
    np.testing.assert_allclose(trace.increase, increase)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_search_in_float32_costs_what_float64_does(dtype):
    w, hessian = correlated_layer(2, 6, 24)
    h_inv = np.linalg.inv(hessian)
    wide, narrow = exact_obs_trace(w, h_inv), exact_obs_trace(w, h_inv.astype(dtype))
    np.testing.assert_allclose(narrow.curve(), wide.curve(), rtol=24 * np.finfo(dtype).eps * 20)


# -- the values


@given(SEEDS, st.integers(1, 3), st.integers(1, 8), SPARSITIES)
def test_replayed_removals_equal_the_refit_of_the_final_mask(seed, n_out, n_in, sparsity):
    w, hessian = correlated_layer(seed, n_out, n_in)
    trace = traced(w, hessian)
    mask = trace.mask(sparsity)
    replayed = w.copy()
    for row, order, kept in zip(replayed, trace.order, mask, strict=True):
        h_inv = np.linalg.inv(hessian)
        for q in order[: n_in - kept.sum()]:
            row[:], h_inv = removed(row, h_inv, q)
    np.testing.assert_allclose(replayed, least_squares_refit(w, mask, hessian), atol=1e-9)


@given(SEEDS, st.integers(1, 8), SPARSITIES)
def test_removal_of_a_group_at_once_equals_the_refit(seed, n_in, sparsity):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    mask = traced(row[None], hessian).mask(sparsity)
    h_inv, gone = np.linalg.inv(hessian), ~mask[0]
    new = row - h_inv[:, gone] @ np.linalg.solve(h_inv[np.ix_(gone, gone)], row[gone])
    np.testing.assert_allclose(new[None], least_squares_refit(row[None], mask, hessian), atol=1e-9)


@given(SEEDS, st.integers(1, 3), st.integers(1, 8))
def test_curve_is_the_error_of_every_mask(seed, n_out, n_in):
    w, hessian = correlated_layer(seed, n_out, n_in)
    trace = traced(w, hessian)
    for n_removed, error in enumerate(trace.curve()[:-1]):
        mask = trace.mask(n_removed / w.size)
        assert (~mask).sum() == n_removed
        new = [refit(row, hessian, kept) for row, kept in zip(w, mask, strict=True)]
        exact = sum(error_of(*rows, hessian) for rows in zip(w, new, strict=True))
        np.testing.assert_allclose(error, exact, rtol=1e-7, atol=1e-9)


@given(SEEDS, st.integers(1, 4), st.integers(1, 8), SPARSITIES)
def test_exact_obs_keeps_exactly_the_count(seed, n_out, n_in, sparsity):
    w, hessian = correlated_layer(seed, n_out, n_in)
    kept = exact_obs(w, hessian, sparsity=sparsity) != 0
    assert kept.sum() == count_kept(w.size, sparsity)


def test_exact_obs_at_sparsity_zero_changes_nothing():
    w, hessian = correlated_layer(0, 3, 5)
    np.testing.assert_array_equal(exact_obs(w, hessian, sparsity=0), w)


@given(SEEDS, PATTERNS)
def test_exact_obs_keeps_n_of_every_m(seed, pattern):
    n, m, groups = max(pattern[0], 1), *pattern[1:]
    w, hessian = correlated_layer(seed, 3, m * groups)
    kept = exact_obs(w, hessian, n=n, m=m) != 0
    assert (kept.reshape(3, groups, m).sum(axis=2) == n).all()


@given(hnp.arrays(float, (3, 5), elements=st.integers(-3, 3)), SPARSITIES)
def test_exact_obs_with_the_identity_is_magnitude(w, sparsity):
    expected = np.where(unstructured(np.abs(w), sparsity), w, 0)
    np.testing.assert_array_equal(exact_obs(w, np.eye(5), sparsity=sparsity), expected)


@pytest.mark.parametrize("seed", range(5))
def test_exact_obs_errs_less_than_sparsegpt_and_that_less_than_magnitude(seed):
    w, hessian = correlated_layer(seed, 32, 64)
    candidates = [
        exact_obs(w, hessian, sparsity=0.5),
        sparsegpt(w, hessian, sparsity=0.5),
        np.where(unstructured(np.abs(w), 0.5), w, 0),
    ]
    exact, one_pass, magnitude = (reconstruction_error(w, new, hessian) for new in candidates)
    assert exact < 0.8 * one_pass < 0.8 * magnitude


@pytest.mark.parametrize("seed", range(5))
def test_exact_two_four_errs_less_than_sparsegpt_and_that_less_than_magnitude(seed):
    w, hessian = correlated_layer(seed, 32, 64)
    candidates = [
        exact_obs(w, hessian, n=2, m=4),
        sparsegpt(w, hessian, n=2, m=4),
        np.where(n_of_m(np.abs(w), 2, 4), w, 0),
    ]
    exact, one_pass, magnitude = (reconstruction_error(w, new, hessian) for new in candidates)
    assert exact < one_pass < magnitude


@pytest.mark.parametrize("seed", range(5))
def test_ranking_anew_beats_one_ranking_repaired_as_well(seed):
    w, hessian = correlated_layer(seed, 16, 48)
    once = layerwise_obs(w, inverse_hessian(damp(hessian)), w.size // 2) != 0
    repaired = least_squares_refit(w, once, damp(hessian))
    exact = exact_obs(w, hessian, sparsity=0.5)
    assert reconstruction_error(w, exact, hessian) < reconstruction_error(w, repaired, hessian)


# -- pruning again


@pytest.mark.parametrize("pattern", [{"sparsity": 0.3}, {"sparsity": 0.8}, {"n": 2, "m": 4}])
@pytest.mark.parametrize("seed", range(3))
def test_zeros_stay_and_the_rest_is_repaired_when_a_layer_is_pruned_again(seed, pattern):
    w, hessian = correlated_layer(seed, 6, 12)
    first = np.where(unstructured(np.abs(w), 0.5), w, 0)
    again = exact_obs(first, hessian, damping=0, **pattern)
    assert not again[first == 0].any()
    best = [refit(row, hessian, new != 0) for row, new in zip(first, again, strict=True)]
    np.testing.assert_allclose(again, best, atol=1e-9)


# -- what goes in and out


def test_weights_of_dead_inputs_go_first_and_cost_nothing():
    w, hessian = correlated_layer(0, 3, 6)
    dead = np.array([False, True, False, False, True, False])
    hessian[dead], hessian[:, dead] = 0, 0
    kept = exact_obs(w, hessian, sparsity=1 / 3) != 0
    np.testing.assert_array_equal(kept, np.tile(~dead, (3, 1)))


def test_a_dead_input_changes_nothing_for_the_others():
    w, hessian = correlated_layer(0, 3, 5)
    wider = np.pad(hessian, ((0, 1), (0, 1)))
    with_dead = exact_obs(np.pad(w, ((0, 0), (0, 1))) + 1e-3, wider, sparsity=0.5)
    without = exact_obs(w + 1e-3, hessian, sparsity=0.4)
    np.testing.assert_array_equal(with_dead, np.pad(without, ((0, 0), (0, 1))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_obs_returns_the_dtype_and_leaves_its_arguments(dtype):
    w, hessian = (array.astype(dtype) for array in correlated_layer(0, 3, 4))
    before = w.copy(), hessian.copy()
    assert exact_obs(w, hessian, sparsity=0.5).dtype == dtype
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(hessian, before[1])


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]])
def test_exact_obs_takes_any_layout(layout):
    w, hessian = correlated_layer(0, 3, 4)
    np.testing.assert_array_equal(
        exact_obs(layout(w), layout(hessian), sparsity=0.5), exact_obs(w, hessian, sparsity=0.5)
    )


@pytest.mark.parametrize("unit", [2.0**-400, 2.0**400])
def test_exact_obs_does_not_depend_on_the_unit_of_the_weights(unit):
    w, hessian = correlated_layer(0, 3, 6)
    expected = unit * exact_obs(w, hessian, sparsity=0.5)
    np.testing.assert_array_equal(exact_obs(unit * w, hessian, sparsity=0.5), expected)


def test_weights_of_zero_leave_nothing_to_rank():
    assert not exact_obs(np.zeros((2, 4)), np.eye(4), sparsity=0.5).any()


def test_exact_obs_of_fewer_examples_than_inputs_names_a_damping_that_works():
    x = np.random.default_rng(0).standard_normal((3, 8))
    w, hessian = np.ones((2, 8)), input_hessian([x])
    with pytest.raises(ValueError, match=r"hessian must be positive definite.*damp\(hessian, 0.01"):
        exact_obs(w, hessian, sparsity=0.5, damping=0)
    assert np.isfinite(exact_obs(w, hessian, sparsity=0.5, damping=0.01)).all()


def test_trace_of_an_indefinite_inverse_is_refused():
    h_inv = np.array([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="h_inv must stay positive definite"):
        exact_obs_trace(np.array([[1.0, 3.0]]), h_inv)


W, H = np.ones((2, 4)), np.eye(4)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: exact_obs(W, H), ValueError, "a sparsity or an n and an m, got sparsity=None"),
        (lambda: exact_obs(W, H, sparsity=0.5, n=2, m=4), ValueError, "got sparsity=0.5, n=2"),
        (lambda: exact_obs(W, H, n=2), ValueError, "the pattern must be a sparsity or"),
        (lambda: exact_obs(W, H, n=0, m=4), ValueError, r"n must be in \[1, 4\], got 0"),
        (lambda: exact_obs(W, H, n=5, m=4), ValueError, r"n must be in \[1, 4\], got 5"),
        (lambda: exact_obs(W, H, n=1, m=3), ValueError, "be a multiple of 3, got 4"),
        (lambda: exact_obs(W, H, sparsity=1.0), ValueError, r"sparsity must be in \[0, 1\)"),
        (lambda: exact_obs(W, np.eye(3), sparsity=0.5), ValueError, "w must have shape"),
        (lambda: exact_obs(W, H, sparsity=0.5, damping=-1), ValueError, "damping must be"),
        (lambda: exact_obs(W.astype(int), H, sparsity=0.5), TypeError, "w must be float32"),
        (lambda: exact_obs_trace(W, H, n=5, m=4), ValueError, r"n must be in \[0, 4\], got 5"),
        (lambda: exact_obs_trace(W, H, m=3), ValueError, "m must divide the 4 inputs, got 3"),
        (lambda: exact_obs_trace(W, np.ones((4, 3))), ValueError, "h_inv must have shape"),
        (lambda: exact_obs_trace(W * np.nan, H), ValueError, "w must be finite"),
        (lambda: exact_obs_trace(W * 1e-170, H), ValueError, "have squares that float64 can hold"),
        (lambda: exact_obs_trace(W * 1e170, H), ValueError, "have squares that float64 can hold"),
        (lambda: exact_obs_trace(W * 1e-25, H.astype("f4")), ValueError, "that float32 can hold"),
        (lambda: exact_obs_trace(W, H * np.nan), ValueError, "h_inv must stay positive"),
    ],
)
def test_exact_obs_refuses_in_one_sentence(call, kind, message):
    with pytest.raises(kind, match=message) as raised:
        call()
    assert re.match(ONE_SENTENCE, str(raised.value))
