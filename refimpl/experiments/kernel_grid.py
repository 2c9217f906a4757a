"""Is sparse really faster: every kernel on a grid, beside dense BLAS, SciPy, MKL and PyTorch.

Products with CSR, BSR and 2:4, with masks drawn at random and masks of pruned networks, on one
thread and on two; products with the transpose, gradients at a pattern. Each result is checked
before it is timed, and the contenders take turns. Start it with ``make bench``, on a machine that
does nothing else. Training steps are timed by `refimpl.experiments.dense_step`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.experiments.kernel_cases import CASES, Case
from refimpl.experiments.peers import peers, pinned
from refimpl.experiments.summary import summarize
from refimpl.experiments.targets import report
from refimpl.measure import compare, speedup

__all__ = ["SEEDS", "SETTINGS", "condense", "report", "run_once"]

ROUNDS = 7
LEAD_IN = 3e-3  # seconds: longer than the threads of the contender before wait in circles
BUSY_SECONDS = 0.1  # for which cores are counted
MOST_CORES = 1.2  # that a product on one thread may keep busy
DIGITS = 4  # of a recorded number
NUMBERS = ("seconds", "spread", "speedup", "low", "high")  # of a contender

SQUARES = ((1024, 1024), (2048, 2048))
SHAPES = ((512, 512), (2048, 512), (512, 2048), *SQUARES)
BATCHES = (1, 16, 64, 128, 256, 512)
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
DLMC = (
    "body_encoder_layer_0_ffn_conv1_fully_connected",
    "body_encoder_layer_0_self_attention_multihead_attention_q_fully_connected",
)


def _grid(kind: str, shapes: Sequence[tuple[int, int]], **axes: Sequence) -> Iterator[dict]:
    """Every combination of the axes' values, as settings."""
    for shape, *values in product(shapes, *axes.values()):
        axis = dict(zip(axes, values, strict=True))
        yield {"kind": kind, "rows": shape[0], "columns": shape[1], "threads": 1} | axis


def _patterns(batches: Sequence[int]) -> Iterator[dict]:
    """Every mask of DLMC with every batch."""
    for sparsity, layer, batch in product(SPARSITIES, DLMC, batches):
        file = f"magnitude_pruning/{sparsity:g}/{layer}.smtx"
        axis = {"sparsity": sparsity, "batch": batch, "threads": 1}
        yield {"kind": "dlmc", "file": file} | axis


ONE = ((1024, 1024),)
TWO_SHAPES = (*ONE, (2048, 512))
BOTH = {"transposed": [False, True]}
SETTINGS = (
    *_grid("cores", ONE, sparsity=[0.9], batch=[256], threads=[1, 2]),
    *_grid("csr", SHAPES, sparsity=SPARSITIES, batch=BATCHES),
    *_grid("csr", SQUARES, sparsity=SPARSITIES, batch=BATCHES, threads=[2]),
    *_grid("denser", SQUARES, sparsity=[0.3, 0.4], batch=[64, 256]),
    *_grid("offset", ONE, sparsity=[0.5, 0.9], batch=[16, 64, 256], offset=[16]),
    *_patterns(BATCHES),
    *_grid("bsr", TWO_SHAPES, block=[4, 16], sparsity=SPARSITIES, batch=[16, 64, 256]),
    *_grid("bsr", ONE, block=[4, 16], sparsity=SPARSITIES, batch=[256], threads=[2]),
    *_grid("two_four", SHAPES, batch=[64, 128, 256, 512]),
    *_grid("two_four", ONE, batch=[256], threads=[2]),
    *_grid("sddmm", SQUARES, sparsity=[0.9, 0.98], batch=[64, 256]),
    *_grid("transposed", SQUARES, sparsity=[0.5, 0.9], batch=[64, 256]),
    *_grid("variants", ONE, format=["CSR"], sparsity=[0.5, 0.9], batch=[1, 64, 256], **BOTH),
    *_grid("variants", ONE, format=["CSC"], sparsity=[0.9], batch=[1, 64, 256], **BOTH),
    *_grid("variants", ONE, format=["BSR"], block=[4, 16], sparsity=[0.8], batch=[256], **BOTH),
    *_grid("variants", ONE, format=["TwoFour"], batch=[256], transposed=[False]),
)
SEEDS = (0,)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Check one product of everybody, and time it.

    Parameters
    ----------
    setting : dict
        ``kind``, a key of `refimpl.experiments.kernel_cases.CASES`; ``threads``; and what the
        kind needs: ``rows``, ``columns``, ``sparsity``, ``batch``, ``block``, ``format``,
        ``file``. Fewer ``rounds`` than 7 make a quick trial.
    seed : int
        Draws weight and factors.

    Returns
    -------
    dict
        ``rows``, ``columns`` and ``nnz`` of the weight, and for each contender
        ``<name>_seconds``, the median of a call; ``<name>_spread``, the interquartile range;
        ``<name>_speedup`` over the first contender, the median of the ratios round by round, and
        their quartiles ``<name>_low`` and ``<name>_high``. On one thread these are seconds of
        the processor, which pass only while this process computes; on two they are seconds.
        For the kind ``cores`` instead ``<name>_cores``, how many a contender keeps busy, and
        ``peers``. ``missing`` alone, a sentence, where this machine does not have the file.

    Raises
    ------
    ValueError
        If a result is wrong, or a library does not keep to its number of threads.
    """
    with pinned(setting["threads"]):
        case = CASES[setting["kind"]](setting, np.random.default_rng(seed))
        if case is None:
            return {"missing": f"no {setting['file']} below $REFIMPL_DATA/dlmc"}
        case.check()
        if setting["kind"] == "cores":
            measured = _cores(case, setting)
        else:
            rounds = setting.get("rounds", ROUNDS)
            measured = times_of(case.products, setting["threads"], rounds)
    return {"rows": case.shape[0], "columns": case.shape[1], "nnz": case.nnz, **measured}


def clock_for(threads: int) -> Callable[[], float]:
    """Give a clock that stops while another program runs, where there is one: on one thread."""
    return time.process_time if threads == 1 else time.perf_counter


def times_of(
    products: dict[str, Callable[[], object]], threads: int, rounds: int
) -> dict[str, float]:
    """Time contenders in turns, by `clock_for` their threads.

    Parameters
    ----------
    products : dict of str to callable
        The first is the one to be faster than.
    threads : int
        That they are pinned to.
    rounds : int
        Samples of each.

    Returns
    -------
    dict of str to float
        As `run_once`.
    """
    times = compare(products, repeats=rounds, lead_in=LEAD_IN, clock=clock_for(threads))
    baseline = next(iter(times.values()))
    result = {}
    for name, measured in times.items():
        numbers = (measured.median, measured.spread, *speedup(baseline, measured))
        result |= {f"{name}_{key}": value for key, value in zip(NUMBERS, numbers, strict=True)}
    return result


def _cores(case: Case, setting: dict[str, Any]) -> dict[str, Any]:
    """Measure how many cores each contender keeps busy, and name the peers."""
    cores = {name: _busy_cores(product) for name, product in case.products.items()}
    if setting["threads"] == 1 and max(cores.values()) > MOST_CORES:
        requirement, advice = "keep one core busy on one thread", "look for a pool nobody pinned"
        raise bad_argument("bench", "every product", requirement, cores, advice)
    stated = [peer._asdict() for peer in peers()]
    return {f"{name}_cores": value for name, value in cores.items()} | {"peers": stated}


def _busy_cores(product: Callable[[], object]) -> float:
    """Divide the time of all threads by the time that passes, in the second of two stretches."""
    for _ in range(2):
        start, used = time.perf_counter(), time.process_time()
        while time.perf_counter() < start + BUSY_SECONDS:
            product()
        ratio = (time.process_time() - used) / (time.perf_counter() - start)
    return ratio


def condense(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather all runs in a record that is small enough to keep.

    Parameters
    ----------
    records : sequence of dict
        Of `run_once`, as `refimpl.experiments.runner.run` returned them; one seed.

    Returns
    -------
    dict
        ``experiment``, ``seconds`` and ``machines`` as `summarize` gives them; ``peers``;
        ``cores`` by threads and contender; ``missing``, the sentences; and ``runs``, each with
        its setting, ``nnz`` and ``times``: contender -> microseconds of a call, their
        interquartile range, speed-up, and its lower and upper quartile, to four digits.
    """
    whole = summarize(records)
    record: dict[str, Any] = {key: whole[key] for key in ("experiment", "seconds", "machines")}
    record |= {"peers": [], "cores": {}, "missing": [], "runs": []}
    for setting, result in ((record["setting"], record["result"]) for record in records):
        if "missing" in result:
            record["missing"].append(result["missing"])
        elif setting["kind"] == "cores":
            record["peers"] = result["peers"]
            record["cores"][str(setting["threads"])] = _named(result, "_cores")
        else:
            sizes = {key: result[key] for key in ("rows", "columns", "nnz")}
            record["runs"].append(setting | sizes | {"times": all_times(result)})
    return record


def all_times(result: dict[str, Any]) -> dict[str, list[float]]:
    """Give what is recorded of each contender, times in microseconds.

    Parameters
    ----------
    result : dict
        From `times_of`; other keys do no harm.

    Returns
    -------
    dict of str to list of float
        From each contender to its `NUMBERS`, to four digits.
    """
    columns = [_named(result, f"_{key}") for key in NUMBERS]
    scales = (1e6, 1e6, 1, 1, 1)
    return {
        name: [_short(scale * column[name]) for scale, column in zip(scales, columns, strict=True)]
        for name in columns[0]
    }


def timed_record(
    records: Sequence[dict[str, Any]], describe: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Gather the runs of one experiment in a record that is small enough to keep.

    Parameters
    ----------
    records : sequence of dict
        As `refimpl.experiments.runner.run` returned them, at least one, with what `times_of`
        says and ``peers`` in their results.
    describe : callable
        ``describe(result)`` is what a run records beside its setting and its times.

    Returns
    -------
    dict
        ``experiment``, ``seconds`` and ``machines`` as `summarize` gives them; ``peers``; and
        ``runs``, each with its setting, what `describe` returned, and `all_times`.
    """
    whole = summarize(records)
    record: dict[str, Any] = {key: whole[key] for key in ("experiment", "seconds", "machines")}
    record["peers"] = records[0]["result"]["peers"]
    record["runs"] = [
        one["setting"] | describe(one["result"]) | {"times": all_times(one["result"])}
        for one in records
    ]
    return record


def _named(result: dict[str, Any], ending: str) -> dict[str, float]:
    """Give the entries whose key is a contender's name and this ending."""
    keys = (key for key in result if key.endswith(ending))
    return {key.removesuffix(ending): _short(result[key]) for key in keys}


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
