"""The compiled search never forms a matrix, and finds what the definition finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.kernels import numba_exact_obs
from refimpl.measure import pinned_threads
from refimpl.prune.exact_obs import remove_greedily
from support.removals import correlated_layer

SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 5))


def search(w, h_inv, n=0, m=None):
    m = w.shape[1] if m is None else m
    shape = len(w), w.shape[1] // m * (m - n)
    order, increase = np.full(shape, -1), np.full(shape, np.nan)
    numba_exact_obs.remove_greedily(w, h_inv, n, m, order, increase)
    return order, increase


@given(st.integers(0, 9999), SHAPES)
def test_compiled_search_finds_the_definitions_trace(seed, shape):
    n_out, groups, m, n = shape
    n = min(n, m)
    w, hessian = correlated_layer(seed, n_out, groups * m)
    h_inv = np.linalg.inv(hessian)
    order, increase = search(w, h_inv, n, m)
    wanted_order, wanted_increase = remove_greedily(w, h_inv, n, m)
    np.testing.assert_array_equal(order, wanted_order)
    np.testing.assert_allclose(increase, wanted_increase, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(0, 50), (2, 4), (1, 5), (0, 10), (25, 25)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_search_of_a_wide_layer_finds_the_definitions_trace(dtype, n, m):
    w, hessian = correlated_layer(0, 4, 50 if m != 4 else 52)
    w, h_inv = w.astype(dtype), np.linalg.inv(hessian).astype(dtype)
    order, increase = search(w, h_inv, n, m)
    wanted_order, wanted_increase = remove_greedily(w, h_inv, n, m)
    np.testing.assert_array_equal(order, wanted_order)
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(increase, wanted_increase, rtol=tolerance, atol=tolerance)


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=8))
def test_compiled_search_breaks_ties_as_the_definition_does(row):
    w, identity = np.array([row], float), np.eye(len(row))
    wanted_order, wanted_increase = remove_greedily(w, identity, 0, len(row))
    order, increase = search(w, identity)
    np.testing.assert_array_equal(order, wanted_order)
    np.testing.assert_array_equal(increase, wanted_increase)


def test_bits_do_not_depend_on_the_number_of_threads():
    w, hessian = correlated_layer(3, 7, 20)
    found = []
    for n in (1, 2):
        with pinned_threads(n):
            found.append([array.tobytes() for array in search(w, np.linalg.inv(hessian))])
    assert found[0] == found[1]


def test_a_diagonal_that_falls_below_zero_is_no_exception():
    order, increase = search(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert sorted(order[0].tolist()) == [0, 1]
    assert not increase[0, 1] >= 0
