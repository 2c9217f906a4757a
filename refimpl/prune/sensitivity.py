"""Which layer can least do without its weights? Prune one at a time, and look at the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_fraction
from refimpl.masks import global_counts, unstructured
from refimpl.nn import Evaluation, Network, Parameter
from refimpl.prune.masking import Saliency, candidate_weights
from refimpl.saliency import magnitude

Choose = Callable[[np.ndarray, float], np.ndarray]
Measure = Callable[[Network], Evaluation]


@dataclass(frozen=True)
class SensitivityScan:
    """What a network loses when one of its weights is pruned and the others are whole.

    Attributes
    ----------
    names : tuple of str
        The weights, in the order of the network.
    shapes : tuple of tuple of int
        Of each weight.
    sparsities : tuple of float
        Of the one weight that is pruned, increasing, the first of them 0.
    loss, accuracy : ndarray of float64, shape (number of weights, number of sparsities)
        Measured without any retraining. The column of sparsity 0 is the whole network.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    sparsities: tuple[float, ...]
    loss: np.ndarray
    accuracy: np.ndarray

    def slopes(self) -> np.ndarray:
        """Estimate by how much the loss grows with the sparsity of each weight.

        Returns
        -------
        ndarray of float64, shape (number of weights, number of sparsities)
            ``dLoss / ds``: central differences of second order, one-sided at both ends.

        Notes
        -----
        In the first column the smallest weights go, in a network that training has left where
        the loss is flat: that slope is near 0 and says little. Look where you mean to prune.
        """
        return np.gradient(self.loss, np.array(self.sparsities), axis=1)

    def ranking(self, sparsity: float) -> list[str]:
        """Order the weights by what their loss alone costs, the most sensitive first.

        Parameters
        ----------
        sparsity : float
            One of `sparsities`.

        Returns
        -------
        list of str
            Names by falling loss; of equal ones the earlier layer first.

        Raises
        ------
        ValueError
            If that sparsity was not scanned.
        """
        if sparsity not in self.sparsities:
            where, advice = "SensitivityScan.ranking", "scan it first"
            raise bad_argument(where, "sparsity", f"be one of {self.sparsities}", sparsity, advice)
        column = self.loss[:, self.sparsities.index(sparsity)]
        return [self.names[i] for i in np.argsort(-column, kind="stable")]

    def threshold_counts(self, shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[int]:
        r"""Make each layer as sparse as its loss alone stays below a common threshold.

        Parameters
        ----------
        shapes : sequence of tuple of int
            `shapes` of the scan. `refimpl.prune.budgeted_masks` hands them over, so that
            ``budget=scan.threshold_counts`` is a budget like those of `refimpl.masks`.
        sparsity : float
            Fraction of all weights together to remove, at least 0. No layer is pruned further
            than it was scanned, so at most about the last of `sparsities`.

        Returns
        -------
        list of int
            Weights that each layer keeps; in all exactly ``count_kept(total size, sparsity)``.

        Raises
        ------
        ValueError
            If the shapes are others, or the scan does not reach that sparsity.

        See Also
        --------
        marginal_counts : Mind how many weights a layer has to give.

        Notes
        -----
        Let :math:`\hat L_l` be the loss of layer `l` against its sparsity: linear between what
        was measured, and where it falls, its largest value so far. Of all counts with this total
        these have the least :math:`\max_l \hat L_l(s_l)`. One ranking over all layers gives
        them, in which the k-th of :math:`n_l` weights to leave costs :math:`\hat L_l(k / n_l)`.
        So no count rises when the sparsity does.
        """
        rising = np.maximum.accumulate(self.loss, axis=1)
        prices = [
            np.interp(removed, self.sparsities, loss)[1:]
            for removed, loss in zip(self._steps(), rising, strict=True)
        ]
        return self._cheapest("SensitivityScan.threshold_counts", shapes, sparsity, prices)

    def marginal_counts(self, shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[int]:
        r"""Remove weights where the next one costs least, so that a small layer is spared.

        Parameters
        ----------
        shapes, sparsity
            As `threshold_counts`.

        Returns
        -------
        list of int
            As `threshold_counts`.

        Raises
        ------
        ValueError
            As `threshold_counts`.

        Notes
        -----
        With :math:`\check L_l` the lower convex envelope of what was measured, these counts have
        the least :math:`\sum_l \check L_l(s_l)` of all with this total. At such a minimum every
        layer that is not at an end of its range has the same :math:`S_l / n_l`, what the loss
        gains by one weight more. One ranking gives them, in which the k-th weight to leave costs
        :math:`\check L_l(k / n_l) - \check L_l((k - 1) / n_l)`. So no count rises when the
        sparsity does. The sum stands for the loss of all layers together, which it is not:
        losses do not add up.
        """
        prices = [
            np.diff(np.interp(removed, *_lower_hull(self.sparsities, loss)))
            for removed, loss in zip(self._steps(), self.loss.tolist(), strict=True)
        ]
        return self._cheapest("SensitivityScan.marginal_counts", shapes, sparsity, prices)

    def _steps(self) -> list[np.ndarray]:
        """List for every layer its sparsities without 0, 1, 2, ... of its weights."""
        return [np.arange(size + 1) / size for size in map(math.prod, self.shapes)]

    def _cheapest(
        self, where: str, shapes: Any, sparsity: float, prices: list[np.ndarray]
    ) -> list[int]:
        """Count what each layer keeps when of all layers' weights the cheapest go."""
        if not isinstance(shapes, Sequence) or list(shapes) != list(self.shapes):
            advice = "scan the network that is pruned, with the same names ignored"
            raise bad_argument(where, "shapes", f"be {list(self.shapes)}", shapes, advice)
        for price, removed in zip(prices, self._steps(), strict=True):
            price[removed[1:] > self.sparsities[-1]] = math.inf  # never measured
        counts = global_counts(prices, sparsity)
        gone = [price[: price.size - n] for price, n in zip(prices, counts, strict=True)]
        if any(np.isinf(price).any() for price in gone):
            requirement = f"be reached with no layer above {self.sparsities[-1]}, the last scanned"
            raise bad_argument(where, "sparsity", requirement, sparsity, "scan further")
        return counts


def sensitivity_scan(
    network: Network,
    measure: Measure,
    *,
    sparsities: Sequence[float],
    choose: Choose = unstructured,
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
) -> SensitivityScan:
    """Prune one weight at a time to each sparsity, and measure the network.

    Parameters
    ----------
    network : Network
        Is changed while it is measured, and is what it was afterwards, also after an error.
    measure : callable
        ``measure(network) -> Evaluation``, such as ``lambda net: evaluate(net, x, labels)``;
        must not change the network.
    sparsities : sequence of float
        In ``(0, 1)``, increasing. Sparsity 0 is measured in any case, once for all.
    choose : callable
        ``choose(saliency, sparsity) -> mask``; `masks.channels` scans whole channels instead of
        single weights.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep; it must not write to `w`.
    ignore : collection of str
        Names of weights to leave whole.

    Returns
    -------
    SensitivityScan
        Loss and accuracy for each weight and sparsity, and their slopes.

    Raises
    ------
    TypeError, ValueError
        If a sparsity is out of range or out of order, a name is unknown, or a mask does not fit.

    Notes
    -----
    A mask that the network has already stays: what is pruned there counts towards the sparsity
    wherever its saliency is the lowest, as magnitude's is. ``1 + weights * sparsities``
    evaluations.

    The scan says what a layer's loss costs *alone*. What several cost together it does not say:
    losses do not add up.

    References
    ----------
    Li et al., "Pruning filters for efficient ConvNets", ICLR 2017, section 3.2, scan layer by
    layer and prune the sensitive ones less.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Evaluation, mlp
    >>> network = mlp([4, 3, 2], rng=np.random.default_rng(0))
    >>> total = lambda net: Evaluation(sum(float(abs(w.value).sum())
    ...                                    for w in net.weights().values()), 0.0)
    >>> scan = sensitivity_scan(network, total, sparsities=[0.5])
    >>> scan.loss.shape, bool((scan.loss[:, 1] < scan.loss[:, 0]).all())
    ((2, 2), True)
    """
    where = "sensitivity_scan"
    _check_increasing(where, sparsities)
    candidates = candidate_weights(where, network, ignore)
    whole, rows = _measured(where, measure, network), []
    for name, weight in candidates.items():
        row, score = [whole], saliency(weight.value)
        for sparsity in sparsities:
            mask = choose(score, sparsity)
            check_array(where, f"mask of {name}", mask, shape=weight.shape, dtypes=(np.bool_,))
            with _pruned(weight, mask):
                row.append(_measured(where, measure, network))
        rows.append(row)
    return SensitivityScan(
        names=tuple(candidates),
        shapes=tuple(weight.shape for weight in candidates.values()),
        sparsities=(0.0, *map(float, sparsities)),
        loss=np.array([[seen.loss for seen in row] for row in rows]),
        accuracy=np.array([[seen.accuracy for seen in row] for row in rows]),
    )


@contextmanager
def _pruned(weight: Parameter, mask: np.ndarray) -> Iterator[None]:
    """Prune one weight; its values and mask come back in any case."""
    value, own_mask = weight.value.copy(), weight.mask
    weight.mask = mask if own_mask is None else mask & own_mask
    try:
        yield
    finally:
        weight.mask = own_mask
        weight.value = value


def _measured(where: str, measure: Measure, network: Network) -> Evaluation:
    seen: Any = measure(network)
    if not isinstance(seen, Evaluation) or not math.isfinite(seen.loss):
        advice = "such as what evaluate(network, x, labels) returns"
        raise bad_argument(where, "measure", "return an Evaluation of finite loss", seen, advice)
    return seen


def _lower_hull(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Corners of the largest convex function that is nowhere above the points, x increasing."""
    corners: list[tuple[float, float]] = []
    for point in zip(x, y, strict=True):
        while len(corners) > 1 and not _turns_up(*corners[-2:], point):
            corners.pop()
        corners.append(point)
    xs, ys = zip(*corners, strict=True)
    return list(xs), list(ys)


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether the line from a to b to c is steeper after b than before it."""
    return (c[1] - b[1]) * (b[0] - a[0]) > (b[1] - a[1]) * (c[0] - b[0])


def _check_increasing(where: str, sparsities: Sequence[float]) -> None:
    if not isinstance(sparsities, Sequence | np.ndarray):
        actual, advice = repr(sparsities), "pass a list such as [0.5, 0.9]"
        raise bad_argument(where, "sparsities", "be a sequence", actual, advice, kind=TypeError)
    for sparsity in sparsities:
        check_fraction(where, "a sparsity", sparsity)
    inside = [0.0, *sparsities]
    if len(inside) < 2 or any(b <= a for a, b in pairwise(inside)):
        advice = "0 is measured in any case"
        requirement = "be at least one, above 0 and increasing"
        raise bad_argument(where, "sparsities", requirement, list(sparsities), advice)
