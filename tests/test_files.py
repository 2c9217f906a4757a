"""A file is there whole, or as it was before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refimpl.files import write_atomically


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("data", [b"", b"whole", bytes(range(256)) * 1000])
def test_write_atomically_writes_the_bytes(tmp_path, data):
    write_atomically(tmp_path / "a", data)
    assert contents(tmp_path) == {"a": data}


def test_write_atomically_replaces(tmp_path):
    (tmp_path / "a").write_bytes(b"old, and longer")
    write_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"new"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("No space left on device")])
def test_write_atomically_interrupted_leaves_the_old_file_alone(
    tmp_path, monkeypatch, step, interruption
):
    def interrupt(*_):
        raise interruption

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, step, interrupt)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"old"}


def test_write_atomically_brings_the_bytes_to_the_disk_before_the_name(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *ends: (steps.append("replace"), replace(*ends)))
    write_atomically(tmp_path / "a", b"bytes")
    assert steps[:2] == ["fsync", "replace"]
