"""One set of labelled images, and the scaling that must not look at the test part."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.data import Dataset, standardize


def images(*pixels: float) -> np.ndarray:
    return np.array(pixels, np.float32).reshape(-1, 1, 1, 1)


@pytest.fixture
def dataset() -> Dataset:
    pixels = np.random.default_rng(7).random((30, 1, 4, 3), np.float32)
    return Dataset(pixels[:20], np.arange(20), pixels[20:], np.arange(10))


def test_repr_is_one_short_line(dataset):
    assert repr(dataset) == "Dataset(20 training and 10 test images of shape (1, 4, 3))"


def test_dataset_unpacks_in_the_documented_order(dataset):
    train_images, train_labels, test_images, test_labels = dataset
    assert (len(train_images), len(train_labels)) == (20, 20)
    assert (len(test_images), len(test_labels)) == (10, 10)


def test_standardized_training_pixels_have_mean_0_and_deviation_1(dataset):
    train = standardize(dataset).train_images.astype(np.float64)
    assert abs(train.mean()) < 1e-6
    assert abs(train.std() - 1) < 1e-6


def test_test_images_are_scaled_by_the_training_numbers():
    result = standardize(Dataset(images(1, 3), np.arange(2), images(5, 2), np.arange(2)))
    np.testing.assert_array_equal(result.test_images, images(3, 0))


def test_test_images_do_not_influence_the_training_images(dataset):
    changed = dataset._replace(test_images=dataset.test_images * np.float32(100))
    ours, theirs = standardize(dataset), standardize(changed)
    np.testing.assert_array_equal(ours.train_images, theirs.train_images)


def test_standardize_leaves_its_argument_alone(dataset):
    before = dataset.train_images.copy(), dataset.test_images.copy()
    standardize(dataset)
    np.testing.assert_array_equal(dataset.train_images, before[0])
    np.testing.assert_array_equal(dataset.test_images, before[1])


def test_standardize_keeps_float32_shapes_and_labels(dataset):
    result = standardize(dataset)
    assert result.train_images.dtype == result.test_images.dtype == np.float32
    assert result.test_images.shape == dataset.test_images.shape
    assert result.train_labels is dataset.train_labels


@pytest.mark.parametrize("train", [images(), images(2, 2), images(1, np.nan)])
def test_standardize_refuses_training_pixels_without_a_deviation(train):
    with pytest.raises(ValueError, match="standardize: train_images must hold finite pixels that"):
        standardize(Dataset(train, np.arange(len(train)), images(1), np.arange(1)))


@pytest.mark.parametrize("argument", ["train_images", "test_images"])
def test_standardize_refuses_float64_images(dataset, argument):
    wrong = dataset._replace(**{argument: getattr(dataset, argument).astype(np.float64)})
    with pytest.raises(TypeError, match=f"standardize: {argument} must be float32, got float64"):
        standardize(wrong)


@pytest.mark.parametrize("argument", ["train_images", "test_images"])
def test_standardize_refuses_flattened_images(dataset, argument):
    wrong = dataset._replace(**{argument: getattr(dataset, argument).reshape(-1, 12)})
    with pytest.raises(ValueError, match=f"standardize: {argument} must have 4 axes"):
        standardize(wrong)


def test_standardize_refuses_what_is_no_dataset():
    with pytest.raises(TypeError, match="dataset must be a Dataset, got ndarray; pass what"):
        standardize(np.zeros((1, 1, 8, 8), np.float32))
