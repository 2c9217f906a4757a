"""How fast should sparsity rise while a network trains? Sparsities as functions of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from refimpl.arrays import bad_argument, check_array, check_count, check_fraction
from refimpl.nn import Network
from refimpl.nn.network import check_network
from refimpl.prune.masking import apply_masks, layerwise_masks
from refimpl.prune.oneshot import ChooseMasks

Schedule = Callable[..., float]


def cubic_sparsity(
    step: int, *, final: float, t0: int, n: int, dt: int, initial: float = 0.0
) -> float:
    r"""Let the sparsity rise fast while there is much to remove, and ever slower towards the end.

    Parameters
    ----------
    step : int
        Training steps done, >= 0.
    final : float
        Sparsity from step ``t0 + n * dt`` on, in ``[0, 1)``.
    t0 : int
        Step at which the schedule begins, >= 0. Before it the sparsity is 0.
    n : int
        Number of stages, >= 1.
    dt : int
        Steps from one stage to the next, >= 1. In between the sparsity stays.
    initial : float
        Sparsity at step `t0`, in ``[0, final]``. With 0 the first weights go at ``t0 + dt``.

    Returns
    -------
    float
        Exactly `final` at the end and after it; never less than at an earlier step.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    With :math:`k = \min(\lfloor (t - t_0) / \Delta t \rfloor, n)` stages done at step :math:`t`,

    .. math:: s_t = s_f + (s_i - s_f) \left( 1 - \frac{k}{n} \right)^3 ,

    in exact arithmetic on the decimal numbers that `final` and `initial` print as, rounded once.
    Rounding keeps order, so the result never falls; :math:`k \le n` stops it, since the cube
    would change its sign and let the sparsity grow past `final`.

    References
    ----------
    Zhu and Gupta (2017), "To prune, or not to prune": the equation of the sparsity schedule, given
    there for :math:`t = t_0, t_0 + \Delta t, \dots, t_0 + n \Delta t`.

    Examples
    --------
    >>> [round(cubic_sparsity(step, final=0.9, t0=0, n=10, dt=1), 3) for step in range(11)]
    [0.0, 0.244, 0.439, 0.591, 0.706, 0.787, 0.842, 0.876, 0.893, 0.899, 0.9]
    """
    return _polynomial("cubic_sparsity", 3, step, final, initial, (t0, n, dt))


def linear_sparsity(
    step: int, *, final: float, t0: int, n: int, dt: int, initial: float = 0.0
) -> float:
    r"""Let the sparsity rise by the same amount in each stage.

    Parameters
    ----------
    step, final, t0, n, dt, initial
        As for `cubic_sparsity`.

    Returns
    -------
    float
        Exactly `final` at the end and after it; never less than at an earlier step.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    The equation of `cubic_sparsity` with exponent 1. Each stage removes as many weights as
    the one before, and so a larger and larger share of those that are left.

    Examples
    --------
    >>> [linear_sparsity(step, final=0.9, t0=10, n=3, dt=5) for step in (9, 14, 15, 20, 25, 99)]
    [0.0, 0.0, 0.3, 0.6, 0.9, 0.9]
    """
    return _polynomial("linear_sparsity", 1, step, final, initial, (t0, n, dt))


def constant_sparsity(step: int, *, final: float, t0: int) -> float:
    """Prune once, at a given step of the training.

    Parameters
    ----------
    step : int
        Training steps done, >= 0.
    final : float
        Sparsity from step `t0` on, in ``[0, 1)``.
    t0 : int
        Step of the cut, >= 0. Before it the sparsity is 0.

    Returns
    -------
    float
        0 or `final`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> [constant_sparsity(step, final=0.9, t0=10) for step in (9, 10, 11)]
    [0.0, 0.9, 0.9]
    """
    where = "constant_sparsity"
    check_fraction(where, "final", final)
    check_count(where, "step", step, 0)
    check_count(where, "t0", t0, 0)
    return float(str(final)) if step >= t0 else 0.0


class GradualPruning:
    """Prune a network while it trains, whenever a schedule rises.

    Its `after_step` goes to `refimpl.nn.fit`. The schedule is gone through once, here, so what is
    wrong with it is said before the training begins.

    Parameters
    ----------
    network : Network
        Changes in place, in `after_step`.
    sparsity : float
        What the schedule ends with, in ``[0, 1)``, as `choose` takes it.
    schedule : callable
        ``schedule(step, final=sparsity)`` is the sparsity after that step, such as
        ``functools.partial(cubic_sparsity, t0=100, n=10, dt=30)``. It must not fall.
    n_steps : int
        Steps of the training, >= 1: by the last, the schedule must have reached `sparsity`.
    choose : callable
        ``choose(network, sparsity)`` returns masks, as for `prune_one_shot`.

    Attributes
    ----------
    prunings : dict of int to float
        The steps after which weights go, in order, and the sparsity that each leads to.
    step : int
        Last step that `after_step` was told of; 0 at first.

    Raises
    ------
    TypeError, ValueError
        If `schedule` leaves ``[0, 1)``, falls, or is not at `sparsity` after `n_steps`; if
        another argument is out of range.

    Notes
    -----
    Counts are those of `choose` and of the sparsity of that step: nothing adds up from stage to
    stage. Where the schedule stays, the masks stay: to choose again for the same sparsity
    would find the same masks, because pruned weights rank last.

    Costs one call of `schedule` for each step, and one of `choose` for each pruning.

    References
    ----------
    Zhu and Gupta (2017). There the pruned weights are no longer updated; here they are zero and so
    is what the optimiser remembers of them (see `refimpl.nn.Optimizer`).

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np
    >>> from refimpl.nn import SGD, fit, mlp
    >>> from refimpl.prune import network_sparsity
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 2, 40)
    >>> network = mlp([8, 8, 2], rng=rng)
    >>> schedule = partial(linear_sparsity, t0=1, n=3, dt=2)
    >>> pruning = GradualPruning(network, 0.75, schedule=schedule, n_steps=8)
    >>> pruning.prunings
    {3: 0.25, 5: 0.5, 7: 0.75}
    >>> history = fit(network, SGD(network.parameters(), lr=0.1), x, labels, epochs=2,
    ...               batch_size=10, rng=rng, after_step=pruning.after_step)
    >>> network_sparsity(network)
    0.75
    """

    def __init__(
        self,
        network: Network,
        sparsity: float,
        *,
        schedule: Schedule,
        n_steps: int,
        choose: ChooseMasks = layerwise_masks,
    ) -> None:
        where = "GradualPruning"
        check_network(where, network)
        check_fraction(where, "sparsity", sparsity)
        check_count(where, "n_steps", n_steps, 1)
        self.prunings = _rises(where, schedule, sparsity, int(n_steps))
        self.step = 0
        self._network, self._choose = network, choose

    def after_step(self, step: int) -> None:
        """Prune to the sparsity of this step, if it is higher than that of the step before.

        Parameters
        ----------
        step : int
            1 in the first call, and one more in each. A training in several calls of
            `refimpl.nn.fit`, each of which counts from 1, has to count on.

        Raises
        ------
        ValueError
            If a step is left out or comes twice, or `choose` brings a pruned weight back.
            Then nothing has changed.
        TypeError, ValueError
            As `choose` and `apply_masks`.
        """
        where = "GradualPruning.after_step"
        if step != self.step + 1:
            advice = "call it after every step, and count on from one fit to the next"
            raise bad_argument(where, "step", f"be {self.step + 1}", step, advice)
        if step in self.prunings:
            masks = self._choose(self._network, self.prunings[step])
            _check_none_returns(where, self._network, masks)
            apply_masks(self._network, masks)
        self.step = int(step)


def _polynomial(
    where: str, power: int, step: int, final: float, initial: float, stages: tuple[int, int, int]
) -> float:
    t0, n, dt = stages
    check_fraction(where, "final", final)
    check_fraction(where, "initial", initial)
    if initial > final:
        raise bad_argument(where, "initial", f"be at most final = {final}", initial, "swap the two")
    for argument, count, low in (("step", step, 0), ("t0", t0, 0), ("n", n, 1), ("dt", dt, 1)):
        check_count(where, argument, count, low)
    if step < t0:
        return 0.0
    step, t0, n, dt = int(step), int(t0), int(n), int(dt)  # NumPy's may overflow
    done = min((step - t0) // dt, n)
    left = (1 - Fraction(done, n)) ** power
    s_i, s_f = Fraction(str(initial)), Fraction(str(final))
    return float(s_f + (s_i - s_f) * left)


def _rises(where: str, schedule: Schedule, sparsity: float, n_steps: int) -> dict[int, float]:
    """Steps at which a schedule rises, and to what; refuses one that falls or ends elsewhere."""
    rises: dict[int, float] = {}
    last = 0.0
    for step in range(1, n_steps + 1):
        target = schedule(step, final=sparsity)
        check_fraction(where, f"schedule({step})", target)
        if target < last:
            advice = "let it stay where it should not rise"
            raise bad_argument(where, f"schedule({step})", f"be at least {last}", target, advice)
        if target > last:
            rises[step] = last = float(target)
    if last != sparsity:
        advice = "end the schedule earlier, or train for more steps"
        argument = f"schedule({n_steps}), the last,"
        raise bad_argument(where, argument, f"be {sparsity}", last, advice)
    return rises


def _check_none_returns(where: str, network: Network, masks: Mapping[str, np.ndarray]) -> None:
    chosen = masks if isinstance(masks, Mapping) else {}  # apply_masks refuses anything else
    for name, weight in network.weights().items():
        if name in chosen and weight.mask is not None:
            mask, argument = chosen[name], f"masks[{name!r}]"
            check_array(where, argument, mask, shape=weight.shape, dtypes=(np.bool_,))
            n_back = int((mask & ~weight.mask).sum())
            if n_back:
                advice = "let choose rank pruned weights last, as layerwise_masks does"
                actual = f"{n_back} coming back"
                raise bad_argument(where, argument, "leave pruned weights out", actual, advice)
