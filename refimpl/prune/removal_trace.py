"""In which order do the weights of a layer go, and what does each cost? One run, any sparsity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.arrays import bad_argument, check_count
from refimpl.masks import count_kept


@dataclass(frozen=True, eq=False)
class RemovalTrace:
    """What a greedy search removed from each row of a weight, in order, and at what cost.

    Attributes
    ----------
    order : ndarray of int64, shape (n_out, n_steps)
        Blocks of the row as they were removed: places, where a block is one weight.
    increase : ndarray of float64, same shape
        What each removal added to the layer's `reconstruction_error`.
    n_in : int
        Inputs, ``block_size`` times the number of blocks in a row.
    block_size : int
        Consecutive inputs that go together.

    Notes
    -----
    Rows do not feel each other, so any number of removals from each is a prefix of its trace.
    Which prefixes? The cheapest next removal among all rows, again and again, from a heap. It pops
    a removal when all before it in its row, and all that are cheaper, are gone: in the order of
    the *largest* increase so far in its row. So one sort does the work of the heap.

    16 bytes a removal.

    References
    ----------
    Frantar and Alistarh (2022), algorithm 2, for the heap. Differs from their code, which counts
    for each row how many of its increases are among the smallest of all.

    Examples
    --------
    >>> import numpy as np
    >>> trace = RemovalTrace(np.array([[1, 0], [0, 1]]), np.array([[1.0, 5.0], [2.0, 3.0]]), 2)
    >>> trace.mask(0.5).astype(int)
    array([[1, 0],
           [0, 1]])
    >>> trace.curve()
    array([ 0.,  1.,  3.,  6., 11.])
    """

    order: np.ndarray
    increase: np.ndarray
    n_in: int
    block_size: int = 1

    def mask(self, sparsity: float, *, least_kept: int = 0) -> np.ndarray:
        """Choose how much of each row goes, so that a fraction of the layer does.

        Parameters
        ----------
        sparsity : float
            Fraction of the blocks to remove, in ``[0, 1)``.
        least_kept : int
            Blocks that every row keeps, at least. Without it a row may end up empty, if that is
            cheapest: its output is then 0, as the best approximation of an output that the next
            layer still reads.

        Returns
        -------
        ndarray of bool, shape (n_out, n_in)
            True = kept, for exactly ``count_kept(n_blocks, sparsity)`` blocks of the layer.
            Of equal costs, those of the last row go first, so that ties are kept from the lowest
            index on. Masks are nested: what a smaller sparsity removes, a larger one does too.

        Raises
        ------
        TypeError, ValueError
            If the sparsity is no fraction, or beyond where the trace ends or `least_kept` lets it.
        """
        check_count("RemovalTrace.mask", "least_kept", least_kept, 0, self._n_blocks)
        n_removed = self._n_all - count_kept(self._n_all, sparsity)
        n_steps = min(self.order.shape[1], self._n_blocks - least_kept)
        if n_removed > len(self.order) * n_steps:
            most = f"{len(self.order) * n_steps} of {self._n_all}"
            raise bad_argument(
                "RemovalTrace.mask",
                "sparsity",
                f"remove at most {most}",
                f"{sparsity}, which removes {n_removed}",
                "a pattern, or least_kept, allows no more",
            )
        chosen = self._ranking(n_steps)[:n_removed]
        counts = np.bincount(chosen // max(n_steps, 1), minlength=len(self.order))
        return self._mask_of(counts)

    def last_mask(self) -> np.ndarray:
        """Tell what is left when the trace ends: with a pattern n:m, n of each m.

        Returns
        -------
        ndarray of bool, shape (n_out, n_in)
            True = kept.
        """
        return self._mask_of(np.full(len(self.order), self.order.shape[1]))

    def curve(self) -> np.ndarray:
        """Add up what the layer's error becomes, removal by removal.

        Returns
        -------
        ndarray of float64, shape (n_out * n_steps + 1,)
            Entry k is the error after the k removals that `mask` would choose; the first is 0.
        """
        ranked = self.increase.ravel()[self._ranking(self.order.shape[1])]
        return np.concatenate([[0.0], np.cumsum(ranked)])

    @property
    def _n_blocks(self) -> int:
        return self.n_in // self.block_size

    @property
    def _n_all(self) -> int:
        return len(self.order) * self._n_blocks

    def _ranking(self, n_steps: int) -> np.ndarray:
        """The first removals of all rows, as a heap pops them."""
        highest = np.maximum.accumulate(self.increase[:, :n_steps], axis=1)
        row, step = np.indices(highest.shape)
        return np.lexsort((step.ravel(), -row.ravel(), highest.ravel()))

    def _mask_of(self, counts: np.ndarray) -> np.ndarray:
        gone = np.arange(self.order.shape[1]) < counts[:, None]
        kept = np.ones((len(self.order), self._n_blocks), dtype=bool)
        np.put_along_axis(kept, self.order, ~gone, axis=1)
        return np.repeat(kept, self.block_size, axis=1)
