"""The judges of sparse arrays judge rightly, and the corruptions do corrupt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find

from support.corruption import corruptions, is_bsr, is_coo, is_csc, is_csr

ROWS, COLS = np.array([0, 0, 1, 2]), np.array([0, 2, 2, 0])
DATA, INDPTR = np.array([1.0, 2, 3, 4]), np.array([0, 2, 3, 4])
GOOD_COO = {"rows": ROWS, "cols": COLS, "data": DATA, "shape": (3, 3)}
GOOD_CSR = {"data": DATA, "indices": COLS, "indptr": INDPTR, "shape": (3, 3)}
GOOD_CSC = GOOD_CSR | {"indices": np.array([0, 3, 2, 0]), "shape": (4, 3)}
BLOCKS = np.ones((4, 2, 5))
GOOD_BSR = GOOD_CSR | {"data": BLOCKS, "shape": (6, 15)}


def test_coo_judge_accepts_a_matrix():
    assert is_coo(**GOOD_COO)


def test_csr_judge_accepts_a_matrix():
    assert is_csr(**GOOD_CSR)


def test_csc_judge_accepts_a_matrix():
    assert is_csc(**GOOD_CSC)


def test_bsr_judge_accepts_a_matrix():
    assert is_bsr(**GOOD_BSR)


BAD_IN_BOTH = [
    {"shape": (3, 2)},
    {"shape": (2, 3)},
    {"shape": [3, 3]},
    {"shape": (3.0, 3)},
    {"shape": (True, 3)},
    {"shape": (-3, 3)},
    {"shape": (3, 2**63)},
    {"data": DATA[:-1]},
    {"data": DATA.astype(int)},
    {"data": DATA[None]},
    {"data": DATA.tolist()},
]


@pytest.mark.parametrize(
    "fault",
    [
        *BAD_IN_BOTH,
        {"rows": np.array([0, 0, 1, 3])},
        {"rows": np.array([0, 0, 1, -1])},
        {"rows": ROWS.astype(np.int32)},
        {"rows": ROWS[:-1]},
        {"cols": np.array([0, 0, 2, 0])},
        {"cols": COLS.astype(float)},
    ],
)
def test_coo_judge_finds_planted_faults(fault):
    assert not is_coo(**GOOD_COO | fault)


@pytest.mark.parametrize(
    "fault",
    [
        *BAD_IN_BOTH,
        {"indices": np.array([0, 3, 2, 0])},
        {"indices": np.array([-1, 2, 2, 0])},
        {"indices": np.array([2, 0, 2, 0])},
        {"indices": np.array([2, 2, 2, 0])},
        {"indices": COLS.astype(np.int32)},
        {"indices": COLS[:-1]},
        {"indptr": np.array([1, 2, 3, 4])},
        {"indptr": np.array([0, 2, 3, 3])},
        {"indptr": np.array([0, 3, 2, 4])},
        {"indptr": np.array([0, 2, 4])},
        {"indptr": INDPTR.astype(float)},
    ],
)
def test_csr_judge_finds_planted_faults(fault):
    assert not is_csr(**GOOD_CSR | fault)


@pytest.mark.parametrize(
    "fault",
    [
        *BAD_IN_BOTH,
        {"shape": (3, 4)},
        {"shape": (4, 2)},
        {"indices": np.array([0, 4, 2, 0])},
        {"indices": np.array([3, 0, 2, 0])},
        {"indptr": np.array([0, 3, 2, 4])},
        {"indptr": np.array([0, 2, 3, 4, 4])},
    ],
)
def test_csc_judge_finds_planted_faults(fault):
    assert not is_csc(**GOOD_CSC | fault)


@pytest.mark.parametrize(
    "fault",
    [
        {"shape": (7, 15)},
        {"shape": (6, 14)},
        {"shape": (8, 15)},
        {"shape": (6, 10)},
        {"shape": [6, 15]},
        {"data": BLOCKS[:-1]},
        {"data": BLOCKS[:, 0]},
        {"data": BLOCKS[:, :, :0]},
        {"data": BLOCKS.astype(int)},
        {"data": BLOCKS.tolist()},
        {"indices": np.array([0, 3, 2, 0])},
        {"indices": np.array([2, 0, 2, 0])},
        {"indptr": np.array([0, 2, 4])},
        {"data": BLOCKS[..., None]},
    ],
)
def test_bsr_judge_finds_planted_faults(fault):
    assert not is_bsr(**GOOD_BSR | fault)


@pytest.mark.parametrize("name", GOOD_CSR)
def test_corruptions_reach_every_field(name):
    bad = find(corruptions(GOOD_CSR), lambda bad: bad[name] is not GOOD_CSR[name])
    assert list(bad) == list(GOOD_CSR)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda bad: is_csr(**bad),
        lambda bad: isinstance(bad["indices"], list),
        lambda bad: isinstance(bad["indices"], np.ndarray) and bad["indices"].dtype == object,
        lambda bad: isinstance(bad["indices"], np.ndarray) and bad["indices"].ndim == 2,
        lambda bad: isinstance(bad["indptr"], np.ndarray) and len(bad["indptr"]) == 5,
        lambda bad: bad["shape"] == (3, 2**63),
    ],
    ids=["harmless", "list", "object", "two axes", "one longer", "huge"],
)
def test_corruptions_are_of_many_kinds(wanted):
    assert wanted(find(corruptions(GOOD_CSR), wanted))


PACKED = {"bits": np.array([[0b1010]], np.uint8), "pattern": (2, 4), "shape": (1, 4)}


@pytest.mark.parametrize(
    "wanted",
    [
        lambda bad: isinstance(bad["bits"], np.ndarray) and bad["bits"].tolist() == [[0b101010]],
        lambda bad: isinstance(bad["bits"], np.ndarray) and bad["bits"].shape == (1, 0),
        lambda bad: bad["pattern"] == (2, 5),
        lambda bad: bad["pattern"] == [3, 3],
    ],
    ids=["another bit", "one column less", "another pattern", "no pair"],
)
def test_corruptions_change_packed_bits_and_patterns(wanted):
    assert wanted(find(corruptions(PACKED), wanted))
