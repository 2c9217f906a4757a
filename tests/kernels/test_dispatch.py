"""Every row of the kernel table computes the product, and `matmul` picks the right row."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats import COO, CSR
from refimpl.kernels import KERNELS, Kernel, dispatch, matmul, matmul_transposed
from support.formats import FORMATS
from support.strategies import FLOATS, layouts, operands, products, values
from support.tolerance import assert_product_close, product_bound

ROWS = {
    "argvalues": KERNELS,
    "ids": [f"{kernel.format.__name__}-{kernel.name}" for kernel in KERNELS],
}
W = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, -1, 0]], np.float32)
X = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
WX = np.array([[13, 16], [0, 0], [-2, 0]], np.float32)  # by hand
A = CSR.from_dense(W)


@st.composite
def factors(draw, kernel, fmt):
    """A dense matrix and an x that the kernel can multiply, in a dtype that it computes in.

    Some batches are wider than any panel of registers.
    """
    a = draw(fmt.matrices(dtypes=(np.float32, np.float64)))
    batch = draw(st.integers(0, 5) | st.sampled_from([16, 31, 64, 65, 150]))
    shape = (a.shape[0 if kernel.transposed else 1], batch)[: kernel.x_ndim]
    x = draw(hnp.arrays(a.dtype, shape, elements=values(a.dtype.type)))
    return a, draw(layouts(x))


def check_kernel(kernel, phases=tuple(Phase)):
    """The battery: against the dense product, and against the format's clear version."""
    fmt = next(fmt for fmt in FORMATS if fmt.kind is kernel.format)

    @settings(derandomize=True, report_multiple_bugs=False, phases=phases)
    @given(factors(kernel, fmt))
    def battery(pair):
        dense, x = pair
        a = fmt.from_dense(dense)
        left = dense.T if kernel.transposed else dense
        out = np.full((left.shape[0], *x.shape[1:]), np.nan, a.dtype)  # none of it may survive
        kernel.run(a, x, out)
        assert_product_close(out, left, x)
        clear = CSR.from_dense(left) if kernel.transposed else a
        # Each of the two may be off by the bound.
        assert (np.abs(out - clear.matmul(x)) <= 2 * product_bound(left, x, a.dtype)).all()

    battery()


@pytest.mark.parametrize("kernel", **ROWS)
def test_kernel_computes_the_product(kernel):
    check_kernel(kernel)


def rows_of(data, indices, indptr, x):
    """The product of each row, the readable way, for the kernels with a planted fault."""
    for row in range(indptr.size - 1):
        of_row = slice(indptr[row], indptr[row + 1])
        yield row, data[of_row] @ x[indices[of_row]]


def correct(data, indices, indptr, x, out):
    for row, y in rows_of(data, indices, indptr, x):
        out[row] = y


def one_row_too_low(data, indices, indptr, x, out):
    out[...] = 0
    for row, y in rows_of(data, indices, indptr, x):
        out[(row + 1) % len(out)] = y


def last_value_lost(data, indices, indptr, x, out):
    correct(data, indices, np.minimum(indptr, max(data.size - 1, 0)), x, out)


def odd_value_lost(data, indices, indptr, x, out):
    even = np.where(np.arange(data.size) % 4 == 3, 0, data)
    correct(even, indices, indptr, x, out)


def out_not_zeroed(data, indices, indptr, x, out):
    for row, y in rows_of(data, indices, indptr, x):
        out[row] += y


def empty_rows_skipped(data, indices, indptr, x, out):
    for row, y in rows_of(data, indices, indptr, x):
        if indptr[row] < indptr[row + 1]:
            out[row] = y


def last_column_unread(data, indices, indptr, x, out):
    correct(data, np.minimum(indices, max(len(x) - 2, 0)), indptr, x, out)


def rounded_to_half(data, indices, indptr, x, out):
    correct(data.astype(np.float16), indices, indptr, x, out)


def row_of(function, x_ndim, module="numpy"):
    return Kernel(function.__name__, CSR, module, x_ndim, function)


@pytest.mark.parametrize("x_ndim", [1, 2])
def test_battery_passes_a_correct_kernel(x_ndim):
    check_kernel(row_of(correct, x_ndim))


@pytest.mark.parametrize("x_ndim", [1, 2])
@pytest.mark.parametrize(
    "wrong",
    [
        one_row_too_low,
        last_value_lost,
        odd_value_lost,
        out_not_zeroed,
        empty_rows_skipped,
        last_column_unread,
        rounded_to_half,
    ],
)
def test_battery_fails_a_wrong_kernel(wrong, x_ndim):
    with pytest.raises(AssertionError):
        check_kernel(row_of(wrong, x_ndim), phases=[Phase.generate])


@pytest.mark.parametrize("kernel", **ROWS)
def test_row_is_named_after_its_function(kernel):
    assert kernel.name == kernel.function.__name__


@given(st.data(), st.sampled_from(FLOATS), st.sampled_from(FORMATS))
def test_matmul_matches_dense_for_every_pair_of_dtypes(data, x_dtype, fmt):
    dense = data.draw(fmt.matrices())
    x = data.draw(operands(dense))
    with np.errstate(over="ignore"):
        x = x.astype(x_dtype)
    y = matmul(fmt.from_dense(dense), x)
    assert y.dtype == np.result_type(dense, x)
    assert_product_close(y, dense, x)


@given(products(dtypes=(np.float16,)))
def test_float16_is_rounded_once(pair):
    dense, x = pair
    once = matmul(CSR.from_dense(dense.astype(np.float32)), x.astype(np.float32))
    y = matmul(CSR.from_dense(dense), x)
    np.testing.assert_array_equal(y, once.astype(np.float16), strict=True)


@given(st.data(), st.sampled_from(FLOATS), st.sampled_from(FORMATS))
def test_matmul_transposed_matches_dense_for_every_format(data, x_dtype, fmt):
    dense = data.draw(fmt.matrices())
    x = data.draw(operands(dense.T))
    with np.errstate(over="ignore"):
        x = x.astype(x_dtype)
    y = matmul_transposed(fmt.from_dense(dense), x)
    assert y.dtype == np.result_type(dense, x)
    assert_product_close(y, dense.T, x)


def test_matmul_transposed_refuses_an_x_of_the_other_shape():
    match = r"^kernels\.matmul_transposed: x must have 3 rows, one for each row of the matrix, got"
    with pytest.raises(ValueError, match=match):
        matmul_transposed(A, X)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 7), (7, 1), (1, 9999), (9999, 1)])
@pytest.mark.parametrize("batch", [(), (0,), (1,), (3,)])
def test_matmul_handles_thin_and_empty_shapes(shape, batch):
    rng = np.random.default_rng(0)
    dense = rng.integers(-1, 2, shape).astype(np.float32)
    x = rng.integers(-3, 4, (shape[1], *batch)).astype(np.float32)
    np.testing.assert_array_equal(matmul(CSR.from_dense(dense), x), dense @ x, strict=True)


@pytest.mark.parametrize("x", [X, X[:, 0]])
def test_rows_without_entries_give_zero(x):
    y = matmul(CSR.from_dense(np.zeros((3, 4), np.float32)), x)
    np.testing.assert_array_equal(y, np.zeros((3, *x.shape[1:]), np.float32), strict=True)


UNALIGNED = np.zeros(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
UNALIGNED[...] = X
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1].copy()[::-1],
        X.astype(">f4"),
        UNALIGNED,
        READ_ONLY,
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "unaligned", "read-only"],
)
def test_matmul_reads_any_memory_layout(x):
    y = matmul(A, x)
    np.testing.assert_array_equal(y, WX, strict=True)
    assert y.flags.c_contiguous


def test_matmul_leaves_x_as_it_was():
    x = X.copy()
    matmul(A, x)
    np.testing.assert_array_equal(x, X)
    assert x.flags.writeable


@pytest.mark.parametrize("form", [COO, CSR])
def test_out_is_overwritten_and_returned(form):
    out = np.full(WX.shape, np.nan, np.float32)
    assert matmul(form.from_dense(W), X, out=out) is out
    np.testing.assert_array_equal(out, WX)


@pytest.mark.parametrize(
    "room",
    [
        np.zeros((3, 2), np.float32, order="F"),
        np.zeros((6, 4), np.float32)[::2, ::2],
    ],
    ids=["fortran", "strided"],
)
def test_out_may_have_any_memory_layout(room):
    assert matmul(A, X, out=room) is room
    np.testing.assert_array_equal(np.asarray(room), WX)


def test_float16_out_is_rounded_into():
    out = np.zeros(WX.shape, np.float16)
    assert matmul(CSR.from_dense(W.astype(np.float16)), X.astype(np.float16), out) is out
    np.testing.assert_array_equal(out, WX.astype(np.float16))


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_out_may_overlap_x(shift):
    room = np.zeros(6, np.float32)
    x, out = room[:4], room[shift : shift + 3]
    x[:] = X[:, 0]
    np.testing.assert_array_equal(matmul(A, x, out=out), WX[:, 0])


def infinite(value):
    return np.array([value, 1, 1, 1], np.float32)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (infinite(np.nan), [3, 0, np.nan]),
        (infinite(np.inf), [3, 0, np.inf]),
        (np.array([np.inf, 1, np.inf, 1], np.float32), [3, 0, np.nan]),  # inf - inf
        (np.array([1, 3e38, 1, 1], np.float32), [np.inf, 0, 2]),  # overflow
    ],
)
@pytest.mark.parametrize("batch", [None, 1, 20])
def test_nan_and_infinity_reach_only_the_rows_that_store_them(x, expected, batch):
    x = x if batch is None else np.tile(x[:, None], batch)
    y = matmul(A, x)
    wanted = np.array(expected, np.float32)
    np.testing.assert_array_equal(y, wanted if batch is None else np.tile(wanted[:, None], batch))


@pytest.mark.parametrize("stored", [np.nan, np.inf, -np.inf])
def test_stored_nan_and_infinity_come_out(stored):
    y = matmul(CSR.from_dense(np.array([[stored, 0.0], [0.0, 1.0]])), np.ones(2))
    np.testing.assert_array_equal(y, [stored, 1.0])


def test_matmul_uses_the_first_row_that_fits(monkeypatch):
    def spy(data, indices, indptr, x, out):  # noqa: ARG001 - the signature of a kernel
        out[...] = 42

    others = (row_of(spy, 1, module="cupy"), Kernel("spy", COO, "numpy", 1, spy))
    monkeypatch.setattr(dispatch, "KERNELS", (*others, row_of(spy, 2), *KERNELS))
    assert matmul(A, X).tolist() == [[42, 42]] * 3
    assert matmul(A, X[:, 0]).tolist() == [13, 0, -2]


def test_kernels_receive_inputs_they_cannot_write_to(monkeypatch):
    seen = []

    def spy(data, indices, indptr, x, out):
        seen.extend(array.flags.writeable for array in (data, indices, indptr, x, out))

    monkeypatch.setattr(dispatch, "KERNELS", (row_of(spy, 2),))
    matmul(CSR.from_dense(W.astype(np.float16)), X)  # the float16 values are converted first
    assert seen == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("a", "x", "error", "message"),
    [
        (W, X, TypeError, r"a must be a SparseMatrix, got ndarray; convert it with CSR"),
        (A, X.tolist(), TypeError, r"x must be an array, got list"),
        (A, X.astype(np.int64), TypeError, r"x must be float16 or .*, got int64"),
        (A, X[None], ValueError, r"x must have 1 or 2 axes, got shape \(1, 4, 2\)"),
        (A, X.T, ValueError, r"x must have 4 rows, .*, got shape \(2, 4\)"),
    ],
)
def test_matmul_refuses_what_it_cannot_multiply(a, x, error, message):
    with pytest.raises(error, match=rf"^kernels\.matmul: {message}"):
        matmul(a, x)


FROZEN_OUT = np.zeros((3, 2), np.float32)
FROZEN_OUT.flags.writeable = False


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0]], TypeError, r"out must be an array, got list"),
        (np.zeros((2, 3), np.float32), ValueError, r"out must have shape \(3, 2\), got \(2, 3\)"),
        (np.zeros((3, 2)), TypeError, r"out must be float32, .*, got float64; make it with"),
        (np.zeros((3, 2), ">f4"), TypeError, r"out must be float32, .*, got >f4; make it with"),
        (FROZEN_OUT, ValueError, r"out must be writeable, got a read-only array"),
    ],
)
def test_matmul_refuses_an_out_it_cannot_write(out, error, message):
    with pytest.raises(error, match=rf"^kernels\.matmul: {message}"):
        matmul(A, X, out=out)


def test_refused_out_is_left_as_it_was():
    out = np.ones((3, 2))
    with pytest.raises(TypeError, match="float32"):
        matmul(A, X, out=out)
    assert (out == 1).all()


def test_matmul_never_falls_back_from_the_gpu(monkeypatch):
    class ndarray:  # noqa: N801 - stands in for cupy.ndarray
        ndim, shape, dtype = 1, (4,), np.dtype(np.float32)

    ndarray.__module__ = "cupy"
    cupy = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(TypeError, match=r"x must be a NumPy array, got a CuPy array; "):
        matmul(A, ndarray())
