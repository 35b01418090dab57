"""Arithmetic of the token shift, for many channels at a time."""

from typing import Any

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import (
    LANES,
    call_llvm,
    check_contiguous,
    for_channels,
    load_lanes,
    row_pointer,
    store_lanes,
)

_GROUP = 4  # vectors whose sums are added up side by side


@jit.intrinsic
def add_taps(
    typingctx: Any,  # noqa: ARG001
    x: Any,
    row: Any,  # noqa: ARG001
    channel: Any,  # noqa: ARG001
    taps: Any,
    tap: Any,  # noqa: ARG001
    n: Any,  # noqa: ARG001
    out: Any,
    to: Any,  # noqa: ARG001
    first: Any,  # noqa: ARG001
) -> Any:
    """`out[to, first + i] += x[row - k, channel + i] · taps[tap + k, i]` for n rows, k ascending.

    All are float32, and `taps` has as many channels as are convolved. Each product is rounded once,
    with its sum.
    """
    check_contiguous(x, taps, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def rows(array: int, row: Any) -> tuple[Any, Any]:
            return row_pointer(context, builder, signature.args[array], args[array], row)

        newest, width = rows(0, args[1])
        weights, length = rows(3, args[4])
        target, _ = rows(6, args[7])
        newest = builder.gep(newest, [args[2]])
        target = builder.gep(target, [args[8]])

        def add(at: Any, useds: list[Any]) -> None:
            places = [builder.add(at, at.type(LANES * j)) for j in range(len(useds))]
            sums = [
                jit.cgutils.alloca_once_value(builder, load_lanes(builder, target, place, used))
                for place, used in zip(places, useds, strict=True)
            ]
            with jit.cgutils.for_range(builder, args[5]) as loop:
                row = builder.gep(newest, [builder.neg(builder.mul(loop.index, width))])
                weight = builder.gep(weights, [builder.mul(loop.index, length)])
                for place, used, total in zip(places, useds, sums, strict=True):
                    new = call_llvm(
                        builder, "fma", load_lanes(builder, row, place, used),
                        load_lanes(builder, weight, place, used), builder.load(total),
                    )  # fmt: skip
                    builder.store(new, total)
            for place, used, total in zip(places, useds, sums, strict=True):
                store_lanes(builder, builder.load(total), target, place, used)

        size = length.type(LANES * _GROUP)
        whole = builder.sdiv(length, size)
        with jit.cgutils.for_range(builder, whole) as group:
            add(builder.mul(group.index, size), [None] * _GROUP)
        begin = builder.mul(whole, size)
        for_channels(
            builder,
            builder.sub(length, begin),
            lambda at, used: add(builder.add(begin, at), [used]),
        )
        return context.get_dummy_value()

    place = jit.types.int64
    return jit.types.none(x, place, place, taps, place, place, out, place, place), codegen
