"""MNIST and Fashion-MNIST: four IDX files each, from a folder, a cache or a public mirror."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from refimpl.arrays import bad_argument

from .dataset import Dataset
from .idx import read_idx

_N_CLASSES = 10

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class _Family(NamedTuple):
    name: str
    folder: str
    mirrors: tuple[str, ...]
    sha256: tuple[str, ...]  # one for each of _FILES
    first_test_labels: bytes  # tells one family's files from another's: all have the same names


_MNIST = _Family(
    name="MNIST",
    folder="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    first_test_labels=bytes([7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
)
# The hashes are those of TensorFlow Datasets, url_checksums/fashion_mnist.txt.
_FASHION_MNIST = _Family(
    name="Fashion-MNIST",
    folder="fashion-mnist",
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # has no https
    ),
    sha256=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    first_test_labels=bytes([9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
)


def load_mnist(*, download: bool = False) -> Dataset:
    """Load MNIST: 60,000 handwritten digits to train on, 10,000 to test on.

    Parameters
    ----------
    download : bool
        Fetch files that are not on this machine from public mirrors, with a progress bar,
        into pooch's cache folder; each file's SHA-256 is checked. Needs the extra
        ``refimpl[data]``.

    Returns
    -------
    Dataset
        Images of shape (n, 1, 28, 28) in [0, 1], labels 0 to 9.

    Raises
    ------
    FileNotFoundError
        If the files are in neither place and `download` is False.
    ModuleNotFoundError
        If `download` is needed and pooch is not installed.
    OSError
        If no mirror delivers the right file.
    ValueError
        If a file is damaged, or the files do not fit each other. Nothing is loaded then.

    Notes
    -----
    Looked for in this order: the folder ``$REFIMPL_DATA/mnist``, the folder
    ``$REFIMPL_DATA``, the cache. Files are called as on the mirrors, with or without
    ``.gz``. Those in ``$REFIMPL_DATA`` may be variants of your own: of other counts or image
    sizes, but consistent and of ten classes. The loaded images take 220 MB.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to
    document recognition, section III.A.

    Examples
    --------
    >>> load_mnist()  # doctest: +SKIP
    Dataset(60000 training and 10000 test images of shape (1, 28, 28))
    """
    return _load("load_mnist", _MNIST, download=download)


def load_fashion_mnist(*, download: bool = False) -> Dataset:
    """Load Fashion-MNIST: 60,000 pictures of clothes to train on, 10,000 to test on.

    Parameters
    ----------
    download : bool
        As in `load_mnist`.

    Returns
    -------
    Dataset
        Images of shape (n, 1, 28, 28) in [0, 1]; labels 0 to 9 for T-shirt, trouser,
        pullover, dress, coat, sandal, shirt, sneaker, bag and ankle boot.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, OSError, ValueError
        As in `load_mnist`.

    Notes
    -----
    The files have the same names as MNIST's and are looked for in the same order, with
    ``fashion-mnist`` for ``mnist``. If those found turn out to be MNIST's, they are refused.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf (2017), Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms, arXiv:1708.07747.

    Examples
    --------
    >>> load_fashion_mnist()  # doctest: +SKIP
    Dataset(60000 training and 10000 test images of shape (1, 28, 28))
    """
    return _load("load_fashion_mnist", _FASHION_MNIST, download=download)


def _load(where: str, family: _Family, *, download: bool) -> Dataset:
    paths = _find(_given_folders(family))
    if paths is None and download:
        paths = _fetch(where, family)  # takes what the cache has, and mends it
    elif paths is None:
        paths = _find(_cache_folders(family))
    if paths is None:
        raise _not_found(where, family)
    arrays = [read_idx(path) for path in paths]
    _check_parts(where, family, [path.name for path in paths], arrays)
    return _as_dataset(*arrays)


def _as_dataset(
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> Dataset:
    def scaled(images: np.ndarray) -> np.ndarray:
        return np.divide(images[:, np.newaxis], 255, dtype=np.float32)  # (n, 1, height, width)

    return Dataset(
        scaled(train_images),
        train_labels.astype(np.int64),
        scaled(test_images),
        test_labels.astype(np.int64),
    )


# Where the files are


def _given_folders(family: _Family) -> list[Path]:
    root = os.environ.get("REFIMPL_DATA")
    if not root:
        return []
    folder = Path(os.path.expanduser(root))  # noqa: PTH111 - Path's fails on an unknown ~user
    return [folder / family.folder, folder]


def _cache_folders(family: _Family) -> list[Path]:
    """Pooch knows where its cache is; without pooch nothing was ever put there."""
    try:
        return [_cache_folder(_import_pooch(), family)]
    except ModuleNotFoundError:
        return []


def _cache_folder(pooch: ModuleType, family: _Family) -> Path:
    return Path(pooch.os_cache("refimpl")) / family.folder


def _find(folders: list[Path]) -> list[Path] | None:
    """The four files, each with or without .gz, in the first folder that has them all."""
    for folder in folders:
        choices = ((folder / name, folder / name.removesuffix(".gz")) for name in _FILES)
        paths = [next((path for path in pair if path.is_file()), None) for pair in choices]
        if None not in paths:
            return paths
    return None


def _not_found(where: str, family: _Family) -> Exception:
    root = os.environ.get("REFIMPL_DATA")
    return bad_argument(
        where,
        family.name,
        f"be four files in $REFIMPL_DATA/{family.folder}, in $REFIMPL_DATA, or in the cache",
        f"none or not all of them with $REFIMPL_DATA {f'= {root}' if root else 'not set'}",
        f"copy {', '.join(_FILES)} there, or pass download=True, "
        "or use load_digits, which needs no files",
        kind=FileNotFoundError,
    )


def _import_pooch() -> ModuleType:
    import pooch  # noqa: PLC0415 - an extra, which only a download needs

    return pooch


def _fetch(where: str, family: _Family) -> list[Path]:
    try:
        pooch = _import_pooch()
    except ModuleNotFoundError:
        raise bad_argument(
            where,
            "download=True",
            "have pooch",
            "a Python without it",
            "install it with: pip install 'refimpl[data]'",
            kind=ModuleNotFoundError,
        ) from None
    hashes = zip(_FILES, family.sha256, strict=True)
    return [_fetch_file(where, family, pooch, name, sha256) for name, sha256 in hashes]


def _fetch_file(where: str, family: _Family, pooch: ModuleType, name: str, sha256: str) -> Path:
    """Fetch one file from the first mirror that has it right; at once if the cache has it."""
    failures = []
    for mirror in family.mirrors:
        try:
            path = pooch.retrieve(
                mirror + name,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=_cache_folder(pooch, family),
                progressbar=True,
            )
        except (OSError, ValueError) as failure:  # no answer; another file than expected
            failures.append(f"{mirror}: {failure}")
        else:
            return Path(path)
    raise bad_argument(
        where,
        name,
        f"come from one of {len(family.mirrors)} mirrors",
        " | ".join(failures),
        f"check the network, or copy the file into $REFIMPL_DATA/{family.folder}",
        kind=OSError,
    )


# Whether they fit


def _check_parts(where: str, family: _Family, names: list[str], arrays: list[np.ndarray]) -> None:
    """Refuse four arrays that are no images and labels, do not fit, or are another family's."""
    for name, array, axes in zip(names, arrays, (3, 1, 3, 1), strict=True):
        if array.dtype != np.uint8 or array.ndim != axes:
            got = f"{array.dtype.name} of shape {array.shape}"
            raise _misfit(where, name, f"hold uint8 with {axes} axes", got)
    train_images, train_labels, test_images, test_labels = arrays
    _check_labels(where, names[1], train_labels, len(train_images))
    _check_labels(where, names[3], test_labels, len(test_images))
    if train_images.shape[1:] != test_images.shape[1:]:
        wanted = f"hold images of shape {train_images.shape[1:]}, as the training images"
        raise _misfit(where, names[2], wanted, test_images.shape[1:])
    _check_family(where, family, names[3], test_labels)


def _check_labels(where: str, name: str, labels: np.ndarray, n_images: int) -> None:
    if len(labels) != n_images:
        raise _misfit(where, name, f"hold a label for each of {n_images} images", len(labels))
    if labels.max(initial=0) >= _N_CLASSES:
        raise _misfit(where, name, f"hold labels below {_N_CLASSES}", int(labels.max()))


def _check_family(where: str, family: _Family, name: str, test_labels: np.ndarray) -> None:
    first = test_labels[:10].tobytes()
    for other in (_MNIST, _FASHION_MNIST):
        if other.folder != family.folder and first == other.first_test_labels:
            raise _misfit(where, name, f"belong to {family.name}", f"that of {other.name}")


def _misfit(where: str, name: str, requirement: str, actual: object) -> Exception:
    advice = "give each data set a folder of its own, mnist and fashion-mnist"
    return bad_argument(where, name, requirement, actual, advice)
