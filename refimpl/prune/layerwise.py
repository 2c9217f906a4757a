"""Layer-wise OBS: one ranking of all weights of a layer, then one repair for each that goes."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import check_count
from refimpl.prune.exact_obs import check_trace_arguments
from refimpl.saliency import obs


def layerwise_obs(w: np.ndarray, h_inv: np.ndarray, n_remove: int) -> np.ndarray:
    r"""Remove the weights of least OBS saliency from a layer, each compensated on its own.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        The weight of a layer; 0 where its input is dead, since `damp` gives such an input the
        diagonal entry of an average one. To prune biases along with it, append them as a last
        column, and a column of ones to the inputs that `input_hessian` sees.
    h_inv : ndarray of float32 or float64, shape (n_in, n_in)
        As `inverse_hessian` returns; all rows share it.
    n_remove : int
        Weights to remove from the whole layer, ``0 <= n_remove <= w.size``.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        New; the removed weights are 0. The ranking is over all rows: one may end up empty.

    Raises
    ------
    TypeError, ValueError
        If a dtype, a shape or the count does not fit, or `w` is not finite.

    See Also
    --------
    exact_obs : Ranks anew after every removal, and compensates exactly.
    least_squares_refit : The exact compensation for the mask that is chosen here.

    Notes
    -----
    All weights are ranked once by :math:`w_q^2 / (2 [H^{-1}]_{qq})`, equal ones kept from the
    lowest index on. From the least on, each that goes moves its row by

    .. math:: w \leftarrow w - \frac{w_q}{[H^{-1}]_{qq}} H^{-1} e_q ,

    with :math:`w_q` as the removals before it left it, and with the :math:`H^{-1}` of *all*
    inputs. OBS would take the inverse for the inputs that remain. So a later removal moves the
    earlier ones away from 0 again, and the mask that sets them back has nobody to repair it: for
    each row this is one Gauss-Seidel sweep towards the exact compensation, not its solution.

    :math:`2 n_{in}` FLOPs a removed weight, in float64.

    References
    ----------
    Dong, Chen and Pan (2017), "Learning to prune deep neural networks via layer-wise optimal
    brain surgeon", algorithm 1, and their code. It sets removed weights back to 0 after every
    removal, or now and then; since nothing reads them in between, once at the end is the same.

    Examples
    --------
    Of two inputs that nearly agree, the one that stays takes over from the other.

    >>> import numpy as np
    >>> h_inv = np.linalg.inv(np.array([[2.0, 1.9], [1.9, 2.0]]))
    >>> layerwise_obs(np.array([[1.0, 2.0]]), h_inv, 1)
    array([[0.  , 2.95]])
    """
    where = "layerwise_obs"
    check_trace_arguments(where, w, h_inv)
    check_count(where, "n_remove", n_remove, 0, w.size)
    # [removals start]
    from_the_end = np.argsort(obs(w, h_inv).ravel()[::-1], kind="stable")
    removed = np.unravel_index(w.size - 1 - from_the_end[:n_remove], w.shape)
    new_w, h_inv = w.astype(np.float64), h_inv.astype(np.float64)
    for row, q in zip(*removed, strict=True):
        new_w[row] -= new_w[row, q] / h_inv[q, q] * h_inv[q]
    new_w[removed] = 0
    # [removals end]
    return new_w.astype(w.dtype)
