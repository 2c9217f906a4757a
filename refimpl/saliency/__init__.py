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
from refimpl.saliency.layer_adaptive import lamp
from refimpl.saliency.magnitude import magnitude, random

__all__ = [
    "batch_norm_scale",
    "channel_taylor",
    "filter_l1",
    "filter_l2",
    "geometric_median",
    "input_norms",
    "lamp",
    "magnitude",
    "random",
    "unit_norm",
    "wanda",
]
