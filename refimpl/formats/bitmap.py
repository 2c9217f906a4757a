"""Bitmap, one bit a position that says whether a value is stored there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.coo import COO, check_coo
from refimpl.formats.indices import index_dtype


@final
@dataclass(frozen=True, eq=False, repr=False)
class Bitmap(SparseMatrix):
    """A sparse matrix as a mask of one bit an entry, and the values where it is 1.

    Parameters
    ----------
    bits : ndarray of uint8, shape (m, ceil(n / 8))
        Column j of a row is bit ``j % 8`` of byte ``j // 8``, the lowest bit first. The bits
        past column n are 0.
    data : ndarray of float16, float32 or float64, shape (nnz,)
        The values at the ones, row by row; zeros are allowed.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    Takes ``nnz * bytes of a value + m ceil(n / 8)``, about ``4 nnz + m n / 8`` for float32.

    References
    ----------
    Core ML stores sparse weights as a bit mask and the values at its ones, likewise:
    coremltools, ``optimize.coreml.prune_weights``.

    Examples
    --------
    >>> import numpy as np
    >>> bitmap = Bitmap.from_dense(np.array([[1.0, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    >>> bitmap.bits.tolist(), bitmap.data.tolist()
    ([[5], [4], [1]], [1.0, 2.0, 3.0, 4.0])
    >>> bitmap @ np.ones(3, np.float32)
    array([3., 3., 4.], dtype=float32)
    """

    arrays: ClassVar = (Stored("bits", 2, (np.uint8,)), Stored("data", 1, FLOAT_DTYPES))

    bits: np.ndarray
    data: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store the entries of a dense matrix that are not zero, row by row."""
        check_dense("Bitmap.from_dense", dense)
        kept = dense != 0
        bits = np.packbits(kept, axis=1, bitorder="little")
        return cls(bits, dense[kept], dense.shape)

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Sort coordinates by row, then column, and set their bits."""
        check_coo("Bitmap.from_coo", coo)
        kept = np.zeros(coo.shape, np.bool_)
        kept[coo.rows, coo.cols] = True
        data = coo.data[np.lexsort((coo.cols, coo.rows))]
        return cls(np.packbits(kept, axis=1, bitorder="little"), data, coo.shape)

    def to_coo(self) -> COO:
        """Write out row and column of each bit that is 1, row by row."""
        index = index_dtype(self.shape, self.nnz)
        rows, cols = (line.astype(index) for line in np.nonzero(self.mask()))
        return COO(rows, cols, self.data, self.shape)

    def mask(self) -> np.ndarray:
        """Unpack the bits.

        Returns
        -------
        ndarray of bool, shape (m, n)
            True where a value is stored.
        """
        n = self.shape[1]
        return np.unpackbits(self.bits, axis=1, bitorder="little")[:, :n].astype(np.bool_)

    @np.errstate(over="ignore", invalid="ignore")  # IEEE 754, as from a compiled kernel
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: the next value belongs to the next bit that is 1.

        Parameters
        ----------
        x : ndarray of float16, float32 or float64, shape (n,) or (n, batch)
            Any memory layout.

        Returns
        -------
        ndarray, shape (m,) or (m, batch)
            New, of dtype ``np.result_type(data, x)``: summed in float32 at
            least, rounded once.

        Raises
        ------
        TypeError, ValueError
            If `x` is no array of floats or its first axis is not n long.

        Notes
        -----
        2 nnz flops for each column of x, and a look at all m n bits. Entries
        that are not stored are skipped, even where x is infinite or NaN.
        """
        data, x, y, dtype = self._operands(self.data, x)
        k = 0
        for row, kept in enumerate(self.mask()):
            for column in np.flatnonzero(kept):
                y[row] += data[k] * x[column]
                k += 1
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        m, n = self.shape
        check_array(where, "bits", self.bits, shape=(m, -(-n // 8)))
        ones = np.unpackbits(self.bits, axis=1, bitorder="little")  # (m, 8 ceil(n / 8))
        if ones[:, n:].any():
            row = int(ones[:, n:].any(axis=1).argmax())
            requirement = f"be 0 past column {n - 1}"
            advice = "pack with np.packbits(mask, axis=1, bitorder='little')"
            raise bad_argument(where, "bits", requirement, f"a 1 in row {row}", advice)
        n_ones = np.count_nonzero(ones)
        if self.nnz != n_ones:
            requirement = f"hold one value for each of the {n_ones} ones"
            raise bad_argument(where, "data", requirement, self.nnz, "a stored zero has its bit")
