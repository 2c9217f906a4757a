"""Targets are judged as a person with a pencil would judge the same record."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.experiments import targets
from refimpl.experiments.kernel_grid import NUMBERS
from refimpl.experiments.targets import (
    OBS_TARGETS,
    REASONS,
    SPARSEGPT_TARGETS,
    STEP_TARGETS,
    TARGETS,
    NotMeasuredError,
    break_even,
    geometric_mean,
    judge,
    pick,
    ratios,
    report,
    share_of_time,
    worst,
)

CSR_TIMES = {"dense": 1.0, "scipy": 1.0, "mkl": 2.0, "torch": 2.5, "mkl_kept": 2.5}


EVERY = (*TARGETS, *STEP_TARGETS, *OBS_TARGETS, *SPARSEGPT_TARGETS)


def a_run(kind, speedups, **setting):
    times = {name: [100.0, 1.0, speed, speed, speed] for name, speed in speedups.items()}
    return {"kind": kind, "batch": 64, "threads": 1, **setting, "times": times}


def record_of(*runs):
    peers = [
        {"name": "scipy", "library": "SciPy", "version": "1.17", "missing": None},
        {"name": "torch", "library": "PyTorch", "version": None, "missing": "not installed"},
    ]
    cores = {"1": {"dense": 1.0, "scipy": 0.95}}
    return {"peers": peers, "cores": cores, "missing": ["no layer.smtx"], "runs": list(runs)}


def csr_record(plan_speeds):
    """A run for each sparsity, in which a plan has the given speed-up over dense."""
    return record_of(
        *(
            a_run("csr", CSR_TIMES | {"plan": speed, "matmul": 1.0}, sparsity=sparsity)
            for sparsity, speed in plan_speeds.items()
        )
    )


def verdict_of(record, kernel, requirement):
    (found,) = (v for v in judge(record) if (v.kernel, v.requirement) == (kernel, requirement))
    return found


def test_ratios_are_over_the_best_of_the_others_in_each_run():
    runs = [
        a_run("csr", {"a": 6.0, "b": 2.0, "c": 3.0}),
        a_run("csr", {"a": 6.0, "b": 12.0, "c": 1.0}),
    ]
    assert ratios(runs, "a", ["b", "c"]).tolist() == [2.0, 0.5]


def test_ratios_of_no_run_are_not_measured():
    with pytest.raises(NotMeasuredError, match="not measured"):
        ratios([], "a", ["b"])


@pytest.mark.parametrize(("ours", "theirs"), [("a", ["b", "z"]), ("z", ["b"])])
def test_ratios_without_a_contender_name_it(ours, theirs):
    with pytest.raises(NotMeasuredError, match="not measured without z"):
        ratios([a_run("csr", {"a": 1.0, "b": 1.0})], ours, theirs)


def test_ratios_need_a_contender_in_every_run():
    runs = [a_run("csr", {"a": 1.0, "b": 1.0}), a_run("csr", {"a": 1.0})]
    with pytest.raises(NotMeasuredError, match="not measured without b"):
        ratios(runs, "a", ["b"])


@pytest.mark.parametrize(
    ("function", "value"), [(geometric_mean, 2.0), (worst, 1.0), (share_of_time, 0.5)]
)
def test_reduction_of_one_two_and_four_is(function, value):
    assert function(np.array([1.0, 2.0, 4.0])) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("speeds", "sparsity"),
    [
        ({0.5: 0.5, 0.9: 1.5}, 0.7),
        ({0.5: 2.0, 0.7: 0.5, 0.9: 1.5}, 0.8),
        ({0.9: 1.5, 0.5: 0.5}, 0.7),
        ({0.5: 0.5, 0.9: 1.0}, 0.9),
        ({0.5: 1.0, 0.9: 2.0}, -np.inf),
        ({0.5: 0.5, 0.9: 0.99}, np.inf),
    ],
)
def test_break_even_is_where_the_curve_last_rises_to_one(speeds, sparsity):
    runs = csr_record(speeds)["runs"]
    assert break_even(runs, "plan") == pytest.approx(sparsity)


def test_break_even_takes_the_geometric_mean_of_a_sparsity():
    times = [CSR_TIMES | {"plan": speed} for speed in (0.25, 1.0, 0.5, 4.5)]
    runs = [a_run("csr", t, sparsity=s) for t, s in zip(times, (0.5, 0.5, 0.9, 0.9), strict=True)]
    assert break_even(runs, "plan") == pytest.approx(0.7)  # 0.5 at 50 %, 1.5 at 90 %


@pytest.mark.parametrize(
    ("which", "batches"),
    [
        ({"kinds": ("csr",)}, [1, 16, 64]),
        ({"kinds": ("csr", "dlmc")}, [1, 16, 64, 32]),
        ({"kinds": ("csr",), "least_batch": 16}, [16, 64]),
        ({"kinds": ("csr",), "sparsity": 0.9}, [16]),
        ({"kinds": ("csr",), "block": 4}, []),
    ],
)
def test_pick_chooses(which, batches):
    runs = [
        a_run("csr", {}, batch=1, sparsity=0.5),
        a_run("csr", {}, batch=16, sparsity=0.9),
        a_run("csr", {}, batch=64, sparsity=0.5),
        a_run("dlmc", {}, batch=32),
    ]
    assert [run["batch"] for run in pick(runs, **which)] == batches


@pytest.mark.parametrize(
    ("requirement", "speeds", "measured", "verdict"),
    [
        (">= 1.3x the best peer", {0.9: 5.0}, 2.0, "met"),
        (">= 1.3x the best peer", {0.9: 2.5}, 1.0, "missed"),
        (">= 1.3x the best peer", {0.7: 2.0, 0.9: 5.0}, 1.6**0.5, "missed"),
        (">= 0.9x the best peer everywhere", {0.7: 5.0, 0.9: 2.5}, 1.0, "met"),
        (">= 0.9x the best peer everywhere", {0.7: 5.0, 0.9: 2.0}, 0.8, "missed"),
        (">= 3x SciPy", {0.9: 3.0}, 3.0, "met"),
        (">= 3x SciPy", {0.9: 2.99}, 2.99, "missed"),
    ],
)
def test_csr_against_its_peers(requirement, speeds, measured, verdict):
    found = verdict_of(csr_record(speeds), "CSR x dense, n >= 16, planned", requirement)
    assert found.measured == pytest.approx(measured)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("requirement", "sparsity"),
    [(">= 1x dense at 50 %", 0.5), (">= 4.5x dense at 90 %", 0.9), (">= 8x dense at 95 %", 0.95)],
)
@pytest.mark.parametrize(("speed", "verdict"), [(8.01, "met"), (0.99, "missed")])
def test_csr_against_dense_looks_at_its_sparsity(requirement, sparsity, speed, verdict):
    other = {0.5: 0.1, 0.9: 0.1, 0.95: 0.1}
    record = csr_record(other | {sparsity: speed})
    found = verdict_of(record, "CSR x dense, n >= 64, planned", requirement)
    assert (found.measured, found.verdict) == (pytest.approx(speed), verdict)


PLANTED = [
    # kind, kernel, requirement, setting, who is compared, least that meets the target
    ("csr", "CSR x vector, planned", ">= 1x the best peer", {"batch": 1}, ("plan", "torch"), 2.5),
    ("bsr", "BSR x dense", ">= 1.2x MKL's BSR", {"block": 4}, ("matmul", "mkl"), 2.4),
    ("bsr", "BSR x dense", ">= 8x SciPy's BSR", {"block": 4}, ("matmul", "scipy"), 8.0),
    (
        "bsr",
        "BSR 16x16 x dense",
        ">= 3.5x dense at 80 %",
        {"block": 16, "sparsity": 0.8},
        ("matmul", "dense"),
        3.5,
    ),
    ("two_four", "2:4 x dense, n >= 64", ">= 1.2x our CSR", {}, ("matmul", "matmul_csr"), 2.4),
    ("two_four", "2:4 x dense, n >= 64", ">= 1.2x dense", {}, ("matmul", "dense"), 1.2),
    ("sddmm", "SDDMM", ">= 3x dense at 90 %", {"sparsity": 0.9}, ("sddmm", "dense"), 3.0),
    ("sddmm", "SDDMM", ">= 10x dense at 98 %", {"sparsity": 0.98}, ("sddmm", "dense"), 10.0),
]


@pytest.mark.parametrize(("factor", "verdict"), [(1.01, "met"), (0.99, "missed")])
@pytest.mark.parametrize(
    ("kind", "kernel", "requirement", "setting", "pair", "least"), PLANTED, ids=lambda v: str(v)
)
def test_planted_speed_is_judged(kind, kernel, requirement, setting, pair, least, factor, verdict):
    times = CSR_TIMES | {"matmul_csr": 2.0, pair[0]: least * factor}
    record = record_of(a_run(kind, times, **setting))
    assert verdict_of(record, kernel, requirement).verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(0.99, "met"), (1.01, "missed")])
@pytest.mark.parametrize(
    ("network", "kernel", "share"),
    [
        ("lenet_300_100", "training step, LeNet-300-100", 0.7),
        ("lenet5", "training step, LeNet-5", 1.0),
    ],
)
def test_planted_step_is_judged_on_one_thread(network, kernel, share, factor, verdict):
    setting = {"network": network, "threads": 1}
    step = a_run("training", {"torch": 1.0, "refimpl": 1 / (share * factor)}, **setting)
    fast = a_run("training", {"torch": 1.0, "refimpl": 99.0}, **setting | {"threads": 2})
    found = {v.kernel: v for v in judge(record_of(step, fast), STEP_TARGETS)}[kernel]
    assert found.verdict == verdict
    assert found.measured == pytest.approx(share * factor)


@pytest.mark.parametrize(("speed", "verdict"), [(1.51, "met"), (1.49, "missed")])
@pytest.mark.parametrize("size", [1024, 4096])
def test_planted_sweep_is_judged_at_its_size(size, speed, verdict):
    others = {"torch": 1.0, "refimpl": 99.0}
    runs = [a_run("sparsegpt", others, size=other) for other in (256, 5120 - size)]
    planted = a_run("sparsegpt", {"torch": 1.0, "refimpl": speed}, size=size)
    found = {v.kernel: v for v in judge(record_of(*runs, planted), SPARSEGPT_TARGETS)}
    assert found[f"SparseGPT, {size}x{size}"].verdict == verdict


@pytest.mark.parametrize(("speed", "verdict"), [(10.1, "met"), (9.9, "missed")])
def test_planted_trace_is_judged_at_its_size(speed, verdict):
    sides = {"rows": 256, "columns": 256}
    small = a_run("exact_obs", {"torch": 1.0, "refimpl": 99.0}, **sides | {"rows": 64})
    planted = a_run("exact_obs", {"torch": 1.0, "refimpl": speed}, **sides)
    (found,) = judge(record_of(small, planted), OBS_TARGETS)
    assert found.verdict == verdict


def test_target_without_a_peer_is_neither_met_nor_missed():
    times = {"dense": 1.0, "scipy": 1.0, "plan": 99.0}
    record = record_of(a_run("csr", times, sparsity=0.9))
    found = verdict_of(record, "CSR x dense, n >= 16, planned", ">= 1.3x the best peer")
    assert found.measured is None
    assert found.verdict == "not measured without mkl and torch and mkl_kept"


def test_empty_record_meets_nothing():
    assert {v.verdict for v in judge(record_of()) if not v.verdict.startswith("not ")} == set()


def test_judge_answers_every_target_in_order():
    found = [(v.kernel, v.requirement) for v in judge(csr_record({0.9: 5.0}))]
    assert found == [(t.kernel, t.requirement) for t in TARGETS]


def test_every_target_has_a_bound():
    assert all(target.least > 0 or target.most < np.inf for target in EVERY)


def test_report_is_a_table_with_the_verdict_last():
    lines = report(csr_record({0.9: 5.0})).splitlines()
    row = next(line for line in lines if ">= 1.3x the best peer" in line)
    assert row.split()[-2:] == ["2.00x", "met"]


def test_report_names_peers_and_what_is_missing():
    assert report(record_of()).splitlines()[:3] == [
        "SciPy: 1.17",
        "PyTorch: not installed",
        "no layer.smtx",
    ]


@pytest.mark.parametrize(("share", "busy"), [(0.89, True), (0.95, False)])
def test_report_says_when_the_machine_was_busy(share, busy):
    record = record_of() | {"cores": {"1": {"dense": 1.0, "scipy": share}}}
    assert ("The machine was busy: a thread had 0.89 of a core." in report(record)) is busy


def test_speedup_stands_where_the_record_writes_it():
    assert NUMBERS[targets.SPEEDUP] == "speedup"


def test_reasons_are_given_for_targets_that_exist():
    reasons = {(kernel, target) for kernel, of in REASONS.items() for target in of}
    assert reasons <= {(target.kernel, target.requirement) for target in EVERY}
