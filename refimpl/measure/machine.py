"""Which machine is this, and how many of its threads may a measurement use?"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import scipy.linalg  # noqa: F401  SciPy brings a BLAS of its own: loaded here, every pin reaches it
from threadpoolctl import threadpool_info, threadpool_limits

from refimpl.arrays import bad_argument, check_count

_ROOT = Path(__file__).resolve().parents[2]  # the checkout, where there is one


@contextmanager
def pinned_threads(n: int) -> Iterator[None]:
    """Give Numba and every BLAS library the same number of threads, and restore it after.

    Parameters
    ----------
    n : int
        Threads, from 1 to what Numba was started with.

    Yields
    ------
    None
        Also when the body raises, the numbers of before come back.

    Raises
    ------
    TypeError, ValueError
        If `n` is no such count.

    Notes
    -----
    Two libraries that each take all cores get in each other's way; libraries with different
    numbers of threads cannot be compared. NumPy's and SciPy's BLAS are reached. Another
    library that is first imported inside the body is not: import before pinning.

    Examples
    --------
    >>> import numba
    >>> with pinned_threads(1):
    ...     numba.get_num_threads()
    1
    """
    check_count("pinned_threads", "n", n, 1)
    most = numba.config.NUMBA_NUM_THREADS
    if n > most:
        advice = f"start Python with NUMBA_NUM_THREADS={n} to allow more"
        raise bad_argument("pinned_threads", "n", f"be at most Numba's {most} threads", n, advice)
    before = numba.get_num_threads()
    with threadpool_limits(int(n)):
        numba.set_num_threads(int(n))
        try:
            yield
        finally:
            numba.set_num_threads(before)


def machine_stamp() -> dict[str, Any]:
    """Describe the machine and the versions that a number was measured with.

    Returns
    -------
    dict
        ``cpu`` (model), ``cores`` (this process may use), ``memory_gib``, ``os``, ``python``,
        ``numpy``, ``scipy``, ``numba`` (versions), ``blas`` (library, version and threads of
        each one loaded), ``numba_threads``, ``commit`` and ``dirty`` (of the checkout that
        `refimpl` was imported from; None for an installed copy). No host, user or path.

    Examples
    --------
    >>> stamp = machine_stamp()
    >>> stamp["cores"] >= 1
    True
    """
    commit, dirty = _commit()
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_gib": _memory_gib(),
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "numba")},
        "blas": _blas_libraries(),
        "numba_threads": numba.get_num_threads(),
        "commit": commit,
        "dirty": dirty,
    }


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def _blas_libraries() -> list[str]:
    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return sorted(
        f"{info['internal_api']} {info['version']}, threads: {info['num_threads']}"
        for info in libraries
    )


@cache  # the code that runs is the code that was imported, whatever is committed meanwhile
def _commit(root: Path = _ROOT) -> tuple[str | None, bool | None]:
    project, git = root / "pyproject.toml", shutil.which("git")
    if git is None or not (root / ".git").exists() or not project.exists():
        return None, None
    if tomllib.loads(project.read_text("utf8")).get("project", {}).get("name") != "refimpl":
        return None, None
    # Within a git hook, GIT_DIR names the repository that the hook runs for.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    ask = partial(subprocess.run, cwd=root, env=environment, capture_output=True, text=True)
    head = ask([git, "rev-parse", "HEAD"])
    changes = ask([git, "status", "--porcelain", "--", "refimpl", "pyproject.toml"])
    if head.returncode or changes.returncode:
        return None, None
    return head.stdout.strip(), bool(changes.stdout.strip())
