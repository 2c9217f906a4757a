"""What does layer-wise OBS leave of LeNet-300-100 on MNIST at 7 and 8 % of its weights?

`refimpl.experiments.layerwise_obs` with 60,000 images of 28x28 pixels. Needs the MNIST files, see
`refimpl.data.load_mnist`. A run takes minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.data import load_mnist, standardize
from refimpl.experiments.layerwise_obs import compare_ways
from refimpl.nn import Adam, Network, fit, lenet_300_100

SPARSITIES = (0.8, 0.92, 0.93)
SETTINGS = ({"network": "lenet_300_100"},)
SEEDS = (0, 1, 2)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one network, cut it in every way to every sparsity, and retrain what is left.

    Parameters
    ----------
    setting : dict
        ``network``, which has to be "lenet_300_100". Fewer ``images`` to train on make a quick
        trial.
    seed : int
        Draws the first weights and the order of the examples.

    Returns
    -------
    dict
        As `refimpl.experiments.layerwise_obs.compare_ways`.

    Raises
    ------
    FileNotFoundError
        If MNIST is not on this machine.
    KeyError
        If the setting names another network.

    Notes
    -----
    Adam and mini-batches of 100: 4 epochs with learning rate 1e-3 and one with 1e-4; after each
    cut one epoch with 1e-3, 600 steps.
    """
    init, order, again = np.random.default_rng(seed).spawn(3)
    network = {"lenet_300_100": lenet_300_100}[setting["network"]](rng=init)
    same_order, mnist = int(again.integers(2**63)), standardize(load_mnist())
    n = setting.get("images", len(mnist.train_labels))
    mnist = mnist._replace(train_images=mnist.train_images[:n], train_labels=mnist.train_labels[:n])

    def learn(learner: Network, epochs: int, lr: float, rng: np.random.Generator) -> None:
        images, labels = mnist.train_images, mnist.train_labels
        adam = Adam(learner.parameters(), lr=lr)
        fit(learner, adam, images, labels, epochs=epochs, batch_size=100, rng=rng)

    def retrain(pruned: Network) -> None:
        learn(pruned, 1, 1e-3, np.random.default_rng(same_order))

    learn(network, 4, 1e-3, order)
    learn(network, 1, 1e-4, order)
    return compare_ways(network, mnist, SPARSITIES, retrain)
