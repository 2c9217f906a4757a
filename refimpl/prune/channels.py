"""When do channels go: in one cut, in one cut to a given cost, or in many?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from refimpl.arrays import bad_argument, check_positive, xp_of
from refimpl.nn import Network
from refimpl.prune.channel_choice import Scores, channel_scores, layerwise_channels
from refimpl.prune.oneshot import FineTune, increasing_sparsities
from refimpl.prune.structured import remove_channels

ScoreChannels = Callable[[Network], Scores]
ChooseChannels = Callable[[Scores, float], dict[str, np.ndarray]]
STEPS = 1000  # sparsities that `prune_channels_to_cost` tells apart


def prune_channels(
    network: Network,
    sparsity: float,
    *,
    score: ScoreChannels = channel_scores,
    choose: ChooseChannels = layerwise_channels,
) -> Network:
    """Remove the channels of least saliency.

    Parameters
    ----------
    network : Network
        As `channel_groups` takes it. It is left as it is.
    sparsity : float
        Fraction of the channels to remove, in ``[0, 1)``.
    score : callable
        ``score(network)`` scores the channels: `channel_scores`, or the same with options,
        ``functools.partial(channel_scores, saliency=filter_l1)``.
    choose : callable
        ``choose(scores, sparsity)`` says what stays: `layerwise_channels`, `global_channels`, or
        one of them with options.

    Returns
    -------
    Network
        New and smaller, as `remove_channels` builds it.

    Raises
    ------
    TypeError, ValueError
        As `score`, `choose` and `remove_channels`.

    Notes
    -----
    With half the channels, a layer between two others has a quarter of its weights and FLOPs.

    References
    ----------
    Li, Kadav, Durdanovic, Samet and Graf (2017), section 3, with `filter_l1` and layer-wise.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> smaller = prune_channels(lenet5(rng=np.random.default_rng(0)), 0.5)
    >>> [weight.shape for weight in smaller.weights().values()]
    [(10, 1, 5, 5), (25, 10, 5, 5), (250, 400), (10, 250)]
    """
    return remove_channels(network, choose(score(network), sparsity))


def prune_channels_to_cost(
    network: Network,
    most: float,
    *,
    cost: Callable[[Network], float],
    score: ScoreChannels = channel_scores,
    choose: ChooseChannels = layerwise_channels,
) -> Network:
    """Remove as few channels as bring a network's cost down to a given one.

    Parameters
    ----------
    network : Network
        As for `prune_channels`.
    most : float
        Highest cost allowed, above 0.
    cost : callable
        ``cost(network)`` returns a number that falls, or stays, as channels go: FLOPs or
        parameters from `refimpl.measure.network_cost`, or a measured time.
    score, choose : callable
        As for `prune_channels`. The scores are taken once, of `network`.

    Returns
    -------
    Network
        The one of least sparsity, in steps of a thousandth, whose cost is at most `most`.

    Raises
    ------
    TypeError, ValueError
        As `prune_channels`; if not even a sparsity of 0.999 is enough.

    Notes
    -----
    By bisection: ten networks are built and priced. A cost that rises somewhere, as a time does
    in noise, ends at a network within the limit, though perhaps not at the largest.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> def n_weights(network):
    ...     return sum(weight.size for weight in network.weights().values())
    >>> network = lenet5(rng=np.random.default_rng(0))
    >>> n_weights(network), n_weights(prune_channels_to_cost(network, 215_250, cost=n_weights))
    (430500, 214950)
    """
    where = "prune_channels_to_cost"
    check_positive(where, "most", most)
    scores = score(network)

    def pruned(step: int) -> Network:
        return remove_channels(network, choose(scores, step / STEPS))

    step = bisect_left(range(STEPS), True, key=lambda step: cost(pruned(step)) <= most)
    if step == STEPS:
        cheapest = f"{most}, below the {cost(pruned(STEPS - 1))} of the narrowest network"
        advice = "allow more, or let more groups be pruned"
        raise bad_argument(where, "most", "be a cost that can be reached", cheapest, advice)
    return pruned(step)


def prune_channels_iteratively(
    network: Network,
    sparsities: Sequence[float],
    *,
    fine_tune: FineTune,
    score: ScoreChannels = channel_scores,
    choose: ChooseChannels = layerwise_channels,
) -> Network:
    """Remove channels in rounds: score, cut, fine-tune, and again.

    Parameters
    ----------
    network : Network
        As for `prune_channels`.
    sparsities : sequence of float
        One for each round, each larger than the one before and in ``[0, 1)``: the fraction of
        the channels that `network` had at first.
    fine_tune : callable
        ``fine_tune(network)`` trains a network in place; called once a round, each time with a
        new and smaller network, which wants a new optimiser.
    score, choose : callable
        As for `prune_channels`; each round scores the network that the last one left.

    Returns
    -------
    Network
        New, with as many channels as `choose` keeps at the last sparsity, in one round or many.

    Raises
    ------
    TypeError, ValueError
        If `sparsities` is empty, out of range or not increasing; as `prune_channels`.

    Notes
    -----
    Each round chooses among all channels of the first network, with a score of minus infinity
    for those that are gone. So counts are exact in every round, and none comes back.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import lenet5
    >>> network = lenet5(rng=np.random.default_rng(0))
    >>> smaller = prune_channels_iteratively(network, [0.3, 0.5], fine_tune=lambda net: None)
    >>> smaller.weights()["conv2.weight"].shape
    (25, 10, 5, 5)
    """
    alive: dict[str, np.ndarray] = {}
    for sparsity in increasing_sparsities("prune_channels_iteratively", sparsities):
        scores = score(network)
        alive = alive or {name: xp_of(s).ones(len(s), bool) for name, s in scores.items()}
        # A depthwise convolution of one channel counts as an ordinary one: its group is new,
        # and too small to lose anything.
        spread = {name: _spread(scores[name], mask) for name, mask in alive.items()}
        chosen = {name: keep & alive[name] for name, keep in choose(spread, sparsity).items()}
        network = remove_channels(network, {name: chosen[name][alive[name]] for name in chosen})
        alive |= chosen
        fine_tune(network)
    return network


def _spread(score: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Scores of what is left, in the places that the channels had at first."""
    spread = xp_of(score).full(len(alive), -np.inf)
    spread[alive] = score
    return spread
