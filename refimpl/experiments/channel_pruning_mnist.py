"""How accurate is LeNet-5 on MNIST with half of its FLOPs, after whole channels are removed?

`refimpl.experiments.channel_pruning` with 60,000 images of 28x28 pixels and Caffe's LeNet-5. Needs
the MNIST files, see `refimpl.data.load_mnist`. A run takes minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.data import load_mnist, standardize
from refimpl.experiments.channel_pruning import compare_ways
from refimpl.nn import lenet5

SETTINGS = ({"flops": 0.5},)
SEEDS = (0, 1, 2)


def run_once(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, cut to a fraction of the FLOPs, fine-tune, and take the test accuracy at each stage.

    Parameters
    ----------
    setting : dict
        ``flops``, the fraction that may be left.
    seed : int
        Draws all that `compare_ways` draws.

    Returns
    -------
    dict
        As `refimpl.experiments.channel_pruning.compare_ways`.

    Raises
    ------
    FileNotFoundError
        If MNIST is not on this machine.

    Notes
    -----
    Adam and mini-batches of 100: 4 epochs with learning rate 1e-3 and one with 1e-4, then 2 and
    1 of fine-tuning.
    """
    return compare_ways(
        lenet5,
        standardize(load_mnist()),
        setting["flops"],
        train_phases=[(4, 1e-3), (1, 1e-4)],
        tune_phases=[(2, 1e-3), (1, 1e-4)],
        batch_size=100,
        rng=np.random.default_rng(seed),
    )
