"""Operations on the new tokens of a step, compiled; `program.py` runs them.

An operation is a kernel whose parameters are named: those in `STEP` are what all operations of a
step share, the others are its own.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model.ops.cpu import jit
from model.ops.cpu.records import BOOL, F32, I32, I64, Record, n_words, reader

STEP = {
    "token_ids": I64[::1],
    "starts": I64[::1],
    "context_lens": I64[::1],
    "slots": I64[::1],
    "block_tables": I32[:, ::1],
    "state_tables": I32[:, ::1],
    "rows": I64[::1],
    "x": F32[:, ::1],
    "phases": I64[::1],
    "reaches": I64[::1],
    "active": BOOL[::1],
    "logits": F32[:, ::1],
    "n_threads": I64,
}
"""What all operations of a step share, in the order of its record: `model.step.Step`, and

- `token_ids`, `starts`, `context_lens`, `slots`, `block_tables`, `state_tables` of its batch;
- `rows` `[M]`, the new tokens after which logits are wanted, and `logits` `[M, V]`;
- `n_threads`, that the work is dealt to.
"""

STEP_WORDS = sum(map(n_words, STEP.values()))


class Operation:
    """An operation.

    Args:
        function: the kernel.
        kinds: of its own parameters, by name; see `records.py`.

    Raises:
        TypeError: `kinds` has not exactly the parameters that are not in `STEP`.
    """

    def __init__(self, function: Callable[..., Any], kinds: Mapping[str, Any]) -> None:
        names = list(inspect.signature(function).parameters)
        if set(kinds) != set(names) - set(STEP):
            raise TypeError(f"{function.__qualname__}: need kinds of its own parameters")
        self._kinds = kinds
        places = {}
        for record, fields in enumerate((STEP, kinds)):
            at = 0
            for name, kind in fields.items():
                places[name] = record, at, kind
                at += n_words(kind)
        self._entry = jit.Entry(jit.kernel(function), reader([places[name] for name in names]))

    def record(self, values: Mapping[str, Any]) -> Record:
        """A record of values for its own parameters."""
        return Record(self._kinds, values)

    def address(self, *, parallel: bool) -> int:
        """Of its kernel, on all threads or on the caller's alone; compiles it if need be."""
        return self._entry.address(parallel=parallel)


def operation(**kinds: Any) -> Callable[[Callable[..., Any]], Operation]:
    """Compile an operation whose own parameters are of these kinds."""
    return lambda function: Operation(function, kinds)


@dataclass(frozen=True)
class Work:
    """What an operation is to do, and about what it costs.

    Attributes:
        values: of its own parameters, by name.
        per_row, per_pair: how many channels it touches, or exponentials it computes, for each new
            token and for each pair of an active one and a token that it sees.
    """

    values: Mapping[str, Any]
    per_row: int
    per_pair: int = 0
