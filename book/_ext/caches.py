"""Folders for executed chapters and compiled kernels, named after all they depend on.

jupyter-cache looks at a chapter's cells alone, and Numba at the file that holds a kernel,
not at the files that the kernel calls. Either would show a reader numbers that the code
no longer gives. A folder named after a hash of all the rest cannot.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

RESULTS = Path("book/results")
LIBRARIES = ("numpy", "scipy", "numba", "matplotlib")


def digest(folder: Path) -> str:
    """Hash the names and contents of all files below a folder, compiled ones apart."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            total.update(path.read_bytes() + b"\0")
    return total.hexdigest()


def imported_package() -> Path | None:
    """Folder of the refimpl that ``import refimpl`` would find."""
    spec = importlib.util.find_spec("refimpl")
    return Path(spec.origin).parent if spec and spec.origin else None


def isolate_kernels(folder: Path) -> None:
    """Give Jupyter kernels a profile of their own, so that no reader's start-up file runs.

    The one setting silences a line a chapter about sockets that nobody else can reach.
    """
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    setting = 'get_config().IPKernelApp.log_level = "ERROR"\n'
    (profile / "ipython_kernel_config.py").write_text(setting)
    os.environ["IPYTHONDIR"] = str(folder)


def choose_caches(root: Path, build: Path) -> Path:
    """Set the folders of compiled kernels, Jupyter and matplotlib for this process's children.

    Returns the folder of executed chapters.
    """
    isolate_kernels(build / ".ipython")
    parts = [digest(root / "refimpl"), digest(root / RESULTS), platform.python_version()]
    parts += [f"{name}={importlib.metadata.version(name)}" for name in LIBRARIES]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    os.environ["NUMBA_CACHE_DIR"] = str(build / ".numba_cache" / key)
    # Where the home cannot be written to, every chapter would warn that there is no cache.
    os.environ["MPLCONFIGDIR"] = str(build / ".matplotlib")
    return build / ".jupyter_cache" / key
