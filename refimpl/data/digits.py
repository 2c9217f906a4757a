"""Handwritten digits of 8 by 8 pixels that travel with the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from refimpl.arrays import check_rng

from .dataset import Dataset

_INK_MAX = 16  # a pixel counts the dark points among 4 x 4 of the scan


def load_digits(*, rng: np.random.Generator | None = None) -> Dataset:
    """Load 1797 handwritten digits, 1437 to train on and 360 to test on.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Draws a new split. Without it, the split is the one stored with the data, the same
        on every machine and with every version of NumPy.

    Returns
    -------
    Dataset
        Images of shape (n, 1, 8, 8) in [0, 1], labels 0 to 9. Every split has the same
        sizes, and the same number of test images of each digit. The images of each part
        stand in the order of the original file.

    Raises
    ------
    TypeError
        If `rng` is neither None nor a generator.

    Notes
    -----
    The split is stratified: 35 to 37 test images of each digit, in proportion to its share
    of the data. It is not by writer: the same 13 people wrote both parts, so the test
    accuracy says little about the handwriting of a fourteenth.

    References
    ----------
    E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, test part; see ``digits.md`` beside this file.

    Examples
    --------
    >>> import numpy as np
    >>> digits = load_digits()
    >>> digits.train_images.shape, digits.test_images.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    >>> another = load_digits(rng=np.random.default_rng(0))
    >>> np.array_equal(digits.test_labels, another.test_labels)
    False
    """
    with (files(__package__) / "digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        pixels, labels, test = (stored[name] for name in ("pixels", "labels", "test_indices"))
    if rng is not None:
        check_rng("load_digits", rng)
        test = _draw_stratified(labels, np.bincount(labels[test]), rng)
    in_test = np.zeros(len(labels), np.bool_)
    in_test[test] = True
    images = np.divide(pixels[:, np.newaxis], _INK_MAX, dtype=np.float32)  # (1797, 1, 8, 8)
    labels = labels.astype(np.int64)
    return Dataset(images[~in_test], labels[~in_test], images[in_test], labels[in_test])


def _draw_stratified(
    labels: np.ndarray, n_of_class: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Indices of ``n_of_class[c]`` images of each class c, at random."""
    drawn = []
    for label, n in enumerate(n_of_class):
        members = np.flatnonzero(labels == label)
        drawn.append(rng.choice(members, n, replace=False))
    return np.concatenate(drawn)
