"""How much faster is LeNet-5 with fewer channels: masked, cut to a price, and width by width?

A forward pass of images of 28x28 pixels, one at a time and a hundred at once, on one thread. How
long it takes does not depend on the values of the weights, so nothing is trained. The clock is
that of the processor: a thread that waits for nobody takes no less, and what other programs do on
the machine is not counted. Run it with one job all the same: the caches are shared.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from refimpl.arrays import bad_argument
from refimpl.measure import compare, network_cost, speedup
from refimpl.nn import Network, lenet5
from refimpl.prune import (
    channel_scores,
    layerwise_channels,
    mask_channels,
    prune_channels_to_cost,
    remove_channels,
)

IMAGE_SHAPE = (1, 28, 28)
FRACTIONS = {"half": 0.5, "quarter": 0.25, "tenth": 0.1}
CONV2_WIDTHS = tuple(range(8, 51))
SETTINGS = tuple(
    {"networks": networks, "batch": batch}
    for networks, batch in product(("cuts", "widths of conv2"), (1, 100))
)
SEEDS = (0, 1, 2)
REPEATS = 15


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Time forward passes of LeNet-5 and of what is left of it.

    Parameters
    ----------
    setting : dict
        ``networks``, "cuts" or "widths of conv2", and ``batch``, the images of a pass. Fewer
        ``repeats`` than 15 make a quick trial.
    seed : int
        Draws weights and images.

    Returns
    -------
    dict
        For each network ``<name>_seconds``, the median of a pass by the processor's clock;
        ``<name>_speedup`` over the whole LeNet-5, the median of the ratios round by round;
        ``<name>_flops`` of one image, and the ``<name>_widths`` of its four layers. The cuts are
        ``dense``, ``masked`` (half of each group's channels are zero), ``half``, ``quarter`` and
        ``tenth`` of the FLOPs, and ``half_in_eights``, whose widths are multiples of 8. Of the
        second convolution alone, the widths 8 to 50 are ``conv2_8`` to ``conv2_50``, after
        ``dense``.

    Raises
    ------
    KeyError
        If the setting lacks a key, or names other networks.
    ValueError
        If the masked network does not compute what the cut one does.
    """
    rng = np.random.default_rng(seed)
    network = lenet5(rng=rng)
    x = rng.standard_normal((setting["batch"], *IMAGE_SHAPE), dtype=np.float32)
    make = {"cuts": _cuts, "widths of conv2": _conv2_widths}[setting["networks"]]
    networks = {"dense": network, **make(network, x)}
    passes = {name: partial(one.forward, x) for name, one in networks.items()}
    repeats = setting.get("repeats", REPEATS)
    times = compare(passes, repeats=repeats, clock=time.process_time)
    result: dict[str, Any] = {}
    for name, one in networks.items():
        result |= {
            f"{name}_seconds": times[name].median,
            f"{name}_speedup": speedup(times["dense"], times[name]).median,
            f"{name}_flops": _flops(one),
            f"{name}_widths": [len(weight.value) for weight in one.weights().values()],
        }
    return result


def _cuts(network: Network, x: np.ndarray) -> dict[str, Network]:
    """LeNet-5 with half its channels masked, and cut to fractions of its FLOPs."""
    keeps = layerwise_channels(channel_scores(network), 0.5)
    masked = mask_channels(network, keeps)
    _check_same(masked.forward(x), remove_channels(network, keeps).forward(x))
    cut = partial(prune_channels_to_cost, network, cost=_flops)
    most = {name: fraction * _flops(network) for name, fraction in FRACTIONS.items()}
    in_eights = partial(layerwise_channels, multiple_of=8)
    return {
        "masked": masked,
        **{name: cut(flops) for name, flops in most.items()},
        "half_in_eights": cut(most["half"], choose=in_eights),
    }


def _conv2_widths(network: Network, _x: np.ndarray) -> dict[str, Network]:
    """LeNet-5 with every number of channels of its second convolution."""
    keeps = {f"conv2_{width}": np.arange(50) < width for width in CONV2_WIDTHS}
    return {name: remove_channels(network, {"conv2": keep}) for name, keep in keeps.items()}


def _flops(network: Network) -> int:
    return network_cost(network, IMAGE_SHAPE).flops


def _check_same(masked: np.ndarray, cut: np.ndarray) -> None:
    if not np.allclose(masked, cut, rtol=1e-3, atol=1e-3):
        error = float(np.abs(masked - cut).max())
        advice = "do not time a network that computes something else"
        requirement = "have the outputs of the masked network"
        raise bad_argument("channel_latency", "the cut network", requirement, error, advice)
