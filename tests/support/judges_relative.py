"""Independent judges of the formats that pack a position into a few bits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from support.corruption import FLOATS, INTEGERS, is_list_of, is_shape


def is_relative_csc(data: Any, gaps: Any, indptr: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix, its gaps two to a byte, the low half first."""
    typed = is_list_of(FLOATS, data) and is_list_of((np.uint8,), gaps)
    if not (is_shape(shape) and typed and is_list_of(INTEGERS, indptr)):
        return False
    halves = [half for byte in gaps.tolist() for half in (byte % 16, byte // 16)]
    return (
        len(gaps) == (len(data) + 1) // 2
        and sum(halves[len(data) :]) == 0
        and are_walks(halves[: len(data)], indptr, shape)
    )


def is_codebook_csc(entries: Any, codebook: Any, indptr: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix: each byte a known code and a gap."""
    typed = is_list_of((np.uint8,), entries) and is_list_of(FLOATS, codebook)
    if not (is_shape(shape) and typed and is_list_of(INTEGERS, indptr)):
        return False
    return (
        len(codebook) <= 15
        and all(byte % 16 <= len(codebook) for byte in entries.tolist())
        and are_walks([byte // 16 for byte in entries.tolist()], indptr, shape)
    )


def are_walks(gaps: list[int], indptr: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether each column has its gaps, and they and their entries fit into it."""
    begins = indptr.tolist()
    return (
        max(*shape, len(gaps)) <= np.iinfo(indptr.dtype).max
        and len(begins) == shape[1] + 1
        and begins == sorted(begins)
        and (begins[0], begins[-1]) == (0, len(gaps))
        and all(sum(gap + 1 for gap in gaps[b:e]) <= shape[0] for b, e in pairwise(begins))
    )


def is_bitmap(bits: Any, data: Any, shape: Any) -> bool:
    """Whether the arrays describe one matrix; each row of bytes is read as one long number."""
    two_axes = isinstance(bits, np.ndarray) and bits.dtype == np.uint8 and bits.ndim == 2
    if not (is_shape(shape) and two_axes and is_list_of(FLOATS, data)):
        return False
    rows = [int.from_bytes(row.tolist(), "little") for row in bits]
    return (
        bits.shape == (shape[0], (shape[1] + 7) // 8)
        and all(row < 2 ** shape[1] for row in rows)
        and sum(row.bit_count() for row in rows) == len(data)
    )
