"""Arithmetic of the gradients of the normalized relation, sixteen channels at a time.

Rows of arrays are float32 and counted over all axes but the last, which has the K channels; other
elements are counted over all axes. Gradients of pairs, `y`, lie in chunks of `LANES` channels,
`[n_chunks, 16, LANES]`, with sixteen pairs in each: four readers times four memories.
"""

from typing import Any

from llvmlite import ir

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.exponentials import exponentials, table
from causalrn.model.ops.cpu.lanes import (
    LANES,
    add_lanes,
    call_llvm,
    check_contiguous,
    for_channels,
    load_lanes,
    splat,
    store_lanes,
)
from causalrn.model.ops.relation.cpu_lanes import pointer, rows

GRADIENT_TILE = 4  # readers, and memories, whose pairs are done at a time
_PAIRS = GRADIENT_TILE**2
_F32, _I64 = ir.FloatType(), ir.IntType(64)
_ZERO = ir.Constant(ir.VectorType(_F32, LANES), [0.0] * LANES)


def _of_pairs(builder: Any, first: Any, at: Any) -> list[Any]:
    """Four numbers in a row, each in all lanes of a vector."""
    places = [builder.add(at, _I64(j)) for j in range(GRADIENT_TILE)]
    return [splat(builder, builder.load(builder.gep(first, [place]))) for place in places]


def _chunk(builder: Any, at: Any, pair: Any) -> Any:
    """Where in y the channels from `at` on of a pair lie."""
    return builder.add(builder.mul(at, _I64(_PAIRS)), builder.mul(pair, _I64(LANES)))


@jit.intrinsic
def weigh_four(
    typingctx: Any,  # noqa: ARG001
    a: Any,
    row: Any,  # noqa: ARG001
    b: Any,
    first: Any,  # noqa: ARG001
    g: Any,
    g_row: Any,  # noqa: ARG001
    scales: Any,
    inverses: Any,
    means: Any,
    at: Any,  # noqa: ARG001
    y: Any,
    pair: Any,  # noqa: ARG001
    dots: Any,
) -> Any:
    """Weigh a gradient by the exponentials of one reader and four memories.

    Args:
        a, row: the reader.
        b, first: the first of the memories.
        g, g_row: gradient of the reader's output.
        scales, inverses, means: of the pairs, from `at` on.
        y: written from pair `pair` on: `g · inverse · 2^(scale·(u - mean))`, with u = a + b.
        dots: written from `at` on: sums over channels of `y·(u - mean)`.
    """
    check_contiguous(a, b, g, scales, inverses, means, y, dots)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (reader,), length = rows(context, builder, signature, args, 0, 1)
        memories, _ = rows(context, builder, signature, args, 2, GRADIENT_TILE)
        (gradient,), _ = rows(context, builder, signature, args, 4, 1)
        of_scales, of_inverses, of_means, into, of_dots = (
            pointer(context, builder, signature, args, number) for number in (6, 7, 8, 10, 12)
        )
        at = args[9]
        scales, means = (_of_pairs(builder, x, at) for x in (of_scales, of_means))
        places = [builder.add(at, _I64(j)) for j in range(GRADIENT_TILE)]
        tables = [table(builder, builder.load(builder.gep(of_inverses, [p]))) for p in places]
        sums = [jit.cgutils.alloca_once_value(builder, _ZERO) for _ in range(GRADIENT_TILE)]
        for place in sums:
            builder.store(_ZERO, place)

        def body(first: Any, used: Any) -> None:
            own, given = (load_lanes(builder, x, first, used) for x in (reader, gradient))
            us = [
                builder.fsub(builder.fadd(own, load_lanes(builder, row, first, used)), mean)
                for row, mean in zip(memories, means, strict=True)
            ]
            found = exponentials(context, builder, us, scales, tables)
            for j, (square, power) in enumerate(found):
                weighed = builder.fmul(builder.fmul(square, power), given)
                pair = builder.add(args[11], _I64(j))
                store_lanes(builder, weighed, into, _chunk(builder, first, pair))
                # Where there are no channels, the gradient is 0.
                total = call_llvm(builder, "fma", weighed, us[j], builder.load(sums[j]))
                builder.store(total, sums[j])

        for_channels(builder, length, body)
        four = add_lanes(builder, [builder.load(place) for place in sums])
        target = builder.bitcast(builder.gep(of_dots, [at]), four.type.as_pointer())
        builder.store(four, target, align=4)
        return context.get_dummy_value()

    place = jit.types.int64
    kinds = a, place, b, place, g, place, scales, inverses, means, place, y, place, dots
    return jit.types.none(*kinds), codegen


@jit.intrinsic
def add_gradients(
    typingctx: Any,  # noqa: ARG001
    a: Any,
    row: Any,  # noqa: ARG001
    b: Any,
    first: Any,  # noqa: ARG001
    y: Any,
    curves: Any,
    at: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    da: Any,
    db: Any,
) -> Any:
    """Add `y + curve·(a + b)` of four readers and four memories to both their gradients.

    Args:
        a, row: the first reader; `da` has the same shape as `a`.
        b, first: the first memory; `db` has the same shape as `b`.
        y: of the sixteen pairs, the first reader's first.
        curves: of the first reader's pairs from `at` on, of the next one's `stride` further on.
        da, db: added to.
    """
    check_contiguous(a, b, y, curves, da, db)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        readers, length = rows(context, builder, signature, args, 0, GRADIENT_TILE)
        memories, _ = rows(context, builder, signature, args, 2, GRADIENT_TILE)
        of_y, of_curves, of_a, of_b = (
            pointer(context, builder, signature, args, number) for number in (4, 5, 8, 9)
        )
        to_a, to_b = (
            [
                builder.gep(x, [builder.mul(length, builder.add(args[number], _I64(i)))])
                for i in range(GRADIENT_TILE)
            ]
            for x, number in ((of_a, 1), (of_b, 3))
        )
        begins = [builder.add(args[6], builder.mul(args[7], _I64(i))) for i in range(GRADIENT_TILE)]
        curves = [_of_pairs(builder, of_curves, begin) for begin in begins]

        def body(channel: Any, used: Any) -> None:
            others = [load_lanes(builder, row, channel, used) for row in memories]
            totals = [load_lanes(builder, row, channel, used) for row in to_b]
            for i in range(GRADIENT_TILE):
                own = load_lanes(builder, readers[i], channel, used)
                total = load_lanes(builder, to_a[i], channel, used)
                for j in range(GRADIENT_TILE):
                    pair = _I64(GRADIENT_TILE * i + j)
                    weighed = load_lanes(builder, of_y, _chunk(builder, channel, pair))
                    u = builder.fadd(own, others[j])
                    change = call_llvm(builder, "fma", curves[i][j], u, weighed)
                    total = builder.fadd(total, change)
                    totals[j] = builder.fadd(totals[j], change)
                store_lanes(builder, total, to_a[i], channel, used)
            for row, total in zip(to_b, totals, strict=True):
                store_lanes(builder, total, row, channel, used)

        for_channels(builder, length, body)
        return context.get_dummy_value()

    place = jit.types.int64
    kinds = a, place, b, place, y, curves, place, place, da, db
    return jit.types.none(*kinds), codegen
