"""CSR cut into tiles: look at a matrix once, then multiply many times (inspector-executor).

A packed panel of `x` (`refimpl.kernels.numba_csr_panels`) has a row for every column of the
matrix, and outgrows the first-level cache. Here the columns of the matrix are cut into blocks so
narrow that the rows of the panel that a block needs stay in that cache, while every row of the
matrix passes over them.

`tile` is the inspector: it looks at the positions only, and says for every place of the new
order which value goes there. `tiled_matmul` is the executor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from refimpl.kernels.numba_csr import compiled
from refimpl.kernels.numba_csr_panels import (
    NARROW,
    ONE,
    TWO,
    WIDE,
    as_panels,
    first_column,
    pack_narrow,
    pack_wide,
    panels,
    rooms_for_panels,
    share_of_rows,
    tasks_of,
)
from refimpl.kernels.vectors import (
    add_panels,
    load_panel,
    multiply_add,
    store_panel,
    store_panel_head,
    zero_panel,
)

MOST_COLUMNS = 2**16  # in a block, so that 16 bits number them


class Tiles(NamedTuple):
    """Where the values of a CSR matrix lie once it is cut into tiles.

    A share is a range of rows, for one thread; a block is a range of columns; a tile is where
    they meet. Tiles lie share by share, block by block within a share, and row by row within a
    tile, the shortest row first.

    Attributes
    ----------
    columns : ndarray of uint16, shape (nnz,)
        Column of each place, counted from the first of its block.
    rows : ndarray of int32, shape (n_rows * n_blocks,)
        The rows of each tile, counted from the first of its share.
    starts : ndarray of int64, shape (n_rows * n_blocks + 1,)
        Where each of these rows begins.
    bounds : ndarray of int64, shape (n_shares + 1,)
        The first row of each share.
    edges : ndarray of int64, shape (n_blocks + 1,)
        The first column of each block.
    """

    columns: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    bounds: np.ndarray
    edges: np.ndarray


def tile(
    indices: np.ndarray, indptr: np.ndarray, n_columns: int, *, width: int, n_shares: int
) -> tuple[Tiles, np.ndarray]:
    """Cut a CSR matrix into tiles.

    Parameters
    ----------
    indices, indptr : ndarray
        Of the CSR matrix.
    n_columns : int
        Its columns.
    width : int
        Columns in a block, from 1 to `MOST_COLUMNS`.
    n_shares : int
        In how many shares of equally many values the rows are cut, at least 1.

    Returns
    -------
    Tiles
        The layout.
    ndarray of int64, shape (nnz,)
        Which value stands at which place: ``values = data[order]``.

    Notes
    -----
    Three passes over the positions: count the values of every row in every block, sort the rows
    of each tile by that count, and give every value its place. The places of a row keep the
    order of its columns.

    Shortest row first: the processor guesses when a loop over a row ends, and throws away what
    it began on a wrong guess. Rows of one length end alike.
    """
    bounds = [share_of_rows(indptr, share, n_shares) for share in range(n_shares + 1)]
    bounds, n_blocks = np.array(bounds, np.int64), max(-(-n_columns // width), 1)
    lengths = np.zeros((indptr.size - 1) * n_blocks, np.int64)
    _count(indices, indptr, bounds, width, n_blocks, lengths)
    rows, starts = np.empty(lengths.size, np.int32), np.zeros(lengths.size + 1, np.int64)
    places = np.empty(lengths.size, np.int64)
    done = np.zeros(n_shares, np.bool_)
    _sort(lengths, indptr, bounds, n_blocks, rows, starts, places, done)
    if not done.all():
        raise MemoryError("tile: no memory to sort the rows")
    order, columns = np.empty(indices.size, np.int64), np.empty(indices.size, np.uint16)
    _place(indices, indptr, bounds, width, n_blocks, places, order, columns)
    edges = np.minimum(np.arange(n_blocks + 1) * width, n_columns)
    return Tiles(columns, rows, starts, bounds, edges), order


@njit
def _line(first, height, n_blocks, block, row):
    """Where the tiles keep row `row` of block `block`, before the rows are sorted."""
    return first * n_blocks + block * height + row


@compiled
def _count(indices, indptr, bounds, width, n_blocks, lengths):
    """Count the values of each row in each block."""
    for share in prange(bounds.size - 1):
        first, height = bounds[share], bounds[share + 1] - bounds[share]
        for row in range(height):
            for k in range(indptr[first + row], indptr[first + row + 1]):
                lengths[_line(first, height, n_blocks, indices[k] // width, row)] += 1


@compiled
def _sort(lengths, indptr, bounds, n_blocks, rows, starts, places, done):
    """Sort the rows of each tile by length, and say at which place each begins.

    A share whose thread finds no memory for the sort is not marked as done; Numba says nothing.
    """
    for share in prange(bounds.size - 1):
        first, height = bounds[share], bounds[share + 1] - bounds[share]
        place = np.int64(indptr[first])
        for block in range(n_blocks):
            begin = _line(first, height, n_blocks, block, 0)
            order = np.argsort(lengths[begin : begin + height], kind="mergesort")  # ties: by row
            for i in range(height):
                rows[begin + i], places[begin + order[i]] = order[i], place
                place += lengths[begin + order[i]]
                starts[begin + i + 1] = place
        done[share] = True


@compiled
def _place(indices, indptr, bounds, width, n_blocks, places, order, columns):
    """Give every value the next place of its row in its block."""
    for share in prange(bounds.size - 1):
        first, height = bounds[share], bounds[share + 1] - bounds[share]
        for row in range(height):
            for k in range(indptr[first + row], indptr[first + row + 1]):
                line = _line(first, height, n_blocks, indices[k] // width, row)
                order[places[line]], columns[places[line]] = k, indices[k] % width
                places[line] += 1


def tiled_matmul(values, columns, rows, starts, bounds, edges, x, out):
    """Multiply a tiled matrix with a dense matrix.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (nnz,)
        IN. In the order that `tile` gave.
    columns, rows, starts, bounds, edges : ndarray
        IN. The arrays of `Tiles`.
    x : ndarray of the dtype of `values`, shape (n_columns, batch)
        IN. C-contiguous.
    out : ndarray of the dtype of `values`, shape (n_rows, batch)
        OUT. C-contiguous, overwritten; must not overlap `x`.

    Notes
    -----
    Column blocks: what is in use of the packed panel stays in the first-level cache.

    Sorted rows: see `tile`.

    The panel of the result is packed too: until the last block adds to it, it lies together,
    and no longer a row of `out` apart.

    Two chains, equal shares, narrow panels for what is left: as in
    `refimpl.kernels.numba_csr_panels.csr_matmul_packed_panels`.
    """
    _share_tiles(values, columns, rows, starts, bounds, edges, x, out, get_num_threads())


@compiled
def _share_tiles(values, columns, rows, starts, bounds, edges, x, out, n_threads):
    """Share the panels of the result, and the shares of its rows, among the threads."""
    n_shares, n_blocks = bounds.size - 1, edges.size - 1
    n_wide, n_panels = panels(out.shape[1])
    tallest = np.max(bounds[1:] - bounds[:-1]) if n_blocks > 1 else 0
    x_rooms = rooms_for_panels(n_threads, x.shape[0], n_wide, x)
    y_rooms = rooms_for_panels(n_threads, tallest, n_wide, x)
    for thread in prange(n_threads):
        x_wide, x_narrow = as_panels(x_rooms[thread])
        y_wide, y_narrow = as_panels(y_rooms[thread])
        packed = -1
        for task in tasks_of(thread, n_threads, n_panels * n_shares):
            panel, share = task // n_shares, task % n_shares
            j = first_column(panel, n_wide)
            if packed < panel:
                if panel < n_wide:
                    pack_wide(x, j, x_wide)
                else:
                    pack_narrow(x, j, x_narrow)
                packed = panel
            first, height = bounds[share], bounds[share + 1] - bounds[share]
            for block in range(n_blocks):
                line = _line(first, height, n_blocks, block, 0)
                of_tile = rows[line : line + height], starts[line : line + height + 1]
                place = edges[block], first, j, block == 0, block == n_blocks - 1
                if panel < n_wide:
                    _add_wide_tile(values, columns, *of_tile, x_wide, y_wide, out, *place)
                else:
                    _add_narrow_tile(values, columns, *of_tile, x_narrow, y_narrow, out, *place)


def _of_width(lanes):
    """Compile the product of a tile with a packed panel, for one width."""

    @njit
    def add_tile(
        values, columns, rows, starts, x_panel, y_panel, out, begin, first, j, is_first, is_last
    ):
        """Add a tile to the packed panel of the result; from the last one on it is in `out`."""
        x_block, n = x_panel[begin:], min(lanes, out.shape[1] - j)
        end = np.uintp(starts[0])
        for i in range(rows.size):
            k, end = end, np.uintp(starts[i + 1])
            y, z = zero_panel(out, lanes), zero_panel(out, lanes)
            if not is_first:
                y = load_panel(y_panel, rows[i], 0, lanes)
            while k + ONE < end:
                x_even = load_panel(x_block, columns[k], 0, lanes)
                x_odd = load_panel(x_block, columns[k + ONE], 0, lanes)
                y, z = multiply_add(y, values[k], x_even), multiply_add(z, values[k + ONE], x_odd)
                k += TWO
            if k < end:
                y = multiply_add(y, values[k], load_panel(x_block, columns[k], 0, lanes))
            y = add_panels(y, z)
            if is_last:
                store_panel_head(out, first + rows[i], j, y, n)
            else:
                store_panel(y_panel, rows[i], 0, y)

    return add_tile


_add_wide_tile, _add_narrow_tile = _of_width(WIDE), _of_width(NARROW)
