"""Saved networks: the same bits again, or one sentence and an untouched network."""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from refimpl.formats import CSR
from refimpl.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Network,
    ReLU,
    Residual,
    SparseLinear,
    load,
    mlp,
    save,
)
from support.corruption import ONE_SENTENCE


def drawn_network(seed: int, *, dtype=np.float32, pruned: bool = True) -> Network:
    """Convolution, buffers, a network within a layer; every value is drawn, also biases."""
    rng = np.random.default_rng(seed)
    branch = Network({"norm": BatchNorm2d(2, dtype=dtype), "relu": ReLU()})
    network = Network(
        {
            "conv1": Conv2d(1, 2, 3, rng=rng, dtype=dtype),
            "block": Residual(branch),
            "flatten": Flatten(),
            "dropout": Dropout(0.5, rng=rng),
            "fc": Linear(8, 3, rng=rng, dtype=dtype),
        }
    )
    state = network.state()
    network.load_state({n: rng.exponential(size=a.shape).astype(dtype) for n, a in state.items()})
    if pruned:
        for weight in network.weights().values():
            weight.mask = rng.random(weight.shape) < 0.5
    return network


def bits(network: Network) -> dict[str, bytes | None]:
    """All that a file should bring back."""
    masks = {f"mask of {n}": p.mask for n, p in network.named_parameters().items()}
    values = {name: value.tobytes() for name, value in network.state().items()}
    return values | {n: None if m is None else m.tobytes() for n, m in masks.items()}


def entries(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture
def saved(tmp_path) -> Path:
    """The file of network 1."""
    save(drawn_network(1), tmp_path / "net.npz")
    return tmp_path / "net.npz"


def rewritten(path: Path, changes: dict[str, np.ndarray | None]) -> Path:
    """The file with some entries changed, by NumPy itself; None leaves one out."""
    arrays = {name: array for name, array in (entries(path) | changes).items() if array is not None}
    n_masks = sum(name.startswith("mask/") for name in arrays)
    arrays |= {} if "format" in changes else {"format": np.array([1, n_masks])}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def assert_refused(path: Path, message: str) -> None:
    """One sentence, which is this one, and not a bit of the network has changed."""
    network = drawn_network(2)
    before = bits(network)
    with pytest.raises(ValueError, match=message) as caught:
        load(network, path)
    assert re.match(ONE_SENTENCE, str(caught.value))
    assert bits(network) == before


# --- the round trip --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("pruned_before", [False, True])
def test_save_and_load_give_the_same_bits(tmp_path, dtype, pruned, pruned_before):
    network = drawn_network(1, dtype=dtype, pruned=pruned)
    other = drawn_network(2, dtype=dtype, pruned=pruned_before)
    save(network, tmp_path / "net")
    load(other, tmp_path / "net")
    assert bits(other) == bits(network)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, -0.0, 1e-45])
def test_save_keeps_every_kind_of_float(tmp_path, wild):
    network, other = drawn_network(1, pruned=False), drawn_network(2)
    network.layers["fc"].bias.value = np.full(3, wild, np.float32)
    save(network, tmp_path / "net.npz")
    load(other, tmp_path / "net.npz")
    assert bits(other) == bits(network)


def test_load_shares_no_memory_with_a_second_load(saved):
    first, second = drawn_network(2), drawn_network(3)
    load(first, saved)
    load(second, saved)
    first.layers["fc"].weight.value += 1
    assert bits(second) == bits(drawn_network(1))


def test_loaded_weights_can_be_trained(saved):
    network = drawn_network(2)
    load(network, saved)
    weight = network.layers["fc"].weight
    weight.value -= weight.value
    assert not weight.value.any()


@pytest.mark.parametrize("name", ["net", "net.npz", "net.final", "ein Netz.npz"])
@pytest.mark.parametrize("kind", [str, Path])
def test_save_takes_the_name_as_it_is(tmp_path, name, kind):
    save(drawn_network(1), kind(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_equal_networks_give_equal_files(tmp_path):
    for name in ("a", "b"):
        save(drawn_network(1), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_is_an_archive_that_numpy_reads(saved):
    network = drawn_network(1)
    masks = {f"mask/{name}": weight.mask for name, weight in network.weights().items()}
    values = {f"value/{name}": value for name, value in network.state().items()}
    np.testing.assert_equal(entries(saved), {"format": np.array([1, 2])} | values | masks)


def test_load_reads_what_numpy_writes_from_other_layouts(saved):
    weight = drawn_network(1).weights()["conv1.weight"].value
    strided = np.repeat(weight, 2, axis=0)[::2]  # written in C order
    network = drawn_network(2)
    load(network, rewritten(saved, {"value/conv1.weight": strided}))
    assert bits(network) == bits(drawn_network(1))


def test_a_network_without_parameters_has_a_file_too(tmp_path):
    save(Network({"relu": ReLU()}), tmp_path / "net.npz")
    load(Network({"relu": ReLU()}), tmp_path / "net.npz")


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupted_save_leaves_the_older_file_alone(saved, monkeypatch, step):
    def interrupt(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, step, interrupt)
    with pytest.raises(OSError, match="No space left"):
        save(drawn_network(2), saved)
    network = drawn_network(3)
    load(network, saved)
    assert bits(network) == bits(drawn_network(1))


def test_interrupted_save_leaves_no_other_file_behind(saved, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(drawn_network(2), saved)
    assert [path.name for path in saved.parent.iterdir()] == ["net.npz"]


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\ud800"])
@pytest.mark.parametrize("use", [save, load])
def test_names_that_no_archive_keeps_are_refused(saved, use, name):
    network = Network({name: Linear(2, 2, rng=np.random.default_rng(0))})
    message = f"{use.__name__}: every layer must have a printable name, got "
    with pytest.raises(ValueError, match=message):
        use(network, saved)


@pytest.mark.parametrize("use", [save, load])
def test_networks_of_sparse_layers_are_refused(saved, use):
    sparse = SparseLinear(CSR.from_dense(np.eye(2)), None)
    network = Network({"block": Residual(Network({"fc": sparse}))})
    message = f"{use.__name__}: every layer must be dense, got SparseLinear block.branch.fc; keep"
    with pytest.raises(ValueError, match=message):
        use(network, saved)


@pytest.mark.parametrize("use", [save, load])
@pytest.mark.parametrize("path", [None, 3, b"net.npz", BytesIO()])
def test_what_is_no_path_is_refused(use, path):
    with pytest.raises(TypeError, match=f"{use.__name__}: path must be a path, got "):
        use(drawn_network(1), path)


@pytest.mark.parametrize("use", [save, load])
def test_what_is_no_network_is_refused(use, saved):
    with pytest.raises(TypeError, match=f"{use.__name__}: network must be a Network, got dict"):
        use(drawn_network(1).state(), saved)


@pytest.mark.parametrize("use", [save, load])
def test_a_missing_folder_is_an_os_error(use, tmp_path):
    with pytest.raises(FileNotFoundError):
        use(drawn_network(1), tmp_path / "gone" / "net.npz")


# --- files of other networks -----------------------------------------------------------------

HEADER = r"'<f4' of shape \(3, 8\)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value/fc.bias": None}, r"missing \['value/fc.bias'\] and unexpected \[\]; load what"),
        (
            {"value/block.branch.norm.running_var": None},
            r"missing \['value/block.branch.norm.running_var'\] and unexpected \[\]; load what",
        ),
        ({"value/fc2.bias": np.ones(3)}, r"missing \[\] and unexpected \['value/fc2.bias'\]; lo"),
        ({"mask/gone": np.ones(3, bool)}, r"missing \[\] and unexpected \['mask/gone'\]; load"),
        (
            {"mask/block.branch.norm.running_var": np.ones(2, bool)},
            r"unexpected \['mask/block.branch.norm.running_var'\]; load",
        ),
        ({"format": None}, "net.npz must be written by save, got no entry format; load what"),
        ({"format": np.array([2, 2])}, "format of net.npz must be 1, got 2; load it with the ver"),
        ({"format": np.array([1.0, 2.0])}, "format in net.npz must be .*'<i8'.*, got .*'<f8'"),
        ({"format": np.array([1, 3])}, "net.npz must hold 3 masks, got 2; take"),
        ({"format": np.array([1, 2]), "mask/fc.weight": None}, "must hold 2 masks, got 1; take"),
        (
            {"value/fc.weight": np.ones((8, 3), np.float32)},
            rf"value/fc.weight in net.npz must be {HEADER}, got .*\(8, 3\).*; load what",
        ),
        (
            {"value/fc.weight": np.ones((3, 8))},
            rf"value/fc.weight in net.npz must be {HEADER}, got .*'<f8'.*; load what",
        ),
        (
            {"value/fc.weight": np.ones((3, 8), ">f4")},
            rf"value/fc.weight in net.npz must be {HEADER}, got .*'>f4'.*; load what",
        ),
        (
            {"value/fc.weight": np.ones((8, 3), np.float32).T},
            rf"value/fc.weight in net.npz must be {HEADER}, got .*'fortran_order': True.*; load",
        ),
        (
            {"value/fc.weight": np.array([{"a": 1}])},
            rf"value/fc.weight in net.npz must be {HEADER}, got .*'\|O'.*; load what",
        ),
        (
            {"mask/fc.weight": np.ones((3, 8), np.uint8)},
            r"mask/fc.weight in net.npz must be .*'\|b1'.*, got .*'\|u1'.*; load what",
        ),
        (
            {"mask/fc.weight": np.zeros((3, 8), bool)},
            r"value/fc.weight in net.npz must be 0 where the mask prunes, got \d+ others; set",
        ),
        (
            {"mask/fc.bias": np.zeros(3, bool), "value/fc.bias": np.full(3, np.nan, np.float32)},
            "value/fc.bias in net.npz must be 0 where the mask prunes, got 3 others; set",
        ),
        (
            {"mask/fc.weight": np.full((3, 8), 2, np.uint8).view(bool)},
            "mask/fc.weight in net.npz must hold 0 and 1, got 24 others; take",
        ),
    ],
)
def test_file_that_does_not_fit_is_refused(saved, changes, message):
    assert_refused(rewritten(saved, changes), f"^load: .*{message}")


def test_masks_that_the_file_lacks_are_lifted(saved):
    network = drawn_network(2)
    load(network, rewritten(saved, {"mask/fc.weight": None}))
    assert network.layers["fc"].weight.mask is None
    assert network.layers["conv1"].weight.mask is not None


def test_negative_zero_where_the_mask_prunes_becomes_zero(saved):
    network, weight = drawn_network(2), drawn_network(1).layers["fc"].weight
    value = np.where(weight.mask, weight.value, np.float32(-0.0))
    load(network, rewritten(saved, {"value/fc.weight": value}))
    assert bits(network) == bits(drawn_network(1))


def test_the_file_of_another_network_is_refused(tmp_path):
    save(mlp([4, 3], rng=np.random.default_rng(0)), tmp_path / "net.npz")
    assert_refused(tmp_path / "net.npz", r"missing \['value/conv1.weight', .*'value/fc1.weight', ")
