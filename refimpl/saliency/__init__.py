"""Which weights matter? A saliency scores every weight; larger = keep."""

from __future__ import annotations

from refimpl.saliency.activation import input_norms, wanda
from refimpl.saliency.channels import (
    batch_norm_scale,
    channel_taylor,
    filter_l1,
    filter_l2,
    geometric_median,
    unit_norm,
)
from refimpl.saliency.gradient import grasp, snip, taylor, taylor_squared
from refimpl.saliency.layer_adaptive import lamp
from refimpl.saliency.magnitude import magnitude, random
from refimpl.saliency.movement import movement, soft_movement
from refimpl.saliency.second_order import obd, obs
from refimpl.saliency.synaptic_flow import synflow, total_flow

__all__ = [
    "batch_norm_scale",
    "channel_taylor",
    "filter_l1",
    "filter_l2",
    "geometric_median",
    "grasp",
    "input_norms",
    "lamp",
    "magnitude",
    "movement",
    "obd",
    "obs",
    "random",
    "snip",
    "soft_movement",
    "synflow",
    "taylor",
    "taylor_squared",
    "total_flow",
    "unit_norm",
    "wanda",
]
