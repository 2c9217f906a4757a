"""Which layer can least do without its weights? Prune one at a time, and look at the loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_fraction
from refimpl.masks import unstructured
from refimpl.nn import Evaluation, Network, Parameter
from refimpl.prune.masking import Saliency, candidate_weights
from refimpl.saliency import magnitude

Choose = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class SensitivityScan:
    """What a network loses when one of its weights is pruned and the others are whole.

    Attributes
    ----------
    names : tuple of str
        The weights, in the order of the network.
    sparsities : tuple of float
        Of the one weight that is pruned, increasing, the first of them 0.
    loss, accuracy : ndarray of float64, shape (number of weights, number of sparsities)
        Measured without any retraining. The column of sparsity 0 is the whole network.
    """

    names: tuple[str, ...]
    sparsities: tuple[float, ...]
    loss: np.ndarray
    accuracy: np.ndarray

    def slopes(self) -> np.ndarray:
        """Estimate by how much the loss grows with the sparsity of each weight.

        Returns
        -------
        ndarray of float64, shape (number of weights, number of sparsities)
            ``dLoss / ds``: central differences of second order, one-sided at both ends.
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


def sensitivity_scan(
    network: Network,
    measure: Callable[[Network], Evaluation],
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
    whole = measure(network)
    rows = [
        [whole, *_pruned_alone(network, name, weight, measure, sparsities, choose, saliency)]
        for name, weight in candidates.items()
    ]
    return SensitivityScan(
        names=tuple(candidates),
        sparsities=(0.0, *map(float, sparsities)),
        loss=np.array([[seen.loss for seen in row] for row in rows]),
        accuracy=np.array([[seen.accuracy for seen in row] for row in rows]),
    )


def _pruned_alone(
    network: Network,
    name: str,
    weight: Parameter,
    measure: Callable[[Network], Evaluation],
    sparsities: Sequence[float],
    choose: Choose,
    saliency: Saliency,
) -> list[Evaluation]:
    value, mask, seen = weight.value.copy(), weight.mask, []
    mask = None if mask is None else mask.copy()
    score = saliency(value)
    try:
        for sparsity in sparsities:
            chosen = choose(score, sparsity)
            where, argument = "sensitivity_scan", f"mask of {name}"
            check_array(where, argument, chosen, shape=weight.shape, dtypes=(np.bool_,))
            weight.mask = chosen if mask is None else chosen & mask
            seen.append(measure(network))
            weight.mask = mask
            weight.value = value
    finally:
        weight.mask = mask
        weight.value = value
    return seen


def _check_increasing(where: str, sparsities: Sequence[float]) -> None:
    for sparsity in sparsities:
        check_fraction(where, "a sparsity", sparsity)
    inside = [0.0, *sparsities]
    if len(inside) < 2 or any(b <= a for a, b in pairwise(inside)):
        advice = "0 is measured in any case"
        requirement = "be at least one, above 0 and increasing"
        raise bad_argument(where, "sparsities", requirement, list(sparsities), advice)
