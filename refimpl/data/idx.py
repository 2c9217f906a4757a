"""IDX, the file format of MNIST: a few bytes of type and shape, then the entries."""

from __future__ import annotations

import gzip
import math
import os
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from refimpl.arrays import bad_argument

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 32  # what every version of NumPy can hold
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array of any shape from an IDX file, plain or compressed with gzip.

    Parameters
    ----------
    path : str or path-like
        The file. Whether it is compressed is told by its first bytes, not by its name.

    Returns
    -------
    ndarray
        New and writeable, uint8, int8, int16, int32, float32 or float64 in the machine's
        byte order.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, truncated, longer than announced, or no IDX file.

    Notes
    -----
    Two zero bytes, a byte for the type, a byte for the number of axes; then for each axis
    its length, four bytes, the highest first; then the entries in row-major order, the
    highest byte first. Memory grows with what the file holds, whatever its header announces.

    References
    ----------
    Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, section
    "The IDX file format".

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            compressed = file.peek(2)[:2] == _GZIP_MAGIC
            return _decode(path.name, gzip.GzipFile(fileobj=file) if compressed else file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as failure:
        raise _damaged(path.name, "be sound gzip", str(failure).rstrip(".")) from failure


def _decode(name: str, stream: BinaryIO) -> np.ndarray:
    magic = _read_up_to(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES:
        wanted = "begin with two zero bytes, a type and a number of axes"
        raise _damaged(name, wanted, f"0x{magic.hex()}")
    dtype, n_axes = np.dtype(_IDX_DTYPES[magic[2]]), magic[3]
    header = _read_up_to(stream, 4 * n_axes)
    if n_axes > _MOST_AXES or len(header) < 4 * n_axes:
        wanted = f"hold the lengths of {n_axes} axes, at most {_MOST_AXES}"
        raise _damaged(name, wanted, f"{len(header)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    return _decode_entries(name, stream, shape, dtype)


def _decode_entries(
    name: str, stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    n_bytes = math.prod(shape) * dtype.itemsize
    entries = _read_up_to(stream, n_bytes + 1)  # one more: nothing follows
    if len(entries) != n_bytes:
        wanted = f"hold {n_bytes} bytes of entries for shape {shape}"
        got = "more" if len(entries) > n_bytes else str(len(entries))
        raise _damaged(name, wanted, got)
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        # Empty, with axes too long for NumPy to count.
        raise _damaged(name, "have a shape that fits into memory", shape)
    array = np.frombuffer(entries, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_up_to(stream: BinaryIO, n_bytes: int) -> bytearray:
    """As many bytes as there are, at most `n_bytes`, in chunks: a header may lie."""
    content = bytearray()
    while len(content) < n_bytes:
        chunk = stream.read(min(_CHUNK, n_bytes - len(content)))
        if not chunk:
            break
        content += chunk
    return content


def _damaged(name: str, requirement: str, actual: object) -> Exception:
    advice = "the file is damaged or no IDX file; fetch it again"
    return bad_argument("read_idx", name, requirement, actual, advice)
