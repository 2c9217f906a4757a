"""How much of a network can go at once, if each layer repairs its own outputs?

A 64-300-100-10 network learns the 8x8 digits and loses most of its weights in one cut, layer by
layer, in ways that share the counts and differ in mask and repair. Test accuracy is taken right
after the cut, and after a short retraining. A run takes seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.experiments.layer_sensitivity import train
from refimpl.masks import count_kept, unstructured
from refimpl.nn import Network, evaluate, mlp
from refimpl.prune import (
    damp,
    exact_obs,
    input_hessian,
    inverse_hessian,
    layer_inputs,
    layerwise_obs,
    least_squares_refit,
    prune_layers,
)
from refimpl.prune.exact_obs import without_dead_inputs

SPARSITIES = (0.7, 0.85, 0.92)
OUTPUT_SPARSITY = 0.74  # of the last layer, at most
SETTINGS = ({"epochs": 20},)
SEEDS = tuple(range(10))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, cut it in every way to every sparsity, and retrain what is left.

    Parameters
    ----------
    setting : dict
        ``epochs`` of the first training; a tenth of them, rounded, follow each cut.
    seed : int
        Draws the split of the digits, the first weights and the order of the examples.

    Returns
    -------
    dict
        As `compare_ways`.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 50, as in `layer_sensitivity`. All training images
    calibrate.
    """
    split, init, order, again = np.random.default_rng(seed).spawn(4)
    digits = standardize(load_digits(rng=split))
    network, same_order = mlp((64, 300, 100, 10), rng=init), int(again.integers(2**63))
    train(network, digits, setting["epochs"], order)

    def retrain(pruned: Network) -> None:
        epochs = round(setting["epochs"] / 10)
        train(pruned, digits, epochs, np.random.default_rng(same_order))

    return compare_ways(network, digits, SPARSITIES, retrain)


def compare_ways(
    network: Network,
    data: Dataset,
    sparsities: Sequence[float],
    retrain: Callable[[Network], None],
) -> dict[str, Any]:
    """Cut copies of one network in every way of `WAYS`, and retrain them.

    Parameters
    ----------
    network : Network
        Trained; it is left as it is.
    data : Dataset
        Its training images calibrate, its test images test.
    sparsities : sequence of float
        Of each layer but the last, which loses `OUTPUT_SPARSITY` at most.
    retrain : callable
        ``retrain(pruned)`` goes on training.

    Returns
    -------
    dict
        Test accuracies in ``[0, 1]``: ``dense``, and for each way lists with an entry for each
        sparsity, ``..._cut`` and ``..._tuned``; and ``..._kept``, weights and biases that are
        not 0 after the cut.
    """
    batches = np.array_split(data.train_images, 1 + len(data.train_images) // 1000)
    test = partial(evaluate, x=data.test_images, labels=data.test_labels)
    result: dict[str, Any] = {"dense": test(network).accuracy}
    for name, way in WAYS.items():
        cut, tuned, kept = [], [], []
        for sparsity in sparsities:
            pruned = copy.deepcopy(network)
            way(pruned, batches, sparsity)
            cut.append(test(pruned).accuracy)
            kept.append(sum(np.count_nonzero(p.value) for p in pruned.parameters()))
            retrain(pruned)
            tuned.append(test(pruned).accuracy)
        result |= {f"{name}_cut": cut, f"{name}_tuned": tuned, f"{name}_kept": kept}
    return result


def magnitude_mask(w: np.ndarray, _hessian: np.ndarray, *, sparsity: float) -> np.ndarray:
    """Keep the largest weights of the layer as they are; the Hessian is not looked at."""
    return np.where(unstructured(np.abs(w), sparsity), w, 0)


def one_ranking(w: np.ndarray, hessian: np.ndarray, *, sparsity: float) -> np.ndarray:
    """Prune by `layerwise_obs`, the weights of dead inputs first."""
    w, damped = without_dead_inputs("one_ranking", w, hessian, damping=0.01)
    n_remove = w.size - count_kept(w.size, sparsity)
    return layerwise_obs(w, inverse_hessian(damped), n_remove)


def refitted(
    w: np.ndarray, hessian: np.ndarray, *, sparsity: float, choose: Callable[..., np.ndarray]
) -> np.ndarray:
    """Repair the mask of another way exactly."""
    mask = choose(w, hessian, sparsity=sparsity) != 0
    return least_squares_refit(w, mask, damp(hessian))


def layer_by_layer(
    network: Network, batches: list[np.ndarray], sparsity: float, *, compress: Callable
) -> None:
    """Prune all layers in order, the last one less.

    Parameters
    ----------
    network : Network
        Changes in place.
    batches : list of ndarray
        Calibration images.
    sparsity : float
        Of each layer; of the last, `OUTPUT_SPARSITY` at most.
    compress : callable
        ``compress(w, hessian, sparsity=sparsity) -> new_w``.
    """
    *hidden, output = network.weights()
    at_most = min(sparsity, OUTPUT_SPARSITY)
    prune_layers(network, batches, partial(compress, sparsity=sparsity), ignore=[output])
    prune_layers(network, batches, partial(compress, sparsity=at_most), ignore=hidden)


def with_biases(network: Network, batches: list[np.ndarray], sparsity: float) -> None:
    """Prune by `layerwise_obs` with biases as a last column: in the same ranking, for the count.

    Parameters
    ----------
    network : Network
        Of linear layers with biases; changes in place.
    batches : list of ndarray
        Calibration images.
    sparsity : float
        As for `layer_by_layer`, in units of a layer's weights.
    """
    *_, output = network.weights()
    for name, weight in network.weights().items():
        bias = network.named_parameters()[name.removesuffix("weight") + "bias"]
        wb = np.column_stack([weight.value, bias.value])
        rows = layer_inputs(network, name, batches)
        hessian = input_hessian(np.column_stack([x, np.ones_like(x[:, :1])]) for x in rows)
        at_most = min(sparsity, OUTPUT_SPARSITY) if name == output else sparsity
        n_remove = weight.size - count_kept(weight.size, at_most)
        wb, damped = without_dead_inputs("with_biases", wb, hessian, damping=0.01)
        new_wb = layerwise_obs(wb, inverse_hessian(damped), n_remove)
        for parameter, value in ((weight, new_wb[:, :-1]), (bias, new_wb[:, -1])):
            parameter.value, parameter.mask = value, value != 0


WAYS: dict[str, Callable[[Network, list[np.ndarray], float], None]] = {
    "magnitude": partial(layer_by_layer, compress=magnitude_mask),
    "magnitude_refit": partial(layer_by_layer, compress=partial(refitted, choose=magnitude_mask)),
    "layerwise_obs": partial(layer_by_layer, compress=one_ranking),
    "layerwise_obs_biases": with_biases,
    "layerwise_obs_refit": partial(layer_by_layer, compress=partial(refitted, choose=one_ranking)),
    "exact_obs": partial(layer_by_layer, compress=exact_obs),
}
