"""No kernel reads or writes out of bounds, for any matrix that could be constructed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from refimpl.formats import CSR
from refimpl.kernels import KERNELS, Kernel
from support.formats import FORMATS, corrupted
from support.guards import assert_guards_hold, guarded

every_kernel = pytest.mark.parametrize(
    "kernel",
    [kernel for kernel in KERNELS if kernel.module == "numpy"],
    ids=lambda kernel: f"{kernel.format.__name__}-{kernel.name}",
)


def check_bounds(kernel, max_examples, phases=tuple(Phase)):
    """Multiply what can be built of corrupt fields: exact, whatever lies around `x` and `out`."""
    fmt = next(fmt for fmt in FORMATS if fmt.kind is kernel.format)

    @settings(max_examples=max_examples, phases=phases, report_multiple_bugs=False)
    @given(corrupted(fmt), st.sampled_from([0, 1, 3, 16, 64, 65, 200]))
    def battery(fields, batch):
        try:
            a = fmt.kind(**fields)
        except (TypeError, ValueError):
            return  # test_every_format looks at what is refused
        dense = a.to_dense().astype(np.promote_types(a.dtype, np.float32))
        left = dense.T if kernel.transposed else dense
        shape = (left.shape[1], batch)[: kernel.x_ndim]
        x, _ = guarded(np.resize(np.arange(-3.0, 4.0), shape).astype(left.dtype))
        out, room = guarded(np.zeros((left.shape[0], *x.shape[1:]), left.dtype))
        kernel.run(a, x, out)
        np.testing.assert_array_equal(out, left @ x)  # whole numbers: no rounding
        assert_guards_hold(room)

    battery()


@every_kernel
@pytest.mark.parametrize("n_cases", [100, pytest.param(2_000, marks=pytest.mark.slow)])
def test_kernel_stays_in_bounds(kernel, n_cases):
    check_bounds(kernel, n_cases)


def correct(data, indices, indptr, x, out):
    for row in range(len(out)):
        of_row = slice(indptr[row], indptr[row + 1])
        out[row] = data[of_row] @ x[indices[of_row]]


def past_the_end(array):
    return as_strided(array, (array.size + 1,), (array.itemsize,))[-1:]


def reads_past_x(data, indices, indptr, x, out):
    correct(data, indices, indptr, x, out)
    out += 0 * past_the_end(x)


def writes_past_out(data, indices, indptr, x, out):
    correct(data, indices, indptr, x, out)
    past_the_end(out)[...] = 0


@pytest.mark.parametrize("x_ndim", [1, 2])
def test_battery_passes_a_correct_kernel(x_ndim):
    check_bounds(Kernel("correct", CSR, "numpy", x_ndim, correct), 100)


@pytest.mark.parametrize("x_ndim", [1, 2])
@pytest.mark.parametrize("wrong", [reads_past_x, writes_past_out])
def test_battery_fails_a_kernel_out_of_bounds(wrong, x_ndim):
    with pytest.raises(AssertionError):
        check_bounds(Kernel("wrong", CSR, "numpy", x_ndim, wrong), 100, phases=[Phase.generate])
