"""Greedy removal by brute force: every candidate's loss from the Hessian block that remains.

No inverse is ever updated, and no formula of OBS is used.
"""

from __future__ import annotations

import numpy as np


def correlated_layer(seed: int, n_out: int, n_in: int) -> tuple[np.ndarray, np.ndarray]:
    """A normal weight, and a well-conditioned Hessian of correlated inputs, (2/n) X^T X + 0.1 I."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_in) + rng.standard_normal((n_in, n_in)) / np.sqrt(n_in)
    x = rng.standard_normal((4 * n_in, n_in)) @ mixing
    return rng.standard_normal((n_out, n_in)), 2 / len(x) * x.T @ x + 0.1 * np.eye(n_in)


def refit(row: np.ndarray, hessian: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The best values on the kept places, by the normal equations of what remains."""
    new = np.zeros_like(row)
    if kept.any():
        block = hessian[np.ix_(kept, kept)]
        new[kept] = np.linalg.solve(block, hessian[kept] @ row)
    return new


def error_of(row: np.ndarray, new: np.ndarray, hessian: np.ndarray) -> float:
    """Half the quadratic form of the change."""
    return float((new - row) @ hessian @ (new - row)) / 2


def greedy_removals(
    row: np.ndarray, hessian: np.ndarray, *, block_size: int = 1, n: int = 0, m: int | None = None
) -> tuple[list[int], list[float]]:
    """Remove block by block, each time the one after whose loss the best refit is best.

    A weight may go while its group of m still holds more than n; blocks have no groups.
    """
    m = row.size if m is None else m
    kept, order, errors = np.ones(row.size, bool), [], [0.0]
    while True:
        losses = {}
        for block in range(row.size // block_size):
            places = slice(block * block_size, (block + 1) * block_size)
            group = kept[block * block_size // m * m :][:m]
            if kept[places].all() and group.sum() > n:
                fewer = kept.copy()
                fewer[places] = False
                losses[block] = error_of(row, refit(row, hessian, fewer), hessian)
        if not losses:
            return order, np.diff(errors).tolist()
        order.append(min(losses, key=losses.get))
        errors.append(losses[order[-1]])
        kept[order[-1] * block_size : (order[-1] + 1) * block_size] = False
