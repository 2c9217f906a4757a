"""How far can OBD's prediction of the error be trusted, and which of its assumptions gives way?

A 64-32-10 tanh network of 2410 parameters learns the 8x8 digits by L-BFGS, to the least mean
squared error with weight decay. Then parameters go, without retraining, in the order of OBD, of
magnitude and of chance, and the rise of the training error is compared with the terms of its
Taylor expansion. In another run of the same network, each tenth that OBD removes is followed by
retraining. A run takes seconds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from refimpl.data import Dataset, load_digits, standardize
from refimpl.experiments.full_batch import train_full_batch
from refimpl.masks import keep_top_k
from refimpl.nn import (
    Linear,
    Network,
    Tanh,
    as_arrays,
    as_vector,
    hessian_vector_product,
    levenberg_marquardt_diagonal,
    mean_squared_error,
    obd_diagonal,
)
from refimpl.prune import parameter_vector
from refimpl.saliency import magnitude, obd, random

N_TRAIN = 1200
PIXELS = {"ink": lambda digits: digits, "standardized": standardize}
FRACTIONS = tuple(round(0.05 * step, 2) for step in range(1, 13))
TERMS = ("actual", "slope", "diagonal", "quadratic")
RETRAINED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SETTINGS = (
    *({"weight_decay": decay, "pixels": "ink"} for decay in (1e-5, 1e-4, 1e-3)),
    {"weight_decay": 1e-4, "pixels": "standardized"},
)
SEEDS = tuple(range(10))


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, delete in three orders, and compare the error with what was predicted.

    Parameters
    ----------
    setting : dict
        ``weight_decay``, as for `train_full_batch`, and ``pixels``: "ink" for values in [0, 1],
        "standardized" for mean 0 and deviation 1. Fewer ``iterations`` of L-BFGS than 300 make
        a quick trial.
    seed : int
        Draws the split of the digits, the first weights and the random order.

    Returns
    -------
    dict
        ``train``, ``test`` and ``accuracy`` of the network before anything goes; ``flat`` and
        ``negative``, the fractions of parameters whose second derivative is 0 in the
        Levenberg-Marquardt form, and negative in the exact one. For each order lists with an
        entry for each of `FRACTIONS`: those of `terms`, as ``obd_actual`` and so on. Lists with
        an entry for each of `RETRAINED`: ``retrained_train`` and ``retrained_test``.

    Raises
    ------
    KeyError
        If the setting lacks a key, or names other pixels.

    Notes
    -----
    Errors are means over examples and outputs, with targets of 1 and -1, and without the penalty
    on weights. The order of OBD takes the Levenberg-Marquardt diagonal.
    """
    split, init, chance = np.random.default_rng(seed).spawn(3)
    digits = PIXELS[setting["pixels"]](load_digits(rng=split))
    train, test, labels = digit_targets(digits)
    fit = partial(train_full_batch, x=train[0], y=train[1], weight_decay=setting["weight_decay"])
    network = tanh_network(init)
    fit(network, max_iterations=setting.get("iterations", 300))
    w = parameter_vector(network)
    h_diag = as_vector(levenberg_marquardt_diagonal(network, train[0], mean_squared_error))
    exact = as_vector(obd_diagonal(network, *train, mean_squared_error))
    result: dict[str, Any] = {
        "train": error(network, *train),
        "test": error(network, *test),
        "accuracy": float((network.forward(test[0]).argmax(axis=1) == labels).mean()),
        "flat": float((h_diag == 0).mean()),
        "negative": float((exact < 0).mean()),
    }
    scores = {"obd": obd(w, h_diag), "magnitude": magnitude(w), "random": random(w.shape, chance)}
    for name, saliency in scores.items():
        found = terms(network, saliency, *train, h_diag)
        result |= {f"{name}_{term}": values for term, values in found.items()}
    return result | _retrained(network, fit, setting.get("iterations", 300) // 3, train, test)


def terms(
    network: Network, saliency: np.ndarray, x: np.ndarray, y: np.ndarray, h_diag: np.ndarray
) -> dict[str, list[float]]:
    r"""Delete by a saliency, and take the rise of the error apart.

    Parameters
    ----------
    network : Network
        Comes back as it was.
    saliency : ndarray, shape (n,)
        Larger = keep, in the order of `parameter_vector`.
    x, y : ndarray
        The examples and their targets.
    h_diag : ndarray, shape (n,)
        What the prediction takes for the diagonal of the Hessian.

    Returns
    -------
    dict of str to list of float
        With an entry for each of `FRACTIONS`, for the change u of the parameters: ``actual``, the
        rise of the error; ``slope``, :math:`g^\top u`, which is 0 at a minimum; ``diagonal``,
        :math:`\frac12 \sum h_i u_i^2`, which is OBD's prediction; ``quadratic``,
        :math:`\frac12 u^\top H u` with all of the Hessian.
    """
    # [terms start]
    w, named = parameter_vector(network), network.named_parameters()
    before = error(network, x, y)
    network.backward(mean_squared_error(network.forward(x), y)[1])
    gradient = as_vector({name: p.grad for name, p in named.items()})
    found: dict[str, list[float]] = {term: [] for term in TERMS}
    for fraction in FRACTIONS:
        kept = keep_top_k(saliency, w.size - round(fraction * w.size))
        u = np.where(kept, 0, -w)
        moved = as_arrays(u, named)
        hu = hessian_vector_product(network, x, y, moved, mean_squared_error)
        network.load_state(as_arrays(w + u, named))
        found["actual"].append(error(network, x, y) - before)
        network.load_state(as_arrays(w, named))
        found["slope"].append(float(gradient @ u))
        found["diagonal"].append(float(h_diag @ u**2) / 2)
        found["quadratic"].append(float(u @ as_vector(hu)) / 2)
    # [terms end]
    return found


def tanh_network(rng: np.random.Generator) -> Network:
    """Build the network: 64 inputs, 32 tanh units, 10 linear outputs, in float64.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the weights as `Linear` does.

    Returns
    -------
    Network
        Layers ``fc1, tanh, fc2``.
    """
    fc1, fc2 = (Linear(*sizes, rng=rng, dtype=np.float64) for sizes in ((64, 32), (32, 10)))
    return Network({"fc1": fc1, "tanh": Tanh(), "fc2": fc2})


def digit_targets(
    digits: Dataset,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Lay images out as rows, and write labels as 1 for the digit and -1 for others.

    Parameters
    ----------
    digits : Dataset
        Of which the first `N_TRAIN` training images are taken.

    Returns
    -------
    (ndarray, ndarray)
        Rows and targets to train on, in float64.
    (ndarray, ndarray)
        Those to test on.
    ndarray
        The test labels.
    """

    def rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float64)

    def targets(labels: np.ndarray) -> np.ndarray:
        return np.where(labels[:, np.newaxis] == np.arange(10), 1.0, -1.0)

    train = rows(digits.train_images[:N_TRAIN]), targets(digits.train_labels[:N_TRAIN])
    return train, (rows(digits.test_images), targets(digits.test_labels)), digits.test_labels


def error(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """Measure the mean squared error over examples and outputs.

    Parameters
    ----------
    network : Network
        As it is.
    x, y : ndarray
        Examples and targets.

    Returns
    -------
    float
        At least 0.
    """
    return mean_squared_error(network.forward(x), y)[0]


def _retrained(
    network: Network, fit: partial, iterations: int, train: tuple, test: tuple
) -> dict[str, list[float]]:
    """Remove a tenth of all parameters by OBD, retrain, and again."""
    found: dict[str, list[float]] = {"retrained_train": [], "retrained_test": []}
    named = network.named_parameters()
    for fraction in RETRAINED:
        w = parameter_vector(network)
        diagonal = levenberg_marquardt_diagonal(network, train[0], mean_squared_error)
        saliency = obd(w, as_vector(diagonal))  # 0 where a parameter is gone
        kept = keep_top_k(np.where(w == 0, -1, saliency), w.size - round(fraction * w.size))
        for name, mask in as_arrays(kept.astype(np.float64), named).items():
            named[name].mask = mask == 1
        fit(network, max_iterations=iterations)
        found["retrained_train"].append(error(network, *train))
        found["retrained_test"].append(error(network, *test))
    return found
