"""How long should a step be, early in training and late? Learning rates as functions of the step.

With everything but the step filled in, such as ``functools.partial(cosine_lr, lr=0.1,
n_steps=900)``, they are schedules for `refimpl.nn.fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from refimpl.arrays import bad_argument, check_count, check_positive


def cosine_lr(
    step: int, *, lr: float, n_steps: int, n_warmup: int = 0, lowest: float = 0.0
) -> float:
    r"""Let the learning rate fall along half a cosine, after a linear warm-up.

    Parameters
    ----------
    step : int
        The step about to be taken, in [1, n_steps].
    lr : float
        The highest learning rate, > 0.
    n_steps : int
        Steps of the whole run, warm-up included, >= 1.
    n_warmup : int
        Steps before the first at `lr`, in [0, n_steps): they climb to it in equal parts.
    lowest : float
        In [0, lr]: what the cosine falls towards. The step after the last would have it.

    Returns
    -------
    float
        The step's learning rate, never 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range: a longer run than `n_steps` stops with a sentence
        rather than with a rate that nobody chose.

    Notes
    -----
    With :math:`w` steps of warm-up out of :math:`n`, step :math:`t` has

    .. math::

        \eta_t = \begin{cases}
        \eta \, t / (w + 1) & t \le w, \\
        \eta_{\min} + \tfrac12 (\eta - \eta_{\min})
        \left( 1 + \cos \pi \frac{t - 1 - w}{n - w} \right) & t > w .
        \end{cases}

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    equation 5, with one period and so without a restart.

    Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2, for the linear warm-up.

    Examples
    --------
    >>> [round(cosine_lr(step, lr=1.0, n_steps=4), 3) for step in (1, 2, 3, 4)]
    [1.0, 0.854, 0.5, 0.146]
    >>> [round(cosine_lr(step, lr=1.0, n_steps=4, n_warmup=2), 3) for step in (1, 2, 3, 4)]
    [0.333, 0.667, 1.0, 0.5]
    """
    where = "cosine_lr"
    check_positive(where, "lr", lr)
    check_count(where, "n_steps", n_steps, 1)
    check_count(where, "n_warmup", n_warmup, 0, n_steps - 1)
    check_count(where, "step", step, 1, n_steps)
    check_positive(where, "lowest", lowest, zero_allowed=True)
    if lowest > lr:
        raise bad_argument(where, "lowest", f"be at most lr = {lr}", lowest, "swap the two")
    step, n_steps, n_warmup = int(step), int(n_steps), int(n_warmup)  # NumPy's may overflow
    if step <= n_warmup:
        return lr * step / (n_warmup + 1)
    passed = (step - 1 - n_warmup) / (n_steps - n_warmup)  # in [0, 1)
    # (1 + cos(pi * passed)) / 2, written so that a long run does not round it to 0.
    share = math.cos(math.pi / 2 * passed) ** 2
    return lr * share + lowest * (1 - share)


def step_lr(step: int, *, lr: float, milestones: Sequence[int], factor: float) -> float:
    r"""Multiply the learning rate by a factor after each of some numbers of steps.

    Parameters
    ----------
    step : int
        The step about to be taken, >= 1.
    lr : float
        Learning rate up to the first milestone, > 0.
    milestones : sequence of int
        Increasing, each >= 1: with 600 among them, step 600 is the last before a drop.
    factor : float
        > 0, usually 0.1.

    Returns
    -------
    float
        The step's learning rate.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the milestones do not increase.

    Notes
    -----
    :math:`\eta_t = \eta f^k`, where :math:`k` is the number of milestones below :math:`t`.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, section
    4.2: from 0.1, a tenth after 32 000 steps, and a hundredth after 48 000.

    Examples
    --------
    >>> [step_lr(step, lr=0.5, milestones=[2, 3], factor=0.5) for step in (1, 2, 3, 4)]
    [0.5, 0.5, 0.25, 0.125]
    """
    check_count("step_lr", "step", step, 1)
    check_positive("step_lr", "lr", lr)
    check_positive("step_lr", "factor", factor)
    milestones = _checked_milestones(milestones)
    return lr * factor ** sum(milestone < step for milestone in milestones)


def _checked_milestones(milestones: Any) -> list[int]:
    where, argument, advice = "step_lr", "milestones", "list steps, such as [600, 800]"
    if not isinstance(milestones, Iterable):
        actual = repr(milestones)
        raise bad_argument(where, argument, "be a sequence", actual, advice, kind=TypeError)
    milestones = list(milestones)  # an iterator has its steps once only
    for position, milestone in enumerate(milestones):
        check_count(where, f"{argument}[{position}]", milestone, 1)
    if any(earlier >= later for earlier, later in pairwise(milestones)):
        raise bad_argument(where, argument, "increase", milestones, advice)
    return milestones
