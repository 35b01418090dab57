"""How threads share work: each takes the next piece when it is done with one.

    taken = np.zeros(1, np.int64)
    for _ in jit.prange(n_threads):
        piece = take(taken, 0)
        while piece < n_pieces:
            ...
            piece = take(taken, 0)

Nobody waits for a thread whose core is also needed elsewhere, and what a thread needs for all of
its pieces, it makes once. Numba's own way to deal the iterations of a `prange` costs microseconds
for each of them.
"""

from typing import Any

from model.ops.cpu import jit


@jit.intrinsic
def take(typingctx: Any, taken: Any, i: Any) -> Any:  # noqa: ARG001
    """Add 1 to element i of an int64 array, and return what it was; no other thread gets the same.

    The array must be C-contiguous, and i an index within it.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        return builder.atomic_rmw("add", place, context.get_constant(jit.types.int64, 1), "acq_rel")

    return jit.types.int64(taken, jit.types.int64), codegen
