"""How fast does a sparse matrix multiply?"""

from __future__ import annotations

from refimpl.kernels.dispatch import KERNELS, Kernel, matmul, matmul_transposed

__all__ = ["KERNELS", "Kernel", "matmul", "matmul_transposed"]
