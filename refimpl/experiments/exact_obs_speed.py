"""How long does the full trace of exact OBS take, beside the authors' steps in PyTorch?

One 256x256 layer with correlated inputs, on one thread. PyTorch, where it is installed, runs the
algorithm as it was published: many rows at once, each with its own inverse Hessian, of which every
removal updates all. What each contender found is checked before anything is timed, and they take
turns. ``make bench`` starts it, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.experiments import peers
from refimpl.experiments.kernel_grid import timed_record, times_of
from refimpl.experiments.targets import OBS_TARGETS, judge, table
from refimpl.prune import RemovalTrace, damp, exact_obs_trace, input_hessian, inverse_hessian
from refimpl.prune.exact_obs import remove_greedily

ROWS_AT_ONCE = 32  # of the authors' code
ROUNDS = 5
SETTINGS = ({"rows": 256, "columns": 256, "threads": 1},)
SEEDS = (0,)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Check the traces of every contender, and time them.

    Parameters
    ----------
    setting : dict
        ``rows`` and ``columns`` of the weight; ``threads``. Fewer ``rounds`` than 5 make a quick
        trial.
    seed : int
        Draws weight and inputs.

    Returns
    -------
    dict
        For each contender what `refimpl.experiments.kernel_grid.times_of` says: ``torch`` where it
        is installed, in float32; ``refimpl``, in float32; ``refimpl_float64``. ``peers``, with
        versions.

    Raises
    ------
    ValueError
        If a trace is wrong, or a library does not keep to its number of threads.
    """
    w, h_inv = draw(setting["rows"], setting["columns"], np.random.default_rng(seed))
    threads = setting["threads"]
    with peers.pinned(threads):
        searches = contenders(w, h_inv)
        right = RemovalTrace(*remove_greedily(w, h_inv, 0, len(h_inv)), len(h_inv))
        check_traces({name: search() for name, search in searches.items()}, right)
        times = times_of(searches, threads, setting.get("rounds", ROUNDS))
    return {**times, "peers": [peer._asdict() for peer in peers.peers()]}


def draw(rows: int, columns: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a normal weight, and the inverse Hessian of correlated inputs, 1 % damped.

    Parameters
    ----------
    rows, columns : int
        Of the weight.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    w : ndarray of float64, shape (rows, columns)
    h_inv : ndarray of float64, shape (columns, columns)
    """
    mixing = np.eye(columns) + rng.standard_normal((columns, columns)) / np.sqrt(columns)
    x = rng.standard_normal((4 * columns, columns)) @ mixing
    return rng.standard_normal((rows, columns)), inverse_hessian(damp(input_hessian([x])))


def contenders(w: np.ndarray, h_inv: np.ndarray) -> dict[str, Callable[[], RemovalTrace]]:
    """Prepare everybody's search for its own dtype.

    Parameters
    ----------
    w, h_inv : ndarray of float64
        From `draw`.

    Returns
    -------
    dict of str to callable
        Returns a trace.
    """
    narrow, narrow_h_inv = w.astype(np.float32), h_inv.astype(np.float32)
    theirs = {"torch": lambda: torch_trace(narrow, narrow_h_inv)}
    ours = {
        "refimpl": lambda: exact_obs_trace(narrow, narrow_h_inv),
        "refimpl_float64": lambda: exact_obs_trace(w, h_inv),
    }
    return ours if isinstance(peers.torch(), str) else theirs | ours


def torch_trace(w: np.ndarray, h_inv: np.ndarray) -> RemovalTrace:
    """Search in PyTorch, by the steps of the authors' code.

    Parameters
    ----------
    w : ndarray of float32, shape (n_out, n_in)
    h_inv : ndarray of float32, shape (n_in, n_in)

    Returns
    -------
    RemovalTrace

    Notes
    -----
    Written from algorithm 1 of Frantar and Alistarh (2022), and timed without what their code does
    besides: it also keeps the weights of every step.
    """
    pytorch = peers.torch()
    parts = pytorch.from_numpy(w).split(ROWS_AT_ONCE)
    traces = [_torch_rows(pytorch, part, pytorch.from_numpy(h_inv)) for part in parts]
    order, increase = (np.concatenate(arrays) for arrays in zip(*traces, strict=True))
    return RemovalTrace(order, increase, w.shape[1])


def _torch_rows(pytorch: Any, w: Any, h_inv: Any) -> tuple[np.ndarray, np.ndarray]:
    w, (n_rows, n_in) = w.clone(), w.shape
    h_invs = h_inv.repeat(n_rows, 1, 1)  # (n_rows, n_in, n_in)
    gone, rows = pytorch.zeros_like(w, dtype=pytorch.bool), pytorch.arange(n_rows)
    order = pytorch.empty((n_rows, n_in), dtype=pytorch.int64)
    increase = pytorch.empty((n_rows, n_in), dtype=pytorch.float64)
    for step in range(n_in):
        diagonal = h_invs.diagonal(dim1=1, dim2=2)
        cost = (w * w / diagonal).masked_fill_(gone, np.inf)
        least, q = cost.min(dim=1)
        order[:, step], increase[:, step], gone[rows, q] = q, least / 2, True
        column, pivot = h_invs[rows, q], diagonal[rows, q][:, None]
        w -= column * (w[rows, q][:, None] / pivot)
        w[rows, q] = 0
        column /= pivot.sqrt()
        h_invs.baddbmm_(column[:, :, None], column[:, None, :], alpha=-1)
    return order.numpy(), increase.numpy()


def check_traces(traces: dict[str, RemovalTrace], right: RemovalTrace) -> None:
    """Refuse a trace that is not greedy up to rounding: nothing wrong is timed.

    Parameters
    ----------
    traces : dict of str to RemovalTrace
        Of one layer.
    right : RemovalTrace
        What the definition finds, in float64.

    Raises
    ------
    ValueError
        If, at any sparsity, the layer's error is off by more than 1e-3 of the definition's, or if
        one in a hundred rows or more begins with another eighth of its removals.

    Notes
    -----
    In float32, two weights that cost nearly the same may change places.
    """
    curve, first = right.curve(), right.order[:, : max(1, right.n_in // 8)]
    for name, trace in traces.items():
        off = float(np.max(np.abs(trace.curve() - curve)[1:] / curve[1:]))
        same = (trace.order[:, : first.shape[1]] == first).all(axis=1).mean()
        if not (off <= 1e-3 and same > 0.99):
            requirement, advice = "find the definition's trace", "correct it before timing it"
            actual = f"errors off by {off:.1e}, and {same:.1%} of rows that begin alike"
            raise bad_argument("exact_obs_speed", name, requirement, actual, advice)


def condense(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather all runs in a record like that of `refimpl.experiments.kernel_grid.condense`.

    Parameters
    ----------
    records : sequence of dict
        Of `run_once`; one seed.

    Returns
    -------
    dict
        ``experiment``, ``seconds``, ``machines``, ``peers``, and ``runs``: each setting with
        ``kind``, which is ``"exact_obs"``, ``batch``, which is 1, and ``times``, in microseconds.
    """
    return timed_record(records, lambda _: {"kind": "exact_obs", "batch": 1})


def report(record: dict[str, Any]) -> str:
    """Write times and targets for a terminal.

    Parameters
    ----------
    record : dict
        From `condense`.

    Returns
    -------
    str
        Lines of text.
    """
    lines = [
        f"{run['rows']}x{run['columns']}, {name}: {numbers[0] / 1e6:.3f} s"
        for run in record["runs"]
        for name, numbers in run["times"].items()
    ]
    return "\n".join([*lines, "", table(judge(record, OBS_TARGETS))])
