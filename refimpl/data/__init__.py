"""What do we prune on? Small image sets, split into a training and a test part."""

from __future__ import annotations

from .dataset import Dataset, standardize
from .digits import load_digits
from .idx import read_idx
from .mnist_family import load_fashion_mnist, load_mnist

__all__ = [
    "Dataset",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "read_idx",
    "standardize",
]
