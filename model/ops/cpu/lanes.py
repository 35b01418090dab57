"""Arithmetic whose every rounding is decided here, not by the compiler.

Kernels are compiled without any fast-math flag. Loops over channels still become SIMD code unless
they add up; sums, which a compiler may not reorder, are written as LLVM vectors by hand: channel i
goes to lane `i % LANES`, and lanes are added pairwise at the end. Where a product and a sum round
once, `fma` says so. The same inputs therefore give the same bits in every kernel, form, process and
version of the compiler, on every processor with FMA.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.bfloat16 import widen

LANES = 16
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_N_BYTES = {_I16: 2, _F32: 4, _F64: 8}
_SUFFIX = {_I16: "i16", _F32: "f32", _F64: "f64"}
_Step = Callable[[Any, list[Any], list[Any]], list[Any]]


def call_llvm(builder: Any, name: str, *args: Any) -> Any:
    """Call the LLVM intrinsic of that name for scalars or vectors."""
    kind = args[0].type
    lane = kind.element if isinstance(kind, ir.VectorType) else kind
    suffix = "f32" if lane == _F32 else "f64"
    if isinstance(kind, ir.VectorType):
        suffix = f"v{kind.count}{suffix}"
    function = declare(builder, f"llvm.{name}.{suffix}", kind, [arg.type for arg in args])
    return builder.call(function, args)


def declare(builder: Any, name: str, result: Any, kinds: Sequence[Any]) -> Any:
    """A function from elsewhere, an intrinsic of LLVM for example, in the module of a builder."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, kinds), name)
    return function


@jit.intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:  # noqa: ARG001
    """x·y + z, rounded once; all float32 or all float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return call_llvm(builder, "fma", *args)

    kind = jit.types.float32 if x == y == z == jit.types.float32 else jit.types.float64
    return kind(kind, kind, kind), codegen


@jit.intrinsic
def _round_to_even(typingctx: Any, x: Any) -> Any:  # noqa: ARG001
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return call_llvm(builder, "rint", *args)

    return jit.types.float32(jit.types.float32), codegen


@jit.intrinsic
def _add_to_exponent(typingctx: Any, x: Any, n: Any) -> Any:  # noqa: ARG001
    """x · 2^n for a float32 x and an integral float32 n, by integer addition to x's exponent."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        bits = builder.bitcast(args[0], _I32)
        n = builder.fptosi(args[1], _I32)
        return builder.bitcast(builder.add(bits, builder.shl(n, _I32(23))), _F32)

    return jit.types.float32(jit.types.float32, jit.types.float32), codegen


EXP2 = (1.0, 0.6931469776, 0.2402224208, 0.0555073374, 0.0096715128, 0.0013264727)
"""Coefficients of the minimax polynomial for 2^f on [-1/2, 1/2] with 2^0 exact, from the constant
one on; relative error 9.1e-8 before rounding."""

_C0, _C1, _C2, _C3, _C4, _C5 = map(np.float32, EXP2)


@jit.inline
def exp2(y):
    """2^y in float32 for -126 <= y <= 127, relative error below 3e-7; branch-free, vectorises."""
    n = _round_to_even(y)
    f = y - n
    p = fma(_C5, f, _C4)
    p = fma(p, f, _C3)
    p = fma(p, f, _C2)
    p = fma(p, f, _C1)
    p = fma(p, f, _C0)
    return _add_to_exponent(p, n)


def channel_sums(
    builder: Any, lane: Any, pointers: Sequence[Any], length: Any, n_sums: int, step: _Step
) -> Any:
    """Emit sums over `length` channels of the arrays that begin at `pointers`, as one vector.

    Args:
        builder: of the function that is being compiled.
        lane: type in which channels are added.
        pointers: to the first channel of each array; bfloat16, float32 or float64.
        length: number of channels.
        n_sums: how many sums, a power of two.
        step: from a vector of each array and the sums so far, the next sums.
    """
    vector = ir.VectorType(lane, LANES)
    zero = ir.Constant(vector, [0.0] * LANES)
    sums = [jit.cgutils.alloca_once_value(builder, zero) for _ in range(n_sums)]
    lanes = length.type(LANES)

    def to_lane(value: Any) -> Any:
        wide = ir.VectorType(lane, LANES) if isinstance(value.type, ir.VectorType) else lane
        return value if value.type == wide else builder.fpext(value, wide)

    whole = builder.sdiv(length, lanes)
    with jit.cgutils.for_range(builder, whole) as loop:
        at = builder.mul(loop.index, lanes)
        values = [to_lane(load_lanes(builder, pointer, at)) for pointer in pointers]
        terms = step(builder, values, [builder.load(s) for s in sums])
        for place, term in zip(sums, terms, strict=True):
            builder.store(term, place)

    first = builder.mul(whole, lanes)
    rest = builder.sub(length, first)
    with builder.if_then(builder.icmp_signed(">", rest, rest.type(0)), likely=False):
        used = _first_lanes(builder, rest)
        values = [to_lane(load_lanes(builder, pointer, first, used)) for pointer in pointers]
        before = [builder.load(s) for s in sums]
        terms = step(builder, values, before)
        for place, old, term in zip(sums, before, terms, strict=True):
            builder.store(builder.select(used, term, old), place)
    return add_lanes(builder, [builder.load(s) for s in sums])


def _load_some(builder: Any, pointer: Any, first: Any, used: Any) -> Any:
    """The channels from `first` on, in those lanes that are used; zeros in the others."""
    element = pointer.type.pointee
    vector = ir.VectorType(element, LANES)
    name = f"llvm.masked.load.v{LANES}{_SUFFIX[element]}.p0"
    kinds = [vector.as_pointer(), _I32, used.type, vector]
    function = declare(builder, name, vector, kinds)
    at = builder.bitcast(builder.gep(pointer, [first]), vector.as_pointer())
    nothing = ir.Constant(vector, [element(0)] * LANES)
    return builder.call(function, [at, _I32(_N_BYTES[element]), used, nothing])


def add_lanes(builder: Any, vectors: list[Any]) -> Any:
    """The sums of the lanes of each vector, side by side in one vector.

    The halves of each vector are added, and so on until one lane of it is left. As long as there
    are several vectors (a power of two), two of them share an addition: the low halves of both side
    by side, and the high halves of both.
    """
    return fold_lanes(builder, vectors, builder.fadd)


def fold_lanes(builder: Any, vectors: list[Any], fold: Callable[[Any, Any], Any]) -> Any:
    """As `add_lanes`, with anything else that makes one vector of two, lane by lane."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        folded = []
        for first, second in zip(vectors[::2], vectors[1::2] or vectors, strict=True):
            width = first.type.count * (1 if first is second else 2)
            low = [lane for lane in range(width) if lane % (2 * lanes) < lanes]
            halves = [
                shuffle(builder, first, second, half)
                for half in (low, [lane + lanes for lane in low])
            ]
            folded.append(fold(*halves))
        vectors = folded
    return vectors[0]


def shuffle(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    """A vector of lanes of two vectors, those of the second counted on from the first's."""
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)
    return builder.shuffle_vector(first, second, mask)


def _lane(builder: Any, vector: Any, i: int) -> Any:
    return builder.extract_element(vector, _I32(i))


def splat(builder: Any, value: Any) -> Any:
    """A vector of `LANES` times the same value."""
    vector = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    everywhere = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), everywhere)


def row_pointer(
    context: Any, builder: Any, kind: Any, array: Any, row: Any = None
) -> tuple[Any, Any]:
    """Pointer to the first channel of an array or of one of its rows, and how many there are."""
    parts = context.make_array(kind)(context, builder, array)
    shape = jit.cgutils.unpack_tuple(builder, parts.shape)
    pointer = parts.data
    if row is not None:
        pointer = builder.gep(pointer, [builder.mul(row, shape[-1])])
    return pointer, shape[-1]


def load_lanes(builder: Any, pointer: Any, at: Any, used: Any = None) -> Any:
    """`LANES` numbers from element `at` of what a pointer points to, as a vector.

    Only lanes that are `used` are read, if that is given; the others are 0. Of bfloat16, float32
    are made.
    """
    if used is not None:
        return widen(builder, _load_some(builder, pointer, at, used))
    element = pointer.type.pointee
    place = builder.bitcast(builder.gep(pointer, [at]), ir.VectorType(element, LANES).as_pointer())
    return widen(builder, builder.load(place, align=_N_BYTES[element]))


def store_lanes(builder: Any, lanes: Any, pointer: Any, at: Any, used: Any = None) -> None:
    """Store such a vector, or its lanes that are used."""
    place = builder.bitcast(builder.gep(pointer, [at]), lanes.type.as_pointer())
    element = lanes.type.element
    if used is None:
        builder.store(lanes, place, align=_N_BYTES[element])
        return
    kinds = [lanes.type, place.type, _I32, used.type]
    name = f"llvm.masked.store.v{LANES}{_SUFFIX[element]}.p0"
    builder.call(
        declare(builder, name, ir.VoidType(), kinds), [lanes, place, _I32(_N_BYTES[element]), used]
    )


def for_channels(builder: Any, length: Any, body: Callable[[Any, Any], None]) -> None:
    """Emit `body(at, used)` for each `LANES` of `length` channels.

    `at` is the first of them, and `used` says which lanes there are, None for all.
    """
    lanes = length.type(LANES)
    whole = builder.sdiv(length, lanes)
    with jit.cgutils.for_range(builder, whole) as loop:
        body(builder.mul(loop.index, lanes), None)
    first = builder.mul(whole, lanes)
    rest = builder.sub(length, first)
    with builder.if_then(builder.icmp_signed(">", rest, rest.type(0)), likely=False):
        body(first, _first_lanes(builder, rest))


def _first_lanes(builder: Any, n: Any) -> Any:
    places = ir.Constant(ir.VectorType(n.type, LANES), list(range(LANES)))
    return builder.icmp_signed("<", places, splat(builder, n))


def best_lane(builder: Any, lanes: Any, order: str) -> Any:
    """The lane of a vector that comes first in an order, `<` or `>`; none may be NaN."""
    while lanes.type.count > 1:
        half = lanes.type.count // 2
        low = shuffle(builder, lanes, lanes, list(range(half)))
        high = shuffle(builder, lanes, lanes, list(range(half, 2 * half)))
        lanes = builder.select(builder.fcmp_ordered(order, low, high), low, high)
    return _lane(builder, lanes, 0)


def check_contiguous(*arrays: Any) -> None:
    """Refuse arrays, by their types, that do not lie in one piece.

    Raises:
        TypeError: there are such.
    """
    for array in arrays:
        if array.layout != "C":
            raise TypeError(f"need C-contiguous arrays, got {array}")


@jit.intrinsic
def row_sum(typingctx: Any, x: Any, row: Any) -> Any:  # noqa: ARG001
    """Sum of a row of an array, of any kind, in float64; rows are counted over all axes."""
    check_contiguous(x)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, length = row_pointer(context, builder, signature.args[0], args[0], args[1])

        def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
            return [builder.fadd(sums[0], values[0])]

        return _lane(builder, channel_sums(builder, _F64, [pointer], length, 1, step), 0)

    return jit.types.float64(x, jit.types.int64), codegen


def row_sums(x: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over the last axis with the bits of `row_sum`, by NumPy."""
    missing = -x.shape[-1] % LANES
    padded = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    sums = np.zeros((*x.shape[:-1], LANES))
    for first in range(0, padded.shape[-1], LANES):
        sums += padded[..., first : first + LANES]
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    found: NDArray[np.float64] = sums[..., 0]
    return found


@jit.intrinsic
def row_dot(typingctx: Any, x: Any, y: Any, shift: Any) -> Any:  # noqa: ARG001
    """Sum of `(x - shift)·(y - shift)` over rows `[K]`, float32 or float64, in float64."""
    check_contiguous(x, y)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first, length = row_pointer(context, builder, signature.args[0], args[0])
        second, _ = row_pointer(context, builder, signature.args[1], args[1])
        shift = splat(builder, args[2])

        def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
            u, v = (builder.fsub(value, shift) for value in values)
            return [call_llvm(builder, "fma", u, v, sums[0])]

        return _lane(builder, channel_sums(builder, _F64, [first, second], length, 1, step), 0)

    return jit.types.float64(x, y, jit.types.float64), codegen


@jit.intrinsic
def double_pair_sums(typingctx: Any, a: Any, row: Any, b: Any, other: Any) -> Any:  # noqa: ARG001
    """Sum of `a[row] + b[other]`, float32 rows, and that of its square, added up in float64."""
    check_contiguous(a, b)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        reader, length = row_pointer(context, builder, signature.args[0], args[0], args[1])
        memory, _ = row_pointer(context, builder, signature.args[2], args[2], args[3])

        def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
            u = builder.fadd(*values)
            return [builder.fadd(sums[0], u), call_llvm(builder, "fma", u, u, sums[1])]

        sums = channel_sums(builder, _F64, [reader, memory], length, 2, step)
        scalars = [_lane(builder, sums, i) for i in range(2)]
        return context.make_tuple(builder, signature.return_type, scalars)

    result = jit.types.UniTuple(jit.types.float64, 2)
    return result(a, jit.types.int64, b, jit.types.int64), codegen


def _add_pair_squares(n_pairs: int) -> Any:
    """`out[at + j] += sum of (a[row] + b[first + j])²` over n channels for that many j; float32."""

    @jit.intrinsic
    def add_squares(
        typingctx: Any,  # noqa: ARG001
        a: Any,
        row: Any,  # noqa: ARG001
        b: Any,
        first: Any,  # noqa: ARG001
        n: Any,  # noqa: ARG001
        out: Any,
        at: Any,  # noqa: ARG001
    ) -> Any:
        check_contiguous(a, b, out)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            reader, _ = row_pointer(context, builder, signature.args[0], args[0], args[1])
            memories = [
                row_pointer(
                    context, builder, signature.args[2], args[2], builder.add(args[3], _I64(j))
                )[0]
                for j in range(n_pairs)
            ]

            def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
                us = [builder.fadd(values[0], memory) for memory in values[1:]]
                return [call_llvm(builder, "fma", u, u, s) for s, u in zip(sums, us, strict=True)]

            sums = channel_sums(builder, _F32, [reader, *memories], args[4], n_pairs, step)
            target, _ = row_pointer(context, builder, signature.args[5], args[5])
            place = builder.bitcast(builder.gep(target, [args[6]]), sums.type.as_pointer())
            builder.store(builder.fadd(builder.load(place, align=4), sums), place, align=4)
            return context.get_dummy_value()

        place = jit.types.int64
        return jit.types.none(a, place, b, place, place, out, place), codegen

    return add_squares


add_one_pair_squares = _add_pair_squares(1)
add_sixteen_pair_squares = _add_pair_squares(16)


@jit.intrinsic
def pair_squares(
    typingctx: Any,  # noqa: ARG001
    a: Any,
    row: Any,  # noqa: ARG001
    b: Any,
    first: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    n_blocks: Any,  # noqa: ARG001
    out: Any,
    at: Any,  # noqa: ARG001
) -> Any:
    """`out[at + j] = sum of (a[row] + b_j)²` for 16 memories b_j, whose channels lie in blocks.

    `b` is float32 and has rows of `LANES` channels, counted over all its axes, as elements of `out`
    are; block c of memory j is row `first + c·stride + j`. Only the first `n_blocks` blocks count.
    With zeros in channels that a block does not have, the sums have the bits
    of `add_sixteen_pair_squares`.
    """
    check_contiguous(a, b, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        reader, _ = row_pointer(context, builder, signature.args[0], args[0], args[1])
        memories, _ = row_pointer(context, builder, signature.args[2], args[2], args[3])
        zero = ir.Constant(ir.VectorType(_F32, LANES), [0.0] * LANES)
        sums = [jit.cgutils.alloca_once_value(builder, zero) for _ in range(LANES)]
        with jit.cgutils.for_range(builder, args[5]) as loop:
            own = load_lanes(builder, reader, builder.mul(loop.index, _I64(LANES)))
            begin = builder.mul(builder.mul(loop.index, args[4]), _I64(LANES))
            for j, place in enumerate(sums):
                at = builder.add(begin, _I64(j * LANES))
                u = builder.fadd(own, load_lanes(builder, memories, at))
                builder.store(call_llvm(builder, "fma", u, u, builder.load(place)), place)
        found = add_lanes(builder, [builder.load(place) for place in sums])
        target, _ = row_pointer(context, builder, signature.args[6], args[6])
        store_lanes(builder, found, target, args[7])
        return context.get_dummy_value()

    place = jit.types.int64
    return jit.types.none(a, place, b, place, place, place, out, place), codegen


def _add_dots(n_rows: int, n_columns: int) -> Any:
    """`out[row + i, column + j] += x[row + i] · w[column + j]` for a tile of that size, float32.

    Only channels `begin` to `end - 1` of both are taken; `begin` is a multiple of `LANES`.
    """

    @jit.intrinsic
    def add_dots(
        typingctx: Any,  # noqa: ARG001
        x: Any,
        row: Any,  # noqa: ARG001
        w: Any,
        column: Any,  # noqa: ARG001
        out: Any,
        begin: Any,  # noqa: ARG001
        end: Any,  # noqa: ARG001
    ) -> Any:
        check_contiguous(x, w, out)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def rows(array: int, first: int, n: int) -> list[Any]:
                kind, rows = (
                    signature.args[array],
                    [builder.add(args[first], _I64(i)) for i in range(n)],
                )
                return [row_pointer(context, builder, kind, args[array], row)[0] for row in rows]

            inputs, weights, targets = rows(0, 1, n_rows), rows(2, 3, n_columns), rows(4, 1, n_rows)
            length = builder.sub(args[6], args[5])
            operands = [builder.gep(one, [args[5]]) for one in inputs + weights]

            def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
                return [
                    call_llvm(
                        builder, "fma", values[i], values[n_rows + j], sums[i * n_columns + j]
                    )
                    for i in range(n_rows)
                    for j in range(n_columns)
                ]

            dots = channel_sums(builder, _F32, operands, length, n_rows * n_columns, step)
            tile = ir.VectorType(_F32, n_columns)
            for i, target in enumerate(targets):
                pointer = builder.bitcast(builder.gep(target, [args[3]]), tile.as_pointer())
                lanes = list(range(i * n_columns, (i + 1) * n_columns))
                new = builder.fadd(
                    builder.load(pointer, align=4), shuffle(builder, dots, dots, lanes)
                )
                builder.store(new, pointer, align=4)
            return context.get_dummy_value()

        place = jit.types.int64
        return jit.types.none(x, place, w, place, out, place, place), codegen

    return add_dots


add_dots_4x4 = _add_dots(4, 4)
add_dots_1x4 = _add_dots(1, 4)
add_dots_1x1 = _add_dots(1, 1)
