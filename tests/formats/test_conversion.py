"""Any format converts to any other, through COO, and may be given other values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.formats import CSR
from support.formats import DENSE, FORMATS, arrays_of, every_format, fields_of, matrices_for


@every_format
@given(data=st.data())
def test_to_coo_and_back_is_exact(fmt, data):
    matrix = fmt.from_dense(data.draw(fmt.bits()))
    back = fmt.from_coo(matrix.to_coo())
    assert {name: a.tobytes() for name, a in arrays_of(back).items()} == {
        name: a.tobytes() for name, a in arrays_of(matrix).items()
    }


@every_format
@pytest.mark.parametrize("other", FORMATS, ids=lambda fmt: fmt.kind.__name__)
@settings(max_examples=20)  # of each pair: a hundred pairs
@given(data=st.data())
def test_any_format_converts_to_any_other(fmt, other, data):
    dense = data.draw(matrices_for(fmt, other))
    converted = other.from_coo(fmt.from_dense(dense).to_coo())
    assert other.judge(**fields_of(converted))
    np.testing.assert_array_equal(converted.to_dense(), dense)


@every_format
@pytest.mark.parametrize("other", [DENSE, CSR.from_dense(DENSE)], ids=lambda a: type(a).__name__)
def test_from_coo_refuses_what_is_no_coo(fmt, other):
    match = f"coo must be a COO, got {type(other).__name__}; convert it with .to_coo"
    with pytest.raises(TypeError, match=rf"^{fmt.kind.__name__}\.from_coo: {match}"):
        fmt.from_coo(other)


@every_format
def test_with_values_keeps_the_places(fmt):
    matrix = fmt.from_dense(DENSE)
    doubled = matrix.with_values(2 * matrix.stored_values.astype(np.float64))
    np.testing.assert_array_equal(doubled.to_dense(), 2 * DENSE.astype(np.float64), strict=True)
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)
    doubled.check()


@every_format
@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        (np.zeros(99), ValueError, r"values must have shape \(.*\), got \(99,\)"),
        (np.zeros(1, int), TypeError, "values must be float16 .* got int64"),
        ([1.0], TypeError, "values must be an array, got list"),
    ],
)
def test_with_values_refuses(fmt, values, error, match):
    with pytest.raises(error, match=f"^{fmt.kind.__name__}.with_values: {match}"):
        fmt.from_dense(DENSE).with_values(values)
