"""Tiles hold every value once, where its row, share and block say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import CSR
from refimpl.kernels.numba_csr_tiles import Tiles, tile, tiled_matmul
from support.strategies import dense_matrices


def untiled(tiles: Tiles, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Read the layout the slow way, one row of one tile at a time."""
    dense, line = np.zeros(shape, values.dtype), 0
    for first, last in zip(tiles.bounds[:-1], tiles.bounds[1:], strict=True):
        for begin in tiles.edges[:-1]:
            for row in tiles.rows[line : line + last - first]:
                for k in range(tiles.starts[line], tiles.starts[line + 1]):
                    dense[first + row, begin + int(tiles.columns[k])] += values[k]
                line += 1
    assert line == tiles.rows.size
    return dense


cases = given(dense_matrices(dtypes=(np.float32,)), st.integers(1, 11), st.integers(1, 4))


@cases
def test_tiles_hold_the_matrix(dense, width, n_shares):
    a = CSR.from_dense(dense)
    tiles, order = tile(a.indices, a.indptr, a.shape[1], width=width, n_shares=n_shares)
    assert sorted(order) == list(range(a.nnz))
    np.testing.assert_array_equal(untiled(tiles, a.data[order], a.shape), a.to_dense())


@cases
def test_blocks_are_as_wide_as_asked(dense, width, n_shares):
    a = CSR.from_dense(dense)
    tiles, _ = tile(a.indices, a.indptr, a.shape[1], width=width, n_shares=n_shares)
    assert (tiles.edges[0], tiles.edges[-1]) == (0, a.shape[1])
    assert (np.diff(tiles.edges)[:-1] == width).all()


@cases
def test_rows_of_a_tile_are_sorted_by_length(dense, width, n_shares):
    a = CSR.from_dense(dense)
    tiles, _ = tile(a.indices, a.indptr, a.shape[1], width=width, n_shares=n_shares)
    lengths, line = np.diff(tiles.starts), 0
    for height in np.diff(tiles.bounds):
        for _ in range(0, max(a.shape[1], 1), width):
            of_tile = lengths[line : line + height]
            assert (np.diff(of_tile) >= 0).all()
            assert sorted(tiles.rows[line : line + height]) == list(range(height))
            line += height


@cases
def test_tiled_product_is_the_product(dense, width, n_shares):
    dense = np.rint(dense)
    a, x = CSR.from_dense(dense), np.arange(1.0, dense.shape[1] + 1, dtype=np.float32)[:, None]
    tiles, order = tile(a.indices, a.indptr, a.shape[1], width=width, n_shares=n_shares)
    out = np.full((a.shape[0], 1), np.nan, np.float32)
    tiled_matmul(a.data[order], *tiles, x, out)
    np.testing.assert_array_equal(out, dense @ x)


@pytest.mark.parametrize("n_columns", [65_536, 65_537, 70_000])
def test_sixteen_bits_number_the_columns_of_the_widest_block(n_columns):
    dense = np.zeros((2, n_columns), np.float32)
    dense[0, [0, 65_535]], dense[1, -1] = (1, 2), 3
    a = CSR.from_dense(dense)
    tiles, order = tile(a.indices, a.indptr, n_columns, width=65_536, n_shares=1)
    np.testing.assert_array_equal(untiled(tiles, a.data[order], a.shape), dense)
