"""What every sparse format has, and what construction guarantees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np

from refimpl.arrays import (
    FLOAT_DTYPES,
    bad_argument,
    check_array,
    check_count,
    frozen_copy,
    xp_of,
)

if TYPE_CHECKING:
    from refimpl.formats.coo import COO

_Format = TypeVar("_Format", bound="SparseMatrix")


class Stored(NamedTuple):
    """One array that a format stores: its field, its number of axes, its allowed dtypes."""

    name: str
    ndim: int
    dtypes: Sequence[type]


class SparseMatrix(ABC):
    """A matrix that stores some of its entries; every other entry is +0.0.

    A format is a final frozen dataclass: its arrays, then `shape`. Construction copies the
    arrays into memory that nobody can write to, and refuses them unless they describe exactly
    one matrix. Reading a field gives a new array object over that memory, so that setting the
    object's dtype or shape changes nothing in the matrix. Unpickling, `copy.copy`,
    `copy.deepcopy` and `dataclasses.replace` construct anew, so no way around that check is
    left.

    Attributes
    ----------
    shape : tuple of int
        ``(rows, columns)``, ``(n_out, n_in)`` for a layer's weight.

    Notes
    -----
    A stored value may be zero: where a zero is stored is the format's business, and a weight
    that training drove to zero stays in place.
    """

    arrays: ClassVar[tuple[Stored, ...]]  # what a format stores, in the order of its fields
    valued: ClassVar[str] = "data"  # the array whose dtype is the matrix's
    counted: ClassVar[str] = "data"  # the array with one item for each stored entry
    shape: tuple[int, int]

    __array_ufunc__ = None  # ndarray @ matrix is a TypeError, not a product of objects

    def __post_init__(self) -> None:
        where = type(self).__name__
        object.__setattr__(self, "shape", checked_shape(where, self.shape))
        self._check_arrays(where)
        for stored in self.arrays:
            self._keep(stored.name, vars(self).pop(stored.name))
        self.check()

    def __getattr__(self, name: str) -> np.ndarray:
        kept = vars(self).get(f"_{name}")
        if kept is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return np.ndarray(*kept)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(stored.name for stored in self.arrays)]

    @classmethod
    @abstractmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store the entries of a dense matrix that are not zero.

        Parameters
        ----------
        dense : ndarray of float16, float32 or float64, shape (m, n)
            Any memory layout.

        Returns
        -------
        SparseMatrix
            Of the dtype of `dense`; a copy. Index arrays are int32 where that is wide enough.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats.

        Notes
        -----
        Exact: NaN and infinities are stored, bit for bit. Only -0.0 is not: it equals zero, is
        not stored, and comes back as +0.0.
        """

    @classmethod
    @abstractmethod
    def from_coo(cls, coo: COO) -> Self:
        """Store the entries of a COO matrix: ``B.from_coo(a.to_coo())`` converts any format.

        Parameters
        ----------
        coo : COO
            In any order.

        Returns
        -------
        SparseMatrix
            A copy. A format with a fixed number of places stores the entries that are not
            zero; any other also keeps the stored zeros.

        Raises
        ------
        TypeError, ValueError
            If `coo` is of another format, or this format cannot hold the entries.
        """

    @abstractmethod
    def to_coo(self) -> COO:
        """Write out the row and column of each stored entry.

        Returns
        -------
        COO
            The same stored entries, zeros included.
        """

    def to_dense(self) -> np.ndarray:
        """Write the stored values into a matrix of zeros.

        Returns
        -------
        ndarray, shape (m, n)
            C-contiguous, of the matrix's dtype, each stored value bit for bit.
        """
        coo = self.to_coo()
        dense = np.zeros(self.shape, self.dtype)
        dense[coo.rows, coo.cols] = coo.data
        return dense

    @abstractmethod
    def matmul(self, x: np.ndarray) -> np.ndarray:
        """Multiply the matrix by a dense vector or matrix, the clear way.

        Parameters
        ----------
        x : ndarray of float16, float32 or float64, shape (n,) or (n, batch)
            Any memory layout.

        Returns
        -------
        ndarray, shape (m,) or (m, batch)
            New, of dtype ``np.result_type(self.dtype, x.dtype)``. Sums are kept in float32 at
            least and rounded to that dtype once, at the end.

        Raises
        ------
        TypeError, ValueError
            If `x` is no array of floats or its first axis is not n long.

        Notes
        -----
        An entry that is not stored is skipped, so an infinity or NaN of `x` that meets only
        such entries does not reach the result; in a dense product 0 times infinity is NaN.
        Cost: 2 nnz flops for each column of `x`.
        """

    def with_values(self, values: np.ndarray) -> Self:
        """Store other values at the same places, as a training step does.

        Parameters
        ----------
        values : ndarray of float16, float32 or float64
            Of the shape of the stored values, in their order; zeros stay stored.

        Returns
        -------
        SparseMatrix
            New, of the dtype of `values`. It shares the indices of this matrix, which were
            checked when it was built, so it costs one copy of the values.

        Raises
        ------
        TypeError, ValueError
            If `values` is no array of floats, or has another shape.
        """
        where = f"{type(self).__name__}.with_values"
        check_numpy(where, "values", values)
        shape = self.stored_values.shape
        check_array(where, "values", values, shape=shape, dtypes=FLOAT_DTYPES)
        other = self._arrays_as(type(self), self.shape)
        other._keep(self.valued, values)
        return other

    def _arrays_as(self, kind: type[_Format], shape: tuple[int, int]) -> _Format:
        """Share the arrays with a matrix that they are known to describe: nothing is checked."""
        other = object.__new__(kind)
        vars(other).update(vars(self), shape=shape)
        return other

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Freeze a copy of an array in this machine's byte order."""
        frozen = frozen_copy(_native(array))
        # What an array is made of; an array itself, even read-only, lets its dtype be set.
        vars(self)[f"_{name}"] = (frozen.shape, frozen.dtype, frozen.base)

    def check(self) -> None:
        """Run the validation of construction again.

        Raises
        ------
        TypeError, ValueError
            In one sentence, if the arrays no longer describe one matrix. Only code that goes
            behind Python's back can bring that about.
        """
        where = type(self).__name__
        checked_shape(where, self.shape)
        self._check_arrays(where)
        self._check_structure(where)

    @abstractmethod
    def _check_structure(self, where: str) -> None:
        """Refuse arrays that have the right types but describe no matrix."""

    def _check_arrays(self, where: str) -> None:
        for name, ndim, dtypes in self.arrays:
            array = getattr(self, name)
            check_numpy(where, name, array)
            check_array(where, name, array, ndim=ndim, dtypes=dtypes)

    @property
    def stored_values(self) -> np.ndarray:
        """The array that `with_values` replaces, read-only, whatever the format calls it."""
        return getattr(self, self.valued)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the stored values."""
        return self.stored_values.dtype

    @property
    def nnz(self) -> int:
        """How many entries are stored, stored zeros included."""
        return getattr(self, self.counted).size

    @property
    def nbytes(self) -> int:
        """How many bytes the stored arrays take, indices and pointers included."""
        return sum(getattr(self, stored.name).nbytes for stored in self.arrays)

    @property
    def density(self) -> float:
        """Which fraction of the entries is stored; 0.0 for a matrix without entries."""
        n_rows, n_columns = self.shape
        return self.nnz / max(n_rows * n_columns, 1)

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        return self.matmul(x)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(shape={self.shape}, nnz={self.nnz}, "
            f"dtype={self.dtype.name}, nbytes={self.nbytes})"
        )

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def _operands(
        self, data: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.dtype]:
        """Give values, `x` and a y of zeros in the dtype to sum in, and the result's dtype."""
        check_operand(f"{type(self).__name__}.matmul", self, x)
        result = np.result_type(data, x)
        wide = np.result_type(result, np.float32)
        y = np.zeros((self.shape[0], *x.shape[1:]), wide)
        return data.astype(wide, copy=False), x.astype(wide, copy=False), y, result


def check_operand(where: str, a: SparseMatrix, x: Any, *, transposed: bool = False) -> None:
    """Refuse an `x` that ``a @ x`` is not defined for, or ``a.T @ x``.

    Parameters
    ----------
    where : str
        Named in the error.
    a : SparseMatrix
        The left operand, of shape (m, n).
    x : ndarray of float16, float32 or float64, shape (n,) or (n, batch)
        The right operand; m for n if `transposed`.
    transposed : bool
        Whether the left operand is the transpose of `a`.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    length = a.shape[0 if transposed else 1]
    ordinary = type(x) is np.ndarray and x.ndim in (1, 2) and x.shape[0] == length
    if ordinary and x.dtype.type in FLOAT_DTYPES:
        return  # what is wrong with another x takes longer to find out
    check_numpy(where, "x", x)
    check_array(where, "x", x, ndim=(1, 2), dtypes=FLOAT_DTYPES)
    n_rows, line = (a.shape[0], "row") if transposed else (a.shape[1], "column")
    if x.shape[0] != n_rows:
        requirement = f"have {n_rows} rows, one for each {line} of the matrix"
        advice = "activations of shape (batch, n_in) go in transposed"
        raise bad_argument(where, "x", requirement, f"shape {x.shape}", advice)


def check_dense(where: str, dense: Any) -> None:
    """Refuse what is no NumPy matrix of floats.

    Parameters
    ----------
    where : str
        Named in the error.
    dense : ndarray of float16, float32 or float64, shape (m, n)
        The matrix to store.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    check_numpy(where, "dense", dense)
    check_array(where, "dense", dense, ndim=2, dtypes=FLOAT_DTYPES)


def check_numpy(where: str, argument: str, array: Any) -> None:
    """Refuse an array that lives on a GPU.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    array : ndarray
        Anything; only a CuPy array is refused.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if xp_of(array) is not np:
        advice = "move it with cupy.asnumpy"
        raise bad_argument(
            where, argument, "be a NumPy array", "a CuPy array", advice, kind=TypeError
        )


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order, which kernels need."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def checked_shape(where: str, shape: Any) -> tuple[int, int]:
    """Give a shape as two Python integers; refuse what is no pair of counts.

    Parameters
    ----------
    where : str
        Named in the error.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    tuple of int
        The same two numbers.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    if not isinstance(shape, tuple) or len(shape) != 2:
        actual = repr(shape) if isinstance(shape, tuple) else type(shape).__name__
        advice = "give (rows, columns)"
        raise bad_argument(where, "shape", "be a tuple of two", actual, advice, kind=TypeError)
    for size in shape:
        check_count(where, "shape", size, 0)
    return int(shape[0]), int(shape[1])
