"""DLMC, masks of pruned networks: one text file a layer, three lines each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from refimpl.arrays import bad_argument, check_rng
from refimpl.formats import CSR


def dlmc_files(folder: str | os.PathLike[str] = "$REFIMPL_DATA/dlmc") -> list[Path]:
    """List the pattern files of the Deep Learning Matrix Collection on this machine.

    Parameters
    ----------
    folder : str or path-like
        Searched with all folders below it; variables and ``~`` are expanded.

    Returns
    -------
    list of Path
        Every ``.smtx`` file, at least one, sorted by path.

    Raises
    ------
    FileNotFoundError
        If there is none.

    Notes
    -----
    The collection names its folders ``model/pruning method/sparsity``, so
    ``path.parent.name`` is the sparsity of a pattern.

    References
    ----------
    T. Gale, M. Zaharia, C. Young, E. Elsen (2020), Sparse GPU kernels for deep learning,
    arXiv:2006.10901. The masks are those of T. Gale, E. Elsen, S. Hooker (2019), The state of
    sparsity in deep neural networks, arXiv:1902.09574.
    """
    searched = os.path.expanduser(os.path.expandvars(folder))  # noqa: PTH111 - as for MNIST
    found = sorted(Path(searched).rglob("*.smtx"))
    if not found:
        advice = "set $REFIMPL_DATA to where the folder dlmc is, or pass another folder"
        requirement, actual = "hold .smtx files", f"none below {searched}"
        where, kind = "dlmc_files", FileNotFoundError
        raise bad_argument(where, "folder", requirement, actual, advice, kind=kind)
    return found


def read_smtx(path: str | os.PathLike[str], rng: np.random.Generator) -> CSR:
    r"""Read where the weights of a pruned layer are, and draw their values.

    Parameters
    ----------
    path : str or path-like
        The file. It stores no values.
    rng : numpy.random.Generator
        Where the values are drawn from, N(0, 1), row by row.

    Returns
    -------
    CSR
        Values of float32, indices of int32.

    Raises
    ------
    TypeError
        If `rng` is no generator.
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged or no .smtx file; nothing is drawn then.

    Notes
    -----
    Three lines of whole numbers in decimal: ``rows, columns, nnz`` with commas; then, separated
    by blanks, the row pointers, and the columns of the kept weights, increasing in each row.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "layer.smtx"
    ...     _ = path.write_text("2, 4, 3\n0 2 3\n1 3 0\n")
    ...     csr = read_smtx(path, np.random.default_rng(0))
    >>> (csr.to_dense() != 0).astype(int)
    array([[0, 1, 0, 1],
           [1, 0, 0, 0]])
    """
    check_rng("read_smtx", rng)
    path = Path(path)
    pattern = _pattern(path.name, path.read_bytes())
    return pattern.with_values(rng.standard_normal(pattern.nnz, np.float32))


def _pattern(name: str, content: bytes) -> CSR:
    """The places of the weights, with zeros for values."""
    lines = content.split(b"\n")
    if len(lines) < 3 or any(line.strip() for line in lines[3:]):
        raise _damaged(name, "hold three lines", str(len(lines)))
    texts = (lines[0].split(b","), lines[1].split(), lines[2].split())
    try:
        sizes, indptr, indices = (np.array(text, np.int32) for text in texts)
    except (ValueError, OverflowError) as failure:
        raise _damaged(name, "hold whole numbers below 2**31", f"'{failure}'") from failure
    if sizes.size != 3 or sizes[2] != indices.size:
        wanted = f"begin with rows, columns and {indices.size}, the number of columns listed"
        raise _damaged(name, wanted, sizes.tolist())
    try:
        return CSR(np.zeros(indices.size, np.float32), indices, indptr, (sizes[0], sizes[1]))
    except ValueError as failure:
        raise _damaged(name, "describe a matrix", f"'{failure}'") from failure


def _damaged(name: str, requirement: str, actual: object) -> Exception:
    advice = "the file is damaged or no .smtx file; fetch it again"
    return bad_argument("read_smtx", name, requirement, actual, advice)
