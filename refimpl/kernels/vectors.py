"""Panels: a stretch of a row that stays in vector registers while a kernel works on it.

Numba compiles a loop over a short array into loads and stores of that array, again and again.
A panel is a value, not an array: the compiler keeps it in registers, 64 float32 of it in four
AVX-512 registers, eight AVX2 registers, or sixteen NEON registers.

Each function below is its own definition, in NumPy: that is what runs where Numba's compiler is
switched off. In compiled code the same name means the vector instructions that are generated
under it. They check nothing, as any compiled kernel: the caller keeps ``j + lanes`` within the
row.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_jitable, register_model


def zero_panel(like, lanes):
    """Give a panel of zeros.

    Parameters
    ----------
    like : ndarray of float32 or float64
        Array whose dtype the panel has.
    lanes : int
        How many numbers it holds; a literal, such as 64.

    Returns
    -------
    panel
        In NumPy, an array of shape (lanes,).
    """
    return np.zeros(lanes, like.dtype)


def load_panel(x, i, j, lanes):
    """Read ``x[i, j : j + lanes]``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n_rows, n_columns)
        Its rows are contiguous.
    i, j : int
        Row, and first column; ``j + lanes <= n_columns``.
    lanes : int
        A literal.

    Returns
    -------
    panel
    """
    return x[i, j : j + lanes].copy()


def load_panel_head(x, i, j, lanes, n):
    """Read ``x[i, j : j + n]`` and fill up with zeros; what lies behind is not touched.

    Parameters
    ----------
    x, i, j, lanes
        As for `load_panel`, but only ``j + n <= n_columns``.
    n : int
        Numbers to read, at most `lanes`.

    Returns
    -------
    panel
    """
    panel = np.zeros(lanes, x.dtype)
    panel[:n] = x[i, j : j + n]
    return panel


def store_panel(out, i, j, panel):
    """Write ``out[i, j : j + lanes] = panel``.

    Parameters
    ----------
    out : ndarray of float32 or float64, shape (n_rows, n_columns)
        Its rows are contiguous.
    i, j : int
        Row, and first column; ``j + lanes <= n_columns``.
    panel : panel
        Of the dtype of `out`.
    """
    out[i, j : j + len(panel)] = panel


def store_panel_head(out, i, j, panel, n):
    """Write the first `n` numbers of a panel; what lies behind in `out` is not touched.

    Parameters
    ----------
    out, i, j, panel
        As for `store_panel`, but only ``j + n <= n_columns``.
    n : int
        Numbers to write, at most the lanes of the panel.
    """
    out[i, j : j + n] = panel[:n]


def multiply_add(y, value, x):
    """Give ``y + value * x``, in one instruction a register where the machine has it.

    Parameters
    ----------
    y : panel
    value : float
        Of the dtype of the panels.
    x : panel

    Returns
    -------
    panel
        Rounded once (fused) in compiled code, twice in NumPy.
    """
    return y + value * x


def add_panels(y, z):
    """Give ``y + z``, number by number."""
    return y + z


def multiply_panels(y, z):
    """Give ``y * z``, number by number."""
    return y * z


def sum_panel(y):
    """Add the numbers of a panel, in halves: 64 become 32, 16, 8, 4, 2, 1.

    Parameters
    ----------
    y : panel
        Its lanes are a power of two.

    Returns
    -------
    float
    """
    while len(y) > 1:
        y = y[: len(y) // 2] + y[len(y) // 2 :]
    return y[0]


@register_jitable
def aligned_rows(n_rows, n_columns, like):
    """Give new memory whose first number lies on a cache line of its own.

    Parameters
    ----------
    n_rows, n_columns : int
        Shape. Every row begins on a cache line where `n_columns` numbers fill whole ones.
    like : ndarray of float32 or float64
        Array whose dtype the memory has.

    Returns
    -------
    ndarray, shape (n_rows, n_columns)
        Not initialised.

    Notes
    -----
    NumPy starts a large array 16 bytes into a cache line. Every 64-byte load of it then touches
    two lines, and a kernel that is bound by its loads runs at half speed.
    """
    n_bytes = n_rows * n_columns * like.itemsize
    room = np.empty(n_bytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + n_bytes].view(like.dtype).reshape(n_rows, n_columns)


class Panel(types.Type):
    """Numba's type of a panel: a vector of `lanes` numbers of `dtype`.

    Parameters
    ----------
    dtype : numba.types.Float
    lanes : int
    """

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Panel({dtype} x {lanes})")


@register_model(Panel)
class _PanelModel(models.PrimitiveModel):
    """In LLVM a panel is a vector; LLVM cuts it into registers of the machine's width."""

    def __init__(self, dmm, fe_type):
        number = ir.FloatType() if fe_type.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(number, fe_type.lanes))


def _address(context, builder, array_type, array, i, j, vector):
    """Where ``array[i, j]`` lies, as a pointer to a vector; its alignment is one number's."""
    struct = context.make_array(array_type)(context, builder, array)
    row_bytes = cgutils.unpack_tuple(builder, struct.strides)[0]
    number_bytes = ir.Constant(row_bytes.type, array_type.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(i, row_bytes), builder.mul(j, number_bytes))
    start = builder.ptrtoint(struct.data, row_bytes.type)
    return builder.inttoptr(builder.add(start, offset), vector.as_pointer())


def _splat(builder, number, vector):
    """The same number in every lane."""
    undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(undefined, number, first)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, undefined, zeros)


def _head_mask(builder, lanes, n):
    """True in the first `n` lanes."""
    numbers = ir.VectorType(n.type, lanes)
    iota = ir.Constant(numbers, [ir.Constant(n.type, lane) for lane in range(lanes)])
    return builder.icmp_signed("<", iota, _splat(builder, n, numbers))


def _call(builder, name, result, arguments):
    """Call one of LLVM's own functions."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, arguments)


def _suffix(panel):
    return f"v{panel.lanes}f{panel.dtype.bitwidth}"


@intrinsic(prefer_literal=True)
def _zero(typing_context, like, lanes):
    panel = Panel(like.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(panel), None)

    return panel(like, lanes), generate


@intrinsic(prefer_literal=True)
def _load(typing_context, x, i, j, lanes):
    panel = Panel(x.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, x, *arguments[:3], vector)
        return builder.load(pointer, align=panel.dtype.bitwidth // 8)

    return panel(x, types.intp, types.intp, lanes), generate


@intrinsic(prefer_literal=True)
def _load_head(typing_context, x, i, j, lanes, n):
    panel = Panel(x.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, x, *arguments[:3], vector)
        align = ir.Constant(ir.IntType(32), panel.dtype.bitwidth // 8)
        mask = _head_mask(builder, panel.lanes, arguments[4])
        name = f"llvm.masked.load.{_suffix(panel)}.p0{_suffix(panel)}"
        return _call(builder, name, vector, [pointer, align, mask, ir.Constant(vector, None)])

    return panel(x, types.intp, types.intp, lanes, types.intp), generate


@intrinsic
def _store(typing_context, out, i, j, panel):
    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, out, *arguments[:3], vector)
        builder.store(arguments[3], pointer, align=panel.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, panel), generate


@intrinsic
def _store_head(typing_context, out, i, j, panel, n):
    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, out, *arguments[:3], vector)
        align = ir.Constant(ir.IntType(32), panel.dtype.bitwidth // 8)
        mask = _head_mask(builder, panel.lanes, arguments[4])
        name = f"llvm.masked.store.{_suffix(panel)}.p0{_suffix(panel)}"
        _call(builder, name, ir.VoidType(), [arguments[3], pointer, align, mask])
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, panel, types.intp), generate


@intrinsic
def _multiply_add(typing_context, y, value, x):
    def generate(context, builder, signature, arguments):
        y_vector, number, x_vector = arguments
        splat = _splat(builder, number, y_vector.type)
        name = f"llvm.fma.{_suffix(y)}"
        return _call(builder, name, y_vector.type, [splat, x_vector, y_vector])

    return y(y, y.dtype, x), generate


@intrinsic
def _add(typing_context, y, z):
    return y(y, z), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def _multiply(typing_context, y, z):
    return y(y, z), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def _sum(typing_context, y):
    def generate(context, builder, signature, arguments):
        [total], lanes = arguments, y.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(total.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(total, undefined, _lanes_from(first, lanes))
                for first in (0, lanes)
            ]
            total = builder.fadd(*halves)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return y.dtype(y), generate


def _lanes_from(first, lanes):
    number = ir.IntType(32)
    constants = [ir.Constant(number, first + lane) for lane in range(lanes)]
    return ir.Constant(ir.VectorType(number, lanes), constants)


@overload(zero_panel, prefer_literal=True)
def _compiled_zero_panel(like, lanes):
    return lambda like, lanes: _zero(like, lanes)


@overload(load_panel, prefer_literal=True)
def _compiled_load_panel(x, i, j, lanes):
    return lambda x, i, j, lanes: _load(x, i, j, lanes)


@overload(load_panel_head, prefer_literal=True)
def _compiled_load_panel_head(x, i, j, lanes, n):
    return lambda x, i, j, lanes, n: _load_head(x, i, j, lanes, n)


@overload(store_panel)
def _compiled_store_panel(out, i, j, panel):
    return lambda out, i, j, panel: _store(out, i, j, panel)


@overload(store_panel_head)
def _compiled_store_panel_head(out, i, j, panel, n):
    return lambda out, i, j, panel, n: _store_head(out, i, j, panel, n)


@overload(multiply_add)
def _compiled_multiply_add(y, value, x):
    return lambda y, value, x: _multiply_add(y, value, x)


@overload(add_panels)
def _compiled_add_panels(y, z):
    return lambda y, z: _add(y, z)


@overload(multiply_panels)
def _compiled_multiply_panels(y, z):
    return lambda y, z: _multiply(y, z)


@overload(sum_panel)
def _compiled_sum_panel(y):
    return lambda y: _sum(y)
