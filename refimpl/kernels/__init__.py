"""How fast does a sparse matrix multiply?"""

from __future__ import annotations

from refimpl.kernels.dispatch import KERNELS, Kernel, matmul, matmul_transposed
from refimpl.kernels.plan import Plan, plan
from refimpl.kernels.sddmm import SDDMM_KERNELS, SDDMMKernel, feature_rows, sddmm

__all__ = [
    "KERNELS",
    "SDDMM_KERNELS",
    "Kernel",
    "Plan",
    "SDDMMKernel",
    "feature_rows",
    "matmul",
    "matmul_transposed",
    "plan",
    "sddmm",
]
