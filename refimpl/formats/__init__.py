"""How is a sparse matrix stored?

Each format keeps the values that are not zero, and enough indices to say where they belong.
A format validates its arrays once, when it is built, and freezes them: a kernel may then trust
every index it reads.
"""

from refimpl.formats.base import SparseMatrix
from refimpl.formats.bitmap import Bitmap
from refimpl.formats.bsr import BSR
from refimpl.formats.codebook import CodebookCSC
from refimpl.formats.coo import COO
from refimpl.formats.csc import CSC
from refimpl.formats.csr import CSR
from refimpl.formats.n_of_m import NOfM
from refimpl.formats.relative import RelativeCSC, expected_fillers
from refimpl.formats.storage import (
    bitmap_bytes,
    break_even,
    bsr_bytes,
    codebook_csc_bytes,
    coo_bytes,
    csc_bytes,
    csr_bytes,
    dense_bytes,
    expected_blocks,
    n_of_m_bytes,
    relative_csc_bytes,
    two_four_bytes,
)
from refimpl.formats.two_four import TwoFour

__all__ = [
    "BSR",
    "COO",
    "CSC",
    "CSR",
    "Bitmap",
    "CodebookCSC",
    "NOfM",
    "RelativeCSC",
    "SparseMatrix",
    "TwoFour",
    "bitmap_bytes",
    "break_even",
    "bsr_bytes",
    "codebook_csc_bytes",
    "coo_bytes",
    "csc_bytes",
    "csr_bytes",
    "dense_bytes",
    "expected_blocks",
    "expected_fillers",
    "n_of_m_bytes",
    "relative_csc_bytes",
    "two_four_bytes",
]
