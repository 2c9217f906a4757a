"""The gradient at a pattern is the dense gradient, read where the pattern stores entries."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats import BSR, COO, CSC, CSR
from refimpl.kernels import SDDMM_KERNELS, SDDMMKernel, feature_rows, sddmm
from refimpl.kernels.sddmm import sddmm_by_example
from support.formats import FORMATS, every_format
from support.strategies import FLOATS, layouts, values
from support.tolerance import product_bound

ROWS = {
    "argvalues": SDDMM_KERNELS,
    "ids": [f"{kernel.format.__name__}-{kernel.name}" for kernel in SDDMM_KERNELS],
}
W = np.array([[5, 0, 7], [0, 8, 0]], np.float32)
DY = np.array([[1, 2], [3, -1]], np.float32)
X = np.array([[1, 0, 4], [2, 1, 0]], np.float32)
DW = np.array([7, 4, -1], np.float32)  # by hand: 1*1 + 3*2, 1*4 + 3*0, 2*0 - 1*1
A = CSR.from_dense(W)


def check_gradient(actual, dy, x, pattern):
    """Hold each number against the sum of the dense gradient where its value stands.

    Where that is, the dense matrix of the values 1, 2, 3, ... shows.
    """
    dense = dy.T.astype(np.float64) @ x.astype(np.float64)
    bound = product_bound(dy.T, x, actual.dtype)
    assert actual.shape == pattern.stored_values.shape
    numbers = np.arange(1.0, actual.size + 1)
    shown = pattern.with_values(numbers.reshape(actual.shape)).to_dense()
    for number, dw in zip(numbers, actual.ravel(), strict=True):
        stands = shown == number
        assert abs(dw - dense[stands].sum()) <= bound[stands].sum()


def activations(shape, dtype):
    """Awkward numbers, most of them equal, or numbers that all differ."""
    awkward = hnp.arrays(dtype, shape, elements=values(dtype.type))
    rngs = st.integers(0, 99).map(np.random.default_rng)
    return awkward | rngs.map(lambda rng: rng.uniform(-8, 8, shape).astype(dtype))


@st.composite
def factors(draw, fmt, dtypes=(np.float32, np.float64)):
    """A pattern, and dy and x that fit it; some batches are longer than a panel."""
    dense = draw(fmt.matrices(dtypes=dtypes, max_side=6))
    batch = draw(st.integers(0, 5) | st.sampled_from([15, 16, 17, 40]))
    dy, x = (draw(layouts(draw(activations((batch, n), dense.dtype)))) for n in dense.shape)
    return dy, x, fmt.from_dense(dense)


def check_kernel(kernel, phases=tuple(Phase)):
    """The battery: against the dense gradient at the stored places."""
    fmt = next(fmt for fmt in FORMATS if fmt.kind is kernel.format)

    @settings(derandomize=True, report_multiple_bugs=False, phases=phases)
    @given(factors(fmt))
    def battery(drawn):
        dy, x, pattern = drawn
        out = np.full(pattern.stored_values.shape, np.nan, dy.dtype)  # none of it may survive
        kernel.run(dy, x, pattern, out)
        check_gradient(out, dy, x, pattern)

    battery()


@pytest.mark.parametrize("kernel", **ROWS)
def test_kernel_computes_the_gradient_at_the_pattern(kernel):
    check_kernel(kernel)


def correct(indices, indptr, dy, x, out):
    rows = np.repeat(np.arange(len(dy)), np.diff(indptr))
    out[:] = (dy[rows] * x[indices]).sum(axis=1)


def one_row_too_low(indices, indptr, dy, x, out):
    correct(indices, indptr, np.roll(dy, 1, axis=0), x, out)


def one_column_too_far(indices, indptr, dy, x, out):
    correct(indices, indptr, dy, np.roll(x, -1, axis=0), out)


def fourth_entry_lost(indices, indptr, dy, x, out):
    correct(indices, indptr, dy, x, out)
    out[3::4] = 0


def last_entry_unwritten(indices, indptr, dy, x, out):
    kept = out[-1:].copy()
    correct(indices, indptr, dy, x, out)
    out[-1:] = kept


def out_not_zeroed(indices, indptr, dy, x, out):
    before = out.copy()
    correct(indices, indptr, dy, x, out)
    out += before


def second_panel_of_the_batch_lost(indices, indptr, dy, x, out):
    correct(indices, indptr, dy[:, :16], x[:, :16], out)


def mean_instead_of_sum(indices, indptr, dy, x, out):
    correct(indices, indptr, dy, x, out)
    out /= max(dy.shape[1], 1)


def rounded_to_half(indices, indptr, dy, x, out):
    correct(indices, indptr, dy.astype(np.float16), x.astype(np.float16), out)


def test_battery_passes_a_correct_kernel():
    check_kernel(SDDMMKernel("correct", CSR, correct))


@pytest.mark.parametrize(
    "wrong",
    [
        one_row_too_low,
        one_column_too_far,
        fourth_entry_lost,
        last_entry_unwritten,
        out_not_zeroed,
        second_panel_of_the_batch_lost,
        mean_instead_of_sum,
        rounded_to_half,
    ],
)
def test_battery_fails_a_wrong_kernel(wrong):
    with pytest.raises(AssertionError):
        check_kernel(SDDMMKernel(wrong.__name__, CSR, wrong), phases=[Phase.generate])


@pytest.mark.parametrize("kernel", **ROWS)
def test_row_is_named_after_its_function(kernel):
    assert kernel.name == kernel.function.__name__


@every_format
@given(st.data())
def test_gradient_matches_the_dense_one_in_every_format(fmt, data):
    dy, x, pattern = data.draw(factors(fmt, dtypes=FLOATS))
    dw = sddmm(dy, x, pattern)
    assert dw.dtype == dy.dtype
    check_gradient(dw, dy, x, pattern)


@every_format
@given(st.data())
def test_clear_version_matches_the_dense_gradient_in_every_format(fmt, data):
    dy, x, pattern = data.draw(factors(fmt))
    check_gradient(sddmm_by_example(dy, x, pattern), dy, x, pattern)


@pytest.mark.parametrize("form", [COO, CSR])
def test_gradient_by_hand(form):
    np.testing.assert_array_equal(sddmm(DY, X, form.from_dense(W)), DW, strict=True)


def test_csc_orders_the_gradient_by_column():
    assert sddmm(DY, X, CSC.from_dense(W)).tolist() == [7, -1, 4]


def test_bsr_gradient_covers_the_zeros_of_a_block():
    dw = sddmm(DY, X, BSR.from_dense(W, block_shape=(2, 1)))
    assert dw.tolist() == [[[7], [0]], [[3], [-1]], [[4], [8]]]


def test_stored_zeros_have_a_gradient():
    pattern = A.with_values(np.zeros(3, np.float32))
    np.testing.assert_array_equal(sddmm(DY, X, pattern), DW)


@pytest.mark.parametrize("dy_type", FLOATS)
@pytest.mark.parametrize("x_type", FLOATS)
def test_dtypes_meet_in_the_wider_one(dy_type, x_type):
    dw = sddmm(DY.astype(dy_type), X.astype(x_type), A)
    np.testing.assert_array_equal(dw, DW.astype(np.result_type(dy_type, x_type)), strict=True)


def test_float16_is_summed_in_float32():
    dy = np.array([[2048], [1], [1]], np.float16)  # 2048 + 1 is 2048 in float16
    dw = sddmm(dy, np.ones((3, 1), np.float16), CSR.from_dense(np.ones((1, 1))))
    assert dw.tolist() == [2050]


@pytest.mark.parametrize("batch", [0, 1, 16, 17])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 7), (7, 1), (1, 999), (999, 1)])
def test_thin_and_empty_shapes(shape, batch):
    rng = np.random.default_rng(0)
    w = rng.integers(0, 2, shape).astype(np.float32)
    dy, x = (rng.integers(-3, 4, (batch, n)).astype(np.float32) for n in shape)
    np.testing.assert_array_equal(sddmm(dy, x, CSR.from_dense(w)), (dy.T @ x)[w != 0], strict=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_only_the_entries_of_their_row(value):
    dy = DY.copy()
    dy[0, 1] = value
    np.testing.assert_array_equal(sddmm(dy, X + 1, A), [11, 8, value])


@pytest.mark.parametrize("pattern", [A, COO.from_dense(W)], ids=["kernel", "clear"])
def test_out_is_overwritten_and_returned(pattern):
    out = np.full(3, np.nan, np.float32)
    assert sddmm(DY, X, pattern, out=out) is out
    np.testing.assert_array_equal(out, DW)


def test_out_may_be_strided():
    room = np.zeros(6, np.float32)
    sddmm(DY, X, A, out=room[::2])
    assert room.tolist() == [7, 0, 4, 0, -1, 0]


@pytest.mark.parametrize("shared", ["dy", "x"])
def test_out_may_overlap_what_is_read_in_place(shared):
    rng = np.random.default_rng(0)
    given_ = {n: rng.integers(-3, 4, (16, 4)).astype(np.float32) for n in ("dy", "x")}
    pattern = CSR.from_dense(np.ones((4, 4), np.float32))
    dw = sddmm(*given_.values(), pattern)
    rows = feature_rows(given_[shared])
    rows.flags.writeable = True  # it is this test's own memory
    given_[shared] = rows.T
    sddmm(*given_.values(), pattern, out=rows.ravel()[:16])
    np.testing.assert_array_equal(rows.ravel()[:16], dw)


def test_factors_are_left_as_they_were():
    dy, x = DY.copy(), X.copy()
    sddmm(dy, x, A)
    np.testing.assert_array_equal(dy, DY)
    np.testing.assert_array_equal(x, X)


def test_the_first_row_that_fits_computes(monkeypatch):
    def spy(indices, indptr, dy, x, out):  # noqa: ARG001 - the signature of a kernel
        out[...] = 42

    table = (SDDMMKernel("spy", CSC, spy), *SDDMM_KERNELS)
    module = importlib.import_module("refimpl.kernels.sddmm")  # its name is the function's too
    monkeypatch.setattr(module, "SDDMM_KERNELS", table)
    assert sddmm(DY, X, CSC.from_dense(W)).tolist() == [42, 42, 42]
    assert sddmm(DY, X, A).tolist() == DW.tolist()


def test_kernels_receive_inputs_they_cannot_write_to():
    seen = []

    def spy(*arrays):
        seen.extend(array.flags.writeable for array in arrays)

    SDDMMKernel("spy", CSR, spy).run(feature_rows(DY).T[:16], X, A, np.zeros(3, np.float32))
    assert seen == [False, False, False, False, True]


FROZEN_OUT = np.zeros(3, np.float32)
FROZEN_OUT.flags.writeable = False


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"pattern": W}, TypeError, "pattern must be a SparseMatrix, got ndarray; pass the"),
        ({"dy": DY.tolist()}, TypeError, "dy must be an array, got list"),
        ({"dy": DY.astype(int)}, TypeError, "dy must be float16 or .*, got int64"),
        ({"dy": DY[:, :1]}, ValueError, r"dy must have shape \(any, 2\), got \(2, 1\)"),
        ({"x": X.T}, ValueError, r"x must have shape \(2, 3\), got \(3, 2\)"),
        ({"x": X[:1]}, ValueError, r"x must have shape \(2, 3\), got \(1, 3\)"),
        ({"out": np.zeros(2, np.float32)}, ValueError, r"out must have shape \(3,\), got \(2,\)"),
        ({"out": np.zeros(3)}, TypeError, "out must be float32, .*, got float64"),
        ({"out": FROZEN_OUT}, ValueError, "out must be writeable, got a read-only array"),
    ],
)
def test_what_does_not_fit_is_refused(changed, error, message):
    with pytest.raises(error, match=rf"^kernels\.sddmm: {message}"):
        sddmm(**{"dy": DY, "x": X, "pattern": A, **changed})


@given(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=70), st.data())
def test_feature_rows_are_the_transpose_and_zeros(shape, data):
    dtype = data.draw(st.sampled_from(FLOATS))
    a = data.draw(layouts(np.arange(np.prod(shape), dtype=dtype).reshape(shape)))
    rows = feature_rows(a)
    np.testing.assert_array_equal(rows[:, : shape[0]], a.T, strict=True)
    assert rows.shape == (shape[1], -(-shape[0] // 16) * 16)
    assert not rows[:, shape[0] :].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 16, 100])
def test_feature_rows_begin_on_cache_lines_and_are_read_only(dtype, batch):
    rows = feature_rows(np.ones((batch, 5), dtype))
    assert rows.ctypes.data % 64 == rows.strides[0] % 64 == 0
    assert rows.flags.c_contiguous
    assert not rows.flags.writeable


def test_feature_rows_are_not_copied_twice():
    rows = feature_rows(np.ones((32, 5), np.float32))
    assert np.shares_memory(feature_rows(rows.T), rows)


def test_feature_rows_of_another_byte_order_are_native():
    assert feature_rows(np.ones((16, 2), ">f4")).dtype == np.dtype("f4")


@pytest.mark.parametrize(
    ("activations", "error", "message"),
    [
        ([[1.0]], TypeError, "be an array, got list"),
        (np.ones(3), ValueError, r"have 2 axes, got shape \(3,\)"),
        (np.ones((2, 2), int), TypeError, "be float16 or float32 or float64, got int64"),
    ],
)
def test_feature_rows_refuse_what_is_no_batch(activations, error, message):
    with pytest.raises(error, match=rf"^kernels\.feature_rows: activations must {message}"):
        feature_rows(activations)


@pytest.mark.parametrize("function", [feature_rows, lambda x: sddmm(x, x, A)])
def test_arrays_on_a_gpu_are_refused(function, monkeypatch):
    class ndarray:  # noqa: N801 - stands in for cupy.ndarray
        ndim, shape, dtype = 2, (2, 2), np.dtype(np.float32)

    ndarray.__module__ = "cupy"
    cupy = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(TypeError, match="must be a NumPy array, got a CuPy array; move it"):
        function(ndarray())
