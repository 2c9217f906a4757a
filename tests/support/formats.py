"""The table of formats that every battery walks; a new format joins with one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

from refimpl.formats import (
    BSR,
    COO,
    CSC,
    CSR,
    Bitmap,
    CodebookCSC,
    NOfM,
    RelativeCSC,
    SparseMatrix,
    TwoFour,
)
from support.corruption import corruptions, is_bsr, is_coo, is_csc, is_csr
from support.judges_groups import is_n_of_m, is_two_four
from support.judges_relative import is_bitmap, is_codebook_csc, is_relative_csc
from support.strategies import (
    UINT_OF,
    bit_patterns,
    cropped,
    dense_matrices,
    few_values,
    grouped,
    tall,
)


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
    Format(
        TwoFour,
        is_two_four,
        partial(grouped, dense_matrices, (2, 4)),
        partial(grouped, bit_patterns, (2, 4)),
    ),
    Format(
        NOfM,
        is_n_of_m,
        partial(grouped, dense_matrices, (3, 4)),
        partial(grouped, bit_patterns, (3, 4)),
        options={"pattern": (3, 4)},
    ),
    Format(
        RelativeCSC,
        is_relative_csc,
        partial(tall, dense_matrices),
        partial(tall, bit_patterns),
    ),
    Format(
        CodebookCSC,
        is_codebook_csc,
        partial(few_values, partial(tall, dense_matrices), 15),
        partial(few_values, partial(tall, bit_patterns), 15),
    ),
    Format(Bitmap, is_bitmap),
]


def matrices_for(fmt: Format, other: Format) -> st.SearchStrategy[np.ndarray]:
    """Matrices that both can store: those that every format can, where both are particular."""
    particular = {fmt.matrices, other.matrices} - {dense_matrices}
    if len(particular) > 1:
        of_groups = partial(grouped, partial(tall, dense_matrices), (2, 4))
        return cropped(partial(few_values, of_groups, 15), (2, 4))()
    return next(iter(particular), dense_matrices)()


every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.kind.__name__)
every_dtype = pytest.mark.parametrize("dtype", UINT_OF, ids=lambda dtype: dtype.__name__)

DENSE = np.array([[1, 0, 2, 0], [0, 0, 0, 0], [3, 4, 0, 0], [0, 0, 0, 5]], np.float32)


def fields_of(matrix: SparseMatrix) -> dict[str, Any]:
    return {field.name: getattr(matrix, field.name) for field in dataclasses.fields(matrix)}


def arrays_of(matrix: SparseMatrix) -> dict[str, np.ndarray]:
    return {stored.name: getattr(matrix, stored.name) for stored in matrix.arrays}


@st.composite
def corrupted(draw, fmt: Format) -> dict[str, Any]:
    """The fields of a small matrix of whole numbers with one thing changed."""
    dense = draw(fmt.matrices(max_side=4, elements=st.sampled_from([0.0, 1.0, 2.0])))
    return draw(corruptions(fields_of(fmt.from_dense(dense))))
