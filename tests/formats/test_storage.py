"""The bytes of each format: those of the real arrays, and sums done by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import (
    BSR,
    COO,
    CSC,
    CSR,
    Bitmap,
    CodebookCSC,
    NOfM,
    RelativeCSC,
    TwoFour,
    bitmap_bytes,
    break_even,
    bsr_bytes,
    codebook_csc_bytes,
    coo_bytes,
    csc_bytes,
    csr_bytes,
    dense_bytes,
    expected_blocks,
    n_of_m_bytes,
    relative_csc_bytes,
    two_four_bytes,
)
from support.formats import DENSE, every_format
from support.strategies import FLOATS

SHAPES = st.tuples(st.integers(0, 40), st.integers(0, 40))
INTEGERS = (np.int8, np.int16, np.int32, np.int64)


def widths(matrix, index: str = "indptr") -> dict[str, int]:
    """Bytes of a value and of an index of a matrix."""
    return {
        "value_bytes": matrix.dtype.itemsize,
        "index_bytes": getattr(matrix, index).itemsize,
    }


# The formula of each format, of what can be counted in a matrix.
FORMULAS = {
    COO: lambda a: coo_bytes(a.shape, a.nnz, **widths(a, "rows")),
    CSR: lambda a: csr_bytes(a.shape, a.nnz, **widths(a)),
    CSC: lambda a: csc_bytes(a.shape, a.nnz, **widths(a)),
    BSR: lambda a: bsr_bytes(a.shape, len(a.data), a.block_shape, **widths(a)),
    TwoFour: lambda a: two_four_bytes(a.shape, value_bytes=a.dtype.itemsize),
    NOfM: lambda a: n_of_m_bytes(a.shape, a.pattern, value_bytes=a.dtype.itemsize),
    Bitmap: lambda a: bitmap_bytes(a.shape, a.nnz, value_bytes=a.dtype.itemsize),
    RelativeCSC: lambda a: relative_csc_bytes(a.shape, a.nnz, **widths(a)),
    CodebookCSC: lambda a: codebook_csc_bytes(a.shape, a.nnz, a.codebook.size, **widths(a)),
}


@st.composite
def counted(draw) -> tuple[tuple[int, int], int]:
    """A shape, and a number of entries that it has room for."""
    m, n = draw(SHAPES)
    return (m, n), draw(st.integers(0, m * n))


def ones_first(nnz: int, shape: tuple[int, int], dtype: type = np.float32) -> np.ndarray:
    """A matrix of zeros whose first `nnz` entries are one."""
    dense = np.zeros(shape, dtype)
    dense.flat[:nnz] = 1
    return dense


# Every formula against the arrays


@every_format
@given(data=st.data())
def test_formula_counts_the_bytes_of_the_real_matrix(fmt, data):
    matrix = fmt.from_dense(data.draw(fmt.matrices()))
    assert FORMULAS[fmt.kind](matrix) == matrix.nbytes


@every_format
def test_formula_counts_wide_indices(fmt):
    narrow = COO.from_dense(DENSE)
    wide = COO(narrow.rows.astype(np.int64), narrow.cols.astype(np.int64), narrow.data, (4, 4))
    matrix = fmt.from_coo(wide)
    assert FORMULAS[fmt.kind](matrix) == matrix.nbytes


@given(shape=SHAPES, dtype=st.sampled_from(FLOATS + INTEGERS))
def test_dense_bytes_are_those_of_the_array(shape, dtype):
    assert dense_bytes(shape, value_bytes=dtype().itemsize) == np.empty(shape, dtype).nbytes


@given(layer=counted(), value=st.sampled_from(INTEGERS), index=st.sampled_from(INTEGERS))
def test_csr_bytes_hold_for_widths_that_no_format_has(layer, value, index):
    (m, n), nnz = layer
    arrays = np.zeros(nnz, value), np.zeros(nnz, index), np.zeros(m + 1, index)
    widths = {"value_bytes": arrays[0].itemsize, "index_bytes": arrays[1].itemsize}
    assert csr_bytes((m, n), nnz, **widths) == sum(array.nbytes for array in arrays)


@given(layer=counted(), dtype=st.sampled_from(FLOATS + INTEGERS))
def test_bitmap_bytes_are_one_bit_per_position_plus_values(layer, dtype):
    (m, n), nnz = layer
    bits, values = np.packbits(np.zeros((m, n), bool), axis=1), np.zeros(nnz, dtype)
    assert bitmap_bytes((m, n), nnz, value_bytes=values.itemsize) == bits.nbytes + values.nbytes


# Numbers that circulate, and what is right


@pytest.mark.parametrize(
    ("dtype", "per_entry"), [(np.float16, 6), (np.float32, 8), (np.float64, 12)]
)
def test_csr_bytes_are_data_plus_indices_plus_pointers(dtype, per_entry):
    assert CSR.from_dense(ones_first(70, (30, 50), dtype)).nbytes == per_entry * 70 + 4 * 31


@pytest.mark.parametrize("block_shape", [(1, 1), (1, 4), (4, 4), (16, 8)])
def test_bsr_index_bytes_shrink_with_block_area(block_shape):
    full = ones_first(64 * 64, (64, 64))
    bsr = BSR.from_dense(full, block_shape=block_shape)
    area = block_shape[0] * block_shape[1]
    assert bsr.indices.nbytes * area == CSR.from_dense(full).indices.nbytes


def test_csr_at_ninety_percent_saves_eighty_percent():
    csr = CSR.from_dense(ones_first(100_000, (1000, 1000)))
    assert csr.nbytes == 800_000 + 4_004
    assert round(1 - csr.nbytes / 4_000_000, 2) == 0.80


def test_csr_of_a_small_matrix_takes_more_bytes_than_dense():
    of_four, of_five = (CSR.from_dense(ones_first(nnz, (3, 3))).nbytes for nnz in (4, 5))
    assert (of_four, of_five, 9 * 4) == (48, 56, 36)


@pytest.mark.parametrize(
    ("value_bytes", "of_dense"), [(1, (5, 8)), (2, (9, 16)), (4, (17, 32)), (8, (33, 64))]
)
def test_two_four_bytes_stay_above_half_of_dense(value_bytes, of_dense):
    part, whole = of_dense
    sparse = two_four_bytes((96, 64), value_bytes=value_bytes)
    assert sparse * whole == dense_bytes((96, 64), value_bytes=value_bytes) * part


# Crossovers


@pytest.mark.parametrize("shape", [(3, 3), (10, 40), (64, 64)])
def test_csr_crossover_includes_row_pointers(shape):
    m, n = shape
    limit = int(np.ceil((4 * m * n - 4 * (m + 1)) / 8))
    assert CSR.from_dense(ones_first(limit - 1, shape)).nbytes < 4 * m * n
    assert CSR.from_dense(ones_first(limit, shape)).nbytes >= 4 * m * n
    assert break_even(lambda nnz: csr_bytes(shape, nnz), m * n, 4 * m * n) == limit


@pytest.mark.parametrize(
    ("bytes_of", "value_bytes", "density"),
    [
        (coo_bytes, 4, 1 / 3),
        (csr_bytes, 4, 1 / 2),
        (csc_bytes, 4, 1 / 2),
        (coo_bytes, 2, 1 / 5),
        (csr_bytes, 2, 1 / 3),
        (csr_bytes, 1, 1 / 5),
        (coo_bytes, 1, 1 / 9),
    ],
)
def test_crossover_of_a_large_matrix_is_value_over_entry(bytes_of, value_bytes, density):
    side = 4096
    most = break_even(
        lambda nnz: bytes_of((side, side), nnz, value_bytes=value_bytes),
        side**2,
        value_bytes * side**2,
    )
    assert density - 1 / side < most / side**2 <= density + 1 / side**2


@given(
    shape=SHAPES,
    value_bytes=st.integers(1, 8),
    bytes_of=st.sampled_from([coo_bytes, csr_bytes, bitmap_bytes, relative_csc_bytes]),
)
def test_break_even_counts_the_entries_with_which_a_format_is_smaller(shape, value_bytes, bytes_of):
    most = shape[0] * shape[1]
    sizes = [bytes_of(shape, nnz, value_bytes=value_bytes) for nnz in range(most + 1)]
    smaller = sum(size < most * value_bytes for size in sizes)
    assert break_even(sizes.__getitem__, most, most * value_bytes) == smaller


def test_break_even_of_a_format_that_is_always_smaller_is_one_more_than_fits():
    assert break_even(lambda nnz: nnz, most=5, dense=6) == 6


# Expectations


@pytest.mark.parametrize("nnz", range(7))
@pytest.mark.parametrize("block_shape", [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_expected_blocks_are_the_mean_over_all_masks(nnz, block_shape):
    (m, n), (r, c) = (2, 6), block_shape
    masks = list(itertools.combinations(np.ndindex(m, n), nnz))
    touched = [len({(i // r, j // c) for i, j in mask}) for mask in masks]
    mean = float(Fraction(sum(touched), len(masks)))
    assert abs(expected_blocks((m, n), nnz, block_shape) - mean) <= 12 * np.finfo(float).eps


def test_expected_blocks_of_large_blocks_are_counted_by_their_entries():
    """As many factors as entries; as many as positions of a block would take minutes."""
    side = 2**12
    quarters = expected_blocks((side, side), 2, (side // 2, side // 2))
    assert quarters == pytest.approx(1 + 0.75 * side**2 / (side**2 - 1))


def test_expected_blocks_of_an_empty_matrix_are_none():
    assert expected_blocks((0, 8), 0, (4, 4)) == 0


# What is refused


def test_formulas_do_not_overflow_with_narrow_integers():
    side, nnz = np.int32(2**16), np.int32(2**30)
    assert coo_bytes((side, side), nnz, value_bytes=np.int8(4)) == 12 * 2**30


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: csr_bytes((3, 3), 10), r"csr_bytes: nnz must be in \[0, 9\], got 10"),
        (lambda: coo_bytes((3, 3), -1), r"coo_bytes: nnz must be in \[0, 9\], got -1"),
        (lambda: dense_bytes((3, -3)), "dense_bytes: shape must be at least 0, got -3"),
        (lambda: csr_bytes((3, 3), 1, index_bytes=0), "csr_bytes: index_bytes must be at least 1"),
        (lambda: bsr_bytes((8, 8), 5, (4, 4)), r"bsr_bytes: n_blocks must be in \[0, 4\], got 5"),
        (lambda: bsr_bytes((8, 9), 1, (4, 4)), "bsr_bytes: block_shape must divide the shape"),
        (lambda: expected_blocks((8, 8), 65, (4, 4)), r"expected_blocks: nnz must be in \[0, 64\]"),
        (lambda: two_four_bytes((8, 10)), "two_four_bytes: columns must be a multiple of 4"),
        (lambda: n_of_m_bytes((8, 8), (5, 4)), r"n_of_m_bytes: pattern\[0\] must be in \[1, 4\]"),
        (lambda: relative_csc_bytes((3, 3), 10), r"relative_csc_bytes: n_stored must be in \[0, 9"),
        (
            lambda: codebook_csc_bytes((3, 3), 9, -1),
            "codebook_csc_bytes: n_values must be in",
        ),
        (lambda: break_even(int, -1, 9), "break_even: most must be at least 0, got -1"),
    ],
)
def test_formulas_refuse_impossible_counts(call, match):
    with pytest.raises(ValueError, match=f"^{match}"):
        call()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: csc_bytes((3, 3), 0.5), "csc_bytes: nnz must be an integer, got 0.5"),
        (lambda: dense_bytes(9), "dense_bytes: shape must be a tuple of two, got int"),
        (lambda: bitmap_bytes((3, 3), 1, value_bytes=0.5), "bitmap_bytes: value_bytes must be an"),
        (lambda: break_even(int, 9, 0.5), "break_even: dense must be an integer, got 0.5"),
    ],
)
def test_formulas_refuse_fractions(call, match):
    with pytest.raises(TypeError, match=f"^{match}"):
        call()
