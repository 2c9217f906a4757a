"""Layers whose weight is stored sparse, and trained at its stored entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import bad_argument, check_array
from refimpl.formats import CSR, SparseMatrix
from refimpl.kernels import feature_rows, layer_kernels, matmul, matmul_transposed, sddmm
from refimpl.kernels.numba_sparse_convolution import csr_convolve
from refimpl.nn.layer import WeightedLayer, check_dy, check_forward_ran
from refimpl.nn.lowering import col2im, framed, im2col, patch_grid
from refimpl.nn.parameter import Parameter


class SparseLayer(WeightedLayer):
    """A layer that multiplies by a sparse weight: what is not stored stays zero for good.

    The places never change; the values are a parameter, which any optimiser may train. A stored
    zero is a weight like any other. A mask on `values` is obeyed, but frees no memory. The first
    backward pass of a CSR weight keeps the places of its transpose, 20 bytes for each value.

    Parameters
    ----------
    weight : SparseMatrix, shape (n_out, n_in)
        Any format: says the places, and the initial values.
    bias : Parameter of shape (n_out,), or None
        Of the weight's dtype. Held, not copied.

    Attributes
    ----------
    values : Parameter, shape (number of stored values,)
        A copy of ``weight.stored_values``, one after the other. In one axis it never passes for
        a dense weight, whatever the format.
    bias : Parameter or None
        As given.

    Raises
    ------
    TypeError, ValueError
        If `weight` is not sparse, or `bias` is no parameter that fits it.
    """

    def __init__(self, weight: SparseMatrix, bias: Parameter | None) -> None:
        _check_weight_and_bias(type(self).__name__, weight, bias)
        self._places = weight
        self.values = Parameter(weight.stored_values.ravel())
        self.bias = bias
        self._seen: tuple[SparseMatrix, np.ndarray, np.ndarray | None] | None = None
        self._dy_rows: np.ndarray | None = None
        self._transposed: tuple[CSR, np.ndarray] | None = None

    @property
    def weight(self) -> SparseMatrix:
        """The weight as it is now: the fixed places with a copy of the current values."""
        shape = self._places.stored_values.shape
        return self._places.with_values(self.values.value.reshape(shape))

    def _multiply(self, x: np.ndarray) -> np.ndarray:
        """Compute ``x @ W.T + b``, and keep what the backward pass needs."""
        weight, rows = self.weight, None
        if len(x) == 1:  # a vector need not be laid out
            y = matmul(weight, x[0])[np.newaxis]
        else:
            rows = feature_rows(x)
            y = matmul(weight, rows)[:, : len(x)].T  # (batch, n_out)
        self._seen = weight, x, rows
        if self.bias is not None:
            y += self.bias.value
        return y

    def _leave_gradients(self, dy: np.ndarray) -> None:
        """Of values and bias; keep what `_backpropagate` needs."""
        weight, x, x_rows = self._seen
        x_rows = feature_rows(x) if x_rows is None else x_rows
        self._dy_rows = feature_rows(dy)
        self.values.grad = sddmm(self._dy_rows.T, x_rows.T, weight).ravel()
        if self.bias is not None:
            self.bias.grad = dy.sum(axis=0)

    def _backpropagate(self) -> np.ndarray:
        """Compute ``dy @ W`` of the `dy` that `_leave_gradients` saw."""
        weight, x, _ = self._seen
        return self._multiply_transposed(weight, self._dy_rows)[:, : len(x)].T  # (batch, n_in)

    def _multiply_transposed(self, weight: SparseMatrix, dy_rows: np.ndarray) -> np.ndarray:
        """Compute ``W.T @ dy_rows``; of a CSR weight, from a transpose that is sorted once."""
        if not isinstance(weight, CSR):
            return matmul_transposed(weight, dy_rows)
        if self._transposed is None:
            numbered = weight.with_values(np.arange(weight.nnz, dtype=np.float64)).transpose()
            self._transposed = numbered, numbered.data.astype(np.intp)
        places, order = self._transposed
        return matmul(places.with_values(weight.data[order]), dy_rows)


class SparseLinear(SparseLayer):
    """Multiply by a sparse weight and add a bias: ``y = x @ W.T + b``.

    Parameters
    ----------
    weight : SparseMatrix, shape (n_out, n_in)
        As for `SparseLayer`.
    bias : Parameter of shape (n_out,), or None
        As for `SparseLayer`.

    Notes
    -----
    Activations are ``(batch, n_features)``, kernels want ``(n_features, batch)``, so the layer
    computes ``(W @ x.T).T``. The result lies in memory feature by feature; where the next
    layer is sparse too, laying it out again is a plain copy.

    The three products of a training step, each at the stored entries only::

        y = (W @ x.T).T        dx = (W.T @ dy.T).T        dW = (dy.T @ x) where W is stored

    Cost: ``2 * nnz * batch`` FLOPs each, where the dense layer has ``2 * n_out * n_in * batch``.
    Each pass also copies the values once.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> w = CSR.from_dense(np.array([[3.0, 0.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0]]))
    >>> layer = SparseLinear(w, bias=Parameter(np.array([0.5, 0.0])))
    >>> layer
    SparseLinear(n_in=4, n_out=2, nnz=3)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0, 4.0]]))
    array([[-0.5,  6. ]])
    >>> layer.backward(np.array([[10.0, 1.0]]))
    array([[ 30.,   0.,   2., -10.]])
    >>> layer.values.grad
    array([10., 40.,  3.])
    """

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Compute ``x @ W.T + b``; `x` has shape (batch, n_in) and the weight's dtype."""
        shape, dtypes = (-1, self._places.shape[1]), (self.values.dtype.type,)
        check_array("SparseLinear.forward", "x", x, ndim=2, shape=shape, dtypes=dtypes)
        return self._multiply(x)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Leave the gradients of the stored values and of the bias."""
        check_forward_ran("SparseLinear", self._seen)
        shape = (len(self._seen[1]), self._places.shape[0])
        check_dy("SparseLinear", dy, shape, self.values.dtype)
        self._leave_gradients(dy)

    def _input_gradient(self, dy: np.ndarray) -> np.ndarray:
        return self._backpropagate()

    def __repr__(self) -> str:
        n_out, n_in = self._places.shape
        return f"SparseLinear(n_in={n_in}, n_out={n_out}, nnz={self._places.nnz})"


class SparseConv2d(SparseLayer):
    """Slide sparse kernels over images: a `SparseLinear` layer of every patch.

    Parameters
    ----------
    weight : SparseMatrix, shape (c_out, c_in * kh * kw)
        As for `SparseLayer`. Column ``(c * kh + i) * kw + j`` weighs pixel (i, j) of input
        channel c, the order of a dense weight (c_out, c_in, kh, kw) reshaped to two axes.
    bias : Parameter of shape (c_out,), or None
        As for `SparseLayer`.
    kernel_shape : tuple of int
        ``(kh, kw)``; their product divides the weight's columns.
    stride, padding : int
        As for `refimpl.nn.im2col`.
    channels_last : bool
        Whether the columns are in the order (i, j, c) instead, so that input channels are side
        by side: what 2 of 4 *channels* needs to be 2 of 4 columns.

    Notes
    -----
    `im2col` lays out the patches, `SparseLayer` multiplies, `col2im` takes the gradient back to
    the pixels. A CSR weight with channels first and stride 1 is multiplied without laying out
    anything, by `refimpl.kernels.numba_sparse_convolution`; then only a backward pass needs the
    patches. Cost: ``2 * nnz * batch * h_out * w_out`` FLOPs for each of the three products, and
    the memory of the patches.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.formats import CSR
    >>> edge = CSR.from_dense(np.array([[-1.0, 1.0]]))  # each pixel minus the one to its left
    >>> layer = SparseConv2d(edge, None, kernel_shape=(1, 2))
    >>> layer.forward(np.array([[[[0.0, 0.0, 5.0, 5.0]]]]))
    array([[[[0., 5., 0.]]]])
    """

    def __init__(
        self,
        weight: SparseMatrix,
        bias: Parameter | None,
        *,
        kernel_shape: tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(weight, bias)
        self._geometry = {"kernel_shape": kernel_shape, "stride": stride, "padding": padding}
        patch_grid(kernel_shape, **self._geometry)  # refuses what is no geometry
        n_pixels, n_in = kernel_shape[0] * kernel_shape[1], weight.shape[1]
        if n_in % n_pixels:
            requirement = f"have a multiple of {n_pixels} columns, one for each pixel of a kernel"
            advice = "reshape a dense weight to (c_out, c_in * kh * kw)"
            raise bad_argument("SparseConv2d", "weight", requirement, n_in, advice)
        self._channels = n_in // n_pixels
        self._channels_last = bool(channels_last)
        self._direct = isinstance(weight, CSR) and stride == 1 and not channels_last
        self._images: np.ndarray | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Correlate; `x` has shape (batch, c_in, height, width) and the weight's dtype."""
        shape, dtypes = (-1, self._channels, -1, -1), (self.values.dtype.type,)
        check_array("SparseConv2d.forward", "x", x, ndim=4, shape=shape, dtypes=dtypes)
        grid = patch_grid(x.shape[2:], **self._geometry)
        self._images, self._seen = x, None
        if self._direct and layer_kernels.compiled_for(x):
            return self._convolve(x, grid)
        y = self._multiply(self._patches(x))  # (batch * h_out * w_out, c_out)
        return y.reshape(len(x), *grid, y.shape[1]).transpose(0, 3, 1, 2)

    def backward_parameters(self, dy: np.ndarray) -> None:
        """Leave the gradients of the stored values and of the bias."""
        check_forward_ran("SparseConv2d", self._images)
        c_out, grid = self._places.shape[0], patch_grid(self._images.shape[2:], **self._geometry)
        check_dy("SparseConv2d", dy, (len(self._images), c_out, *grid), self.values.dtype)
        if self._seen is None:
            self._seen = self.weight, self._patches(self._images), None
        self._leave_gradients(dy.transpose(0, 2, 3, 1).reshape(-1, c_out))

    def _input_gradient(self, dy: np.ndarray) -> np.ndarray:
        columns = self._backpropagate().T
        if self._channels_last:
            columns = _swapped(columns, len(columns) // self._channels, self._channels)
        return col2im(columns, self._images.shape, **self._geometry)

    def _convolve(self, x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        weight, (kh, kw) = self.weight, self._geometry["kernel_shape"]
        images = np.ascontiguousarray(framed(x, self._geometry["padding"]))
        y = np.empty((len(x), weight.shape[0], *grid), x.dtype)
        csr_convolve(weight.data, weight.indices, weight.indptr, images, kh, kw, y)
        if self.bias is not None:
            y += self.bias.value[:, None, None]
        return y

    def _patches(self, x: np.ndarray) -> np.ndarray:
        """Lay out each patch as a row, in the order of the weight's columns."""
        columns = im2col(x, **self._geometry)
        if self._channels_last:
            columns = _swapped(columns, self._channels, len(columns) // self._channels)
        return columns.T

    def __repr__(self) -> str:
        c_out, kernel = self._places.shape[0], self._geometry["kernel_shape"]
        return (
            f"SparseConv2d(c_in={self._channels}, c_out={c_out}, kernel_shape={kernel}, "
            f"nnz={self._places.nnz})"
        )


def _swapped(rows: np.ndarray, n_slow: int, n_fast: int) -> np.ndarray:
    """Rows numbered ``slow * n_fast + fast``, in the order ``fast * n_slow + slow``."""
    grid = rows.reshape(n_slow, n_fast, -1)
    return grid.swapaxes(0, 1).reshape(n_fast * n_slow, -1)


def _check_weight_and_bias(where: str, weight: Any, bias: Any) -> None:
    if not isinstance(weight, SparseMatrix):
        advice = "convert it, for instance with CSR.from_dense"
        actual = type(weight).__name__
        raise bad_argument(where, "weight", "be a SparseMatrix", actual, advice, kind=TypeError)
    if bias is None:
        return
    if not isinstance(bias, Parameter):
        advice = "wrap it: Parameter(array)"
        actual = type(bias).__name__
        raise bad_argument(where, "bias", "be a Parameter or None", actual, advice, kind=TypeError)
    dtypes = (weight.dtype.type,)
    check_array(where, "bias.value", bias.value, shape=weight.shape[:1], dtypes=dtypes)
