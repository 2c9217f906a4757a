"""Whom are the kernels compared with, and do all of them use the same number of threads?

MKL and PyTorch are optional, and are loaded when they are first asked for, not when this module
is imported. Where one is not installed, there is a sentence instead that says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numba
import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_info

from refimpl.arrays import bad_argument
from refimpl.measure import pinned_threads

# For two threads: one kind of OpenMP for MKL, PyTorch and Numba, and less than
# a millisecond in circles before a thread sleeps. Read when they are loaded.
FOR_THREADS = {
    "MKL_THREADING_LAYER": "GNU",
    "GOMP_SPINCOUNT": "10000",
    "OPENBLAS_THREAD_TIMEOUT": "20",
}


class Peer(NamedTuple):
    """A library, and whether it takes part.

    Attributes
    ----------
    name : str
        What its columns begin with.
    library : str
        What it is called, for readers.
    version : str or None
        None where it is missing.
    missing : str or None
        Why it cannot be measured, or None.
    """

    name: str
    library: str
    version: str | None
    missing: str | None


@cache
def torch() -> ModuleType | str:
    """Load PyTorch, or say why not."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return _reason("torch", error)


@cache
def sparse_dot_mkl() -> ModuleType | str:
    """Load `sparse_dot_mkl` with the MKL of the package ``mkl``, or say why not.

    Notes
    -----
    PyTorch goes first. It contains an MKL of its own, and calls the other one instead when that
    one is there before it.
    """
    torch()
    found = mkl_library()
    if isinstance(found, str):
        return found
    before = os.environ.get("MKL_RT")
    os.environ["MKL_RT"] = str(found)  # where sparse_dot_mkl looks first
    try:
        return importlib.import_module("sparse_dot_mkl")
    except (ImportError, OSError) as error:
        return _reason("sparse_dot_mkl", error)
    finally:
        _restore("MKL_RT", before)


def mkl_library() -> Path | str:
    """Find ``$MKL_RT``, or else the library of the package ``mkl``, or say why not."""
    if "MKL_RT" in os.environ:
        return Path(os.environ["MKL_RT"])
    try:
        installed = files("mkl") or []
    except PackageNotFoundError as error:
        return _reason("mkl", error)
    found = (file.locate() for file in installed if file.name.startswith("libmkl_rt.so"))
    return next((Path(file).resolve() for file in found), "mkl has no libmkl_rt.so here")


def peers() -> tuple[Peer, ...]:
    """Name every library, with its version or the reason why it is missing.

    Returns
    -------
    tuple of Peer
        ``numpy``, ``scipy``, ``mkl`` and ``torch``, in this order.
    """
    mkl, pytorch = sparse_dot_mkl(), torch()
    mkl_version = None if isinstance(mkl, str) else _mkl_version(mkl)
    torch_version = None if isinstance(pytorch, str) else pytorch.__version__
    return (
        Peer("numpy", "NumPy (OpenBLAS)", np.__version__, None),
        Peer("scipy", "SciPy", scipy.__version__, None),
        Peer("mkl", "MKL (sparse_dot_mkl)", mkl_version, _if_text(mkl)),
        Peer("torch", "PyTorch", torch_version, _if_text(pytorch)),
    )


@contextmanager
def pinned(n: int) -> Iterator[None]:
    """Give NumPy, SciPy, MKL, PyTorch and Numba `n` threads each, and make sure that they have.

    Parameters
    ----------
    n : int
        Threads. For more than one, the variables of `FOR_THREADS` have to be set as there.

    Yields
    ------
    None
        The numbers of before come back, also when the body raises.

    Raises
    ------
    ValueError
        If a library reports another number, or the environment does not suit `n` threads.
    """
    peers()
    _check_environment(n)
    pytorch = torch()
    before = None if isinstance(pytorch, str) else pytorch.get_num_threads()
    with pinned_threads(n):
        try:
            if before is not None:
                pytorch.set_num_threads(n)
            _check_threads(n, thread_counts())
            yield
        finally:
            if before is not None:
                pytorch.set_num_threads(before)


def thread_counts() -> dict[str, int]:
    """Ask every library how many threads it would use now.

    Returns
    -------
    dict of str to int
        What `threadpoolctl` finds in this process, ``numba``, and ``torch`` and
        ``mkl`` where they are loaded.
    """
    counts = {}
    for i, pool in enumerate(threadpool_info()):
        counts[f"{pool['internal_api']} {i}"] = pool["num_threads"]
    counts["numba"] = numba.get_num_threads()
    if not isinstance(torch(), str):
        counts["torch"] = torch().get_num_threads()
    if not isinstance(sparse_dot_mkl(), str):
        counts["mkl"] = sparse_dot_mkl().mkl_get_max_threads()
    return counts


def _check_environment(n: int) -> None:
    wrong = {
        key: os.environ.get(key)
        for key, value in FOR_THREADS.items()
        if os.environ.get(key) != value
    }
    if n > 1 and wrong:
        raise bad_argument(
            "peers.pinned",
            "the environment",
            f"have {FOR_THREADS} for {n} threads",
            wrong,
            "start with make bench",
        )


def _check_threads(n: int, counts: dict[str, int]) -> None:
    if set(counts.values()) != {n}:
        advice = "a time with another number of threads compares cores, not kernels"
        raise bad_argument("peers.pinned", "every library", f"use {n} threads", counts, advice)


def _mkl_version(mkl: ModuleType) -> str:
    words = mkl.mkl_get_version_string().split()
    number = words[words.index("Version") + 1].removesuffix("-Product")
    return f"{number} ({mkl.__version__})"


def _if_text(found: ModuleType | str) -> str | None:
    return found if isinstance(found, str) else None


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError | PackageNotFoundError):
        return f"{name} is not installed"
    return f"{name} does not load ({type(error).__name__})"


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
