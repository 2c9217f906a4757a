"""Can a network be trained sparse from the start? Masks that move while it learns: SET, RigL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

import numpy as np

from refimpl.arrays import bad_argument, check_count, check_fraction, check_rng
from refimpl.masks import erdos_renyi_kernel_counts
from refimpl.nn import Network, Optimizer, Parameter
from refimpl.nn.network import check_network
from refimpl.prune.drop_and_grow import (
    drop_smallest,
    drop_smallest_of_each_sign,
    grow_at_random,
    grow_by_gradient,
)
from refimpl.prune.dynamic import cosine_drop_fraction
from refimpl.prune.masking import Budget, budgeted_masks
from refimpl.saliency import random


def random_masks(
    network: Network,
    sparsity: float,
    *,
    rng: np.random.Generator,
    budget: Budget = erdos_renyi_kernel_counts,
    ignore: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Draw masks at random, with exactly as many weights in each layer as a budget grants it.

    Parameters
    ----------
    network : Network
        Is read, not changed; its values are not looked at.
    sparsity : float
        Fraction of all candidate weights that is zero afterwards, in ``[0, 1)``.
    rng : numpy.random.Generator
        Draws the weights that are kept, layer by layer.
    budget : callable
        ``budget(shapes, sparsity)``: ERK if not given, or such as
        `refimpl.masks.uniform_counts` or `refimpl.masks.erdos_renyi_counts`.
    ignore : collection of str
        Names of weights to leave dense; they do not count.

    Returns
    -------
    dict of str to ndarray of bool
        A new mask for each weight that is not ignored, for `apply_masks`.

    Raises
    ------
    TypeError, ValueError
        As `budgeted_masks`; if `rng` is no Generator.

    Notes
    -----
    A coin for each weight would give the sparsity on average only.

    References
    ----------
    Mocanu et al. (2018) draw ER graphs; Evci et al. (2020), section 3, compare uniform budgets,
    ER and ERK. Differs from both in the exact counts.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import mlp
    >>> network = mlp([784, 300, 100, 10], rng=np.random.default_rng(0))
    >>> masks = random_masks(network, 0.9, rng=np.random.default_rng(1))
    >>> [int(mask.sum()) for mask in masks.values()]
    [18714, 6906, 1000]
    """
    check_rng("random_masks", rng)
    return budgeted_masks(
        network, sparsity, budget=budget, saliency=lambda w: random(w.shape, rng), ignore=ignore
    )


class DynamicTraining(ABC):
    """Every few steps of a training, drop weights that the network uses and grow others.

    In each layer exactly as many come as go. A new weight is +0.0, and the optimiser knows
    nothing of it, also where it was dropped in the same update. Between updates the masks hold by
    themselves, and a pruned weight is exactly 0.

    Parameters
    ----------
    network : Network
        With masks, such as `apply_masks` sets from `random_masks`. Weights without a mask, or with
        one that keeps everything, stay dense.
    optimizer : Optimizer
        The one that `refimpl.nn.fit` is given; it moves every masked weight.
    delta_t : int
        Steps, not epochs, from one update to the next, >= 1.
    t_end : int
        No update at this step or later, >= 1.

    Attributes
    ----------
    updates : list of int
        Steps at which the masks were updated.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, nothing is masked, or a masked weight is none of the
        optimiser's.
    """

    def __init__(self, network: Network, optimizer: Optimizer, *, delta_t: int, t_end: int) -> None:
        where = type(self).__name__
        check_network(where, network)
        check_count(where, "delta_t", delta_t, 1)
        check_count(where, "t_end", t_end, 1)
        self._weights = _partly_masked(where, network)
        _check_moved(where, self._weights, optimizer)
        self._optimizer = optimizer
        self.delta_t, self.t_end = int(delta_t), int(t_end)
        self.updates: list[int] = []

    def updates_at(self, step: int) -> bool:
        """Whether the masks are updated at this step, counted from 1."""
        return step % self.delta_t == 0 and step < self.t_end

    @abstractmethod
    def _drop(self, weight: Parameter, step: int) -> np.ndarray:
        """The active weights that stay."""

    @abstractmethod
    def _grow(self, weight: Parameter, kept: np.ndarray, n_grow: int) -> np.ndarray:
        """What is active from now on: `kept` and `n_grow` more."""

    def _update(self, step: int) -> None:
        """Choose every new mask, and then set them: after an error, nothing has changed."""
        chosen = []
        for weight in self._weights.values():
            kept = self._drop(weight, step)
            n_grow = int(weight.mask.sum()) - int(kept.sum())
            chosen.append((weight, kept, self._grow(weight, kept, n_grow)))
        for weight, kept, mask in chosen:
            weight.mask = kept  # makes what is dropped 0, though it may return
            weight.mask = mask
            self._optimizer.forget(weight, ~kept)
        self.updates.append(step)


class RigL(DynamicTraining):
    r"""Drop the smallest weights, and grow those with the largest gradients (RigL).

    `after_backward` goes to `refimpl.nn.fit`. An update takes the place of the optimiser's step.

    Parameters
    ----------
    network, optimizer, delta_t, t_end
        As for `DynamicTraining`. In the paper `delta_t` is 100, and `t_end` at three quarters of
        the training.
    alpha : float
        Share of the active weights that an update at step 0 would drop, in ``[0, 1)``; it falls
        by `cosine_drop_fraction`.

    Raises
    ------
    TypeError, ValueError
        As `DynamicTraining`.

    Notes
    -----
    The gradient is that of the mini-batch at the step of the update, by every weight: what a
    dense layer computes anyway, and a sparse one only then.

    References
    ----------
    Evci et al. (2020), Algorithm 1. Their code, too, skips the optimiser's step at an update. It
    differs in letting a weight that is dropped and grown in one update keep its value and its
    momentum; here it is new.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import SGD, fit, mlp
    >>> from refimpl.prune import apply_masks, network_sparsity
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 2, 40)
    >>> network = mlp([8, 8, 2], rng=rng)
    >>> apply_masks(network, random_masks(network, 0.75, rng=rng))
    >>> sgd = SGD(network.parameters(), lr=0.1, momentum=0.9)
    >>> rigl = RigL(network, sgd, delta_t=5, t_end=18)
    >>> history = fit(network, sgd, x, labels, epochs=6, batch_size=10, rng=rng,
    ...               after_backward=rigl.after_backward)
    >>> rigl.updates, network_sparsity(network) >= 0.75
    ([5, 10, 15], True)
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        delta_t: int,
        t_end: int,
        alpha: float = 0.3,
    ) -> None:
        check_fraction("RigL", "alpha", alpha)
        super().__init__(network, optimizer, delta_t=delta_t, t_end=t_end)
        self.alpha = float(alpha)

    def after_backward(self, step: int) -> bool:
        """Update the masks if it is time, by the gradients that are there.

        Parameters
        ----------
        step : int
            From 1.

        Returns
        -------
        bool
            Whether it did: then `refimpl.nn.fit` takes no step.

        Raises
        ------
        ValueError
            If a gradient or a weight that is ranked is NaN; then no mask has changed.
        """
        due = self.updates_at(step)
        if due:
            self._update(step)
        return due

    def _drop(self, weight: Parameter, step: int) -> np.ndarray:
        fraction = cosine_drop_fraction(step, alpha=self.alpha, t_end=self.t_end)
        return drop_smallest(weight.value, weight.mask, fraction)

    def _grow(self, weight: Parameter, kept: np.ndarray, n_grow: int) -> np.ndarray:
        return grow_by_gradient(kept, weight.grad, n_grow)


class SET(DynamicTraining):
    r"""Drop the weights nearest to zero, of each sign, and grow others at random (SET).

    `after_step` goes to `refimpl.nn.fit`. An update follows the optimiser's step.

    Parameters
    ----------
    network, optimizer, delta_t, t_end
        As for `DynamicTraining`. In the paper an update follows each epoch.
    zeta : float
        Share of the positive weights that every update drops, and of the negative ones, in
        ``[0, 1)``.
    rng : numpy.random.Generator
        Draws what grows, layer by layer.

    Raises
    ------
    TypeError, ValueError
        As `DynamicTraining`; if `rng` is no Generator.

    References
    ----------
    Mocanu et al. (2018). In their experiments zeta is 0.3.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        delta_t: int,
        t_end: int,
        rng: np.random.Generator,
        zeta: float = 0.3,
    ) -> None:
        check_fraction("SET", "zeta", zeta)
        check_rng("SET", rng)
        super().__init__(network, optimizer, delta_t=delta_t, t_end=t_end)
        self.zeta = float(zeta)
        self._rng = rng

    def after_step(self, step: int) -> None:
        """Update the masks if it is time.

        Parameters
        ----------
        step : int
            From 1.

        Raises
        ------
        ValueError
            If an active weight is NaN; then no mask has changed.
        """
        if self.updates_at(step):
            self._update(step)

    def _drop(self, weight: Parameter, step: int) -> np.ndarray:
        return drop_smallest_of_each_sign(weight.value, weight.mask, self.zeta)

    def _grow(self, weight: Parameter, kept: np.ndarray, n_grow: int) -> np.ndarray:
        return grow_at_random(kept, n_grow, self._rng)


def _partly_masked(where: str, network: Network) -> dict[str, Parameter]:
    """The weights that have somewhere to grow."""
    weights = network.weights().items()
    masked = {name: w for name, w in weights if w.mask is not None and not w.mask.all()}
    if not masked:
        advice = "call apply_masks(network, random_masks(...)) first"
        raise bad_argument(where, "network", "have a pruned weight", "none", advice)
    return masked


def _check_moved(where: str, weights: dict[str, Parameter], optimizer: Optimizer) -> None:
    if not isinstance(optimizer, Optimizer):
        actual, advice = type(optimizer).__name__, "pass the one that fit is given"
        raise bad_argument(where, "optimizer", "be an Optimizer", actual, advice, kind=TypeError)
    moved = {id(parameter) for parameter in optimizer.parameters}
    strange = [name for name, weight in weights.items() if id(weight) not in moved]
    if strange:
        advice = "make it over network.parameters()"
        raise bad_argument(where, "optimizer", "move every masked weight", strange, advice)
