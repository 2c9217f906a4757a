"""How do we know: what does a product cost, and how long does it really take?"""

from __future__ import annotations

from refimpl.measure.counting import (
    arithmetic_intensity,
    matmul_bytes,
    matmul_flops,
    roofline_bound,
)
from refimpl.measure.machine import machine_stamp, pinned_threads
from refimpl.measure.network_cost import LayerCost, NetworkCost, network_cost
from refimpl.measure.timing import Measurement, Speedup, compare, measure, speedup

__all__ = [
    "LayerCost",
    "Measurement",
    "NetworkCost",
    "Speedup",
    "arithmetic_intensity",
    "compare",
    "machine_stamp",
    "matmul_bytes",
    "matmul_flops",
    "measure",
    "network_cost",
    "pinned_threads",
    "roofline_bound",
    "speedup",
]
