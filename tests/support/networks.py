"""Hypothesis strategy for small convolutional networks of any shape, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from refimpl import nn

IMAGE_SHAPE = (2, 6, 6)  # what the drawn networks take
CHANNELS = st.integers(1, 4)


@dataclass
class Stack:
    """Layers under way; `shape` is that of one example behind the last."""

    draw: Callable
    rng: np.random.Generator
    shape: tuple[int, ...] = IMAGE_SHAPE
    layers: dict[str, nn.Layer] = field(default_factory=dict)

    def add(self, layer: nn.Layer) -> Stack:
        self.layers[f"{type(layer).__name__.lower()}{len(self.layers)}"] = layer
        self.shape = layer.forward(np.zeros((1, *self.shape))).shape[1:]
        return self

    def convolve(self, c_out: int, kernel: int, **options) -> Stack:
        bias = self.draw(st.booleans())
        return self.add(
            nn.Conv2d(
                self.shape[0], c_out, kernel, rng=self.rng, dtype=np.float64, bias=bias, **options
            )
        )

    def connect(self, n_out: int) -> Stack:
        bias = self.draw(st.booleans())
        return self.add(nn.Linear(self.shape[0], n_out, rng=self.rng, dtype=np.float64, bias=bias))

    def normalize(self) -> Stack:
        return self.add(nn.BatchNorm2d(self.shape[0], dtype=np.float64))

    def inner(self) -> Stack:
        return Stack(self.draw, self.rng, self.shape)


@st.composite
def networks(draw) -> nn.Network:
    """Chains of every layer that channels can be cut from, with residual blocks in each other."""
    stack = Stack(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    stack.convolve(draw(CHANNELS), 3, padding=1)
    for _ in range(draw(st.integers(0, 4))):
        _add_layer(stack, depth=2)
    _add_head(stack)
    network = nn.Network(stack.layers)
    settle(network, stack.rng)
    return network


def settle(network: nn.Network, rng: np.random.Generator) -> None:
    """Give every bias, scale, shift and running statistic a value of its own, above 0.

    A ReLU behind a shift below 0 may pass nothing at all. Where everything is equal, rounding
    alone decides which pixel a pool picks, and two right networks differ.
    """
    held = network.named_parameters() | network.named_buffers()
    for name, item in held.items():
        if not name.endswith("weight"):
            item.value = rng.uniform(0.3, 1.5, item.shape).astype(item.dtype)


def images(batch: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((batch, *IMAGE_SHAPE))


def _add_layer(stack: Stack, depth: int) -> None:
    draw, (channels, side, _) = stack.draw, stack.shape
    kinds = ["conv", "depthwise", "norm", "relu", "dropout"]
    kinds += ["max", "average"] * (side > 1) + ["residual", "projection"] * (depth > 0)
    match draw(st.sampled_from(kinds)):
        case "conv":
            kernel, padding = draw(st.integers(1, min(side, 3))), draw(st.integers(0, 1))
            stride = draw(st.integers(1, 2))
            stack.convolve(draw(CHANNELS), kernel, stride=stride, padding=padding)
        case "depthwise":
            stack.convolve(channels, min(side, 3), padding=1, groups=channels)
        case "norm":
            stack.normalize()
        case "relu":
            stack.add(nn.ReLU())
        case "dropout":
            stack.add(nn.Dropout(0.0, rng=stack.rng))
        case "max":
            stack.add(nn.MaxPool2d(2, stride=draw(st.integers(1, 2))))
        case "average":
            stack.add(nn.AvgPool2d(2, stride=draw(st.integers(1, 2))))
        case "residual":
            stack.add(nn.Residual(_branch(stack, channels, depth)))
        case "projection":
            _add_projection(stack, depth)


def _branch(stack: Stack, c_out: int, depth: int, *, stride: int = 1) -> nn.Network:
    """Layers that keep the image's shape, apart from a last convolution's channels and stride."""
    inner = stack.inner()
    for kind in stack.draw(st.lists(st.sampled_from(["conv", "norm", "relu", "nest"]), max_size=3)):
        if kind == "conv":
            inner.convolve(stack.draw(CHANNELS), 3, padding=1)
        elif kind == "norm":
            inner.normalize()
        elif kind == "nest" and depth > 1:
            inner.add(nn.Residual(_branch(inner, inner.shape[0], depth - 1)))
        else:
            inner.add(nn.ReLU())
    kept_shape = inner.shape == (c_out, *stack.shape[1:])
    if stride > 1 or not kept_shape or not inner.layers or stack.draw(st.booleans()):
        inner.convolve(c_out, 3, padding=1, stride=stride)
    return nn.Network(inner.layers)


def _add_projection(stack: Stack, depth: int) -> None:
    c_out, stride = stack.draw(CHANNELS), stack.draw(st.integers(1, 2))
    branch = _branch(stack, c_out, depth, stride=stride)
    shortcut = stack.inner().convolve(c_out, 1, stride=stride)
    if stack.draw(st.booleans()):
        shortcut.normalize()
    stack.add(nn.Residual(branch, nn.Network(shortcut.layers)))


def _add_head(stack: Stack) -> None:
    """From images to features, and one or two linear layers."""
    stack.add(nn.Flatten() if stack.draw(st.booleans()) else nn.GlobalAvgPool2d())
    if stack.draw(st.booleans()):
        stack.connect(stack.draw(st.integers(1, 5))).add(nn.ReLU())
    stack.connect(3)
