"""A kernel that finds no memory to work in says so, and a product of nothing needs none."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.formats import CSR
from refimpl.kernels import matmul
from refimpl.kernels.numba_bsr import bsr_matmul_packed_panels, bsr_matmul_row_panels
from refimpl.kernels.numba_csc import csc_matmul_tiles
from refimpl.kernels.numba_csr_panels import csr_matmul_packed_panels
from refimpl.kernels.numba_csr_tiles import tile, tiled_matmul
from refimpl.kernels.numba_two_four import two_four_matmul_prefetched_blocks
from refimpl.kernels.numba_two_four_transposed import two_four_matmul_transposed

ROWS = 2**44  # of x: a panel takes a petabyte
NOTHING = np.zeros(0, np.float32)
INDICES, INDPTR = np.zeros(0, np.int64), np.zeros(2, np.int64)
MATRIX = CSR(NOTHING, INDICES, INDPTR, (1, ROWS))
GROUPS = (np.zeros((1, 0), np.float32), np.zeros((1, 0), np.uint32))
BLOCKS = (np.zeros((0, 1, 1), np.float32), INDICES, INDPTR)
TILES, _ = tile(INDICES, INDPTR, 1, width=1, n_shares=1)


# Without columns neither x nor the result takes memory; what is left is the kernel's own.
@pytest.mark.parametrize(
    ("kernel", "arrays", "n_rows", "n_out"),
    [
        (csr_matmul_packed_panels, (NOTHING, INDICES, INDPTR), ROWS, 1),
        (tiled_matmul, (NOTHING, *TILES), ROWS, 1),
        (csc_matmul_tiles, (NOTHING, INDICES, INDPTR), ROWS, 1),
        (bsr_matmul_packed_panels, BLOCKS, ROWS, 1),
        (bsr_matmul_row_panels, BLOCKS, ROWS, 1),
        (two_four_matmul_prefetched_blocks, GROUPS, ROWS, 1),
        (two_four_matmul_transposed, GROUPS, 1, ROWS),
    ],
)
def test_kernel_without_memory_raises(kernel, arrays, n_rows, n_out):
    x, out = np.zeros((n_rows, 0), np.float32), np.zeros((n_out, 0), np.float32)
    with pytest.raises(MemoryError):
        kernel(*arrays, x, out)


def test_a_batch_of_nothing_takes_no_memory():
    assert matmul(MATRIX, np.zeros((ROWS, 0), np.float32)).shape == (1, 0)
