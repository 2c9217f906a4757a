"""LAMP is its definition, ranks as magnitude does, and leaves every layer a weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import global_unstructured, keep_top_k
from refimpl.saliency import lamp, magnitude
from support.strategies import FLOATS, dense_matrices

EXTREMES = [
    pytest.param(np.array([60_000, 1e-7, -6e-8], np.float16), id="float16"),
    pytest.param(np.array([1e-45, -3e38, 2e38, 1e-30], np.float32), id="float32"),
    pytest.param(np.array([5e-324, 1e-323, -5e-324]), id="denormals"),
    pytest.param(np.array([1e308, -1.7e308, 1e200]), id="float64"),
]


def before(u: int, v: int, flat: list[float]) -> bool:
    """Whether the weight `v` is still there when `u` goes."""
    return (abs(flat[v]), -v) >= (abs(flat[u]), -u)


def lamp_by_definition(w: np.ndarray) -> list[Fraction]:
    """Oracle: n sums of up to n squares, in exact fractions; some weight is not zero."""
    flat = [Fraction(float(value)) for value in w.ravel()]
    sums = [sum(flat[v] ** 2 for v in range(w.size) if before(u, v, flat)) for u in range(w.size)]
    return [value**2 / total for value, total in zip(flat, sums, strict=True)]


def small_arrays(**options):
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)
    dtypes = st.sampled_from(FLOATS)
    return dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes, **options))


def whole_numbers(low: int):
    return small_arrays(elements=st.integers(low, 6).map(float))


@given(dense_matrices(max_side=6).filter(np.any))
def test_lamp_is_its_definition(w):
    exact = [float(score) for score in lamp_by_definition(w)]
    np.testing.assert_allclose(lamp(w).ravel(), exact, rtol=1e-13, atol=0)


@pytest.mark.parametrize("w", EXTREMES)
def test_lamp_neither_overflows_nor_underflows(w):
    exact = [float(score) for score in lamp_by_definition(w)]
    np.testing.assert_allclose(lamp(w), exact, rtol=1e-13, atol=1e-300)


def scores_in_float32(w: np.ndarray) -> np.ndarray:
    """Wrong: the sum from a weight upwards as the total less the sum below it."""
    squares = np.sort(w.ravel() ** 2)
    return squares / (squares.sum() - (np.cumsum(squares) - squares))


def test_lamp_does_not_cancel_where_float32_does():
    w = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    assert scores_in_float32(w).max() > 1.001
    assert lamp(w).max() == 1


@given(dense_matrices(dtypes=(np.float16, np.float32)), st.data())
def test_lamp_ranks_a_layer_as_magnitude_does(w, data):
    n_keep = data.draw(st.integers(0, w.size))
    by_size = keep_top_k(magnitude(w), n_keep)
    np.testing.assert_array_equal(keep_top_k(lamp(w), n_keep), by_size)


@given(dense_matrices().filter(lambda w: w.size))
def test_exactly_one_weight_scores_one_and_the_others_at_most_half(w):
    scores = np.sort(lamp(w).ravel())
    assert scores[-1] == 1
    assert (scores[:-1] <= 0.5).all()


@given(st.lists(whole_numbers(-6), min_size=1, max_size=4), st.data())
def test_one_ranking_by_lamp_empties_no_layer(layers, data):
    total = sum(w.size for w in layers)
    n_keep = data.draw(st.integers(len(layers), total))
    masks = global_unstructured([lamp(w) for w in layers], (total - n_keep) / total)
    assert all(mask.any() for mask in masks)


def test_one_ranking_by_magnitude_empties_one():
    masks = global_unstructured([np.full(4, 0.1), np.full(4, 10.0)], 0.5)
    assert [int(mask.sum()) for mask in masks] == [0, 4]


def remove_one_by_one(layers: list[list[int]]) -> list[Fraction]:
    """Oracle: each time drop the weight whose layer changes least, relative to what it holds."""
    changes = []
    while any(layers):
        least = {
            i: Fraction(min(layer) ** 2, sum(value**2 for value in layer))
            for i, layer in enumerate(layers)
            if layer
        }
        chosen = min(least, key=least.get)
        layers[chosen].remove(min(layers[chosen]))
        changes.append(least[chosen])
    return changes


@given(st.lists(whole_numbers(1), min_size=1, max_size=4))
def test_lamp_removes_what_changes_its_layer_least_one_by_one(layers):
    changes = remove_one_by_one([[int(value) for value in w.ravel()] for w in layers])
    scores = np.sort(np.concatenate([lamp(w).ravel() for w in layers]))
    np.testing.assert_allclose(scores, [float(change) for change in changes], rtol=1e-14)


@given(dense_matrices(dtypes=(np.float64,)), st.sampled_from([-4.0, 0.125, 2.0**300]))
def test_a_factor_on_the_layer_changes_no_score(w, factor):
    np.testing.assert_array_equal(lamp(factor * w), lamp(w))


@given(dense_matrices(max_side=5).filter(np.any), st.integers(1, 5))
def test_pruned_weights_change_no_other_score(w, n_zeros):
    wider = np.hstack([w, np.zeros((len(w), n_zeros), w.dtype)])
    np.testing.assert_array_equal(lamp(wider)[:, : w.shape[1]], lamp(w))
    assert not lamp(wider)[:, w.shape[1] :].any()


def test_of_equal_weights_the_first_scores_most():
    np.testing.assert_array_equal(lamp(np.array([2.0, -2.0, 2.0, -2.0])), [1, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize("dtype", FLOATS)
def test_in_a_layer_of_zeros_the_first_scores_one(dtype):
    np.testing.assert_array_equal(lamp(np.zeros((2, 2), dtype)), [[1, 0], [0, 0]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 1, 2)])
def test_lamp_is_float64_of_the_weights_shape(dtype, shape):
    scores = lamp(np.full(shape, -2, dtype))
    assert isinstance(scores, np.ndarray)
    assert (scores.dtype, scores.shape) == (np.float64, shape)


@given(dense_matrices(max_side=5))
def test_lamp_leaves_its_argument_alone(w):
    copy = w.copy()
    lamp(w)
    assert w.tobytes() == copy.tobytes()


@pytest.mark.parametrize(
    ("w", "kind", "message"),
    [
        ([1.0], TypeError, "lamp: w must be an array, got list; convert it with"),
        (np.array([1, 2]), TypeError, "lamp: w must be float16 or float32 or float64, got int64"),
        (np.array([1.0, np.nan]), ValueError, "lamp: w must be finite, got a largest magnitude of"),
        (np.array([1.0, -np.inf]), ValueError, "lamp: w must be finite, got a largest .+ of inf;"),
    ],
)
def test_lamp_refuses_with_a_sentence(w, kind, message):
    with pytest.raises(kind, match=message):
        lamp(w)
