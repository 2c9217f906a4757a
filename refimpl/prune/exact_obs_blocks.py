"""Exact OBS for blocks: several consecutive weights of a row go together, or none of them."""

from __future__ import annotations

import numpy as np

from refimpl.prune.exact_obs import (
    check_costs,
    check_divides,
    check_trace_arguments,
    without_dead_inputs,
)
from refimpl.prune.hessian import inverse_hessian
from refimpl.prune.refit import least_squares_refit
from refimpl.prune.removal_trace import RemovalTrace


def exact_obs_blocks(
    w: np.ndarray,
    hessian: np.ndarray,
    *,
    sparsity: float,
    block_size: int,
    damping: float = 0.01,
) -> np.ndarray:
    """Prune a layer greedily, several consecutive inputs of a row at a time.

    Parameters
    ----------
    w, hessian, damping
        As `exact_obs` takes them.
    sparsity : float
        Fraction of the blocks to remove, in ``[0, 1)``.
    block_size : int
        Length of a block; divides ``n_in``.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        New; exactly ``count_kept(w.size // block_size, sparsity)`` blocks are kept. What is 0 in
        `w` stays 0.

    Raises
    ------
    TypeError, ValueError
        As `exact_obs`.

    Examples
    --------
    >>> import numpy as np
    >>> w, hessian = np.array([[3.0, 0, 1, 1]]), 2 * np.eye(4)
    >>> exact_obs_blocks(w, hessian, sparsity=0.5, block_size=2)
    array([[3., 0., 0., 0.]])
    """
    w, damped = without_dead_inputs("exact_obs_blocks", w, hessian, damping)
    trace = exact_obs_block_trace(w, inverse_hessian(damped), block_size=block_size)
    return least_squares_refit(w, trace.mask(sparsity) & (w != 0), damped)


def exact_obs_block_trace(w: np.ndarray, h_inv: np.ndarray, *, block_size: int) -> RemovalTrace:
    """Find in which order exact OBS removes the blocks of every row, and what each costs.

    Parameters
    ----------
    w, h_inv
        As `exact_obs_trace` takes them.
    block_size : int
        Consecutive inputs that go together; divides ``n_in``.

    Returns
    -------
    RemovalTrace
        Every removal, to the last block.

    Raises
    ------
    TypeError, ValueError
        As `exact_obs_trace`.

    Notes
    -----
    In NumPy alone: about :math:`n_{in}^2` FLOPs a weight removed, as for single weights, and one
    inverse of a ``block_size`` square for each remaining block at every removal.

    Examples
    --------
    >>> import numpy as np
    >>> exact_obs_block_trace(np.array([[3.0, 0, 1, 1]]), np.eye(4), block_size=2).increase
    array([[1. , 4.5]])
    """
    where = "exact_obs_block_trace"
    check_trace_arguments(where, w, h_inv)
    check_divides(where, "block_size", block_size, w)
    order, increase = remove_blocks_greedily(w.astype(h_inv.dtype), h_inv, int(block_size))
    check_costs(where, increase)
    return RemovalTrace(order, increase, w.shape[1], int(block_size))


def remove_blocks_greedily(
    w: np.ndarray, h_inv: np.ndarray, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    r"""Remove the blocks of every row one by one, the cheapest first: the definition.

    Parameters
    ----------
    w, h_inv
        As `exact_obs_trace` takes them, of one dtype.
    block_size : int
        Divides ``n_in``.

    Returns
    -------
    order : ndarray of int64, shape (n_out, n_in // block_size)
        Blocks in the order of removal; of equal costs the last first.
    increase : ndarray of float64, same shape
        What each removal adds to the error.

    Notes
    -----
    OBS for a group: a block B costs :math:`\tfrac12 w_B^\top ([H_S^{-1}]_{BB})^{-1} w_B`, and

    .. math::

        w \leftarrow w - H_S^{-1} E_B ([H_S^{-1}]_{BB})^{-1} w_B, \qquad
        H_S^{-1} \leftarrow H_S^{-1}
            - H_S^{-1} E_B ([H_S^{-1}]_{BB})^{-1} E_B^\top H_S^{-1} .

    References
    ----------
    Frantar and Alistarh (2022), section 4, on blocks.

    Examples
    --------
    >>> import numpy as np
    >>> remove_blocks_greedily(np.array([[3.0, 0, 1, 1]]), np.eye(4), 2)
    (array([[1, 0]]), array([[1. , 4.5]]))
    """
    shape = len(w), w.shape[1] // block_size
    order, increase = np.empty(shape, dtype=np.int64), np.empty(shape)
    for row in range(len(w)):
        _remove_blocks_from_row(w[row].copy(), h_inv.copy(), order[row], increase[row])
    return order, increase


def _remove_blocks_from_row(
    w: np.ndarray, h_inv: np.ndarray, order: np.ndarray, increase: np.ndarray
) -> None:
    n_blocks = order.size
    size = w.size // max(n_blocks, 1)
    remaining = np.arange(n_blocks)
    for step in range(n_blocks):
        places = remaining[:, None] * size + np.arange(size)  # (n_remaining, size)
        squares = h_inv[places[:, :, None], places[:, None, :]]  # (n_remaining, size, size)
        solved = np.linalg.solve(squares, w[places][..., None])[..., 0]
        cost = (w[places] * solved).sum(axis=1) / 2
        best = cost.size - 1 - int(cost[::-1].argmin())  # the last of equal ones
        order[step], increase[step] = remaining[best], cost[best]
        columns = h_inv[:, places[best]]  # (n_in, size)
        h_inv -= columns @ np.linalg.solve(squares[best], columns.T)
        w -= columns @ solved[best]
        remaining = np.delete(remaining, best)
