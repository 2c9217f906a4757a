"""Run all chapters, one process a core, into the cache that the build reads.

``jupyter-book build`` runs them one after another. A chapter that fails here is run again
by the build, which shows the error.
"""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

from caches import choose_caches
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from notebooks import chapters

READER = {"name": "myst_nb_md", "type": "plugin"}
SECONDS_A_CELL = 300  # as in _config.yml


def run_all(root: Path, build: Path) -> list[tuple[float, str]]:
    """Fill the cache; return seconds and page of each chapter that ran to its end."""
    cache = get_cache(choose_caches(root, build))
    importlib.import_module("matplotlib.font_manager")  # lists the fonts once, not in each chapter
    for page in chapters(root / "book"):
        cache.add_nb_to_project(str(page), read_data=READER)
    logging.getLogger("multiprocessing").disabled = True  # the build reports what failed
    load_executor("local-parallel", cache).run_and_cache(timeout=SECONDS_A_CELL)
    records = cache.list_cache_records()
    return sorted((r.data["execution_seconds"], r.uri) for r in records)


def main() -> None:
    """Run and say how long each chapter took, the slowest last."""
    start = time.perf_counter()
    root = Path.cwd()
    ran = run_all(root, root / "_build")
    for seconds, page in ran:
        print(f"{seconds:6.1f} s  {Path(page).relative_to(root)}")
    n_failed = len(chapters(root / "book")) - len(ran)
    print(f"{len(ran)} chapters ran, {n_failed} failed, in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
