"""What shape is removed? A mask says of every weight whether it stays; True = kept."""

from __future__ import annotations

from refimpl.masks.blocks import block_saliency, blocks
from refimpl.masks.budget import (
    erdos_renyi_counts,
    erdos_renyi_kernel_counts,
    global_counts,
    uniform_counts,
)
from refimpl.masks.channel_order import efficacy, permute_inputs, permute_outputs
from refimpl.masks.channels import channel_mask, channels
from refimpl.masks.n_of_m import n_of_m, transposable_two_four
from refimpl.masks.permute import divide_stripes, permute_channels, swap_channels
from refimpl.masks.row_wise import row_wise
from refimpl.masks.select import count_kept, global_unstructured, keep_top_k, unstructured
from refimpl.masks.stripes import kept_saliency

__all__ = [
    "block_saliency",
    "blocks",
    "channel_mask",
    "channels",
    "count_kept",
    "divide_stripes",
    "efficacy",
    "erdos_renyi_counts",
    "erdos_renyi_kernel_counts",
    "global_counts",
    "global_unstructured",
    "keep_top_k",
    "kept_saliency",
    "n_of_m",
    "permute_channels",
    "permute_inputs",
    "permute_outputs",
    "row_wise",
    "swap_channels",
    "transposable_two_four",
    "uniform_counts",
    "unstructured",
]
