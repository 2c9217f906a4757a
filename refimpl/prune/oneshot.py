"""Prune and fine-tune: all at once, or a little at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_count, check_fraction
from refimpl.nn import Network
from refimpl.prune.masking import apply_masks, layerwise_masks

ChooseMasks = Callable[[Network, float], dict[str, np.ndarray]]
FineTune = Callable[[Network], object]


def compound_sparsities(rate: float, rounds: int) -> list[float]:
    r"""List the sparsities reached by removing a fraction of the *surviving* weights each round.

    Parameters
    ----------
    rate : float
        Fraction of the survivors that each round removes, in ``[0, 1)``.
    rounds : int
        Number of rounds, at least 1.

    Returns
    -------
    list of float
        One sparsity for each round.

    Raises
    ------
    TypeError, ValueError
        If `rate` is no fraction below 1 or `rounds` no count.

    Notes
    -----
    :math:`s_t = 1 - (1 - r)^t`, rounded once: of `rate` we take the decimal number it prints as.

    References
    ----------
    Frankle and Carbin (2019), section 2: iterative pruning removes
    :math:`p^{1/n}` of the weights that survived the round before.

    Examples
    --------
    >>> compound_sparsities(0.2, 4)
    [0.2, 0.36, 0.488, 0.5904]
    """
    check_fraction("compound_sparsities", "rate", rate)
    check_count("compound_sparsities", "rounds", rounds, 1)
    survive = 1 - Fraction(str(rate))
    return [float(1 - survive**round_) for round_ in range(1, int(rounds) + 1)]


def prune_one_shot(
    network: Network,
    sparsity: float,
    *,
    fine_tune: FineTune,
    choose: ChooseMasks = layerwise_masks,
) -> None:
    """Prune a trained network once, then fine-tune what is left.

    Parameters
    ----------
    network : Network
        Changes in place.
    sparsity : float
        In ``[0, 1)``, as `choose` takes it.
    fine_tune : callable
        ``fine_tune(network)`` trains the network in place, starting from the surviving
        weights; the masks hold by themselves.
    choose : callable
        ``choose(network, sparsity)`` returns masks: `layerwise_masks`, `global_masks`, or one
        of them with options, ``functools.partial(global_masks, ignore=["fc3.weight"])``.

    Raises
    ------
    TypeError, ValueError
        As `choose` and `apply_masks`.

    References
    ----------
    Han, Pool, Tran and Dally (2015), figure 2: train connectivity, prune connections, train
    weights.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> from refimpl.prune import network_sparsity
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> prune_one_shot(network, 0.5, fine_tune=lambda network: None)  # without any repair
    >>> network_sparsity(network)
    0.5
    """
    apply_masks(network, choose(network, sparsity))
    fine_tune(network)


def prune_iteratively(
    network: Network,
    sparsities: Sequence[float],
    *,
    fine_tune: FineTune,
    choose: ChooseMasks = layerwise_masks,
) -> None:
    """Prune a trained network in rounds: a little more each time, fine-tuning after each.

    Parameters
    ----------
    network : Network
        Changes in place.
    sparsities : sequence of float
        One for each round, each in ``[0, 1)`` and larger than the one before, as
        `compound_sparsities` returns.
    fine_tune : callable
        ``fine_tune(network)`` trains the network in place; called once a round.
    choose : callable
        ``choose(network, sparsity)`` returns masks, as in `prune_one_shot`.

    Raises
    ------
    TypeError, ValueError
        If `sparsities` is empty, out of range or not increasing: then nothing has changed.
        Also as `choose` and `apply_masks`.

    Notes
    -----
    The rounds share the cost: to compare with one shot, give each round its part of the
    training steps.

    References
    ----------
    Han, Pool, Tran and Dally (2015), section 3.4, iterative pruning.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> from refimpl.prune import network_sparsity
    >>> network = mlp([4, 4, 2], rng=np.random.default_rng(0))
    >>> seen = []
    >>> prune_iteratively(network, [0.5, 0.75],
    ...                   fine_tune=lambda network: seen.append(network_sparsity(network)))
    >>> seen
    [0.5, 0.75]
    """
    for sparsity in increasing_sparsities("prune_iteratively", sparsities):
        prune_one_shot(network, sparsity, fine_tune=fine_tune, choose=choose)


def increasing_sparsities(where: str, sparsities: Any) -> list[float]:
    """List the sparsities of the rounds, or refuse them all.

    Parameters
    ----------
    where : str
        Named in the error.
    sparsities : iterable of float
        At least one, each in ``[0, 1)`` and larger than the one before.

    Returns
    -------
    list of float
        As given.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    if not isinstance(sparsities, Iterable):
        advice = "pass a list such as [0.5, 0.75], or use prune_one_shot"
        actual = repr(sparsities)
        raise bad_argument(where, "sparsities", "be a sequence", actual, advice, kind=TypeError)
    rounds = list(sparsities)
    for position, sparsity in enumerate(rounds):
        check_fraction(where, f"sparsities[{position}]", sparsity)
    if not rounds or any(low >= high for low, high in pairwise(rounds)):
        advice = "give one for each round, as compound_sparsities does"
        raise bad_argument(where, "sparsities", "increase from round to round", rounds, advice)
    return rounds
