"""Row and column numbers and pointers: how they are made, how wide they are, what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.arrays import INDEX_DTYPES, bad_argument, check_array


def check_index_width(where: str, shape: Sequence[int], nnz: int, **indices: np.ndarray) -> None:
    """Refuse index arrays of two dtypes, or of one too narrow to count rows, columns or entries.

    Parameters
    ----------
    where : str
        Named in the error.
    shape : sequence of int
        Rows and columns.
    nnz : int
        Stored entries.
    **indices : ndarray of int32 or int64
        The index arrays, by name.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    (first, index), *others = indices.items()
    for name, other in others:
        if other.dtype != index.dtype:
            advice = f"convert it with .astype(np.{index.dtype.name})"
            requirement = f"have the dtype of {first}, {index.dtype.name}"
            raise bad_argument(where, name, requirement, other.dtype.name, advice, kind=TypeError)
    largest, limit = max(*shape, nnz), int(np.iinfo(index.dtype).max)
    if largest > limit:
        requirement = f"count up to {largest}"
        advice = "use int64, and no more than 2**63 - 1 rows, columns or entries"
        raise bad_argument(
            where, first, requirement, f"{index.dtype.name}, at most {limit}", advice
        )


def check_indices(where: str, argument: str, indices: np.ndarray, n: int) -> None:
    """Refuse indices outside ``[0, n)``; a negative one is not counted from the end.

    Parameters
    ----------
    where, argument : str
        Named in the error.
    indices : ndarray of int32 or int64
        Row or column numbers.
    n : int
        Number of rows or columns.

    Raises
    ------
    ValueError
        In one sentence that names the first index out of range and its position.
    """
    outside = (indices < 0) | (indices >= n)
    if outside.any():
        position = int(outside.argmax())
        actual = f"{indices[position]} at position {position}"
        advice = "count rows and columns from 0"
        raise bad_argument(where, argument, f"be in [0, {n})", actual, advice)


def index_dtype(shape: Sequence[int], nnz: int) -> type[np.signedinteger]:
    """Choose int32 for indices where rows, columns and entries are fewer than 2**31, else int64.

    Parameters
    ----------
    shape : sequence of int
        Rows and columns.
    nnz : int
        Stored entries.

    Returns
    -------
    type
        ``np.int32`` or ``np.int64``.

    Examples
    --------
    >>> index_dtype((300, 784), 23_520).__name__
    'int32'
    """
    narrow, wide = INDEX_DTYPES
    return narrow if max(*shape, nnz) <= np.iinfo(narrow).max else wide


def differs_from_previous(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """True where a sorted list of positions moves on to a new position.

    Parameters
    ----------
    rows, cols : ndarray of int, shape (n,)
        Positions, equal ones side by side.

    Returns
    -------
    ndarray of bool, shape (n,)
        The first position is new.

    Examples
    --------
    >>> differs_from_previous(np.array([0, 0, 0, 1]), np.array([2, 2, 3, 3])).tolist()
    [True, False, True, True]
    """
    is_first = np.ones(rows.size, np.bool_)
    is_first[1:] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
    return is_first


def pointers(lines: np.ndarray, n_lines: int, dtype: type) -> np.ndarray:
    """Where each row (or column) begins, once the entries are sorted by it.

    Parameters
    ----------
    lines : ndarray of int, shape (nnz,)
        The row (or column) number of each entry, in any order.
    n_lines : int
        How many rows (or columns) there are.
    dtype : type
        ``np.int32`` or ``np.int64``.

    Returns
    -------
    ndarray of `dtype`, shape (n_lines + 1,)
        The running total of the entries per row; starts at 0, ends at nnz.

    Examples
    --------
    >>> pointers(np.array([0, 0, 2]), 3, np.int32).tolist()
    [0, 2, 2, 3]
    """
    indptr = np.zeros(n_lines + 1, dtype)
    np.cumsum(np.bincount(lines, minlength=n_lines), dtype=dtype, out=indptr[1:])
    return indptr


def check_pointers(where: str, indptr: np.ndarray, n_entries: int, line: str) -> None:
    """Refuse pointers that do not run from 0 to the number of entries without falling.

    Parameters
    ----------
    where : str
        Named in the error.
    indptr : ndarray of int32 or int64, shape (n_lines + 1,)
        Where each row (or column) begins.
    n_entries : int
        How many entries, or blocks, there are.
    line : str
        ``"row"`` or ``"column"``, what the pointers point to.

    Raises
    ------
    ValueError
        In one sentence.
    """
    ends = (int(indptr[0]), int(indptr[-1]))
    if ends != (0, n_entries):
        actual, advice = f"{ends[0]} and {ends[1]}", f"one pointer more than {line}s"
        raise bad_argument(where, "indptr", f"start at 0 and end at {n_entries}", actual, advice)
    falls = indptr[1:] < indptr[:-1]
    if falls.any():
        k = int(falls.argmax())
        actual = f"{indptr[k]} then {indptr[k + 1]} at {line} {k}"
        advice = f"it is the running total of the entries in the {line}s before"
        raise bad_argument(where, "indptr", "never decrease", actual, advice)


def check_increasing(
    where: str, indices: np.ndarray, indptr: np.ndarray, line: str, advice: str
) -> None:
    """Refuse indices that do not strictly increase within each row (or column).

    Parameters
    ----------
    where : str
        Named in the error.
    indices : ndarray of int32 or int64, shape (nnz,)
        Column (or row) numbers.
    indptr : ndarray of int32 or int64, shape (n_lines + 1,)
        Where each row (or column) begins in `indices`; already checked.
    line : str
        ``"row"`` or ``"column"``.
    advice : str
        What the caller can do.

    Raises
    ------
    ValueError
        In one sentence that names the first fall and its row (or column).
    """
    falls = indices[1:] <= indices[:-1]
    starts = indptr[(indptr > 0) & (indptr < indices.size)]
    falls[starts - 1] = False  # a new line may begin anywhere
    if falls.any():
        k = int(falls.argmax())
        number = int(np.searchsorted(indptr, k, side="right")) - 1
        requirement = f"strictly increase within a {line}"
        actual = f"{indices[k]} then {indices[k + 1]} in {line} {number}"
        raise bad_argument(where, "indices", requirement, actual, advice)


def check_compressed(
    where: str,
    indices: np.ndarray,
    indptr: np.ndarray,
    n_entries: int,
    sizes: Sequence[int],
    line: str,
) -> None:
    """Refuse indices and pointers that do not give each row (or column) its entries, in order.

    Parameters
    ----------
    where : str
        Named in the error.
    indices : ndarray of int32 or int64
        Column (or row) numbers.
    indptr : ndarray of int32 or int64
        Where each row (or column) begins in `indices`.
    n_entries : int
        How many entries there are.
    sizes : sequence of int
        Rows and columns (or columns and rows).
    line : str
        ``"row"`` or ``"column"``, what the pointers point to.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    n_lines, n_places = sizes
    check_index_width(where, sizes, n_entries, indices=indices, indptr=indptr)
    check_array(where, "indices", indices, shape=(n_entries,))
    check_array(where, "indptr", indptr, shape=(n_lines + 1,))
    check_pointers(where, indptr, n_entries, line)
    check_indices(where, "indices", indices, n_places)
    advice = f"sort the {line} and sum duplicates: {where}.from_scipy does"
    check_increasing(where, indices, indptr, line, advice)
