"""The order of channels: Pool and Yu's measure of it, and layers that change it together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.masks import (
    efficacy,
    kept_saliency,
    n_of_m,
    permute_inputs,
    permute_outputs,
    unstructured,
)

POOL_AND_YU = np.random.RandomState(1).rand(128, 64)


def published_efficacy(kept: float) -> float:
    return (kept - 2852.377) / (3042.332 - 2852.377)


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers, whose products and sums are exact in any order."""
    return rng.integers(-5, 6, shape).astype(float)


@pytest.mark.parametrize(
    ("kept", "published"),
    [
        (lambda s: s.sum(), 4083.169),
        (lambda s: s[unstructured(s, 0.5)].sum(), 3060.238),
        (lambda s: kept_saliency(s, 32, 64), 3042.332),
        (lambda s: s[n_of_m(s, 32, 64)].sum(), 3042.332),
        (lambda s: kept_saliency(s, 2, 4), 2852.377),
        (lambda s: s[n_of_m(s, 2, 4)].sum(), 2852.377),
    ],
)
def test_permute_reproduces_pool_and_yu_start_numbers(kept, published):
    assert f"{kept(POOL_AND_YU):.3f}" == f"{published:.3f}"


@pytest.mark.parametrize("seed", range(3))
def test_efficacy_is_the_published_ratio(seed):
    order = np.random.default_rng(seed).permutation(64)
    permuted = POOL_AND_YU[:, order]
    kept = permuted[n_of_m(permuted, 2, 4)].sum()
    assert abs(efficacy(POOL_AND_YU, order) - published_efficacy(kept)) < 1e-5  # of three decimals


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (4, 8)])
def test_efficacy_of_the_given_order_is_zero(n, m):
    assert efficacy(POOL_AND_YU, np.arange(64), n=n, m=m) == 0


@pytest.mark.parametrize(
    ("n", "order"),
    [(1, [0, 2, 3, 4, 1, 5, 6, 7]), (2, [0, 1, 4, 5, 2, 3, 6, 7]), (3, [0, 1, 2, 4, 3, 5, 6, 7])],
)
def test_efficacy_is_one_where_stripes_lose_nothing(n, order):
    saliency = np.array([[4.0, 3, 2, 1, 0, 0, 0, 0]])
    assert efficacy(saliency, np.array(order), n=n) == 1


def test_efficacy_of_a_worse_order_is_negative():
    saliency = np.array([[4.0, 3, 2, 0, 1, 0, 0, 0]])  # keeps 8 of 10
    assert efficacy(saliency, np.array([0, 1, 2, 4, 3, 5, 6, 7])) == (7 - 8) / (10 - 8)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (1, 4), (50, 4)])
def test_efficacy_without_a_loss_is_refused(shape):
    saliency = np.random.default_rng(0).random(shape)  # sums in two orders would differ
    with pytest.raises(ValueError, match="efficacy: saliency must lose something to the stripes"):
        efficacy(saliency, np.arange(shape[1]))


@given(st.integers(0, 2**32 - 1))
def test_permuted_layers_with_relu_and_batchnorm_compute_the_same(seed):
    rng = np.random.default_rng(seed)
    x, w1, w2 = integers(rng, 3, 4), integers(rng, 8, 4), integers(rng, 2, 8)
    vectors = [*integers(rng, 4, 8), rng.integers(1, 9, 8).astype(float)]
    order = rng.permutation(8)

    def network(w1, w2, bias, mean, scale, shift, variance):
        z = (x @ w1.T + bias - mean) / np.sqrt(variance) * scale + shift
        return np.maximum(np.rint(z), 0) @ w2.T  # rounded, so that the sum is exact

    permuted = (permute_outputs(array, order) for array in vectors)
    same = network(permute_outputs(w1, order), permute_inputs(w2, order), *permuted)
    np.testing.assert_array_equal(same, network(w1, w2, *vectors))


def test_permuted_layers_without_the_bias_compute_something_else():
    w1, bias, w2 = np.eye(2), np.array([0.0, 1.0]), np.array([[1.0, 10.0]])
    order = np.array([1, 0])
    wrong = (permute_outputs(w1, order) @ np.ones(2) + bias) @ permute_inputs(w2, order).T
    assert wrong.tolist() != ((w1 @ np.ones(2) + bias) @ w2.T).tolist()


def test_permuted_convolutions_compute_the_same():
    rng = np.random.default_rng(0)
    images, w1, w2 = integers(rng, 2, 3, 4, 4), integers(rng, 8, 3, 1, 1), integers(rng, 5, 8, 4, 4)
    order = rng.permutation(8)

    def network(w1, w2):
        hidden = np.maximum(np.einsum("oi,bihw->bohw", w1[:, :, 0, 0], images), 0)
        return np.einsum("oihw,bihw->bo", w2, hidden)

    same = network(permute_outputs(w1, order), permute_inputs(w2, order))
    np.testing.assert_array_equal(same, network(w1, w2))


@pytest.mark.parametrize("permute", [permute_inputs, permute_outputs])
def test_permuted_arrays_are_new(permute):
    weight = np.arange(9.0).reshape(3, 3)
    assert not np.shares_memory(permute(weight, np.arange(3)), weight)


@pytest.mark.parametrize("permute", [permute_inputs, permute_outputs])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_permutations_are_undone_by_their_argsort(permute, dtype):
    weight = np.arange(12.0).reshape(3, 4)[:, :3]
    order = np.array([2, 0, 1], dtype)
    back = permute(permute(weight, order), np.argsort(order))
    np.testing.assert_array_equal(back, weight)


@pytest.mark.parametrize("permute", [efficacy, permute_inputs, permute_outputs])
@pytest.mark.parametrize(
    ("permutation", "kind", "message"),
    [
        ([0, 1, 1, 2], ValueError, "hold each of 0 to 3 once, got 1 in place 2 when sorted"),
        ([1, 2, 3, 4], ValueError, "hold each of 0 to 3 once, got 1 in place 0 when sorted"),
        ([-1, 0, 1, 2], ValueError, "hold each of 0 to 3 once, got -1 in place 0 when sorted"),
        ([0, 1, 2], ValueError, r"have shape \(4,\)"),
        ([0.0, 1, 2, 3], TypeError, "be int32 or int64, got float64"),
    ],
)
def test_what_is_no_permutation_is_refused(permute, permutation, kind, message):
    with pytest.raises(kind, match=f"{permute.__name__}: permutation must {message}"):
        permute(np.eye(4), np.array(permutation))


def test_permute_inputs_refuses_a_vector():
    with pytest.raises(ValueError, match=r"permute_inputs: weight must have 2 axes or more, got"):
        permute_inputs(np.ones(3), np.arange(3))


def test_permute_outputs_refuses_a_scalar():
    with pytest.raises(ValueError, match="permute_outputs: array must have an axis, got shape"):
        permute_outputs(np.ones(()), np.arange(1))
