"""N:M: any N of any M up to 256, and 2:4 as a special case."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import CSR, NOfM, TwoFour
from support.judges_groups import is_n_of_m
from support.strategies import bit_patterns, dense_matrices, grouped

PATTERNS = [(1, 2), (1, 3), (2, 3), (2, 4), (1, 4), (3, 5), (4, 8), (3, 8), (2, 16), (5, 20)]
every_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p[0]}:{p[1]}")


@given(dense=partial(grouped, bit_patterns, (2, 4))())
def test_two_of_four_is_two_four_bit_for_bit(dense):
    ours, two_four = NOfM.from_dense(dense, pattern=(2, 4)), TwoFour.from_dense(dense)
    assert ours.values.tobytes() == two_four.values.tobytes()
    assert ours.meta.tobytes() == two_four.meta.tobytes()


@every_pattern
@given(data=st.data())
def test_roundtrip_is_exact_for_every_pattern(pattern, data):
    dense = data.draw(grouped(dense_matrices, pattern, max_side=2 * pattern[1]))
    a = NOfM.from_dense(dense, pattern=pattern)
    assert is_n_of_m(a.values, a.meta, a.pattern, a.shape)
    np.testing.assert_array_equal(a.to_dense(), dense)


@every_pattern
def test_product_is_that_of_csr(pattern):
    n, m = pattern
    rng = np.random.default_rng(0)
    kept = np.argsort(rng.random((5, 7, m)), axis=-1) < n
    dense = (kept * rng.integers(-9, 10, kept.shape)).reshape(5, 7 * m).astype(np.float64)
    x = rng.integers(-9, 10, (7 * m, 3)).astype(np.float64)
    np.testing.assert_array_equal(
        NOfM.from_dense(dense, pattern=pattern) @ x, CSR.from_dense(dense) @ x
    )


def test_a_full_group_stores_every_column():
    dense = np.arange(1.0, 13).reshape(2, 6)
    a = NOfM.from_dense(dense, pattern=(3, 3))
    np.testing.assert_array_equal(a.values, dense)
    np.testing.assert_array_equal(a.columns(), [range(6), range(6)])


def test_a_group_may_reach_across_two_words():
    dense = np.tile([0.0, 1, 2, 3, 0], (1, 3))  # nine indices of 4 bits, eight in a word
    a = NOfM.from_dense(dense, pattern=(3, 5))
    assert [hex(word) for word in a.meta[0]] == ["0x21321321", "0x2102103"]
    np.testing.assert_array_equal(a.to_dense(), dense)


@pytest.mark.parametrize(
    ("pattern", "dtype", "share"),
    [
        ((1, 2), np.float16, 17 / 32),
        ((2, 4), np.float16, 9 / 16),
        ((4, 8), np.float16, 5 / 8),
        ((8, 16), np.float32, 9 / 16),
        ((1, 4), np.float32, 17 / 64),
        ((1, 16), np.float32, 9 / 128),
    ],
)
def test_bytes_are_the_values_and_their_bits(pattern, dtype, share):
    dense = np.zeros((6, 512), dtype)
    assert NOfM.from_dense(dense, pattern=pattern).nbytes == share * dense.nbytes


def example() -> dict:
    """The matrix [[0, 1, 0, 2, 3, 0]] in the pattern 2:3, worked out by hand."""
    values = np.array([[1, 0, 2, 3]], np.float32)
    meta = np.array([[0b01_00_01_00_01_00_01_00_01_00_01_00_01_00_10_01]], np.uint32)
    return {"values": values, "meta": meta, "pattern": (2, 3), "shape": (1, 6)}


def test_the_hand_worked_example():
    a = NOfM.from_dense(np.array([[0, 1, 0, 2, 3, 0]], np.float32), pattern=(2, 3))
    assert a.values.tolist() == [[1, 0, 2, 3]]
    assert a.meta.tolist() == example()["meta"].tolist()


def test_numpy_counts_make_the_same_matrix():
    pattern = (np.uint8(2), np.int64(3))
    a = NOfM.from_dense(np.eye(3, dtype=np.float32), pattern=pattern)
    np.testing.assert_array_equal(a.to_dense(), np.eye(3))


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ({"meta": [[0x44444443]]}, ValueError, r"below 3 for each group, got \[3, 0\] in row 0"),
        ({"meta": [[0x44444449 ^ 0b1111]]}, ValueError, r"got \[2, 1\] in row 0, group 0; pack"),
        ({"meta": [[0x4444444C]]}, ValueError, r"below 3 for each group, got \[0, 3\] in row 0"),
        ({"meta": [[0x84444449]]}, ValueError, r"with the indices \[0, 1, .*, 0, 2\] in row 0"),
        ({"meta": [[1, 1]]}, ValueError, r"meta must have shape \(1, 1\), got \(1, 2\)"),
        ({"pattern": (2, 4)}, ValueError, "columns must be a multiple of 4, got 6; pad"),
        ({"pattern": (1, 3)}, ValueError, r"values must have shape \(1, 2\), got \(1, 4\)"),
        ({"pattern": (2, 6)}, ValueError, r"values must have shape \(1, 2\), got \(1, 4\)"),
        ({"pattern": [2, 3]}, TypeError, "pattern must be a tuple of two"),
        ({"shape": (1, 3)}, ValueError, r"values must have shape \(1, 2\), got \(1, 4\)"),
        ({"shape": (2, 6)}, ValueError, r"values must have shape \(2, 4\), got \(1, 4\)"),
    ],
)
def test_wrong_arrays_are_refused(fault, error, match):
    if "meta" in fault:
        fault = {"meta": np.array(fault["meta"], np.uint32)}
    with pytest.raises(error, match=f"^NOfM: .*{match}"):
        NOfM(**example() | fault)


def test_from_dense_names_the_group_that_is_too_full():
    dense = np.zeros((3, 10))
    dense[2, 5:8] = 1
    match = (
        "^NOfM.from_dense: dense must have at most 2 nonzeros in each group of 5 columns, got 3 in "
        r"row 2, group 1 \(columns from 5 on\); prune it to 2:5 first or use CSR$"
    )
    with pytest.raises(ValueError, match=match):
        NOfM.from_dense(dense, pattern=(2, 5))
