"""When are weights removed, and what repairs the damage?"""

from __future__ import annotations

from refimpl.prune.at_initialization import grasp_masks, snip_masks, synflow_masks
from refimpl.prune.calibration import input_hessian, layer_inputs, prune_layers
from refimpl.prune.channel_choice import channel_scores, global_channels, layerwise_channels
from refimpl.prune.channel_graph import ChannelGroup, ChannelSlice, channel_groups
from refimpl.prune.channels import (
    prune_channels,
    prune_channels_iteratively,
    prune_channels_to_cost,
)
from refimpl.prune.drop_and_grow import (
    drop_smallest,
    drop_smallest_of_each_sign,
    grow_at_random,
    grow_by_gradient,
)
from refimpl.prune.dynamic import (
    cosine_drop_fraction,
    rigl_flops,
    rigl_update,
    set_update,
    set_update_by_magnitude,
)
from refimpl.prune.dynamic_training import SET, DynamicTraining, RigL, random_masks
from refimpl.prune.exact_obs import exact_obs, exact_obs_trace
from refimpl.prune.exact_obs_blocks import exact_obs_block_trace, exact_obs_blocks
from refimpl.prune.gradual import (
    GradualPruning,
    constant_sparsity,
    cubic_sparsity,
    linear_sparsity,
)
from refimpl.prune.granularity import as_matrix, shaped_masks
from refimpl.prune.hessian import damp, inverse_cholesky, inverse_hessian
from refimpl.prune.layerwise import layerwise_obs
from refimpl.prune.masking import (
    apply_masks,
    budgeted_masks,
    global_masks,
    layerwise_masks,
    network_sparsity,
)
from refimpl.prune.obs import ObsTrace, downdate_inverse, obs, obs_trace, obs_update
from refimpl.prune.oneshot import compound_sparsities, prune_iteratively, prune_one_shot
from refimpl.prune.refit import least_squares_refit, reconstruction_error
from refimpl.prune.removal_trace import RemovalTrace
from refimpl.prune.semi_structured import StraightThrough, mask_flips, train_prune_train
from refimpl.prune.sensitivity import SensitivityScan, sensitivity_scan
from refimpl.prune.sparsegpt import sparsegpt, sparsegpt_flops
from refimpl.prune.structured import mask_channels, remove_channels
from refimpl.prune.surgeon import (
    Removal,
    kept_places,
    obs_removals,
    parameter_vector,
    plain_removals,
    surgeon,
)
from refimpl.prune.wanda import wanda, wanda_masks

__all__ = [
    "SET",
    "ChannelGroup",
    "ChannelSlice",
    "DynamicTraining",
    "GradualPruning",
    "ObsTrace",
    "Removal",
    "RemovalTrace",
    "RigL",
    "SensitivityScan",
    "StraightThrough",
    "apply_masks",
    "as_matrix",
    "budgeted_masks",
    "channel_groups",
    "channel_scores",
    "compound_sparsities",
    "constant_sparsity",
    "cosine_drop_fraction",
    "cubic_sparsity",
    "damp",
    "downdate_inverse",
    "drop_smallest",
    "drop_smallest_of_each_sign",
    "exact_obs",
    "exact_obs_block_trace",
    "exact_obs_blocks",
    "exact_obs_trace",
    "global_channels",
    "global_masks",
    "grasp_masks",
    "grow_at_random",
    "grow_by_gradient",
    "input_hessian",
    "inverse_cholesky",
    "inverse_hessian",
    "kept_places",
    "layer_inputs",
    "layerwise_channels",
    "layerwise_masks",
    "layerwise_obs",
    "least_squares_refit",
    "linear_sparsity",
    "mask_channels",
    "mask_flips",
    "network_sparsity",
    "obs",
    "obs_removals",
    "obs_trace",
    "obs_update",
    "parameter_vector",
    "plain_removals",
    "prune_channels",
    "prune_channels_iteratively",
    "prune_channels_to_cost",
    "prune_iteratively",
    "prune_layers",
    "prune_one_shot",
    "random_masks",
    "reconstruction_error",
    "remove_channels",
    "rigl_flops",
    "rigl_update",
    "sensitivity_scan",
    "set_update",
    "set_update_by_magnitude",
    "shaped_masks",
    "snip_masks",
    "sparsegpt",
    "sparsegpt_flops",
    "surgeon",
    "synflow_masks",
    "train_prune_train",
    "wanda",
    "wanda_masks",
]
