"""Patterns of pruned layers come back as they are written, and a damaged file is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.data import dlmc_files, read_smtx
from refimpl.formats import CSR
from support.corruption import is_csr
from support.dlmc import every_pattern
from support.formats import fields_of
from support.strategies import dense_matrices

SAMPLE = b"3, 4, 4\n0 2 2 4 \n1 3 0 2 \n"  # with the blanks that end the collection's lines
REFUSAL = r"^read_smtx: layer\.smtx must .+, got .+; the file is damaged or no \.smtx file; fetch"


def encode(dense: np.ndarray) -> bytes:
    """Write a pattern row by row, from Python lists alone."""
    columns = [[j for j, value in enumerate(row) if value != 0] for row in dense.tolist()]
    flat = [j for row in columns for j in row]
    pointers = [sum(map(len, columns[:i])) for i in range(len(columns) + 1)]
    head = f"{dense.shape[0]}, {dense.shape[1]}, {len(flat)}"
    lines = (head, " ".join(map(str, pointers)), " ".join(map(str, flat)))
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dlmc")


def read(folder, content: bytes, seed: int = 0) -> CSR:
    path = folder / "layer.smtx"
    path.write_bytes(content)
    return read_smtx(path, np.random.default_rng(seed))


def test_smtx_of_the_hand_written_file(folder):
    csr = read(folder, SAMPLE)
    kept = [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
    np.testing.assert_array_equal(csr.to_dense() != 0, kept)


@given(dense=dense_matrices())
def test_smtx_keeps_every_place(folder, dense):
    csr, expected = read(folder, encode(dense)), CSR.from_dense(dense)
    assert csr.shape == expected.shape
    np.testing.assert_array_equal(csr.indptr, expected.indptr, strict=True)
    np.testing.assert_array_equal(csr.indices, expected.indices, strict=True)


def test_smtx_values_are_drawn_row_by_row_in_single_precision(folder):
    drawn = np.random.default_rng(7).standard_normal(4, np.float32)
    np.testing.assert_array_equal(read(folder, SAMPLE, seed=7).data, drawn, strict=True)


def test_smtx_takes_windows_line_ends(folder):
    assert read(folder, SAMPLE.replace(b"\n", b"\r\n")).indices.tolist() == [1, 3, 0, 2]


def test_smtx_refuses_a_bare_seed(folder):
    with pytest.raises(TypeError, match=r"^read_smtx: rng must be a numpy\.random\.Generator"):
        read_smtx(folder / "layer.smtx", 0)


def test_smtx_names_a_missing_file(folder):
    with pytest.raises(FileNotFoundError, match=r"absent\.smtx"):
        read_smtx(folder / "absent.smtx", np.random.default_rng())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "hold three lines, got 1"),
        (b"3, 4, 4\n0 2 2 4", "hold three lines, got 2"),
        (SAMPLE + b"\n0 1\n", "hold three lines, got 6"),
        (SAMPLE.replace(b"1 3", b"1 x"), r"hold whole numbers below 2\*\*31, got 'invalid literal"),
        (SAMPLE.replace(b"1 3", b"1 .5"), r"hold whole numbers below 2\*\*31"),
        (SAMPLE.replace(b"1 3", b"1 4294967299"), r"hold whole numbers below 2\*\*31, got 'Python"),
        (SAMPLE.replace(b"1 3", b"1 " + b"9" * 30), r"hold whole numbers below 2\*\*31"),
        (SAMPLE.replace(b"1 3", b"1 " + b"9" * 9999), r"hold whole numbers below 2\*\*31"),
        (SAMPLE.replace(b",", b""), "hold whole numbers"),
        (SAMPLE.replace(b"4, 4", b"4"), r"begin with rows, columns and 4, .*, got \[3, 4\]"),
        (SAMPLE.replace(b"4, 4", b"4, 5"), r"begin with rows, columns and 4, .*, got \[3, 4, 5\]"),
        (SAMPLE.replace(b"4, 4", b"4, 2147483647"), "begin with rows, columns and 4"),
        (SAMPLE.replace(b"3, 4", b"2, 4"), r"describe a matrix, got 'CSR: indptr must have shape"),
        (SAMPLE.replace(b"3, 4", b"-3, 4"), "describe a matrix, got 'CSR: shape must be at least"),
        (SAMPLE.replace(b"3, 4", b"3, 3"), r"describe a matrix, got 'CSR: .* got 3 at position 1"),
        (SAMPLE.replace(b"1 3", b"3 1"), "describe a matrix, got 'CSR: .* got 3 then 1 in row 0"),
        (SAMPLE.replace(b"0 2 2", b"0 3 2"), "describe a matrix, got 'CSR: .* never decrease"),
        (b"\x1f\x8b\x08" + bytes(range(256)), "got"),
    ],
)
def test_smtx_refuses_a_damaged_file_by_name(folder, content, match):
    with pytest.raises(ValueError, match=match) as refusal:
        read(folder, content)
    assert re.match(REFUSAL, str(refusal.value))


@given(data=st.data())
def test_smtx_with_changed_bytes_is_a_matrix_or_refused(folder, data):
    damaged = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        byte = data.draw(st.sampled_from(list(b"0123456789, \n-\xff")))
        damaged[data.draw(st.integers(0, len(SAMPLE) - 1))] = byte
    try:
        csr = read(folder, bytes(damaged))
    except ValueError as refusal:
        assert re.match(REFUSAL, str(refusal))  # noqa: PT017 - any other error comes through
    else:
        assert is_csr(**fields_of(csr))


# Where the files are


def test_dlmc_files_are_found_below_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))
    for name in ("b.smtx", "a.smtx", "notes.txt"):
        (tmp_path / "dlmc" / "transformer").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dlmc" / "transformer" / name).write_bytes(SAMPLE)
    assert [path.name for path in dlmc_files()] == ["a.smtx", "b.smtx"]


def test_dlmc_files_are_found_in_a_given_folder(tmp_path):
    (tmp_path / "layer.smtx").write_bytes(SAMPLE)
    assert dlmc_files(tmp_path) == [tmp_path / "layer.smtx"]


def test_dlmc_files_says_where_it_looked(monkeypatch):
    monkeypatch.delenv("REFIMPL_DATA", raising=False)
    match = r"^dlmc_files: folder must hold \.smtx files, got none below \$REFIMPL_DATA/dlmc; set"
    with pytest.raises(FileNotFoundError, match=match):
        dlmc_files()


@every_pattern
def test_dlmc_pattern_has_the_sparsity_of_its_folder(path):
    csr = read_smtx(path, np.random.default_rng(0))
    rows, columns = csr.shape
    assert csr.nnz == int(rows * columns * (1 - float(path.parent.name)) + 1e-6)
