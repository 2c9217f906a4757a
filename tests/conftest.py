"""What the whole suite shares: how Hypothesis searches, and where MNIST is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# No deadline: the first call of a kernel compiles it.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def mnist_folder(monkeypatch) -> Path:
    """Folder of MNIST's IDX files; `load_mnist` finds them through $REFIMPL_DATA."""
    data = Path(os.environ.get("REFIMPL_DATA", ROOT.parent / "shared" / "data"))
    folder = data / "mnist"
    if not folder.is_dir():
        pytest.skip("no MNIST: neither $REFIMPL_DATA nor ../shared/data has a folder mnist")
    monkeypatch.setenv("REFIMPL_DATA", str(data))
    return folder
