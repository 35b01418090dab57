"""Exponentials of sixteen numbers at once, by a table in a register and a short polynomial.

`2^y = 2^(n/16) · 2^f`, where n/16 is the multiple of 1/16 next to y. The first factor comes from a
table of 16 entries, which one instruction permutes, and an addition to its exponent. The second,
`|f| <= 1/32`, is `C·((f + SHIFT)² + REST)`: a completed square, whose shift comes for free with f,
and whose C is in the table. The relative error is below 1e-6 (2^0 is off by 3e-7).

A table also carries a factor, so that `factor · 2^(u·scale)` costs, for each vector, an addition,
three fused multiply-adds and three operations on integers. All ways to permute a table are exact,
so the bits are the same on every processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from causalrn.model.ops.cpu.lanes import EXP2, LANES, call_llvm, declare, shuffle, splat

_F32, _I32 = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_STEPS = 4  # bits of a table's index
_MAGIC = 1.5 * 2.0 ** (23 - _STEPS)  # adding this rounds to multiples of 1/16
_SHIFT = 23 / 16  # the multiple of 1/16 next to 1/ln 2, where 2^f and the square bend alike
# Minimax of the relative error on [-1/32, 1/32].
_C = 0.24111252508
_REST = 2.0810337
_TABLE = [float(np.float32(_C * 2.0 ** (i / 16))) for i in range(LANES)]


def table(builder: Any, factor: Any) -> Any:
    """The table for sixteen times the same factor, a float32.

    Each entry's index is taken from its bits beforehand: adding the exponent adds it again.
    """
    entries = builder.fmul(ir.Constant(_FLOATS, _TABLE), splat(builder, factor))
    indices = ir.Constant(_INTS, [i << (23 - _STEPS) for i in range(LANES)])
    return builder.bitcast(builder.sub(builder.bitcast(entries, _INTS), indices), _FLOATS)


def exponentials(
    context: Any, builder: Any, us: Sequence[Any], scales: Sequence[Any], tables: Sequence[Any]
) -> list[tuple[Any, Any]]:
    """Emit `factor · 2^(u·scale)` for vectors u, as two numbers to be multiplied.

    Args:
        context, builder: of the function that is being compiled.
        us, scales: vectors of `LANES` float32; `|u·scale| <= 126`.
        tables: for each of them, as `table` makes it.
    """
    magic, back = _floats(_MAGIC), _floats(_MAGIC + _SHIFT)
    rounded = [call_llvm(builder, "fma", u, s, magic) for u, s in zip(us, scales, strict=True)]
    backs = [builder.fsub(back, t) for t in rounded]
    rests = [call_llvm(builder, "fma", u, s, b) for u, s, b in zip(us, scales, backs, strict=True)]
    squares = [call_llvm(builder, "fma", f, f, _floats(_REST)) for f in rests]
    powers = []
    for entries, t in zip(tables, rounded, strict=True):
        bits = builder.bitcast(t, _INTS)
        power = builder.bitcast(_permuted(context, builder, entries, bits), _INTS)
        shift = ir.Constant(_INTS, [23 - _STEPS] * LANES)
        power = builder.add(power, builder.shl(bits, shift))
        powers.append(builder.bitcast(power, _FLOATS))
    return list(zip(squares, powers, strict=True))


def _floats(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * LANES)


def _permuted(context: Any, builder: Any, entries: Any, indices: Any) -> Any:
    """Lane i: entry `indices[i] % 16`."""
    _, _, features = context.codegen().magic_tuple()
    features = features.split(",")
    if "+avx512f" in features:
        kinds = [_FLOATS, _INTS]
        function = declare(builder, "llvm.x86.avx512.permvar.sf.512", _FLOATS, kinds)
        return builder.call(function, [entries, indices])
    if "+avx2" in features:
        return _permuted_by_halves(builder, entries, indices)
    return _permuted_one_by_one(builder, entries, indices)


def _permuted_by_halves(builder: Any, entries: Any, indices: Any) -> Any:
    half = LANES // 2
    floats, ints = ir.VectorType(_F32, half), ir.VectorType(_I32, half)
    function = declare(builder, "llvm.x86.avx2.permps", floats, [floats, ints])
    low, high = list(range(half)), list(range(half, LANES))
    tables = [shuffle(builder, entries, entries, lanes) for lanes in (low, high)]
    found = []
    for lanes in (low, high):
        own = shuffle(builder, indices, indices, lanes)
        first, second = (builder.call(function, [entry, own]) for entry in tables)
        # Bit 3 of an index, moved to where a comparison with 0 sees it.
        sign = builder.shl(own, ir.Constant(ints, [31 - (_STEPS - 1)] * half))
        is_high = builder.icmp_signed("<", sign, ir.Constant(ints, [0] * half))
        found.append(builder.select(is_high, second, first))
    return shuffle(builder, found[0], found[1], list(range(LANES)))


def _permuted_one_by_one(builder: Any, entries: Any, indices: Any) -> Any:
    indices = builder.and_(indices, ir.Constant(_INTS, [LANES - 1] * LANES))
    found = ir.Constant(_FLOATS, ir.Undefined)
    for lane in range(LANES):
        own = builder.extract_element(indices, _I32(lane))
        entry = builder.extract_element(entries, own)
        found = builder.insert_element(found, entry, _I32(lane))
    return found


def exp2_lanes(builder: Any, y: Any) -> Any:
    """2^y of a vector, with the operations of `lanes.exp2`."""
    n = call_llvm(builder, "rint", y)
    f = builder.fsub(y, n)
    power = _floats(EXP2[-1])
    for coefficient in reversed(EXP2[:-1]):
        power = call_llvm(builder, "fma", power, f, _floats(coefficient))
    shift = builder.shl(builder.fptosi(n, _INTS), ir.Constant(_INTS, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(power, _INTS), shift), _FLOATS)
