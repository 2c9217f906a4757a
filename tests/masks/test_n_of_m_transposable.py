"""Transposable 2:4 masks: of the ninety patterns of a block, the best, to the last bit."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import compress, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats import TwoFour
from refimpl.masks import n_of_m, transposable_two_four
from support.strategies import SPECIAL, saliencies

# All 4 x 4 blocks of bits, the first entry in the highest bit; descending, early entries first.
BLOCKS = [[int(bit) for bit in f"{code:016b}"] for code in range(2**16 - 1, -1, -1)]
NINETY = [
    bits
    for bits in BLOCKS
    if all(sum(bits[4 * i : 4 * i + 4]) == 2 == sum(bits[i::4]) for i in range(4))
]


def best_pattern(block: np.ndarray) -> list[int]:
    """Oracle: of the ninety, the first with the largest exact sum."""
    exact = [int(Fraction(float(value)) * 2**1074) for value in block.reshape(-1)]
    return max(NINETY, key=lambda bits: sum(compress(exact, bits)))


def kept_sum(saliency: np.ndarray, mask: np.ndarray) -> Fraction:
    return sum((Fraction(float(value)) for value in saliency[mask]), Fraction(0))


def blocks_of(array: np.ndarray) -> list[np.ndarray]:
    """The 4 x 4 blocks of a matrix, row by row."""
    rows, columns = (range(0, side, 4) for side in array.shape)
    return [array[i : i + 4, j : j + 4] for i, j in product(rows, columns)]


def agrees_with_brute_force(mask: np.ndarray, saliency: np.ndarray) -> bool:
    pairs = zip(blocks_of(mask), blocks_of(saliency), strict=True)
    return all(found.ravel().tolist() == best_pattern(block) for found, block in pairs)


matrices = st.tuples(st.integers(0, 2), st.integers(0, 2)).flatmap(
    lambda sides: saliencies((4 * sides[0], 4 * sides[1]), [*SPECIAL, 2.0, 0.1, 1e-30])
)
UNIT = 2.0**-48  # of the first digit that is compared, for entries from 1/2 up to 1
near = st.builds(
    lambda large, k: large + k * UNIT / 32, st.sampled_from([0, 0.5]), st.integers(-50, 50)
)
close = hnp.arrays(np.float64, (4, 4), elements=near)


def test_ninety_blocks_have_two_per_row_and_column():
    assert len(NINETY) == 90


@given(matrices | close)
def test_transposable_two_four_is_the_best_of_ninety_patterns(saliency):
    assert agrees_with_brute_force(transposable_two_four(saliency), saliency)


def test_transposable_two_four_is_the_best_of_each_block_of_a_large_matrix():
    saliency = np.random.default_rng(0).integers(0, 9, (129, 4, 128, 4)).astype(float)
    mask = transposable_two_four(saliency.reshape(516, 512)).reshape(saliency.shape)
    found, blocks = (array.swapaxes(1, 2).reshape(-1, 16) for array in (mask, saliency))
    best = (blocks @ np.transpose(NINETY)).argmax(axis=1)  # of exact sums
    np.testing.assert_array_equal(found, np.array(NINETY)[best])


def test_transposable_two_four_needs_few_bytes_an_entry():
    saliency = np.ones((1024, 2048), np.float32)
    tracemalloc.start()
    transposable_two_four(saliency)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * saliency.size


@given(matrices)
def test_transposable_two_four_is_valid_both_ways(saliency):
    mask = transposable_two_four(saliency)
    assert (mask.dtype, mask.shape, mask.flags.c_contiguous) == (np.bool_, saliency.shape, True)
    TwoFour.from_dense(mask.astype(np.float32))
    TwoFour.from_dense(mask.T.astype(np.float32))
    assert all((b.sum(axis=axis) == 2).all() for b in blocks_of(mask) for axis in (0, 1))


@given(matrices)
def test_transposable_two_four_keeps_no_more_than_two_four(saliency):
    mask = transposable_two_four(saliency)
    assert kept_sum(saliency, mask) <= kept_sum(saliency, n_of_m(saliency, 2, 4))


@given(matrices)
def test_transposable_two_four_keeps_as_much_of_the_transpose(saliency):
    there, back = transposable_two_four(saliency), transposable_two_four(saliency.T)
    assert kept_sum(saliency, there) == kept_sum(saliency.T, back)


@given(matrices)
def test_transposable_two_four_leaves_its_argument_alone(saliency):
    before = saliency.copy()
    transposable_two_four(saliency)
    assert saliency.tobytes() == before.tobytes()


def greedy(saliency: np.ndarray) -> np.ndarray:
    """Wrong: the largest entry whose row and column of one block have room, again and again."""
    mask = np.zeros((4, 4), bool)
    for place in np.argsort(-saliency, axis=None, kind="stable"):
        i, j = divmod(int(place), 4)
        mask[i, j] = mask[i].sum() < 2 and mask[:, j].sum() < 2
    return mask


def by_rounded_sums(saliency: np.ndarray) -> np.ndarray:
    """Wrong: the first of the largest sums of one block, where rounding makes ties unequal."""
    scores = [sum(saliency.ravel()[np.array(bits, bool)].tolist()) for bits in NINETY]
    return np.array(NINETY[int(np.argmax(scores))], bool).reshape(4, 4)


# Greedy ends with seven: row 0 and column 3 have room, and meet in an entry that is taken.
DEAD_END = np.array([[7.0, 2, 8, 0], [5, 7, 9, 5], [9, 2, 9, 9], [9, 5, 6, 3]])
# Tenths: the sums of 0.1 + 0.2 + 0.3 and of 0.3 + 0.2 + 0.1 differ in the last bit.
TENTHS = np.array([[2, 2, 3, 3], [1, 1, 3, 3], [1, 1, 3, 2], [1, 3, 1, 2]]) / 10


def test_brute_force_exposes_the_greedy_mask():
    mask = greedy(DEAD_END)
    assert not agrees_with_brute_force(mask, DEAD_END)
    assert mask.sum() == 7
    assert (DEAD_END[mask].sum(), DEAD_END[transposable_two_four(DEAD_END)].sum()) == (48, 59)


def test_a_block_of_seven_may_keep_more_than_any_of_the_ninety():
    saliency = np.array([[9.0, 0, 0, 0], [0, 0, 5, 5], [0, 5, 0, 5], [0, 5, 5, 0]])
    assert (greedy(saliency).sum(), saliency[greedy(saliency)].sum()) == (7, 39)
    assert saliency[transposable_two_four(saliency)].sum() == 34


def test_brute_force_exposes_rounded_sums():
    assert not agrees_with_brute_force(by_rounded_sums(TENTHS), TENTHS)
    assert agrees_with_brute_force(transposable_two_four(TENTHS), TENTHS)


def test_transposable_two_four_lets_the_last_bits_decide():
    almost = 31 / 32  # the first digit sees 0, and the diagonal blocks lead by four units
    saliency = 0.5 + UNIT * np.kron([[1, almost], [almost, 0]], np.ones((2, 2)))
    mask = transposable_two_four(saliency)
    assert agrees_with_brute_force(mask, saliency)
    assert mask[0].tolist() == [False, False, True, True]


# Two patterns tie: six entries are in both, and corners of a rectangle in one or the other.
TWO_TIE = np.array([[1, 0.5, 0, 0.5], [1, 1, 0, 0], [0, 0.5, 1, 0.5], [0, 0, 1, 1]])


@pytest.mark.parametrize("saliency", [np.full((4, 4), 0.5), TWO_TIE], ids=["ninety", "two"])
def test_transposable_two_four_breaks_a_tie_by_one_last_bit(saliency):
    more = saliency.copy()
    more[0, 3] += 2.0**-52
    assert agrees_with_brute_force(transposable_two_four(more), more)
    assert transposable_two_four(more)[0].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("dtype", "large", "small"),
    [(np.float16, 65504, 6e-8), (np.float32, 3e38, 1e-45), (np.float64, 1.7e308, 5e-324)],
)
def test_transposable_two_four_sees_the_smallest_beside_the_largest(dtype, large, small):
    saliency = np.full((4, 4), large, dtype)
    saliency[0] = [0, 0, 0, small]
    assert agrees_with_brute_force(transposable_two_four(saliency), saliency)
    assert transposable_two_four(saliency)[0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("value", [0.1, 0.0, -1.0, np.finfo(np.float64).max])
def test_transposable_two_four_of_equal_entries_is_the_first_pattern(value):
    mask = transposable_two_four(np.full((4, 4), value))
    assert mask.astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("saliency", "kind", "message"),
    [
        (np.ones((10, 4)), ValueError, r"outputs \(axis 0\) must be a multiple of 4, got 10; lea"),
        (np.ones((4, 10)), ValueError, r"inputs \(axis 1\) must be a multiple of 4, got 10; leave"),
        (np.ones((4, 4, 4, 4)), ValueError, "saliency must have 2 axes, got shape"),
        (np.full((4, 4), np.nan), ValueError, "saliency must be finite, got 16 infinite or NaN of"),
        (np.diag([np.inf, 1, 1, 1]), ValueError, "saliency must be finite, got 1 infinite or NaN"),
        (np.ones((4, 4), int), TypeError, "saliency must be float16 or .+, got int64;"),
    ],
)
def test_transposable_two_four_refuses_with_a_sentence(saliency, kind, message):
    with pytest.raises(kind, match="transposable_two_four: .*" + message):
        transposable_two_four(saliency)
