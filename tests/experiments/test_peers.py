"""A peer is there with its version, or missing with a reason; its threads are what was asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from refimpl.experiments import peers

ROOT = Path(__file__).parents[2]
OPTIONAL = {"torch": peers.torch, "sparse_dot_mkl": peers.sparse_dot_mkl}


@pytest.fixture
def without(monkeypatch):
    """Hide a package, as if it were not installed."""

    def hide(name):
        monkeypatch.setitem(sys.modules, name, None)
        OPTIONAL[name].cache_clear()

    yield hide
    for load in OPTIONAL.values():
        load.cache_clear()


def in_fresh_python(code, **environment):
    command, more = [sys.executable, "-c", code], os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=more)


def test_peers_are_named_in_one_order():
    assert [peer.name for peer in peers.peers()] == ["numpy", "scipy", "mkl", "torch"]


@pytest.mark.parametrize("index", range(4))
def test_peer_has_a_version_or_a_reason(index):
    peer = peers.peers()[index]
    assert (peer.version is None) == (peer.missing is not None)


@pytest.mark.parametrize(("package", "peer"), [("torch", "torch"), ("sparse_dot_mkl", "mkl")])
def test_peer_that_is_not_installed_says_so(without, package, peer):
    without(package)
    found = {peer.name: peer for peer in peers.peers()}[peer]
    if package == "sparse_dot_mkl" and isinstance(peers.mkl_library(), str):
        package = "mkl"
    assert (found.version, found.missing) == (None, f"{package} is not installed")


def test_import_of_the_experiments_loads_no_peer():
    code = "import sys, refimpl.experiments; print({'torch', 'sparse_dot_mkl'} & set(sys.modules))"
    assert in_fresh_python(code).stdout.strip() == "set()"


def test_torch_keeps_the_mkl_that_it_brought():
    if isinstance(peers.torch(), str) or isinstance(peers.sparse_dot_mkl(), str):
        pytest.skip("needs PyTorch and sparse_dot_mkl")
    code = "import torch; print(torch.__config__.show())"
    alone = in_fresh_python(code).stdout
    beside = in_fresh_python(f"from refimpl.experiments import peers; peers.peers(); {code}").stdout
    assert alone == beside


def test_mkl_library_is_the_one_that_the_environment_names(monkeypatch):
    monkeypatch.setenv("MKL_RT", "/opt/libmkl_rt.so")
    assert peers.mkl_library() == Path("/opt/libmkl_rt.so")


def test_loading_mkl_leaves_the_environment_alone():
    before = dict(os.environ)
    peers.sparse_dot_mkl.cache_clear()
    peers.sparse_dot_mkl()
    assert dict(os.environ) == before


def test_pinned_gives_every_library_as_many_threads():
    with peers.pinned(1):
        assert set(peers.thread_counts().values()) == {1}


def test_pinned_gives_the_threads_back():
    before = peers.thread_counts()
    with pytest.raises(RuntimeError, match="planted"), peers.pinned(1):
        raise RuntimeError("planted")
    assert peers.thread_counts() == before


def test_pinned_refuses_a_library_that_does_not_listen(monkeypatch):
    monkeypatch.setattr(peers, "thread_counts", lambda: {"numba": 1, "deaf": 2})
    sentence = r"peers.pinned: every library must use 1 threads, got .*'deaf': 2"
    with pytest.raises(ValueError, match=sentence), peers.pinned(1):
        pass


def test_pinned_refuses_two_threads_where_pools_wait_in_circles(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    sentence = "the environment must have .* for 2 threads, got .*; start with make bench"
    with pytest.raises(ValueError, match=sentence), peers.pinned(2):
        pass


def test_make_bench_sets_the_environment_for_threads():
    (line,) = re.findall(r"^POOLS := (.*)$", (ROOT / "Makefile").read_text("utf8"), re.M)
    assert dict(word.split("=") for word in line.split()) == peers.FOR_THREADS


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba was started with one thread")
def test_pinned_gives_two_threads_where_the_environment_suits():
    code = """
from refimpl.experiments import peers
with peers.pinned(2):
    print(set(peers.thread_counts().values()))
"""
    done = in_fresh_python(code, **peers.FOR_THREADS)
    assert (done.stdout.strip(), done.returncode) == ("{2}", 0)
