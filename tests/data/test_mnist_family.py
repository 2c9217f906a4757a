"""MNIST's files are found, fetched and checked; what does not fit is refused by name."""

from __future__ import annotations

import gzip
import hashlib
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from refimpl.data import load_fashion_mnist, load_mnist, mnist_family

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
# As LeCun, Cortes and Burges's training labels are counted in many places.
N_OF_DIGIT = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
FIRST_MNIST_LABELS = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
FIRST_FASHION_LABELS = [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


def idx(array) -> bytes:
    """Encode uint8 as IDX, by the format's definition."""
    array = np.asarray(array, np.uint8)
    head = bytes([0, 0, 8, array.ndim])
    return head + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def contents(test_labels=(1, 0, 2)) -> dict[str, bytes]:
    """Decompressed files of a family of five training images of 4 by 3 pixels."""
    rng = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: idx(rng.integers(0, 256, (5, 4, 3))),
        TRAIN_LABELS: idx([9, 8, 7, 6, 5]),
        TEST_IMAGES: idx(rng.integers(0, 256, (len(test_labels), 4, 3))),
        TEST_LABELS: idx(test_labels),
    }


def write(folder, files: dict[str, bytes], *, compress: bool = True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if compress:
            (folder / name).write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(content)
    return folder


@pytest.fixture
def empty_machine(monkeypatch, tmp_path):
    """No $REFIMPL_DATA, and an empty cache below the folder that is returned."""
    monkeypatch.delenv("REFIMPL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def given_folder(empty_machine, monkeypatch):
    """The folder $REFIMPL_DATA, empty."""
    folder = empty_machine / "given"
    monkeypatch.setenv("REFIMPL_DATA", str(folder))
    return folder


LOADERS = [(load_mnist, "mnist"), (load_fashion_mnist, "fashion-mnist")]
each_family = pytest.mark.parametrize(("load", "name"), LOADERS, ids=["mnist", "fashion"])


@each_family
@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
def test_files_are_read_from_the_family_folder(given_folder, load, name, compress):
    write(given_folder / name, contents(), compress=compress)
    assert load().test_labels.tolist() == [1, 0, 2]


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
def test_files_are_read_from_the_given_folder_itself(given_folder, load):
    write(given_folder, contents())
    assert load().test_labels.tolist() == [1, 0, 2]


@each_family
def test_files_are_read_from_the_cache(empty_machine, load, name):
    write(empty_machine / "cache" / "refimpl" / name, contents())
    assert load().test_labels.tolist() == [1, 0, 2]


@each_family
def test_family_folder_comes_before_the_given_folder(given_folder, load, name):
    write(given_folder, contents(test_labels=[3]))
    write(given_folder / name, contents(test_labels=[4]))
    assert load().test_labels.tolist() == [4]


def test_given_folder_comes_before_the_cache(given_folder, empty_machine):
    write(given_folder, contents(test_labels=[3]))
    write(empty_machine / "cache" / "refimpl" / "mnist", contents(test_labels=[4]))
    assert load_mnist().test_labels.tolist() == [3]


def test_folder_that_lacks_a_file_is_passed_over(given_folder):
    incomplete = contents(test_labels=[4])
    del incomplete[TRAIN_LABELS]
    write(given_folder / "mnist", incomplete)
    write(given_folder, contents(test_labels=[3]))
    assert load_mnist().test_labels.tolist() == [3]


def test_images_are_float32_of_one_channel_and_labels_int64(given_folder):
    data = load_mnist_of(given_folder, contents())
    assert data.train_images.shape == (5, 1, 4, 3)
    assert data.test_images.shape == (3, 1, 4, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64


def test_pixels_are_divided_by_255(given_folder):
    files = contents()
    data = load_mnist_of(given_folder, files)
    pixels = np.frombuffer(files[TRAIN_IMAGES][16:], np.uint8).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(data.train_images.ravel(), pixels)


def load_mnist_of(given_folder, files):
    write(given_folder / "mnist", files)
    return load_mnist()


@each_family
@pytest.mark.usefixtures("given_folder")
def test_missing_files_are_an_error_that_names_every_way_out(load, name):
    ways_out = rf"\$REFIMPL_DATA/{name}.*given.*{TRAIN_IMAGES}.*download=True.*load_digits"
    with pytest.raises(FileNotFoundError, match=f"^{load.__name__}: .* must .*{ways_out}"):
        load()


@pytest.mark.usefixtures("empty_machine")
def test_a_folder_of_an_unknown_user_is_a_missing_one(monkeypatch):
    monkeypatch.setenv("REFIMPL_DATA", "~nobody-of-this-name/data")
    with pytest.raises(FileNotFoundError, match="= ~nobody-of-this-name/data; copy"):
        load_mnist()


@pytest.mark.usefixtures("empty_machine")
def test_missing_files_are_an_error_that_says_when_no_folder_is_set():
    with pytest.raises(FileNotFoundError, match=r"with \$REFIMPL_DATA not set;"):
        load_mnist()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TRAIN_LABELS, idx([1, 2, 3, 4]), f"{TRAIN_LABELS} must hold a label for each of 5 images"),
        (TEST_LABELS, idx([1] * 4), f"{TEST_LABELS} must hold a label for each of 3 images, got 4"),
        (TEST_LABELS, idx([1, 10, 2]), f"{TEST_LABELS} must hold labels below 10, got 10"),
        (TEST_IMAGES, idx(np.zeros((3, 3, 4))), rf"{TEST_IMAGES} must hold images of shape \(4, 3"),
        (TRAIN_IMAGES, idx([1, 2, 3, 4, 5]), f"{TRAIN_IMAGES} must hold uint8 with 3 axes, got"),
        (TRAIN_LABELS, idx(np.zeros((5, 1))), f"{TRAIN_LABELS} must hold uint8 with 1 axes, got"),
        (TRAIN_LABELS, b"\0\0\x09\1\0\0\0\5hello", r"got int8 of shape \(5,\)"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(given_folder, file, content, message):
    with pytest.raises(ValueError, match=f"load_mnist: .*{message}"):
        load_mnist_of(given_folder, contents() | {file: content})


@pytest.mark.parametrize("name", NAMES)
def test_damaged_file_is_refused_by_name(given_folder, name):
    with pytest.raises(ValueError, match=f"read_idx: {name} must hold"):
        load_mnist_of(given_folder, contents() | {name: contents()[name][:-1]})


@pytest.mark.parametrize(
    ("load", "labels", "message"),
    [
        (load_mnist, FIRST_FASHION_LABELS, "belong to MNIST, got that of Fashion-MNIST"),
        (load_fashion_mnist, FIRST_MNIST_LABELS, "belong to Fashion-MNIST, got that of MNIST"),
    ],
)
def test_files_of_the_other_family_are_refused(given_folder, load, labels, message):
    write(given_folder, contents(test_labels=labels))
    with pytest.raises(ValueError, match=f"{TEST_LABELS} must {message}"):
        load()


# Downloads: mirrors on this machine


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Write nothing to stderr."""


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Serve the sound files at /good/, other bytes at /bad/, nothing elsewhere."""
    write(tmp_path / "www" / "good", contents())
    write(tmp_path / "www" / "bad", dict.fromkeys(NAMES, b"sorry, we have moved"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(QuietHandler, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def mirrors(mirror, monkeypatch, empty_machine):
    """Let MNIST be the small family, found at the given paths of the mirror."""

    def choose(*paths: str) -> None:
        good = empty_machine / "www" / "good"
        sha256 = tuple(hashlib.sha256((good / name).read_bytes()).hexdigest() for name in NAMES)
        urls = tuple(f"{mirror}/{path}/" for path in paths)
        family = mnist_family._MNIST._replace(mirrors=urls, sha256=sha256)
        monkeypatch.setattr(mnist_family, "_MNIST", family)

    return choose


@pytest.mark.parametrize("paths", [["good"], ["gone", "good"], ["bad", "good"]])
def test_download_takes_the_first_mirror_that_has_the_file_right(mirrors, paths):
    mirrors(*paths)
    assert load_mnist(download=True).train_labels.tolist() == [9, 8, 7, 6, 5]


def test_download_shows_a_progress_bar(mirrors, capfd):
    mirrors("good")
    load_mnist(download=True)
    assert "100%" in capfd.readouterr().err


def test_download_is_found_again_without_a_mirror(mirrors):
    mirrors("good")
    load_mnist(download=True)
    mirrors("gone")
    assert load_mnist().train_labels.tolist() == [9, 8, 7, 6, 5]
    assert load_mnist(download=True).train_labels.tolist() == [9, 8, 7, 6, 5]


def test_download_mends_a_damaged_cache(mirrors, empty_machine):
    write(empty_machine / "cache" / "refimpl" / "mnist", dict.fromkeys(NAMES, b"half a file"))
    mirrors("good")
    assert load_mnist(download=True).train_labels.tolist() == [9, 8, 7, 6, 5]


def test_download_completes_an_interrupted_one(mirrors, empty_machine):
    some = {name: contents()[name] for name in NAMES[:2]}
    write(empty_machine / "cache" / "refimpl" / "mnist", some)
    mirrors("good")
    assert load_mnist(download=True).train_labels.tolist() == [9, 8, 7, 6, 5]


def test_wrong_hash_at_every_mirror_is_an_error_that_keeps_nothing(mirrors, empty_machine):
    mirrors("bad", "gone")
    message = f"load_mnist: {TRAIN_IMAGES} must come from one of 2 mirrors, got .*/bad/.*hash.*404"
    with pytest.raises(OSError, match=f"(?s){message}"):
        load_mnist(download=True)
    assert list((empty_machine / "cache").rglob("*.gz")) == []


def test_given_files_are_used_without_asking_a_mirror(mirrors, given_folder):
    mirrors("gone")
    write(given_folder, contents(test_labels=[3]))
    assert load_mnist(download=True).test_labels.tolist() == [3]


@pytest.mark.usefixtures("empty_machine")
def test_download_without_pooch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"must have pooch.*pip install 'refimpl\[data\]'"
    ):
        load_mnist(download=True)


@pytest.mark.usefixtures("empty_machine")
def test_missing_files_without_pooch_are_the_usual_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="load_mnist: MNIST must be four files"):
        load_mnist()


# MNIST itself, where it is at hand


@pytest.mark.mnist
@pytest.mark.parametrize("i", range(4))
def test_mnist_hashes_are_those_of_the_real_files(mnist_folder, i):
    content = (mnist_folder / NAMES[i]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == mnist_family._MNIST.sha256[i]


@pytest.mark.mnist
@pytest.mark.usefixtures("mnist_folder")
def test_mnist_is_the_published_data():
    mnist = load_mnist()
    assert mnist.train_images.shape == (60_000, 1, 28, 28)
    assert mnist.test_images.shape == (10_000, 1, 28, 28)
    assert np.bincount(mnist.train_labels).tolist() == N_OF_DIGIT
    assert mnist.test_labels[:10].tolist() == FIRST_MNIST_LABELS
    assert round(float(mnist.train_images.mean(dtype=np.float64)), 4) == 0.1307
    assert round(float(mnist.train_images.std(dtype=np.float64)), 4) == 0.3081
