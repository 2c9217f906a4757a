"""Nobody's layer is timed unless it is right, and the record says what was taken."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.experiments import kernel_grid, peers, run, sparsegpt_speed
from refimpl.experiments.sparsegpt_speed import (
    SETTINGS,
    check_pruned,
    condense,
    contenders,
    draw,
    error_of,
    factors,
    peak_bytes,
    report,
    run_once,
    torch_sparsegpt,
)
from refimpl.prune import reconstruction_error, sparsegpt
from support.sparsegpt import as_published

SMALL = {"size": 64, "threads": 1, "rounds": 2}
needs_torch = pytest.mark.skipif(isinstance(peers.torch(), str), reason=str(peers.torch()))


def drawn(size=64):
    return draw(size, np.random.default_rng(0))


@pytest.fixture
def alone(monkeypatch):
    """A machine without PyTorch."""
    monkeypatch.setattr(peers, "torch", lambda: "torch is not installed")


def test_run_times_everybody_and_measures_memory():
    result = run_once(SMALL, 0)
    timed = {key.removesuffix("_seconds") for key in result if key.endswith("_seconds")}
    assert {name for name in timed if "torch" not in name} == {"refimpl", "refimpl_factor"}
    assert ({"torch", "torch_factor"} <= timed) is not isinstance(peers.torch(), str)
    assert 2 < result["matrices"] < 20  # of a small layer, whose blocks are as large as it is


@pytest.mark.usefixtures("alone")
def test_without_pytorch_ours_is_timed_alone():
    result = run_once(SMALL, 0)
    assert result["refimpl_speedup"] == 1.0
    assert not any(key.startswith("torch") for key in result)


@needs_torch
@pytest.mark.parametrize("block_size", [16, 20, 64])
def test_steps_in_pytorch_are_the_published_ones(block_size):
    w, hessian = (matrix.astype(np.float64) for matrix in drawn())
    options = {"sparsity": 0.5, "damping": 0.01, "block_size": block_size}
    found = torch_sparsegpt(*map(peers.torch().from_numpy, (w, hessian)), **options).numpy()
    damped = hessian + 0.01 * np.mean(np.diag(hessian)) * np.eye(64)
    np.testing.assert_allclose(found, as_published(w, damped, block_size, 0.5), atol=1e-9)


def test_factors_are_those_of_the_damped_hessian():
    _, hessian = drawn()
    damped = hessian + 0.01 * np.mean(np.diag(hessian)) * np.eye(64)
    for factor in factors(hessian).values():
        u = np.asarray(factor())
        np.testing.assert_allclose(u, np.triu(u))
        np.testing.assert_allclose(u @ damped @ u.T, np.eye(64), atol=1e-4)


@needs_torch
def test_steps_in_pytorch_leave_their_arguments_alone():
    w, hessian = drawn()
    before = w.copy(), hessian.copy()
    contenders(w, hessian)["torch"]()
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(hessian, before[1])


def test_right_results_pass():
    w, hessian = drawn(256)
    check_pruned(w, hessian, {name: way() for name, way in contenders(w, hessian).items()})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w, hessian: sparsegpt(w, hessian, sparsity=0.49),
        lambda w, _: sparsegpt(w, np.eye(64, dtype=np.float32), sparsity=0.5),
        lambda w, hessian: 1.1 * sparsegpt(w, hessian, sparsity=0.5),
    ],
    ids=["another count", "another Hessian", "another scale"],
)
def test_wrong_result_is_never_timed(wrong, monkeypatch):
    def never(*_, **__):
        pytest.fail("a wrong result was timed")

    def with_a_wrong_one(w, hessian):
        return {"wrong": lambda: wrong(w, hessian), **contenders(w, hessian)}

    monkeypatch.setattr(kernel_grid, "compare", never)
    monkeypatch.setattr(sparsegpt_speed, "contenders", with_a_wrong_one)
    with pytest.raises(ValueError, match="sparsegpt_speed: wrong must prune the same weights"):
        run_once(SMALL, 0)


def test_error_is_that_of_the_package():
    w, hessian = drawn()
    new_w = sparsegpt(w, hessian, sparsity=0.5)
    expected = reconstruction_error(w, new_w, hessian)
    assert error_of(w, new_w, hessian) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_peak_counts_what_is_held_at_a_time(n):
    found = peak_bytes(lambda: [np.ones(100_000) for _ in range(n)])
    assert found == pytest.approx(800_000 * n, rel=0.01)


def test_peak_forgets_what_was_there_before():
    before = np.ones(1_000_000)
    assert peak_bytes(lambda: before.sum()) < 100_000


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return condense(run(run_once, [SMALL], [0], folder=folder, progress=False))


def test_condensed_run_holds_setting_memory_and_times(record):
    (one,) = record["runs"]
    assert (one["kind"], one["size"], one["threads"]) == ("sparsegpt", 64, 1)
    assert len(one["times"]["refimpl"]) == len(kernel_grid.NUMBERS)
    assert {peer["name"] for peer in record["peers"]} >= {"numpy", "torch"}


def test_report_has_a_line_for_each_size_and_each_target(record):
    lines = report(record).splitlines()
    assert sum(line.startswith("64: ") for line in lines) == 1
    assert sum(line.startswith("SparseGPT, ") for line in lines) == 2


def test_settings_double_up_to_4096_on_one_thread():
    assert [one["size"] for one in SETTINGS] == [256, 512, 1024, 2048, 4096]
    assert {one["threads"] for one in SETTINGS} == {1}
