"""What `pip install .` puts on a machine: every data file, every extra, a version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import refimpl

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
COMPILED = {".pyc", ".nbi", ".nbc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build a wheel from a copy of what it needs, without a network and without pip."""
    tree = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "refimpl", tree / "refimpl", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(tree)], cwd=tree, check=True, capture_output=True
    )
    return next(tree.glob("*.whl"))


def package_files(root: Path) -> set[str]:
    """Everything under refimpl/ that is not compiled."""
    files = (file for file in (root / "refimpl").rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix() for file in files if file.suffix not in COMPILED}


def left_out(root: Path, wheel: Path) -> list[str]:
    """Files of the package that a wheel lacks."""
    return sorted(package_files(root) - set(zipfile.ZipFile(wheel).namelist()))


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def test_wheel_holds_every_file_of_the_package(wheel):
    assert left_out(wheel.parent, wheel) == []


def test_forgotten_data_file_is_noticed(wheel, tmp_path):
    forgotten = tmp_path / "refimpl" / "data" / "forgotten.npz"
    forgotten.parent.mkdir(parents=True)
    forgotten.touch()
    assert left_out(tmp_path, wheel) == ["refimpl/data/forgotten.npz"]


def test_wheel_holds_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"refimpl", f"refimpl-{refimpl.__version__}.dist-info"}


def test_wheel_runs_for_every_platform(wheel):
    assert wheel.name == f"refimpl-{refimpl.__version__}-py3-none-any.whl"


def test_digits_load_from_the_wheel(wheel, tmp_path):
    code = "import refimpl.data as d; print(d.__file__); print(len(d.load_digits().test_labels))"
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines() == [str(wheel / "refimpl" / "data" / "__init__.py"), "360"]


def test_version_is_the_same_everywhere(metadata, project):
    assert metadata["Version"] == project["version"] == refimpl.__version__


def test_licence_travels_along(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert f"refimpl-{refimpl.__version__}.dist-info/licenses/LICENSE" in names


def test_command_line_is_an_entry_point(wheel):
    entry = f"refimpl-{refimpl.__version__}.dist-info/entry_points.txt"
    assert "refimpl = refimpl.__main__:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_extras_are_the_promised_ones(metadata):
    promised = {"bench", "book", "data", "gpu", "scale", "test"}
    assert promised <= set(metadata.get_all("Provides-Extra"))


def test_every_requirement_is_in_the_wheel(metadata, project):
    extras = project["optional-dependencies"].values()
    n_stated = len(project["dependencies"]) + sum(len(extra) for extra in extras)
    assert len(metadata.get_all("Requires-Dist")) == n_stated


def test_a_plain_install_brings_what_the_library_imports(metadata):
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    plain = {r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    assert {"numpy", "numba", "scipy", "tqdm"} <= plain
    assert not plain & {"pooch", "matplotlib", "pytest"}


@pytest.mark.parametrize("name", ["numpy", "numba", "scipy", "tqdm"])
def test_requirement_has_a_floor_and_a_cap(metadata, name):
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    specifier = next(r.specifier for r in requirements if r.name == name)
    assert {">=", "<"} == {part.operator for part in specifier}
