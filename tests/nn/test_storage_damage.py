"""Damaged and hostile files: the original network, or one sentence and an untouched network."""

from __future__ import annotations

import pickle
import re
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.nn import Network, load, mlp, save
from support.corruption import ONE_SENTENCE


def small_network(seed: int) -> Network:
    network = mlp([3, 2, 2], rng=np.random.default_rng(seed))
    network.layers["fc1"].weight.mask = np.eye(2, 3, dtype=bool)
    return network


def bits(network: Network) -> dict[str, bytes]:
    """All that a file should bring back."""
    values = {name: value.tobytes() for name, value in network.state().items()}
    mask = network.layers["fc1"].weight.mask
    return values | {"mask": b"" if mask is None else mask.tobytes()}


def refusal_of(network: Network, path: Path) -> str:
    """What `load` says to a file; nothing if it takes it."""
    try:
        load(network, path)
    except ValueError as refusal:
        return str(refusal)
    return ""


def assert_refused(path: Path, message: str) -> None:
    """One sentence, which is this one, and not a bit of the network has changed."""
    network = small_network(2)
    before, refusal = bits(network), refusal_of(network, path)
    assert re.search(message, refusal), refusal
    assert re.match(ONE_SENTENCE, refusal)
    assert bits(network) == before


def assert_original_or_refused(folder: Path, content: bytes) -> None:
    """Damage is where nobody reads, or it is found."""
    (folder / "net").write_bytes(content)
    network = small_network(2)
    before, refusal = bits(network), refusal_of(network, folder / "net")
    assert not refusal or re.match(ONE_SENTENCE, refusal)
    assert bits(network) == (before if refusal else bits(small_network(1)))


@pytest.fixture
def saved(tmp_path) -> Path:
    """The file of network 1."""
    save(small_network(1), tmp_path / "net.npz")
    return tmp_path / "net.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def sound(folder) -> bytes:
    """The bytes of the file of network 1."""
    save(small_network(1), folder / "sound")
    return (folder / "sound").read_bytes()


# --- damage ----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(data=st.data())
def test_flipped_bits_are_harmless_or_found(sound, folder, data):
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(sound) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    assert_original_or_refused(folder, bytes(content))


@given(data=st.data())
def test_missing_and_inserted_bytes_are_harmless_or_found(sound, folder, data):
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(sound))] * 2)))
    inserted = data.draw(st.binary(max_size=30))
    assert_original_or_refused(folder, sound[:begin] + inserted + sound[end:])


@given(data=st.data())
def test_truncated_files_are_found(sound, folder, data):
    (folder / "net").write_bytes(sound[: data.draw(st.integers(0, len(sound) - 1))])
    assert_refused(folder / "net", r"^load: net must be a sound archive, got \w+: .+; take another")


def test_checker_of_damage_finds_another_network(folder):
    save(small_network(3), folder / "other")
    with pytest.raises(AssertionError):
        assert_original_or_refused(folder, (folder / "other").read_bytes())


def test_damage_that_hides_the_last_entry_is_found(sound, folder):
    # A table of contents that says its last entry but one has a comment of 128 bytes.
    *_, last_but_one, last = (match.start() for match in re.finditer(b"PK\1\2", sound))
    content = bytearray(sound)
    content[last_but_one + 32] ^= 128
    assert b"mask/fc1.weight" in sound[last:]
    (folder / "net").write_bytes(content)
    assert_refused(folder / "net", "^load: net must hold 1 masks, got 0; take another copy")


@pytest.mark.slow
@pytest.mark.parametrize("bit", range(8))
def test_every_single_flipped_bit_is_harmless_or_found(sound, folder, bit):
    for place in range(len(sound)):
        content = bytearray(sound)
        content[place] ^= 1 << bit
        assert_original_or_refused(folder, bytes(content))


# --- hostile files ---------------------------------------------------------------------------


class Bomb:
    """Runs when it is unpickled."""

    exploded = False

    def __reduce__(self):
        return explode, ()


def explode():
    Bomb.exploded = True


def with_entry(path: Path, name: str, raw: bytes, *, compression=zipfile.ZIP_STORED) -> Path:
    """The file with one entry's bytes replaced, checksum and all."""
    with zipfile.ZipFile(path) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, content in (contents | {f"{name}.npy": raw}).items():
            archive.writestr(entry, content)
    return path


def npy(n_bytes: int, shape="(2, 3)", *, descr="'<f4'", magic=b"\x93NUMPY\x01\x00") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return magic + len(header).to_bytes(2, "little") + header + bytes(n_bytes)


def test_planted_pickle_runs_where_pickles_are_loaded(monkeypatch):
    monkeypatch.setattr(Bomb, "exploded", False)
    pickle.loads(pickle.dumps(Bomb()))
    assert Bomb.exploded


@pytest.mark.parametrize("name", ["format", "value/fc1.weight", "mask/fc1.weight", "value/more"])
def test_load_runs_no_pickle(saved, monkeypatch, name):
    monkeypatch.setattr(Bomb, "exploded", False)
    bomb = BytesIO()
    np.save(bomb, np.array([Bomb()], dtype=object))
    assert_refused(with_entry(saved, name, bomb.getvalue()), "^load: ")
    assert not Bomb.exploded


def test_forger_of_entries_forges_what_load_takes(saved):
    network = small_network(2)
    load(network, with_entry(saved, "value/fc1.weight", npy(24)))
    assert not network.layers["fc1"].weight.value.any()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (npy(0, "(1000000, 1000000, 1000)"), r"must be .*, got .*\(1000000, 1000000, 1000\)"),
        (npy(23), "value/fc1.weight in net.npz must hold 24 bytes, got 23; load"),
        (npy(25), "value/fc1.weight in net.npz must hold 24 bytes, got more; load"),
        (npy(10**6), "must hold 24 bytes, got more; load"),
        (npy(0), "must hold 24 bytes, got 0; load"),
        (npy(24, magic=b"\x93NUMPY\x02\x00"), "must be .*, got .*NUMPY"),
        (npy(24, magic=b"\x80\x05pickle!"), "must be .*, got .*pickle"),
        (npy(24, descr="__import__('os')"), "must be .*, got .*__import__"),
        (npy(24, descr="[" * 9000), r"must be .*, got .*\[\[\[\["),
        (npy(24, descr="'<f4'\n"), r"must be .*, got '<f4'\\n"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "must be .*, got {; load"),
        (b"\x93NUMPY", "must be .*, got .*NUMPY"),
        (b"", "must be .*, got nothing; load"),
    ],
)
def test_forged_array_is_refused(saved, raw, message):
    assert_refused(with_entry(saved, "value/fc1.weight", raw), f"^load: .*{message}")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries_are_refused(saved, compression):
    with_entry(saved, "value/fc1.weight", npy(24), compression=compression)
    assert_refused(saved, "^load: net.npz must be a sound archive, got .*format.npy is compressed")


def test_memory_does_not_grow_with_what_a_file_announces(saved, monkeypatch):
    with_entry(saved, "value/fc1.weight", npy(10**6, "(1000, 250)"))
    asked, read = [], zipfile.ZipExtFile.read
    spy = lambda stream, n=-1: (asked.append(n), read(stream, n))[1]  # noqa: E731 - a shim
    monkeypatch.setattr(zipfile.ZipExtFile, "read", spy)
    assert_refused(saved, "^load: value/fc1.weight in net.npz must be ")
    assert min(asked) > 0
    assert max(asked) < 1000


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["value/fc1.bias.npy", "value/fc1.bias", "mask/fc1.weight.npy"])
def test_an_entry_that_is_there_twice_is_refused(saved, name):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(name, npy(8, "(2,)"))
    assert_refused(saved, r"^load: .* missing \[\] and unexpected \['\w+/fc1.\w+'\]; load what")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not an archive", b"PK\x05\x06"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "net.npz").write_bytes(content)
    assert_refused(tmp_path / "net.npz", "^load: net.npz must be a sound archive, got BadZipFile")


def test_an_archive_of_other_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "net.npz", x=np.ones(3))
    assert_refused(tmp_path / "net.npz", "net.npz must be written by save, got no entry format")
