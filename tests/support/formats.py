"""The table of formats that every battery walks; a new format joins with one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

from refimpl.formats import BSR, COO, CSC, CSR, SparseMatrix
from support.corruption import is_bsr, is_coo, is_csc, is_csr
from support.strategies import UINT_OF, bit_patterns, cropped, dense_matrices


class Format(NamedTuple):
    """A format, its independent judge, the matrices that it can store, and whether SciPy has it.

    `matrices` and `bits` take the arguments of `dense_matrices` and `bit_patterns`; `options`
    go to every constructor, such as a block shape that divides 4.
    """

    kind: type[SparseMatrix]
    judge: Callable[..., bool]
    matrices: Callable[..., st.SearchStrategy[np.ndarray]] = dense_matrices
    bits: Callable[..., st.SearchStrategy[np.ndarray]] = bit_patterns
    in_scipy: bool = False
    options: Mapping[str, Any] = {}

    def from_dense(self, dense: np.ndarray) -> SparseMatrix:
        return self.kind.from_dense(dense, **self.options)

    def from_coo(self, coo: COO) -> SparseMatrix:
        return self.kind.from_coo(coo, **self.options)

    def from_scipy(self, theirs: Any) -> SparseMatrix:
        return self.kind.from_scipy(theirs, **self.options)


FORMATS = [
    Format(COO, is_coo, in_scipy=True),
    Format(CSR, is_csr, in_scipy=True),
    Format(CSC, is_csc, in_scipy=True),
    Format(
        BSR,
        is_bsr,
        cropped(dense_matrices, (2, 2)),
        cropped(bit_patterns, (2, 2)),
        in_scipy=True,
        options={"block_shape": (2, 2)},
    ),
]

every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.kind.__name__)
every_dtype = pytest.mark.parametrize("dtype", UINT_OF, ids=lambda dtype: dtype.__name__)

DENSE = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [3, 4, 0, 0], [0, 0, 0, 5]], np.float32)


def fields_of(matrix: SparseMatrix) -> dict[str, Any]:
    return {field.name: getattr(matrix, field.name) for field in dataclasses.fields(matrix)}


def arrays_of(matrix: SparseMatrix) -> dict[str, np.ndarray]:
    return {stored.name: getattr(matrix, stored.name) for stored in matrix.arrays}
