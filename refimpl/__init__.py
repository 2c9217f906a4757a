"""Pruning and sparsity from scratch: weights, saliency, mask, prune, format, kernel, measurement.

A subpackage is imported when it is first used, so ``import refimpl`` stays cheap and
compiles nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

# In the order of the arrow.
_SUBMODULES = (
    "arrays",
    "files",
    "data",
    "formats",
    "kernels",
    "saliency",
    "masks",
    "nn",
    "prune",
    "deploy",
    "measure",
    "plotting",
    "experiments",
)

# Without plotting, which needs matplotlib: ``from refimpl import *`` works in every installation.
__all__ = ["__version__", *(name for name in _SUBMODULES if name != "plotting")]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
