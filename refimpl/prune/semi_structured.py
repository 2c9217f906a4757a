"""How does a network become N:M and stay right? Train twice, or let the mask learn as well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_positive, xp_of
from refimpl.nn import Network
from refimpl.prune.granularity import Rule, shaped_masks
from refimpl.prune.masking import Saliency, apply_masks, candidate_weights
from refimpl.saliency import magnitude

Masks = Mapping[str, np.ndarray]


def train_prune_train(
    network: Network,
    rule: Rule,
    *,
    train: Callable[[Network], object],
    saliency: Saliency = magnitude,
    ignore: Collection[str] = (),
) -> None:
    """Train a dense network, prune it once, and repeat the whole training with the mask fixed.

    Parameters
    ----------
    network : Network
        Changes in place.
    rule : callable
        ``rule(saliency) -> mask``, such as ``functools.partial(n_of_m, n=2, m=4)``; any rule that
        `shaped_masks` takes.
    train : callable
        ``train(network)`` trains the network in place, starting from its weights. It is called
        twice and does the same twice: a new optimiser, the schedule from its first step on.
    saliency : callable
        ``saliency(w)`` scores an array of weights, larger = keep.
    ignore : collection of str
        Names of weights to leave dense.

    Raises
    ------
    TypeError, ValueError
        As `shaped_masks`, after the first training.

    Notes
    -----
    Costs two trainings. Of a network that is trained already, the second half is
    ``apply_masks(network, shaped_masks(network, rule))`` and ``train(network)``.

    References
    ----------
    Mishra et al. (2021), "Accelerating sparse deep neural networks", and the guide to ASP in
    NVIDIA's apex: the second training has the learning rates, the schedule and the number of
    epochs of the first.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.masks import n_of_m
    >>> from refimpl.nn import mlp
    >>> from refimpl.prune import network_sparsity
    >>> network, seen = mlp([8, 4, 2], rng=np.random.default_rng(0)), []
    >>> train_prune_train(network, partial(n_of_m, n=2, m=4),
    ...                   train=lambda network: seen.append(network_sparsity(network)))
    >>> seen
    [0.0, 0.5]
    """
    train(network)  # dense
    masks = shaped_masks(network, rule, saliency=saliency, ignore=ignore)
    apply_masks(network, masks)
    train(network)  # sparse, from the first step of the schedule on


class StraightThrough:
    r"""Train dense weights of which the network uses only those in a mask that is chosen anew.

    Between two steps the network holds the masked weights, so every pass and every evaluation is
    one of the sparse network. The two hooks go to `refimpl.nn.fit`: the first puts the dense
    weights in place for the optimiser to move, the second masks them again. `finish` makes the
    last mask permanent.

    Parameters
    ----------
    network : Network
        Dense; masked at once. A mask that a weight has already stays, and only grows tighter.
    rule : callable
        ``rule(saliency) -> mask``, such as ``functools.partial(n_of_m, n=2, m=4)``.
    pruned_decay : float
        :math:`\lambda \ge 0`: how strongly pruned weights are pulled towards 0. Above 0 this is
        SR-STE; 0 is the plain straight-through estimator, whose masks may flip for ever.
    saliency : callable
        ``saliency(w)`` scores an array of dense weights, larger = keep.
    ignore : collection of str
        Names of weights to leave dense.

    Attributes
    ----------
    masks : dict of str to ndarray of bool
        Of the present step, True = kept; not to be written to.
    flips : list of int
        For each step, how many entries of all masks it changed.

    Raises
    ------
    TypeError, ValueError
        If `pruned_decay` is negative, or as `shaped_masks`.

    Notes
    -----
    With dense weights :math:`W`, mask :math:`m(W)`, :math:`\tilde W = m \odot W` and gradient
    :math:`g(\tilde W)`, the optimiser is given

    .. math:: g(\tilde W) + \lambda \, (1 - m) \odot W

    as the gradient *at W*: what is pruned is moved by a gradient that it had no part in. The
    optimiser sees :math:`W`, so momentum, Adam and weight decay do to it what they do to the
    weights of a dense network, to the bit. Clipping counts the second term in.

    A pruned weight under a constant gradient :math:`g` drifts to :math:`-g / \lambda` and no
    further, so it comes back only if that is larger than a kept one.

    Beside the dense gradient, which a fixed mask would not need, a step costs the rule and three
    flops a weight. The pruned weights are held here: as many bytes again as the weights, and one
    byte a weight for the mask.

    If training stops with an error between the hooks, the network is left with the dense weights.
    Then make a new object of it.

    References
    ----------
    Zhou et al. (2021), "Learning N:M fine-grained structured sparse neural networks from
    scratch", SR-STE; lambda = 2e-4 is the default of their code, where the term is part of the
    backward pass, as here. Bengio, Leonard and Courville (2013), "Estimating or propagating
    gradients through stochastic neurons", for the straight-through estimator.

    Hu et al. (2024), "Accelerating transformer pre-training with 2:4 sparsity", for the share of
    entries that a step flips.

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.masks import n_of_m
    >>> from refimpl.nn import SGD, fit, mlp
    >>> from refimpl.prune import network_sparsity
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 2, 40)
    >>> network = mlp([8, 8, 2], rng=rng)
    >>> sparse = StraightThrough(network, partial(n_of_m, n=2, m=4))
    >>> history = fit(network, SGD(network.parameters(), lr=0.5), x, labels, epochs=3,
    ...               batch_size=10, rng=rng, after_backward=sparse.after_backward,
    ...               after_step=sparse.after_step)
    >>> sparse.finish()
    >>> network_sparsity(network), len(sparse.flips)
    (0.5, 12)
    """

    def __init__(
        self,
        network: Network,
        rule: Rule,
        *,
        pruned_decay: float = 2e-4,
        saliency: Saliency = magnitude,
        ignore: Collection[str] = (),
    ) -> None:
        where = "StraightThrough"
        check_positive(where, "pruned_decay", pruned_decay, zero_allowed=True)
        self.pruned_decay = float(pruned_decay)
        self.flips: list[int] = []
        self._choose = partial(shaped_masks, network, rule, saliency=saliency, ignore=ignore)
        self._weights = candidate_weights(where, network, ignore)
        self._hide()

    def after_backward(self, step: int) -> None:
        """Put the dense weights in place, and pull at what was pruned.

        Parameters
        ----------
        step : int
            Not looked at.

        Raises
        ------
        RuntimeError
            If the dense weights are in place: the pass was none of the sparse network.
        ValueError
            If a weight has no gradient yet.
        """
        self._check_turn("after_backward", masked=True)
        self._check_gradients_exist()
        for name, weight in self._weights.items():
            pruned = self._pruned.pop(name)
            weight.grad = weight.grad + self.pruned_decay * pruned
            weight.value += pruned

    def after_step(self, step: int) -> None:
        """Choose the masks of the dense weights that the optimiser has moved, and apply them.

        Parameters
        ----------
        step : int
            Not looked at.

        Raises
        ------
        RuntimeError
            If the dense weights are not in place: what moved were the masked ones.
        TypeError, ValueError
            As the rule, whose sentence about NaN is the first to be heard of a divergence.
        """
        self._check_turn("after_step", masked=False)
        before = self.masks
        self._hide()
        self.flips.append(mask_flips(before, self.masks))

    def finish(self) -> None:
        """Set the masks of the last step on the weights; the dense weights are forgotten.

        Raises
        ------
        RuntimeError
            If the dense weights are in place.
        """
        self._check_turn("finish", masked=True)
        for name, weight in self._weights.items():
            weight.mask = self.masks[name]
        self._pruned = {}

    def dense(self) -> dict[str, np.ndarray]:
        """Copy the dense weights by name, what the masks hide included."""
        hidden = self._pruned
        return {name: weight.value + hidden.get(name, 0) for name, weight in self._weights.items()}

    def _hide(self) -> None:
        """Choose masks, and take out of the network what they prune."""
        self.masks = self._choose()
        self._pruned = {}  # empty while the dense weights are in place
        for name, weight in self._weights.items():
            mask, zero = self.masks[name], weight.dtype.type(0)
            self._pruned[name] = xp_of(mask).where(mask, zero, weight.value)
            xp_of(mask).copyto(weight.value, zero, where=~mask)

    def _check_turn(self, method: str, *, masked: bool) -> None:
        if masked is not bool(self._pruned):
            advice = "pass both hooks to fit, and make a new object after finish or an error"
            states = ("the dense weights", "masked weights")
            where, argument = f"StraightThrough.{method}", "the network"
            requirement, actual = f"hold {states[masked]}", states[not masked]
            raise bad_argument(where, argument, requirement, actual, advice, kind=RuntimeError)

    def _check_gradients_exist(self) -> None:
        missing = [name for name, weight in self._weights.items() if weight.grad is None]
        if missing:
            where, argument = "StraightThrough.after_backward", "every weight"
            advice = "call network.forward and network.backward first"
            actual = f"none for {missing}"
            raise bad_argument(where, argument, "have a gradient", actual, advice)


def mask_flips(before: Masks, after: Masks) -> int:
    """Count the entries in which two sets of masks differ.

    Parameters
    ----------
    before, after : mapping of str to ndarray of bool
        Of the same names and shapes.

    Returns
    -------
    int
        Entries pruned in one and kept in the other. Where both keep equally many, half of them
        went and half of them came.

    Raises
    ------
    TypeError, ValueError
        If names or shapes differ, or a mask is not boolean.

    References
    ----------
    Zhou et al. (2021) define sparse architecture divergence (SAD) to measure such changes. Hu et
    al. (2024) divide those of one step by the number of weights, and call it the flip rate.

    Examples
    --------
    >>> import numpy as np
    >>> mask_flips({"w": np.array([True, False])}, {"w": np.array([False, True])})
    2
    """
    where = "mask_flips"
    if set(before) != set(after):
        actual, advice = list(after), "compare masks of the same network"
        raise bad_argument(where, "after", f"have the names {list(before)}", actual, advice)
    for name, mask in before.items():
        check_array(where, f"before[{name!r}]", mask, dtypes=(np.bool_,))
        argument = f"after[{name!r}]"
        check_array(where, argument, after[name], shape=mask.shape, dtypes=(np.bool_,))
    return sum(int((mask ^ after[name]).sum()) for name, mask in before.items())
