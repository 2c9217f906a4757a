"""The shipped digits are the published ones, and every split of them is fair."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from refimpl.data import load_digits

SEEDS = range(20)
# Of the UCI description of the test part, file optdigits.names.
N_OF_DIGIT = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
# As in refimpl/data/digits.md.
SHA256 = {
    "pixels": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    "test_indices": "719a75c2586dc7e4461de447e3d52376014fdcc8dbf550771586d42813f00169",
}


def split(seed: int | None):
    return load_digits(rng=None if seed is None else np.random.default_rng(seed))


def rows(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """Each image and its label as bytes, in an order that no split changes."""
    pixels = (images * 16).astype(np.uint8).reshape(len(images), -1)
    return sorted(np.column_stack([pixels, labels.astype(np.uint8)]).view("V65").ravel().tolist())


@pytest.mark.parametrize("name", SHA256)
def test_shipped_array_is_the_documented_one(name):
    with (files("refimpl.data") / "digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)[name]
    assert hashlib.sha256(stored.tobytes()).hexdigest() == SHA256[name]


@pytest.mark.parametrize("name", SHA256)
def test_attribution_states_the_hashes(name):
    note = (files("refimpl.data") / "digits.md").read_text("utf8")
    assert f"| `{name}` | `{SHA256[name]}` |" in note


@pytest.mark.parametrize("seed", [None, 0])
def test_images_are_float32_of_one_channel(seed):
    digits = split(seed)
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.train_images.dtype == digits.test_images.dtype == np.float32


@pytest.mark.parametrize("seed", [None, 0])
def test_labels_are_int64(seed):
    digits = split(seed)
    assert digits.train_labels.shape == (1437,)
    assert digits.test_labels.shape == (360,)
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int64


def test_pixels_are_sixteenths_from_0_to_1():
    digits = load_digits()
    pixels = np.concatenate([digits.train_images, digits.test_images])
    np.testing.assert_array_equal(np.unique(pixels), np.arange(17, dtype=np.float32) / 16)


def test_digit_counts_are_the_published_ones():
    digits = load_digits()
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert np.bincount(labels).tolist() == N_OF_DIGIT


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_split_is_stratified(seed):
    share = np.array(N_OF_DIGIT) * 360 / 1797
    assert np.all(np.abs(np.bincount(split(seed).test_labels) - share) < 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_split_uses_every_image_once(seed):
    a, b = split(None), split(seed)
    ours = rows(np.r_[a.train_images, a.test_images], np.r_[a.train_labels, a.test_labels])
    theirs = rows(np.r_[b.train_images, b.test_images], np.r_[b.train_labels, b.test_labels])
    assert ours == theirs


def test_new_splits_test_every_image_at_some_time():
    tested = {row for seed in range(60) for row in rows(*split(seed)[2:])}
    digits = load_digits()
    assert tested == set(rows(*digits[:2])) | set(rows(*digits[2:]))


def test_default_split_is_always_the_same():
    first, second = load_digits(), load_digits()
    np.testing.assert_array_equal(first.test_images, second.test_images)
    np.testing.assert_array_equal(first.train_labels, second.train_labels)


def test_same_seed_gives_the_same_split():
    np.testing.assert_array_equal(split(3).test_images, split(3).test_images)


def test_other_seed_gives_another_split():
    assert not np.array_equal(split(3).test_images, split(4).test_images)


def test_each_call_gives_arrays_of_its_own():
    load_digits().train_images[:] = 7
    assert load_digits().train_images.max() == 1


@pytest.mark.parametrize("seed", [0, np.random.RandomState(0)])
def test_load_digits_refuses_what_is_no_generator(seed):
    with pytest.raises(TypeError, match=r"load_digits: rng must be a numpy.random.Generator"):
        load_digits(rng=seed)
