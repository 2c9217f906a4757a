"""What shape is removed? A mask says of every weight whether it stays; True = kept."""

from __future__ import annotations

from refimpl.masks.blocks import block_saliency, blocks
from refimpl.masks.budget import (
    erdos_renyi_counts,
    erdos_renyi_kernel_counts,
    global_counts,
    uniform_counts,
)
from refimpl.masks.channels import channel_mask, channels
from refimpl.masks.n_of_m import n_of_m, transposable_two_four
from refimpl.masks.select import count_kept, global_unstructured, keep_top_k, unstructured

__all__ = [
    "block_saliency",
    "blocks",
    "channel_mask",
    "channels",
    "count_kept",
    "erdos_renyi_counts",
    "erdos_renyi_kernel_counts",
    "global_counts",
    "global_unstructured",
    "keep_top_k",
    "n_of_m",
    "transposable_two_four",
    "uniform_counts",
    "unstructured",
]
