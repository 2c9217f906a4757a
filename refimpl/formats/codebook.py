"""Relative-index CSC with shared values: one byte an entry, half of it code, half of it gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, INDEX_DTYPES, bad_argument, check_array
from refimpl.formats.base import SparseMatrix, Stored, check_dense, check_numpy, check_operand
from refimpl.formats.coo import COO, check_coo
from refimpl.formats.relative import GAP_BITS, RelativeCSC, check_steps, pack_nibbles

CODE_MASK = 0b1111
MOST_VALUES = 15  # of the 16 codes, one is the fillers' zero


@final
@dataclass(frozen=True, eq=False, repr=False)
class CodebookCSC(SparseMatrix):
    """A `RelativeCSC` of at most 15 different values besides zero, in one byte an entry.

    Parameters
    ----------
    entries : ndarray of uint8, shape (nnz,)
        The value's code in the low four bits, its gap as in `RelativeCSC` in the high four.
        Code 0 is zero, the value of fillers; code c is ``codebook[c - 1]``.
    codebook : ndarray of float16, float32 or float64, shape (k,)
        At most 15 values.
    indptr : ndarray of int32 or int64, shape (n + 1,)
        Where each column begins in `entries`; starts at 0, never decreases, ends at nnz.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    ``with_values`` replaces the codebook, and so moves all weights of a code together, as a step
    of codebook training does. Fillers stay zero whatever it holds.

    Takes ``nnz + k * bytes of a value + (n + 1) * bytes of an index``, where nnz counts the
    fillers.

    References
    ----------
    Han et al. (2016), "EIE: efficient inference engine on compressed deep neural network",
    sections III-B and IV. The paper puts code and gap into one byte without numbering its bits.
    That the first of the 16 values is zero follows the authors' simulator (EIE-simulator,
    script/layer_dump.py).

    Examples
    --------
    >>> import numpy as np
    >>> dense = np.zeros((20, 1), np.float32)
    >>> dense[[2, 3, 19], 0] = 0.5, -1.5, 0.5
    >>> shared = CodebookCSC.from_dense(dense)
    >>> shared.codebook.tolist(), [f"{entry:02x}" for entry in shared.entries]
    ([-1.5, 0.5], ['22', '01', 'f2'])
    >>> shared.nbytes, RelativeCSC.from_dense(dense).nbytes
    (19, 22)
    """

    arrays: ClassVar = (
        Stored("entries", 1, (np.uint8,)),
        Stored("codebook", 1, FLOAT_DTYPES),
        Stored("indptr", 1, INDEX_DTYPES),
    )
    valued: ClassVar = "codebook"
    counted: ClassVar = "entries"

    entries: np.ndarray
    codebook: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store a dense matrix of at most 15 different values besides zero."""
        check_dense("CodebookCSC.from_dense", dense)
        return cls.from_coo(COO.from_dense(dense))

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Number the different values in increasing order; NaNs of different bits are apart."""
        check_coo("CodebookCSC.from_coo", coo)
        values = np.unique(_bits(coo.data[coo.data != 0])).view(coo.dtype)
        values = values[np.argsort(values)]  # np.sort may rewrite the bits of a NaN
        if values.size > MOST_VALUES:
            requirement = f"hold at most {MOST_VALUES} different nonzero values"
            advice = "round it to a codebook first, or store RelativeCSC"
            raise bad_argument("CodebookCSC", "the matrix", requirement, values.size, advice)
        return cls.from_relative(RelativeCSC.from_coo(coo), values)

    @classmethod
    def from_relative(cls, relative: RelativeCSC, codebook: np.ndarray) -> Self:
        """Replace each value by its number in a given codebook; nothing is rounded.

        Parameters
        ----------
        relative : RelativeCSC
            Of any values that `codebook` holds, and zeros.
        codebook : ndarray of the dtype of `relative`, shape (k,)
            At most 15 values, in any order.

        Returns
        -------
        CodebookCSC
            Of the same entries, fillers included.

        Raises
        ------
        TypeError, ValueError
            If `relative` is of another format, or `codebook` is too long, of another dtype, or
            lacks a value.

        Notes
        -----
        Compares each of the nnz values with each of the k, bit by bit.
        """
        where = "CodebookCSC.from_relative"
        if not isinstance(relative, RelativeCSC):
            actual, advice = type(relative).__name__, "use CodebookCSC.from_coo(a.to_coo())"
            requirement = "be a RelativeCSC"
            raise bad_argument(where, "relative", requirement, actual, advice, kind=TypeError)
        check_numpy(where, "codebook", codebook)
        _check_codebook(where, codebook, (relative.dtype.type,))
        is_value = _bits(relative.data)[:, None] == _bits(codebook)  # (nnz, k)
        is_value = np.column_stack([relative.data == 0, is_value])  # (nnz, 1 + k)
        is_held = is_value.any(axis=1)
        if not is_held.all():
            position = int(is_held.argmin())
            actual = f"no {relative.data[position]}, which is entry {position}"
            advice = "round the values to the codebook first"
            raise bad_argument(where, "codebook", "hold every value", actual, advice)
        gaps = (relative.steps() - 1).astype(np.uint8)
        entries = is_value.argmax(axis=1).astype(np.uint8) | gaps << GAP_BITS
        return cls(entries, codebook, relative.indptr, relative.shape)

    def to_relative(self) -> RelativeCSC:
        """Look up each value.

        Returns
        -------
        RelativeCSC
            The same entries, fillers included.
        """
        table = np.append(self.dtype.type(0), self.codebook)
        values = table[self.entries & CODE_MASK]
        gaps = pack_nibbles(self.entries >> GAP_BITS)
        return RelativeCSC(values, gaps, self.indptr, self.shape)

    def to_coo(self) -> COO:
        """Look up each value and add the gaps up to rows; a filler becomes a stored zero."""
        return self.to_relative().to_coo()

    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: look up each value, then as `RelativeCSC`.

        Parameters
        ----------
        x : ndarray of float16, float32 or float64, shape (n,) or (n, batch)
            Any memory layout.

        Returns
        -------
        ndarray, shape (m,) or (m, batch)
            As `RelativeCSC.matmul` returns it.

        Raises
        ------
        TypeError, ValueError
            If `x` is no array of floats or its first axis is not n long.
        """
        check_operand("CodebookCSC.matmul", self, x)
        return self.to_relative().matmul(x)

    def _check_structure(self, where: str) -> None:
        _check_codebook(where, self.codebook, FLOAT_DTYPES)
        codes, k = self.entries & CODE_MASK, self.codebook.size
        if (codes > k).any():
            position = int((codes > k).argmax())
            actual = f"{codes[position]} at position {position}"
            advice = "code 0 is zero, code c is codebook[c - 1]"
            raise bad_argument(where, "entries", f"hold codes in [0, {k}]", actual, advice)
        steps = (self.entries >> GAP_BITS) + np.int64(1)
        check_steps(where, "entries", steps, self.indptr, self.shape)


def _check_codebook(where: str, codebook: np.ndarray, dtypes: tuple[type, ...]) -> None:
    check_array(where, "codebook", codebook, ndim=1, dtypes=dtypes)
    if codebook.size > MOST_VALUES:
        requirement = f"hold at most {MOST_VALUES} values"
        advice = "four bits are 16 codes, one of them the fillers' zero"
        raise bad_argument(where, "codebook", requirement, codebook.size, advice)


def _bits(values: np.ndarray) -> np.ndarray:
    """The same bits as whole numbers: they are equal where the bits are."""
    return values.view(f"u{values.itemsize}")
