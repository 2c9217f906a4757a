"""The best values on a given mask, against a least-squares solver that sees the inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.prune import damp, input_hessian, least_squares_refit, reconstruction_error
from support.corruption import ONE_SENTENCE

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 7))


@st.composite
def layers(draw):
    """A weight, a mask of any kind, and more inputs than the weight has columns."""
    n_out, n_in = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    mix = np.eye(n_in) + rng.random((n_in, n_in))  # correlated
    x = rng.normal(size=(4 * n_in + 3, n_in)) @ mix
    return rng.normal(size=(n_out, n_in)), draw(hnp.arrays(bool, (n_out, n_in))), x


@given(layers())
def test_refit_is_the_least_squares_solution_of_every_row(layer):
    w, mask, x = layer
    new_w = least_squares_refit(w, mask, input_hessian([x]))
    for row, kept, new_row in zip(w, mask, new_w, strict=True):
        solution = np.linalg.lstsq(x[:, kept], x @ row, rcond=None)[0]
        np.testing.assert_allclose(new_row[kept], solution, rtol=1e-7, atol=1e-7)


@given(layers())
def test_refit_is_zero_where_the_mask_is_false(layer):
    w, mask, x = layer
    assert (least_squares_refit(w, mask, input_hessian([x]))[~mask] == 0).all()


@given(layers(), st.integers(0, 99))
def test_no_change_on_the_mask_is_better_than_the_refit(layer, seed):
    w, mask, x = layer
    hessian = input_hessian([x])
    best = least_squares_refit(w, mask, hessian)
    step = np.where(mask, 0.1 * np.random.default_rng(seed).normal(size=w.shape), 0)
    least = reconstruction_error(w, best, hessian)
    assert least <= reconstruction_error(w, best + step, hessian) * (1 + 1e-12)


@given(layers())
def test_refit_keeps_everything_when_nothing_goes(layer):
    w, mask, x = layer
    all_kept = np.ones_like(mask)
    np.testing.assert_array_equal(least_squares_refit(w, all_kept, input_hessian([x])), w)


def test_refit_needs_no_inverse_when_nothing_stays():
    w, hessian = np.ones((2, 3)), np.zeros((3, 3))
    assert not least_squares_refit(w, np.zeros((2, 3), bool), hessian).any()


def test_refit_keeps_the_dtype_and_leaves_its_arguments():
    w, mask = np.ones((2, 3), np.float32), np.eye(2, 3, dtype=bool)
    hessian = np.eye(3) + 0.5
    new_w = least_squares_refit(w, mask, hessian)
    assert new_w.dtype == np.float32
    assert w.all()


@given(layers())
def test_reconstruction_error_is_the_mean_squared_change_of_the_outputs(layer):
    w, mask, x = layer
    new_w = np.where(mask, w, 0)
    change = x @ (new_w - w).T
    expected = np.square(change).sum() / len(x)
    actual = reconstruction_error(w, new_w, input_hessian([x]))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_refit_refuses_a_mask_on_which_the_hessian_is_singular():
    w, mask = np.ones((1, 2)), np.ones((1, 2), bool)
    with pytest.raises(ValueError, match=r"positive definite.*damp") as refused:
        least_squares_refit(w, mask, np.ones((2, 2)))
    refused.match(ONE_SENTENCE)


TWO_OF_THREE = np.array([[True, True, False]])
SINGULAR_ON_TWO = {
    "dead inputs": np.diag([0.0, 0.0, 1.0]),
    "up to rounding": np.array([[1, 1, 0.5], [1, 1 + 1e-15, 0.4], [0.5, 0.4, 1]]),
    "of single precision": np.array([[1, 1, 0.5], [1, 1 + 2e-7, 0.4], [0.5, 0.4, 1]], np.float32),
    "larger than the others": np.diag([1e6, 1e6, 1.0]) + 1e6 * np.eye(3)[[1, 0, 2]] * [1, 1, 0],
}


@pytest.mark.parametrize("name", SINGULAR_ON_TWO)
def test_refit_refuses_what_only_rounding_tells_from_singular_and_names_enough_damping(name):
    w, hessian = np.ones((1, 3)), SINGULAR_ON_TWO[name]
    with pytest.raises(ValueError, match=r"positive definite.*damp") as refused:
        least_squares_refit(w, TWO_OF_THREE, hessian)
    damping = float(str(refused.value).partition("damp(hessian, ")[2].partition(")")[0])
    new_w = least_squares_refit(w, TWO_OF_THREE, damp(hessian, damping))
    assert np.abs(new_w).max() < 100


def test_refit_of_inputs_that_are_all_dead_says_so():
    with pytest.raises(ValueError, match="calibration inputs, which are all 0"):
        least_squares_refit(np.ones((1, 3)), TWO_OF_THREE, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.ones((2, 4))}, r"w must have shape \(any, 3\)"),
        ({"mask": np.ones((3, 2), bool)}, r"mask must have shape \(2, 3\)"),
        ({"hessian": np.ones((2, 3))}, "hessian must be square"),
    ],
)
def test_refit_refuses_shapes_that_do_not_fit(change, message):
    fitting = {"w": np.ones((2, 3)), "mask": np.ones((2, 3), bool), "hessian": np.eye(3)}
    with pytest.raises(ValueError, match=message):
        least_squares_refit(**(fitting | change))
