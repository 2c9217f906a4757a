"""Panels cover every batch and every row exactly once, however the threads share them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.formats import CSR
from refimpl.kernels.numba_csr_panels import (
    NARROW,
    WIDE,
    csr_matmul_packed_panels,
    first_column,
    panels,
    share_of_rows,
    tasks_of,
)


@pytest.mark.parametrize("n", [*range(1, 40), 63, 64, 65, 96, 97, 112, 113, 128, 130, 200])
def test_packed_panels_write_every_column_of_any_batch(n):
    rng = np.random.default_rng(n)
    dense = np.where(rng.random((5, 7)) < 0.5, rng.integers(-9, 10, (5, 7)), 0).astype(np.float32)
    x = rng.integers(-9, 10, (7, n)).astype(np.float32)
    a, room = CSR.from_dense(dense), np.full((5, n + 3), 77, np.float32)
    csr_matmul_packed_panels(a.data, a.indices, a.indptr, x, room[:, :n])
    np.testing.assert_array_equal(room[:, :n], dense @ x)
    assert (room[:, n:] == 77).all()


@given(st.integers(0, 1000))
def test_panels_cover_every_column_once(n):
    n_wide, n_panels = panels(n)
    firsts = [first_column(panel, n_wide) for panel in range(n_panels)]
    widths = [WIDE] * n_wide + [NARROW] * (n_panels - n_wide)
    columns = [first + j for first, width in zip(firsts, widths, strict=True) for j in range(width)]
    assert [j for j in columns if j < n] == list(range(n))
    assert all(first < n for first in firsts)


@given(st.integers(1, 1000))
def test_wide_panels_are_filled_by_half(n):
    n_wide, _ = panels(n)
    assert n_wide == 0 or n - (n_wide - 1) * WIDE > WIDE // 2


@given(st.integers(1, 9), st.integers(0, 50))
def test_tasks_are_shared_without_gap_or_overlap(n_threads, n_tasks):
    shared = [task for thread in range(n_threads) for task in tasks_of(thread, n_threads, n_tasks)]
    assert shared == list(range(n_tasks))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5))
def test_rows_are_shared_without_gap_or_overlap(counts, n_shares):
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=int)]).astype(np.int32)
    bounds = [int(share_of_rows(indptr, share, n_shares)) for share in range(n_shares + 1)]
    assert (bounds[0], bounds[-1]) == (0, len(counts))
    assert bounds == sorted(bounds)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 5))
def test_no_share_exceeds_the_equal_part_by_more_than_one_row(counts, n_shares):
    indptr = np.concatenate([[0], np.cumsum(counts)])
    bounds = [int(share_of_rows(indptr, share, n_shares)) for share in range(n_shares + 1)]
    assert np.diff(indptr[bounds]).max() <= sum(counts) / n_shares + max(counts) + 1


def test_shares_of_two_billion_values_do_not_overflow():
    indptr = np.linspace(0, 2**31 - 1, 9).astype(np.int32)
    assert [int(share_of_rows(indptr, share, 4)) for share in range(5)] == [0, 2, 4, 6, 8]


def test_a_long_row_does_not_go_with_half_of_the_others():
    indptr = np.array([0, 100, 110, 120, 130, 140])
    assert int(share_of_rows(indptr, 1, 2)) == 1


def test_panels_are_whole_cache_lines():
    assert (WIDE * 4 % 64, NARROW * 4 % 64) == (0, 0)
