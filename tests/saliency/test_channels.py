"""Criteria for whole channels, against loops, SciPy and true changes of a loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from refimpl.saliency import (
    batch_norm_scale,
    channel_taylor,
    filter_l1,
    filter_l2,
    geometric_median,
    unit_norm,
)
from support.strategies import FLOATS, layouts, values

WEIGHT_CRITERIA = (filter_l1, filter_l2, geometric_median)


@st.composite
def weights(draw, *, max_filters: int = 6):
    """Weights of linear layers and of convolutions, any dtype and layout, some of no filter."""
    dtype, axes = draw(st.sampled_from(FLOATS)), draw(st.sampled_from([2, 4]))
    filters = draw(st.integers(0, max_filters))
    shape = (filters, *draw(st.tuples(*[st.integers(0, 3)] * (axes - 1))))
    return draw(layouts(draw(hnp.arrays(dtype, shape, elements=values(dtype)))))


def rows_of(w):
    """Oracle's view: every filter as a list of Python floats."""
    return [
        [float(w[place]) for place in np.ndindex(w.shape) if place[0] == k] for k in range(len(w))
    ]


def assert_scores(actual, expected):
    """Sums of a few dozen terms of one sign, in float64, where a square below 1e-308 is 0."""
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-150)


@given(weights())
def test_filter_l1_sums_the_magnitudes_of_a_filter(w):
    assert_scores(filter_l1(w), [math.fsum(map(abs, row)) for row in rows_of(w)])


@given(weights())
def test_filter_l2_is_the_length_of_a_filter(w):
    assert_scores(filter_l2(w), [math.hypot(*row) for row in rows_of(w)])


@given(weights())
def test_geometric_median_sums_the_distances_to_all_filters(w):
    rows = w.reshape(len(w), math.prod(w.shape[1:])).astype(np.float64)
    expected = cdist(rows, rows).sum(axis=1) if rows.size else np.zeros(len(w))
    assert_scores(geometric_median(w), expected)


@pytest.mark.parametrize("criterion", WEIGHT_CRITERIA)
@given(w=weights())
def test_weight_criteria_ignore_the_shape_of_a_filter(criterion, w):
    flat = w.reshape(len(w), math.prod(w.shape[1:]))
    np.testing.assert_array_equal(criterion(w), criterion(flat))


@pytest.mark.parametrize("criterion", WEIGHT_CRITERIA)
def test_weight_criteria_of_float16_do_not_overflow(criterion):
    w = np.array([[60000.0, 60000.0, 60000.0], [0.0, 0.0, 0.0]], np.float16)
    assert_scores(criterion(w), criterion(w.astype(np.float64)))
    assert np.isfinite(criterion(w)).all()


@pytest.mark.parametrize("criterion", [*WEIGHT_CRITERIA, batch_norm_scale])
def test_criteria_pass_nan_on_for_masks_to_refuse(criterion):
    w = np.array([[1.0, np.nan], [1.0, 2.0]])
    scores = criterion(w[0] if criterion is batch_norm_scale else w)
    assert np.isnan(scores).any()


def test_geometric_median_of_an_infinite_filter_is_nan():
    assert np.isnan(geometric_median(np.array([[np.inf, 0.0], [1.0, 0.0]]))[0])


LARGE_BUT_TWICE = np.array([[9.0, 0, 0], [9, 0, 0], [9, 0, 0], [0, 2, 0], [0, -2, 0]])


def test_geometric_median_and_norms_disagree_on_large_duplicates():
    distance, norm = geometric_median(LARGE_BUT_TWICE), filter_l2(LARGE_BUT_TWICE)
    assert set(np.argsort(distance, kind="stable")[:3]) == {0, 1, 2}  # go first
    assert set(np.argsort(norm, kind="stable")[:2]) == {3, 4}


@given(weights(max_filters=4), st.randoms())
def test_geometric_median_of_equal_filters_is_equal(w, shuffler):
    order = shuffler.sample([*range(len(w))] * 2, 2 * len(w))
    scores = geometric_median(w[order])
    for k in range(len(w)):
        assert len({scores[i] for i, source in enumerate(order) if source == k}) == 1


def geometric_median_by_products(w):
    """Wrong: the difference of large squares has lost the distance of filters that are close."""
    squares = (w * w).sum(axis=1)
    distances = squares[:, None] + squares - 2 * w @ w.T
    return np.sqrt(np.maximum(distances, 0)).sum(axis=1)


def test_filters_close_together_expose_distances_by_products():
    close = np.random.default_rng(0).integers(-9, 9, (5, 40)) / 2**10
    expected = geometric_median(close)
    np.testing.assert_array_equal(geometric_median(close + 2**20), expected)
    assert np.abs(geometric_median_by_products(close + 2**20) / expected - 1).max() > 0.1


@pytest.mark.parametrize("criterion", WEIGHT_CRITERIA)
@given(w=weights(), power=st.integers(-3, 3))
def test_weight_criteria_scale_with_the_weights(criterion, w, power):
    w, factor = np.rint(w).astype(np.float64), 2.0**power  # no square is too small for a float
    np.testing.assert_array_equal(criterion(w * factor), criterion(w) * factor)


@given(hnp.arrays(np.float32, st.integers(0, 9), elements=values(np.float32)))
def test_batch_norm_scale_is_the_scale_without_its_sign(gamma):
    scores = batch_norm_scale(gamma)
    np.testing.assert_array_equal(scores, [abs(float(value)) for value in gamma])
    assert scores.dtype == np.float64


@st.composite
def activations_and_gradients(draw):
    """Outputs of a linear layer or a convolution and gradients, at least one of everything."""
    n_axes = draw(st.sampled_from([2, 4]))
    shape = draw(st.tuples(*[st.integers(1, 4)] * n_axes))
    dtype = draw(st.sampled_from(FLOATS))
    elements = st.integers(-9, 9).map(float)  # products and sums are exact
    return tuple(draw(layouts(draw(hnp.arrays(dtype, shape, elements=elements)))) for _ in "ag")


@given(activations_and_gradients())
def test_channel_taylor_is_the_mean_size_of_the_mean_product(case):
    a, g = case
    expected = []
    for k in range(a.shape[1]):
        pairs = [zip(a[t, k].flat, g[t, k].flat, strict=True) for t in range(len(a))]
        sizes = [abs(sum(float(x) * float(y) for x, y in pair)) for pair in pairs]
        expected.append(sum(sizes) / a[0, k].size / len(a))
    assert_scores(channel_taylor(a, g), expected)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3, 2)])
def test_channel_taylor_is_the_true_change_of_a_linear_loss(shape):
    rng = np.random.default_rng(0)
    a, slope = rng.standard_normal(shape), rng.standard_normal(shape)

    def losses(outputs):
        return (outputs * slope).reshape(len(a), -1).sum(axis=1)  # one for each example

    changes = np.empty(shape[:2])
    for k in range(shape[1]):
        without = a.copy()
        without[:, k] = 0
        changes[:, k] = losses(without) - losses(a)
    positions = math.prod(shape[2:])
    expected = np.abs(changes).mean(axis=0) / positions
    np.testing.assert_allclose(channel_taylor(a, slope), expected, rtol=1e-12)


def test_channel_taylor_is_the_same_before_and_after_a_relu():
    rng = np.random.default_rng(0)
    before, dy = rng.standard_normal((7, 4)), rng.standard_normal((7, 4))
    after, dx = np.maximum(before, 0), np.where(before > 0, dy, 0)
    np.testing.assert_array_equal(channel_taylor(before, dx), channel_taylor(after, dy))


@given(activations_and_gradients(), st.integers(-3, 3))
def test_channel_taylor_does_not_see_a_factor_moved_to_the_next_layer(case, power):
    a, g = (array.astype(np.float64) for array in case)
    factor = 2.0**power
    np.testing.assert_array_equal(channel_taylor(a * factor, g / factor), channel_taylor(a, g))


def test_channel_taylor_of_float16_does_not_overflow():
    large = np.full((1, 1, 2, 2), 6e4, np.float16)
    assert channel_taylor(large, large)[0] == float(large[0, 0, 0, 0]) ** 2


def size_of_the_batch_sum(a, g):
    """Wrong: examples that would gain and examples that would lose cancel."""
    return np.abs((a * g).mean(axis=0))


def test_examples_of_opposite_sign_expose_a_sum_over_the_batch():
    a, g = np.ones((2, 2)), np.array([[3.0, 1.0], [-3.0, 1.0]])
    assert size_of_the_batch_sum(a, g).tolist() == [0, 1]
    assert channel_taylor(a, g).tolist() == [3, 1]


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(1e-3, 1e3)))
def test_unit_norm_has_length_one_and_keeps_the_ratios(saliency):
    scaled = unit_norm(saliency)
    np.testing.assert_allclose(math.hypot(*scaled), 1, rtol=1e-14)
    np.testing.assert_allclose(scaled / scaled[0], saliency / saliency[0], rtol=1e-14)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_unit_norm_of_scores_whose_squares_are_no_floats(size):
    scaled = unit_norm(np.array([3.0, 4.0]) * size)
    np.testing.assert_allclose(scaled, [0.6, 0.8], rtol=1e-14)


@pytest.mark.parametrize("n", [0, 3])
def test_unit_norm_of_zeros_is_zeros(n):
    np.testing.assert_array_equal(unit_norm(np.zeros(n)), np.zeros(n))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_unit_norm_of_what_is_not_finite_is_nan(bad):
    assert np.isnan(unit_norm(np.array([1.0, bad]))[1])


@pytest.mark.parametrize(
    ("criterion", "argument"),
    [(filter_l1, "w"), (filter_l2, "w"), (geometric_median, "w"), (batch_norm_scale, "gamma")],
)
def test_criteria_return_new_memory(criterion, argument):
    array = np.ones(3) if argument == "gamma" else np.ones((3, 2))
    assert not np.shares_memory(criterion(array), array)


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: filter_l1(np.ones(3)), ValueError, r"filter_l1: w must have 2 or 4 axes, got"),
        (lambda: filter_l2(np.ones((2, 2), int)), TypeError, "filter_l2: w must be float16 or"),
        (lambda: geometric_median([[1.0]]), TypeError, "geometric_median: w must be an array, got"),
        (lambda: batch_norm_scale(ONES), ValueError, "batch_norm_scale: gamma must have 1 axes"),
        (lambda: unit_norm(ONES), ValueError, "unit_norm: saliency must have 1 axes, got shape"),
        (
            lambda: channel_taylor(ONES, np.ones((2, 4))),
            ValueError,
            r"channel_taylor: gradients must have shape \(2, 3\), got \(2, 4\);",
        ),
        (
            lambda: channel_taylor(np.ones(3), np.ones(3)),
            ValueError,
            r"channel_taylor: activations must hold examples of channels, got shape \(3,\);",
        ),
        (
            lambda: channel_taylor(np.ones((0, 3)), np.ones((0, 3))),
            ValueError,
            r"activations must hold examples of channels, got shape \(0, 3\); give \(batch,",
        ),
        (
            lambda: channel_taylor(ONES.astype(int), ONES),
            TypeError,
            "channel_taylor: activations must be float16 or .+, got int64;",
        ),
    ],
)
def test_criteria_refuse_with_a_sentence(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
