"""When are weights removed, and what repairs the damage?"""

from __future__ import annotations

from refimpl.prune.masking import (
    apply_masks,
    budgeted_masks,
    global_masks,
    layerwise_masks,
    network_sparsity,
)
from refimpl.prune.oneshot import compound_sparsities, prune_iteratively, prune_one_shot

__all__ = [
    "apply_masks",
    "budgeted_masks",
    "compound_sparsities",
    "global_masks",
    "layerwise_masks",
    "network_sparsity",
    "prune_iteratively",
    "prune_one_shot",
]
