"""Relative-index CSC: 4 bits a position, the zeros skipped since the entry before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    INDEX_DTYPES,
    bad_argument,
    check_array,
    check_count,
    check_fraction,
)
from refimpl.formats.base import SparseMatrix, Stored, check_dense
from refimpl.formats.coo import COO, check_coo
from refimpl.formats.indices import check_index_width, check_pointers, index_dtype, pointers

GAP_BITS = 4
LONGEST_GAP = 2**GAP_BITS - 1
SPAN = LONGEST_GAP + 1  # rows that a filler accounts for: the zeros it skips, and its own


@final
@dataclass(frozen=True, eq=False, repr=False)
class RelativeCSC(SparseMatrix):
    """A sparse matrix as its columns, each entry placed by how many zeros precede it.

    The first gap of a column counts from row 0, any other from the row after the entry before.
    A gap of more than 15 zeros does not fit into 4 bits. It is bridged by fillers: stored zeros
    with gap 15, each of which accounts for 16 rows.

    Parameters
    ----------
    data : ndarray of float16, float32 or float64, shape (nnz,)
        The values, column by column, fillers among them.
    gaps : ndarray of uint8, shape (ceil(nnz / 2),)
        Two gaps a byte, the first in the low four bits. An odd last half is 0.
    indptr : ndarray of int32 or int64, shape (n + 1,)
        Where each column begins in `data`; starts at 0, never decreases, ends at nnz.
    shape : tuple of int
        ``(m, n)``, rows and columns.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    A filler is an entry like any other: it counts in `nnz`, is multiplied, and may be given
    another value. Construction looks at positions only, so a zero with gap 15 may stand
    anywhere. ``from_dense`` and ``from_coo`` put fillers before an entry, never at the end of a
    column.

    Takes ``nnz * bytes of a value + ceil(nnz / 2) + (n + 1) * bytes of an index``: about
    ``4.5 nnz + 4 (n + 1)`` for float32 and int32. How many of the nnz entries are fillers,
    `expected_fillers` estimates.

    References
    ----------
    Han et al. (2016), "EIE: efficient inference engine on compressed deep neural network",
    section III-B: v is `data`, z is `gaps`, p is `indptr`. Differs from the paper in that v
    holds 4-bit codes there (`CodebookCSC`), and rows are dealt out to 64 processing elements.

    Examples
    --------
    The column of the paper: 18 zeros precede the 3, and the filler accounts for 16 of them.

    >>> import numpy as np
    >>> column = np.zeros((23, 1), np.float32)
    >>> column[[2, 3, 22], 0] = 1, 2, 3
    >>> relative = RelativeCSC.from_dense(column)
    >>> relative.data.tolist()
    [1.0, 2.0, 0.0, 3.0]
    >>> [f"{byte:08b}" for byte in relative.gaps]  # gaps 2 and 0, then 15 and 2
    ['00000010', '00101111']
    """

    arrays: ClassVar = (
        Stored("data", 1, FLOAT_DTYPES),
        Stored("gaps", 1, (np.uint8,)),
        Stored("indptr", 1, INDEX_DTYPES),
    )

    data: np.ndarray
    gaps: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store the entries of a dense matrix that are not zero, and fillers where needed."""
        check_dense("RelativeCSC.from_dense", dense)
        return cls.from_coo(COO.from_dense(dense))

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Sort coordinates by column, then row, and bridge long gaps with fillers."""
        check_coo("RelativeCSC.from_coo", coo)
        order = np.lexsort((coo.rows, coo.cols))
        zeros = _zeros_before(coo.rows[order], coo.cols[order])
        ends = np.append(0, np.cumsum(zeros // SPAN + 1))  # fillers, entry
        places = ends[1:] - 1
        data = np.zeros(ends[-1], coo.dtype)
        gaps = np.full(ends[-1], LONGEST_GAP, np.uint8)
        data[places], gaps[places] = coo.data[order], zeros % SPAN
        indptr = ends[pointers(coo.cols, coo.shape[1], np.int64)]
        enough = index_dtype(coo.shape, data.size)  # with the fillers
        indptr = indptr.astype(np.promote_types(coo.rows.dtype, enough))
        return cls(data, pack_nibbles(gaps), indptr, coo.shape)

    def to_coo(self) -> COO:
        """Add the gaps up to rows; a filler becomes a stored zero."""
        index = self.indptr.dtype
        rows = rows_of(self.steps(), self.indptr).astype(index)
        cols = np.repeat(np.arange(self.shape[1], dtype=index), np.diff(self.indptr))
        return COO(rows, cols, self.data, self.shape)

    def steps(self) -> np.ndarray:
        """Unpack the gaps, and count the entry's own row in.

        Returns
        -------
        ndarray of int64, shape (nnz,)
            How many rows to go down to each entry, 1 to 16; from row -1 at the top.
        """
        return unpack_nibbles(self.gaps, self.nnz) + np.int64(1)

    @np.errstate(over="ignore", invalid="ignore")  # IEEE 754, as from a compiled kernel
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply by a vector or matrix: each column adds to the rows that its gaps lead to.

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
        2 nnz flops for each column of x, fillers included: one of them times
        infinity is NaN. Entries that are not stored are skipped.
        """
        data, x, y, dtype = self._operands(self.data, x)
        steps, indptr = self.steps(), self.indptr
        for column in range(self.shape[1]):
            row = -1
            for k in range(indptr[column], indptr[column + 1]):
                row += steps[k]
                y[row] += data[k] * x[column]
        return y.astype(dtype, copy=False)

    def _check_structure(self, where: str) -> None:
        check_array(where, "gaps", self.gaps, shape=((self.nnz + 1) // 2,))
        if self.nnz % 2 and self.gaps[-1] > LONGEST_GAP:
            requirement = "end in four bits of 0 where nnz is odd"
            actual, advice = f"{self.gaps[-1] >> GAP_BITS}", "no entry reads them"
            raise bad_argument(where, "gaps", requirement, actual, advice)
        check_steps(where, "gaps", self.steps(), self.indptr, self.shape)


def check_steps(
    where: str, argument: str, steps: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
) -> None:
    """Refuse pointers that do not fit, and steps that lead past the last row.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    steps : ndarray of int64, shape (nnz,)
        How many rows to go down to each entry.
    indptr : ndarray of int32 or int64
        Where each column begins in `steps`.
    shape : tuple of int
        Rows and columns.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_index_width(where, shape, steps.size, indptr=indptr)
    check_array(where, "indptr", indptr, shape=(shape[1] + 1,))
    check_pointers(where, indptr, steps.size, "column")
    rows = rows_of(steps, indptr)
    if (rows >= shape[0]).any():
        k = int((rows >= shape[0]).argmax())
        requirement = f"lead to rows in [0, {shape[0]})"
        advice = "a gap is the distance to the entry before, less 1"
        raise bad_argument(where, argument, requirement, f"{rows[k]} for entry {k}", advice)


def rows_of(steps: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Add up steps to row numbers, from row -1 at the top of each column.

    Parameters
    ----------
    steps : ndarray of int64, shape (nnz,)
        How many rows to go down to each entry.
    indptr : ndarray of int32 or int64, shape (n + 1,)
        Where each column begins in `steps`.

    Returns
    -------
    ndarray of int64, shape (nnz,)
        The row of each entry.

    Examples
    --------
    >>> rows_of(np.array([3, 1, 2]), np.array([0, 2, 3])).tolist()
    [2, 3, 1]
    """
    totals = np.append(0, np.cumsum(steps))
    return totals[1:] - 1 - np.repeat(totals[indptr[:-1]], np.diff(indptr))


def pack_nibbles(numbers: np.ndarray) -> np.ndarray:
    """Pack numbers below 16 two to a byte, the first in the low four bits.

    Parameters
    ----------
    numbers : ndarray of uint8, shape (n,)
        From 0 to 15.

    Returns
    -------
    ndarray of uint8, shape (ceil(n / 2),)
        An odd last half is 0.

    Examples
    --------
    >>> [f"{byte:02x}" for byte in pack_nibbles(np.array([1, 2, 15], np.uint8))]
    ['21', '0f']
    """
    even = np.append(numbers, np.zeros(numbers.size % 2, np.uint8))
    return even[::2] | even[1::2] << GAP_BITS


def unpack_nibbles(packed: np.ndarray, n: int) -> np.ndarray:
    """Read n numbers of four bits, the low half of each byte first.

    Parameters
    ----------
    packed : ndarray of uint8, shape (ceil(n / 2),)
        As `pack_nibbles` makes them.
    n : int
        How many.

    Returns
    -------
    ndarray of uint8, shape (n,)
        From 0 to 15.
    """
    return np.stack([packed & LONGEST_GAP, packed >> GAP_BITS], axis=1).ravel()[:n]


def expected_fillers(n_rows: int, density: float, *, gap_bits: int = GAP_BITS) -> float:
    """Count the fillers that a column of random entries needs on average.

    Parameters
    ----------
    n_rows : int
        Rows of the column.
    density : float
        The chance of each row to hold an entry, in [0, 1], independent of the others.
    gap_bits : int
        Bits of a stored gap, 1 to 32.

    Returns
    -------
    float
        Fillers, beside ``n_rows * density`` entries.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    With ``S = 2**gap_bits``, the entry of a row needs a j-th filler if at least j S rows precede
    it and the last j S of them are zero. Summed over the rows, that is
    ``density * sum over j of (n_rows - j S) (1 - density)**(j S)`` for ``0 < j S < n_rows``.
    For long columns it is ``q / (1 - q)`` fillers an entry, with ``q = (1 - density)**S``.

    Examples
    --------
    >>> fillers = expected_fillers(64, 0.04)  # layer VGG-7 of EIE, in one processing element
    >>> round(fillers / (64 * 0.04), 3)  # for each entry
    0.561
    """
    where = "expected_fillers"
    check_count(where, "n_rows", n_rows, 0)
    check_fraction(where, "density", density, one_allowed=True)
    check_count(where, "gap_bits", gap_bits, 1, 32)
    zeros = np.arange(2**gap_bits, n_rows, 2**gap_bits)
    return float(density * np.sum((n_rows - zeros) * (1.0 - density) ** zeros))


def _zeros_before(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """How many zeros of its column each entry skips; entries by column, then row."""
    zeros = np.diff(rows, prepend=-1) - 1
    starts = np.diff(cols, prepend=-1) != 0
    zeros[starts] = rows[starts]
    return zeros
