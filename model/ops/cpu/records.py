"""Arguments of compiled operations as records: what an operation works on, behind one address.

A record is a run of int64: for an array its address and its shape, for a number its bits. Python
looks at an operation's dozens of arrays once, and not in every step of the decoder; and a step
takes a single call.

A kind of argument is a type of Numba's: `F32[:, ::1]`, `I64`, `BOOL` and so on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit

BOOL, F32, F64 = jit.types.boolean, jit.types.float32, jit.types.float64
I32, I64 = jit.types.int32, jit.types.int64

_WORD = ir.IntType(64)


def n_words(kind: Any) -> int:
    """How many int64 an argument of that kind takes in a record."""
    return 1 + kind.ndim if isinstance(kind, jit.types.Array) else 1


def words(kind: Any, value: Any) -> list[int]:
    """What stands in a record for a value.

    Raises:
        TypeError: an array is not of that kind.
    """
    if not isinstance(kind, jit.types.Array):
        return [int(np.array(value, "f8" if kind == F64 else "i8").view("i8"))]
    if jit.typeof(value) != kind:
        raise TypeError(f"need {kind}, got {jit.typeof(value)}")
    return [value.__array_interface__["data"][0], *value.shape]


class Record:
    """Values in memory as an operation reads them; the arrays live as long as the record.

    Args:
        kinds: by name, in order.
        values: by the same names.

    Attributes:
        address: of the record.

    Raises:
        TypeError: an array is not of its kind.
    """

    def __init__(self, kinds: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._kept = dict(values)
        found = [word for name, kind in kinds.items() for word in words(kind, values[name])]
        self._words: NDArray[np.int64] = np.array(found, np.int64)
        self.address: int = self._words.__array_interface__["data"][0]


def reader(places: Sequence[tuple[int, int, Any]]) -> Any:
    """An inlined function that reads arguments from two records, given their addresses.

    Args:
        places: of each argument: which of the two records it is in, after how many words, and its
            kind.
    """
    result = jit.types.Tuple([kind for _, _, kind in places])

    @jit.intrinsic
    def read(typingctx: Any, first: Any, second: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bases = [builder.inttoptr(address, _WORD.as_pointer()) for address in args]
            values = [
                _read(context, builder, bases[record], at, kind) for record, at, kind in places
            ]
            return context.make_tuple(builder, signature.return_type, values)

        return result(I64, I64), codegen

    return read


def _read(context: Any, builder: Any, base: Any, at: int, kind: Any) -> Any:
    def word(number: int) -> Any:
        return builder.load(builder.gep(base, [_WORD(number)]))

    if kind == BOOL:
        return builder.icmp_signed("!=", word(at), _WORD(0))
    if kind == F64:
        return builder.bitcast(word(at), ir.DoubleType())
    if kind == I64:
        return word(at)
    item = context.get_data_type(kind.dtype)
    array = context.make_array(kind)(context, builder)
    n_bytes = context.get_abi_sizeof(item)
    shape = [word(at + 1 + axis) for axis in range(kind.ndim)]
    strides = [_WORD(n_bytes)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    jit.populate_array(
        array,
        data=builder.inttoptr(word(at), item.as_pointer()),
        shape=shape,
        strides=strides,
        itemsize=_WORD(n_bytes),
        meminfo=None,
    )
    return array._getvalue()


def writer(kinds: Sequence[Any]) -> Any:
    """An inlined function that writes a tuple of arguments to a record, of exactly these kinds.

    Args:
        kinds: of the arguments.
    """
    expected = jit.types.Tuple(list(kinds))

    @jit.intrinsic
    def write(typingctx: Any, record: Any, values: Any) -> Any:  # noqa: ARG001
        if values != expected:
            raise TypeError(f"need {expected}, got {values}")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = context.make_array(signature.args[0])(context, builder, args[0]).data
            at = 0
            for kind, value in zip(kinds, jit.cgutils.unpack_tuple(builder, args[1]), strict=True):
                found = [value]
                if isinstance(kind, jit.types.Array):
                    array = context.make_array(kind)(context, builder, value)
                    shape = jit.cgutils.unpack_tuple(builder, array.shape)
                    found = [builder.ptrtoint(array.data, _WORD), *shape]
                for word in found:
                    builder.store(word, builder.gep(base, [_WORD(at)]))
                    at += 1
            return context.get_dummy_value()

        return jit.types.none(record, values), codegen

    return write


@jit.intrinsic
def call(typingctx: Any, function: Any, kernel: Any, first: Any, second: Any) -> Any:  # noqa: ARG001
    """Call the function at an address with three addresses; it returns a number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        kind = ir.FunctionType(_WORD, [_WORD] * 3)
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return I64(I64, I64, I64, I64), codegen


@jit.intrinsic
def call_native(typingctx: Any, function: Any, values: Any) -> Any:  # noqa: ARG001
    """Call the compiled function at an address with a tuple of arguments; it returns None."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        convention, nothing = context.call_conv, signature.return_type
        kinds = list(signature.args[1])
        kind = convention.get_function_type(nothing, kinds).as_pointer()
        given = jit.cgutils.unpack_tuple(builder, args[1])
        function = builder.inttoptr(args[0], kind)
        status, _ = convention.call_function(builder, function, nothing, kinds, given)
        with jit.cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return jit.types.none(function, values), codegen
