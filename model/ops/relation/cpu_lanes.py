"""Arithmetic of the normalized relation for sixteen pairs, or sixteen channels, at a time.

Rows of arrays are float32 and counted over all axes but the last, which has the K channels; other
elements are counted over all axes.
"""

from typing import Any

from llvmlite import ir

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.exponentials import exp2_lanes, exponentials, table
from causalrn.model.ops.cpu.lanes import (
    LANES,
    call_llvm,
    channel_sums,
    check_contiguous,
    declare,
    for_channels,
    load_lanes,
    row_pointer,
    splat,
    store_lanes,
)

_F32, _F64 = ir.FloatType(), ir.DoubleType()
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
TO_SECOND_LEVEL = 2  # of caches: until it is read, hundreds of exponentials fill the first


def pointer(context: Any, builder: Any, signature: Any, args: Any, number: int) -> Any:
    """To the first element of an argument."""
    return row_pointer(context, builder, signature.args[number], args[number])[0]


def rows(
    context: Any, builder: Any, signature: Any, args: Any, number: int, n_rows: int
) -> tuple[list[Any], Any]:
    """Pointers to rows of an argument, from the one that the next argument says on; and K."""
    first, length = row_pointer(
        context, builder, signature.args[number], args[number], args[number + 1]
    )
    return [builder.gep(first, [builder.mul(length, _I64(i))]) for i in range(n_rows)], length


@jit.intrinsic
def score_sixteen(
    typingctx: Any,  # noqa: ARG001
    a: Any,
    row: Any,  # noqa: ARG001
    total: Any,  # noqa: ARG001
    b: Any,
    first: Any,  # noqa: ARG001
    totals: Any,
    numbers: Any,  # noqa: ARG001
    pairs: Any,
    at: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    means: Any,
) -> Any:
    """Find what the exponentials of one reader and sixteen memories need.

    Args:
        a, row, total: the reader, and the sum of its channels, float64.
        b, first, totals: the first of the memories, and sums of their channels, float64.
        numbers: float64: 1 / K; eps; log2(e); the largest square of a mean, in variances, that
            float32 can tell apart.
        pairs: written from `at` on: log2(e) / (std + eps); and `stride` further on: 2 to minus the
            mean times that.
        means: float64, written from `at` on.

    Returns:
        Sixteen bits, the first pair's is the lowest: whether its mean so dwarfs its deviation that
        scale and factor are worth nothing.
    """
    check_contiguous(a, b, totals, pairs, means)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (reader,), length = rows(context, builder, signature, args, 0, 1)
        memories, _ = rows(context, builder, signature, args, 3, LANES)
        totals, pairs, means = (
            pointer(context, builder, signature, args, number) for number in (5, 7, 10)
        )

        def step(builder: Any, values: list[Any], sums: list[Any]) -> list[Any]:
            us = [builder.fadd(values[0], memory) for memory in values[1:]]
            return [call_llvm(builder, "fma", u, u, s) for u, s in zip(us, sums, strict=True)]

        squares = channel_sums(builder, _F32, [reader, *memories], length, LANES, step)
        wide = jit.cgutils.unpack_tuple(builder, args[6])
        inv_k, eps, log2e, most = (splat(builder, builder.fptrunc(x, _F32)) for x in wide)
        total = builder.fadd(splat(builder, args[2]), load_lanes(builder, totals, args[4]))
        mean = builder.fmul(total, splat(builder, wide[0]))
        store_lanes(builder, mean, means, args[8])
        mean = builder.fptrunc(mean, ir.VectorType(_F32, LANES))
        minus = builder.fneg(mean)
        variance = call_llvm(builder, "fma", minus, mean, builder.fmul(squares, inv_k))
        deviation = builder.fadd(call_llvm(builder, "sqrt", variance), eps)
        scale = builder.fdiv(log2e, deviation)
        store_lanes(builder, scale, pairs, args[8])
        factor = exp2_lanes(builder, builder.fmul(minus, scale))
        store_lanes(builder, factor, pairs, builder.add(args[8], args[9]))
        is_dwarfed = builder.fcmp_ordered(
            ">", builder.fmul(mean, mean), builder.fmul(variance, most)
        )
        return builder.zext(builder.bitcast(is_dwarfed, _I16), _I64)

    place, number = jit.types.int64, jit.types.float64
    four = jit.types.UniTuple(number, 4)
    kinds = a, place, number, b, place, totals, four, pairs, place, place, means
    return place(*kinds), codegen


def _add_exponentials(n_pairs: int) -> Any:
    """`out[into] += factor · 2^(scale · (a[row] + b[first + j]))`, with j in order.

    The scale is `pairs[at + j]`, and the factor stands `stride` further on.
    """

    @jit.intrinsic
    def add(
        typingctx: Any,  # noqa: ARG001
        a: Any,
        row: Any,  # noqa: ARG001
        b: Any,
        first: Any,  # noqa: ARG001
        pairs: Any,
        at: Any,  # noqa: ARG001
        stride: Any,  # noqa: ARG001
        out: Any,
        into: Any,  # noqa: ARG001
    ) -> Any:
        check_contiguous(a, b, pairs, out)
        place = jit.types.int64
        kinds = a, place, b, place, pairs, place, place, out, place
        return jit.types.none(*kinds), _adding(n_pairs, None)

    return add


def _add_exponentials_ahead(n_pairs: int) -> Any:
    """The same; meanwhile rows `ahead + j` of b come into the second level of caches.

    This changes nothing but the time: memories of a sequence that decodes are read once a step, and
    between two reads lie hundreds of exponentials, too many for the processor to look ahead.
    """

    @jit.intrinsic
    def add(
        typingctx: Any,  # noqa: ARG001
        a: Any,
        row: Any,  # noqa: ARG001
        b: Any,
        first: Any,  # noqa: ARG001
        pairs: Any,
        at: Any,  # noqa: ARG001
        stride: Any,  # noqa: ARG001
        out: Any,
        into: Any,  # noqa: ARG001
        ahead: Any,  # noqa: ARG001
    ) -> Any:
        check_contiguous(a, b, pairs, out)
        place = jit.types.int64
        kinds = a, place, b, place, pairs, place, place, out, place, place
        return jit.types.none(*kinds), _adding(n_pairs, 9)

    return add


def _adding(n_pairs: int, ahead: int | None) -> Any:
    """What emits `_add_exponentials`; `ahead` is the number of the argument that says so."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (reader,), length = rows(context, builder, signature, args, 0, 1)
        memories, _ = rows(context, builder, signature, args, 2, n_pairs)
        (target,), _ = rows(context, builder, signature, args, 7, 1)
        next_ones = []
        if ahead is not None:
            kind, array = signature.args[2], args[2]
            begin, _ = row_pointer(context, builder, kind, array, args[ahead])
            next_ones = [builder.gep(begin, [builder.mul(length, _I64(j))]) for j in range(n_pairs)]
        pairs = pointer(context, builder, signature, args, 4)
        places = args[5], builder.add(args[5], args[6])
        emit_exponentials(
            context, builder, reader, memories, length, pairs, places, target, next_ones
        )
        return context.get_dummy_value()

    return codegen


def emit_exponentials(
    context: Any,
    builder: Any,
    reader: Any,
    memories: list[Any],
    length: Any,
    pairs: Any,
    places: tuple[Any, Any],
    target: Any,
    next_ones: list[Any],
) -> None:
    """Emit what adds `factor · 2^(scale · (reader + memory))` of some pairs to a target.

    Args:
        context, builder: of the function that is being compiled.
        reader, memories, target: pointers to their first channels; no reader, None, says zeros.
        length: channels.
        pairs: pointer to where scales and factors lie, those of all memories side by side.
        places: of the first scale and the first factor.
        next_ones: pointers to rows that are to come into the second level of caches.
    """
    n_pairs = len(memories)
    scales, factors = (
        [builder.load(builder.gep(pairs, [builder.add(at, _I64(j))])) for j in range(n_pairs)]
        for at in places
    )
    scales = [splat(builder, scale) for scale in scales]
    tables = [table(builder, factor) for factor in factors]
    fetch = declare(builder, "llvm.prefetch.p0", ir.VoidType(), [_BYTES, _I32, _I32, _I32])

    def body(at: Any, used: Any) -> None:
        for row in next_ones:
            line = builder.bitcast(builder.gep(row, [at]), _BYTES)
            builder.call(fetch, [line, _I32(0), _I32(TO_SECOND_LEVEL), _I32(1)])
        us = [load_lanes(builder, row, at, used) for row in memories]
        if reader is not None:
            own = load_lanes(builder, reader, at, used)
            us = [builder.fadd(own, u) for u in us]
        added = load_lanes(builder, target, at, used)
        for square, power in exponentials(context, builder, us, scales, tables):
            added = call_llvm(builder, "fma", square, power, added)
        store_lanes(builder, added, target, at, used)

    for_channels(builder, length, body)


add_one_exponential = _add_exponentials(1)
add_two_exponentials = _add_exponentials(2)
add_three_exponentials = _add_exponentials(3)
add_four_exponentials = _add_exponentials(4)
add_four_exponentials_ahead = _add_exponentials_ahead(4)
