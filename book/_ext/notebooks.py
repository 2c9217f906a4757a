"""Chapters as Jupyter notebooks: ``python book/_ext/notebooks.py FOLDER`` writes them all.

The book's pages offer the same notebooks for download.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jupytext
from caches import RESULTS


def is_chapter(page: Path) -> bool:
    """Tell a page with code to run from one of text."""
    text = page.read_text("utf8")
    return text.startswith("---\n") and "\nkernelspec:" in text.split("\n---", 1)[0]


def chapters(book: Path) -> list[Path]:
    """All chapters below the book's folder, in the order of their names."""
    return sorted(page for page in book.rglob("*.md") if is_chapter(page))


def write_notebook(page: Path, target: Path) -> None:
    """Write a chapter as ``.ipynb``, the same bytes each time."""
    notebook = jupytext.reads(page.read_text("utf8"), fmt="md:myst")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"  # jupytext draws them at random
    notebook.metadata.pop("jupytext", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(notebook, target, fmt="ipynb")


def write_all(root: Path, folder: Path) -> int:
    """Write every chapter, and the recorded results that some of them read; return how many."""
    pages = chapters(root / "book")
    for page in pages:
        write_notebook(page, folder / page.relative_to(root).with_suffix(".ipynb"))
    if (root / RESULTS).is_dir():
        shutil.copytree(root / RESULTS, folder / RESULTS, dirs_exist_ok=True)
    return len(pages)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{write_all(Path.cwd(), target)} notebooks in {target}")
