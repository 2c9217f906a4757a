"""The machine stamp tells what matters and nothing private; thread pins come off again."""

from __future__ import annotations

import ast
import getpass
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from refimpl.measure import machine, machine_stamp, pinned_threads

ROOT = Path(__file__).parents[2]
PYPROJECT = '[project]\nname = "refimpl"\n'


def blas_threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A committed project of two files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    (tmp_path / "refimpl").mkdir()
    (tmp_path / "refimpl" / "a.py").write_text("a = 1\n")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Start")
    return tmp_path


@pytest.mark.parametrize(
    "key", ["cpu", "cores", "memory_gib", "os", "python", "numpy", "scipy", "numba", "blas"]
)
def test_machine_stamp_names(key):
    assert machine_stamp()[key]


def test_machine_stamp_survives_json():
    stamp = machine_stamp()
    assert json.loads(json.dumps(stamp)) == stamp


def test_machine_stamp_holds_no_host_name():
    assert platform.node() not in machine_stamp().values()


def test_machine_stamp_holds_no_user_name():
    assert getpass.getuser() not in machine_stamp().values()


@pytest.mark.parametrize("folder", [Path.cwd(), Path.home(), Path(np.__file__).parents[1]])
def test_machine_stamp_holds_no_path(folder):
    assert str(folder) not in str(machine_stamp())


def test_machine_stamp_shows_the_pinned_threads():
    with pinned_threads(1):
        stamp = machine_stamp()
    assert stamp["numba_threads"] == 1
    assert all(library.endswith("threads: 1") for library in stamp["blas"])


def test_cpu_model_is_read_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Abacus 9000 @ 1 Hz\n")
    assert machine._cpu_model(cpuinfo) == "Abacus 9000 @ 1 Hz"


@pytest.mark.parametrize("text", [None, "processor\t: 0\n"])
def test_cpu_model_without_cpuinfo_is_the_platforms(tmp_path, text):
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    assert machine._cpu_model(cpuinfo) == (platform.processor() or platform.machine())


def test_commit_of_a_clean_checkout_is_its_head(checkout):
    assert machine._commit(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("changed", ["refimpl/a.py", "refimpl/new.py", "pyproject.toml"])
def test_commit_of_changed_code_is_dirty(checkout, changed):
    (checkout / changed).write_text(PYPROJECT + "# changed\n")
    assert machine._commit(checkout)[1] is True


def test_commit_does_not_mind_a_new_text(checkout):
    (checkout / "README.md").write_text("read me\n")
    assert machine._commit(checkout)[1] is False


def test_commit_of_another_project_is_none(checkout):
    (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert machine._commit(checkout) == (None, None)


def test_commit_of_an_installed_copy_is_none(tmp_path):
    assert machine._commit(tmp_path) == (None, None)


def test_commit_of_a_broken_repository_is_none(checkout):
    (checkout / ".git" / "HEAD").write_text("nonsense\n")
    assert machine._commit(checkout) == (None, None)


def test_pinned_threads_limits_numba():
    with pinned_threads(1):
        assert numba.get_num_threads() == 1


def test_pinned_threads_limits_blas():
    with pinned_threads(1):
        assert blas_threads() == {1}


def test_pinned_threads_limits_a_blas_that_is_used_for_the_first_time_inside():
    code = """
from refimpl.measure import machine_stamp, pinned_threads
with pinned_threads(1):
    import scipy.linalg, scipy.sparse.linalg
    print([library[-1] for library in machine_stamp()["blas"]])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(ast.literal_eval(done.stdout)) == {"1"}


def test_pinned_threads_restores_numba_after_an_error():
    before = numba.get_num_threads()
    with pytest.raises(RuntimeError, match="planted"), pinned_threads(1):
        raise RuntimeError("planted")
    assert numba.get_num_threads() == before


def test_pinned_threads_restores_blas_after_an_error():
    before = blas_threads()
    with pytest.raises(RuntimeError, match="planted"), pinned_threads(1):
        raise RuntimeError("planted")
    assert blas_threads() == before


def test_pinned_threads_rejects_more_than_numba_has():
    most = numba.config.NUMBA_NUM_THREADS
    sentence = rf"n must be at most Numba's {most} threads, got {most + 1}; start Python with"
    with pytest.raises(ValueError, match=sentence), pinned_threads(most + 1):
        pass


def test_pinned_threads_rejects_zero():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"), pinned_threads(0):
        pass


def test_commit_within_a_git_hook_is_still_its_own(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    head = (checkout / ".git" / "refs" / "heads").rglob("*")
    assert machine._commit(checkout)[0] in {ref.read_text().strip() for ref in head}
