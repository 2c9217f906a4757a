"""Run all chapters, one process a core, into the cache that the build reads.

``jupyter-book build`` runs them one after another. A chapter that fails here is run again
by the build, which reports it.
"""

from __future__ import annotations

import time
from pathlib import Path

from caches import choose_caches
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from notebooks import chapters

READER = {"name": "myst_nb_md", "type": "plugin"}
SECONDS_A_CELL = 300  # as in _config.yml


def main() -> None:
    """Fill the cache and say how many chapters ran and failed."""
    start = time.perf_counter()
    root = Path.cwd()
    cache = get_cache(choose_caches(root, root / "_build"))
    for page in chapters(root / "book"):
        cache.add_nb_to_project(str(page), read_data=READER)
    result = load_executor("local-parallel", cache).run_and_cache(timeout=SECONDS_A_CELL)
    n_failed = len(result.excepted) + len(result.errored)
    seconds = time.perf_counter() - start
    print(f"{len(result.succeeded)} chapters ran, {n_failed} failed, in {seconds:.0f} s")


if __name__ == "__main__":
    main()
