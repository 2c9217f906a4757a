"""Stripes: what an N:M mask keeps of them, and every way to arrange the columns of a few."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import efficacy, kept_saliency, n_of_m, swap_channels
from refimpl.masks import stripes as module
from refimpl.masks.stripes import (
    divisions,
    gain,
    kept_by_stripe,
    saliency_columns,
    score_ways,
    stripes_in_order,
    swaps,
)
from support.strategies import FLOATS, layouts


@st.composite
def cases(draw) -> tuple[np.ndarray, int, int]:
    """Whole numbers, whose sums are exact: a linear layer or a convolution, and a pattern."""
    m = draw(st.integers(1, 5))
    kernel = draw(st.sampled_from([(), (1, 2), (2, 2)]))
    shape = (draw(st.integers(0, 3)), m * draw(st.integers(0, 3)), *kernel)
    saliency = draw(
        hnp.arrays(draw(st.sampled_from(FLOATS)), shape, elements=st.integers(-2000, 2000))
    )
    return draw(layouts(saliency)), draw(st.integers(1, m)), m


@given(cases())
def test_kept_saliency_is_what_the_mask_keeps(case):
    saliency, n, m = case
    kept = saliency[n_of_m(saliency, n, m)]
    assert kept_saliency(saliency, n, m) == kept.sum(dtype=np.float64)


@given(cases(), st.randoms())
def test_kept_saliency_does_not_see_the_order_of_stripes_or_within_them(case, shuffler):
    saliency, n, m = case
    stripes = np.arange(saliency.shape[1]).reshape(-1, m).tolist()
    shuffled = [shuffler.sample(s, m) for s in shuffler.sample(stripes, len(stripes))]
    order = np.array(shuffled, int).ravel()
    noisy = saliency / 3  # whose sums are not exact
    assert kept_saliency(noisy[:, order], n, m) == kept_saliency(noisy, n, m)


@pytest.mark.parametrize(("m", "together", "count"), [(1, 3, 1), (2, 2, 3), (4, 1, 1), (2, 3, 15)])
def test_divisions_are_all_and_each_once(m, together, count):
    ways = divisions("test", m, together)
    listed = [frozenset(map(frozenset, way)) for way in ways.places(slice(None)).tolist()]
    every = {
        frozenset(frozenset(order[i : i + m]) for i in range(0, len(order), m))
        for order in permutations(range(m * together))
    }
    assert len(listed) == count
    assert set(listed) == every


@pytest.mark.parametrize(
    ("m", "together", "n_ways", "n_stripes"),
    [(4, 2, 35, 70), (4, 3, 5775, 495), (8, 2, 6435, 12870)],
)
def test_divisions_are_as_many_as_the_formulas_say(m, together, n_ways, n_stripes):
    ways = divisions("test", m, together)
    assert ways.members.shape == (n_ways, together)
    assert ways.stripes.shape == (n_stripes, m)


@pytest.mark.parametrize("ways", [swaps(1), swaps(4), divisions("test", 4, 2)])
def test_ways_begin_with_no_change(ways):
    assert ways.places(0).ravel().tolist() == list(range(2 * ways.stripes.shape[1]))


@pytest.mark.parametrize("m", [1, 3])
def test_swaps_change_one_column_of_each_stripe(m):
    ways = {tuple(map(frozenset, way)) for way in swaps(m).places(slice(1, None)).tolist()}
    left, right = frozenset(range(m)), frozenset(range(m, 2 * m))
    assert ways == {(left - {i} | {j}, right - {j} | {i}) for i in left for j in right}


@pytest.mark.parametrize("part", [1, 40, 2**16])
def test_score_ways_is_what_each_way_keeps(part, monkeypatch):
    monkeypatch.setattr(module, "PART", part)  # few units at a time, or all
    saliency = np.random.default_rng(0).integers(0, 9, (3, 12)).astype(float)
    columns, ways = saliency_columns("test", saliency, 1, 2), swaps(2)
    units = np.array([[0, 1, 2, 3], [8, 3, 11, 0], [4, 5, 6, 7]])
    scored = np.concatenate([kept for _, kept in score_ways(columns, units, 1, ways)])
    expected = [
        [
            sum(saliency[:, unit[s]].max(axis=1).sum() for s in way)
            for way in ways.places(slice(None))
        ]
        for unit in units
    ]
    np.testing.assert_array_equal(scored, expected)


def test_gain_has_the_right_sign_where_sums_are_rounded():
    columns = np.array([[1.0], [2.0**-60], [3 * 2.0**-60]])
    before, after = np.array([[1], [0]]), np.array([[0], [2]])
    assert kept_by_stripe(columns, before, 1).sum() == kept_by_stripe(columns, after, 1).sum() == 1
    assert gain(columns, before, after, 1) == 2.0**-59


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)])
def test_saliency_columns_of_empty_matrices_are_empty(shape):
    columns = saliency_columns("test", np.zeros(shape), 2, 4)
    assert columns.shape == shape[::-1]
    assert stripes_in_order(columns, 4).shape == (shape[1] // 4, 4)


@pytest.mark.parametrize("search", [kept_saliency, efficacy, swap_channels])
@pytest.mark.parametrize(
    ("saliency", "kind", "message"),
    [
        (np.ones((2, 10)), ValueError, r"the number of inputs \(axis 1\) must be a multiple of 4"),
        (np.full((1, 8), np.nan), ValueError, "saliency must hold no NaN, got 8 of 8"),
        (np.full((1, 8), math.inf), ValueError, "saliency must have a finite sum"),
        (np.full((2, 8), 1e308), ValueError, r"saliency must have a finite sum, got entries of 1e"),
        (np.ones(8), ValueError, "saliency must have 2 or 4 axes"),
        (np.ones((2, 8), int), TypeError, "saliency must be float16 or float32 or float64"),
        ([[1.0, 2.0]], TypeError, "saliency must be an array"),
    ],
)
def test_bad_saliencies_are_refused_with_a_sentence(search, saliency, kind, message):
    rest = {kept_saliency: (2, 4), efficacy: (np.arange(8),), swap_channels: ()}[search]
    with pytest.raises(kind, match=f"{search.__name__}: {message}"):
        search(saliency, *rest)


@pytest.mark.parametrize(
    ("n", "m", "kind", "message"),
    [
        (0, 4, ValueError, r"n must be in \[1, 4\], got 0"),
        (5, 4, ValueError, r"n must be in \[1, 4\], got 5"),
        (1, 0, ValueError, "m must be at least 1, got 0"),
        (2.0, 4, TypeError, "n must be an integer, got 2.0"),
    ],
)
def test_bad_patterns_are_refused_with_a_sentence(n, m, kind, message):
    with pytest.raises(kind, match=f"kept_saliency: {message}"):
        kept_saliency(np.ones((2, 8)), n, m)


def test_too_many_divisions_are_refused_before_they_are_listed():
    with pytest.raises(ValueError, match="test: m must leave at most 10000 divisions of 2 stripes"):
        divisions("test", 16, 2)
