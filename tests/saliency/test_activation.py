"""Wanda is the exact error of removing one weight alone; its norms are streamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import row_wise
from refimpl.saliency import input_norms, magnitude, wanda
from support.strategies import FLOATS, dense_matrices, values

BATCHES = st.integers(1, 4).flatmap(
    lambda n_in: st.lists(
        hnp.arrays(
            np.float32, st.tuples(st.integers(0, 3), st.just(n_in)), elements=values(np.float32)
        ),
        min_size=1,
        max_size=4,
    )
)


@st.composite
def weights_and_norms(draw):
    w = draw(dense_matrices())
    norms = draw(hnp.arrays(np.float64, w.shape[1], elements=st.floats(0, 1e6)))
    return w, norms


@given(weights_and_norms())
def test_wanda_is_magnitude_times_the_norm_of_the_input(case):
    w, norms = case
    expected = [[abs(float(w[i, j])) * norms[j] for j in range(len(norms))] for i in range(len(w))]
    np.testing.assert_array_equal(wanda(w, norms), np.reshape(expected, w.shape))


def removed_alone(w: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    without = w.copy()
    without[place] = 0
    return without


def squared_norm(array: np.ndarray) -> float:
    return float((array**2).sum())


@pytest.mark.parametrize("place", list(np.ndindex(3, 4)))
def test_wanda_squared_is_the_output_error_of_removing_one_weight_alone(place):
    rng = np.random.default_rng(0)
    mixing, w = rng.normal(size=(4, 4)), rng.normal(size=(3, 4))
    X = mixing @ rng.normal(size=(4, 50))  # correlated inputs, one example a column
    error = squared_norm(w @ X - removed_alone(w, place) @ X)
    score = wanda(w, input_norms([X.T]))[place]
    np.testing.assert_allclose(score**2, error, rtol=1e-12)


def convolve(images: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Oracle: every patch times every kernel, (batch, h_out, w_out, c_out)."""
    patches = np.lib.stride_tricks.sliding_window_view(images, w.shape[2:], axis=(2, 3))
    return np.einsum("bcpqij,ocij->bpqo", patches, w)


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 1, 0, 2), (0, 1, 1, 1)])
def test_wanda_squared_is_the_error_of_one_kernel_entry_alone(place):
    rng = np.random.default_rng(0)
    images, w = rng.normal(size=(3, 2, 5, 6)), rng.normal(size=(2, 2, 2, 3))
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 3), axis=(2, 3))
    rows = np.moveaxis(patches, 1, 3).reshape(-1, 2, 2, 3)  # one patch a row
    error = squared_norm(convolve(images, w) - convolve(images, removed_alone(w, place)))
    score = wanda(w, input_norms([rows]))[place]
    np.testing.assert_allclose(score**2, error, rtol=1e-12)


def obs_score(w: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Oracle: w^2 / (2 [H^-1]_jj), every row with the same Hessian."""
    return w**2 / (2 * np.linalg.inv(hessian).diagonal())


def test_wanda_squared_is_obs_with_a_diagonal_hessian():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(5, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    diagonal = np.diag((2 / 40 * x.T @ x).diagonal())
    squared = wanda(w, input_norms([x])) ** 2
    np.testing.assert_allclose(squared / 40, obs_score(w, diagonal), rtol=1e-12)


def test_wanda_squared_is_layer_wise_obd():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(5, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    h_diag = (2 / 40 * x.T @ x).diagonal()
    squared = wanda(w, input_norms([x])) ** 2
    np.testing.assert_allclose(squared / 40, w**2 * h_diag / 2, rtol=1e-12)


def test_obs_with_correlated_inputs_is_not_wanda():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(5, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    obs = obs_score(w, 2 / 40 * x.T @ x)
    squared = wanda(w, input_norms([x])) ** 2
    assert (obs < squared / 40).all()  # the others take over a part of what is lost


@given(dense_matrices())
def test_wanda_is_magnitude_when_all_inputs_have_norm_one(w):
    np.testing.assert_array_equal(wanda(w, np.ones(w.shape[1])), magnitude(w))


@given(dense_matrices().filter(lambda w: w.shape[1] > 1), st.integers(-4, 4))
def test_wanda_ranks_as_magnitude_when_input_norms_are_equal(w, exponent):
    scores = wanda(w, np.full(w.shape[1], 2.0**exponent))
    np.testing.assert_array_equal(row_wise(scores, 0.25), row_wise(magnitude(w), 0.25))


def half_removed_error(scores: np.ndarray, w: np.ndarray, x: np.ndarray) -> float:
    return squared_norm(x @ (w - np.where(row_wise(scores, 0.5), w, 0)).T)


@pytest.mark.parametrize("seed", range(5))
def test_wanda_keeps_the_inputs_of_large_scale(seed):
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=(32, 64)), rng.normal(size=(512, 64))
    x[:, rng.choice(64, 4, replace=False)] *= 10
    by_inputs = half_removed_error(wanda(w, input_norms([x])), w, x)
    assert by_inputs < 0.3 * half_removed_error(magnitude(w), w, x)


def test_wanda_gives_weights_of_dead_inputs_zero():
    x = np.array([[1.0, 0.0], [2.0, 0.0]])
    assert not wanda(np.array([[0.1, 99.0]]), input_norms([x]))[:, 1].any()


@given(BATCHES.filter(lambda batches: any(len(batch) for batch in batches)))
def test_input_norms_streamed_are_the_norms_at_once(batches):
    together = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(
        input_norms(batches), np.linalg.norm(together, axis=0), rtol=1e-12, atol=1e-30
    )


def test_input_norms_are_roots_of_the_hessian_diagonal():
    x = np.random.default_rng(0).normal(size=(30, 5))
    hessian = 2 / 30 * x.T @ x
    np.testing.assert_allclose(input_norms([x]), np.sqrt(30 / 2 * hessian.diagonal()))


def test_input_norms_read_a_generator_once():
    batches = (np.full((2, 3), value) for value in (3.0, 4.0))
    np.testing.assert_allclose(input_norms(batches), np.sqrt(2 * (9 + 16)) * np.ones(3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_input_norms_are_float64_and_do_not_overflow(dtype):
    large = np.full((4, 2), np.finfo(dtype).max if dtype != np.float64 else 1e150, dtype)
    norms = input_norms([large])
    assert norms.dtype == np.float64
    np.testing.assert_allclose(norms, 2 * large[0].astype(np.float64))


@pytest.mark.parametrize("dtype", FLOATS)
def test_wanda_returns_new_memory(dtype):
    w = np.ones((2, 3), dtype)
    scores = wanda(w, np.ones(3))
    assert not np.shares_memory(scores, w)
    assert scores.dtype == np.float64


@pytest.mark.parametrize(
    ("w", "x_norm", "kind", "message"),
    [
        (np.ones((2, 3)), np.ones(2), ValueError, r"x_norm must have shape \(3,\), got \(2,\)"),
        (np.ones((2, 3)), -np.ones(3), ValueError, "x_norm must be at least 0, got 3 negative of"),
        (np.ones(3), np.ones(3), ValueError, "w must have 2 or 4 axes"),
        (np.ones((2, 3)), [1, 2, 3], TypeError, "x_norm must be an array, got list"),
        (np.ones((2, 3), int), np.ones(3), TypeError, "w must be float16 or float32 or float64"),
        (np.ones((2, 3, 2, 2)), np.ones(12), ValueError, r"x_norm must have shape \(3, 2, 2\)"),
    ],
)
def test_wanda_refuses_with_a_sentence(w, x_norm, kind, message):
    with pytest.raises(kind, match=f"wanda: {message}"):
        wanda(w, x_norm)


@pytest.mark.parametrize(
    ("batches", "kind", "message"),
    [
        ([], ValueError, "batches must hold an example, got none; run calibration inputs through"),
        ([np.ones((0, 3))], ValueError, "batches must hold an example, got none"),
        (np.ones((2, 3)), ValueError, r"batches\[0\] must have an axis of examples, got shape"),
        ([np.ones((2, 3)), np.ones((2, 4))], ValueError, r"batches\[1\] must have shape"),
        ([np.ones((2, 3), int)], TypeError, r"batches\[0\] must be float16 or float32 or"),
        ([np.array([[np.nan, 1.0]])], ValueError, "batches must be finite, got an infinite or NaN"),
        ([np.full((1, 2), 1e200)], ValueError, "batches must be finite, got an infinite or NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in square:RuntimeWarning")
def test_input_norms_refuse_with_a_sentence(batches, kind, message):
    with pytest.raises(kind, match=f"input_norms: {message}"):
        input_norms(batches)
