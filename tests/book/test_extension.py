"""The book's own tools: cache keys that see every change, and the same notebook each time."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "book/_ext"
CHAPTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
home_of: refimpl.formats.csr
---

# A page

```{code-cell} ipython3
1 + 1
```
"""


@pytest.fixture
def tool(monkeypatch):
    """Import one of the book's tools, as Sphinx does."""
    pytest.importorskip("jupytext", reason="jupytext is not installed: install the extra 'book'")
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module


@pytest.fixture
def tree(tmp_path) -> Path:
    """A small book."""
    (tmp_path / "refimpl").mkdir()
    (tmp_path / "refimpl/a.py").write_text("x = 1\n")
    (tmp_path / "book/results").mkdir(parents=True)
    (tmp_path / "book/results/r.json").write_text("{}")
    (tmp_path / "book/page.md").write_text(CHAPTER)
    (tmp_path / "book/text.md").write_text("# Text\n\nkernelspec: a word\n")
    return tmp_path


@pytest.fixture
def key(tool, tree, monkeypatch):
    """Name of the folder of executed chapters for the present tree."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", "restored afterwards")
    monkeypatch.setenv("IPYTHONDIR", "restored afterwards")
    monkeypatch.setenv("MPLCONFIGDIR", "restored afterwards")
    choose = tool("caches").choose_caches
    return lambda: choose(tree, tree / "_build").name


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("refimpl/a.py", "x = 2\n"),
        ("refimpl/b.py", ""),
        ("refimpl/sub/data.npz", "binary"),
        ("book/results/r.json", '{"changed": 1}'),
    ],
)
def test_cache_key_changes_with_the_source(key, tree, path, text):
    before = key()
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_text(text)
    assert key() != before


def test_cache_key_changes_when_a_file_is_renamed(key, tree):
    before = key()
    (tree / "refimpl/a.py").rename(tree / "refimpl/c.py")
    assert key() != before


@pytest.mark.parametrize("path", ["refimpl/__pycache__/a.pyc", "book/page.md", "tests/test_a.py"])
def test_cache_key_ignores_what_chapters_do_not_read(key, tree, path):
    before = key()
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_text("changed")
    assert key() == before


def test_compiled_kernels_have_the_key_of_the_chapters(key):
    name = key()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).name == name


def test_suite_compiles_into_a_folder_of_this_source(tool):
    name = tool("caches").digest(ROOT / "refimpl")[:16]
    assert os.environ["NUMBA_CACHE_DIR"] == str(ROOT / ".numba_cache" / name)


def test_chapters_are_the_pages_with_a_kernel(tool, tree):
    assert tool("notebooks").chapters(tree / "book") == [tree / "book/page.md"]


def test_notebook_is_the_same_each_time(tool, tree):
    write = tool("notebooks").write_notebook
    write(tree / "book/page.md", tree / "one.ipynb")
    write(tree / "book/page.md", tree / "two.ipynb")
    assert (tree / "one.ipynb").read_bytes() == (tree / "two.ipynb").read_bytes()


def test_chapters_keep_their_caches_below_the_build(key, tree):
    key()
    folders = [os.environ[name] for name in ("NUMBA_CACHE_DIR", "IPYTHONDIR", "MPLCONFIGDIR")]
    assert all(Path(folder).is_relative_to(tree / "_build") for folder in folders)


@pytest.mark.usefixtures("tool")
def test_command_writes_notebooks_and_results(tree):
    command = [sys.executable, str(TOOLS / "notebooks.py"), "out"]
    said = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    written = sorted(p.relative_to(tree / "out").as_posix() for p in (tree / "out").rglob("*.*"))
    assert said == "1 notebooks in out\n"
    assert written == ["book/page.ipynb", "book/results/r.json"]
