"""Which tables and figures are reproduced here, and how are they run again?"""

from __future__ import annotations

from refimpl.experiments import (
    at_initialization,
    at_initialization_mnist,
    blocks_walk,
    channel_latency,
    channel_pruning,
    channel_pruning_mnist,
    cnn_accuracy,
    dense_step,
    exact_obs_speed,
    granularity,
    granularity_latency,
    kernel_first_look,
    kernel_grid,
    layer_collapse,
    layer_sensitivity,
    layer_sensitivity_mnist,
    layerwise_obs,
    layerwise_obs_mnist,
    magnitude_curve,
    monks,
    obd_prediction,
    reconstruction,
    reconstruction_digits,
    reconstruction_mnist,
    sensitivity_budgets,
    sparse_convolution,
    sparse_step,
    sparsegpt_speed,
    two_four_training,
    two_four_walk,
    xor_surgery,
)
from refimpl.experiments.runner import run
from refimpl.experiments.summary import summarize, write_summary

# Each module has a docstring that says what it shows, SETTINGS, SEEDS and run_once(setting, seed).
# Where means over seeds are not the point, it also has condense(records) and report(condensed).
EXPERIMENTS = (
    magnitude_curve,
    cnn_accuracy,
    kernel_first_look,
    kernel_grid,
    dense_step,
    blocks_walk,
    sparse_step,
    two_four_walk,
    sparse_convolution,
    granularity,
    granularity_latency,
    channel_pruning,
    channel_pruning_mnist,
    channel_latency,
    layer_sensitivity,
    layer_sensitivity_mnist,
    sensitivity_budgets,
    two_four_training,
    xor_surgery,
    monks,
    obd_prediction,
    reconstruction,
    reconstruction_digits,
    reconstruction_mnist,
    layerwise_obs,
    layerwise_obs_mnist,
    exact_obs_speed,
    sparsegpt_speed,
    layer_collapse,
    at_initialization,
    at_initialization_mnist,
)

__all__ = ["EXPERIMENTS", "run", "summarize", "write_summary"]
