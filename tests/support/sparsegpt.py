"""SparseGPT written twice from the paper, in ways that share nothing with ours: dense and slow."""

from __future__ import annotations

import numpy as np


def by_direct_inverses(
    w: np.ndarray, hessian: np.ndarray, block: int, n_removed: int
) -> tuple[np.ndarray, float]:
    """Prune `n_removed` weights of every block, each step from the inverse of what remains.

    No Cholesky factor: for column j the Hessian of columns j, j + 1, ... is inverted from
    scratch, and a row moves by the constrained optimum of Optimal Brain Surgeon. Returns the
    weights and the sum of what each removal cost, ``w_j^2 / [H_{j:}^-1]_{00}``.
    """
    w, kept = w.astype(np.float64), np.ones(w.shape, bool)
    remaining = [np.linalg.inv(hessian[j:, j:]) for j in range(len(hessian))]
    cost = 0.0
    for j, inverse in enumerate(remaining):
        if j % block == 0:
            columns = range(j, min(j + block, w.shape[1]))
            score = np.stack([w[:, c] ** 2 / remaining[c][0, 0] for c in columns], axis=1)
            order = np.argsort(score, axis=None, kind="stable")[:n_removed]
            kept[np.unravel_index(order, score.shape)[0], j + order % len(columns)] = False
        for i in np.flatnonzero(~kept[:, j]):
            cost += w[i, j] ** 2 / inverse[0, 0]
            w[i, j:] -= w[i, j] / inverse[0, 0] * inverse[0]
            w[i, j] = 0
    return w, cost


def as_published(w: np.ndarray, hessian: np.ndarray, block: int, sparsity: float) -> np.ndarray:
    """Algorithm 1 with the threshold of the authors' code: ``<= sorted[int(n * sparsity)]``.

    That removes ``int(n * sparsity) + 1`` of the n weights of a block, and every tie. The factor
    is made as the paper says, of the inverse; errors go to the right column by column within a
    block, and block by block beyond.
    """
    w = w.astype(np.float64)
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T  # upper, factor.T @ factor = inverse
    for start in range(0, w.shape[1], block):
        end = min(start + block, w.shape[1])
        score = w[:, start:end] ** 2 / np.diag(factor)[start:end] ** 2
        threshold = np.sort(score.ravel())[int(score.size * sparsity)]
        removed, errors = score <= threshold, np.zeros((len(w), end - start))
        for j in range(start, end):
            error = np.where(removed[:, j - start], w[:, j], 0) / factor[j, j]
            w[:, j:end] -= np.outer(error, factor[j, j:end])
            errors[:, j - start] = error
        w[:, end:] -= errors @ factor[start:end, end:]
        w[:, start:end][removed] = 0
    return w


def error_of(change: np.ndarray, hessian: np.ndarray) -> float:
    """The quadratic form that pruning raises, row by row: ``sum_i d_i H d_i``."""
    return float(sum(row @ hessian @ row for row in change.astype(np.float64)))


def least_squares_error(w: np.ndarray, kept: np.ndarray, hessian: np.ndarray) -> float:
    """The least `error_of` any weights can have that are zero outside a mask.

    By `numpy.linalg.lstsq` on a square root of the Hessian, a row at a time.
    """
    root = np.linalg.cholesky(hessian).T
    residual = 0.0
    for row, mask in zip(w.astype(np.float64), kept, strict=True):
        target = root @ row
        best = np.linalg.lstsq(root[:, mask], target, rcond=None)[0]
        residual += float(np.sum((root[:, mask] @ best - target) ** 2))
    return residual
