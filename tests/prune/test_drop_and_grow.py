"""The two halves of an update: what goes, what comes, exact counts, ties to the lowest index."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.prune import (
    drop_smallest,
    drop_smallest_of_each_sign,
    grow_at_random,
    grow_by_gradient,
)
from support.strategies import saliencies

YES = np.ones(4, dtype=bool)


@st.composite
def layers(draw):
    """Weights, gradients and a mask of one shape, with ties, every dtype and layout."""
    shape = draw(st.sampled_from([(0,), (1,), (5,), (3, 4), (2, 3, 2)]))
    mask = draw(hnp.arrays(bool, shape))
    return draw(saliencies(shape)), mask, draw(saliencies(shape))


fractions = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.99])


def smallest_by_sorting(w, mask, fraction):
    """Oracle: sort the active weights in Python, drop the last ones of smallest size."""
    active = [(abs(float(w.ravel()[i])), -i) for i in np.flatnonzero(mask)]
    n_drop = int(np.floor(round(fraction * len(active), 9) + 0.5))
    dropped = [-i for _, i in sorted(active)[:n_drop]]
    kept = mask.flatten()
    kept[dropped] = False
    return kept.reshape(mask.shape)


@given(layers(), fractions)
def test_drop_smallest_is_a_sort_of_the_active_weights(layer, fraction):
    w, mask, _ = layer
    kept = drop_smallest(w, mask, fraction)
    np.testing.assert_array_equal(kept, smallest_by_sorting(w, mask, fraction))


@given(layers(), fractions)
def test_drop_by_sign_drops_the_smallest_of_each(layer, fraction):
    w, mask, _ = layer
    kept = drop_smallest_of_each_sign(w, mask, fraction)
    positive, negative = mask & (w >= 0), mask & (w < 0)
    expected = smallest_by_sorting(w, positive, fraction)
    expected |= smallest_by_sorting(w, negative, fraction)
    np.testing.assert_array_equal(kept, expected)


def test_drop_by_sign_and_by_magnitude_differ():
    w = np.array([3.0, 1.0, -0.1, -0.2])
    assert drop_smallest_of_each_sign(w, YES, 0.5).tolist() == [True, False, False, True]
    assert drop_smallest(w, YES, 0.5).tolist() == [True, True, False, False]


def test_drop_does_not_look_at_pruned_weights():
    w, mask = np.array([np.nan, 2.0, 1.0, -np.inf]), np.array([False, True, True, False])
    assert drop_smallest(w, mask, 0.5).tolist() == [False, True, False, False]


def test_an_active_zero_is_the_first_to_go():
    w = np.array([1.0, -0.0, -1.0, -3.0])
    assert drop_smallest_of_each_sign(w, YES, 0.5).tolist() == [True, False, False, True]


@given(layers(), st.data())
def test_grow_by_gradient_takes_the_largest_outside(layer, data):
    _, kept, gradient = layer
    outside = np.flatnonzero(~kept).tolist()
    n_grow = data.draw(st.integers(0, len(outside)))
    by_size = sorted(outside, key=lambda i: (-abs(float(gradient.ravel()[i])), i))
    expected = kept.flatten()
    expected[by_size[:n_grow]] = True
    grown = grow_by_gradient(kept, gradient, n_grow)
    np.testing.assert_array_equal(grown, expected.reshape(kept.shape))


def test_grow_does_not_look_at_gradients_of_what_is_kept():
    kept, gradient = np.array([True, False, False]), np.array([np.nan, 0.0, 1.0])
    assert grow_by_gradient(kept, gradient, 1).tolist() == [True, False, True]


@given(layers(), st.integers(0, 2**32), st.data())
def test_grow_at_random_adds_exactly_as_many_and_loses_none(layer, seed, data):
    kept = layer[1]
    n_grow = data.draw(st.integers(0, int((~kept).sum())))
    grown = grow_at_random(kept, n_grow, np.random.default_rng(seed))
    assert int(grown.sum()) == int(kept.sum()) + n_grow
    assert grown[kept].all()


def test_grow_at_random_draws_every_set_equally_often():
    kept, rng = np.array([False, True, False, False, False]), np.random.default_rng(0)
    drawn = [tuple(np.flatnonzero(grow_at_random(kept, 2, rng) & ~kept)) for _ in range(6000)]
    sets = list(combinations([0, 2, 3, 4], 2))
    counts = np.array([drawn.count(s) for s in sets])
    assert counts.sum() == 6000
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_squared < 20.5  # 5 degrees of freedom: chance 0.001


def test_halves_write_to_none_of_their_arguments():
    w, mask, gradient = np.arange(4.0), np.array([True, True, False, False]), np.ones(4)
    for array in (w, mask, gradient):
        array.flags.writeable = False
    assert not np.shares_memory(drop_smallest(w, mask, 0.0), mask)
    assert not np.shares_memory(drop_smallest_of_each_sign(w, mask, 0.0), mask)
    assert not np.shares_memory(grow_by_gradient(mask, gradient, 0), mask)
    assert not np.shares_memory(grow_at_random(mask, 0, np.random.default_rng(0)), mask)


@pytest.mark.parametrize("drop", [drop_smallest, drop_smallest_of_each_sign])
@pytest.mark.parametrize(
    ("w", "mask", "fraction", "kind", "message"),
    [
        ([1, 2, 3, 4], YES, 0.3, TypeError, "w must be an array, got list;"),
        (np.arange(4), YES, 0.3, TypeError, "w must be float16 or float32 or float64, got int64;"),
        (np.ones(4), np.ones(4), 0.3, TypeError, "mask must be bool, got float64;"),
        (np.ones(3), YES, 0.3, ValueError, r"mask must have shape \(3,\), got \(4,\);"),
        (np.ones(4), YES, 1.0, ValueError, r"fraction must be in \[0, 1\), got 1.0;"),
        (
            np.array([1, np.nan, 2, 3]),
            YES,
            0.3,
            ValueError,
            "active w must hold no NaN, got 1",
        ),
    ],
)
def test_drop_refuses_with_a_sentence(drop, w, mask, fraction, kind, message):
    with pytest.raises(kind, match=f"{drop.__name__}: {message}"):
        drop(w, mask, fraction)


@pytest.mark.parametrize(
    ("kept", "gradient", "n_grow", "kind", "message"),
    [
        (np.ones(4), np.ones(4), 0, TypeError, "kept must be bool, got float64;"),
        (~YES, np.ones(3), 1, ValueError, r"gradient must have shape \(4,\), got \(3,\);"),
        (~YES, None, 1, TypeError, "gradient must be an array, got NoneType;"),
        (YES, np.ones(4), 1, ValueError, "n_grow must be at most the 0 outside kept, got 1;"),
        (~YES, np.ones(4), -1, ValueError, "n_grow must be at least 0, got -1;"),
        (~YES, np.full(4, np.nan), 1, ValueError, "gradient must hold no NaN, got 4 of 4;"),
    ],
)
def test_grow_by_gradient_refuses_with_a_sentence(kept, gradient, n_grow, kind, message):
    with pytest.raises(kind, match=f"grow_by_gradient: {message}"):
        grow_by_gradient(kept, gradient, n_grow)


def test_grow_at_random_refuses_a_bare_seed():
    with pytest.raises(TypeError, match=r"grow_at_random: rng must be a numpy\.random\.Generator"):
        grow_at_random(~YES, 1, 0)
