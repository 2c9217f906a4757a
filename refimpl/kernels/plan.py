"""Look at a matrix once, multiply with it many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numba import get_num_threads

from refimpl.arrays import bad_argument, check_count
from refimpl.formats import COO, CSC, CSR, SparseMatrix
from refimpl.kernels.dispatch import KERNELS, Kernel, checked_product, readable
from refimpl.kernels.numba_csr import csr_matvec_gathered
from refimpl.kernels.numba_csr_panels import NARROW, WIDE, csr_matmul_packed_panels
from refimpl.kernels.numba_csr_tiles import (
    MOST_COLUMNS,
    tile,
    tiled_matmul,
)

CACHE_BYTES = 2**15  # of a packed panel that a block of columns needs: most of 48 KiB
ROW_LENGTH = 20  # values that a row of a tile has on average, where the matrix has so many
MOST_ROWS = 2048  # in a share on average: its packed panel of the result then takes 512 KiB


class Prepared:
    """A kernel with the arrays of one matrix, converted once for `x` of the matrix's own dtype.

    Parameters
    ----------
    kernel : callable
        Takes the arrays, `x` and `out`.
    dtype : numpy.dtype
        Of the matrix.
    arrays : sequence of ndarray
        In the order that the kernel takes them.
    """

    def __init__(
        self, kernel: Callable[..., None], dtype: np.dtype, arrays: Sequence[np.ndarray]
    ) -> None:
        self.kernel, self.dtype = kernel, np.promote_types(dtype, np.float32)
        self.arrays = tuple(readable(array, self.dtype) for array in arrays)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Overwrite `out`, C-contiguous and apart from `x`, with the product."""
        arrays, dtype = self.arrays, out.dtype
        if dtype != self.dtype:
            arrays = tuple(readable(array, dtype) for array in arrays)
        self.kernel(*arrays, readable(x, dtype), out)


class Plan:
    """A matrix that is laid out for many products; made by `plan`.

    Unpickling and `copy.deepcopy` plan anew, from a matrix that is checked again.

    Parameters
    ----------
    matrix : SparseMatrix
        The matrix.
    batch : int
        Columns that `x` will mostly have.
    prepared : dict
        The kernel to run, for each number of axes of `x`.

    Attributes
    ----------
    matrix : SparseMatrix
        As given; the plan answers for this matrix, and it cannot change.
    batch : int
        As given.
    """

    def __init__(self, matrix: SparseMatrix, batch: int, prepared: dict[int, Prepared]) -> None:
        self.matrix, self.batch = matrix, batch
        self._prepared = prepared

    @property
    def nbytes(self) -> int:
        """How many bytes the plan keeps besides the matrix."""
        own = {getattr(self.matrix, stored.name).ctypes.data for stored in self.matrix.arrays}
        kept = [array for prepared in self._prepared.values() for array in prepared.arrays]
        made = {array.ctypes.data: array.nbytes for array in kept if array.nbytes}
        return sum(nbytes for address, nbytes in made.items() if address not in own)

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Multiply, as `refimpl.kernels.matmul` does with the matrix.

        Parameters
        ----------
        x, out : ndarray
            As for `refimpl.kernels.matmul`.

        Returns
        -------
        ndarray
            As for `refimpl.kernels.matmul`, within rounding.

        Raises
        ------
        TypeError, ValueError
            As for `refimpl.kernels.matmul`.
        """
        return checked_product("kernels.plan", self.matrix, x, out, self._product)

    def _product(self, x: np.ndarray, workspace: np.ndarray) -> np.ndarray:
        self._prepared[x.ndim].run(x, workspace)
        return workspace

    def __repr__(self) -> str:
        return f"Plan({self.matrix!r}, nbytes={self.nbytes})"

    def __reduce__(self) -> tuple[Callable[..., Plan], tuple[Any, ...]]:
        return partial(plan, batch=self.batch), (self.matrix,)


def plan(a: SparseMatrix, *, batch: int = WIDE) -> Plan:
    """Lay a matrix out for many products, where its format alone does not do.

    Parameters
    ----------
    a : SparseMatrix
        Any format. One that is multiplied value by value (COO, CSR, CSC and those without a
        kernel of their own) is cut into tiles; one whose blocks or groups already are
        a layout for products (BSR, 2:4) is taken as it is.
    batch : int
        Columns that `x` will mostly have, at least 1. Any other number gives the right product
        too, perhaps later.

    Returns
    -------
    Plan
        Call it with `x`, and perhaps `out`.

    Raises
    ------
    TypeError, ValueError
        If `a` is no sparse matrix, or `batch` no such count.

    Notes
    -----
    The rows are shared among as many threads as Numba uses when the plan is made
    (``numba.set_num_threads``). It runs on any number of them, and gives the same bits.

    An `x` of a wider dtype than the matrix has its values converted at every call.

    During a product each thread has room for 256 bytes (float32) for each column of the matrix,
    and as many for each row of its share; 64 bytes for batches of up to 16.

    There is no transposed product: plan ``CSR.transpose()`` for that.

    Tiles take, for each stored value, 4 bytes in float32 and 2 for its column, and 12 for each
    row of each tile. A plan for vectors (``batch=1``) only keeps the columns in 2 bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> product = plan(CSR.from_dense(np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]])))
    >>> product(np.array([1.0, 2.0, 3.0, 4.0]))
    array([8., 9.])
    """
    if not isinstance(a, SparseMatrix):
        actual, advice = type(a).__name__, "convert it with CSR.from_dense or CSR.from_scipy"
        raise bad_argument("kernels.plan", "a", "be a SparseMatrix", actual, advice, kind=TypeError)
    check_count("kernels.plan", "batch", batch, 1)
    if not isinstance(a, (COO, CSR, CSC)):
        rows = [row for row in KERNELS if row.format is type(a) and not row.transposed]
        if rows:
            return Plan(a, batch, _as_it_is(a, rows))
    csr = a if isinstance(a, CSR) else CSR.from_coo(a.to_coo())
    return Plan(a, batch, _for_vectors(csr) if batch == 1 else _tiled(csr, batch))


def _as_it_is(a: SparseMatrix, rows: Sequence[Kernel]) -> dict[int, Prepared]:
    """The first kernels of the format, with its arrays read once."""
    arrays = [getattr(a, stored.name) for stored in a.arrays]
    first = {row.x_ndim: row.function for row in reversed(rows)}
    return {ndim: Prepared(kernel, a.dtype, arrays) for ndim, kernel in first.items()}


def _for_vectors(a: CSR) -> dict[int, Prepared]:
    """A vector is bound by the bytes of the matrix: 16 bits number the columns where they can."""
    data, indices, indptr = _values(a), a.indices, a.indptr
    narrow = np.uint16 if a.shape[1] <= MOST_COLUMNS else indices.dtype
    gathered = [data, indices.astype(narrow, copy=False), indptr]
    return {
        1: Prepared(csr_matvec_gathered, a.dtype, gathered),
        2: Prepared(csr_matmul_packed_panels, a.dtype, [data, indices, indptr]),
    }


def _tiled(a: CSR, batch: int) -> dict[int, Prepared]:
    """A batch is bound by the loads of `x`: tiles keep what is loaded in the nearest cache."""
    data, indices, indptr = _values(a), a.indices, a.indptr
    n_threads, width = get_num_threads(), _block_width(a, batch)
    n_shares = n_threads * -(-max(a.shape[0], 1) // (MOST_ROWS * n_threads))
    tiles, order = tile(indices, indptr, a.shape[1], width=width, n_shares=n_shares)
    return {
        1: Prepared(csr_matvec_gathered, a.dtype, [data, indices, indptr]),
        2: Prepared(tiled_matmul, a.dtype, [data[order], *tiles]),
    }


def _values(a: CSR) -> np.ndarray:
    """The values as they are computed with: float16 as float32."""
    return readable(a.data, np.promote_types(a.dtype, np.float32))


def _block_width(a: CSR, batch: int) -> int:
    """Choose how many columns a block has.

    Its rows of the packed panel fit the first-level cache; a sparser matrix gets wider blocks,
    so that the time of a row is not all spent on beginning and ending it. All blocks are equally
    wide: a last one of a few columns would begin and end every row for next to nothing.
    """
    lanes, bytes_of_one = NARROW if batch <= NARROW else WIDE, max(a.dtype.itemsize, 4)
    fits = CACHE_BYTES // (lanes * bytes_of_one)
    long_enough = int(ROW_LENGTH / max(a.density, ROW_LENGTH / MOST_COLUMNS))
    n_columns, width = a.shape[1], max(fits, long_enough)
    n_blocks = max(round(n_columns / width), -(-n_columns // MOST_COLUMNS), 1)
    return max(-(-n_columns // n_blocks), 1)
