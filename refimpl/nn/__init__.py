"""What does a network compute, and which way should each weight move?

Every layer states its forward and its backward pass; there is no automatic differentiation.
"""

from refimpl.nn.activations import Activation, Sigmoid, Tanh
from refimpl.nn.clipping import clip_gradients
from refimpl.nn.convolution import Conv2d
from refimpl.nn.curvature import gauss_newton, hessian, hessian_vector_product, output_hessian
from refimpl.nn.example_gradients import example_gradients, output_gradients
from refimpl.nn.fisher import empirical_fisher, inverse_fisher
from refimpl.nn.flattening import as_arrays, as_vector
from refimpl.nn.gradcheck import check_gradients, gradient_errors, loss_gradient_error
from refimpl.nn.hessian_diagonal import (
    exact_diagonal,
    levenberg_marquardt_diagonal,
    obd_diagonal,
)
from refimpl.nn.layer import Layer, WeightedLayer
from refimpl.nn.layers import Dropout, Flatten, Linear, ReLU
from refimpl.nn.losses import mean_squared_error, smoothed_cross_entropy, softmax_cross_entropy
from refimpl.nn.lowering import col2im, im2col, patch_grid
from refimpl.nn.models import lenet5, lenet_300_100, mlp, small_resnet, small_vgg
from refimpl.nn.network import Network
from refimpl.nn.normalization import BatchNorm2d
from refimpl.nn.optim import SGD, Adam, Optimizer
from refimpl.nn.parameter import Buffer, Parameter
from refimpl.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from refimpl.nn.residual import Residual
from refimpl.nn.schedules import cosine_lr, step_lr
from refimpl.nn.sparse import SparseConv2d, SparseLayer, SparseLinear
from refimpl.nn.storage import load, save
from refimpl.nn.train import Evaluation, History, evaluate, fit

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Evaluation",
    "Flatten",
    "GlobalAvgPool2d",
    "History",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Network",
    "Optimizer",
    "Parameter",
    "ReLU",
    "Residual",
    "Sigmoid",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
    "Tanh",
    "WeightedLayer",
    "as_arrays",
    "as_vector",
    "check_gradients",
    "clip_gradients",
    "col2im",
    "cosine_lr",
    "empirical_fisher",
    "evaluate",
    "exact_diagonal",
    "example_gradients",
    "fit",
    "gauss_newton",
    "gradient_errors",
    "hessian",
    "hessian_vector_product",
    "im2col",
    "inverse_fisher",
    "lenet5",
    "lenet_300_100",
    "levenberg_marquardt_diagonal",
    "load",
    "loss_gradient_error",
    "mean_squared_error",
    "mlp",
    "obd_diagonal",
    "output_gradients",
    "output_hessian",
    "patch_grid",
    "save",
    "small_resnet",
    "small_vgg",
    "smoothed_cross_entropy",
    "softmax_cross_entropy",
    "step_lr",
]
