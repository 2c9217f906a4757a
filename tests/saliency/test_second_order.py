"""OBD and OBS say what a quadratic loss does, and brute force agrees."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import keep_top_k
from refimpl.saliency import magnitude, obd, obs
from support.strategies import FLOATS

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def quadratics(draw, *, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Weights at the minimum of a loss, and its Hessian: positive definite, condition <= 1e3."""
    rng, n = np.random.default_rng(draw(SEEDS)), draw(st.integers(1, most))
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return rng.normal(size=n), turn * 10 ** rng.uniform(-2, 1, n) @ turn.T


def rise(hessian: np.ndarray, u: np.ndarray) -> float:
    """What the loss gains when the weights move by u from the minimum."""
    return float(u @ hessian @ u) / 2


def least_rise_without(w: np.ndarray, hessian: np.ndarray, i: int) -> float:
    """Set weight i to 0 and solve for the others: dense algebra, no inverse of the whole."""
    others = np.arange(w.size) != i
    u = np.zeros(w.size)
    u[i] = -w[i]
    u[others] = np.linalg.solve(hessian[np.ix_(others, others)], hessian[others, i] * w[i])
    return rise(hessian, u)


# --- OBD --------------------------------------------------------------------------------------


@given(quadratics())
def test_obd_is_the_rise_of_a_quadratic_loss_without_one_weight(problem):
    w, hessian = problem
    expected = [rise(hessian, -w[i] * np.eye(w.size)[i]) for i in range(w.size)]
    np.testing.assert_allclose(obd(w, hessian.diagonal()), expected, rtol=1e-12)


@given(hnp.arrays(np.float64, (2, 6), elements=st.integers(-8, 8).map(float)))
def test_obd_sums_exactly_when_the_hessian_is_diagonal(arrays):
    w, h_diag = arrays
    saliency = obd(w, h_diag)
    sets = [list(s) for size in range(7) for s in combinations(range(6), size)]
    summed = [saliency[removed].sum() for removed in sets]
    removals = [np.where(np.isin(range(6), removed), -w, 0) for removed in sets]
    assert summed == [rise(np.diag(h_diag), u) for u in removals]  # small integers: no rounding


def test_obd_does_not_sum_when_two_weights_share_their_work():
    w, hessian = np.array([1.0, 1.0]), np.array([[1.0, -0.9], [-0.9, 1.0]])
    assert obd(w, hessian.diagonal()).sum() == 1.0
    assert rise(hessian, -w) == pytest.approx(0.1)


@given(quadratics())
def test_obd_order_is_that_of_magnitude_when_the_diagonal_is_constant(problem):
    w, _ = problem
    order = np.argsort(obd(w, np.full(w.size, 3.0)), kind="stable")
    np.testing.assert_array_equal(order, np.argsort(magnitude(w), kind="stable"))


def test_obd_removes_first_what_a_negative_curvature_says_is_harmful():
    saliency = obd(np.array([5.0, 0.1, 1.0]), np.array([-1.0, 1.0, 1.0]))
    assert saliency[0] < 0
    assert keep_top_k(saliency, 2).tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 1, 2)])
def test_obd_is_of_double_precision_and_the_weights_shape(dtype, shape):
    saliency = obd(np.full(shape, -2, dtype), np.full(shape, 3, dtype))
    assert isinstance(saliency, np.ndarray)
    assert (saliency.dtype, saliency.shape) == (np.float64, shape)
    assert (saliency == 6).all()


def test_obd_does_not_underflow():
    assert obd(np.array([1e-6], np.float16), np.array([1.0], np.float16))[0] > 0


@pytest.mark.parametrize(
    ("w", "h_diag", "kind", "message"),
    [
        ([1.0], np.ones(1), TypeError, "obd: w must be an array, got list"),
        (np.ones(2), np.ones(2, int), TypeError, "obd: h_diag must be .*float64, got int64"),
        (np.ones(2), np.ones((2, 2)), ValueError, r"h_diag must have shape \(2,\), got \(2, 2\)"),
    ],
)
def test_obd_refuses_what_does_not_fit(w, h_diag, kind, message):
    with pytest.raises(kind, match=message):
        obd(w, h_diag)


# --- OBS --------------------------------------------------------------------------------------


@given(quadratics())
def test_obs_is_the_least_rise_over_all_ways_to_move_the_others(problem):
    w, hessian = problem
    expected = [least_rise_without(w, hessian, i) for i in range(w.size)]
    np.testing.assert_allclose(obs(w, np.linalg.inv(hessian)), expected, rtol=1e-9, atol=1e-15)


@given(quadratics())
def test_best_single_weight_by_obs_is_that_of_brute_force(problem):
    w, hessian = problem
    tried = [least_rise_without(w, hessian, i) for i in range(w.size)]
    best = int(obs(w, np.linalg.inv(hessian)).argmin())
    assert tried[best] <= min(tried) * (1 + 1e-9)


def test_best_single_weight_may_be_another_for_magnitude_and_obd():
    """Two large weights with the same input can stand in for each other; the small one cannot."""
    w = np.array([1.0, 1.0, 0.5])
    hessian = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    chosen = [int(s.argmin()) for s in (magnitude(w), obd(w, hessian.diagonal()))]
    assert chosen == [2, 2]
    assert obs(w, np.linalg.inv(hessian)).argmin() == 0


@given(quadratics())
def test_obs_is_at_most_obd(problem):
    w, hessian = problem
    assert (obs(w, np.linalg.inv(hessian)) <= obd(w, hessian.diagonal()) * (1 + 1e-9)).all()


@given(quadratics())
def test_obs_is_obd_when_the_hessian_is_diagonal(problem):
    w, hessian = problem
    h_diag = hessian.diagonal()
    np.testing.assert_allclose(obs(w, np.diag(1 / h_diag)), obd(w, h_diag), rtol=1e-14)


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(-1e3, 1e3)))
def test_obs_is_magnitude_when_the_hessian_is_the_identity(w):
    saliency = obs(w, np.eye(6))
    np.testing.assert_array_equal(saliency, w**2 / 2)
    n_keep = 3
    squares = [np.square(w[keep_top_k(s, n_keep)]).sum() for s in (saliency, magnitude(w))]
    assert squares[0] == squares[1]


@given(quadratics(most=4), st.integers(1, 3))
def test_obs_with_a_shared_inverse_scores_each_row_by_itself(problem, n_rows):
    _, hessian = problem
    h_inv = np.linalg.inv(hessian)
    w = np.random.default_rng(n_rows).normal(size=(n_rows, len(h_inv)))
    np.testing.assert_array_equal(obs(w, h_inv), [obs(row, h_inv) for row in w])
    whole = np.kron(np.eye(n_rows), h_inv)
    np.testing.assert_array_equal(obs(w, h_inv), obs(w, whole))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 1, 2)])
def test_obs_is_of_double_precision_and_the_weights_shape(dtype, shape):
    w = np.full(shape, 2, dtype)
    saliency = obs(w, np.eye(w.size, dtype=dtype))
    assert isinstance(saliency, np.ndarray)
    assert (saliency.dtype, saliency.shape) == (np.float64, shape)
    assert (saliency == 2).all()


@pytest.mark.parametrize("value", [0.0, -0.25, -np.inf])
def test_obs_refuses_an_inverse_whose_diagonal_is_not_positive(value):
    h_inv = np.diag([1.0, value, 2.0])
    message = f"^obs: h_inv must have a positive diagonal, got {value:.3g} at 1; add to the Hessian"
    with pytest.raises(ValueError, match=message):
        obs(np.ones(3), h_inv)


def test_obs_refuses_an_inverse_with_nan():
    with pytest.raises(ValueError, match="obs: h_inv must hold no NaN, got 1 of 3"):
        obs(np.ones(3), np.diag([1.0, np.nan, 2.0]))


@pytest.mark.parametrize(
    ("w", "h_inv", "kind", "message"),
    [
        (np.ones(2, int), np.eye(2), TypeError, "obs: w must be .*float64, got int64"),
        (np.ones(2), np.ones(2), ValueError, r"obs: h_inv must have 2 axes, got shape \(2,\)"),
        (
            np.ones(3),
            np.eye(2),
            ValueError,
            r"h_inv must have shape \(3, 3\), one row for each weight, got \(2, 2\); invert",
        ),
        (
            np.ones((2, 3)),
            np.eye(2),
            ValueError,
            r"h_inv must have shape \(6, 6\), one row for each weight, or \(3, 3\), got \(2, 2\)",
        ),
        (np.ones((1, 2, 3)), np.eye(3), ValueError, r"must have shape \(6, 6\), one row for each"),
        (np.ones(3), np.ones((3, 2)), ValueError, r"must have shape \(3, 3\), .*got \(3, 2\)"),
    ],
)
def test_obs_refuses_what_does_not_fit(w, h_inv, kind, message):
    with pytest.raises(kind, match=message):
        obs(w, h_inv)
