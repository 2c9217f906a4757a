"""What were the kernels meant to reach, and did they? Every target, computed from the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Run = dict[str, Any]
QUIET = 0.9  # of a core that a thread has on a machine that does nothing else
SPEEDUP = 2  # where it stands among the numbers of a contender


class NotMeasuredError(Exception):
    """The record lacks what a target needs; the text says what."""


def pick(
    runs: Sequence[Run], kinds: Sequence[str], least_batch: int = 1, **wanted: Any
) -> list[Run]:
    """Choose runs of a record.

    Parameters
    ----------
    runs : sequence of dict
        ``record["runs"]``.
    kinds : sequence of str
        Keys of `refimpl.experiments.kernel_cases.CASES`.
    least_batch : int
        Columns of the right factor, at least.
    **wanted
        What the setting has to hold, such as ``sparsity=0.9``.

    Returns
    -------
    list of dict
        In their order.
    """
    return [
        run
        for run in runs
        if run["kind"] in kinds
        and run["batch"] >= least_batch
        and all(run.get(key) == value for key, value in wanted.items())
    ]


def ratios(runs: Sequence[Run], ours: str, theirs: Sequence[str]) -> np.ndarray:
    """Say how many times faster one contender is than the best of others, in every run.

    Parameters
    ----------
    runs : sequence of dict
        At least one.
    ours : str
        A contender.
    theirs : sequence of str
        Contenders. All have to be there: who does not meet the best is not faster than it.

    Returns
    -------
    ndarray of float64, shape (n_runs,)
        Ratios of speed-ups, which are over the same baseline in the same rounds.

    Raises
    ------
    NotMeasuredError
        If there is no run, or a contender is missing in one.

    Examples
    --------
    >>> times = {"scipy": (90, 1, 0.5), "mkl": (20, 1, 2.0), "ours": (15, 1, 3.0)}
    >>> ratios([{"times": times}], "ours", ["scipy", "mkl"])
    array([1.5])
    """
    if not runs:
        raise NotMeasuredError("not measured")
    everybody = (ours, *theirs)
    missing = [name for name in everybody if any(name not in run["times"] for run in runs)]
    if missing:
        raise NotMeasuredError(f"not measured without {' and '.join(missing)}")
    speed = {name: [run["times"][name][SPEEDUP] for run in runs] for name in everybody}
    best = np.max([speed[name] for name in theirs], axis=0)
    return np.array(speed[ours]) / best


def geometric_mean(values: np.ndarray) -> float:
    """Average ratios: twice as fast and half as fast make 1.

    Examples
    --------
    >>> geometric_mean(np.array([2.0, 0.5]))
    1.0
    """
    return float(np.exp(np.log(values).mean()))


def worst(values: np.ndarray) -> float:
    """Give the least ratio."""
    return float(values.min())


def share_of_time(values: np.ndarray) -> float:
    """Turn ratios of speed into one of time: 0.5 is twice as fast."""
    return 1 / geometric_mean(values)


def break_even(runs: Sequence[Run], ours: str, theirs: str = "dense") -> float:
    """Find the sparsity from which on one contender is faster than another.

    Parameters
    ----------
    runs : sequence of dict
        Of several sparsities, as many of each.
    ours, theirs : str
        Contenders.

    Returns
    -------
    float
        Between the two measured sparsities where the geometric mean of the ratios last rises
        to 1, on a straight line; -inf if it is 1 or more everywhere, inf if it ends below.

    Examples
    --------
    >>> runs = [{"sparsity": s, "times": {"dense": (9, 1, 1.0), "ours": (9, 1, speed)}}
    ...         for s, speed in [(0.5, 0.5), (0.7, 0.75), (0.9, 1.25)]]
    >>> round(break_even(runs, "ours"), 6)
    0.8
    """
    levels = np.array(sorted({run["sparsity"] for run in runs}))
    of_level = ([run for run in runs if run["sparsity"] == level] for level in levels)
    speeds = np.array([geometric_mean(ratios(chosen, ours, [theirs])) for chosen in of_level])
    slower = np.flatnonzero(speeds < 1)
    if not slower.size:
        return -np.inf
    last = slower[-1]
    if last == len(levels) - 1:
        return np.inf
    around = slice(last, last + 2)
    return float(np.interp(1, speeds[around], levels[around]))


class Target(NamedTuple):
    """One line of the table.

    Attributes
    ----------
    kernel : str
        What has to be fast.
    requirement : str
        How fast, in words.
    ours : str
        The contender.
    theirs : sequence of str
        Those whose best it is compared with.
    where : mapping
        Which runs count: arguments of `pick`.
    over : callable
        From the ratios of these runs to one number.
    least, most : float
        What it has to be at least, at most.
    """

    kernel: str
    requirement: str
    ours: str = ""
    theirs: Sequence[str] = ()
    where: Mapping[str, Any] = {}
    over: Callable[[np.ndarray], float] = geometric_mean
    least: float = 0.0
    most: float = np.inf


class Verdict(NamedTuple):
    """What became of a target.

    Attributes
    ----------
    kernel, requirement : str
        Of the target.
    measured : float or None
        None where there is nothing to measure.
    verdict : str
        ``"met"``, ``"missed"``, or why neither can be said.
    """

    kernel: str
    requirement: str
    measured: float | None
    verdict: str


CALLED = ("scipy", "mkl", "torch")  # peers that a single call is compared with
PREPARED = (*CALLED, "mkl_kept")  # a plan meets MKL's inspector as well


def _csr_targets(how: str, ours: str, peers: Sequence[str]) -> tuple[Target, ...]:
    """What CSR has to reach, for a way to call it and the peers that are called alike."""
    grid = {"kinds": ("csr", "dlmc")}
    batch, large = grid | {"least_batch": 16}, grid | {"least_batch": 64}
    product, wide = f"CSR x dense, n >= 16, {how}", f"CSR x dense, n >= 64, {how}"
    vector = f"CSR x vector, {how}"
    return (
        Target(product, ">= 1.3x the best peer", ours, peers, batch, least=1.3),
        Target(product, ">= 0.9x the best peer everywhere", ours, peers, batch, worst, least=0.9),
        Target(product, ">= 3x SciPy", ours, ["scipy"], batch, least=3),
        Target(wide, ">= 1x dense at 50 %", ours, ["dense"], large | {"sparsity": 0.5}, least=1),
        Target(
            wide, ">= 4.5x dense at 90 %", ours, ["dense"], large | {"sparsity": 0.9}, least=4.5
        ),
        Target(wide, ">= 8x dense at 95 %", ours, ["dense"], large | {"sparsity": 0.95}, least=8),
        Target(vector, ">= 1x the best peer", ours, peers, grid | {"batch": 1}, least=1),
    )


_BLOCKS = {"kinds": ("bsr",)}
_BIG_BLOCKS = _BLOCKS | {"block": 16, "sparsity": 0.8}
_TWO_FOUR = {"kinds": ("two_four",), "least_batch": 64}
_AT_90, _AT_98 = ({"kinds": ("sddmm",), "sparsity": s} for s in (0.9, 0.98))

# Numbers are geometric means over the grid, unless the requirement says everywhere.
TARGETS: tuple[Target, ...] = (
    *_csr_targets("planned", "plan", PREPARED),
    *_csr_targets("one call", "matmul", CALLED),
    Target("BSR x dense", ">= 1.2x MKL's BSR", "matmul", ["mkl"], _BLOCKS, least=1.2),
    Target("BSR x dense", ">= 8x SciPy's BSR", "matmul", ["scipy"], _BLOCKS, least=8),
    Target(
        "BSR 16x16 x dense", ">= 3.5x dense at 80 %", "matmul", ["dense"], _BIG_BLOCKS, least=3.5
    ),
    Target(
        "2:4 x dense, n >= 64", ">= 1.2x our CSR", "matmul", ["matmul_csr"], _TWO_FOUR, least=1.2
    ),
    Target("2:4 x dense, n >= 64", ">= 1.2x dense", "matmul", ["dense"], _TWO_FOUR, least=1.2),
    Target("SDDMM", ">= 3x dense at 90 %", "sddmm", ["dense"], _AT_90, least=3),
    Target("SDDMM", ">= 10x dense at 98 %", "sddmm", ["dense"], _AT_98, least=10),
)


def _step_target(title: str, network: str, most: float) -> Target:
    step, requirement = f"training step, {title}", f"<= {most:g}x PyTorch's time"
    where = {"kinds": ("training",), "network": network, "threads": 1}
    return Target(step, requirement, "refimpl", ["torch"], where, share_of_time, most=most)


# Judged from the record of `refimpl.experiments.dense_step`.
STEP_TARGETS = (
    _step_target("LeNet-300-100", "lenet_300_100", 0.7),
    _step_target("LeNet-5", "lenet5", 1.0),
)

# Judged from the record of `refimpl.experiments.exact_obs_speed`.
_LAYER_256 = {"kinds": ("exact_obs",), "rows": 256, "columns": 256, "threads": 1}
OBS_TARGETS = (
    Target(
        "exact OBS, 256x256",
        ">= 10x the authors' steps",
        "refimpl",
        ["torch"],
        _LAYER_256,
        least=10,
    ),
)


# Judged from the record of `refimpl.experiments.sparsegpt_speed`.
SPARSEGPT_TARGETS = tuple(
    Target(
        f"SparseGPT, {size}x{size}",
        ">= 1.5x the authors' steps",
        "refimpl",
        ["torch"],
        {"kinds": ("sparsegpt",), "size": size, "threads": 1},
        least=1.5,
    )
    for size in (1024, 4096)
)


def judge(record: Mapping[str, Any], targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """Compare every target with what was measured.

    Parameters
    ----------
    record : dict
        From `refimpl.experiments.kernel_grid.condense`, or for `STEP_TARGETS` from
        `refimpl.experiments.dense_step.condense`, for `OBS_TARGETS` from
        `refimpl.experiments.exact_obs_speed.condense`, for `SPARSEGPT_TARGETS` from
        `refimpl.experiments.sparsegpt_speed.condense`.
    targets : sequence of Target
        Which.

    Returns
    -------
    list of Verdict
        One for each target, in their order.
    """
    return [_verdict(target, record["runs"]) for target in targets]


def _verdict(target: Target, runs: Sequence[Run]) -> Verdict:
    about = target.kernel, target.requirement
    try:
        value = target.over(ratios(pick(runs, **target.where), target.ours, target.theirs))
    except NotMeasuredError as reason:
        return Verdict(*about, None, str(reason))
    return Verdict(*about, value, "met" if target.least <= value <= target.most else "missed")


def report(record: Mapping[str, Any]) -> str:
    """Write the peers and the table of targets for a terminal.

    Parameters
    ----------
    record : dict
        From `refimpl.experiments.kernel_grid.condense`.

    Returns
    -------
    str
        Lines of text.
    """
    notes = [f"{peer['library']}: {peer['missing'] or peer['version']}" for peer in record["peers"]]
    share = min(record["cores"].get("1", {"nothing": 1.0}).values())
    if share < QUIET:
        notes.append(f"The machine was busy: a thread had {share:.2f} of a core.")
    return "\n".join([*notes, *record["missing"], "", table(judge(record))])


def table(verdicts: Sequence[Verdict]) -> str:
    """Write verdicts one below the other for a terminal.

    Parameters
    ----------
    verdicts : sequence of Verdict
        From `judge`.

    Returns
    -------
    str
        Lines of text.
    """
    rows = [("kernel", "target", "measured", "")]
    for verdict in verdicts:
        measured = "-" if verdict.measured is None else f"{verdict.measured:.2f}x"
        rows.append((verdict.kernel, verdict.requirement, measured, verdict.verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


# Why a target is missed where it is, as far as it was found; by kernel, then by requirement.
_A_ROW = (
    "MKL's inspected product goes ahead above 90 %: there, packing x and beginning a row, which "
    "cost the same whatever the row holds, weigh most; how MKL avoids them is not known"
)
_ONE_CALL = "nothing is inspected, so the packed panel of x comes from the second-level cache"
_CALL = (
    "the checks of a call in Python take longer than the kernel where the matrix is small or "
    "very sparse"
)
REASONS: dict[str, dict[str, str]] = {
    "CSR x dense, n >= 16, planned": {
        ">= 1.3x the best peer": _A_ROW,
        ">= 0.9x the best peer everywhere": _A_ROW,
    },
    "CSR x dense, n >= 64, planned": {
        ">= 8x dense at 95 %": "a batch of 64 reaches it and wider ones do not; supposed, not "
        "measured: x, out and the tiles together outgrow the second-level cache",
    },
    "CSR x dense, n >= 16, one call": {
        ">= 1.3x the best peer": _ONE_CALL,
        ">= 0.9x the best peer everywhere": _ONE_CALL,
    },
    "CSR x dense, n >= 64, one call": {
        ">= 1x dense at 50 %": _ONE_CALL,
        ">= 4.5x dense at 90 %": _ONE_CALL,
        ">= 8x dense at 95 %": _ONE_CALL,
    },
    "CSR x vector, planned": {">= 1x the best peer": _CALL},
    "CSR x vector, one call": {">= 1x the best peer": _CALL},
    "SDDMM": {
        ">= 3x dense at 90 %": "the call lays out dy and x feature by feature before it multiplies",
        ">= 10x dense at 98 %": "the call lays out dy and x feature by feature, which by then "
        "takes as long as the product",
    },
    "training step, LeNet-300-100": {
        "<= 0.7x PyTorch's time": "the matrix products alone, in OpenBLAS, and the update of the "
        "weights take nearly that long, before any bias, ReLU or loss; PyTorch's MKL computes the "
        "same products faster",
    },
}
