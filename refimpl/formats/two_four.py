"""2:4, the format of sparse tensor cores: two values and two 2-bit indices for four columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from refimpl.formats.coo import COO, check_coo
from refimpl.formats.groups import pack_groups
from refimpl.formats.n_of_m import GroupedMatrix


@final
@dataclass(frozen=True, eq=False, repr=False)
class TwoFour(GroupedMatrix):
    """A matrix that stores two of every four columns of a row.

    Parameters
    ----------
    values : ndarray of float16, float32 or float64, shape (m, k / 2)
        The two stored values of each group of four columns, row by row; zeros are allowed.
    meta : ndarray of uint32, shape (m, ceil(k / 32))
        Sixteen 2-bit indices a word, low bits first: the columns i < j of a group, counted from
        its first, are the nibble ``i | j << 2``. One word describes 32 columns of one row. Where
        k is no multiple of 32, each unused nibble of a row's last word is 0100, columns 0 and 1.
    shape : tuple of int
        ``(m, k)``, rows and columns; k is a multiple of 4.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not describe exactly one matrix.

    Notes
    -----
    Six nibbles are legal: 0100 1000 1001 1100 1101 1110. A group with fewer than two nonzeros
    stores explicit zeros too, from column 2, then 3: the choice of PyTorch's packer.

    Takes ``m k / 2`` values and ``4 m ceil(k / 32)`` bytes of indices. Where k is a multiple of
    32 that is 9/16 of the dense matrix in float16, 17/32 in float32, 33/64 in float64.

    References
    ----------
    Mishra et al. (2021), "Accelerating sparse deep neural networks", section 3.1. NVIDIA, "PTX
    ISA", mma.sp: the nibbles, and that the indices of a group increase.

    Examples
    --------
    >>> import numpy as np
    >>> w = TwoFour.from_dense(np.array([[0.0, 5, 0, 7, 0, 0, 0, 9]], np.float32))
    >>> w.values.tolist(), w.columns().tolist()
    ([[5.0, 7.0, 0.0, 9.0]], [[1, 3, 6, 7]])
    >>> hex(w.meta[0, 0])  # low bits first: 1101, 1110, then six unused groups
    '0x444444ed'
    >>> w @ np.ones(8, np.float32)
    array([21.], dtype=float32)
    """

    pattern: ClassVar = (2, 4)

    values: np.ndarray
    meta: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> Self:
        """Store two entries of every four side by side, those that are not zero among them.

        Parameters
        ----------
        dense : ndarray of float16, float32 or float64, shape (m, k)
            Any memory layout; k is a multiple of 4, and no group has more than two nonzeros. NaN
            counts as one.

        Returns
        -------
        TwoFour
            A copy. Exact, except that -0.0 comes back as +0.0.

        Raises
        ------
        TypeError, ValueError
            If `dense` is no matrix of floats, or not 2:4.
        """
        return cls(*pack_groups("TwoFour.from_dense", dense, cls.pattern), dense.shape)

    @classmethod
    def from_coo(cls, coo: COO) -> Self:
        """Store the entries of a COO matrix that are not zero, by way of the dense matrix.

        Parameters
        ----------
        coo : COO
            In any order.

        Returns
        -------
        TwoFour
            A copy.

        Raises
        ------
        TypeError, ValueError
            If `coo` is of another format, or the matrix is not 2:4.
        """
        where = "TwoFour.from_coo"
        check_coo(where, coo)
        return cls(*pack_groups(where, coo.to_dense(), cls.pattern), coo.shape)
