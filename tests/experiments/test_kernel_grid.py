"""Nothing wrong is timed, the record says what was timed, and it stays small."""

from __future__ import annotations

import json
import time
from collections import Counter

import numba
import numpy as np
import pytest

from refimpl.experiments import kernel_grid, run
from refimpl.experiments.kernel_cases import CASES, Case
from refimpl.experiments.kernel_grid import SETTINGS, condense, run_once
from refimpl.experiments.records import encode

SIZES = {"rows": 32, "columns": 16, "sparsity": 0.75, "batch": 3}
SMALL = {"kind": "csr", "threads": 1, "rounds": 2, **SIZES}
MISSING = {"kind": "dlmc", "file": "nowhere.smtx", "sparsity": 0.9, "batch": 3, "threads": 1}
KEYS = ("seconds", "spread", "speedup", "low", "high")


def tiny_case(_setting, _rng, scale=1.0):
    w, x = np.eye(3), np.ones(3)
    found = {"dense": lambda: w @ x, "refimpl": lambda: scale * (w @ x)}
    return Case(found, np.ones(3), np.full(3, 1e-6), (3, 3), 3)


@pytest.fixture
def tiny(monkeypatch):
    """Products that take no time, in the place of the real ones."""
    monkeypatch.setitem(CASES, "csr", tiny_case)
    monkeypatch.setitem(CASES, "cores", tiny_case)


@pytest.mark.usefixtures("tiny")
def test_run_records_five_numbers_for_each_contender():
    wanted = {f"{name}_{key}" for name in ("dense", "refimpl") for key in KEYS}
    assert set(run_once(SMALL, 0)) == {"rows", "columns", "nnz"} | wanted


@pytest.mark.usefixtures("tiny")
def test_first_contender_is_the_yardstick():
    result = run_once(SMALL, 0)
    assert [result[f"dense_{key}"] for key in KEYS[2:]] == [1.0, 1.0, 1.0]


def test_run_times_the_real_kernels_and_peers():
    result = run_once(SMALL, 0)
    assert (result["rows"], result["columns"], result["nnz"]) == (32, 16, 128)
    assert {f"{name}_speedup" for name in ("dense", "scipy", "plan", "matmul")} <= set(result)


def test_wrong_product_is_never_timed(monkeypatch):
    def never(*_, **__):
        pytest.fail("a wrong product was timed")

    monkeypatch.setitem(CASES, "csr", lambda *given: tiny_case(*given, scale=1.001))
    monkeypatch.setattr(kernel_grid, "compare", never)
    with pytest.raises(ValueError, match="bench: refimpl must equal the exact result to rounding"):
        run_once(SMALL, 0)


@pytest.mark.usefixtures("tiny")
def test_everything_is_timed_on_the_threads_of_the_setting(monkeypatch):
    threads, compare = [], kernel_grid.compare

    def spy(functions, **options):
        threads.append(numba.get_num_threads())
        return compare(functions, **options)

    monkeypatch.setattr(kernel_grid, "compare", spy)
    run_once(SMALL, 0)
    assert threads == [1]


@pytest.mark.usefixtures("tiny")
def test_one_thread_is_timed_while_it_computes(monkeypatch):
    clocks, compare = [], kernel_grid.compare

    def spy(functions, clock, **options):
        clocks.append(clock)
        return compare(functions, clock=clock, **options)

    monkeypatch.setattr(kernel_grid, "compare", spy)
    run_once(SMALL, 0)
    assert clocks == [time.process_time]


@pytest.mark.usefixtures("tiny")
def test_cores_are_counted_for_each_contender_beside_the_peers():
    result = run_once(SMALL | {"kind": "cores"}, 0)
    assert set(result) == {"rows", "columns", "nnz", "dense_cores", "refimpl_cores", "peers"}
    assert [peer["name"] for peer in result["peers"]] == ["numpy", "scipy", "mkl", "torch"]


@pytest.mark.usefixtures("tiny")
def test_one_thread_that_keeps_two_cores_busy_is_refused(monkeypatch):
    monkeypatch.setattr(kernel_grid, "MOST_CORES", 1e-9)
    with pytest.raises(ValueError, match="bench: every product must keep one core busy on one"):
        run_once(SMALL | {"kind": "cores"}, 0)


def test_run_without_its_file_says_so(monkeypatch):
    monkeypatch.setitem(CASES, "dlmc", lambda *_: None)
    assert run_once(MISSING, 0) == {"missing": "no nowhere.smtx below $REFIMPL_DATA/dlmc"}


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setitem(CASES, "csr", tiny_case)
    monkeypatch.setitem(CASES, "cores", tiny_case)
    monkeypatch.setitem(CASES, "dlmc", lambda *_: None)
    settings = [SMALL | {"kind": "cores"}, SMALL, MISSING]
    return run(run_once, settings, [0], folder=tmp_path, progress=False)


def test_condensed_run_holds_setting_and_times(records):
    (found,) = condense(records)["runs"]
    assert found.items() >= (SMALL | {"rows": 3, "columns": 3, "nnz": 3}).items()
    lengths = {name: len(numbers) for name, numbers in found["times"].items()}
    assert lengths == {"dense": 5, "refimpl": 5}


def test_condensed_times_are_microseconds_to_four_digits(records):
    recorded = records[1]["result"]["dense_seconds"]
    (found,) = condense(records)["runs"]
    assert found["times"]["dense"][0] == pytest.approx(1e6 * recorded, rel=5e-4)
    assert len(f"{found['times']['dense'][0]:g}".replace(".", "")) <= 4 + 1


def test_condensed_record_says_what_is_missing(records):
    assert condense(records)["missing"] == ["no nowhere.smtx below $REFIMPL_DATA/dlmc"]


def test_condensed_record_names_peers_and_cores(records):
    condensed = condense(records)
    assert [peer["name"] for peer in condensed["peers"]] == ["numpy", "scipy", "mkl", "torch"]
    assert set(condensed["cores"]["1"]) == {"dense", "refimpl"}


def test_condensed_record_names_machine_and_commit(records):
    (machine,) = condense(records)["machines"]
    assert {"cpu", "numpy", "numba", "commit", "dirty"} <= set(machine)


def test_condensed_record_survives_json(records):
    condensed = condense(records)
    assert json.loads(encode(condensed)) == condensed


def test_settings_are_all_different():
    assert max(Counter(json.dumps(setting, sort_keys=True) for setting in SETTINGS).values()) == 1


def test_settings_are_of_a_kind_that_exists():
    assert {setting["kind"] for setting in SETTINGS} == set(CASES)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("batch", {1, 16, 64, 128, 256, 512}),
        ("sparsity", {0.5, 0.7, 0.8, 0.9, 0.95, 0.98}),
        ("threads", {1, 2}),
        ("rows", {512, 1024, 2048}),
    ],
)
def test_csr_covers_the_grid(axis, values):
    assert {setting[axis] for setting in SETTINGS if setting["kind"] == "csr"} == values


def test_cores_are_counted_first():
    assert [setting["kind"] for setting in SETTINGS[:2]] == ["cores", "cores"]
