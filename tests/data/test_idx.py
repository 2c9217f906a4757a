"""IDX files come back bit for bit, and a damaged one never comes back as something else."""

from __future__ import annotations

import gzip
import re
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refimpl.data import read_idx

# The format's own table: type byte, and how struct writes one entry.
TYPES = {
    "uint8": (0x08, "B"),
    "int8": (0x09, "b"),
    "int16": (0x0B, "h"),
    "int32": (0x0C, "i"),
    "float32": (0x0D, "f"),
    "float64": (0x0E, "d"),
}
SAMPLE = np.arange(24, dtype=np.int16).reshape(2, 3, 4) * 300
N_CORRUPTIONS = 250  # times four kinds


def encode(array: np.ndarray) -> bytes:
    """Write IDX by struct alone."""
    code, letter = TYPES[array.dtype.name]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + b"".join(struct.pack(f">{letter}", entry) for entry in array.ravel().tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


def read(folder, content: bytes) -> np.ndarray:
    path = folder / "entries-idx"
    path.write_bytes(content)
    return read_idx(path)


def read_or_refusal(folder, content: bytes) -> np.ndarray | None:
    """The array, or None for the one error that may come; any other error comes through."""
    try:
        return read(folder, content)
    except ValueError as refusal:
        assert re.fullmatch(r"read_idx: entries-idx must .+, got .+; .+", str(refusal))  # noqa: PT017
        return None


@given(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
    )
)
def test_read_idx_inverts_the_encoder(folder, array):
    result = read(folder, encode(array))
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_read_idx_reads_every_type_plain_and_compressed(folder, name, compress):
    array = np.array([[0, 1, 2], [100, 127, 3]], name)
    result = read(folder, compress(encode(array)))
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_read_idx_keeps_special_floats_bit_for_bit(folder, name):
    array = np.array([np.nan, -0.0, np.inf, -np.inf, np.finfo(name).smallest_subnormal], name)
    assert read(folder, encode(array)).tobytes() == array.tobytes()


def test_read_idx_returns_a_writeable_array_of_native_order(folder):
    result = read(folder, encode(SAMPLE))
    assert result.dtype.isnative
    assert result.flags.writeable


def test_read_idx_takes_a_path_as_text(folder):
    (folder / "text").write_bytes(encode(SAMPLE))
    np.testing.assert_array_equal(read_idx(str(folder / "text")), SAMPLE)


def test_read_idx_names_a_missing_file(folder):
    with pytest.raises(FileNotFoundError, match="absent-idx"):
        read_idx(folder / "absent-idx")


PLAIN = encode(SAMPLE)
ZIPPED = gzip.compress(PLAIN, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with two zero bytes, a type and a number of axes, got 0x;"),
        (b"\0\0", "must begin with two zero bytes"),
        (b"\x89PNG\r\n", "must begin with two zero bytes.*got 0x89504e47"),
        (b"\0\0\x0a\1" + PLAIN[4:], "must begin with two zero bytes.*got 0x00000a01"),
        (PLAIN[:9], "must hold the lengths of 3 axes, at most 32, got 5 bytes"),
        (b"\0\0\x08\x21" + b"\0\0\0\1" * 33 + b"7", "must hold the lengths of 33 axes, at most"),
        (PLAIN[:-1], r"must hold 48 bytes of entries for shape \(2, 3, 4\), got 47"),
        (PLAIN + b"\0", r"must hold 48 bytes of entries for shape \(2, 3, 4\), got more"),
        (gzip.compress(PLAIN[:-1]), "must hold 48 bytes of entries.*got 47"),
        (gzip.compress(PLAIN + b"\0"), "must hold 48 bytes of entries.*got more"),
        (ZIPPED[:-9], "must be sound gzip, got Compressed file ended before"),
        (ZIPPED[:3], "must be sound gzip"),
        (ZIPPED + b"more", "must be sound gzip, got Not a gzipped file"),
        (ZIPPED[:-5] + b"\x55" + ZIPPED[-4:], "must be sound gzip, got CRC check failed"),
        (ZIPPED[:10] + b"\xff" * 20, "must be sound gzip, got Error -3"),
        (b"\0\0\x08\4" + b"\0\0\0\0" + b"\xff" * 12, "must have a shape that fits into memory"),
    ],
)
def test_read_idx_refuses_a_damaged_file_by_name(folder, content, message):
    with pytest.raises(ValueError, match=f"^read_idx: entries-idx {message}"):
        read(folder, content)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_read_idx_believes_no_huge_header(folder, compress):
    content = compress(b"\0\0\x0e\3" + b"\xff\xff\xff\xff" * 3 + b"8 entries")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"must hold \d{30} bytes of entries.*got 9;"):
            read(folder, content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [PLAIN, ZIPPED], ids=["plain", "gzip"])
@given(data=st.data())
def test_no_truncated_file_is_read(folder, content, data):
    length = data.draw(st.integers(0, len(content) - 1))
    assert read_or_refusal(folder, content[:length]) is None


@pytest.mark.parametrize("seed", range(N_CORRUPTIONS))
def test_changed_bytes_of_a_plain_file_are_what_they_say_or_refused(folder, seed):
    content = changed(PLAIN, seed, stop=16 if seed % 2 else len(PLAIN))
    result = read_or_refusal(folder, content)
    assert result is None or encode(result) == content


@pytest.mark.parametrize("seed", range(N_CORRUPTIONS))
def test_changed_bytes_of_a_compressed_file_are_noticed(folder, seed):
    result = read_or_refusal(folder, changed(ZIPPED, seed, stop=len(ZIPPED)))
    assert result is None or (result.dtype == SAMPLE.dtype and np.array_equal(result, SAMPLE))


@pytest.mark.parametrize("content", [PLAIN, ZIPPED], ids=["plain", "gzip"])
@pytest.mark.parametrize("seed", range(N_CORRUPTIONS))
def test_noise_after_any_prefix_is_refused(folder, content, seed):
    rng = np.random.default_rng(seed)
    noise = rng.bytes(int(rng.integers(1, 80)))
    damaged = content[: int(rng.integers(0, 16))] + noise
    result = read_or_refusal(folder, damaged)
    assert result is None or encode(result) == damaged


def changed(content: bytes, seed: int, *, stop: int) -> bytes:
    """`content` with one to three of its first `stop` bytes replaced by others."""
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(content, np.uint8).copy()
    where = rng.choice(stop, rng.integers(1, 4), replace=False)
    damaged[where] ^= rng.integers(1, 256, len(where), np.uint8)
    return damaged.tobytes()
