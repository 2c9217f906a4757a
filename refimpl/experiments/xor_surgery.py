"""Which weight of a network that computes XOR can go, and who finds it?

Networks of 2-2-1 sigmoid neurons, 9 weights with their biases, learn the four patterns of XOR.
Then one weight goes, without retraining, by magnitude, by Optimal Brain Damage, by Optimal Brain
Surgeon, and any other, with and without the surgeon's update of the eight others. Does every
pattern stay right? A run of 30 networks takes half a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.experiments.full_batch import (
    damped_gauss_newton,
    sigmoid_network,
    train_full_batch,
)
from refimpl.nn import Network, as_arrays
from refimpl.prune import inverse_hessian, obs_update, parameter_vector
from refimpl.saliency import magnitude, obd, obs

PATTERNS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = np.array([[0.0], [1.0], [1.0], [0.0]])
HIDDEN_BIASES = (4, 5)  # behind the four weights of the hidden layer
SETTINGS = tuple({"weight_decay": decay} for decay in (1e-5, 1e-4, 3e-4))
SEEDS = tuple(range(10))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train networks, and remove one weight from each that has learned XOR, in every way.

    Parameters
    ----------
    setting : dict
        ``weight_decay``. Fewer ``networks`` than 30 make a quick trial.
    seed : int
        Draws the first weights.

    Returns
    -------
    dict
        ``solved``: how many networks got all four patterns right. Over these, the sums of what
        `survivals` returns.

    Raises
    ------
    KeyError
        If the setting has no weight decay.
    """
    solved = []
    for rng in np.random.default_rng(seed).spawn(setting.get("networks", 30)):
        network = sigmoid_network((2, 2, 1), rng)
        train_full_batch(network, PATTERNS, XOR, weight_decay=setting["weight_decay"])
        if is_right(network):
            solved.append(survivals(network))
    keys = solved[0] if solved else ()
    return {"solved": len(solved)} | {key: sum(s[key] for s in solved) for key in keys}


def survivals(network: Network) -> dict[str, float]:
    """Remove each of the weights in turn, and say which choices the network survives.

    Parameters
    ----------
    network : Network
        Computes XOR; comes back as it was.

    Returns
    -------
    dict of str to float
        1 if all patterns stay right and 0 if not, without and with the surgeon's update of the
        other weights: ``magnitude_plain`` and ``magnitude_updated`` for the weight that magnitude
        chooses, and so for ``obd`` and ``obs``. ``..._bias`` says whether the choice is a bias
        of a hidden neuron. ``chance_plain`` and ``chance_updated`` are the fractions of all nine
        weights that could go, ``any_plain`` and ``any_updated`` say whether there is one.

    Notes
    -----
    The curvature is `damped_gauss_newton` throughout; OBD takes its diagonal.
    """
    # [choices start]
    w, hessian = parameter_vector(network), damped_gauss_newton(network, PATTERNS)
    h_inv, places = inverse_hessian(hessian), np.arange(w.size)
    chosen = {
        "magnitude": magnitude(w).argmin(),
        "obd": obd(w, hessian.diagonal()).argmin(),
        "obs": obs(w, h_inv).argmin(),
    }
    ways = {
        "plain": [_works(network, np.where(places == i, 0, w)) for i in places],
        "updated": [_works(network, obs_update(w, h_inv, i)) for i in places],
    }
    # [choices end]
    network.load_state(as_arrays(w, network.named_parameters()))
    found: dict[str, float] = {f"{name}_bias": i in HIDDEN_BIASES for name, i in chosen.items()}
    for way, works in ways.items():
        found |= {f"{name}_{way}": works[i] for name, i in chosen.items()}
        found |= {f"chance_{way}": np.mean(works), f"any_{way}": any(works)}
    return {key: float(value) for key, value in found.items()}


def is_right(network: Network) -> bool:
    """Say whether a network has all four patterns of XOR on the right side of a half.

    Parameters
    ----------
    network : Network
        Of two inputs and one output.

    Returns
    -------
    bool
        True if it has.
    """
    return bool(np.all((network.forward(PATTERNS) > 0.5) == (XOR > 0.5)))


def _works(network: Network, w: np.ndarray) -> bool:
    network.load_state(as_arrays(w, network.named_parameters()))
    return is_right(network)
