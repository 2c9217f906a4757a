"""Optimal Brain Surgeon: what its update, its ranking and its down-date are the solution of."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.nn import inverse_fisher
from refimpl.prune import downdate_inverse, obs, obs_trace, obs_update


def random_hessian(rng: np.random.Generator, n: int) -> np.ndarray:
    """Positive definite, correlated, with scales that differ, and a condition below 1e5."""
    x = rng.standard_normal((2 * n, n)) @ rng.standard_normal((n, n)) * rng.uniform(0.5, 2, n)
    hessian = x.T @ x / len(x)
    return hessian + 1e-3 * np.trace(hessian) / n * np.eye(n)


@st.composite
def problems(draw, *, min_size: int = 1, max_size: int = 8):
    """Weights and a Hessian; of the weights, some may be 0 and some equal."""
    n = draw(st.integers(min_size, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hessian, w = random_hessian(rng, n), rng.standard_normal(n)
    zeros = draw(st.lists(st.booleans(), min_size=n, max_size=n)) if draw(st.booleans()) else []
    w[np.flatnonzero(zeros)] = 0.0
    return w, hessian


@st.composite
def problems_and_index(draw, **sizes):
    w, hessian = draw(problems(**sizes))
    return w, hessian, draw(st.integers(0, w.size - 1))


@st.composite
def problems_and_count(draw, **sizes):
    w, hessian = draw(problems(**sizes))
    return w, hessian, draw(st.integers(0, w.size))


def quadratic(w: np.ndarray, new_w: np.ndarray, hessian: np.ndarray) -> float:
    """Increase of the error by Taylor's formula at a minimum."""
    change = new_w - w
    return float(change @ hessian @ change) / 2


def refit(w: np.ndarray, kept: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Least of all errors on a mask, by the normal equations of the kept weights."""
    new_w = np.zeros_like(w)
    if kept.any():
        block = hessian[np.ix_(kept, kept)]
        new_w[kept] = np.linalg.solve(block, hessian[kept] @ w)
    return new_w


def assert_close(actual, expected, scale=1.0):
    """Agree up to the rounding of a problem whose Hessian has a condition of at most 1e5."""
    np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-9 * (scale + 1e-30))


# The update


@given(problems_and_index())
def test_obs_update_solves_the_kkt_system(case):
    w, hessian, i = case
    n, unit = w.size, np.eye(w.size)[i]
    kkt = np.block([[hessian, unit[:, np.newaxis]], [unit, np.zeros(1)]])
    solution = np.linalg.solve(kkt, np.append(np.zeros(n), -w[i]))[:n]
    new_w = obs_update(w, np.linalg.inv(hessian), i)
    assert_close(new_w - w, solution, np.abs(w).max())


@given(problems_and_index())
def test_obs_update_meets_the_constraint_with_the_plus_sign(case):
    w, hessian, i = case
    u = obs_update(w, np.linalg.inv(hessian), i) - w
    assert u[i] + w[i] == 0  # the printed e_i^T u - w_i = 0 would double the weight


@given(problems_and_index())
def test_obs_update_costs_its_saliency(case):
    w, hessian, i = case
    h_inv = np.linalg.inv(hessian)
    new_w = obs_update(w, h_inv, i)
    saliency = w[i] ** 2 / (2 * h_inv[i, i])
    assert_close(quadratic(w, new_w, hessian), saliency, saliency)


@given(problems_and_index(min_size=2))
def test_obs_update_lowers_error_below_plain_deletion(case):
    w, hessian, i = case
    h_inv = np.linalg.inv(hessian)
    deleted = np.where(np.arange(w.size) == i, 0, w)
    with_plus = 2 * w - obs_update(w, h_inv, i)
    with_plus[i] = 0
    errors = [quadratic(w, v, hessian) for v in (obs_update(w, h_inv, i), deleted, with_plus)]
    assert errors[0] <= errors[1] * (1 + 1e-9)
    assert errors[1] <= errors[2] * (1 + 1e-9)  # the printed plus sign is worse than no update


def test_obs_update_with_the_printed_plus_sign_is_worse_than_none_on_a_layer():
    rng = np.random.default_rng(0)
    w, hessian = rng.standard_normal(64), random_hessian(rng, 64)
    h_inv = np.linalg.inv(hessian)
    right = obs_update(w, h_inv, 5)
    plus, none = 2 * w - right, w.copy()
    plus[5] = none[5] = 0
    errors = [quadratic(w, v, hessian) for v in (right, none, plus)]
    assert errors[2] - errors[1] == pytest.approx(3 * (errors[1] - errors[0]))
    assert errors[1] > 1.5 * errors[0]


@given(problems_and_index())
def test_obs_update_of_a_zero_weight_moves_nothing(case):
    w, hessian, i = case
    w[i] = 0.0
    np.testing.assert_array_equal(obs_update(w, np.linalg.inv(hessian), i), w)


def test_obs_update_removes_exactly_and_without_a_sign():
    new_w = obs_update(np.array([-0.0, 0.1]), np.array([[3.0, 0.1], [0.1, 0.7]]), 0)
    assert new_w[0] == 0
    assert not np.signbit(new_w[0])


# The inverse


@given(problems_and_index())
def test_downdated_inverse_is_the_inverse_of_the_remaining_block(case):
    _, hessian, i = case
    rest = np.delete(np.arange(len(hessian)), i)
    block = np.ix_(rest, rest)
    downdated = downdate_inverse(np.linalg.inv(hessian), i)
    expected = np.linalg.inv(hessian[block])
    assert_close(downdated[block], expected, np.abs(np.linalg.inv(hessian)).max())


@given(problems_and_index())
def test_downdated_inverse_is_the_identity_at_what_went(case):
    _, hessian, i = case
    downdated = downdate_inverse(np.linalg.inv(hessian), i)
    unit = np.eye(len(hessian))[i]
    np.testing.assert_array_equal(downdated[i], unit)
    np.testing.assert_array_equal(downdated[:, i], unit)


@given(problems_and_index(min_size=2), st.data())
def test_downdates_commute(case, data):
    _, hessian, i = case
    j = data.draw(st.integers(0, len(hessian) - 1).filter(lambda j: j != i))
    h_inv = np.linalg.inv(hessian)
    one_way = downdate_inverse(downdate_inverse(h_inv, i), j)
    other_way = downdate_inverse(downdate_inverse(h_inv, j), i)
    assert_close(one_way, other_way, np.abs(h_inv).max())


@given(problems_and_count())
def test_obs_takes_the_inverse_that_the_woodbury_recursion_builds(case):
    w, hessian, n_remove = case
    x = np.sqrt(w.size) * np.linalg.cholesky(hessian).T  # H is the mean of x_m x_m^T
    direct = np.linalg.inv(hessian + 1e-2 * np.eye(w.size))
    actual = obs(w, inverse_fisher(x, 1e-2), n_remove)
    assert_close(actual, obs(w, direct, n_remove), np.abs(w).max())


def test_static_inverse_is_exposed():
    """Without the down-date a second removal brings the first weight back."""
    rng = np.random.default_rng(1)
    w, h_inv = rng.standard_normal(6), np.linalg.inv(random_hessian(rng, 6))
    first, second = obs_trace(w, h_inv, 2).order
    static = obs_update(obs_update(w, h_inv, first), h_inv, second)
    assert abs(static[first]) > 0.01
    assert np.count_nonzero(obs(w, h_inv, 2)) == 4


# Many removals


@given(problems_and_count())
def test_obs_is_the_least_squares_refit_of_its_mask(case):
    w, hessian, n_remove = case
    new_w = obs(w, np.linalg.inv(hessian), n_remove)
    assert_close(new_w, refit(w, new_w != 0, hessian), np.abs(w).max())


@given(problems())
def test_obs_matches_brute_force(case):
    w, hessian = case
    new_w = obs(w, np.linalg.inv(hessian), 1)
    masks = ~np.eye(w.size, dtype=bool)
    least = min(quadratic(w, refit(w, kept, hessian), hessian) for kept in masks)
    assert_close(quadratic(w, new_w, hessian), least, quadratic(w, 0 * w, hessian))


def test_obs_one_at_a_time_can_miss_the_best_pair():
    w = np.array([2.0, 3.0, 2.0])
    hessian = np.array([[3.0, -1, 1], [-1, 2, 2], [1, 2, 4]])
    greedy = quadratic(w, obs(w, np.linalg.inv(hessian), 2), hessian)
    pairs = [~np.isin(np.arange(3), pair) for pair in combinations(range(3), 2)]
    least = min(quadratic(w, refit(w, kept, hessian), hessian) for kept in pairs)
    assert (greedy, least) == (pytest.approx(17), pytest.approx(1))


@given(problems_and_count())
def test_obs_saliencies_add_up_to_the_error(case):
    w, hessian, n_remove = case
    trace = obs_trace(w, np.linalg.inv(hessian), n_remove)
    errors = [quadratic(w, new_w, hessian) for new_w in trace.weights[1:]]
    assert_close(np.cumsum(trace.saliencies), errors, quadratic(w, 0 * w, hessian))


@given(problems_and_count(), st.sampled_from([0.25, 1.0, 8.0]))
def test_obs_is_magnitude_pruning_when_the_hessian_is_a_multiple_of_the_identity(case, scale):
    w, _, n_remove = case
    order = np.argsort(np.abs(w), kind="stable")[:n_remove]
    expected = w.copy()
    expected[order] = 0
    trace = obs_trace(w, scale * np.eye(w.size), n_remove)
    np.testing.assert_array_equal(trace.order, order)
    np.testing.assert_array_equal(trace.weights[-1], expected)


@given(problems_and_count())
def test_obs_with_a_diagonal_hessian_moves_no_other_weight(case):
    w, hessian, n_remove = case
    new_w = obs(w, np.diag(1 / hessian.diagonal()), n_remove)
    assert np.all((new_w == w) | (new_w == 0))


@given(problems_and_count())
def test_obs_removes_exactly_n(case):
    w, hessian, n_remove = case
    new_w = obs(w, np.linalg.inv(hessian), n_remove)
    assert np.count_nonzero(new_w == 0) == max(n_remove, np.count_nonzero(w == 0))


@given(problems())
def test_obs_trace_holds_every_count(case):
    w, hessian = case
    h_inv = np.linalg.inv(hessian)
    stages = [obs(w, h_inv, k) for k in range(w.size + 1)]
    np.testing.assert_array_equal(obs_trace(w, h_inv).weights, stages)


@given(problems())
def test_obs_trace_removes_every_weight_once(case):
    w, hessian = case
    order = obs_trace(w, np.linalg.inv(hessian)).order
    assert sorted(order.tolist()) == list(range(w.size))


def test_obs_takes_zeros_first_and_for_nothing():
    w, h_inv = np.array([2.0, 0.0, -1.0, 0.0]), np.linalg.inv(np.eye(4) + 0.5)
    trace = obs_trace(w, h_inv)
    assert trace.order[:2].tolist() == [1, 3]
    assert trace.saliencies[:2].tolist() == [0, 0]
    np.testing.assert_array_equal(trace.weights[2], w)


def test_obs_gives_ties_to_the_lowest_index():
    trace = obs_trace(np.array([1.0, -1.0, 1.0, -1.0]), np.eye(4))
    assert trace.order.tolist() == [0, 1, 2, 3]


def test_obs_example_by_hand():
    h_inv = np.array([[2.0, 1.0], [1.0, 1.0]])  # of H = [[1, -1], [-1, 2]]
    trace = obs_trace(np.array([2.0, 1.0]), h_inv)
    assert trace.order.tolist() == [1, 0]
    assert trace.saliencies.tolist() == [0.5, 0.5]
    assert trace.weights.tolist() == [[2, 1], [1, 0], [0, 0]]


# Arrays of every kind


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), (6, 1, 1)])
def test_obs_keeps_shape_and_dtype(shape, dtype):
    rng = np.random.default_rng(2)
    w, h_inv = rng.standard_normal(6).astype(dtype), np.linalg.inv(random_hessian(rng, 6))
    new_w = obs(w.reshape(shape), h_inv, 3)
    assert (new_w.shape, new_w.dtype) == (shape, dtype)
    np.testing.assert_array_equal(new_w.ravel(), obs(w, h_inv, 3))


def test_obs_reads_an_array_in_c_order():
    rng = np.random.default_rng(3)
    w, h_inv = rng.standard_normal((2, 3)), np.linalg.inv(random_hessian(rng, 6))
    np.testing.assert_array_equal(obs(np.asfortranarray(w), h_inv, 3), obs(w, h_inv, 3))


def test_obs_takes_a_single_precision_inverse():
    rng = np.random.default_rng(4)
    w, h_inv = rng.standard_normal(6), np.linalg.inv(random_hessian(rng, 6)).astype(np.float32)
    np.testing.assert_array_equal(obs(w, h_inv, 3), obs(w, h_inv.astype(np.float64), 3))


@pytest.mark.parametrize("function", [obs, obs_update], ids=["obs", "obs_update"])
def test_arguments_are_left_alone_by(function):
    w, h_inv = np.array([2.0, 1.0]), np.array([[2.0, 1.0], [1.0, 1.0]])
    function(w, h_inv, 1)[:] = 7
    assert (w.tolist(), h_inv.tolist()) == ([2, 1], [[2, 1], [1, 1]])


def test_obs_of_no_removal_is_a_copy():
    w = np.array([2.0, 1.0])
    assert obs(w, np.eye(2), 0) is not w
    assert not np.shares_memory(obs(w, np.eye(2), 0), w)


def test_obs_of_no_weight_is_nothing():
    assert obs(np.zeros((0, 3)), np.zeros((0, 0)), 0).shape == (0, 3)


INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
W = np.array([2.0, 1.0])


@pytest.mark.parametrize(
    ("w", "h_inv", "n_remove", "kind", "message"),
    [
        (W, INDEFINITE, 1, ValueError, "h_inv must be positive definite, got a smallest eigenvalue "
         r"of -1; damp the Hessian before it is inverted, inverse_hessian\(damp\(hessian\)\)"),
        (W, np.zeros((2, 2)), 0, ValueError, "obs: h_inv must be positive definite"),
        (W, np.triu(np.ones((2, 2))), 1, ValueError, "h_inv must be symmetric, got entries that"),
        (W, np.diag([1, np.nan]), 1, ValueError, "obs: h_inv must be finite, got infinity or NaN;"),
        (np.array([1, np.inf]), np.eye(2), 1, ValueError, "obs: w must be finite"),
        (W, np.eye(3), 1, ValueError, r"obs: h_inv must have shape \(2, 2\), got \(3, 3\);"),
        (W, np.eye(2), 3, ValueError, r"obs: n_remove must be in \[0, 2\], got 3;"),
        (W, np.eye(2), 0.5, TypeError, "obs: n_remove must be an integer, got 0.5; give a count"),
        (W.astype(int), np.eye(2), 1, TypeError, "obs: w must be float32 or float64, got int64;"),
        ([1.0], np.eye(1), 1, TypeError, "obs: w must be an array, got list;"),
    ],
)  # fmt: skip
def test_obs_refuses_with_a_sentence(w, h_inv, n_remove, kind, message):
    with pytest.raises(kind, match=message):
        obs(w, h_inv, n_remove)


def test_obs_says_when_rounding_has_eaten_the_inverse():
    """Of rank 2, it passes the check at the door by luck; the third pivot is not positive."""
    x = np.random.default_rng(3).standard_normal((2, 3))
    with pytest.raises(ValueError, match=r"h_inv must have a positive diagonal, got"):
        obs(np.ones(3), x.T @ x, 3)


@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        (2, ValueError, r"index must be in \[0, 1\], got 2;"),
        (-1, ValueError, r"index must be in \[0, 1\], got -1;"),
        (0, ValueError, "h_inv must be positive definite, got a diagonal entry of -1;"),
    ],
)
@pytest.mark.parametrize("function", ["obs_update", "downdate_inverse"])
def test_steps_refuse_with_a_sentence(function, index, kind, message):
    h_inv = np.diag([-1.0, 1.0])
    calls = {
        "obs_update": lambda: obs_update(W, h_inv, index),
        "downdate_inverse": lambda: downdate_inverse(h_inv, index),
    }
    with pytest.raises(kind, match=f"{function}: {message}"):
        calls[function]()
