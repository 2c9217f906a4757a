"""Named arrays become one vector, and come back bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.nn import as_arrays, as_vector, mlp
from support.strategies import FLOATS, layouts

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def named_arrays(draw, leading: tuple[int, ...]):
    dtype, shapes = draw(st.sampled_from(FLOATS)), draw(st.lists(SHAPES, min_size=1, max_size=4))
    return {
        f"layer{i}": draw(layouts(draw(hnp.arrays(dtype, (*leading, *shape)))))
        for i, shape in enumerate(shapes)
    }


@given(st.data(), st.lists(st.integers(0, 3), max_size=2).map(tuple))
def test_flattening_comes_back_bit_for_bit(data, leading):
    arrays = data.draw(named_arrays(leading))
    like = {name: np.empty(array.shape[len(leading) :]) for name, array in arrays.items()}
    back = as_arrays(as_vector(arrays, leading=len(leading)), like)
    assert list(back) == list(arrays)
    pairs = [(back[name], array) for name, array in arrays.items()]
    assert all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


@given(st.data())
def test_vector_lists_the_entries_in_order(data):
    arrays = data.draw(named_arrays(()))
    expected = [value for array in arrays.values() for value in array.ravel().tolist()]
    vector = as_vector(arrays)
    assert vector.shape == (sum(math.prod(array.shape) for array in arrays.values()),)
    np.testing.assert_array_equal(vector.tolist(), expected)


def test_vector_is_new():
    array = np.ones(3)
    assert not np.shares_memory(as_vector({"a": array}), array)


def test_parameters_serve_as_the_pattern():
    network = mlp([3, 2], rng=np.random.default_rng(0))
    vector = as_vector({name: p.value for name, p in network.named_parameters().items()})
    network.load_state(as_arrays(vector, network.named_parameters()))
    assert as_vector(network.state()).tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        ([np.ones(2)], TypeError, "as_vector: arrays must be a mapping, got list; pass a dict"),
        ({}, ValueError, "arrays must hold an array, got an empty mapping; add one"),
        ({"a": [1.0]}, TypeError, r"arrays\['a'\] must be an array, got list"),
        ({"a": np.arange(2)}, TypeError, r"arrays\['a'\] must be .*float64, got int64"),
        (
            {"a": np.ones((2, 3)), "b": np.ones((3, 3))},
            ValueError,
            r"arrays\['b'\] must begin with the axes \(2,\), got \(3, 3\); give every array",
        ),
    ],
)
def test_vector_refuses_what_does_not_fit(arrays, kind, message):
    with pytest.raises(kind, match=message):
        as_vector(arrays, leading=1)


@pytest.mark.parametrize(
    ("vector", "kind", "message"),
    [
        (np.ones(4), ValueError, r"as_arrays: vector must have shape \(3,\), got \(4,\)"),
        (np.ones((2, 2)), ValueError, r"vector must have shape \(2, 3\), got \(2, 2\)"),
        (np.arange(3), TypeError, "vector must be .*float64, got int64"),
    ],
)
def test_arrays_refuse_a_vector_of_another_length(vector, kind, message):
    with pytest.raises(kind, match=message):
        as_arrays(vector, {"a": np.ones((1, 2)), "b": np.ones(1)})
