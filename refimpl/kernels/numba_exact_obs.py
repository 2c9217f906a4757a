r"""The trace of exact OBS, row after row: which weight goes next, and what that costs.

The definition is `refimpl.prune.exact_obs.remove_greedily`. It keeps the inverse Hessian of a row's
remaining inputs and subtracts from all of it what each removed input held. Here that matrix is
never formed. It is the shared :math:`H^{-1}` less one outer product for each input that is gone,

.. math:: H_S^{-1} = H^{-1} - \sum_{j \text{ gone}} u_j u_j^\top ,

so a row keeps its own :math:`u_j`, and asks for the one column of the matrix that a removal needs.
That is a Cholesky factorisation of :math:`H^{-1}` which chooses its pivots by what a weight costs.

The sums are added in another order than in the definition: costs agree to rounding, and so does
the order of removal, unless two weights cost the same to rounding.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange

from refimpl.kernels.numba_csr import compiled, compiled_for_one_thread

VECTORS = 5  # of a row: its weights, the diagonal, one column, costs, and what a closed group adds


def remove_greedily(w, h_inv, n, m, order, increase):
    r"""Remove the weights of every row one by one, the cheapest first.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        IN.
    h_inv : ndarray of the same dtype, shape (n_in, n_in)
        IN. Inverse of the Hessian that the rows share, symmetric.
    n, m : int
        IN. A weight may go while its group of `m` still holds more than `n`; 0 and n_in for any.
    order : ndarray of int64, shape (n_out, n_in // m * (m - n))
        OUT. Places of the removed weights, in this order; among equal costs the last first.
    increase : ndarray of float64, same shape
        OUT. What each removal adds to the error, half of :math:`w_q^2 / [H_S^{-1}]_{qq}`.

    Notes
    -----
    Column by column: removal k reads k rows of the factor, so a row's full trace takes
    :math:`n_{in}^3 / 6` multiplications and writes :math:`n_{in}^2 / 2` numbers. Updating the
    matrix itself, or even a symmetric half, would write as many as it multiplies.

    Shared: the rows of all threads read one :math:`H^{-1}`, and none copies it.

    Compaction: the last remaining place moves to where one became free, so every loop runs over
    what remains, without gaps and without a test.

    Four at a time: a column is read and written once for four rows of the factor.

    An infinite toll closes a group of N:M: one addition, where a test would stop the vector
    instructions.

    Memory: a factor of :math:`n_{in}` times the removals, for each thread.
    """
    _share_rows(w, h_inv, n, m, order, increase, get_num_threads())


@compiled
def _share_rows(w, h_inv, n, m, order, increase, n_threads):
    n_in, n_steps = w.shape[1], order.shape[1]
    factors = np.empty((n_threads, n_steps, n_in), h_inv.dtype)
    vectors = np.empty((n_threads, VECTORS, n_in), h_inv.dtype)
    places = np.empty((n_threads, n_in), np.int64)
    left = np.empty((n_threads, n_in // m), np.int64)
    for thread in prange(n_threads):
        rooms = factors[thread], vectors[thread], places[thread], left[thread]
        for row in range(thread, w.shape[0], n_threads):
            _remove_from_row(w[row], h_inv, n, m, order[row], increase[row], rooms)


@compiled_for_one_thread
def _remove_from_row(start, h_inv, n, m, order, increase, rooms):
    factor, vectors, places, left = rooms
    w, diagonal, column = vectors[0], vectors[1], vectors[2]  # by index: known to have no gaps
    cost, toll = vectors[3], vectors[4]
    w[:], toll[:], left[:] = start, 0, m
    for i in range(start.size):
        places[i], diagonal[i] = i, h_inv[i, i]
        cost[i] = w[i] * w[i] / diagonal[i]
    for step in range(order.size):
        last = start.size - step - 1
        q = _cheapest(cost, places, last + 1)
        order[step], increase[step] = places[q], cost[q] / 2
        scale = start.dtype.type(1) / np.sqrt(diagonal[q])
        _remaining_column(h_inv, places, factor, step, q, last + 1, column)
        pull, u, group = w[q] * scale, factor[step], places[q] // m
        for i in range(last + 1):
            u[i] = column[i] * scale
        for array in (w, diagonal, toll):
            array[q] = array[last]
        places[q] = places[last]
        for j in range(step + 1):
            factor[j, q] = factor[j, last]
        left[group] -= 1
        if left[group] == n:
            for i in range(last):
                if places[i] // m == group:
                    toll[i] = np.inf
        for i in range(last):
            w[i] -= pull * u[i]
            diagonal[i] -= u[i] * u[i]
            cost[i] = w[i] * w[i] / diagonal[i] + toll[i]


@compiled_for_one_thread
def _cheapest(cost, places, rest):
    """Find the least cost among what remains; of equal ones that of the last place."""
    best = 0
    for i in range(1, rest):
        later = places[i] > places[best]
        if cost[i] < cost[best] or (cost[i] == cost[best] and later):
            best = i
    return best


@compiled_for_one_thread
def _remaining_column(h_inv, places, factor, step, q, rest, column):
    """Write the column of place q in the inverse Hessian of what remains."""
    row = h_inv[places[q]]
    for i in range(rest):
        column[i] = row[places[i]]
    for j in range(0, step - 3, 4):
        u0, u1, u2, u3 = factor[j], factor[j + 1], factor[j + 2], factor[j + 3]
        a0, a1, a2, a3 = u0[q], u1[q], u2[q], u3[q]
        for i in range(rest):
            column[i] -= (a0 * u0[i] + a1 * u1[i]) + (a2 * u2[i] + a3 * u3[i])
    for j in range(step - step % 4, step):
        u0 = factor[j]
        a0 = u0[q]
        for i in range(rest):
            column[i] -= a0 * u0[i]
