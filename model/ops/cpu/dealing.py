"""How threads share work: each takes the next piece when it is done with one.

    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        piece = take(taken, 0)
        while piece < n_pieces:
            ...
            piece = take(taken, 0)

Nobody waits for a thread whose core is also needed elsewhere, and what a thread needs for all of
its pieces, it makes once. Numba's own way to deal the iterations of a `prange` costs microseconds
for each of them, and to start threads costs some 10 more. So work that needs the results of all
pieces follows in the same loop:

            ...
            add(done, 0, 1)
            piece = take(taken, 0)
        wait_for(done, 0, n_pieces)

Whoever waits, waits for pieces that a thread has taken and is at work on. A thread that never came
has taken none, and holds up nobody.

What threads tell each other lies in C-contiguous int64 arrays; an index into one must be within it.
"""

import platform
import time
from typing import Any

from llvmlite import ir

from causalrn.model.ops.cpu import jit

_IS_X86 = platform.machine().lower() in {"x86_64", "amd64"}
_N_PAUSES = 16  # about half a microsecond
_BYTES = 8


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@jit.intrinsic
def add(typingctx: Any, array: Any, i: Any, n: Any) -> Any:  # noqa: ARG001
    """Add n to element i, and return what it was; no other thread gets the same number.

    What a thread wrote before it added is seen by those that add or look after it.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        return builder.atomic_rmw("add", place, args[2], "acq_rel")

    return jit.types.int64(array, jit.types.int64, jit.types.int64), codegen


@jit.inline
def take(taken, i):
    """Add 1 to element i, and return what it was; no other thread gets the same number."""
    return add(taken, i, 1)


@jit.intrinsic
def look(typingctx: Any, array: Any, i: Any) -> Any:  # noqa: ARG001
    """Element i as other threads have left it, with all that they had written before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        return builder.load_atomic(place, "acquire", _BYTES)

    return jit.types.int64(array, jit.types.int64), codegen


@jit.inline
def take_near(taken, part, n_parts, n_pieces):
    """Take the next piece of a part of them, or else of another one.

    A thread that takes those of the same part whenever there are pieces of the same rows finds in
    its own cache what it left there, and seldom writes where another one writes.

    Args:
        taken: `[n_parts]`, how many of each part have been asked for.
        part: one of `n_parts` about equal stretches of the pieces.
        n_pieces: how many there are.

    Returns:
        The piece, or `n_pieces` once all are taken.
    """
    for i in range(n_parts):
        other = (part + i) % n_parts
        first, last = other * n_pieces // n_parts, (other + 1) * n_pieces // n_parts
        if look(taken, other) < last - first:
            piece = first + take(taken, other)
            if piece < last:
                return piece
    return n_pieces


@jit.intrinsic
def publish(typingctx: Any, array: Any, i: Any, value: Any) -> Any:  # noqa: ARG001
    """Set element i, for others to look at once all that was written before is there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature, args)
        builder.store_atomic(args[2], place, "release", _BYTES)
        return context.get_dummy_value()

    return jit.types.none(array, jit.types.int64, jit.types.int64), codegen


@jit.intrinsic
def pause(typingctx: Any) -> Any:  # noqa: ARG001
    """Wait for half a microsecond or one, and let other threads have the core if they want it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        if _IS_X86:
            rest = _function(builder, "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), []))
            for _ in range(_N_PAUSES):
                builder.call(rest, [])
        builder.call(_function(builder, "sched_yield", ir.FunctionType(ir.IntType(32), [])), [])
        return context.get_dummy_value()

    return jit.types.none(), codegen


@jit.intrinsic
def now(typingctx: Any) -> Any:  # noqa: ARG001
    """Nanoseconds of a clock that never goes back: the one of `time.monotonic_ns` on Linux."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        word, pair = ir.IntType(64), ir.ArrayType(ir.IntType(64), 2)  # seconds, nanoseconds
        found = jit.cgutils.alloca_once(builder, pair)
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), pair.as_pointer()])
        function = _function(builder, "clock_gettime", kind)
        builder.call(function, [ir.IntType(32)(time.CLOCK_MONOTONIC), found])
        seconds, rest = (builder.extract_value(builder.load(found), i) for i in range(2))
        return builder.add(builder.mul(seconds, word(10**9)), rest)

    return jit.types.int64(), codegen


@jit.inline
def wait_for(done, i, n):
    """Wait until element i is n or more, with all that was written before others added to it."""
    while look(done, i) < n:
        pause()


def _function(builder: Any, name: str, kind: Any) -> Any:
    """A function from elsewhere."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, kind, name)
