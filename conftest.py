"""Runs before pytest imports `refimpl`, for its doctests or its tests."""

from __future__ import annotations

import os
from pathlib import Path

from book._ext.caches import digest

ROOT = Path(__file__).resolve().parent

# Numba looks at the file that holds a kernel, not at the files that the kernel calls.
# A folder named after all of refimpl never yields machine code of an older source.
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".numba_cache" / digest(ROOT / "refimpl")[:16])

# NumPy is not imported yet. Two BLAS threads on small products wait for each other, and beside
# another busy process for each other's turn.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
