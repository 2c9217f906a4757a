"""Sparse arrays made wrong on purpose, and independent judges of what is wrong.

A judge reads Python lists, one entry at a time, and shares no code with `refimpl`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

# Every refusal is one sentence: who, which argument, what it must, what came, what to do.
ONE_SENTENCE = r"^\w+(\.\w+)?: .+ must .+, got .+; .+$"

FLOATS = (np.float16, np.float32, np.float64)
INTEGERS = (np.int32, np.int64)
WRONG_DTYPES = (np.bool_, np.int16, np.uint32, np.complex64, np.longdouble, np.object_)
WRONG_SHAPES = (
    None,
    3,
    [3, 3],
    (3,),
    (3, 3, 1),
    (3.0, 3),
    (True, 3),
    ("3", 3),
    (-1, 3),
    (3, 2**63),
)


@st.composite
def corruptions(draw, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a sparse matrix with one thing changed, mostly for the worse."""
    name = draw(st.sampled_from(list(fields)))
    if isinstance(fields[name], tuple):
        return fields | {name: draw(_other_pairs(fields[name]))}
    changes = [_other_entries, _other_lengths, _other_kinds]
    return fields | {name: draw(st.one_of([change(fields[name]) for change in changes]))}


@st.composite
def _other_pairs(draw, pair: tuple[int, int]) -> Any:
    """A shape or pattern near by, or what is no pair of counts."""
    nudge = st.integers(-2, 2)
    near = (pair[0] + draw(nudge), pair[1] + draw(nudge))
    return draw(st.just(near) | st.sampled_from(WRONG_SHAPES))


@st.composite
def _other_entries(draw, array: np.ndarray) -> np.ndarray:
    """Out of range, negative, doubled, out of order: any entry may become any other."""
    changed = array.copy()
    for _ in range(draw(st.integers(1, 2)) if array.size else 0):
        k = draw(st.integers(0, array.size - 1))
        other = draw(_others_of(array, k))
        changed.flat[k] = np.asarray(other).astype(array.dtype)  # -1 becomes the largest uint32
    return changed


def _others_of(array: np.ndarray, k: int) -> st.SearchStrategy:
    """What may stand in place of entry k: a near, far or neighbouring value, other bits."""
    value = int(np.nan_to_num(array.flat[k]))
    near = st.integers(value - 3, value + 3) | st.sampled_from([0, array.flat[0], array.flat[-1]])
    if array.dtype.kind == "f":
        return near
    limits = np.iinfo(array.dtype)
    if array.dtype.kind == "u":  # packed indices, codes or bits
        return near | st.integers(0, limits.bits - 1).map(lambda bit: value ^ 1 << bit)
    return near | st.sampled_from([limits.min, limits.max])


def _other_lengths(array: np.ndarray) -> st.SearchStrategy[np.ndarray]:
    """Shorter or longer by one at either end of an axis, empty, back to front."""
    ends = [array[:-1], array[1:], array[:0], array[::-1], array[..., :-1], array[..., 1:], array.T]
    longer = [array[-1:], np.zeros((1, *array.shape[1:]), array.dtype)]
    return st.sampled_from([*ends, *(np.concatenate([array, more]) for more in longer)])


@st.composite
def _other_kinds(draw, array: np.ndarray) -> Any:
    """The wrong rank, the wrong dtype, another index dtype, NaN, no array at all."""
    dtype = draw(st.sampled_from([*WRONG_DTYPES, *FLOATS, *INTEGERS]))
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    nan = np.full(array.shape, np.nan)
    others = [array[None], array[:, None], nan, array.tolist(), None, "arrays", array.astype(">i4")]
    return draw(st.just(cast) | st.sampled_from(others))


def is_shape(shape: Any) -> bool:
    """Two whole numbers, neither negative."""
    return (
        isinstance(shape, tuple)
        and len(shape) == 2
        and all(type(n) is int or isinstance(n, np.integer) for n in shape)
        and all(n >= 0 for n in shape)
    )


def is_list_of(dtypes: tuple[type, ...], *arrays: Any) -> bool:
    """Arrays of one axis and one dtype, which is one of these."""
    return (
        all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
        and len({array.dtype.type for array in arrays}) == 1
        and arrays[0].dtype.type in dtypes
    )


def is_coo(rows: Any, cols: Any, data: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix, each entry named once."""
    if not (is_shape(shape) and is_list_of(INTEGERS, rows, cols) and is_list_of(FLOATS, data)):
        return False
    positions = list(zip(rows.tolist(), cols.tolist(), strict=False))
    return (
        max(*shape, len(data)) <= np.iinfo(rows.dtype).max
        and len(rows) == len(cols) == len(data) == len(set(positions))
        and all(0 <= r < shape[0] and 0 <= c < shape[1] for r, c in positions)
    )


def is_csr(data: Any, indices: Any, indptr: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix, each row in order."""
    if not (is_shape(shape) and is_list_of(INTEGERS, indices, indptr) and is_list_of(FLOATS, data)):
        return False
    pointers = indptr.tolist()
    return (
        max(*shape, len(data)) <= np.iinfo(indices.dtype).max
        and len(indices) == len(data)
        and len(pointers) == shape[0] + 1
        and pointers == sorted(pointers)
        and (pointers[0], pointers[-1]) == (0, len(data))
        and all(is_row(indices[begin:end].tolist(), shape[1]) for begin, end in pairwise(pointers))
    )


def is_csc(data: Any, indices: Any, indptr: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix: columns are the rows of its transpose."""
    return is_shape(shape) and is_csr(data, indices, indptr, shape[::-1])


def is_bsr(data: Any, indices: Any, indptr: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix: its blocks, each seen as one entry, are a CSR."""
    if not (is_shape(shape) and isinstance(data, np.ndarray) and data.ndim == 3):
        return False
    (m, n), (r, c) = shape, data.shape[1:]
    return (
        min(r, c) > 0
        and (m % r, n % c) == (0, 0)
        and max(shape) < 2**63
        and is_csr(data[:, 0, 0], indices, indptr, (m // r, n // c))
    )


def is_row(columns: list[int], n: int) -> bool:
    """Whether the columns of one row increase and lie in ``[0, n)``."""
    return columns == sorted(set(columns)) and all(0 <= c < n for c in columns)
