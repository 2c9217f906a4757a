"""How long does SparseGPT take, and how much memory, beside the authors' steps in PyTorch?

Square layers of 256 to 4096 inputs, half of whose weights go, in blocks of 128 columns, on one
thread and in float32; the Hessian is given. PyTorch, where it is installed, takes the steps of the
published code. What both leave is checked before anything is timed, and they take turns. ``make
bench`` starts it, on a machine that does nothing else.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.experiments import peers
from refimpl.experiments.kernel_grid import timed_record, times_of
from refimpl.experiments.targets import SPARSEGPT_TARGETS, judge, table
from refimpl.prune import damp, inverse_cholesky, sparsegpt

SPARSITY, BLOCK_SIZE, DAMPING = 0.5, 128, 0.01  # as published
ROUNDS = 5
SETTINGS = tuple({"size": size, "threads": 1} for size in (256, 512, 1024, 2048, 4096))
SEEDS = (0,)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Check what every contender leaves of a layer, and time them.

    Parameters
    ----------
    setting : dict
        ``size``, the number of outputs and of inputs; ``threads``. Fewer ``rounds`` than 5 make a
        quick trial.
    seed : int
        Draws weight and inputs.

    Returns
    -------
    dict
        For each contender, ``torch`` where it is installed and ``refimpl``, and for the factor
        that each computes first, ``torch_factor`` and ``refimpl_factor``, what
        `refimpl.experiments.kernel_grid.times_of` says; ``matrices``, the most memory that
        ``refimpl`` takes beyond its arguments, in units of the weight; ``peers``, with versions.

    Raises
    ------
    ValueError
        If a result is wrong, or a library does not keep to its number of threads.
    """
    w, hessian = draw(setting["size"], np.random.default_rng(seed))
    threads = setting["threads"]
    with peers.pinned(threads):
        ways = contenders(w, hessian)
        check_pruned(w, hessian, {name: way() for name, way in ways.items()})
        timed = ways | factors(hessian)
        times = times_of(timed, threads, setting.get("rounds", ROUNDS))
        matrices = peak_bytes(ways["refimpl"]) / w.nbytes
    return {**times, "matrices": matrices, "peers": [peer._asdict() for peer in peers.peers()]}


def draw(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a normal weight, and the Hessian of twice as many inputs that are correlated.

    Parameters
    ----------
    size : int
        Of both matrices.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    w, hessian : ndarray of float32, shape (size, size)
    """
    mixing = np.eye(size) + rng.standard_normal((size, size)) / np.sqrt(size)
    x = (rng.standard_normal((2 * size, size)) @ mixing).astype(np.float32)
    return rng.standard_normal((size, size)).astype(np.float32), x.T @ x / size


def contenders(w: np.ndarray, hessian: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Give everybody the same layer.

    Parameters
    ----------
    w, hessian : ndarray of float32
        From `draw`.

    Returns
    -------
    dict of str to callable
        Returns a new weight.
    """
    options = {"sparsity": SPARSITY, "damping": DAMPING, "block_size": BLOCK_SIZE}
    found = {"refimpl": partial(sparsegpt, w, hessian, **options)}
    if isinstance(pytorch := peers.torch(), str):
        return found
    tensors = pytorch.from_numpy(w), pytorch.from_numpy(hessian)
    return {"torch": lambda: torch_sparsegpt(*tensors, **options).numpy(), **found}


def factors(hessian: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Damp and factor only: what comes before the first column.

    Parameters
    ----------
    hessian : ndarray of float32
        From `draw`.

    Returns
    -------
    dict of str to callable
        ``torch_factor`` where PyTorch is installed, and ``refimpl_factor``.
    """
    found: dict[str, Callable] = {
        "refimpl_factor": lambda: inverse_cholesky(damp(hessian, DAMPING))
    }
    if isinstance(pytorch := peers.torch(), str):
        return found
    tensor = pytorch.from_numpy(hessian)
    return {"torch_factor": lambda: torch_inverse_cholesky(tensor, DAMPING), **found}


def torch_inverse_cholesky(hessian: Any, damping: float) -> Any:
    """Factor the inverse of a damped Hessian by a factorisation, an inverse, and another one.

    Parameters
    ----------
    hessian : torch.Tensor, shape (n_in, n_in)
        It is left as it is.
    damping : float
        Added to the diagonal, in units of its mean.

    Returns
    -------
    torch.Tensor
        Upper triangular.
    """
    h, linalg = hessian.clone(), peers.torch().linalg
    h.diagonal().add_(damping * h.diagonal().mean())
    inverse = peers.torch().cholesky_inverse(linalg.cholesky(h))
    return linalg.cholesky(inverse, upper=True)


def torch_sparsegpt(w: Any, hessian: Any, *, sparsity: float, damping: float, block_size: int):
    """Prune in PyTorch, by the steps of the authors' code.

    Parameters
    ----------
    w : torch.Tensor, shape (n_out, n_in)
        Of float32 or float64; it is left as it is.
    hessian : torch.Tensor, shape (n_in, n_in)
        Of the same dtype.
    sparsity, damping, block_size
        As for `refimpl.prune.sparsegpt`.

    Returns
    -------
    torch.Tensor
        New. Of each block one weight more is gone than asked for, and every tie with it.

    Notes
    -----
    Written from algorithm 1 of Frantar and Alistarh (2023) and what is known of their code: the
    factor as `torch_inverse_cholesky`, the threshold by sorting a block, and rank-one updates.
    Left out is what it does besides, such as summing up losses.
    """
    w, u, outer = w.clone(), torch_inverse_cholesky(hessian, damping), peers.torch().outer
    for start in range(0, w.shape[1], block_size):
        end = min(start + block_size, w.shape[1])
        columns, triangle = w[:, start:end].clone(), u[start:end, start:end]
        scores = columns**2 / triangle.diagonal() ** 2
        threshold = scores.flatten().sort()[0][int(scores.numel() * sparsity)]
        removed, errors = scores <= threshold, columns.new_zeros(columns.shape)
        for j in range(end - start):
            lost = columns[:, j].masked_fill(~removed[:, j], 0)
            errors[:, j] = lost / triangle[j, j]
            columns[:, j:] -= outer(errors[:, j], triangle[j, j:])
        w[:, start:end] = columns.masked_fill_(removed, 0)
        w[:, end:] -= errors @ u[start:end, end:]
    return w


def check_pruned(w: np.ndarray, hessian: np.ndarray, pruned: dict[str, np.ndarray]) -> None:
    """Refuse a result that is not the others' up to rounding: nothing wrong is timed.

    Parameters
    ----------
    w, hessian : ndarray of float32
        The layer.
    pruned : dict of str to ndarray
        What is left of it; ``refimpl`` among them.

    Raises
    ------
    ValueError
        If 5 in a thousand weights or more are pruned here and kept there, or if the layer's error
        is off by more than 1e-3 of ours.

    Notes
    -----
    In float32, two weights that cost nearly the same may change places, and more of them after
    an inverse that is computed and then factored: at 4096 inputs, one in a thousand.
    """
    ours = pruned["refimpl"]
    error = error_of(w, ours, hessian)
    for name, new_w in pruned.items():
        other = float(np.mean((new_w == 0) != (ours == 0)))
        off = abs(error_of(w, new_w, hessian) / error - 1)
        if not (other < 5e-3 and off <= 1e-3):
            requirement, advice = "prune the same weights", "correct it before timing it"
            actual = f"{other:.1e} others, and an error off by {off:.1e}"
            raise bad_argument("sparsegpt_speed", name, requirement, actual, advice)


def error_of(w: np.ndarray, new_w: np.ndarray, hessian: np.ndarray) -> float:
    """Measure the change of the outputs as `refimpl.prune.reconstruction_error`, in float32."""
    change = new_w - w
    return float(np.vdot(change @ hessian, change)) / 2


def peak_bytes(function: Callable[[], Any]) -> int:
    """Measure the most memory that a call holds at a time, as Python's allocators see it.

    Parameters
    ----------
    function : callable
        NumPy's arrays are seen; PyTorch's tensors and the fixed buffers of BLAS are not.

    Returns
    -------
    int
        Bytes beyond what was there before, the result included.
    """
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


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
        ``kind``, which is ``"sparsegpt"``, ``batch``, which is 1, ``matrices``, and ``times``, in
        microseconds.
    """
    return timed_record(
        records,
        lambda result: {
            "kind": "sparsegpt",
            "batch": 1,
            "matrices": round(result["matrices"], 3),
        },
    )


def report(record: dict[str, Any]) -> str:
    """Write times, memory and targets for a terminal.

    Parameters
    ----------
    record : dict
        From `condense`.

    Returns
    -------
    str
        Lines of text.
    """
    lines = []
    for run in record["runs"]:
        seconds = (f"{name} {numbers[0] / 1e6:.3f} s" for name, numbers in run["times"].items())
        lines.append(f"{run['size']}: {', '.join(seconds)}, {run['matrices']:.2f} matrices")
    return "\n".join([*lines, "", table(judge(record, SPARSEGPT_TARGETS))])
