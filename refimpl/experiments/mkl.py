"""MKL's sparse product with its handle kept: what a program in C would call, without Python."""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument

# Constants of mkl_spblas.h.
FIRST_INDEX_IS_ZERO, GENERAL, ROW_MAJOR = 0, 20, 101
PLAIN, TRANSPOSED = 10, 11
MANY = 10_000  # products to come, for the hint


class _Descriptor(ctypes.Structure):
    """Kind of matrix; the two other fields matter to triangular ones only."""

    _fields_ = (("kind", ctypes.c_int), ("fill", ctypes.c_int), ("diagonal", ctypes.c_int))


class KeptHandle:
    """A float32 matrix that MKL has looked at once, to be multiplied many times.

    Parameters
    ----------
    library : path
        MKL's ``libmkl_rt``.
    a : scipy.sparse.csr_array or scipy.sparse.bsr_array of float32, with int32 indices
        The left factor; square blocks. Its arrays are used, not copied.
    n_columns : int
        Columns of the right factor, 1 for a vector: a hint.
    transposed : bool
        Whether to multiply with the transpose.

    Raises
    ------
    TypeError
        If `a`, or later `x`, is of another dtype or layout: MKL would read past its end.
    RuntimeError
        If MKL refuses a step.

    Notes
    -----
    The inspector, ``mkl_sparse_optimize``, runs here, with a hint that many products follow.
    `sparse_dot_mkl` never calls it, and makes a new handle for each product.
    """

    def __init__(self, library: Path, a: Any, n_columns: int, *, transposed: bool = False) -> None:
        if a.dtype != np.float32 or a.indices.dtype != np.int32 or a.indptr.dtype != np.int32:
            actual = f"{a.dtype} with {a.indices.dtype}"
            raise _wrong_kind("a", "be float32 with int32 indices", actual)
        self._mkl, self._a = ctypes.CDLL(str(library)), a
        self._operation = TRANSPOSED if transposed else PLAIN
        self._n_rows, self._n_terms = a.shape[::-1] if transposed else a.shape
        self._handle = ctypes.c_void_p()
        self._create()
        self._close = weakref.finalize(self, self._mkl.mkl_sparse_destroy, self._handle)
        self._inspect(n_columns)

    def _create(self) -> None:
        a, blocked = self._a, self._a.format == "bsr"
        sizes = [n // b for n, b in zip(a.shape, a.blocksize, strict=True)] if blocked else a.shape
        rows, cols, data = _address(a.indptr), _address(a.indices), _address(a.data)
        arrays = (rows, ctypes.c_void_p(rows.value + a.indptr.itemsize), cols, data)
        block = (ROW_MAJOR, *sizes, a.blocksize[0]) if blocked else sizes
        create = self._mkl[f"mkl_sparse_s_create_{a.format}"]
        _check("create", create(ctypes.byref(self._handle), FIRST_INDEX_IS_ZERO, *block, *arrays))

    def _inspect(self, n_columns: int) -> None:
        hint = (self._handle, self._operation, _Descriptor(GENERAL))
        if n_columns == 1:
            status = self._mkl.mkl_sparse_set_mv_hint(*hint, MANY)
        else:
            status = self._mkl.mkl_sparse_set_mm_hint(*hint, ROW_MAJOR, n_columns, MANY)
        _check("hint", status)
        _check("optimize", self._mkl.mkl_sparse_optimize(self._handle))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Multiply with a C-contiguous float32 `x`, into new memory."""
        sound = x.dtype == np.float32 and x.flags.c_contiguous and x.ndim in (1, 2)
        if not sound or len(x) != self._n_terms:
            requirement = f"be C-contiguous float32 with {self._n_terms} rows"
            raise _wrong_kind("x", requirement, f"{x.dtype} of shape {x.shape}")
        y = np.empty((self._n_rows, *x.shape[1:]), np.float32)
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        first = (self._operation, one, self._handle, _Descriptor(GENERAL))
        if x.ndim == 1:
            status = self._mkl.mkl_sparse_s_mv(*first, _address(x), zero, _address(y))
        else:
            n = x.shape[1]
            last = (ROW_MAJOR, _address(x), n, n, zero, _address(y), n)
            status = self._mkl.mkl_sparse_s_mm(*first, *last)
        _check("multiply", status)
        return y


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _wrong_kind(argument: str, requirement: str, actual: str) -> Exception:
    advice = "convert it first"
    return bad_argument("KeptHandle", argument, requirement, actual, advice, kind=TypeError)


def _check(step: str, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"MKL: the step {step} must end with status 0, got {status}")
