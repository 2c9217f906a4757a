"""MKL with a kept handle multiplies as it should, and is never handed memory it would overrun."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from refimpl.experiments.mkl import KeptHandle
from refimpl.experiments.peers import mkl_library
from support.tolerance import assert_product_close

LIBRARY = mkl_library()
needs_mkl = pytest.mark.skipif(isinstance(LIBRARY, str), reason=str(LIBRARY))

CSR, BSR = scipy.sparse.csr_array, scipy.sparse.bsr_array


def weight(rng):
    return rng.standard_normal((12, 8), np.float32) * (rng.random((12, 8)) < 0.4)


@needs_mkl
@pytest.mark.parametrize("shape", [(), (1,), (5,), (64,)], ids=["vector", "1", "5", "64"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("options", [{}, {"blocksize": (4, 4)}], ids=["csr", "bsr"])
def test_kept_handle_computes_the_product(options, transposed, shape):
    rng = np.random.default_rng(0)
    w = weight(rng)
    a = (BSR if options else CSR)(w, **options)
    left = w.T if transposed else w
    x = rng.standard_normal((left.shape[1], *shape), np.float32)
    product = KeptHandle(LIBRARY, a, int(np.prod(shape)), transposed=transposed)
    assert_product_close(product(x), left, x)


@needs_mkl
def test_kept_handle_gives_new_memory_each_time():
    product = KeptHandle(LIBRARY, CSR(np.eye(4, dtype=np.float32)), 1)
    x = np.ones(4, np.float32)
    assert not np.shares_memory(product(x), product(x))


@pytest.mark.parametrize(
    ("values", "index"), [(np.float64, np.int32), (np.float32, np.int64)], ids=["float64", "int64"]
)
def test_kept_handle_rejects_a_matrix_of(values, index):
    a = CSR(np.eye(4, dtype=values))
    a.indices, a.indptr = a.indices.astype(index), a.indptr.astype(index)
    with pytest.raises(TypeError, match="KeptHandle: a must be float32 with int32 indices, got"):
        KeptHandle("nowhere", a, 1)


@needs_mkl
@pytest.mark.parametrize(
    "x",
    [
        np.ones((4, 2)),
        np.ones((3, 2), np.float32),
        np.ones((2, 4), np.float32).T,
        np.ones((4, 2, 2), np.float32),
    ],
    ids=["float64", "three rows", "Fortran order", "three axes"],
)
def test_kept_handle_rejects_a_right_factor_of(x):
    product = KeptHandle(LIBRARY, CSR(np.eye(4, dtype=np.float32)), 2)
    with pytest.raises(TypeError, match="KeptHandle: x must be C-contiguous float32 with 4 rows"):
        product(x)
