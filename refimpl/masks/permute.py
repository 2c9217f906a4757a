"""Search for an order of a layer's inputs in which an N:M mask keeps more of its weights.

Every search looks for a division of the columns into stripes, and writes it as a permutation:
the columns of a stripe in ascending order, and the stripes in the order of their first columns.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from refimpl.arrays import check_count, check_rng
from refimpl.masks.stripes import (
    Ways,
    divisions,
    gain,
    saliency_columns,
    score_ways,
    stripes_in_order,
    swaps,
)

FIRST_TEMPERATURE = 0.2  # in standard deviations of what the divisions of two stripes keep


def swap_channels(saliency: np.ndarray, *, n: int = 2, m: int = 4) -> np.ndarray:
    """Swap the columns whose swap gains most, and so on until no swap gains anything.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        As for `kept_saliency`.
    n, m : int
        The pattern, ``1 <= n <= m``.

    Returns
    -------
    ndarray of int64, shape (n_in,)
        A permutation: column ``permutation[j]`` comes to place j. The mask keeps at least as much
        as in the given order, and no swap of two columns keeps more, up to the rounding of a sum.

    Raises
    ------
    TypeError, ValueError
        As `kept_saliency`.

    Notes
    -----
    A round finds the best swap of each pair of stripes, and makes these swaps in the order of
    their gains, skipping a pair if the round has changed one of its stripes already. The next
    round looks at pairs with a changed stripe only. Every swap adds to what is kept, so the rounds
    come to an end.

    With G stripes of R rows, the first round scores about ``m**2 G**2`` stripes at ``2 n m R``
    flops, and a later one less.

    References
    ----------
    Ji et al. (2018), "TETRIS", as adapted by Pool and Yu (2021): channel_swap,0 in their table.

    Examples
    --------
    >>> import numpy as np
    >>> saliency = np.array([[4.0, 3, 2, 0, 1, 0, 0, 0]])  # 2:4 keeps 4 3 1 and a 0
    >>> saliency[:, swap_channels(saliency)]
    array([[4., 1., 0., 0., 3., 2., 0., 0.]])
    """
    columns = saliency_columns("swap_channels", saliency, n, m)
    return _as_permutation(_ascend(columns, stripes_in_order(columns, m), n, swaps(m)))


def divide_stripes(
    saliency: np.ndarray, *, n: int = 2, m: int = 4, together: int = 2
) -> np.ndarray:
    """Divide the columns of a few stripes anew in the best way, until that gains nothing.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        As for `kept_saliency`.
    n, m : int
        The pattern, ``1 <= n <= m``.
    together : int
        How many stripes are divided anew at a time, at least 2. They may have 10,000 divisions
        at most: for M = 4 two stripes have 35, and three have 5775.

    Returns
    -------
    ndarray of int64, shape (n_in,)
        A permutation: column ``permutation[j]`` comes to place j. The mask keeps at least as much
        as in the given order, and no division of `together` stripes keeps more, up to the
        rounding of a sum. With that many stripes or fewer, no permutation keeps more.

    Raises
    ------
    TypeError, ValueError
        As `kept_saliency`; or if `together` is out of range, or there are too many divisions.

    Notes
    -----
    The rounds are those of `swap_channels`, with all divisions of `together` stripes in place of
    the swaps of two. There are (m t)! / (m!**t t!) divisions of t stripes, made of C(m t, m)
    different stripes: 70 for two stripes of 2:4, and 495 for three. The first round scores these
    for each of C(G, t) choices of stripes.

    References
    ----------
    Pool and Yu (2021): optimize_stripe_groups,8,0 and 12,0 in their table.

    Examples
    --------
    >>> import numpy as np
    >>> saliency = np.array([[4.0, 3, 2, 5, 1, 0, 0, 0]])  # 2:4 keeps 4 5 1 and a 0
    >>> saliency[:, divide_stripes(saliency)]
    array([[4., 3., 1., 0., 2., 5., 0., 0.]])
    """
    columns = saliency_columns("divide_stripes", saliency, n, m)
    check_count("divide_stripes", "together", together, 2)
    stripes = stripes_in_order(columns, m)
    ways = divisions("divide_stripes", m, max(1, min(together, len(stripes))))
    return _as_permutation(_ascend(columns, stripes, n, ways))


def permute_channels(
    saliency: np.ndarray,
    *,
    n: int = 2,
    m: int = 4,
    rng: np.random.Generator,
    n_steps: int = 10_000,
) -> np.ndarray:
    r"""Search for the order of inputs in which an N:M mask keeps the most, by annealing.

    Parameters
    ----------
    saliency : ndarray of float16, float32 or float64
        As for `kept_saliency`. If several layers read the same channels, stack their rows.
    n, m : int
        The pattern, ``1 <= n <= m``; M is at most 8.
    rng : numpy.random.Generator
        Draws which stripes meet, and how they are divided.
    n_steps : int
        Steps of the annealing, at least 1. With more of them a search tends to find more.

    Returns
    -------
    ndarray of int64, shape (n_in,)
        A permutation: column ``permutation[j]`` comes to place j. The mask keeps at least as much
        as in the given order, and no division of two stripes, so no swap of two columns, keeps
        more, up to the rounding of a sum.

    Raises
    ------
    TypeError, ValueError
        As `kept_saliency`; or if `rng` is no generator or `n_steps` no positive integer.

    See Also
    --------
    permute_inputs : Apply it to the layer.
    permute_outputs : Apply it to the layer before.

    Notes
    -----
    A step pairs the stripes at random, and draws for each pair one of its divisions d with a
    probability proportional to :math:`\exp(K_d / T)`, where :math:`K_d` is what the pair then
    keeps. The temperature T falls on a straight line to 0, from a fifth of the standard deviation
    of :math:`K_d`. Then `divide_stripes` takes over, from the given order if that keeps as much.

    Pairs without a common stripe can be drawn at once. The draw is an argmax: if the
    :math:`g_d` are independent with the Gumbel distribution, then :math:`K_d + T g_d` is largest
    with the probability above.

    A step scores C(2 m, m) / 2 stripes for each stripe, 35 for 2:4, in float32; what
    `divide_stripes` compares is float64.

    References
    ----------
    Pool and Yu (2021), "Channel permutations for N:M sparsity", for the problem and the divisions.
    Differs from the paper in that annealing (Kirkpatrick et al., 1983, "Optimization by simulated
    annealing") takes the place of bounded regressions.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.masks import kept_saliency
    >>> saliency = np.array([[4.0, 3, 2, 5, 1, 0, 0, 0]])
    >>> order = permute_channels(saliency, rng=np.random.default_rng(0), n_steps=1)
    >>> kept_saliency(saliency, 2, 4), kept_saliency(saliency[:, order], 2, 4)
    (10.0, 14.0)
    """
    columns = saliency_columns("permute_channels", saliency, n, m)
    check_rng("permute_channels", rng)
    check_count("permute_channels", "n_steps", n_steps, 1)
    ways, given = divisions("permute_channels", m, 2), stripes_in_order(columns, m)
    annealed = _anneal(columns, given, n, ways, rng, n_steps)
    start = annealed if gain(columns, given, annealed, n) > 0 else given
    return _as_permutation(_ascend(columns, start, n, ways))


def _ascend(columns: np.ndarray, stripes: np.ndarray, n: int, ways: Ways) -> np.ndarray:
    """Rearrange stripes in the best of the ways, round by round, until nothing is gained."""
    together = ways.members.shape[1]
    units = np.array([*combinations(range(len(stripes)), together)], int).reshape(-1, together)
    gains, choices = np.empty(len(units)), np.empty(len(units), int)
    stale = np.arange(len(units))
    while True:
        best = _best_ways(columns, stripes[units[stale]], n, ways)
        gains[stale], choices[stale] = best
        moved, changed = _march(stripes, units, gains, ways.places(choices))
        if gain(columns, stripes, moved, n) <= 0:
            return stripes
        stripes, stale = moved, np.flatnonzero(changed[units].any(axis=1))


def _best_ways(
    columns: np.ndarray, units: np.ndarray, n: int, ways: Ways
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each unit of stripes, (n_units, together, m), the best way and what it gains."""
    n_units, together, m = units.shape
    gains, choices = np.empty(n_units), np.empty(n_units, int)
    for part, kept in score_ways(columns, units.reshape(n_units, together * m), n, ways):
        gains[part] = kept.max(axis=1) - kept[:, 0]
        choices[part] = kept.argmax(axis=1)
    return gains, choices


def _march(
    stripes: np.ndarray, units: np.ndarray, gains: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take the gains, the largest first, skipping a unit if one of its stripes has changed.

    `places` are those of each unit's best way, (n_units, together, m).
    """
    moved, changed = stripes.copy(), np.zeros(len(stripes), bool)
    for unit in np.argsort(-gains, kind="stable"):
        if gains[unit] <= 0:
            break
        members = units[unit]
        if not changed[members].any():
            moved[members] = stripes[members].ravel()[places[unit]]
            changed[members] = True
    return moved, changed


def _anneal(
    columns: np.ndarray,
    stripes: np.ndarray,
    n: int,
    ways: Ways,
    rng: np.random.Generator,
    n_steps: int,
) -> np.ndarray:
    """Draw divisions of random pairs of stripes, at a temperature that falls to 0."""
    stripes, n_pairs, width = stripes.copy(), len(stripes) // 2, 2 * stripes.shape[1]
    if not n_pairs:
        return stripes
    columns = (columns / (np.abs(columns).max(initial=0) or 1)).astype(np.float32)
    first = stripes[: 2 * n_pairs].reshape(n_pairs, width)
    spread = np.concatenate([k.std(axis=1) for _, k in score_ways(columns, first, n, ways)]).mean()
    for temperature in np.linspace(FIRST_TEMPERATURE * spread, 0, n_steps):
        met = rng.permutation(len(stripes))[: 2 * n_pairs]
        pairs = stripes[met].reshape(n_pairs, width)
        for part, kept in score_ways(columns, pairs, n, ways):
            heat = temperature * rng.gumbel(size=kept.shape)
            places = ways.places((kept + heat).argmax(axis=1)).reshape(-1, width)
            pairs[part] = np.take_along_axis(pairs[part], places, axis=1)
        stripes[met] = pairs.reshape(2 * n_pairs, -1)
    return stripes


def _as_permutation(stripes: np.ndarray) -> np.ndarray:
    ascending = np.sort(stripes, axis=1)
    return ascending[np.argsort(ascending[:, 0])].ravel()
