"""The tree keeps its shape: imports run down, and each module has its test and its chapter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400

# From the top down; names on one line are siblings that do not see each other.
LAYERS = (
    ("__main__",),
    ("experiments",),
    ("deploy", "compress", "hardware", "measure", "plotting"),
    ("prune",),
    ("nn",),
    ("kernels", "saliency", "masks", "data"),
    ("formats",),
    ("arrays", "files"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, packages' ``__init__`` apart."""
    files = sorted((root / "refimpl").rglob("*.py"))
    dotted = {".".join(f.relative_to(root).with_suffix("").parts): f for f in files}
    return {name: file for name, file in dotted.items() if not name.endswith("__init__")}


def imported(source: str, package: list[str]) -> set[str]:
    """Dotted names that a file of `package` imports, relative ones resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names}
    return found


def upward_imports(root: Path) -> list[str]:
    """Imports of refimpl that do not lead down, or down to a sibling of the same layer."""
    found = []
    for file in sorted((root / "refimpl").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if len(parts) == 2 and parts[1] == "__init__":
            continue
        home = parts[1]
        for name in sorted(imported(file.read_text("utf8"), list(parts[:-1]))):
            target = name.split(".")
            if target[0] != "refimpl" or len(target) < 2 or target[1] in (home, "__version__"):
                continue
            if RANK.get(target[1], -1) <= RANK[home]:
                found.append(f"{'/'.join(parts)}: {name}")
    return found


def untested_modules(root: Path) -> list[str]:
    """Modules without ``tests/<same folders>/test_<stem>.py``."""
    missing = []
    for name, file in modules(root).items():
        folder = root / "tests" / file.relative_to(root / "refimpl").parent
        if not (folder / f"test_{file.stem.strip('_')}.py").is_file():
            missing.append(name)
    return missing


def home_chapters(root: Path) -> Counter[str]:
    """How many pages of the book call themselves the home of each module."""
    pages = sorted((root / "book").rglob("*.md"))
    fronts = (page.read_text("utf8").split("\n---", 1)[0] for page in pages)
    lines = (re.search(r"^home_of:(.*)$", front, re.M) for front in fronts)
    return Counter(name for line in lines if line for name in line.group(1).split())


def homeless_modules(root: Path) -> list[str]:
    """Modules without exactly one home chapter, and chapters that are home to no module."""
    counts = home_chapters(root)
    names = modules(root)
    return sorted(n for n in {*counts, *names} if counts[n] != 1 or n not in names)


def long_files(root: Path) -> list[str]:
    """Source, test and chapter files over `MOST_LINES` lines."""
    folders = (root / name for name in ("refimpl", "tests", "book"))
    files = sorted(f for folder in folders for f in folder.rglob("*") if f.suffix in (".py", ".md"))
    return [f.name for f in files if len(f.read_text("utf8").splitlines()) > MOST_LINES]


def test_imports_only_run_down():
    assert upward_imports(ROOT) == []


def test_every_module_has_a_test_file():
    assert untested_modules(ROOT) == []


def test_every_module_has_exactly_one_home_chapter():
    assert homeless_modules(ROOT) == []


def test_no_file_is_too_long():
    assert long_files(ROOT) == []


@pytest.mark.parametrize("package", sorted(p.name for p in (ROOT / "refimpl").iterdir()))
def test_every_package_has_its_place_in_the_order(package):
    name = package.removesuffix(".py")
    hidden = name.startswith("__") and name != "__main__"
    assert hidden or "." in name or name in RANK


def in_fresh_python(code: str) -> str:
    """Run `code` in a new interpreter and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return run.stdout.strip()


def test_import_of_the_package_loads_no_compiler():
    loaded = "import sys, refimpl; print('numba' in sys.modules or 'scipy' in sys.modules)"
    assert in_fresh_python(loaded) == "False"


def test_subpackages_are_found_on_first_use():
    assert in_fresh_python("import refimpl; print(refimpl.masks.__name__)") == "refimpl.masks"


def test_star_import_needs_no_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; from refimpl import *; print(nn.__name__)"
    assert in_fresh_python(code) == "refimpl.nn"


def test_unknown_names_are_attribute_errors():
    code = "import refimpl; print(hasattr(refimpl, 'no_such_thing'))"
    assert in_fresh_python(code) == "False"


def test_dir_lists_the_subpackages():
    assert in_fresh_python("import refimpl; print('formats' in dir(refimpl))") == "True"


@pytest.fixture
def small_tree(tmp_path):
    """A sound project of one module, to plant faults in."""
    files = {
        "refimpl/__init__.py": "",
        "refimpl/masks/__init__.py": "from .select import keep",
        "refimpl/masks/select.py": "from refimpl.arrays import check\nfrom ..arrays import xp_of",
        "tests/masks/test_select.py": "",
        "book/masks/select.md": "---\nhome_of: refimpl.masks.select\n---\n# Selection\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


CHECKS = (upward_imports, untested_modules, homeless_modules, long_files)


@pytest.mark.parametrize("check", CHECKS)
def test_sound_tree_passes(small_tree, check):
    assert check(small_tree) == []


@pytest.mark.parametrize(
    ("check", "file", "text", "found"),
    [
        (upward_imports, "refimpl/masks/up.py", "import refimpl.nn.layers", 1),
        (upward_imports, "refimpl/masks/up.py", "from refimpl import nn", 1),
        (upward_imports, "refimpl/masks/up.py", "from ..nn import Linear", 1),
        (upward_imports, "refimpl/masks/side.py", "def f():\n    from ..saliency import s", 1),
        (upward_imports, "refimpl/masks/strange.py", "from ..unknown import thing", 1),
        (untested_modules, "refimpl/masks/blocks.py", "", 1),
        (untested_modules, "refimpl/nn/select.py", "", 1),
        (homeless_modules, "refimpl/masks/blocks.py", "", 1),
        (homeless_modules, "book/second.md", "---\nhome_of: refimpl.masks.select\n---\n", 1),
        (homeless_modules, "book/ghost.md", "---\nhome_of: refimpl.masks.ghost\n---\n", 1),
        (long_files, "book/long.md", "\n" * (MOST_LINES + 1), 1),
    ],
)
def test_planted_faults_are_found(small_tree, check, file, text, found):
    (small_tree / file).parent.mkdir(parents=True, exist_ok=True)
    (small_tree / file).write_text(text)
    assert len(check(small_tree)) == found
