"""How many weights do the MONK's problems need, by OBS, OBD and magnitude, with retraining and not?

Sigmoid networks of 58, 39 and 39 weights learn the three problems. Then weights go one by one, as
long as the training set is classified as well as before: every state of problems 1 and 2, and of
problem 3, where six labels are wrong, 114 of 122. A second time, the network is retrained when a
removal fails. A run takes a second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from refimpl.data import Monks, load_monks
from refimpl.experiments.full_batch import (
    damped_gauss_newton,
    sigmoid_network,
    train_full_batch,
)
from refimpl.nn import Network
from refimpl.prune import (
    Removal,
    inverse_hessian,
    kept_places,
    obs_removals,
    obs_trace,
    parameter_vector,
    plain_removals,
    surgeon,
)
from refimpl.saliency import magnitude, obd

# Hidden neurons, weight decay, and how many training states must be right.
PROBLEMS = {1: (3, 1e-4, 124), 2: (2, 1e-5, 169), 3: (2, 1e-3, 114)}
SETTINGS = tuple({"problem": problem} for problem in PROBLEMS)
SEEDS = tuple(range(20))
N_TRIES = 6  # with retraining: removals to try before it is over


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a network that solves the problem, prune copies of it in every way, and test them.

    Parameters
    ----------
    setting : dict
        ``problem``, 1, 2 or 3.
    seed : int
        Draws the first weights, again until a network solves the problem.

    Returns
    -------
    dict
        ``starts``: how often first weights were drawn. ``dense_weights`` and ``dense_test``, and
        for ``obs``, ``obd`` and ``magnitude`` without retraining, ``..._retrained`` with, and
        ``obs_one_hessian``, which never looks at the pruned network: ``..._weights``, how many
        are left with the biases, and ``..._test``, the accuracy on all 432 states.

    Raises
    ------
    KeyError
        If the setting names another problem.

    Notes
    -----
    The curvature is `damped_gauss_newton` of the network as it is; OBD takes its diagonal.
    """
    hidden, decay, needed = PROBLEMS[setting["problem"]]
    monks = load_monks(setting["problem"])
    x, y = monks.train_inputs.astype(float), monks.train_labels[:, np.newaxis].astype(float)
    train = partial(train_full_batch, x=x, y=y, weight_decay=decay)

    def fails(network: Network) -> bool:
        return int(np.sum((network.forward(x) > 0.5) == (y > 0.5))) < needed

    network, starts = _solve(hidden, train, fails, np.random.default_rng(seed))
    result = {"starts": starts} | _tested("dense", network, monks)
    for name, pruned in _every_way(network, x, fails, train):
        result |= _tested(name, pruned, monks)
    return result


def _solve(
    hidden: int,
    train: Callable[[Network], None],
    fails: Callable[[Network], bool],
    rng: np.random.Generator,
) -> tuple[Network, int]:
    """Train from new weights until a network solves the problem."""
    starts = 0
    while True:
        network, starts = sigmoid_network((17, hidden, 1), rng), starts + 1
        train(network)
        if not fails(network):
            return network, starts


def _every_way(
    network: Network,
    x: np.ndarray,
    fails: Callable[[Network], bool],
    train: Callable[[Network], None],
) -> Iterator[tuple[str, Network]]:
    """Pruned copies of one network, by name."""
    # [ways start]
    curvature = partial(damped_gauss_newton, x=x)

    def by_obd(network: Network) -> np.ndarray:
        return obd(parameter_vector(network), curvature(network).diagonal())

    def by_magnitude(network: Network) -> np.ndarray:
        return magnitude(parameter_vector(network))

    ways = {
        "obs": obs_removals(curvature),
        "obd": plain_removals(by_obd),
        "magnitude": plain_removals(by_magnitude),
    }
    for name, removals in ways.items():
        pruned, retrained = copy.deepcopy(network), copy.deepcopy(network)
        surgeon(pruned, removals, stop=fails)
        surgeon(retrained, removals, stop=fails, retrain=train, n_tries=N_TRIES)
        yield from ((name, pruned), (f"{name}_retrained", retrained))
    # [ways end]
    yield "obs_one_hessian", _by_one_hessian(network, curvature(network), fails)


def _by_one_hessian(
    network: Network, hessian: np.ndarray, fails: Callable[[Network], bool]
) -> Network:
    """The last network that works on the path of `obs`, which sees the first Hessian only."""
    trace = obs_trace(parameter_vector(network), inverse_hessian(hessian))
    path = iter(zip(trace.order, trace.weights[1:], strict=True))
    pruned = copy.deepcopy(network)
    surgeon(pruned, lambda _: (Removal(np.array([i]), w) for i, w in path), stop=fails)
    return pruned


def _tested(name: str, network: Network, monks: Monks) -> dict[str, Any]:
    says = network.forward(monks.test_inputs.astype(float))[:, 0] > 0.5
    right = float(np.mean(says == (monks.test_labels == 1)))
    return {f"{name}_weights": int(kept_places(network).sum()), f"{name}_test": right}
