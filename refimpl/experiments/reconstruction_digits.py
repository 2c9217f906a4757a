"""Every criterion on the layers of trained digits networks: output error, loss and accuracy.

`refimpl.experiments.reconstruction` on layers with real inputs. All layers of a network are pruned
to one sparsity by one method, each with the inputs that it had in the dense network, and nothing
is retrained. A run takes seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits
from refimpl.experiments.layer_sensitivity import NETWORKS, train
from refimpl.experiments.reconstruction import Layer, candidates, relative_error, versions
from refimpl.nn import Network, evaluate, example_gradients, levenberg_marquardt_diagonal
from refimpl.prune import input_hessian, layer_inputs

SPARSITIES = (0.5, 0.8, 0.9)
BLOCK_SIZES = (16, 128)
SETTINGS = tuple(
    {"network": name, "sparsity": sparsity}
    for name in ("300-100", "small_lenet")
    for sparsity in SPARSITIES
)
SEEDS = tuple(range(10))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, prune it by every method without retraining, and measure.

    Parameters
    ----------
    setting : dict
        ``network``, a name among those of `refimpl.experiments.layer_sensitivity`, and
        ``sparsity``. Fewer ``epochs`` than 20 make a quick trial.
    seed : int
        Draws the split of the digits, the first weights, the order of the examples and the
        random mask.

    Returns
    -------
    dict
        As `compare`, with the first 500 training images for calibration.

    Raises
    ------
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam, learning rate 1e-3, mini-batches of 50; pixels in [0, 1], so that the corners, which no
    digit reaches, are dead inputs.
    """
    split, init, order, rng = np.random.default_rng(seed).spawn(4)
    digits = load_digits(rng=split)
    network = NETWORKS[setting["network"]](rng=init)
    train(network, digits, setting.get("epochs", 20), order)
    return compare(network, digits, setting["sparsity"], rng, n_calibration=500)


def compare(
    network: Network,
    data: Dataset,
    sparsity: float,
    rng: np.random.Generator,
    *,
    n_calibration: int,
) -> dict[str, Any]:
    """Prune every layer by every method, in three versions each.

    Parameters
    ----------
    network : Network
        Trained, of linear layers and convolutions; it is left as it is.
    data : Dataset
        The first training images and their labels calibrate; the test images measure.
    sparsity : float
        Of each layer.
    rng : numpy.random.Generator
        Draws the random masks.
    n_calibration : int
        Images to calibrate with.

    Returns
    -------
    dict
        ``dense, accuracy`` and ``dense, loss`` on the test images; the same for each method and
        version of `refimpl.experiments.reconstruction`, such as ``"Wanda: mask, accuracy"``; and
        ``"Wanda: mask, seen"`` and ``"..., new"``, the mean over the layers of
        `relative_error` with the calibration images and with the test images.
    """
    layers = layers_of(
        network, data.train_images[:n_calibration], data.train_labels[:n_calibration]
    )
    pruned: dict[str, dict[str, np.ndarray]] = {}  # "name: version" -> weights by name
    for name, layer in layers.items():
        found = candidates(layer, {"sparsity": sparsity}, rng, block_sizes=BLOCK_SIZES)
        for method, version, w in versions(layer, found):
            pruned.setdefault(f"{method}: {version}", {})[name] = w
    result = _tested("dense", network, data)
    new = {name: input_hessian(layer_inputs(network, name, [data.test_images])) for name in layers}
    for key, weights in pruned.items():
        result |= _tested(key, _with_weights(network, weights), data)
        for inputs, hessians in (("seen", {k: v.hessian for k, v in layers.items()}), ("new", new)):
            errors = [relative_error(layers[k].w, w, hessians[k]) for k, w in weights.items()]
            result[f"{key}, {inputs}"] = round(float(np.mean(errors)), 6)
    return result


def layers_of(network: Network, x: np.ndarray, labels: np.ndarray) -> dict[str, Layer]:
    """Gather what the criteria look at, for every layer of a network.

    Parameters
    ----------
    network : Network
        Of layers that `refimpl.nn.levenberg_marquardt_diagonal` takes.
    x, labels : ndarray
        Calibration examples.

    Returns
    -------
    dict of str to Layer
        By the names of the weights.
    """
    dw, fisher = mean_gradients(network, x, labels)
    curvature = levenberg_marquardt_diagonal(network, x)
    return {
        name: Layer(
            _as_matrix(weight.value),
            input_hessian(layer_inputs(network, name, [x])),
            *(_as_matrix(array[name]) for array in (dw, fisher, curvature)),
        )
        for name, weight in network.weights().items()
    }


def mean_gradients(
    network: Network, x: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Average the gradients of single examples, and their squares, 50 examples at a time.

    Parameters
    ----------
    network : Network
        Its gradients are overwritten.
    x, labels : ndarray
        A multiple of 50 examples.

    Returns
    -------
    dict of str to ndarray, dict of str to ndarray
        Means of g and of g squared over the examples, for each weight.
    """
    names, n_batches = network.weights(), len(x) // 50
    mean, square = (dict.fromkeys(names, 0.0) for _ in range(2))
    for images, answers in zip(np.split(x, n_batches), np.split(labels, n_batches), strict=True):
        gradients = example_gradients(network, images, answers)
        for name in names:
            mean[name] = mean[name] + gradients[name].mean(axis=0) / n_batches
            square[name] = square[name] + np.square(gradients[name]).mean(axis=0) / n_batches
    return mean, square


def _with_weights(network: Network, weights: Mapping[str, np.ndarray]) -> Network:
    """Copy a network, with other weights."""
    changed = copy.deepcopy(network)
    for name, weight in changed.weights().items():
        weight.value = weights[name].reshape(weight.shape).astype(weight.dtype)
    return changed


def _tested(key: str, network: Network, data: Dataset) -> dict[str, float]:
    measured = evaluate(network, data.test_images, data.test_labels)
    return {f"{key}, accuracy": measured.accuracy, f"{key}, loss": round(measured.loss, 5)}


def _as_matrix(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1).astype(np.float64)
