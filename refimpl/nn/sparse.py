"""A linear layer whose weight is stored sparse: what a pruned network is shipped as."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array
from refimpl.formats import CSR
from refimpl.kernels import matmul
from refimpl.nn.layers import Layer, check_dy, check_forward_ran
from refimpl.nn.parameter import Parameter


class SparseLinear(Layer):
    """Multiply by a constant sparse weight and add a bias: ``y = x @ W.T + b``.

    Parameters
    ----------
    weight : CSR, shape (n_out, n_in)
        Constant: no training step changes it, and it is not among the parameters.
    bias : Parameter of shape (n_out,), or None
        Of the weight's dtype. Held, not copied: an optimiser may train it.

    Attributes
    ----------
    bias : Parameter or None
        As given.

    Raises
    ------
    TypeError, ValueError
        If `weight` is no CSR, or `bias` no parameter that fits it.

    Notes
    -----
    Activations are ``(batch, n_features)``, kernels want ``(n_features, batch)``, so the layer
    computes ``(W @ x.T).T``. The result lies in memory feature by feature; where the next
    layer is sparse too, its transpose costs nothing.

    ``dx = (W.T @ dy.T).T`` and ``db = dy.sum(axis=0)``. The first `backward` builds the
    transposed CSR, of the size of the weight, and keeps it: a network that only predicts
    never pays for it.

    Cost: ``2 * nnz * batch`` FLOPs forward, as many backward.

    Examples
    --------
    >>> import numpy as np
    >>> w = CSR.from_dense(np.array([[3.0, 0.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0]]))
    >>> layer = SparseLinear(w, bias=Parameter(np.array([0.5, 0.0])))
    >>> layer
    SparseLinear(n_in=4, n_out=2, nnz=3)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([[-0.5,  6. ]])
    >>> layer.backward(np.array([[10.0, 1.0]]))
    array([[ 30.,   0.,   2., -10.]])
    """

    def __init__(self, weight: CSR, bias: Parameter | None) -> None:
        _check_weight_and_bias(weight, bias)
        self._weight = weight
        self.bias = bias
        self._transposed: CSR | None = None
        self._batch: int | None = None

    @property
    def weight(self) -> CSR:
        """The weight as given; it cannot be replaced, because `backward` keeps its transpose."""
        return self._weight

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Compute ``x @ W.T + b``; `x` has shape (batch, n_in) and the weight's dtype."""
        shape, dtypes = (-1, self.weight.shape[1]), (self.weight.dtype.type,)
        check_array("SparseLinear.forward", "x", x, ndim=2, shape=shape, dtypes=dtypes)
        self._batch = len(x)
        y = matmul(self.weight, x.T).T  # (batch, n_out)
        return y if self.bias is None else y + self.bias.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return ``dy @ W``; leave ``dy.sum(axis=0)`` as the gradient of the bias."""
        check_forward_ran("SparseLinear", self._batch)
        shape = (self._batch, self.weight.shape[0])
        check_dy("SparseLinear", dy, shape, self.weight.dtype)
        if self._transposed is None:
            self._transposed = self.weight.transpose()
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=0)
        return matmul(self._transposed, dy.T).T  # (batch, n_in)

    def __repr__(self) -> str:
        n_out, n_in = self.weight.shape
        return f"SparseLinear(n_in={n_in}, n_out={n_out}, nnz={self.weight.nnz})"


def _check_weight_and_bias(weight: Any, bias: Any) -> None:
    where = "SparseLinear"
    if not isinstance(weight, CSR):
        advice = "convert it with CSR.from_dense"
        actual = type(weight).__name__
        raise bad_argument(where, "weight", "be a CSR", actual, advice, kind=TypeError)
    if bias is None:
        return
    if not isinstance(bias, Parameter):
        advice = "wrap it: Parameter(array)"
        actual = type(bias).__name__
        raise bad_argument(where, "bias", "be a Parameter or None", actual, advice, kind=TypeError)
    dtypes = (weight.dtype.type,)
    check_array(where, "bias.value", bias.value, shape=weight.shape[:1], dtypes=dtypes)
