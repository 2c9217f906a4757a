"""How is a file written so that it is never there by half?"""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at any moment it is there whole, or not there.

    Parameters
    ----------
    path : pathlib.Path
        Replaced if there; its folder has to exist.
    data : bytes
        All that the file will hold.

    Raises
    ------
    OSError
        If the folder is not there or the disk is full: `path` is then as it was.

    Notes
    -----
    The bytes go to a file with another name in the same folder, then to the disk, and only
    then get their name: renaming is one step that no crash can cut in two. After a kill such
    a file may stay behind; its name starts with a point and ends in ``.tmp``, and nothing
    reads it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a", b"whole")
    ...     [(path.name, path.read_bytes()) for path in Path(folder).iterdir()]
    [('a', b'whole')]
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, on systems where a folder can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
