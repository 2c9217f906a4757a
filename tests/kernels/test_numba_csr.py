"""The compiled CSR kernels add exactly what the definition adds, and compile only when called."""

from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.sparse

from refimpl.formats import CSR
from refimpl.kernels import KERNELS, numba_csr, numba_csr_panels

CSR_KERNELS = [row for row in KERNELS if row.format is CSR and not row.transposed]
IN_ORDER = [row for row in CSR_KERNELS if row.function.__module__ == numba_csr.__name__]
IN_ORDER = [row for row in IN_ORDER if row.name != "csr_matvec_gathered"]
MATMULS = [kernel for kernel in CSR_KERNELS if kernel.x_ndim == 2]
NAMED = {"argvalues": CSR_KERNELS, "ids": [kernel.name for kernel in CSR_KERNELS]}


def random_csr(rng, shape, density, dtype=np.float32):
    kept = rng.random(shape) < density
    return CSR.from_dense(np.where(kept, rng.standard_normal(shape), 0).astype(dtype))


def random_x(rng, kernel, n_rows, dtype=np.float32):
    shape = (n_rows, 6)[: kernel.x_ndim]
    return rng.standard_normal(shape).astype(dtype)


def product(kernel, a, x):
    out = np.full((a.shape[0], *x.shape[1:]), np.nan, np.result_type(a.dtype, x.dtype))
    kernel.run(a, x, out)
    return out


@pytest.mark.parametrize("kernel", IN_ORDER, ids=[row.name for row in IN_ORDER])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_equals_the_definition_bit_for_bit(kernel, dtype):
    rng = np.random.default_rng(0)
    a = random_csr(rng, (40, 30), 0.3, dtype)
    x = random_x(rng, kernel, 30, dtype)
    np.testing.assert_array_equal(product(kernel, a, x), a.matmul(x), strict=True)


@pytest.mark.parametrize("kernel", **NAMED)
@pytest.mark.parametrize("row_length", range(10))
def test_kernel_counts_every_value_of_a_row(kernel, row_length):
    dense = np.zeros((3, 10), np.float32)
    dense[1, :row_length] = 2.0 ** np.arange(row_length)  # any lost value changes the sum
    x = np.ones((10, 6)[: kernel.x_ndim], np.float32)
    y = product(kernel, CSR.from_dense(dense), x)
    np.testing.assert_array_equal(y, dense @ x)


@pytest.mark.parametrize("kernel", **NAMED)
def test_kernel_reads_int64_indices(kernel):
    rng = np.random.default_rng(1)
    a = random_csr(rng, (8, 9), 0.5)
    wide = CSR(a.data, a.indices.astype(np.int64), a.indptr.astype(np.int64), a.shape)
    x = random_x(rng, kernel, 9)
    np.testing.assert_array_equal(product(kernel, wide, x), product(kernel, a, x))


@pytest.mark.parametrize("kernel", **NAMED)
def test_kernel_gives_the_same_bits_on_one_thread_and_on_all(kernel):
    rng = np.random.default_rng(2)
    a, x = random_csr(rng, (101, 30), 0.3), random_x(rng, kernel, 30)
    on_all, n_threads = product(kernel, a, x), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        on_one = product(kernel, a, x)
    finally:
        numba.set_num_threads(n_threads)
    np.testing.assert_array_equal(on_one, on_all)


@pytest.mark.parametrize("kernel", **NAMED)
def test_kernel_agrees_with_scipy_on_small_whole_numbers(kernel):
    rng = np.random.default_rng(3)
    peer = scipy.sparse.random_array((70, 50), density=0.2, random_state=rng, format="csr")
    peer.data = np.round(9 * peer.data - 4.5).astype(np.float64)
    x = rng.integers(-9, 10, (50, 6)[: kernel.x_ndim]).astype(np.float64)
    np.testing.assert_array_equal(product(kernel, CSR.from_scipy(peer), x), peer @ x)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing compiles with NUMBA_DISABLE_JIT")
@pytest.mark.parametrize("kernel", **NAMED)
def test_kernel_refuses_to_compile_for_a_read_only_out(kernel):
    a = CSR.from_dense(np.eye(3, dtype=np.float32))
    out = np.zeros((3, 3)[: kernel.x_ndim], np.float32)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="Cannot modify readonly array"):
        kernel.run(a, out, out)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing compiles with NUMBA_DISABLE_JIT")
def test_import_compiles_nothing():
    code = (
        "import gc, refimpl.kernels\n"
        "from numba.core.registry import CPUDispatcher\n"
        "compiled = [f for f in gc.get_objects() if isinstance(f, CPUDispatcher)]\n"
        "ours = [f for f in compiled if f.py_func.__module__.startswith('refimpl')]\n"
        "print(len(ours) > 5, sum(len(f.signatures) for f in ours))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True 0"


def test_kernels_compile_where_no_folder_can_be_written(monkeypatch):
    def njit_without_a_folder(*, parallel, cache=False):
        if cache:
            raise RuntimeError("cannot cache function 'f': no locator available")
        return numba.njit(parallel=parallel)

    monkeypatch.setattr(numba_csr, "njit", njit_without_a_folder)
    kernel, out = numba_csr.compiled(numba_csr_source()), np.zeros(2)
    kernel(np.ones(1), np.zeros(1, int), np.array([0, 0, 1]), np.full(1, 7.0), out)
    np.testing.assert_array_equal(out, [0, 7])


def test_import_needs_no_folder_to_write_to():
    code = (
        "from numba.core.caching import CacheImpl\n"
        "CacheImpl._locator_classes = []\n"
        "import refimpl.kernels"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def numba_csr_source():
    """The Python function behind a kernel."""
    return getattr(numba_csr.csr_matvec, "py_func", numba_csr.csr_matvec)


def test_every_kernel_of_the_file_has_a_row_in_the_table():
    in_files = {name for name in vars(numba_csr_panels) if name.startswith("csr_")}
    in_files |= {name for name in vars(numba_csr) if name.startswith("csr_")}
    assert in_files == {kernel.name for kernel in CSR_KERNELS}
