"""Every array function that networks, masks and saliencies call exists in CuPy, too.

A machine without a GPU can look the names up, in a list of CuPy's. That the code also runs on
arrays that are not NumPy's is the subject of `nn/test_device.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.device_arrays import NAMES

PACKAGE = Path(__file__).resolve().parents[1] / "refimpl"
FOLDERS = ("nn", "masks", "saliency")
FILES = sorted(file for folder in FOLDERS for file in (PACKAGE / folder).glob("*.py"))

# Asked of NumPy itself, not of an array's module.
HOST_ONLY = {
    "errstate": "NumPy's warnings, of which CuPy has none",
    "savez": "writes what has come to the host",
}


def array_functions(source: str) -> set[str]:
    """Names that a module takes from `np`, from `xp` or from what `xp_of` returns."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            wanted = {"xp_of"} if isinstance(node.value, ast.Call) else {"np", "xp"}
            if isinstance(owner, ast.Name) and owner.id in wanted:
                found.add(node.attr)
    return found


def unknown_to_cupy(source: str) -> list[str]:
    names = {name for name in array_functions(source) if not name.startswith("__")}
    return sorted(names - NAMES["cupy"] - set(HOST_ONLY))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_module_uses_names_that_cupy_has(file):
    assert unknown_to_cupy(file.read_text("utf8")) == []


def test_array_functions_of_the_layers_are_seen():
    every = {name for file in FILES for name in array_functions(file.read_text("utf8"))}
    assert every >= {"pad", "maximum", "zeros", "where", "ascontiguousarray"}


@pytest.mark.parametrize(
    "line",
    [
        "y = np.nanquantile(x, 0.5)",
        "y = xp.nanquantile(x, 0.5)",
        "y = xp_of(x).nanquantile(x, 0.5)",
        "y = xp_of(x, y).nanquantile(x, 0.5)",
        "f = np.nanquantile",
    ],
)
def test_planted_name_that_cupy_lacks_is_found(line):
    assert unknown_to_cupy(f"def f(x):\n    {line}") == ["nanquantile"]


@pytest.mark.parametrize("line", ["y = x.nanquantile()", "y = scipy.nanquantile(x)", "np.sqrt(x)"])
def test_other_names_are_left_alone(line):
    assert unknown_to_cupy(line) == []
