"""Four arrays that belong together: images and labels to train on, and others to test on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, check_array


class Dataset(NamedTuple):
    """Labelled images, one part to train on and one that only measures the result.

    Parameters
    ----------
    train_images, test_images : ndarray of float32
        Shape (n, channels, height, width); the loaders return values in [0, 1].
    train_labels, test_labels : ndarray of int64
        Shape (n,), the class of each image, counted from 0.

    Examples
    --------
    >>> from refimpl.data import load_digits
    >>> digits = load_digits()
    >>> digits
    Dataset(1437 training and 360 test images of shape (1, 8, 8))
    >>> train_images, train_labels, test_images, test_labels = digits
    >>> test_labels.shape
    (360,)
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def __repr__(self) -> str:
        counts = f"{len(self.train_images)} training and {len(self.test_images)} test images"
        return f"Dataset({counts} of shape {self.train_images.shape[1:]})"


def standardize(dataset: Dataset) -> Dataset:
    """Shift and scale all images so that the training pixels have mean 0 and deviation 1.

    The test images are shifted and scaled by the same two numbers, which come from the
    training images alone: a test image must not influence anything before it is tested.

    Parameters
    ----------
    dataset : Dataset
        Images of any finite float32 values; the training images must not all be equal.

    Returns
    -------
    Dataset
        New images of float32; the labels are those of `dataset`, not copies.

    Raises
    ------
    TypeError
        If the images are not float32.
    ValueError
        If they do not have 4 axes, or the training pixels have no finite, positive deviation.

    Notes
    -----
    ``x -> (x - mean) / deviation``, with one mean and one deviation for all pixels, both
    computed in float64. One scalar each, not one per pixel: pixels at the border that are
    0 in every training image would otherwise be divided by 0.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to
    document recognition, section II.B: inputs with mean about 0 and variance about 1.

    Examples
    --------
    >>> import numpy as np
    >>> train = np.array([1, 3], np.float32).reshape(2, 1, 1, 1)
    >>> test = np.array([5], np.float32).reshape(1, 1, 1, 1)
    >>> scaled = standardize(Dataset(train, np.array([0, 1]), test, np.array([1])))
    >>> scaled.train_images.ravel(), scaled.test_images.ravel()
    (array([-1.,  1.], dtype=float32), array([3.], dtype=float32))
    """
    if not isinstance(dataset, Dataset):
        actual, advice = type(dataset).__name__, "pass what load_digits returned"
        raise bad_argument("standardize", "dataset", "be a Dataset", actual, advice, kind=TypeError)
    for argument in ("train_images", "test_images"):
        images = getattr(dataset, argument)
        check_array("standardize", argument, images, ndim=4, dtypes=(np.float32,))
    mean, deviation = _mean_and_deviation(dataset.train_images)
    return dataset._replace(
        train_images=(dataset.train_images - mean) / deviation,
        test_images=(dataset.test_images - mean) / deviation,
    )


def _mean_and_deviation(images: np.ndarray) -> tuple[np.float32, np.float32]:
    deviation = images.std(dtype=np.float64) if images.size else 0.0
    if not 0 < deviation < np.inf:
        raise bad_argument(
            "standardize",
            "train_images",
            "hold finite pixels that differ",
            f"a standard deviation of {deviation}",
            "look at the images before they are scaled",
        )
    return np.float32(images.mean(dtype=np.float64)), np.float32(deviation)
