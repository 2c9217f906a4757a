"""Weights have the zeros that they should, and factors begin where they should."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.experiments import kernel_inputs


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("sparsity", "nnz"), [(0.0, 128), (0.5, 64), (0.9, 13), (0.98, 3)])
def test_random_weight_has_an_exact_count_of_weights(sparsity, nnz):
    setting = {"rows": 16, "columns": 8, "sparsity": sparsity}
    w = kernel_inputs.random_weight(setting, rng())
    assert (w.shape, w.dtype, np.count_nonzero(w)) == ((16, 8), np.float32, nnz)


def test_random_blocks_are_whole_and_of_an_exact_count():
    setting = {"rows": 16, "columns": 8, "sparsity": 0.75, "block": 4}
    blocks = kernel_inputs.random_blocks(setting, rng()).reshape(4, 4, 2, 4).swapaxes(1, 2)
    per_block = np.count_nonzero(blocks, axis=(2, 3))
    assert sorted(per_block.ravel()) == [0] * 6 + [16] * 2


def test_random_two_four_keeps_two_of_every_four():
    w = kernel_inputs.random_two_four({"rows": 6, "columns": 8}, rng())
    assert (np.count_nonzero(w.reshape(6, 2, 4), axis=2) == 2).all()


def test_random_two_four_keeps_every_pair_of_places():
    w = kernel_inputs.random_two_four({"rows": 64, "columns": 8}, rng())
    kept = (w.reshape(-1, 4) != 0) @ [1, 2, 4, 8]
    assert set(kept) == {0b0011, 0b0101, 0b1001, 0b0110, 0b1010, 0b1100}


@pytest.mark.parametrize(("batch", "shape"), [(1, (7,)), (2, (7, 2)), (64, (7, 64))])
def test_right_factor_of_one_column_is_a_vector(batch, shape):
    assert kernel_inputs.right_factor(7, {"batch": batch}, rng()).shape == shape


def test_right_factor_begins_on_a_cache_line():
    assert kernel_inputs.right_factor(7, {"batch": 3}, rng()).ctypes.data % 64 == 0


@pytest.mark.parametrize("offset", [0, 16, 32, 60])
def test_aligned_begins_as_far_behind_a_cache_line_as_asked(offset):
    copy = kernel_inputs.aligned(np.ones((3, 5), np.float32), offset=offset)
    assert copy.ctypes.data % 64 == offset


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.ones((0, 4)), np.ones(1)])
def test_aligned_is_a_copy(array):
    copy = kernel_inputs.aligned(array)
    assert np.array_equal(copy, array)
    assert copy.flags.c_contiguous
    assert not np.shares_memory(copy, array)


def test_find_pattern_finds_a_file_by_the_end_of_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))
    path = tmp_path / "dlmc" / "transformer" / "0.9" / "layer.smtx"
    path.parent.mkdir(parents=True)
    path.touch()
    assert kernel_inputs.find_pattern("0.9/layer.smtx") == path


@pytest.mark.parametrize("file", [None, "other.smtx"])
def test_find_pattern_without_the_file_is_none(tmp_path, monkeypatch, file):
    monkeypatch.setenv("REFIMPL_DATA", str(tmp_path))
    (tmp_path / "dlmc").mkdir()
    if file is not None:
        (tmp_path / "dlmc" / file).touch()
    assert kernel_inputs.find_pattern("0.9/layer.smtx") is None
