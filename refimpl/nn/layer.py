"""What every layer promises: a forward pass, a backward pass, and a list of what it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array
from refimpl.nn.parameter import Buffer, Parameter

TRAINING_DTYPES = (np.float32, np.float64)


class Layer(ABC):
    """Turn an input into an output, and a gradient at the output into one at the input.

    A layer remembers of its last `forward` what `backward` needs. It remembers references,
    not copies: leave the input as it is until `backward` has run.
    """

    @abstractmethod
    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Compute the output.

        Parameters
        ----------
        x : ndarray of float, shape (batch, ...)
            The layer's input, NumPy or CuPy.
        training : bool
            Whether this pass belongs to a training step; only layers that act differently
            then, such as `Dropout`, look at it.

        Returns
        -------
        ndarray of float, shape (batch, ...)
            The output, of the input's dtype.
        """

    @abstractmethod
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Compute the gradient at the input, and overwrite the gradient of every parameter.

        Parameters
        ----------
        dy : ndarray of float
            Gradient of the loss with respect to the output of the last `forward`.

        Returns
        -------
        ndarray of float
            Gradient of the loss with respect to the input of the last `forward`.
        """

    def named_parameters(self) -> dict[str, Parameter]:
        """List the parameters by the name of the attribute that holds them.

        Of a layer that holds whole networks, such as `Residual`, theirs as well, named from
        the outside in: ``"branch.conv1.weight"``.
        """
        return dict(_held(self, Parameter))

    def named_buffers(self) -> dict[str, Buffer]:
        """List the buffers, such as running statistics, as `named_parameters` its own."""
        return dict(_held(self, Buffer))

    def parameters(self) -> list[Parameter]:
        """List the layer's parameters in the order of `named_parameters`."""
        return list(self.named_parameters().values())


class WeightedLayer(Layer):
    """A layer that can compute the gradients of its parameters without the one at its input.

    A network's first such layer has nobody to hand an input gradient to, and of two equally
    expensive products a training step saves one.
    """

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Compute the gradient at the input, and overwrite the gradient of every parameter."""
        self.backward_parameters(dy)
        return self._input_gradient(dy)

    @abstractmethod
    def backward_parameters(self, dy: np.ndarray) -> None:
        """Overwrite the gradient of every parameter, and compute no more.

        Parameters
        ----------
        dy : ndarray of float
            As for `backward`.
        """

    @abstractmethod
    def _input_gradient(self, dy: np.ndarray) -> np.ndarray:
        """Compute the gradient at the input; `dy` is checked already."""


def check_forward_ran(layer: str, cache: Any) -> None:
    """Refuse a backward pass that no forward pass went before.

    Parameters
    ----------
    layer : str
        Class name, for the error.
    cache : object
        What `forward` leaves behind; None if it has not run.

    Raises
    ------
    RuntimeError
        If `cache` is None.
    """
    if cache is None:
        advice = "backward needs what forward saw"
        where = f"{layer}.backward"
        raise bad_argument(
            where, "forward(x)", "run first", "no call of it", advice, kind=RuntimeError
        )


def check_dy(layer: str, dy: Any, shape: tuple[int, ...], dtype: np.dtype | None = None) -> None:
    """Refuse a gradient that does not fit the output of the last forward pass.

    Parameters
    ----------
    layer : str
        Class name, for the error.
    dy : ndarray of float
        The gradient that `backward` was given.
    shape : tuple of int
        The output's shape.
    dtype : dtype, optional
        The output's dtype, in layers that hold parameters; by default any float passes.

    Raises
    ------
    TypeError
        If `dy` is no array, or its dtype is not allowed.
    ValueError
        If its shape is not the output's.
    """
    dtypes = FLOAT_DTYPES if dtype is None else (dtype.type,)
    check_array(f"{layer}.backward", "dy", dy, shape=shape, dtypes=dtypes)


def check_training_dtype(where: str, dtype: Any) -> None:
    """Refuse a dtype that no network is trained in.

    Parameters
    ----------
    where : str
        Named in the error.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError
        In one sentence.
    """
    if dtype not in (*TRAINING_DTYPES, "float32", "float64"):
        advice = "use float32 to train and float64 to check gradients"
        actual = getattr(dtype, "__name__", str(dtype))
        raise bad_argument(where, "dtype", "be float32 or float64", actual, advice, kind=TypeError)


def _held(owner: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What an object, or a network within it, holds of a kind, with dotted names."""
    for name, item in vars(owner).items():
        if isinstance(item, kind):
            yield name, item
        elif hasattr(item, "layers"):
            for inner_name, layer in item.layers.items():
                for held_name, held in _held(layer, kind):
                    yield f"{name}.{inner_name}.{held_name}", held
