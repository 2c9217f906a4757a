"""The formats that SciPy has go there and back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.formats import DENSE, FORMATS
from support.strategies import operands
from support.tolerance import assert_product_close

every_scipy_format = pytest.mark.parametrize(
    "fmt", [fmt for fmt in FORMATS if fmt.in_scipy], ids=lambda fmt: fmt.kind.__name__
)


@every_scipy_format
@given(data=st.data())
def test_to_scipy_and_back_is_exact(fmt, data):
    matrix = fmt.from_dense(data.draw(fmt.matrices(dtypes=(np.float32, np.float64))))
    theirs = matrix.to_scipy()
    np.testing.assert_array_equal(theirs.toarray(), matrix.to_dense())
    np.testing.assert_array_equal(fmt.from_scipy(theirs).to_dense(), matrix.to_dense())


@every_scipy_format
def test_to_scipy_and_back_keeps_every_bit_of_a_value(fmt):
    matrix = fmt.from_dense(DENSE)
    bits = np.array([1 << 63, 0x7FF8_0000_0000_0007, 1], np.uint64)  # -0.0, a NaN, a subnormal
    values = np.resize(bits, matrix.stored_values.shape).view(np.float64)
    back = fmt.from_scipy(matrix.with_values(values).to_scipy())
    assert back.stored_values.tobytes() == values.tobytes()


@every_scipy_format
@given(data=st.data())
def test_scipy_computes_the_same_product(fmt, data):
    dense = data.draw(fmt.matrices(dtypes=(np.float32, np.float64)))
    x = data.draw(operands(dense))
    theirs = fmt.from_dense(dense).to_scipy().tocsr()  # its (1, 0) COO gives a scalar
    assert_product_close(theirs @ x, dense, x)


@every_scipy_format
def test_to_scipy_gives_away_writeable_copies(fmt):
    matrix = fmt.from_dense(DENSE)
    matrix.to_scipy().data[...] = 7
    np.testing.assert_array_equal(matrix.to_dense(), DENSE)


@every_scipy_format
def test_to_scipy_refuses_half_precision(fmt):
    half = fmt.from_dense(DENSE.astype(np.float16))
    match = f"^{fmt.kind.__name__}.to_scipy: data must be float32 or float64, got float16"
    with pytest.raises(TypeError, match=match):
        half.to_scipy()
