"""Channels go whole, in the number asked for, and never all of them."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.masks import blocks, channel_mask, channels, count_kept
from support.strategies import FLOATS, layouts

SPARSITIES = st.floats(0, 1, exclude_max=True)


@st.composite
def saliencies_and_axis(draw):
    """Arrays of whole numbers with one to four axes, any dtype and layout, and one axis."""
    shape = draw(hnp.array_shapes(max_dims=4, min_side=0, max_side=5))
    elements = st.integers(-3, 9).map(float)  # sums are exact, and often equal
    array = draw(hnp.arrays(draw(st.sampled_from(FLOATS)), shape, elements=elements))
    return draw(layouts(array)), draw(st.integers(0, len(shape) - 1))


def stable_sort_kept(saliency, sparsity, axis):
    """Oracle: sort all channels by their sums, equal ones in order of index; keep one or more."""
    slices = [np.take(saliency, i, axis).ravel().tolist() for i in range(saliency.shape[axis])]
    sums = [math.fsum(entries) for entries in slices]
    order = sorted(range(len(sums)), key=lambda i: (-sums[i], i))
    n_removed = math.floor(Fraction(repr(sparsity)) * len(sums) + Fraction(1, 2))
    return set(order[: max(1, len(sums) - n_removed)])


@given(saliencies_and_axis(), SPARSITIES)
def test_channels_equal_a_stable_sort_of_the_sums(case, sparsity):
    saliency, axis = case
    expected = np.zeros(saliency.shape, bool)
    for i in stable_sort_kept(saliency, sparsity, axis):
        np.moveaxis(expected, axis, 0)[i] = True
    mask = channels(saliency, sparsity, axis=axis)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, expected)


@given(saliencies_and_axis(), SPARSITIES)
def test_channels_go_whole(case, sparsity):
    saliency, axis = case
    mask = np.moveaxis(channels(saliency, sparsity, axis=axis), axis, 0)
    assert all(channel.all() or not channel.any() for channel in mask)


@given(st.integers(1, 40), SPARSITIES)
def test_channels_keep_an_exact_count_of_equal_channels(n, sparsity):
    kept = channels(np.ones(n), sparsity)
    assert int(kept.sum()) == max(count_kept(n, sparsity), 1)


def test_channels_give_ties_to_the_lowest_index():
    assert channels(np.array([1.0, 2.0, 1.0, 1.0]), 0.5).tolist() == [True, True, False, False]


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_channels_always_leave_one(n, sparsity):
    saliency = -np.arange(1.0, n + 1)
    mask = channels(saliency, sparsity)
    assert mask[0]
    assert int(mask.sum()) >= 1


def test_channels_of_an_empty_array_are_none():
    assert channels(np.ones((0, 3)), 0.5).shape == (0, 3)


@given(hnp.arrays(np.float64, (6, 3, 2, 2), elements=st.integers(0, 9).map(float)), SPARSITIES)
def test_channel_scores_and_weight_scores_choose_alike(saliency, sparsity):
    scores = saliency.sum(axis=(1, 2, 3))
    mask = channel_mask(channels(scores, sparsity), saliency.shape)
    np.testing.assert_array_equal(channels(saliency, sparsity), mask)


@given(saliencies_and_axis(), st.integers(0, 50).map(lambda percent: percent / 100))
def test_channels_are_blocks_as_long_as_the_weight(case, sparsity):
    saliency, axis = case
    assume(saliency.size and saliency.shape[axis] > 1)  # a single channel stays, a block does not
    block_shape = tuple(1 if i == axis else n for i, n in enumerate(saliency.shape))
    expected = blocks(saliency, block_shape, sparsity)
    np.testing.assert_array_equal(channels(saliency, sparsity, axis=axis), expected)


def test_input_channels_are_the_columns():
    saliency = np.array([[1.0, 5.0, 2.0], [1.0, 0.0, 2.0]])
    mask = channels(saliency, 0.34, axis=1)
    assert mask.tolist() == [[False, True, True], [False, True, True]]


def test_channels_serve_as_a_rule_through_partial():
    saliency = np.arange(12.0).reshape(4, 3)
    rule = partial(channels, sparsity=0.5)
    assert rule(saliency)[:, 0].tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_channels_do_not_overflow_the_dtype_of_their_argument(dtype):
    largest = np.finfo(dtype).max
    saliency = np.array([[largest, 0.0], [largest, largest]], dtype)
    assert channels(saliency, 0.5)[:, 0].tolist() == [False, True]


@given(saliencies_and_axis(), SPARSITIES)
def test_channels_leave_their_argument_alone(case, sparsity):
    saliency, axis = case
    before = saliency.copy()
    mask = channels(saliency, sparsity, axis=axis)
    assert saliency.tobytes() == before.tobytes()
    assert mask.flags.writeable
    assert not np.shares_memory(mask, saliency)


@given(saliencies_and_axis(), st.data())
def test_channel_mask_repeats_the_decision_along_its_axis(case, data):
    array, axis = case
    kept = data.draw(hnp.arrays(np.bool_, array.shape[axis]))
    mask = channel_mask(kept, array.shape, axis=axis)
    assert mask.shape == array.shape
    for place in np.ndindex(array.shape):
        assert mask[place] == kept[place[axis]]


def test_channel_mask_owns_its_memory():
    kept = np.array([True, True])
    mask = channel_mask(kept, (2, 3))
    mask[0] = False
    assert kept.all()
    assert mask[1].all()


@pytest.mark.parametrize(
    ("saliency", "options", "kind", "message"),
    [
        ([1.0], {}, TypeError, "channels: saliency must be an array, got list; convert"),
        (np.arange(3), {}, TypeError, "channels: saliency must be float16 or .+, got int64"),
        (np.array(1.0), {}, ValueError, r"channels: saliency must have an axis, got shape \(\);"),
        (np.ones(3), {"axis": 1}, ValueError, r"channels: axis must be in \[0, 0\], got 1;"),
        (np.ones(3), {"axis": -1}, ValueError, r"channels: axis must be in \[0, 0\], got -1;"),
        (np.ones(3), {"axis": None}, TypeError, "channels: axis must be an integer, got None;"),
        (
            np.array([[np.nan, 1.0], [1.0, 1.0]]),
            {},
            ValueError,
            "channels: saliency, summed over channels, must hold no NaN, got 1 of 2; look for",
        ),
    ],
)
def test_channels_refuse_with_a_sentence(saliency, options, kind, message):
    with pytest.raises(kind, match=message):
        channels(saliency, 0.5, **options)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, math.nan])
def test_channels_refuse_a_sparsity_out_of_range(sparsity):
    with pytest.raises(ValueError, match=r"^channels: sparsity must be in \[0, 1\), got"):
        channels(np.ones(4), sparsity)


@pytest.mark.parametrize(
    ("kept", "shape", "axis", "kind", "message"),
    [
        (np.ones(3, bool), (2, 3), 0, ValueError, r"kept must have shape \(2,\), got \(3,\);"),
        (np.ones(3), (3, 2), 0, TypeError, "channel_mask: kept must be bool, got float64;"),
        (np.ones((3, 2), bool), (3, 2), 0, ValueError, r"kept must have shape \(3,\), got \(3, 2"),
        (np.ones(3, bool), (3, 2), 2, ValueError, r"channel_mask: axis must be in \[0, 1\], got 2"),
        (np.ones(1, bool), (), 0, ValueError, "channel_mask: shape must have an axis, got shape"),
        (
            np.ones(3, bool),
            3,
            0,
            TypeError,
            "channel_mask: shape must be a tuple of .+, got 3;",
        ),
        (np.ones(3, bool), (3, -2), 0, ValueError, "a length in shape must be at least 0, got -2;"),
        (np.ones(3, bool), (3, 2.0), 0, TypeError, "a length in shape must be an integer, got 2.0"),
    ],
)
def test_channel_mask_refuses_with_a_sentence(kept, shape, axis, kind, message):
    with pytest.raises(kind, match=message):
        channel_mask(kept, shape, axis=axis)
