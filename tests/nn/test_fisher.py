"""The empirical Fisher matrix and its inverse, for every shape that gradients come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import empirical_fisher, inverse_fisher
from support.tolerance import assert_product_close

SIDES = st.tuples(st.integers(1, 6), st.integers(0, 6))


@given(hnp.arrays(np.float64, SIDES, elements=st.floats(-4, 4)))
def test_empirical_fisher_is_the_mean_of_outer_products(gradients):
    total = len(gradients) * empirical_fisher(gradients)
    assert_product_close(total, np.ascontiguousarray(gradients.T), gradients)


@given(hnp.arrays(np.float64, SIDES, elements=st.floats(-4, 4)), st.floats(1e-2, 1e2))
def test_inverse_fisher_times_the_damped_fisher_is_the_identity(gradients, damping):
    identity = np.eye(gradients.shape[1])
    damped = damping * identity + gradients.T @ gradients / len(gradients)
    product = inverse_fisher(gradients, damping) @ damped
    condition = 1 + float(np.square(gradients).sum()) / damping
    np.testing.assert_allclose(product, identity, rtol=0, atol=1e-14 * condition)


@given(hnp.arrays(np.float64, SIDES, elements=st.floats(-4, 4)), st.floats(1e-2, 1e2))
def test_inverse_fisher_is_what_woodbury_gets_from_a_matrix_of_examples(gradients, damping):
    n_examples, n = gradients.shape
    small = n_examples * np.eye(n_examples) + gradients @ gradients.T / damping
    correction = gradients.T @ np.linalg.solve(small, gradients) / damping**2
    actual = inverse_fisher(gradients, damping)
    condition = 1 + float(np.square(gradients).sum()) / damping
    tolerance = 1e-14 * condition / damping
    np.testing.assert_allclose(actual, np.eye(n) / damping - correction, rtol=0, atol=tolerance)


@given(hnp.arrays(np.float64, SIDES, elements=st.floats(-4, 4)), st.randoms())
def test_inverse_fisher_does_not_depend_on_the_order_of_the_examples(gradients, random):
    order = list(range(len(gradients)))
    random.shuffle(order)
    first, second = inverse_fisher(gradients, 1.0), inverse_fisher(gradients[order], 1.0)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("use", [empirical_fisher, lambda g: inverse_fisher(g, 1.0)])
def test_fisher_keeps_single_precision(use):
    assert use(np.ones((2, 3), np.float32)).dtype == np.float32


@pytest.mark.parametrize("use", [empirical_fisher, lambda g: inverse_fisher(g, 1.0)])
def test_fisher_leaves_the_gradients_as_they_were(use):
    gradients = np.random.default_rng(0).normal(size=(4, 3))
    before = gradients.tobytes()
    use(gradients)
    assert gradients.tobytes() == before


@pytest.mark.parametrize(
    ("gradients", "kind", "message"),
    [
        ({"a": np.ones(2)}, TypeError, r"be an array, got a mapping; make them one with as_vector"),
        (np.ones(3), ValueError, r"gradients must have 2 axes, got shape \(3,\)"),
        (np.ones((0, 3)), ValueError, r"gradients must have a row, got shape \(0, 3\); give one"),
        (np.ones((2, 3), int), TypeError, "gradients must be float32 or float64, got int64"),
    ],
)
@pytest.mark.parametrize("use", [empirical_fisher, lambda g: inverse_fisher(g, 1.0)])
def test_fisher_refuses_what_is_no_batch_of_gradients(use, gradients, kind, message):
    with pytest.raises(kind, match=message):
        use(gradients)


@pytest.mark.parametrize("damping", [0, -1.0, np.nan])
def test_inverse_fisher_refuses_to_go_undamped(damping):
    with pytest.raises(ValueError, match="inverse_fisher: damping must be finite and above 0"):
        inverse_fisher(np.ones((2, 3)), damping)
