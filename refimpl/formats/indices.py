"""Row and column numbers: how wide they must be, and which are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.arrays import INDEX_DTYPES, bad_argument


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
