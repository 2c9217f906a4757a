"""Relative-index CSC: gaps of four bits, fillers where they are longer, and how many of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import COO, RelativeCSC, expected_fillers
from refimpl.formats.relative import pack_nibbles, unpack_nibbles
from support.strategies import dense_matrices, tall


def column_of(n_rows: int, entries: dict[int, float]) -> np.ndarray:
    """A matrix of one column with these values at these rows."""
    dense = np.zeros((n_rows, 1), np.float32)
    dense[list(entries), 0] = list(entries.values())
    return dense


def encoded(dense: np.ndarray) -> tuple[list[float], list[int], list[int]]:
    """The paper's v, z and p, entry by entry."""
    v, z, p = [], [], [0]
    for column in dense.T.tolist():
        zeros = 0
        for row in (row for row, value in enumerate(column) if value != 0):
            zeros = row - zeros
            while zeros > 15:
                v, z, zeros = [*v, 0.0], [*z, 15], zeros - 16
            v, z, zeros = [*v, column[row]], [*z, zeros], row + 1
        p.append(len(v))
    return v, z, p


def gaps_of(relative: RelativeCSC) -> list[int]:
    halves = [half for byte in relative.gaps.tolist() for half in (byte % 16, byte // 16)]
    return halves[: relative.nnz]


# The layout


def test_relative_of_the_column_in_the_eie_paper():
    relative = RelativeCSC.from_dense(column_of(23, {2: 1, 3: 2, 22: 3}))
    assert relative.data.tolist() == [1, 2, 0, 3]
    assert relative.gaps.tolist() == [0x02, 0x2F]  # gaps 2 and 0, 15 and 2
    assert relative.indptr.tolist() == [0, 4]


@pytest.mark.parametrize("zeros", [0, 1, 14, 15, 16, 17, 30, 31, 32, 33, 47, 48])
@pytest.mark.parametrize("first", [None, 0, 5])
def test_relative_bridges_sixteen_zeros_with_each_filler(zeros, first):
    above = {} if first is None else {first: 1.0}
    start = 0 if first is None else first + 1
    relative = RelativeCSC.from_dense(column_of(60, {**above, start + zeros: 2.0}))
    assert gaps_of(relative)[len(above) :] == [15] * (zeros // 16) + [zeros % 16]
    assert relative.data.tolist()[len(above) :] == [0.0] * (zeros // 16) + [2.0]


@given(dense=tall(dense_matrices))
def test_relative_arrays_are_those_of_the_paper(dense):
    relative = RelativeCSC.from_dense(dense)
    arrays = relative.data.tolist(), gaps_of(relative), relative.indptr.tolist()
    assert arrays == encoded(dense)


def test_relative_puts_no_filler_at_the_end_of_a_column():
    dense = np.hstack([column_of(99, {0: 1.0}), column_of(99, {}), column_of(99, {15: 2.0})])
    assert RelativeCSC.from_dense(dense).nnz == 2


@given(numbers=st.lists(st.integers(0, 15)))
def test_nibbles_come_back_the_low_half_first(numbers):
    packed = pack_nibbles(np.array(numbers, np.uint8))
    as_one_number = sum(number << 4 * k for k, number in enumerate(numbers))
    assert int.from_bytes(packed.tobytes(), "little") == as_one_number
    assert unpack_nibbles(packed, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_relative_and_coo_keep_the_index_dtype(dtype):
    coo = COO(np.array([20], dtype), np.array([0], dtype), np.ones(1), (30, 2))
    relative = RelativeCSC.from_coo(coo)
    assert relative.indptr.dtype == relative.to_coo().rows.dtype == dtype


def test_relative_holds_more_rows_than_int32_counts():
    relative = RelativeCSC(np.ones(1), np.array([7], np.uint8), np.array([0, 1]), (2**40, 1))
    assert relative.to_coo().rows.tolist() == [7]


# Fillers are entries


def test_relative_gives_fillers_to_coo_as_stored_zeros():
    coo = RelativeCSC.from_dense(column_of(40, {33: 5.0})).to_coo()
    assert coo.rows.tolist() == [15, 31, 33]
    assert coo.data.tolist() == [0, 0, 5]


def test_relative_keeps_the_stored_zeros_of_coo():
    rows, cols = np.array([3, 1], np.int32), np.array([0, 0], np.int32)
    relative = RelativeCSC.from_coo(COO(rows, cols, np.array([4.0, 0.0]), (5, 1)))
    assert (relative.data.tolist(), gaps_of(relative)) == ([0, 4], [1, 1])


def test_relative_filler_times_infinity_is_nan():
    y = RelativeCSC.from_dense(column_of(20, {18: 1.0})) @ np.array([np.inf], np.float32)
    assert np.flatnonzero(np.isnan(y)).tolist() == [15]


def test_relative_filler_may_be_given_a_value():
    relative = RelativeCSC.from_dense(column_of(20, {18: 1.0}))
    dense = relative.with_values(np.array([6, 7], np.float32)).to_dense()
    np.testing.assert_array_equal(dense, column_of(20, {15: 6, 18: 7}))


def test_relative_zero_of_gap_fifteen_may_end_a_column():
    relative = RelativeCSC.from_dense(column_of(20, {15: 1.0})).with_values(np.zeros(1))
    assert RelativeCSC(relative.data, relative.gaps, relative.indptr, (20, 1)).nnz == 1


# What is refused


def example() -> dict:
    """Columns (., 1, 2) and (., ., 3) and an empty one."""
    return {
        "data": np.array([1, 2, 3], np.float32),
        "gaps": np.array([0x01, 0x02], np.uint8),
        "indptr": np.array([0, 2, 3, 3], np.int32),
        "shape": (3, 3),
    }


def test_relative_example_is_as_drawn():
    dense = RelativeCSC(**example()).to_dense()
    np.testing.assert_array_equal(dense, [[0, 0, 0], [1, 0, 0], [2, 3, 0]])


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (
            {"gaps": np.array([0x01, 0x03], np.uint8)},
            r"gaps must lead to rows in \[0, 3\), got 3 f",
        ),
        ({"gaps": np.array([0x11, 0x02], np.uint8)}, r"got 3 for entry 1; a gap is the distance"),
        ({"gaps": np.array([0x01, 0x12], np.uint8)}, "gaps must end in four bits of 0 .*, got 1;"),
        ({"gaps": np.array([0x01], np.uint8)}, r"gaps must have shape \(2,\), got \(1,\)"),
        ({"gaps": np.array([1, 0, 2], np.uint8)}, r"gaps must have shape \(2,\), got \(3,\)"),
        ({"shape": (2, 3)}, r"gaps must lead to rows in \[0, 2\), got 2 for entry 1"),
        ({"shape": (3, 2)}, r"indptr must have shape \(3,\), got \(4,\)"),
        ({"indptr": np.array([0, 2, 2, 2], np.int32)}, "indptr must start at 0 and end at 3, got"),
        ({"indptr": np.array([0, 3, 2, 3], np.int32)}, "never decrease, got 3 then 2 at column 1"),
        ({"indptr": np.array([0, 3, 3, 3], np.int32)}, "got 5 for entry 2"),
    ],
)
def test_relative_refuses(fault, match):
    with pytest.raises(ValueError, match=f"^RelativeCSC: .*{match}"):
        RelativeCSC(**example() | fault)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32])
def test_relative_refuses_gaps_that_are_no_bytes(dtype):
    with pytest.raises(TypeError, match=r"^RelativeCSC: gaps must be uint8, got"):
        RelativeCSC(**example() | {"gaps": np.array([0x01, 0x02], dtype)})


# How many fillers


def fillers_by_markov_chain(n_rows: int, density: float, span: int) -> float:
    """Walk down a column and keep the probability of each run of zeros so far."""
    runs, fillers = [1.0], 0.0
    for _ in range(n_rows):
        fillers += density * sum(p * (zeros // span) for zeros, p in enumerate(runs))
        runs = [density * sum(runs), *((1 - density) * p for p in runs)]
    return fillers


@given(
    n_rows=st.integers(0, 150), density=st.floats(0, 1), gap_bits=st.sampled_from([1, 2, 3, 4, 5])
)
def test_expected_fillers_agree_with_a_markov_chain(n_rows, density, gap_bits):
    exact = fillers_by_markov_chain(n_rows, density, 2**gap_bits)
    assert expected_fillers(n_rows, density, gap_bits=gap_bits) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("n_rows", "density"), [(64, 0.04), (100, 0.1), (300, 0.02), (40, 0.2), (16, 0.1)]
)
def test_expected_fillers_agree_with_random_masks(n_rows, density):
    mask = np.random.default_rng(0).random((n_rows, 5000)) < density
    stored = np.diff(RelativeCSC.from_dense(mask.astype(np.float16)).indptr)
    fillers = stored - mask.sum(axis=0)
    off = abs(fillers.mean() - expected_fillers(n_rows, density))
    assert off <= 5 * fillers.std() / np.sqrt(fillers.size)


@pytest.mark.parametrize("density", [0.01, 0.04, 0.1, 0.3])
def test_expected_fillers_of_a_long_column_are_geometric(density):
    n_rows, q = 10**6, (1 - density) ** 16
    per_entry = expected_fillers(n_rows, density) / (n_rows * density)
    assert per_entry == pytest.approx(q / (1 - q), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((-1, 0.1), ValueError, "n_rows must be at least 0, got -1"),
        ((1.5, 0.1), TypeError, "n_rows must be an integer, got 1.5"),
        ((9, 1.1), ValueError, r"density must be in \[0, 1\], got 1.1"),
        ((9, "a"), TypeError, "density must be a number, got 'a'"),
    ],
)
def test_expected_fillers_refuse(arguments, error, match):
    with pytest.raises(error, match=f"^expected_fillers: {match}"):
        expected_fillers(*arguments)


@pytest.mark.parametrize("gap_bits", [0, 33])
def test_expected_fillers_refuse_a_width(gap_bits):
    with pytest.raises(ValueError, match=r"^expected_fillers: gap_bits must be in \[1, 32\]"):
        expected_fillers(9, 0.1, gap_bits=gap_bits)
