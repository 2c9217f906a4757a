"""What does a network compute, and which way should each weight move?

Every layer states its forward and its backward pass; there is no automatic differentiation.
"""

from refimpl.nn.layers import Dropout, Flatten, Layer, Linear, ReLU
from refimpl.nn.losses import mean_squared_error, softmax_cross_entropy
from refimpl.nn.models import lenet_300_100, mlp
from refimpl.nn.network import Network
from refimpl.nn.parameter import Parameter

__all__ = [
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "Network",
    "Parameter",
    "ReLU",
    "lenet_300_100",
    "mean_squared_error",
    "mlp",
    "softmax_cross_entropy",
]
