"""The judges of N:M formats judge rightly."""

from __future__ import annotations

import numpy as np
import pytest

from support.judges_groups import is_n_of_m, is_two_four

VALUES, META = np.ones((2, 4)), np.array([[0x444444D9], [0x444444E4]], np.uint32)
GOOD = {"values": VALUES, "meta": META, "shape": (2, 8)}


def test_two_four_judge_accepts_a_matrix():
    assert is_two_four(**GOOD)


def test_n_of_m_judge_accepts_a_matrix():
    assert is_n_of_m(np.ones((1, 3)), np.array([[0x10210765]], np.uint32), (3, 8), (1, 8))


@pytest.mark.parametrize(
    "fault",
    [
        {"values": VALUES[:1]},
        {"values": VALUES[:, :2]},
        {"values": VALUES.astype(int)},
        {"values": VALUES.tolist()},
        {"values": VALUES[0]},
        {"meta": META[:1]},
        {"meta": META[:, 0]},
        {"meta": META.astype(np.int32)},
        {"meta": np.hstack([META, META])},
        {"meta": np.array([[0x444444D9], [0x444444E0]], np.uint32)},
        {"meta": np.array([[0x444444D6], [0x444444E4]], np.uint32)},
        {"meta": np.array([[0x444444D9], [0x844444E4]], np.uint32)},
        {"shape": (2, 4)},
        {"shape": (2, 10)},
        {"shape": (1, 8)},
        {"shape": [2, 8]},
        {"shape": (2.0, 8)},
    ],
)
def test_two_four_judge_finds_planted_faults(fault):
    assert not is_two_four(**GOOD | fault)


@pytest.mark.parametrize("pattern", [(3, 4), (2, 8), (0, 4), (2, 1), (5, 4), [2, 4], (2.0, 4), 24])
def test_n_of_m_judge_refuses_another_pattern(pattern):
    assert not is_n_of_m(pattern=pattern, **GOOD)
