"""Look at a matrix once, multiply with it many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import get_num_threads

from refimpl.arrays import bad_argument, check_count
from refimpl.formats import COO, CSC, CSR, SparseMatrix
from refimpl.kernels.dispatch import KERNELS, Kernel, checked_product, readable
from refimpl.kernels.numba_csr import csr_matvec_gathered
from refimpl.kernels.numba_csr_panels import NARROW, WIDE
from refimpl.kernels.numba_csr_tiles import (
    MOST_COLUMNS,
    tile,
    tiled_matmul,
)

CACHE_BYTES = 2**15  # of a packed panel that a block of columns needs: most of 48 KiB
ROW_LENGTH = 20  # values that a row of a tile has on average, where the matrix has so many
MOST_ROWS = 2048  # in a share: its packed panel of the result then takes 512 KiB

Product = Callable[[np.ndarray, np.ndarray], None]


class Plan:
    """A matrix that is laid out for many products; made by `plan`.

    Parameters
    ----------
    matrix : SparseMatrix
        The matrix.
    products : dict
        For the number of axes of `x`: a function of `x` and a workspace, which it fills.
    nbytes : int
        Bytes of the arrays that were made for the plan.

    Attributes
    ----------
    matrix : SparseMatrix
        As given; the plan answers for this matrix, and it cannot change.
    nbytes : int
        As given. The matrix itself comes on top.
    """

    def __init__(self, matrix: SparseMatrix, products: dict[int, Product], nbytes: int) -> None:
        self.matrix, self.nbytes = matrix, nbytes
        self._products = products

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
        self._products[x.ndim](x, workspace)
        return workspace

    def __repr__(self) -> str:
        return f"Plan({self.matrix!r}, nbytes={self.nbytes})"


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

    Tiles take, for each stored value, 4 bytes in float32 and 2 for its column, and 12 for each
    row of each tile.

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
    own = [row for row in KERNELS if row.format is type(a) and not row.transposed]
    if own and not isinstance(a, (COO, CSR, CSC)):
        return Plan(a, {ndim: _straight(a, own, ndim) for ndim in (1, 2)}, 0)
    return _tiled(a, batch)


def _straight(a: SparseMatrix, rows: list[Kernel], ndim: int) -> Product:
    """The first kernel of the format, with its arrays."""
    kernel = next(row.function for row in rows if row.x_ndim == ndim)
    return _with_arrays(kernel, a.dtype, [getattr(a, stored.name) for stored in a.arrays])


def _with_arrays(
    kernel: Callable[..., None], dtype: np.dtype, arrays: Sequence[np.ndarray]
) -> Product:
    """A kernel with its arrays, converted once for x of the matrix's own dtype."""
    planned = np.promote_types(dtype, np.float32)
    ready = tuple(readable(array, planned) for array in arrays)

    def product(x: np.ndarray, workspace: np.ndarray) -> None:
        dtype = workspace.dtype
        inputs = ready if dtype == planned else (readable(array, dtype) for array in ready)
        kernel(*inputs, readable(x, dtype), workspace)

    return product


def _tiled(a: SparseMatrix, batch: int) -> Plan:
    csr = a if isinstance(a, CSR) else CSR.from_coo(a.to_coo())
    data, indices, indptr = csr.data, csr.indices, csr.indptr
    width = _block_width(csr, batch)
    n_shares = get_num_threads() * -(-max(a.shape[0], 1) // (MOST_ROWS * get_num_threads()))
    tiles, order = tile(indices, indptr, a.shape[1], width=width, n_shares=n_shares)
    values = data[order]
    products = {
        1: _with_arrays(csr_matvec_gathered, a.dtype, [data, indices, indptr]),
        2: _with_arrays(tiled_matmul, a.dtype, [values, *tiles]),
    }
    return Plan(a, products, values.nbytes + sum(array.nbytes for array in tiles))


def _block_width(a: CSR, batch: int) -> int:
    """Choose how many columns a block has.

    Its rows of the packed panel fit the first-level cache; a sparser matrix gets wider blocks,
    so that the time of a row is not all spent on beginning and ending it.
    """
    lanes, bytes_of_one = NARROW if batch <= NARROW else WIDE, max(a.dtype.itemsize, 4)
    fits = CACHE_BYTES // (lanes * bytes_of_one)
    long_enough = int(ROW_LENGTH / max(a.density, ROW_LENGTH / MOST_COLUMNS))
    return max(fits, long_enough)
