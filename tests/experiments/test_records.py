"""Results survive JSON bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.experiments.records import decode, encode

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES)
def test_encode_decode_roundtrip_is_exact(value):
    assert decode(encode(value)) == value


def test_encode_writes_a_list_of_numbers_in_one_line():
    assert encode([[1, 2.5, None], ["a", "b"]]) == (
        '[\n [1, 2.5, null],\n [\n  "a",\n  "b"\n ]\n]\n'
    )


@pytest.mark.parametrize("text", ["[\n1,  2\n]", "[", "]", '"[\n', "\\n[ 1 ]"])
def test_encode_leaves_texts_as_they_are(text):
    assert decode(encode([1, text, [text]])) == [1, text, [text]]


def test_encode_decode_keeps_nan():
    assert np.isnan(decode(encode([float("nan")]))[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32("nan"), np.array([np.inf])])
def test_encode_writes_valid_json_for(value):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(encode(value), parse_constant=refuse)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.bool_])
def test_encode_turns_an_array_into_its_numbers(dtype):
    array = np.array([[0, 1], [1, 0]], dtype)
    assert decode(encode(array)) == array.tolist()


@pytest.mark.parametrize(
    ("value", "place"),
    [({"a": [1, {2}]}, r"value\['a'\]\[1\]"), (object(), "value"), ({1: 2}, "value")],
)
def test_encode_rejects_other_kinds_and_says_where(value, place):
    with pytest.raises(TypeError, match=f"encode: {place} must be what JSON can hold, got"):
        encode(value)


@pytest.mark.parametrize("name", ["nan", "inf", "-inf"])
def test_encode_rejects_what_decode_would_take_for_a_number(name):
    with pytest.raises(ValueError, match=r"encode: value\['a'\] must not look like a written NaN"):
        encode({"a": {"float": name}})


def test_decode_rejects_half_a_text():
    with pytest.raises(ValueError, match="Unterminated string"):
        decode(encode({"a": 1})[:5])
