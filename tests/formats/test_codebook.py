"""Relative-index CSC with a codebook: one byte an entry, code in its low half, gap in its high."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given

from refimpl.formats import CSC, CodebookCSC, RelativeCSC
from support.formats import arrays_of
from support.strategies import bit_patterns, dense_matrices, few_values, tall

DENSE = np.zeros((20, 2), np.float32)
DENSE[[2, 3, 19], 0] = 0.5, -1.5, 0.5
DENSE[4, 1] = 2.0


def test_codebook_of_the_hand_worked_example():
    shared = CodebookCSC.from_dense(DENSE)
    assert shared.codebook.tolist() == [-1.5, 0.5, 2.0]
    assert shared.entries.tolist() == [0x22, 0x01, 0xF2, 0x43]
    assert shared.indptr.tolist() == [0, 3, 4]


def test_codebook_entries_take_one_byte():
    assert CodebookCSC.from_dense(DENSE).nbytes == 4 * 1 + 3 * 4 + 3 * 4


@given(dense=few_values(partial(tall, bit_patterns), 15))
def test_codebook_entries_stand_where_the_relative_ones_do(dense):
    looked_up = arrays_of(CodebookCSC.from_dense(dense).to_relative())
    stored = arrays_of(RelativeCSC.from_dense(dense))
    assert {k: v.tobytes() for k, v in looked_up.items()} == {
        k: v.tobytes() for k, v in stored.items()
    }


@given(dense=few_values(dense_matrices, 15))
def test_codebook_is_the_different_values_in_increasing_order(dense):
    expected = sorted(set(dense.ravel().tolist()) - {0.0})
    assert CodebookCSC.from_dense(dense).codebook.tolist() == expected


@given(dense=few_values(bit_patterns, 15))
def test_codebook_keeps_nans_of_different_bits_apart(dense):
    shared = CodebookCSC.from_dense(dense)
    bits = shared.codebook.view(f"u{dense.itemsize}")
    assert len(set(bits.tolist())) == bits.size


def test_codebook_holds_fifteen_values():
    assert CodebookCSC.from_dense(np.arange(16.0).reshape(4, 4)).codebook.size == 15


def test_codebook_refuses_sixteen_values():
    match = "^CodebookCSC: the matrix must hold at most 15 different nonzero values, got 16; "
    with pytest.raises(ValueError, match=match):
        CodebookCSC.from_dense(np.arange(17.0)[:, None])


# A codebook given


def test_codebook_given_is_kept_as_it_is():
    codebook = np.array([2.0, 9.0, 0.5, -1.5, 0.5], np.float32)
    shared = CodebookCSC.from_relative(RelativeCSC.from_dense(DENSE), codebook)
    assert shared.codebook.tolist() == codebook.tolist()
    assert (shared.entries % 16).tolist() == [3, 4, 3, 1]
    np.testing.assert_array_equal(shared.to_dense(), DENSE)


def test_codebook_is_refused_for_another_format():
    match = r"^CodebookCSC\.from_relative: relative must be a RelativeCSC, got CSC; use CodebookCSC"
    with pytest.raises(TypeError, match=match):
        CodebookCSC.from_relative(CSC.from_dense(DENSE), np.unique(DENSE))


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_codebook_gives_stored_zeros_code_zero(zero):
    relative = RelativeCSC.from_dense(DENSE).with_values(np.array([0.5, 0.5, zero, 0.5]))
    shared = CodebookCSC.from_relative(relative, np.array([zero, 0.5]))
    assert (shared.entries % 16).tolist() == [2, 2, 0, 2]
    assert not np.signbit(shared.to_dense()).any()


@pytest.mark.parametrize(
    ("codebook", "error", "match"),
    [
        (
            np.float32([0.5, 2]),
            ValueError,
            "hold every value, got no -1.5, which is entry 1; round",
        ),
        (np.float32([]), ValueError, "hold every value, got no 0.5, which is entry 0"),
        (np.zeros(16, np.float32), ValueError, "hold at most 15 values, got 16; four bits are 16"),
        (np.float64([0.5, 2, -1.5]), TypeError, "be float32, got float64"),
        (np.float32([[0.5, 2, -1.5]]), ValueError, r"have 1 axes, got shape \(1, 3\)"),
        ([0.5, 2.0, -1.5], TypeError, "be an array, got list"),
    ],
)
def test_codebook_given_is_refused(codebook, error, match):
    with pytest.raises(error, match=f"^CodebookCSC.from_relative: codebook must {match}"):
        CodebookCSC.from_relative(RelativeCSC.from_dense(DENSE), codebook)


# Another codebook


def test_codebook_step_moves_all_weights_of_a_code():
    moved = CodebookCSC.from_dense(DENSE).with_values(np.array([-1.0, 0.25, 3.0]))
    expected = np.select([DENSE == -1.5, DENSE == 0.5, DENSE == 2], [-1.0, 0.25, 3.0])
    np.testing.assert_array_equal(moved.to_dense(), expected)


def test_codebook_fillers_stay_zero_whatever_it_holds():
    column = np.zeros((40, 1))
    column[38] = 1
    moved = CodebookCSC.from_dense(column).with_values(np.array([7.0]))
    assert moved.nnz == 3
    np.testing.assert_array_equal(moved.to_dense(), 7 * column)


# What is refused


def example() -> dict:
    """The column (., 5, 6) and an empty one."""
    return {
        "entries": np.array([0x12, 0x01], np.uint8),
        "codebook": np.array([6, 5], np.float32),
        "indptr": np.array([0, 2, 2], np.int32),
        "shape": (3, 2),
    }


def test_codebook_example_is_as_drawn():
    np.testing.assert_array_equal(CodebookCSC(**example()).to_dense(), [[0, 0], [5, 0], [6, 0]])


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (
            {"entries": np.array([0x13, 0x01], np.uint8)},
            r"hold codes in \[0, 2\], got 3 at pos.* 0;",
        ),
        (
            {"entries": np.array([0x12, 0x11], np.uint8)},
            r"entries must lead to rows in \[0, 3\), got",
        ),
        ({"codebook": np.ones(1, np.float32)}, r"hold codes in \[0, 1\], got 2 at position 0"),
        ({"codebook": np.ones(16, np.float32)}, "codebook must hold at most 15 values, got 16"),
        ({"codebook": np.ones((1, 2), np.float32)}, "codebook must have 1 axes"),
        ({"indptr": np.array([0, 1, 1], np.int32)}, "indptr must start at 0 and end at 2, got 0"),
        ({"shape": (3, 1)}, r"indptr must have shape \(2,\), got \(3,\)"),
    ],
)
def test_codebook_refuses(fault, match):
    with pytest.raises(ValueError, match=f"^CodebookCSC: .*{match}"):
        CodebookCSC(**example() | fault)
