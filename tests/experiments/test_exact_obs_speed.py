"""Every contender finds the trace of the definition before it is timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refimpl.experiments import exact_obs_speed, kernel_grid, peers, run
from refimpl.experiments.exact_obs_speed import (
    check_traces,
    condense,
    contenders,
    draw,
    report,
    run_once,
    torch_trace,
)
from refimpl.prune import RemovalTrace
from refimpl.prune.exact_obs import remove_greedily

RECORD = Path(__file__).parents[2] / "book" / "results" / "exact_obs_speed.json"
SMALL = {"rows": 5, "columns": 24, "threads": 1, "rounds": 2}
needs_torch = pytest.mark.skipif(isinstance(peers.torch(), str), reason=str(peers.torch()))


def drawn(rows=5, columns=24):
    return draw(rows, columns, np.random.default_rng(0))


def test_run_times_every_contender():
    result = run_once(SMALL, 0)
    timed = {key.removesuffix("_seconds") for key in result if key.endswith("_seconds")}
    others = set() if isinstance(peers.torch(), str) else {"torch"}
    assert timed == {"refimpl", "refimpl_float64"} | others


def test_without_pytorch_ours_is_timed_alone(monkeypatch):
    monkeypatch.setattr(peers, "torch", lambda: "torch is not installed")
    assert set(contenders(*drawn())) == {"refimpl", "refimpl_float64"}


@needs_torch
@pytest.mark.parametrize("rows", [1, 40])  # less than a batch, and more
def test_peer_searches_as_ours_does(rows):
    w, h_inv = drawn(rows)
    ours = contenders(w, h_inv)["refimpl_float64"]()
    theirs = torch_trace(w.astype(np.float32), h_inv.astype(np.float32))
    np.testing.assert_array_equal(theirs.order, ours.order)
    np.testing.assert_allclose(theirs.increase, ours.increase, rtol=1e-3, atol=1e-5)


@needs_torch
def test_peer_leaves_its_arguments_alone():
    w, h_inv = (array.astype(np.float32) for array in drawn())
    before = w.copy(), h_inv.copy()
    torch_trace(w, h_inv)
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(h_inv, before[1])


def with_a_wrong_cost(right: RemovalTrace) -> RemovalTrace:
    return RemovalTrace(right.order, 1.01 * right.increase, right.n_in)


def with_a_wrong_order(right: RemovalTrace) -> RemovalTrace:
    return RemovalTrace(right.order[:, ::-1], right.increase, right.n_in)


@pytest.mark.parametrize("wrong", [with_a_wrong_cost, with_a_wrong_order])
def test_wrong_trace_is_never_timed(wrong, monkeypatch):
    def never(*_, **__):
        pytest.fail("a wrong trace was timed")

    search = exact_obs_speed.exact_obs_trace
    monkeypatch.setattr(exact_obs_speed, "exact_obs_trace", lambda *given: wrong(search(*given)))
    monkeypatch.setattr(kernel_grid, "compare", never)
    with pytest.raises(ValueError, match="exact_obs_speed: refimpl must find the definition's"):
        run_once(SMALL, 0)


def test_right_traces_pass():
    w, h_inv = drawn()
    right = RemovalTrace(*remove_greedily(w, h_inv, 0, 24), 24)
    check_traces({name: search() for name, search in contenders(w, h_inv).items()}, right)


def test_record_is_judged(tmp_path):
    records = run(run_once, [SMALL], [0], folder=tmp_path)
    record = condense(records)
    (only,) = record["runs"]
    assert (only["kind"], only["rows"], only["batch"]) == ("exact_obs", 5, 1)
    assert len(only["times"]["refimpl"]) == len(kernel_grid.NUMBERS)
    text = report(record)
    assert "5x24, refimpl_float64: 0.0" in text
    assert "not measured" in text  # the target is of another shape


@pytest.fixture
def recorded():
    """What the chapter reads."""
    return json.loads(RECORD.read_text("utf8"))


def test_recorded_times_come_from_committed_code(recorded):
    assert [machine["dirty"] for machine in recorded["machines"]] == [False]
    assert [(one["rows"], one["columns"]) for one in recorded["runs"]] == [(256, 256)]
