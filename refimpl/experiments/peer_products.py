"""How is a product computed elsewhere: SciPy, MKL and PyTorch, each as its users call it.

Every function returns products by name, of the peers that are there. A product takes no
argument and returns new memory; what a peer can prepare once is prepared before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from refimpl.experiments import peers
from refimpl.experiments.mkl import KeptHandle

Product = Callable[[], Any]


def dense_products(w: np.ndarray, x: np.ndarray) -> dict[str, Product]:
    """Multiply with all the zeros: ``dense`` by NumPy's BLAS, ``torch_dense`` by PyTorch's."""
    found: dict[str, Product] = {"dense": lambda: w @ x}
    if not isinstance(pytorch := peers.torch(), str):
        tensor, tensor_x = pytorch.from_numpy(w), pytorch.from_numpy(x)
        found["torch_dense"] = lambda: tensor @ tensor_x
    return found


def products(a: Any, x: np.ndarray) -> dict[str, Product]:
    """Multiply ``a @ x`` by every peer that is there, each time into new memory.

    Parameters
    ----------
    a : scipy.sparse.csr_array or scipy.sparse.bsr_array of float32, with int32 indices
        The left factor.
    x : ndarray of float32, shape (n_columns,) or (n_columns, batch)
        C-contiguous.

    Returns
    -------
    dict of str to callable
        ``scipy``; ``mkl``, which is `sparse_dot_mkl` and makes a handle each time; ``mkl_kept``,
        MKL with a handle that its inspector has seen; ``torch``, a tensor of the same layout.

    Notes
    -----
    What a peer can prepare is prepared here, once. PyTorch gets int32 indices, which it hands
    on to MKL; those of ``Tensor.to_sparse_csr`` are int64, and are converted in every product.
    """
    found: dict[str, Product] = {"scipy": lambda: a @ x}
    if not isinstance(mkl := peers.sparse_dot_mkl(), str):
        found["mkl"] = lambda: mkl.dot_product_mkl(a, x)
        found["mkl_kept"] = partial(_kept(a, x), x)
    if not isinstance(pytorch := peers.torch(), str):
        tensor, tensor_x = torch_matrix(a), pytorch.from_numpy(x)
        found["torch"] = lambda: tensor @ tensor_x
    return found


def transposed_products(a: Any, x: np.ndarray) -> dict[str, Product]:
    """Multiply ``a.T @ x`` by every peer that is there; `a` stays as it is stored.

    Parameters
    ----------
    a, x
        As for `products`, rows and columns of `a` exchanged.

    Returns
    -------
    dict of str to callable
        ``scipy``, ``mkl_kept`` and ``torch``, which converts CSC to CSR in every product.
    """
    found: dict[str, Product] = {"scipy": lambda: a.T @ x}
    if not isinstance(peers.sparse_dot_mkl(), str):
        found["mkl_kept"] = partial(_kept(a, x, transposed=True), x)
    if not isinstance(pytorch := peers.torch(), str):
        tensor, tensor_x = torch_matrix(a), pytorch.from_numpy(x)
        found["torch"] = lambda: tensor.t() @ tensor_x
    return found


def sampled_products(dy: np.ndarray, x: np.ndarray, pattern: Any) -> dict[str, Product]:
    """Compute ``dy.T @ x`` where `pattern` stores a value, by every peer that can.

    Parameters
    ----------
    dy, x : ndarray of float32, shape (batch, n_rows) and (batch, n_columns)
        The factors.
    pattern : scipy.sparse.csr_array of float32, with int32 indices
        Where.

    Returns
    -------
    dict of str to callable
        ``torch``, whose `sampled_addmm` returns the values; SciPy and MKL have no such product.
    """
    if isinstance(pytorch := peers.torch(), str):
        return {}
    places, left = torch_matrix(pattern), pytorch.from_numpy(dy).t()
    right = pytorch.from_numpy(x)
    return {"torch": lambda: pytorch.sparse.sampled_addmm(places, left, right, beta=0.0).values()}


def torch_matrix(a: Any) -> Any:
    """Give PyTorch a SciPy matrix in CSR or BSR, its arrays shared."""
    pytorch = peers.torch()
    arrays = (pytorch.from_numpy(array) for array in (a.indptr, a.indices, a.data))
    make = pytorch.sparse_bsr_tensor if a.format == "bsr" else pytorch.sparse_csr_tensor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that these layouts are in beta
        return make(*arrays, size=a.shape)


def _kept(a: Any, x: np.ndarray, *, transposed: bool = False) -> KeptHandle:
    n_columns = 1 if x.ndim == 1 else x.shape[1]
    return KeptHandle(peers.mkl_library(), a, n_columns, transposed=transposed)
