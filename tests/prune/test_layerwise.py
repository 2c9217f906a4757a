"""L-OBS as published: what it ranks by, what its repair is, and what it is not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from refimpl.masks import keep_top_k, unstructured
from refimpl.prune import damp, inverse_hessian, layerwise_obs
from support.corruption import ONE_SENTENCE
from support.removals import correlated_layer, error_of, refit

SEEDS = st.integers(0, 9999)


def removal_order(row, h_inv, n_remove):
    """Places that go from a lone row, the least saliency first."""
    return np.argsort(row**2 / np.diag(h_inv), kind="stable")[:n_remove]


@given(SEEDS, st.integers(1, 4), st.integers(1, 7), st.data())
def test_layerwise_obs_removes_the_least_saliencies(seed, n_out, n_in, data):
    w, hessian = correlated_layer(seed, n_out, n_in)
    n_remove = data.draw(st.integers(0, w.size))
    h_inv = np.linalg.inv(hessian)
    kept = layerwise_obs(w, h_inv, n_remove) != 0
    np.testing.assert_array_equal(kept, keep_top_k(w**2 / np.diag(h_inv), w.size - n_remove))


def test_layerwise_obs_keeps_the_lowest_index_of_equal_weights():
    kept = layerwise_obs(np.ones((2, 3)), np.eye(3), 4) != 0
    assert kept.tolist() == [[True, True, False], [False, False, False]]


@given(SEEDS, st.integers(1, 7))
def test_layerwise_obs_repairs_a_single_removal_exactly(seed, n_in):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    (new,) = layerwise_obs(row[None], np.linalg.inv(hessian), 1)
    np.testing.assert_allclose(new, refit(row, hessian, new != 0), atol=1e-10)


@given(SEEDS, st.integers(1, 7), st.data())
def test_layerwise_obs_is_one_gauss_seidel_sweep_towards_the_refit(seed, n_in, data):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    h_inv = np.linalg.inv(hessian)
    gone = removal_order(row, h_inv, data.draw(st.integers(0, n_in)))
    system = h_inv[np.ix_(gone, gone)]  # OBS solves system @ pull = row[gone]
    pull = solve_triangular(system, row[gone], lower=True)  # and a sweep its lower triangle
    expected = row - h_inv[:, gone] @ pull
    expected[gone] = 0
    (new,) = layerwise_obs(row[None], h_inv, gone.size)
    np.testing.assert_allclose(new, expected, atol=1e-10)


@given(SEEDS, st.integers(2, 7))
def test_more_gauss_seidel_sweeps_converge_to_the_refit(seed, n_in):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    h_inv, new = np.linalg.inv(hessian), row.copy()
    gone = removal_order(row, h_inv, n_in // 2)
    for _ in range(1000):
        for q in gone:
            new -= new[q] / h_inv[q, q] * h_inv[q]
    kept = ~np.isin(np.arange(n_in), gone)
    np.testing.assert_allclose(new, refit(row, hessian, kept), atol=1e-5)


@given(SEEDS, st.integers(2, 7), st.data())
def test_layerwise_obs_is_never_better_than_the_refit_of_its_mask(seed, n_in, data):
    (row,), hessian = correlated_layer(seed, 1, n_in)
    n_remove = data.draw(st.integers(0, n_in))
    (new,) = layerwise_obs(row[None], np.linalg.inv(hessian), n_remove)
    best = error_of(row, refit(row, hessian, new != 0), hessian)
    assert best <= error_of(row, new, hessian) * (1 + 1e-9) + 1e-12


def test_layerwise_obs_is_worse_than_the_refit_once_two_weights_go():
    (row,), hessian = correlated_layer(0, 1, 8)
    (new,) = layerwise_obs(row[None], np.linalg.inv(hessian), 4)
    best = error_of(row, refit(row, hessian, new != 0), hessian)
    assert error_of(row, new, hessian) > 1.05 * best


@given(SEEDS, st.floats(0, 0.99))
def test_layerwise_obs_with_the_identity_is_magnitude(seed, sparsity):
    w, _ = correlated_layer(seed, 3, 5)
    mask = unstructured(np.abs(w), sparsity)
    new = layerwise_obs(w, np.eye(5), int((~mask).sum()))
    np.testing.assert_array_equal(new, np.where(mask, w, 0))


def test_layerwise_obs_takes_a_damped_dead_input_for_an_average_one():
    """Its weight does nothing, and stays for its size; cleared before, it is the first to go."""
    hessian, w = np.diag([1.0, 1, 0]), np.array([[1.0, 2, 3]])
    h_inv = inverse_hessian(damp(hessian, 0))
    assert layerwise_obs(w, h_inv, 1).tolist() == [[0, 2, 3]]
    cleared = np.where(hessian.diagonal() > 0, w, 0)
    assert layerwise_obs(cleared, h_inv, 1).tolist() == [[1, 2, 0]]


def test_a_bias_is_a_column_of_ones():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal((50, 3)) + 2, np.ones(50)])
    wb = np.array([[0.01, 1.0, 1.0, 5.0]])
    new = layerwise_obs(wb, np.linalg.inv(x.T @ x), 1)
    assert new[0, 0] == 0
    change = x @ (new - wb)[0]
    assert np.abs(change).mean() < 0.01 * np.abs(x[:, 0]).mean()  # the bias took over its mean
    assert new[0, 3] > wb[0, 3]


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]])
def test_layerwise_obs_takes_any_layout(layout):
    w, hessian = correlated_layer(0, 3, 4)
    h_inv = np.linalg.inv(hessian)
    np.testing.assert_array_equal(
        layerwise_obs(layout(w), layout(h_inv), 6), layerwise_obs(w, h_inv, 6)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layerwise_obs_returns_the_dtype_and_leaves_its_arguments(dtype):
    w, hessian = correlated_layer(0, 3, 4)
    w, h_inv = w.astype(dtype), np.linalg.inv(hessian)
    before = w.copy(), h_inv.copy()
    assert layerwise_obs(w, h_inv, 6).dtype == dtype
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(h_inv, before[1])


W, H = np.ones((2, 4)), np.eye(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layerwise_obs(W, H, 9), r"n_remove must be in \[0, 8\], got 9"),
        (lambda: layerwise_obs(W, H[:3], 1), "h_inv must have shape"),
        (lambda: layerwise_obs(W[:, :3], H, 1), "w must have shape"),
        (lambda: layerwise_obs(W * np.nan, H, 1), "w must be finite, got infinity or NaN"),
        (lambda: layerwise_obs(W * np.inf, H, 1), "w must be finite, got infinity or NaN"),
        (lambda: layerwise_obs(W, -H, 1), "h_inv must have a positive diagonal"),
    ],
)
def test_layerwise_obs_refuses_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert re.match(ONE_SENTENCE, str(raised.value))
