"""Arithmetic of the keyed relation for sixteen memories at a time, one in each lane.

Rounded as the same lines would be for one memory after the other; compilers do not always see that
they may do sixteen at once.
"""

from typing import Any

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import (
    best_lane,
    call_llvm,
    load_lanes,
    row_pointer,
    splat,
    store_lanes,
)


def _pointer(context: Any, builder: Any, signature: Any, args: Any, number: int) -> Any:
    return row_pointer(context, builder, signature.args[number], args[number])[0]


def _first_of_sixteen(order: str) -> Any:
    @jit.intrinsic
    def first(typingctx: Any, x: Any, at: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = load_lanes(builder, _pointer(context, builder, signature, args, 0), args[1])
            return best_lane(builder, lanes, order)

        return jit.types.float32(x, jit.types.int64), codegen

    return first


# The least and the largest of sixteen elements of a float32 array, counted over all its axes, from
# the second argument on.
least = _first_of_sixteen("<")
largest = _first_of_sixteen(">")


@jit.intrinsic
def best_share(typingctx: Any, full: Any, squares: Any, at: Any, zero: Any) -> Any:  # noqa: ARG001
    """The largest share that `full[j]` is of `squares[at + j]`, 1 at most; 0 where it is 0.

    Args:
        full, squares: float32.
        zero: float32.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = load_lanes(builder, _pointer(context, builder, signature, args, 0), args[2].type(0))
        left = load_lanes(builder, _pointer(context, builder, signature, args, 1), args[2])
        nothing = splat(builder, args[3])
        left = builder.select(builder.fcmp_ordered(">", left, whole), left, whole)
        share = builder.fdiv(whole, left)
        share = builder.select(builder.fcmp_ordered(">", whole, nothing), share, nothing)
        return best_lane(builder, share, ">")

    number = jit.types.float32
    return number(full, squares, jit.types.int64, number), codegen


@jit.intrinsic
def exponents(
    typingctx: Any,  # noqa: ARG001
    squares: Any,
    at: Any,  # noqa: ARG001
    full: Any,
    moments: Any,
    first: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    out: Any,
    numbers: Any,
) -> Any:
    """Write the exponents of the largest weights of sixteen pairs to `out` from `at` on.

    Readers are silent on values. An exponent is infinite where float32 cannot tell.

    Args:
        squares: what keys leave, from `at` on.
        full: `[16]`, what full matches would leave.
        moments: of the memories; element `first`, counted over all axes, is the first one's sum,
            `stride` further on is its square, and so on.
        out: as long as `squares`.
        numbers: float32: what readers add to sums; 1 / d; by what squares are rounded down; the
            tolerance; τ; eps; the largest square of a mean, in variances, that float32 can tell
            apart; infinity; 0.
    """
    kind = jit.types.UniTuple(jit.types.float32, 9)
    if numbers != kind:
        raise TypeError(f"need {kind}, got {numbers}")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        squares, full, moments, out = (
            _pointer(context, builder, signature, args, number) for number in (0, 2, 3, 6)
        )
        total, inv_d, down, tolerated, tau, eps, most, infinite, zero = (
            splat(builder, number) for number in jit.cgutils.unpack_tuple(builder, args[7])
        )
        at, first, stride = args[1], args[4], args[5]
        kept = builder.fsub(
            builder.fmul(load_lanes(builder, squares, at), down),
            builder.fmul(tolerated, load_lanes(builder, full, at.type(0))),
        )
        kept = builder.select(builder.fcmp_ordered(">", kept, zero), kept, zero)
        sums = load_lanes(builder, moments, first)
        of_values = load_lanes(builder, moments, builder.add(first, stride))
        top = load_lanes(builder, moments, builder.add(first, builder.mul(stride, stride.type(2))))
        mean = builder.fmul(builder.fadd(total, sums), inv_d)
        mean_squared = builder.fmul(mean, mean)
        variance = builder.fsub(builder.fmul(builder.fadd(kept, of_values), inv_d), mean_squared)
        deviation = builder.fadd(call_llvm(builder, "sqrt", variance), eps)
        exponent = builder.fdiv(builder.fmul(tau, builder.fsub(top, mean)), deviation)
        is_told = builder.fcmp_ordered("<=", mean_squared, builder.fmul(most, variance))
        store_lanes(builder, builder.select(is_told, exponent, infinite), out, at)
        return context.get_dummy_value()

    place = jit.types.int64
    signature = jit.types.none(squares, place, full, moments, place, place, out, numbers)
    return signature, codegen
