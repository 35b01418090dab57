"""Numbers of 16 bits in compiled code: the upper half of a float32, rounded to the nearest.

Numba and NumPy have no such type, so arrays of them are uint16. What reads an array by vectors
widens them as it loads (`lanes.load_lanes`); what reads single numbers says `widened`. Both take
float32 as it is, so the same source does for both kinds of arrays.
"""

from typing import Any

from llvmlite import ir

from causalrn.model.ops.cpu import jit

KIND = jit.types.uint16
"""The type of Numba that arrays of them have."""

_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
_BITS = 16  # that are cut off
_QUIET = 0x40  # the bit of a NaN's upper half that keeps it from becoming infinite


def widen(builder: Any, value: Any) -> Any:
    """Emit what makes float32 of a number, or a vector of them; other types stay as they are."""
    kind = value.type
    lanes = kind.count if isinstance(kind, ir.VectorType) else None
    if (kind.element if lanes else kind) != _I16:
        return value
    wide, real = (ir.VectorType(one, lanes) if lanes else one for one in (_I32, _F32))
    places = ir.Constant(wide, [_BITS] * lanes if lanes else _BITS)
    return builder.bitcast(builder.shl(builder.zext(value, wide), places), real)


@jit.intrinsic
def widened(typingctx: Any, x: Any) -> Any:  # noqa: ARG001
    """A number of either kind as float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return widen(builder, args[0])

    return jit.types.float32(x), codegen


@jit.intrinsic
def rounded(typingctx: Any, x: Any, array: Any) -> Any:  # noqa: ARG001
    """A float32 as an array of either kind holds it; to even where two are as near."""
    kind = array.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        if kind != KIND:
            return args[0]
        bits = builder.bitcast(args[0], _I32)
        upper = builder.lshr(bits, _I32(_BITS))
        last = builder.and_(upper, _I32(1))
        up = builder.add(bits, builder.add(last, _I32((1 << (_BITS - 1)) - 1)))
        near = builder.lshr(up, _I32(_BITS))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        found = builder.select(is_nan, builder.or_(upper, _I32(_QUIET)), near)
        return builder.trunc(found, _I16)

    return kind(jit.types.float32, array), codegen
