"""Arithmetic of the keyed relation where it is blunt, for sixteen pairs, or channels, at a time.

Rows of arrays are float32 and counted over all axes but the last, which has the values; other
elements are counted over all axes.
"""

from typing import Any

from llvmlite import ir

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.exponentials import exp2_lanes
from causalrn.model.ops.cpu.lanes import (
    LANES,
    best_lane,
    call_llvm,
    check_contiguous,
    declare,
    fold_lanes,
    for_channels,
    load_lanes,
    splat,
    store_lanes,
)
from causalrn.model.ops.relation.cpu_lanes import TO_SECOND_LEVEL, emit_exponentials, pointer, rows

_F32 = ir.FloatType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_AT_ONCE = 4  # pairs whose numbers fit into registers
_LEAST = ir.Constant(ir.VectorType(_F32, LANES), [float("-inf")] * LANES)


@jit.intrinsic
def score_sixteen_blunt(
    typingctx: Any,  # noqa: ARG001
    squares: Any,
    at: Any,  # noqa: ARG001
    sums: Any,
    first: Any,  # noqa: ARG001
    value_squares: Any,
    second: Any,  # noqa: ARG001
    tops: Any,
    third: Any,  # noqa: ARG001
    n: Any,  # noqa: ARG001
    numbers: Any,
    pairs: Any,
    into: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
) -> Any:
    """Find what the exponentials of one reader and sixteen memories need.

    Args:
        squares: what keys leave, from `at` on.
        sums: of the channels of memories, from `first` on.
        value_squares, tops: squares and largest values of pairs, from `second` and `third` on.
        n: how many memories there are; of the others, anything is written.
        numbers: float32: what the reader adds to sums; 1 / d; τ·log2(e); eps; the largest square of
            a mean, in variances, that float32 can tell apart; a variance too small to be told.
        pairs: written from `into` on: scales, τ·log2(e) / (std + eps); and `stride` further on: 2
            to minus the mean times that.

    Returns:
        Sixteen bits, the first pair's is the lowest: whether float32 cannot tell a pair's mean and
        deviation. And of the n pairs that it can tell, the exponent of 2 of the largest weight.
    """
    check_contiguous(squares, sums, value_squares, tops, pairs)
    kind = jit.types.UniTuple(jit.types.float32, 6)
    if numbers != kind:
        raise TypeError(f"need {kind}, got {numbers}")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, added, of_values, top = (
            load_lanes(builder, pointer(context, builder, signature, args, i), args[i + 1])
            for i in (0, 2, 4, 6)
        )
        pairs = pointer(context, builder, signature, args, 10)
        total, inv_d, tau, eps, most, tiny = (
            splat(builder, number) for number in jit.cgutils.unpack_tuple(builder, args[9])
        )
        minus = builder.fneg(builder.fmul(builder.fadd(total, added), inv_d))
        # Rounded sums are off by a share of what they are, even where they cancel.
        size = builder.fadd(call_llvm(builder, "fabs", total), call_llvm(builder, "fabs", added))
        size = builder.fmul(size, inv_d)
        mean_square = builder.fmul(builder.fadd(left, of_values), inv_d)
        variance = builder.fsub(mean_square, builder.fmul(minus, minus))
        deviation = builder.fadd(call_llvm(builder, "sqrt", variance), eps)
        scale = builder.fdiv(tau, deviation)
        store_lanes(builder, scale, pairs, args[11])
        shift = builder.fmul(minus, scale)
        place = builder.add(args[11], args[12])
        store_lanes(builder, exp2_lanes(builder, shift), pairs, place)
        limit = builder.fsub(builder.fmul(variance, most), tiny)
        is_told = builder.fcmp_ordered("<=", builder.fmul(size, size), limit)
        exponent = call_llvm(builder, "fma", top, scale, shift)
        places = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        is_there = builder.icmp_signed("<", places, splat(builder, args[8]))
        exponent = builder.select(builder.and_(is_told, is_there), exponent, _LEAST)
        bits = builder.zext(builder.bitcast(builder.not_(is_told), _I16), _I64)
        found = bits, best_lane(builder, exponent, ">")
        return context.make_tuple(builder, signature.return_type, found)

    place = jit.types.int64
    kinds = (
        squares, place, sums, place, value_squares, place, tops, place, place, kind, pairs, place,
        place,
    )  # fmt: skip
    return jit.types.Tuple((place, jit.types.float32))(*kinds), codegen


@jit.intrinsic
def largest_of_pairs(
    typingctx: Any,  # noqa: ARG001
    a: Any,
    row: Any,  # noqa: ARG001
    b: Any,
    first: Any,  # noqa: ARG001
    out: Any,
) -> Any:
    """Write the largest of `a[row] + b[first + j]` over all channels to `out[j]`, for sixteen j."""
    check_contiguous(a, b, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (reader,), length = rows(context, builder, signature, args, 0, 1)
        memories, _ = rows(context, builder, signature, args, 2, LANES)
        found = [jit.cgutils.alloca_once_value(builder, _LEAST) for _ in range(LANES)]

        def larger(first: Any, second: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", first, second), first, second)

        def body(at: Any, used: Any) -> None:
            own = load_lanes(builder, reader, at, used)
            for memory, place in zip(memories, found, strict=True):
                u = builder.fadd(own, load_lanes(builder, memory, at, used))
                if used is not None:
                    u = builder.select(used, u, _LEAST)
                builder.store(larger(u, builder.load(place)), place)

        for_channels(builder, length, body)
        largest = fold_lanes(builder, [builder.load(place) for place in found], larger)
        target = pointer(context, builder, signature, args, 4)
        store_lanes(builder, largest, target, _I64(0))
        return context.get_dummy_value()

    place = jit.types.int64
    return jit.types.none(a, place, b, place, out), codegen


@jit.intrinsic
def fetch(typingctx: Any, x: Any, first: Any, n: Any) -> Any:  # noqa: ARG001
    """Have n times sixteen float32, from element `first` on, come into the second level of caches.

    This changes nothing but the time.
    """
    check_contiguous(x)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        begin = builder.gep(pointer(context, builder, signature, args, 0), [args[1]])
        kinds = [_BYTES, _I32, _I32, _I32]
        function = declare(builder, "llvm.prefetch.p0", ir.VoidType(), kinds)
        with jit.cgutils.for_range(builder, args[2]) as loop:
            line = builder.gep(begin, [builder.mul(loop.index, _I64(LANES))])
            line = builder.bitcast(line, _BYTES)
            builder.call(function, [line, _I32(0), _I32(TO_SECOND_LEVEL), _I32(1)])
        return context.get_dummy_value()

    return jit.types.none(x, jit.types.int64, jit.types.int64), codegen


def _add_silent_exponentials(n_pairs: int) -> Any:
    """`out[into] += factor · 2^(scale · b[first + j])`, with j in order.

    The scale is `pairs[at + j]`, and the factor stands `stride` further on.
    """

    @jit.intrinsic
    def add(
        typingctx: Any,  # noqa: ARG001
        b: Any,
        first: Any,  # noqa: ARG001
        pairs: Any,
        at: Any,  # noqa: ARG001
        stride: Any,  # noqa: ARG001
        out: Any,
        into: Any,  # noqa: ARG001
    ) -> Any:
        check_contiguous(b, pairs, out)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memories, length = rows(context, builder, signature, args, 0, n_pairs)
            (target,), _ = rows(context, builder, signature, args, 5, 1)
            pairs = pointer(context, builder, signature, args, 2)
            for j in range(0, n_pairs, _AT_ONCE):
                scale = builder.add(args[3], _I64(j))
                places, some = (scale, builder.add(scale, args[4])), memories[j : j + _AT_ONCE]
                emit_exponentials(context, builder, None, some, length, pairs, places, target, [])
            return context.get_dummy_value()

        place = jit.types.int64
        return jit.types.none(b, place, pairs, place, place, out, place), codegen

    return add


add_one_silent_exponential = _add_silent_exponentials(1)
add_two_silent_exponentials = _add_silent_exponentials(2)
add_three_silent_exponentials = _add_silent_exponentials(3)
add_four_silent_exponentials = _add_silent_exponentials(4)
add_sixteen_silent_exponentials = _add_silent_exponentials(16)
