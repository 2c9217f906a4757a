"""Masks of any shape for a network: weights, N of M, blocks or channels, by one rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_fraction
from refimpl.nn import Network
from refimpl.prune.masking import Saliency, candidate_weights
from refimpl.saliency import magnitude

Rule = Callable[[np.ndarray], np.ndarray]


def shaped_masks(
    network: Network,
    rule: Rule,
    *,
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Choose masks by one rule of shape, weight by weight.

    Parameters
    ----------
    network : Network
        Is read, not changed. Only its weights are candidates, never a bias.
    rule : callable
        ``rule(saliency) -> mask``: any function of `refimpl.masks` with its options filled in,
        such as ``functools.partial(blocks, block_shape=(4, 4), sparsity=0.9)``.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep; it must not write to `w`.
    ignore : collection of str
        Names of weights to leave alone, such as a first convolution with one input channel,
        which has no 2:4 pattern.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, True = kept. Nothing is applied: see
        `apply_masks`.

    Raises
    ------
    TypeError, ValueError
        If a name in `ignore` is unknown, no weight is left to prune, `rule` refuses a shape, or
        what it returns is no mask of the weight's shape.

    Notes
    -----
    What is pruned already stays pruned: the mask is the rule's and the weight's, both. Where
    the rule would have kept a pruned weight, fewer are left than it asks for.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.masks import channels, n_of_m
    >>> from refimpl.nn import mlp
    >>> network = mlp([8, 4, 4], rng=np.random.default_rng(0))
    >>> masks = shaped_masks(network, partial(n_of_m, n=2, m=4))
    >>> [int(mask.sum()) for mask in masks.values()]
    [16, 8]
    >>> masks = shaped_masks(network, partial(channels, sparsity=0.5), ignore=["fc2.weight"])
    >>> masks["fc1.weight"].all(axis=1).tolist().count(True)
    2
    """
    where = "shaped_masks"
    masks = {}
    for name, weight in candidate_weights(where, network, ignore).items():
        mask = rule(saliency(weight.value))
        check_array(where, f"mask of {name}", mask, shape=weight.shape, dtypes=(np.bool_,))
        masks[name] = mask if weight.mask is None else mask & weight.mask
    return masks


def as_matrix(rule: Rule) -> Rule:
    """Let a rule for matrices see every weight as one: a row for each output.

    Parameters
    ----------
    rule : callable
        ``rule(saliency) -> mask`` for arrays of two axes.

    Returns
    -------
    callable
        Takes arrays of two axes or more. A convolution's weight of shape (c_out, c_in, kh, kw)
        is shown as (c_out, c_in * kh * kw), the matrix that `refimpl.deploy.sparsify` stores:
        a block of it may hold several pixels of a kernel.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.masks import blocks
    >>> rule = as_matrix(partial(blocks, block_shape=(2, 9), sparsity=0.5))
    >>> mask = rule(np.random.default_rng(0).random((4, 2, 3, 3)))  # each block two kernels
    >>> mask.sum(axis=(2, 3)).tolist()
    [[0, 9], [0, 9], [0, 9], [0, 9]]
    """

    def shown(saliency: np.ndarray) -> np.ndarray:
        if saliency.ndim < 2:
            advice = "give a weight"
            actual = f"shape {saliency.shape}"
            raise bad_argument("as_matrix", "saliency", "have 2 axes or more", actual, advice)
        n_in = math.prod(saliency.shape[1:])  # -1 would not do for a weight without outputs
        return rule(saliency.reshape(len(saliency), n_in)).reshape(saliency.shape)

    return shown


def check_pattern(
    where: str, n_in: int, *, sparsity: float | None, n: int | None, m: int | None
) -> None:
    """Refuse what says neither or both: how many weights go, and how many of every m stay.

    Parameters
    ----------
    where : str
        Named in the error.
    n_in : int
        Inputs of the layer, which groups of m have to fill.
    sparsity : float or None
        In ``[0, 1)``.
    n, m : int or None
        ``1 <= n <= m``.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    given = (sparsity is not None, n is not None, m is not None)
    if given not in ((True, False, False), (False, True, True)):
        actual = f"sparsity={sparsity}, n={n}, m={m}"
        advice = "give sparsity=0.5, or n=2 and m=4"
        raise bad_argument(where, "the pattern", "be a sparsity or an n and an m", actual, advice)
    if m is None:
        check_fraction(where, "sparsity", sparsity)
        return
    check_count(where, "m", m, 1)
    check_count(where, "n", n, 1, m)
    if n_in % int(m):
        advice = "leave this layer dense, or give it inputs that are 0"
        raise bad_argument(where, "the number of inputs", f"be a multiple of {m}", n_in, advice)
