"""Bitmap: one bit a position, the lowest bit first, and a value for each bit that is 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from refimpl.formats import COO, CSR, Bitmap
from support.strategies import dense_matrices


def test_bitmap_of_the_hand_worked_example():
    bitmap = Bitmap.from_dense(np.array([[1, 0, 2], [0, 0, 3], [4, 0, 0]], np.float32))
    assert bitmap.bits.tolist() == [[0b101], [0b100], [0b001]]
    assert bitmap.data.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("column", [0, 1, 7, 8, 15, 16])
def test_bitmap_column_is_a_bit_of_a_byte(column):
    dense = np.zeros((1, 17), np.float32)
    dense[0, column] = 1
    expected = np.zeros((1, 3), np.uint8)
    expected[0, column // 8] = 1 << column % 8
    np.testing.assert_array_equal(Bitmap.from_dense(dense).bits, expected)


@given(dense=dense_matrices(max_side=20))
def test_bitmap_row_is_one_long_number(dense):
    bitmap = Bitmap.from_dense(dense)
    rows = [int.from_bytes(row.tobytes(), "little") for row in bitmap.bits]
    assert rows == [sum(1 << j for j, v in enumerate(row) if v != 0) for row in dense.tolist()]
    assert bitmap.data.tolist() == [v for row in dense.tolist() for v in row if v != 0]


@given(dense=dense_matrices(max_side=20))
def test_bitmap_mask_is_where_values_are_stored(dense):
    np.testing.assert_array_equal(Bitmap.from_dense(dense).mask(), dense != 0, strict=True)


def test_bitmap_gives_a_stored_zero_its_bit():
    rows, cols = np.array([1, 0], np.int32), np.array([0, 9], np.int32)
    bitmap = Bitmap.from_coo(COO(rows, cols, np.array([0.0, 4.0]), (2, 10)))
    assert bitmap.bits.tolist() == [[0, 0b10], [1, 0]]
    assert bitmap.data.tolist() == [4, 0]


# m n / 8 < 4 nnz + 4 (m + 1): from a density of about 1 / 32 on
@pytest.mark.parametrize(
    ("shape", "nnz", "smaller"),
    [
        ((3, 3), 0, True),
        ((64, 64), 63, False),
        ((64, 64), 64, True),
        ((1024, 1024), 31_743, False),
        ((1024, 1024), 31_744, True),
    ],
)
def test_bitmap_is_smaller_than_csr_above_one_in_thirty_two(shape, nnz, smaller):
    dense = np.zeros(shape, np.float32)
    dense.flat[:nnz] = 1
    assert (Bitmap.from_dense(dense).nbytes < CSR.from_dense(dense).nbytes) == smaller


# What is refused


def example() -> dict:
    """A row of ten entries, of which those of columns 1 and 8 are stored."""
    return {
        "bits": np.array([[0b10, 0b01]], np.uint8),
        "data": np.array([5, 6], np.float32),
        "shape": (1, 10),
    }


def test_bitmap_example_is_as_drawn():
    np.testing.assert_array_equal(Bitmap(**example()).to_dense(), [[0, 5, 0, 0, 0, 0, 0, 0, 6, 0]])


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"bits": np.array([[0b10, 0b100]], np.uint8)}, "bits must be 0 past column 9, got a 1 in"),
        (
            {"bits": np.array([[0b11, 0b01]], np.uint8)},
            "data must hold one value for .* 3 ones, got",
        ),
        (
            {"bits": np.array([[0b10, 0b00]], np.uint8)},
            "data must hold one value for .* 1 ones, got",
        ),
        ({"bits": np.array([[0b10]], np.uint8)}, r"bits must have shape \(1, 2\), got \(1, 1\)"),
        ({"bits": np.array([0b10, 0b01], np.uint8)}, "bits must have 2 axes"),
        ({"data": np.ones(3)}, "data must hold one value for each of the 2 ones, got 3; a stored"),
        ({"shape": (1, 8)}, r"bits must have shape \(1, 1\), got \(1, 2\)"),
        ({"shape": (2, 10)}, r"bits must have shape \(2, 2\), got \(1, 2\)"),
    ],
)
def test_bitmap_refuses(fault, match):
    with pytest.raises(ValueError, match=f"^Bitmap: {match}"):
        Bitmap(**example() | fault)


def test_bitmap_names_the_row_of_a_bit_too_many():
    bits = np.array([[1], [2], [4]], np.uint8)
    with pytest.raises(ValueError, match=r"past column 1, got a 1 in row 2; pack with np\."):
        Bitmap(bits, np.ones(3), (3, 2))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint32])
def test_bitmap_refuses_bits_that_are_no_bytes(dtype):
    with pytest.raises(TypeError, match=r"^Bitmap: bits must be uint8, got"):
        Bitmap(**example() | {"bits": example()["bits"].astype(dtype)})
