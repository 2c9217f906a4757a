"""How does a trained network outlive its program? One file, read without running any of it."""

from __future__ import annotations

import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, xp_of
from refimpl.files import write_atomically
from refimpl.nn.network import Network, check_network
from refimpl.nn.sparse import SparseLayer

FORMAT = 1  # another number means other entries
_NPY = b"\x93NUMPY\x01\x00"  # an array begins so; then come two bytes of length and the header
_ADVICE = "load what save wrote of a network with the same layers"


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network's weights, buffers and masks to one file.

    Parameters
    ----------
    network : Network
        Of dense layers; masks are saved too.
    path : str or path-like
        The file, replaced if there. The name is taken as it is: no suffix is added.

    Raises
    ------
    TypeError
        If `network` is no `Network` or `path` no path.
    ValueError
        If a layer is sparse, or a layer's name cannot be printed.
    OSError
        If the folder is not there or the disk is full: an older file is then as it was.

    Notes
    -----
    The file is a NumPy archive, ``.npz``, without compression: ``value/fc1.weight`` for every
    parameter and buffer, ``mask/fc1.weight`` for every mask, and ``format``: the number of the
    format, 1, and that of the masks. It is written beside `path` and then renamed, so that
    `path` never is half a network. NaN is written like any value: a network that diverged may
    be looked at later. Equal networks give equal files.

    Not in the file: the layers themselves, which are code; gradients; what an optimiser
    remembers, so that training which goes on from a file starts with an optimiser without
    momentum; and the state of random generators, as `Dropout` holds one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from refimpl import nn
    >>> trained = nn.mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> fresh = nn.mlp([4, 3, 2], rng=np.random.default_rng(1))
    >>> with TemporaryDirectory() as folder:
    ...     nn.save(trained, Path(folder) / "net.npz")
    ...     nn.load(fresh, Path(folder) / "net.npz")
    >>> x = np.ones((1, 4), np.float32)
    >>> bool((fresh.forward(x) == trained.forward(x)).all())
    True
    """
    _check_storable("save", network)
    path, archive = _as_path("save", path), BytesIO()
    parameters = network.named_parameters()
    masks = {name: p.mask for name, p in parameters.items() if p.mask is not None}
    entries = _on_host("value", network.state()) | _on_host("mask", masks)
    head = np.array([FORMAT, len(masks)], np.int64)
    np.savez(archive, format=head, **entries)
    write_atomically(path, archive.getvalue())


def load(network: Network, path: str | os.PathLike[str]) -> None:
    """Give a network the weights, buffers and masks that `save` wrote.

    Parameters
    ----------
    network : Network
        With the layers of the saved one: the same names, shapes and dtypes. All its values are
        replaced, and all its masks: one that the file does not have is lifted.
    path : str or path-like
        The file.

    Raises
    ------
    TypeError
        If `network` is no `Network` or `path` no path.
    ValueError
        If the file is damaged, is no file of `save`, or was saved from other layers; if a mask
        in it holds anything but 0 and 1, or prunes a weight that is not 0. Then the network is
        what it was, bit for bit.
    OSError
        If the file cannot be opened.

    Notes
    -----
    Nothing in the file is run or evaluated: the header of each array is compared with the one
    that it must have, so pickled objects are refused like any other dtype that is not the
    network's. Memory grows with the network, whatever shapes the file announces. Each array
    carries a checksum, CRC-32, which reveals damage by accident, but no change on purpose.

    A network of CuPy arrays stays one.
    """
    _check_storable("load", network)
    path = _as_path("load", path)
    with path.open("rb") as file:
        arrays = _read(path.name, file, _entries(network))
    parameters = network.named_parameters()
    masks = {name: arrays.get(f"mask/{name}") for name in parameters}
    for name, mask in masks.items():
        _check_mask(path.name, name, mask, arrays[f"value/{name}"])
    xp = xp_of(*(parameter.value for parameter in parameters.values()))
    state = {name: xp.asarray(arrays[f"value/{name}"]) for name in network.state()}
    for name, mask in masks.items():
        parameters[name].mask = None if mask is None else xp.asarray(mask)
    network.load_state(state)


class _Entry(NamedTuple):
    """What an array in the file has to be."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def header(self) -> str:
        """As NumPy writes it, without the spaces around it."""
        shape = repr(self.shape)
        return f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _entries(network: Network) -> dict[str, _Entry]:
    """What the file of a network may hold: every value, and masks for some parameters."""
    parameters = network.named_parameters()
    values = parameters | network.named_buffers()
    return (
        {"format": _Entry((2,), np.dtype(np.int64))}
        | {f"value/{name}": _Entry(item.shape, item.dtype) for name, item in values.items()}
        | {f"mask/{name}": _Entry(item.shape, np.dtype(bool)) for name, item in parameters.items()}
    )


def _read(file_name: str, file: IO[bytes], entries: dict[str, _Entry]) -> dict[str, np.ndarray]:
    """Read the arrays of an archive, if they are what the network needs."""
    with _in_one_sentence(file_name):
        archive = zipfile.ZipFile(file)
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if "format" not in names:
        raise bad_argument("load", file_name, "be written by save", "no entry format", _ADVICE)
    number, n_masks = _read_array(file_name, archive, "format", entries["format"]).tolist()
    if number != FORMAT:
        advice = "load it with the version of refimpl that saved it"
        raise bad_argument("load", f"format of {file_name}", f"be {FORMAT}", number, advice)
    _check_names(file_name, names, entries, n_masks)
    return {name: _read_array(file_name, archive, name, entries[name]) for name in names}


def _read_array(file_name: str, archive: zipfile.ZipFile, name: str, entry: _Entry) -> np.ndarray:
    with _in_one_sentence(file_name):
        header, data = _read_bytes(archive, name, entry.n_bytes)
    argument = f"{name} in {file_name}"
    if header != entry.header:
        requirement, actual = f"be {_readable(entry.header)}", _readable(header)
        raise bad_argument("load", argument, requirement, actual, _ADVICE)
    if len(data) != entry.n_bytes:
        actual = "more" if len(data) > entry.n_bytes else len(data)
        raise bad_argument("load", argument, f"hold {entry.n_bytes} bytes", actual, _ADVICE)
    return np.ndarray(entry.shape, entry.dtype, data)


def _read_bytes(archive: zipfile.ZipFile, name: str, n_bytes: int) -> tuple[str, bytes]:
    """Read header and data of an array; of the data a byte more, which should not be there."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:  # a few bytes could fill the memory
        raise zipfile.BadZipFile(f"{info.filename} is compressed")
    with archive.open(info) as stream:
        magic, length = stream.read(len(_NPY)), stream.read(2)
        header = stream.read(int.from_bytes(length, "little")) if magic == _NPY else magic
        return header.decode("latin-1").strip(), stream.read(n_bytes + 1)


def _readable(header: str) -> str:
    """The header in fewer words and on one line, whatever it is."""
    short = header.replace(", 'fortran_order': False, 'shape': ", " of shape ")
    line = repr(short.removeprefix("{'descr': ").removesuffix(", }")[:100])
    return line[1:-1] or "nothing"


@contextmanager
def _in_one_sentence(file_name: str) -> Iterator[None]:
    """Turn whatever `zipfile` raises at damaged bytes, a dozen kinds, into a `ValueError`."""
    try:
        yield
    except Exception as failure:
        actual = f"{type(failure).__name__}: {failure}"
        requirement, advice = "be a sound archive", "take another copy of the file"
        raise bad_argument("load", file_name, requirement, actual, advice) from failure


def _check_names(
    file_name: str, names: list[str], entries: dict[str, _Entry], n_masks: int
) -> None:
    counts = Counter(names)
    missing = [name for name in entries if name not in counts and not name.startswith("mask/")]
    strange = [name for name, count in counts.items() if name not in entries or count > 1]
    if missing or strange:
        actual = f"missing {missing} and unexpected {strange}"
        requirement = "hold what the network does, each once"
        raise bad_argument("load", file_name, requirement, actual, _ADVICE)
    n_found = sum(name.startswith("mask/") for name in names)
    if n_found != n_masks:  # a damaged table of contents may swallow the last
        requirement, advice = f"hold {n_masks} masks", "take another copy of the file"
        raise bad_argument("load", file_name, requirement, n_found, advice)


def _check_mask(file_name: str, name: str, mask: np.ndarray | None, value: np.ndarray) -> None:
    if mask is None:
        return
    n_strange = int((mask.view(np.uint8) > 1).sum())
    if n_strange:
        argument, advice = f"mask/{name} in {file_name}", "take another copy of the file"
        raise bad_argument("load", argument, "hold 0 and 1", f"{n_strange} others", advice)
    n_alive = int(np.count_nonzero(value[~mask]))
    if n_alive:
        argument, advice = f"value/{name} in {file_name}", "set them to 0, or leave the mask out"
        requirement = "be 0 where the mask prunes"
        raise bad_argument("load", argument, requirement, f"{n_alive} others", advice)


def _check_storable(where: str, network: Any) -> None:
    check_network(where, network)
    for name, layer in network.named_layers().items():
        if isinstance(layer, SparseLayer):
            advice = "keep the masked network that it was made from"
            actual = f"{type(layer).__name__} {name}"
            raise bad_argument(where, "every layer", "be dense", actual, advice)
        if not name.isprintable():
            advice = "give it a name that can be printed"
            raise bad_argument(where, "every layer", "have a printable name", repr(name), advice)


def _as_path(where: str, path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        actual, advice = type(path).__name__, "pass the name of the file"
        raise bad_argument(where, "path", "be a path", actual, advice, kind=TypeError)
    return Path(path)


def _on_host(folder: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """NumPy arrays, named within a folder of the archive."""
    on_host = {name: a if isinstance(a, np.ndarray) else a.get() for name, a in arrays.items()}
    return {f"{folder}/{name}": array for name, array in on_host.items()}
