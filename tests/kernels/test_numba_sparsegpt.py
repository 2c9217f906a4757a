"""The compiled blocks of SparseGPT are the clear ones, bit for bit, and write nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.kernels import numba_sparsegpt
from refimpl.kernels.numba_sparsegpt import TILE
from refimpl.prune.sparsegpt import prune_block, prune_block_n_of_m
from support.guards import assert_guards_hold, guarded

DTYPES = (np.float32, np.float64)
N_ROWS = st.integers(0, 5) | st.sampled_from([TILE - 1, TILE, TILE + 1, 2 * TILE + 3])


@st.composite
def blocks(draw, n_columns):
    """Columns with ties and zeros of both signs, and a triangle with a positive diagonal."""
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    shape = draw(N_ROWS), draw(n_columns)
    w = draw(st.sampled_from([rng.normal(size=shape), rng.integers(-2, 3, shape) * -1.0]))
    u = np.triu(rng.normal(size=(shape[1], shape[1])), 1) + np.diag(rng.integers(1, 4, shape[1]))
    return w.astype(dtype), u.astype(dtype), rng


def check(clear, compiled, *arguments):
    """Both on the same arguments; the compiled one writes between guards."""
    w = arguments[0]
    (out, room), (errors, other_room) = guarded(np.zeros_like(w)), guarded(np.zeros_like(w))
    compiled(*arguments, out, errors)
    for found, expected in zip((out, errors), clear(*arguments), strict=True):
        assert found.tobytes() == expected.tobytes()
    assert_guards_hold(room)
    assert_guards_hold(other_room)


@given(blocks(st.integers(1, 20)), st.sampled_from([0.0, 0.5, 1.0]))
def test_block_by_a_mask_has_the_bits_of_the_definition(block, density):
    w, u, rng = block
    mask = rng.random(w.shape) < density
    check(prune_block, numba_sparsegpt.prune_block, w, u, mask)


@given(st.data(), st.integers(1, 6), st.integers(1, 4))
def test_block_of_groups_has_the_bits_of_the_definition(data, m, n_groups):
    w, u, rng = data.draw(blocks(st.just(m * n_groups)))
    n, share = data.draw(st.integers(1, m)), data.draw(st.sampled_from([0.0, 0.5]))
    gone = rng.random(w.shape) < share
    kernel = numba_sparsegpt.prune_block_n_of_m
    check(prune_block_n_of_m, kernel, w, u, gone, n, m)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_by_hand(dtype):
    """Of 6 and 4 the first goes: 6 / 2 = 3 is left, and the second loses 3 times 1."""
    w, u = np.array([[6, 4]], dtype), np.array([[2, 1], [0, 1]], dtype)
    out, errors = np.empty_like(w), np.empty_like(w)
    numba_sparsegpt.prune_block(w, u, np.array([[False, True]]), out, errors)
    assert (out.tolist(), errors.tolist()) == ([[0, 1]], [[3, 0]])


def test_group_keeps_what_costs_most_to_remove_and_not_what_is_largest():
    """6 / 3 is less than 4 / 1."""
    w, u = np.array([[6.0, 4.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    out, errors = np.empty_like(w), np.empty_like(w)
    numba_sparsegpt.prune_block_n_of_m(w, u, np.zeros((1, 2), bool), 1, 2, out, errors)
    assert (out.tolist(), errors.tolist()) == ([[0, 4]], [[2, 0]])
