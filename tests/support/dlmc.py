"""The patterns of pruned networks, on machines that have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("REFIMPL_DATA", ROOT.parent / "shared" / "data")) / "dlmc"
FILES = sorted(FOLDER.rglob("*.smtx"))

_ABSENT = "no DLMC: neither $REFIMPL_DATA nor ../shared/data has a folder dlmc with .smtx files"


def name_of(path: Path) -> str:
    """Sparsity, block and layer, ``0.9-encoder_layer_0_ffn_conv1``."""
    layer = path.stem.removeprefix("body_").removesuffix("_fully_connected")
    return f"{path.parent.name}-{layer}"


every_pattern = pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=name_of(path), marks=pytest.mark.dlmc) for path in FILES]
    or [pytest.param(None, id="none", marks=[pytest.mark.dlmc, pytest.mark.skip(reason=_ABSENT)])],
)
