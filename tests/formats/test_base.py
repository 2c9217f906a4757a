"""What the formats share: index widths, and the refusal of arrays from elsewhere."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from refimpl.formats import COO, SparseMatrix
from refimpl.formats.base import check_index_width, check_indices, check_operand, index_dtype

LIMIT = 2**31 - 1  # the largest int32


@pytest.fixture
def gpu_array(monkeypatch):
    """An object that looks like CuPy's array, on a machine without CuPy."""
    cupy = ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {"__module__": "cupy"})
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy.ndarray()


def test_sparse_matrix_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        SparseMatrix()


@pytest.mark.parametrize(
    ("shape", "nnz", "dtype"),
    [
        ((0, 0), 0, np.int32),
        ((LIMIT, 1), 0, np.int32),
        ((1, LIMIT), 0, np.int32),
        ((1, 1), LIMIT, np.int32),
        ((LIMIT + 1, 1), 0, np.int64),
        ((1, LIMIT + 1), 0, np.int64),
        ((1, 1), LIMIT + 1, np.int64),
    ],
)
def test_index_dtype_is_the_narrowest_that_counts(shape, nnz, dtype):
    assert index_dtype(shape, nnz) is dtype


@pytest.mark.parametrize(
    ("shape", "nnz"), [((LIMIT + 1, 1), 0), ((1, LIMIT + 1), 0), ((1, 1), LIMIT + 1)]
)
def test_index_width_refuses_more_than_it_can_count(shape, nnz):
    match = f"^COO: rows must count up to {LIMIT + 1}, got int32, at most {LIMIT}; use int64"
    with pytest.raises(ValueError, match=match):
        check_index_width("COO", shape, nnz, rows=np.zeros(0, np.int32))


def test_index_width_refuses_two_dtypes():
    match = "^CSR: indptr must have the dtype of indices, int32, got int64; convert it"
    with pytest.raises(TypeError, match=match):
        check_index_width("CSR", (1, 1), 0, indices=np.zeros(0, np.int32), indptr=np.zeros(2, int))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [-1, 3, LIMIT, -LIMIT - 1])
def test_indices_out_of_range_are_named(dtype, bad):
    indices = np.array([0, 2, bad, bad], dtype)
    match = rf"^CSR: indices must be in \[0, 3\), got {bad} at position 2; count"
    with pytest.raises(ValueError, match=match):
        check_indices("CSR", "indices", indices, 3)


def test_gpu_arrays_are_refused_at_construction(gpu_array):
    index = np.zeros(1, np.int32)
    with pytest.raises(
        TypeError, match=r"^COO: data must be a NumPy array, got a CuPy array; move"
    ):
        COO(index, index, gpu_array, (1, 1))


def test_gpu_arrays_are_refused_by_from_dense(gpu_array):
    with pytest.raises(
        TypeError, match=r"^COO.from_dense: dense must be a NumPy array, got a CuPy"
    ):
        COO.from_dense(gpu_array)


def test_gpu_operands_are_refused(gpu_array):
    with pytest.raises(TypeError, match=r"^COO.matmul: x must be a NumPy array, got a CuPy array"):
        COO.from_dense(np.eye(2)) @ gpu_array


def test_operand_of_the_right_length_passes():
    assert check_operand("COO.matmul", COO.from_dense(np.ones((2, 3))), np.ones((3, 0))) is None
