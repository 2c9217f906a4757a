"""What the formats share: they are made of NumPy arrays, and say so."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from refimpl.formats import COO, SparseMatrix
from refimpl.formats.base import check_operand


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
