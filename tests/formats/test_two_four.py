"""2:4: two values and one nibble for four columns, as the hardware and PyTorch's packer have it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.formats import COO, TwoFour

LEGAL = {0b0100, 0b1000, 0b1001, 0b1100, 0b1101, 0b1110}
UNUSED = 0x44444440  # seven groups that a last word has no columns for


def nibbles(a: TwoFour, row: int = 0) -> list[int]:
    """The nibbles of a row, read from the digits of its words."""
    return [int(digit, 16) for word in a.meta[row] for digit in f"{word:08x}"[::-1]]


def test_two_four_of_the_hand_worked_example():
    a = TwoFour.from_dense(
        np.array([[0, 5, 0, 7, 0, 0, 0, 9], [1, 2, 0, 0, 0, 3, 4, 0]], np.float32)
    )
    assert a.values.tolist() == [[5, 7, 0, 9], [1, 2, 3, 4]]
    assert nibbles(a, 0)[:2] == [0b1101, 0b1110]
    assert nibbles(a, 1)[:2] == [0b0100, 0b1001]


@pytest.mark.parametrize(("i", "j"), list(combinations(range(4), 2)))
def test_two_four_nibble_is_the_two_columns_low_bits_first(i, j):
    dense = np.zeros((1, 4))
    dense[0, [i, j]] = 1, 2
    a = TwoFour.from_dense(dense)
    assert a.values.tolist() == [[1, 2]]
    assert a.meta.tolist() == [[UNUSED + i + 4 * j]]


@pytest.mark.parametrize("column", range(4))
def test_two_four_roundtrip_keeps_groups_with_one_nonzero(column):
    dense = 3 * np.eye(4)[[column]]
    a = TwoFour.from_dense(dense)
    assert a.nnz == 2
    np.testing.assert_array_equal(a.to_dense(), dense)


@pytest.mark.parametrize("columns", [4, 8, 28, 32, 36, 60, 64])
def test_two_four_fills_up_the_last_word_with_columns_zero_and_one(columns):
    a = TwoFour.from_dense(np.ones((2, columns)) * ([1, 1, 0, 0] * (columns // 4)))
    assert a.meta.shape == (2, -(-columns // 32))
    assert set(nibbles(a)) == {0b0100}


def test_two_four_word_holds_thirty_two_columns():
    dense = np.zeros((1, 64), np.float32)
    dense[0, [0, 1, 30, 31, 33, 35]] = 1
    assert TwoFour.from_dense(dense).meta.tolist() == [[0xEEEEEEE4, 0xEEEEEEED]]


# Zeros and NaN


def test_two_four_counts_minus_zero_as_zero():
    a = TwoFour.from_dense(np.array([[-0.0, 1, -0.0, 2]]))
    assert a.values.tolist() == [[1, 2]]


def test_two_four_stores_no_minus_zero():
    assert not np.signbit(TwoFour.from_dense(np.full((1, 4), -0.0)).values).any()


def test_two_four_counts_nan_as_nonzero():
    a = TwoFour.from_dense(np.array([[np.nan, 0, 0, 1]]))
    np.testing.assert_array_equal(a.values, [[np.nan, 1]])


def test_two_four_keeps_zeros_that_are_stored():
    a = TwoFour.from_dense(np.array([[1.0, 2, 0, 0]]))
    assert a.with_values(np.zeros((1, 2))).to_coo().cols.tolist() == [0, 1]


# Bytes


@pytest.mark.parametrize(
    ("dtype", "share"), [(np.float16, 9 / 16), (np.float32, 17 / 32), (np.float64, 33 / 64)]
)
def test_two_four_bytes_are_half_the_values_and_four_bits_a_group(dtype, share):
    dense = np.zeros((10, 96), dtype)
    assert TwoFour.from_dense(dense).nbytes == share * dense.nbytes


def test_two_four_fp16_takes_nine_sixteenths_of_dense():
    dense = np.zeros((1024, 1024), np.float16)
    assert 16 * TwoFour.from_dense(dense).nbytes == 9 * dense.nbytes


def test_two_four_of_a_few_columns_takes_a_whole_word():
    assert TwoFour.from_dense(np.zeros((3, 4), np.float32)).nbytes == 3 * (8 + 4)


def test_two_four_without_rows_takes_nothing():
    assert TwoFour.from_dense(np.zeros((0, 2**40))).nbytes == 0


# Products


def test_two_four_matmul_takes_a_dense_operand():
    a = TwoFour.from_dense(np.eye(4))
    with pytest.raises(TypeError, match="x must be an array, got TwoFour"):
        a @ a


def test_two_four_multiplies_the_zeros_that_fill_a_group():
    a = TwoFour.from_dense(np.array([[1.0, 0, 0, 0]]))  # columns 0 and 2 are stored
    np.testing.assert_array_equal(a @ np.array([1, np.inf, 1, np.inf]), [1])
    np.testing.assert_array_equal(a @ np.array([1, 1, np.inf, 1]), [np.nan])


# What is refused


def test_two_four_rejects_ten_columns():
    match = (
        "^TwoFour.from_dense: columns must be a multiple of 4, got 10; pad with zeros or use CSR$"
    )
    with pytest.raises(ValueError, match=match):
        TwoFour.from_dense(np.zeros((2, 10)))


@pytest.mark.parametrize("count", [3, 4])
def test_two_four_rejects_a_group_with_more_than_two_nonzeros(count):
    dense = np.zeros((5, 12))
    dense[3, 4 : 4 + count] = 1
    match = (
        "^TwoFour.from_dense: dense must have at most 2 nonzeros in each group of 4 columns, got "
        rf"{count} in row 3, group 1 \(columns from 4 on\); prune it to 2:4 first or use CSR$"
    )
    with pytest.raises(ValueError, match=match):
        TwoFour.from_dense(dense)


def test_two_four_rejects_coordinates_that_are_not_two_four():
    with pytest.raises(ValueError, match=r"^TwoFour.from_coo: dense must have at most 2 nonzeros"):
        TwoFour.from_coo(COO.from_dense(np.ones((1, 4))))


def with_nibble(nibble: int, group: int) -> TwoFour:
    """A row of four groups, one of them with this nibble."""
    word = sum((nibble if k == group else 0b0100) << 4 * k for k in range(8))
    return TwoFour(np.ones((1, 8)), np.array([[word]], np.uint32), (1, 16))


@pytest.mark.parametrize("nibble", sorted(LEGAL))
@pytest.mark.parametrize("group", [0, 3])
def test_two_four_accepts_the_six_legal_nibbles(nibble, group):
    assert nibbles(with_nibble(nibble, group))[group] == nibble


@pytest.mark.parametrize("nibble", sorted(set(range(16)) - LEGAL))
@pytest.mark.parametrize("group", [0, 3])
def test_two_four_rejects_the_ten_other_nibbles(nibble, group):
    pair = [nibble & 3, nibble >> 2]
    match = rf"^TwoFour: meta must hold strictly .* got \[{pair[0]}, {pair[1]}\] in row 0, group"
    with pytest.raises(ValueError, match=f"{match} {group}; pack it with TwoFour.from_dense"):
        with_nibble(nibble, group)


@pytest.mark.parametrize("nibble", sorted(set(range(16)) - {0b0100}))
@pytest.mark.parametrize("group", [4, 7])
def test_two_four_rejects_any_other_filling_of_the_last_word(nibble, group):
    match = r"^TwoFour: meta must fill up the last word of each row with the indices \[0, 1, 0, 1"
    with pytest.raises(ValueError, match=match):
        with_nibble(nibble, group)


# PyTorch


def reordered(meta: np.ndarray) -> np.ndarray:
    """Words of 16-bit values in the order of CUTLASS: blocks of 32 rows, the step of k outermost.

    A block of 32 rows and 32 columns is 64 half words. The half word of row 16 t + 8 u + g and
    half h comes as number 8 g + 4 t + 2 h + u.
    """
    rows, words = meta.shape
    halves = meta.view(np.uint16).reshape(rows // 32, 2, 2, 8, words, 2)  # block, t, u, g, step, h
    return halves.transpose(4, 0, 3, 1, 5, 2).reshape(rows, 2 * words).view(np.int16)


@pytest.fixture
def conversions():
    return pytest.importorskip(
        "torch.sparse._semi_structured_conversions", reason="PyTorch is not installed"
    )


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def random_two_four(seed: int, shape: tuple[int, int], emptied: float) -> np.ndarray:
    """Whole numbers, two of every four at random places, a share of these zeroed again."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    kept = np.argsort(rng.random((rows, columns // 4, 4)), axis=-1) < 2
    kept &= rng.random(kept.shape) >= emptied
    return (kept * rng.integers(1, 99, kept.shape)).reshape(shape).astype(np.float16)


torch_cases = pytest.mark.parametrize(
    ("shape", "emptied"),
    [((32, 64), 0.0), ((32, 64), 0.5), ((64, 128), 0.3), ((96, 192), 0.9), ((128, 64), 1.0)],
)


@torch_cases
def test_two_four_equals_the_packer_of_pytorch_bit_for_bit(torch, conversions, shape, emptied):
    dense = random_two_four(0, shape, emptied)
    ours = TwoFour.from_dense(dense)
    values, meta = conversions.sparse_semi_structured_from_dense_cutlass(torch.from_numpy(dense))
    assert ours.values.tobytes() == values.numpy().tobytes()
    np.testing.assert_array_equal(reordered(ours.meta), meta.numpy(), strict=True)


@torch_cases
def test_two_four_is_read_by_pytorch(torch, conversions, shape, emptied):
    dense = random_two_four(1, shape, emptied)
    ours = TwoFour.from_dense(dense)
    theirs = conversions.sparse_semi_structured_to_dense_cutlass(
        torch.from_numpy(ours.values.copy()), torch.from_numpy(reordered(ours.meta))
    )
    np.testing.assert_array_equal(theirs.numpy(), dense, strict=True)


@given(nonzero=hnp.arrays(np.bool_, (5, 9, 4)), data=st.data())
def test_two_four_stores_what_coo_stores(nonzero, data):
    few = nonzero & (np.cumsum(nonzero, axis=-1) <= 2)
    dense = few.reshape(5, 36).astype(np.float32)
    order = data.draw(st.permutations(range(np.count_nonzero(dense))))
    coo = COO.from_dense(dense)
    shuffled = COO(coo.rows[order], coo.cols[order], coo.data[order], coo.shape)
    assert TwoFour.from_coo(shuffled).meta.tobytes() == TwoFour.from_dense(dense).meta.tobytes()
