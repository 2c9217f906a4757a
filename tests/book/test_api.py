"""The API pages document every public name, where it is imported from, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import refimpl

ROOT = Path(__file__).resolve().parents[2]
API = "\n".join(page.read_text("utf8") for page in sorted((ROOT / "book/api").glob("*.md")))
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(refimpl.__path__) if m.name != "__main__")
DIRECTIVE = re.compile(r"^\.\. (currentmodule|autoclass|autofunction|autodata):: (\S+)", re.M)


def documented(page: str) -> set[str]:
    """Dotted names that a page describes."""
    module, found = "", set()
    for directive, name in DIRECTIVE.findall(page):
        if directive == "currentmodule":
            module = name
        else:
            found.add(f"{module}.{name}")
    return found


def public_names(module) -> set[str]:
    """What a module offers: its ``__all__``, or the functions and classes it defines."""
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    return set(getattr(module, "__all__", defined))


@pytest.mark.parametrize("package", PACKAGES)
def test_api_documents_every_public_name(package):
    module = importlib.import_module(f"refimpl.{package}")
    wanted = {f"refimpl.{package}.{name}" for name in public_names(module)}
    assert wanted - documented(API) == set()


@pytest.mark.parametrize("name", sorted(documented(API)))
def test_api_names_what_exists(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (".. currentmodule:: a.b\n\n.. autofunction:: f", {"a.b.f"}),
        (
            ".. currentmodule:: a\n\n.. autoclass:: C\n\n.. currentmodule:: b\n\n.. autodata:: D",
            {"a.C", "b.D"},
        ),
        ("`f` is mentioned", set()),
    ],
)
def test_reader_of_the_api_page_reads(text, names):
    assert documented(text) == names
