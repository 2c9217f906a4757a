"""Prune by weights and activations: what an output hears least of goes, and nothing is repaired."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from refimpl import saliency
from refimpl.arrays import check_array
from refimpl.masks import n_of_m, row_wise
from refimpl.nn import Network
from refimpl.nn.layer import TRAINING_DTYPES
from refimpl.prune.calibration import check_batches, layer_inputs
from refimpl.prune.granularity import Rule, check_pattern
from refimpl.prune.hessian import check_hessian
from refimpl.prune.masking import candidate_weights


def wanda(
    w: np.ndarray,
    hessian: np.ndarray,
    *,
    sparsity: float | None = None,
    n: int | None = None,
    m: int | None = None,
) -> np.ndarray:
    r"""Remove of every output the weights with the least magnitude times norm of their input.

    Takes what `sparsegpt` and `exact_obs` take, so that the three can change places in
    `prune_layers`; of the Hessian it reads the diagonal only.

    Parameters
    ----------
    w : ndarray of float32 or float64, shape (n_out, n_in)
        Weight of one layer.
    hessian : ndarray of float32 or float64, shape (n_in, n_in)
        As `input_hessian` returns. Needs no damping: nothing is inverted.
    sparsity : float
        Fraction of each row to remove, in ``[0, 1)``; or else:
    n, m : int
        Weights to keep of every m consecutive inputs.

    Returns
    -------
    ndarray of `w`'s dtype and shape
        A new array: what is kept has the value that it had.

    Raises
    ------
    TypeError, ValueError
        If a dtype or shape does not fit, not exactly one of `sparsity` and (`n`, `m`) is given, or
        as `refimpl.masks.row_wise` and `refimpl.masks.n_of_m`: no row is ever emptied.

    See Also
    --------
    wanda_masks : The same for a network, without any Hessian.

    Notes
    -----
    :math:`\lVert x_j \rVert = \sqrt{n H_{jj} / 2}`, and a common factor changes no ranking. The
    weights of a dead input (:math:`H_{jj} = 0`) score 0 and go first. A few passes over `w`.

    References
    ----------
    Sun, Liu, Bair and Kolter (2023).

    Examples
    --------
    >>> import numpy as np
    >>> w, x = np.array([[3.0, -1.0], [0.5, -2.0]]), np.array([[1.0, 4.0]])
    >>> wanda(w, 2 * x.T @ x, sparsity=0.5)
    array([[ 0., -1.],
           [ 0., -2.]])
    """
    where = "wanda"
    check_hessian(where, hessian)
    check_array(where, "w", w, shape=(-1, len(hessian)), dtypes=TRAINING_DTYPES)
    check_pattern(where, len(hessian), sparsity=sparsity, n=n, m=m)
    scores = saliency.wanda(w, np.sqrt(hessian.diagonal()))
    mask = row_wise(scores, sparsity) if m is None else n_of_m(scores, n, m)
    return np.where(mask, w, w.dtype.type(0))


def wanda_masks(
    network: Network,
    batches: Iterable[np.ndarray],
    *,
    rule: Rule,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Choose masks by weights and activations, with the inputs that the layers have now.

    Parameters
    ----------
    network : Network
        Of linear layers and convolutions. Runs forward; it is left as it is.
    batches : iterable of ndarray, shape (batch, ...)
        Calibration inputs of the network, without labels. Kept in a list, since every layer reads
        them anew.
    rule : callable
        ``rule(saliency) -> mask``, such as ``functools.partial(row_wise, sparsity=0.5)``, which is
        the paper's, or ``functools.partial(n_of_m, n=2, m=4)``.
    ignore : collection of str
        Names of weights to leave alone.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, True = kept. Nothing is applied: see
        `apply_masks`.

    Raises
    ------
    TypeError, ValueError
        As `layer_inputs`, `refimpl.saliency.input_norms` and `rule`; there must be an example.

    Notes
    -----
    What is pruned already stays pruned. One pass of all batches for each layer, and beside them
    memory for one number an input: a Hessian would take n_in.

    Every layer sees what the network as it is gives it. In the paper a layer sees what the pruned
    ones before it leave: ``prune_layers(network, batches, partial(wanda, sparsity=0.5))``.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.masks import row_wise
    >>> from refimpl.nn import mlp
    >>> rng = np.random.default_rng(0)
    >>> network, x = mlp([8, 4, 2], rng=rng), rng.normal(size=(16, 8)).astype(np.float32)
    >>> masks = wanda_masks(network, [x], rule=partial(row_wise, sparsity=0.75))
    >>> [mask.sum(axis=1).tolist() for mask in masks.values()]
    [[2, 2, 2, 2], [1, 1]]
    """
    where = "wanda_masks"
    masks, batches = {}, list(check_batches(where, "batches", batches))
    for name, weight in candidate_weights(where, network, ignore).items():
        norms = saliency.input_norms(layer_inputs(network, name, batches))
        mask = rule(saliency.wanda(weight.value, norms.reshape(weight.shape[1:])))
        check_array(where, f"mask of {name}", mask, shape=weight.shape, dtypes=(np.bool_,))
        masks[name] = mask if weight.mask is None else mask & weight.mask
    return masks
