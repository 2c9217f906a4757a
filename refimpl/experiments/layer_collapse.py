"""How far can VGG-16 be pruned before a layer is empty?

Tanaka et al. (2020) call the largest compression that leaves a weight in every layer critical. For
three of their five criteria neither data nor training is needed, only the shapes of VGG-16 and
random weights. A run takes seconds, SynFlow's minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from refimpl.masks import global_unstructured
from refimpl.nn import Conv2d, Flatten, Layer, Linear, MaxPool2d, Network, ReLU
from refimpl.prune import synflow_masks
from refimpl.saliency import magnitude, random

SETTINGS = tuple({"method": method} for method in ("random", "magnitude", "synflow"))
SEEDS = tuple(range(5))
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Draw weights, and find the largest compression that empties no layer.

    Parameters
    ----------
    setting : dict
        ``method``: ``"random"`` or ``"magnitude"``, one cut by one ranking over all layers, or
        ``"synflow"``, 100 steps. Smaller ``stages`` than `STAGES` make a quick trial.
    seed : int
        Draws the weights and the random scores.

    Returns
    -------
    dict
        ``critical``: log10 of the compression, weights before over weights after, the largest
        quarter that leaves a weight in each layer. ``most``: log10 of weights over layers, which
        no method can pass. ``kept``: the weights in each layer at the critical compression.

    Raises
    ------
    KeyError
        If the setting names another method.
    """
    draw, chance = np.random.default_rng(seed).spawn(2)
    network = vgg(setting.get("stages", STAGES), rng=draw)
    score = {"random": lambda w: random(w.shape, chance), "magnitude": magnitude}
    if setting["method"] == "synflow":
        return critical_compression(network, partial(synflow_masks, network, (3, 32, 32)))
    criterion = score[setting["method"]]
    scores = {name: criterion(w.value) for name, w in network.weights().items()}
    return critical_compression(network, partial(ranked_once, scores))


def critical_compression(
    network: Network, choose: Callable[[float], Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Search from the largest compression down for one that empties no layer.

    Parameters
    ----------
    network : Network
        Its weights are counted.
    choose : callable
        ``choose(sparsity)`` returns a mask for each weight, or raises FloatingPointError, as
        `refimpl.prune.synflow_masks` where the flow runs dry on the way.

    Returns
    -------
    dict
        ``critical``, ``most`` and ``kept``, see `run_once`.
    """
    sizes = [weight.size for weight in network.weights().values()]
    most = math.log10(sum(sizes) / len(sizes))
    for quarters in range(math.floor(4 * most), 0, -1):
        try:
            masks = choose(1 - 10 ** (-quarters / 4))
        except FloatingPointError:
            continue
        kept = [int(mask.sum()) for mask in masks.values()]
        if all(kept):
            return {"critical": quarters / 4, "most": most, "kept": kept}
    return {"critical": 0.0, "most": most, "kept": sizes}


def ranked_once(scores: Mapping[str, np.ndarray], sparsity: float) -> dict[str, np.ndarray]:
    """Cut once, by one ranking over all layers.

    Parameters
    ----------
    scores : mapping of str to ndarray of float
        Larger = keep.
    sparsity : float
        In ``[0, 1)``.

    Returns
    -------
    dict of str to ndarray of bool
        A mask for each.
    """
    return dict(zip(scores, global_unstructured(list(scores.values()), sparsity), strict=True))


def vgg(stages: Sequence[tuple[int, int]], *, rng: np.random.Generator) -> Network:
    """Build a VGG for images of 32x32 pixels: convolutions, pooling, and one linear layer.

    Parameters
    ----------
    stages : sequence of (int, int)
        Channels and number of 3x3 convolutions before each pooling, at most five.
    rng : numpy.random.Generator
        Draws the weights, He-normal.

    Returns
    -------
    Network
        With 100 outputs, without biases in the convolutions. For `STAGES`, 14,761,664 weights in
        14 layers: VGG-16 for CIFAR-100. Batch normalisation, which does nothing to the scores
        before training, is left out.
    """
    layers: dict[str, Layer] = {}
    c_in, side = 3, 32
    for stage, (c_out, depth) in enumerate(stages, start=1):
        for i in range(1, depth + 1):
            conv = Conv2d(c_in, c_out, 3, padding=1, rng=rng, bias=False)
            layers |= {f"conv{stage}_{i}": conv, f"relu{stage}_{i}": ReLU()}
            c_in = c_out
        layers[f"pool{stage}"], side = MaxPool2d(2), side // 2
    layers |= {"flatten": Flatten(), "fc": Linear(c_in * side**2, 100, rng=rng)}
    return Network(layers)
