"""A detour and a shortcut: layers that learn what to add to their input."""

from __future__ import annotations

import numpy as np

from refimpl.arrays import FLOAT_DTYPES, bad_argument, check_array
from refimpl.nn.layer import Layer, check_dy, check_forward_ran
from refimpl.nn.network import Network, check_network


class Residual(Layer):
    """Add what a branch makes of the input to the input itself, or to what a shortcut makes of it.

    Parameters
    ----------
    branch : Network
        Usually convolutions with normalisation between them.
    shortcut : Network, optional
        Gives the input the branch's shape where that differs, usually a 1x1 convolution with
        the branch's stride. By default the input itself is added.

    Attributes
    ----------
    branch : Network
        As given; its parameters are named ``"branch.conv1.weight"`` and so on.
    shortcut : Network or None
        As given.

    Notes
    -----
    ``y = branch(x) + shortcut(x)``, so ``dx`` is the sum of what both send back. No ReLU
    follows; put one behind, as He et al. do.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016,
    equations 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from refimpl.nn import Network, ReLU
    >>> block = Residual(Network({"relu": ReLU()}))
    >>> block.forward(np.array([[-1.0, 2.0]]))
    array([[-1.,  4.]])
    >>> block.backward(np.array([[1.0, 1.0]]))
    array([[1., 2.]])
    """

    def __init__(self, branch: Network, shortcut: Network | None = None) -> None:
        check_network("Residual", branch, "branch")
        if shortcut is not None:
            check_network("Residual", shortcut, "shortcut")
        self.branch, self.shortcut = branch, shortcut
        self._shape: tuple[int, ...] | None = None

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Add; `x` is whatever branch and shortcut take."""
        check_array("Residual.forward", "x", x, dtypes=FLOAT_DTYPES)
        y = self.branch.forward(x, training=training)
        short = x if self.shortcut is None else self.shortcut.forward(x, training=training)
        if y.shape != short.shape:
            advice = "give a shortcut with the branch's channels and stride"
            actual = f"{y.shape} beside {short.shape}"
            requirement = "have the shape of the shortcut's"
            raise bad_argument("Residual.forward", "branch's output", requirement, actual, advice)
        self._shape = y.shape
        return y + short

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add what branch and shortcut send back."""
        check_forward_ran("Residual", self._shape)
        check_dy("Residual", dy, self._shape)
        dx = self.branch.backward(dy)
        return dx + (dy if self.shortcut is None else self.shortcut.backward(dy))
