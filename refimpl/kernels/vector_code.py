"""The machine code of panels: which LLVM instructions `refimpl.kernels.vectors` turns into.

Numba lets a function write its own LLVM code (`numba.extending.intrinsic`): one that is called
with the types of its arguments gives the type of its result, and a function that generates the
code. LLVM cuts a vector of 64 numbers into registers of whatever width the machine has.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_model


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


def _check_mutable(out):
    """Refuse to generate a store into a read-only array, as Numba does."""
    if not out.mutable:
        raise TypingError("Cannot modify readonly array")


def _suffix(panel):
    return f"v{panel.lanes}f{panel.dtype.bitwidth}"


@intrinsic
def address(typing_context, array):
    """The pointer as a number; Numba's own ``array.ctypes.data`` would keep a kernel uncached."""

    def generate(context, builder, signature, arguments):
        struct = context.make_array(array)(context, builder, arguments[0])
        return builder.ptrtoint(struct.data, ir.IntType(64))

    return types.int64(array), generate


@intrinsic(prefer_literal=True)
def zero(typing_context, like, lanes):
    """A constant."""
    panel = Panel(like.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(panel), None)

    return panel(like, lanes), generate


@intrinsic(prefer_literal=True)
def load(typing_context, x, i, j, lanes):
    """One unaligned vector load."""
    panel = Panel(x.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, x, *arguments[:3], vector)
        return builder.load(pointer, align=panel.dtype.bitwidth // 8)

    return panel(x, types.intp, types.intp, lanes), generate


@intrinsic(prefer_literal=True)
def load_head(typing_context, x, i, j, lanes, n):
    """A load under a mask: lanes behind the first `n` are not read."""
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
def prefetch(typing_context, x, i, j):
    """A hint: to read (0), soon and often (3), data (1). It loads no register, and cannot fail."""

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8), ir.IntType(32)
        hints = [ir.Constant(number, hint) for hint in (0, 3, 1)]
        pointer = _address(context, builder, x, *arguments, byte)
        _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), [pointer, *hints])
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp), generate


@intrinsic
def store(typing_context, out, i, j, panel):
    """One unaligned vector store."""
    _check_mutable(out)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        pointer = _address(context, builder, out, *arguments[:3], vector)
        builder.store(arguments[3], pointer, align=panel.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, panel), generate


@intrinsic
def store_head(typing_context, out, i, j, panel, n):
    """A store under a mask: lanes behind the first `n` are not written."""
    _check_mutable(out)

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
def multiply_add(typing_context, y, value, x):
    """The number in every lane, then a fused multiply-add."""

    def generate(context, builder, signature, arguments):
        y_vector, number, x_vector = arguments
        splat = _splat(builder, number, y_vector.type)
        name = f"llvm.fma.{_suffix(y)}"
        return _call(builder, name, y_vector.type, [splat, x_vector, y_vector])

    return y(y, y.dtype, x), generate


@intrinsic
def multiply_add_panels(typing_context, y, a, b):
    """A fused multiply-add, without a number to put into every lane."""

    def generate(context, builder, signature, arguments):
        y_vector, *factors = arguments
        return _call(builder, f"llvm.fma.{_suffix(y)}", y_vector.type, [*factors, y_vector])

    return y(y, a, b), generate


@intrinsic
def add(typing_context, y, z):
    """One vector addition."""
    return y(y, z), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def multiply(typing_context, y, z):
    """One vector multiplication."""
    return y(y, z), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def horizontal_sum(typing_context, y):
    """The upper half of the lanes is added to the lower half until one is left."""

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


@intrinsic(prefer_literal=True)
def gather(typing_context, x, indices, i, lanes):
    """One gather: the indices are widened to addresses, and every lane loads from its own."""
    panel = Panel(x.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        base, stored, i, _ = arguments
        base = context.make_array(x)(context, builder, base).data
        stored = context.make_array(indices)(context, builder, stored).data
        columns = _load_integers(builder, builder.gep(stored, [i]), indices.dtype, panel.lanes)
        return _gather(builder, base, columns, vector)

    return panel(x, indices, types.intp, lanes), generate


@intrinsic(prefer_literal=True)
def gather_head(typing_context, x, indices, i, lanes, n):
    """A gather under a mask: lanes behind the first `n` read neither an index nor a number."""
    panel = Panel(x.dtype, lanes.literal_value)

    def generate(context, builder, signature, arguments):
        base, stored, i, _, n = arguments
        mask = _head_mask(builder, panel.lanes, n)
        base = context.make_array(x)(context, builder, base).data
        first = builder.gep(context.make_array(indices)(context, builder, stored).data, [i])
        columns = _load_integers_head(builder, first, indices.dtype.bitwidth, mask)
        return _gather(builder, base, columns, context.get_value_type(panel), mask)

    return panel(x, indices, types.intp, lanes, types.intp), generate


@intrinsic
def pick(typing_context, x, start, word):
    """With AVX-512, one permutation of the 32 numbers, which fill two registers; else a gather."""
    panel = Panel(x.dtype, 16)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(panel)
        array, start, word = arguments
        first = builder.gep(context.make_array(x)(context, builder, array).data, [start])
        places = [lane // 2 * 4 for lane in range(16)]
        columns = builder.add(_fields(builder, word, range(0, 32, 2)), _integers(32, places))
        features = context.codegen().magic_tuple()[2].split(",")
        if "+avx512f" not in features or x.dtype.bitwidth != 32:
            wide = builder.zext(columns, ir.VectorType(ir.IntType(64), 16))
            return _gather(builder, first, wide, vector)
        halves = builder.bitcast(first, vector.as_pointer())
        low, high = (
            builder.load(builder.gep(halves, [ir.Constant(ir.IntType(32), half)]), align=4)
            for half in (0, 1)
        )
        name = "llvm.x86.avx512.vpermi2var.ps.512"
        return _call(builder, name, vector, [low, columns, high])

    return panel(x, types.intp, types.uint32), generate


@intrinsic
def spread(typing_context, picked, word):
    """Each lane looks which of its group's two indices is its own, and takes that number or 0."""
    panel = Panel(picked.dtype, 32)

    def generate(context, builder, signature, arguments):
        numbers, word = arguments
        row, undefined = (
            ir.Constant(context.get_value_type(panel), None),
            numbers.type(ir.Undefined),
        )
        own = _integers(32, [lane % 4 for lane in range(32)])
        for which in (0, 1):
            slots = _integers(32, [lane // 4 * 2 + which for lane in range(32)])
            taken = builder.shuffle_vector(numbers, undefined, slots)
            index = _fields(builder, word, [lane // 4 * 4 + 2 * which for lane in range(32)])
            row = builder.select(builder.icmp_unsigned("==", index, own), taken, row)
        return row

    return panel(picked, types.uint32), generate


def _integers(bits, numbers):
    """A constant vector."""
    number = ir.IntType(bits)
    constants = [ir.Constant(number, n) for n in numbers]
    return ir.Constant(ir.VectorType(number, len(constants)), constants)


def _fields(builder, word, shifts):
    """In each lane, the two bits of a word that begin at its shift."""
    shifts = _integers(32, shifts)
    shifted = builder.lshr(_splat(builder, word, shifts.type), shifts)
    return builder.and_(shifted, _integers(32, [3] * shifts.type.count))


def _gather(builder, base, columns, vector, mask=None):
    """Load ``base[columns]``, each lane from an address of its own; all lanes, or those masked."""
    n_bytes, suffix = (4, "f32") if vector.element == ir.FloatType() else (8, "f64")
    starts = _splat(builder, builder.ptrtoint(base, ir.IntType(64)), columns.type)
    offsets = builder.mul(columns, _integers(64, [n_bytes] * vector.count))
    pointers = ir.VectorType(vector.element.as_pointer(), vector.count)
    pointers = builder.inttoptr(builder.add(starts, offsets), pointers)
    mask = _integers(1, [1] * vector.count) if mask is None else mask
    align = ir.Constant(ir.IntType(32), n_bytes)
    name = f"llvm.masked.gather.v{vector.count}{suffix}.v{vector.count}p0{suffix}"
    return _call(builder, name, vector, [pointers, align, mask, ir.Constant(vector, None)])


def _load_integers(builder, pointer, dtype, lanes):
    """Read `lanes` index numbers and widen them to 64 bits; none of them is negative."""
    vector = ir.VectorType(ir.IntType(dtype.bitwidth), lanes)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    loaded = builder.load(pointer, align=dtype.bitwidth // 8)
    wide = ir.VectorType(ir.IntType(64), lanes)
    return loaded if dtype.bitwidth == 64 else builder.zext(loaded, wide)


def _load_integers_head(builder, pointer, bits, mask):
    """Read index numbers under a mask and widen them to 64 bits."""
    lanes = mask.type.count
    vector = ir.VectorType(ir.IntType(bits), lanes)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    align = ir.Constant(ir.IntType(32), bits // 8)
    name = f"llvm.masked.load.v{lanes}i{bits}.p0v{lanes}i{bits}"
    loaded = _call(builder, name, vector, [pointer, align, mask, ir.Constant(vector, None)])
    return loaded if bits == 64 else builder.zext(loaded, ir.VectorType(ir.IntType(64), lanes))


def _lanes_from(first, lanes):
    return _integers(32, range(first, first + lanes))
