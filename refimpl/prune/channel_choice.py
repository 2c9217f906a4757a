"""Which channels go: a score for each, and a choice by the scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count
from refimpl.masks import count_kept, global_counts, keep_top_k
from refimpl.nn import Network
from refimpl.prune.channel_graph import ChannelGroup, channel_groups
from refimpl.saliency import filter_l2

Scores = Mapping[str, np.ndarray]


def channel_scores(
    network: Network,
    *,
    saliency: Callable[[np.ndarray], np.ndarray] = filter_l2,
    of: str = "weight",
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Score every channel that can be removed.

    Parameters
    ----------
    network : Network
        As `channel_groups` takes it.
    saliency : callable
        ``saliency(array)`` gives one score for each entry of axis 0, larger = keep: one of
        `refimpl.saliency`, such as `filter_l1`, `geometric_median` or `batch_norm_scale`.
    of : str
        Which parameter is scored: ``"weight"``, or ``"gamma"`` for `batch_norm_scale`.
    ignore : collection of str
        Names of groups to leave out.

    Returns
    -------
    dict of str to ndarray of float, shape (channels,)
        For each group that is not ignored. Where several arrays of that name hold a group's
        channels, as behind a residual block, it is the sum of their scores.

    Raises
    ------
    TypeError, ValueError
        As `channel_groups`; if a name in `ignore` is unknown, a group has no such parameter, or a
        saliency is no float array of one entry a channel.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Linear, Network
    >>> rng = np.random.default_rng(0)
    >>> network = Network({"fc1": Linear(2, 2, rng=rng), "fc2": Linear(2, 1, rng=rng)})
    >>> network.weights()["fc1.weight"].value = np.array([[3, 4], [0, 1]], np.float32)
    >>> channel_scores(network)
    {'fc1': array([5., 1.])}
    """
    groups = channel_groups(network)
    _check_ignored(ignore, groups)
    parameters = network.named_parameters()
    scores = {}
    for group in (group for name, group in groups.items() if name not in ignore):
        arrays = [parameters[name].value for name in _scored(group, of)]
        scores[group.name] = sum(_checked_score(group, saliency(array)) for array in arrays)
    return scores


def layerwise_channels(
    scores: Scores, sparsity: float, *, multiple_of: int = 1
) -> dict[str, np.ndarray]:
    """Keep the same fraction of the channels of every group.

    Parameters
    ----------
    scores : mapping of str to ndarray of float, shape (channels,)
        Larger = keep; as `channel_scores` returns.
    sparsity : float
        Fraction of each group to remove, in ``[0, 1)``.
    multiple_of : int
        Round the number kept up to a multiple of this, or to all of the group: 8 or 16 fill the
        vectors of a processor.

    Returns
    -------
    dict of str to ndarray of bool
        True = kept, ``max(count_kept(n, sparsity), 1)`` times in a group of `n`, rounded up as
        said. For `remove_channels`.

    Raises
    ------
    TypeError, ValueError
        If a score is no float array or holds NaN, `sparsity` is no fraction below 1, or
        `multiple_of` no count.

    Examples
    --------
    >>> import numpy as np
    >>> scores = {"conv1": np.arange(20.0), "conv2": np.arange(50.0)}
    >>> kept = layerwise_channels(scores, 0.5, multiple_of=8)
    >>> {name: int(keep.sum()) for name, keep in kept.items()}
    {'conv1': 16, 'conv2': 32}
    """
    counts = [max(count_kept(len(score), sparsity), 1) for score in scores.values()]
    return _strongest("layerwise_channels", scores, counts, multiple_of)


def global_channels(
    scores: Scores, sparsity: float, *, multiple_of: int = 1
) -> dict[str, np.ndarray]:
    """Rank the channels of all groups together, so that each group finds its own width.

    Scores of different groups must mean the same: see `refimpl.saliency.unit_norm`.

    Parameters
    ----------
    scores, sparsity, multiple_of
        As for `layerwise_channels`, except that `sparsity` is the fraction of all channels.

    Returns
    -------
    dict of str to ndarray of bool
        True = kept, ``count_kept(all channels, sparsity)`` times in all, but at least once in
        each group, before the rounding up. For `remove_channels`.

    Raises
    ------
    TypeError, ValueError
        As `layerwise_channels`.

    Examples
    --------
    >>> import numpy as np
    >>> scores = {"conv1": np.array([1.0, 2.0, 3.0]), "conv2": np.array([4.0, 5.0, 6.0])}
    >>> {name: int(keep.sum()) for name, keep in global_channels(scores, 0.5).items()}
    {'conv1': 1, 'conv2': 2}
    """
    n_keep = count_kept(sum(len(score) for score in scores.values()), sparsity)
    counts = [1] * len(scores)
    if n_keep > len(scores):
        counts = global_counts(list(scores.values()), sparsity)
    return _strongest("global_channels", scores, counts, multiple_of)


def _strongest(
    where: str, scores: Scores, counts: Sequence[int], multiple_of: int
) -> dict[str, np.ndarray]:
    """Keep that many of each group, rounded up to a multiple."""
    check_count(where, "multiple_of", multiple_of, 1)
    rounded = (-(-count // multiple_of) * multiple_of for count in counts)
    return {
        name: keep_top_k(score, min(count, len(score)))
        for (name, score), count in zip(scores.items(), rounded, strict=True)
    }


def _scored(group: ChannelGroup, of: str) -> list[str]:
    """Names of the parameters called `of` that hold the channels of a group."""
    held = [part.name for part in group.producers + group.carriers]
    found = [name for name in held if name.rpartition(".")[2] == of]
    if not found:
        argument, actual = f"group {group.name}", f"only {held}"
        advice = 'ignore the group, or score of="weight"'
        raise bad_argument(
            "channel_scores", argument, f"have a parameter called {of}", actual, advice
        )
    return found


def _checked_score(group: ChannelGroup, score: Any) -> np.ndarray:
    argument, dtypes = f"saliency of {group.name}", (np.float32, np.float64)
    check_array("channel_scores", argument, score, shape=(group.size,), dtypes=dtypes)
    return score


def _check_ignored(ignore: Any, groups: Mapping[str, ChannelGroup]) -> None:
    where = "channel_scores"
    if isinstance(ignore, str) or not isinstance(ignore, Collection):
        actual, advice = repr(ignore), 'pass a list such as ["conv1"]'
        raise bad_argument(where, "ignore", "be several names", actual, advice, kind=TypeError)
    unknown = [name for name in ignore if name not in groups]
    if unknown:
        advice = "channel_groups(network) lists them"
        raise bad_argument(where, "ignore", f"name groups among {list(groups)}", unknown, advice)
