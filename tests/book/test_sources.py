"""The book's sources agree with each other. Needs no built book."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import refimpl

ROOT = Path(__file__).resolve().parents[2]
TARGET = re.compile(r"^([a-z-]+):", re.M)
SAYS_MAKE = re.compile(r"(?:^|[`\"]|run: |step .*)make ([a-z]+(?:-[a-z]+)*)", re.M)
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    ".ci/run",
    ".github/workflows/tests.yml",
    ".github/workflows/book.yml",
    "book/index.md",
)


def unlisted(toc: str, pages: set[str]) -> set[str]:
    """Pages that no reader can reach, because the table of contents leaves them out."""
    return pages - set(re.findall(r"(?:file|root): (\S+)", toc))


def repeated_keys(bibliography: str) -> list[str]:
    """Keys that stand for two works."""
    keys = re.findall(r"^@\w+\{([^,]+),", bibliography, re.M)
    return sorted({key for key in keys if keys.count(key) > 1})


def unknown_targets(document: str, makefile: str) -> set[str]:
    """Targets of make that a document tells the reader to use, and that are not there."""
    return set(SAYS_MAKE.findall(document)) - set(TARGET.findall(makefile))


def unknown_tests(page: str, code: str) -> set[str]:
    """Tests that a page calls on, and that are not there."""
    return set(re.findall(r"`(test_\w+)`", page)) - set(re.findall(r"def (test_\w+)\(", code))


def test_table_of_contents_lists_every_page():
    pages = {p.relative_to(ROOT).with_suffix("").as_posix() for p in (ROOT / "book").rglob("*.md")}
    assert unlisted((ROOT / "_toc.yml").read_text("utf8"), pages) == set()


def test_tests_that_the_book_names_exist():
    pages, code = (
        "\n".join(p.read_text("utf8") for p in sorted((ROOT / folder).rglob(kind)))
        for folder, kind in (("book", "*.md"), ("tests", "test_*.py"))
    )
    assert unknown_tests(pages, code) == set()


def test_bibliography_keys_are_unique():
    assert repeated_keys((ROOT / "book/references.bib").read_text("utf8")) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_make_targets_exist(document):
    text, makefile = ((ROOT / name).read_text("utf8") for name in (document, "Makefile"))
    assert SAYS_MAKE.search(text)
    assert unknown_targets(text, makefile) == set()


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text("utf8")
    [phony] = re.findall(r"^\.PHONY: (.*)", makefile, re.M)
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^make (\S+)", printed.stdout, re.M)) == set(phony.split())


def test_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text("utf8")
    assert f"\nversion: {refimpl.__version__}\n" in citation


def test_checker_finds_an_unlisted_page():
    assert unlisted("root: book/index\n  - file: book/a", {"book/index", "book/a", "book/b"}) == {
        "book/b"
    }


def test_checker_finds_a_test_that_was_renamed():
    assert unknown_tests("`test_a` and `test_b`", "def test_a():\n    x = test_b") == {"test_b"}


def test_checker_finds_a_repeated_key():
    assert repeated_keys("@book{a,\n}\n@misc{b,\n}\n@article{a,\n}") == ["a"]


@pytest.mark.parametrize(
    "document", ["run `make gone`", "make gone", "- run: make gone", 'step "make gone" make gone']
)
def test_checker_finds_an_unknown_target(document):
    assert unknown_targets(document, "test: x\n\tpytest") == {"gone"}
