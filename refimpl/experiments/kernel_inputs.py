"""What is multiplied: weights with an exact count of zeros, and factors on a cache line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refimpl.data import dlmc_files
from refimpl.masks import unstructured
from refimpl.saliency import random

CACHE_LINE = 64  # bytes


def random_weight(setting: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Draw a weight with zeros at random places.

    Parameters
    ----------
    setting : dict
        ``rows``, ``columns`` and ``sparsity``, whose count of zeros is exact.
    rng : numpy.random.Generator
        Draws the places and the values, N(0, 1).

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    shape = setting["rows"], setting["columns"]
    mask = unstructured(random(shape, rng), setting["sparsity"])
    return np.where(mask, rng.standard_normal(shape, np.float32), np.float32(0))


def random_blocks(setting: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Draw a weight with square blocks of zeros; as `random_weight`, with ``block``, their side."""
    block = setting["block"]
    blocks = setting["rows"] // block, setting["columns"] // block
    mask = unstructured(random(blocks, rng), setting["sparsity"])
    values = rng.standard_normal((setting["rows"], setting["columns"]), np.float32)
    return np.where(np.kron(mask, np.ones((block, block), bool)), values, np.float32(0))


def random_two_four(setting: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Draw a weight with two zeros among every four columns; as `random_weight`."""
    groups = setting["rows"], setting["columns"] // 4, 4
    kept = rng.permuted(np.broadcast_to([True, True, False, False], groups), axis=2)
    values = rng.standard_normal(groups, np.float32)
    return np.where(kept, values, np.float32(0)).reshape(setting["rows"], setting["columns"])


def right_factor(n: int, setting: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Draw the right factor, a vector for a batch of one.

    Parameters
    ----------
    n : int
        Rows.
    setting : dict
        ``batch``, and ``offset``, the bytes from the start of a cache line to that of the
        array; 0 if left out.
    rng : numpy.random.Generator
        Draws N(0, 1).

    Returns
    -------
    ndarray of float32, shape (n,) or (n, batch)
    """
    batch = setting["batch"]
    x = rng.standard_normal((n,) if batch == 1 else (n, batch), np.float32)
    return aligned(x, offset=setting.get("offset", 0))


def aligned(array: np.ndarray, *, offset: int = 0) -> np.ndarray:
    """Copy an array to memory that begins so many bytes behind the start of a cache line.

    Parameters
    ----------
    array : ndarray
        Any.
    offset : int
        Bytes, from 0 to 63, a multiple of the size of a number.

    Returns
    -------
    ndarray
        C-contiguous, equal to `array`.

    Notes
    -----
    NumPy begins an array at any multiple of 16 bytes, by chance. Where the rows do not begin on
    a cache line, every vector load of 64 bytes touches two.

    Examples
    --------
    >>> aligned(np.ones(3), offset=16).ctypes.data % 64
    16
    """
    memory = np.empty(array.nbytes + 2 * CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def find_pattern(name: str) -> Path | None:
    """Find a file of DLMC by the end of its path, or None where this machine does not have it."""
    try:
        found = (path for path in dlmc_files() if path.as_posix().endswith(name))
        return next(found, None)
    except FileNotFoundError:
        return None
