"""Inverting a Hessian: the theorems that compensation rests on, and what cannot be inverted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.prune import damp, inverse_cholesky, inverse_hessian
from support.corruption import ONE_SENTENCE

DTYPES = (np.float32, np.float64)
ROUNDING = {np.float32: 1e-3, np.float64: 1e-9}


def hessian_of(seed, n, dtype=np.float64):
    """Well conditioned: as many inputs again as there are weights, and some more."""
    x = np.random.default_rng(seed).normal(size=(3 * n + 5, n))
    return (x.T @ x / len(x)).astype(dtype)


HESSIANS = st.builds(hessian_of, st.integers(0, 999), st.integers(1, 12))


@given(HESSIANS)
def test_inverse_cholesky_row_is_the_inverse_of_what_remains(hessian):
    """Row j of U, and its square on the diagonal, speak of H without the inputs before j."""
    u = inverse_cholesky(hessian)
    for j in range(len(hessian)):
        remaining = np.linalg.inv(hessian[j:, j:])
        np.testing.assert_allclose(u[j, j:], remaining[0] / np.sqrt(remaining[0, 0]), rtol=1e-8)


@given(HESSIANS)
def test_inverse_cholesky_is_the_upper_factor_of_the_inverse(hessian):
    u = inverse_cholesky(hessian)
    np.testing.assert_array_equal(u, np.triu(u))
    np.testing.assert_allclose(u.T @ u, np.linalg.inv(hessian), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_hessian_is_the_inverse(dtype):
    hessian = hessian_of(0, 20, dtype)
    inverse = inverse_hessian(hessian)
    assert inverse.dtype == dtype
    np.testing.assert_allclose(inverse @ hessian, np.eye(20), atol=ROUNDING[dtype])


def test_inverse_hessian_is_symmetric_to_the_last_bit():
    inverse = inverse_hessian(hessian_of(1, 30))
    np.testing.assert_array_equal(inverse, inverse.T)


@pytest.mark.parametrize("invert", [inverse_hessian, inverse_cholesky])
def test_inverse_leaves_the_hessian_as_it_is(invert):
    hessian = hessian_of(0, 5)
    before = hessian.copy()
    invert(hessian)
    np.testing.assert_array_equal(hessian, before)


@given(HESSIANS, st.integers(-30, 30))
def test_damp_scales_with_the_hessian(hessian, power):
    scale = 2.0**power
    np.testing.assert_array_equal(damp(scale * hessian), scale * damp(hessian))


def test_damp_adds_a_hundredth_of_the_mean_diagonal():
    hessian = hessian_of(0, 4)
    added = damp(hessian) - hessian
    np.testing.assert_allclose(added, 0.01 * np.trace(hessian) / 4 * np.eye(4), atol=1e-15)


def test_damp_gives_dead_inputs_a_diagonal_without_counting_them():
    hessian = np.zeros((3, 3))
    hessian[0, 0], hessian[2, 2] = 1.0, 5.0
    np.testing.assert_allclose(damp(hessian, 0.1).diagonal(), [1.3, 3.0, 5.3])


def test_damp_by_nothing_keeps_what_is_alive():
    hessian = hessian_of(0, 4)
    np.testing.assert_array_equal(damp(hessian, 0), hessian)


def test_damp_makes_any_inputs_invertible():
    x = np.random.default_rng(0).normal(size=(3, 9))  # 3 inputs, 9 weights
    x[:, 4] = 0
    hessian = damp(x.T @ x)
    np.testing.assert_allclose(inverse_hessian(hessian) @ hessian, np.eye(9), atol=1e-10)


SINGULAR = {
    "few inputs": np.ones((2, 2)),
    "equal inputs": np.kron(hessian_of(0, 3), np.ones((2, 2))),
    "dead input": np.diag([1.0, 0.0]),
    "indefinite": np.array([[1.0, 2.0], [2.0, 1.0]]),
    "depends up to rounding": np.array([[1.0, 1.0], [1.0, 1.0 + 1e-15]]),
}


@pytest.mark.parametrize("invert", [inverse_hessian, inverse_cholesky])
@pytest.mark.parametrize("name", SINGULAR)
def test_inverse_refuses_a_singular_hessian_and_says_how_to_damp(invert, name):
    with pytest.raises(ValueError, match=r"positive definite.*smallest eigenvalue.*damp") as no:
        invert(SINGULAR[name])
    no.match(ONE_SENTENCE)


@pytest.mark.parametrize("name", SINGULAR)
def test_the_damping_that_the_error_names_is_enough(name):
    with pytest.raises(ValueError, match="damp") as refused:
        inverse_hessian(SINGULAR[name])
    damping = float(str(refused.value).partition("damp(hessian, ")[2].partition(")")[0])
    assert np.isfinite(inverse_hessian(damp(SINGULAR[name], damping))).all()


@pytest.mark.parametrize("invert", [inverse_hessian, inverse_cholesky])
def test_inverse_refuses_a_hessian_of_zeros_and_names_the_inputs(invert):
    with pytest.raises(ValueError, match=r"positive definite.*which are all 0") as no:
        invert(np.zeros((2, 2)))
    no.match(ONE_SENTENCE)


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (np.ones((2, 3)), r"square, not empty, got shape \(2, 3\)"),
        (np.ones((0, 0)), "not empty"),
        (np.diag([1.0, np.nan]), "finite"),
        (np.diag([1.0, -1.0]), "diagonal of at least 0, got -1"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric, got entries that differ by 0.5"),
    ],
)
@pytest.mark.parametrize("function", [damp, inverse_hessian, inverse_cholesky])
def test_hessian_must_be_one(function, hessian, message):
    with pytest.raises(ValueError, match=message) as refused:
        function(hessian)
    refused.match(ONE_SENTENCE)


def test_damp_refuses_inputs_that_are_all_dead():
    with pytest.raises(ValueError, match="which are all 0"):
        damp(np.zeros((2, 2)))


@pytest.mark.parametrize("damping", [-0.1, np.nan, np.inf])
def test_damp_refuses_a_damping_below_zero(damping):
    with pytest.raises(ValueError, match="damping must be finite and at least 0"):
        damp(np.eye(2), damping)
