"""The judges of packed formats judge rightly."""

from __future__ import annotations

import numpy as np
import pytest

from support.judges_relative import is_bitmap, is_codebook_csc, is_relative_csc


def packed(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint8)


INDPTR = np.array([0, 2, 3, 3])
RELATIVE = {"data": np.ones(3), "gaps": packed(0x01, 0x02), "indptr": INDPTR, "shape": (3, 3)}
CODEBOOK = {
    "entries": packed(0x12, 0x01, 0x20),
    "codebook": np.ones(2),
    "indptr": INDPTR,
    "shape": (3, 3),
}
BITMAP = {
    "bits": packed(0b10, 0b01, 0, 0b10).reshape(2, 2),
    "data": np.ones(3),
    "shape": (2, 10),
}


@pytest.mark.parametrize(
    ("judge", "fields"),
    [(is_relative_csc, RELATIVE), (is_codebook_csc, CODEBOOK), (is_bitmap, BITMAP)],
)
def test_judge_of_a_packed_format_accepts_a_matrix(judge, fields):
    assert judge(**fields)


BAD_COLUMNS = [
    {"shape": (2, 3)},
    {"shape": (3, 2)},
    {"shape": [3, 3]},
    {"shape": (3, 2**63)},
    {"indptr": np.array([0, 3, 3, 3])},
    {"indptr": np.array([0, 2, 2, 2])},
    {"indptr": np.array([0, 3, 2, 3])},
    {"indptr": np.array([1, 2, 3, 3])},
    {"indptr": INDPTR.astype(float)},
    {"indptr": INDPTR.tolist()},
]


@pytest.mark.parametrize(
    "fault",
    [
        *BAD_COLUMNS,
        {"data": np.ones(2)},
        {"data": np.ones(4)},
        {"data": np.ones(3, int)},
        {"gaps": packed(0x11, 0x02)},
        {"gaps": packed(0x02, 0x02)},
        {"gaps": packed(0x01, 0x12)},
        {"gaps": packed(0x01)},
        {"gaps": packed(0x01, 0x02, 0x00)},
        {"gaps": packed(0x01, 0x02).astype(np.int8)},
        {"gaps": packed(0x01, 0x02)[None]},
    ],
)
def test_relative_judge_finds_planted_faults(fault):
    assert not is_relative_csc(**RELATIVE | fault)


@pytest.mark.parametrize(
    "fault",
    [
        *BAD_COLUMNS,
        {"entries": packed(0x13, 0x01, 0x20)},
        {"entries": packed(0x12, 0x11, 0x20)},
        {"entries": packed(0x12, 0x01)},
        {"entries": packed(0x12, 0x01, 0x20).astype(int)},
        {"codebook": np.ones(1)},
        {"codebook": np.ones(16)},
        {"codebook": np.ones(2, int)},
        {"codebook": np.ones((1, 2))},
    ],
)
def test_codebook_judge_finds_planted_faults(fault):
    assert not is_codebook_csc(**CODEBOOK | fault)


@pytest.mark.parametrize(
    "fault",
    [
        {"shape": (2, 9)},
        {"shape": (2, 17)},
        {"shape": (1, 10)},
        {"shape": [2, 10]},
        {"shape": (2, 2**63)},
        {"bits": packed(0b11, 0b01, 0, 0b10).reshape(2, 2)},
        {"bits": packed(0b10, 0b01, 0, 0b100).reshape(2, 2)},
        {"bits": packed(0b10, 0b01, 0, 0b10)},
        {"bits": packed(0b10, 0b01, 0, 0b10).reshape(2, 2).astype(int)},
        {"bits": packed(0b10, 0b01).reshape(1, 2)},
        {"data": np.ones(2)},
        {"data": np.ones(3, int)},
    ],
)
def test_bitmap_judge_finds_planted_faults(fault):
    assert not is_bitmap(**BITMAP | fault)
