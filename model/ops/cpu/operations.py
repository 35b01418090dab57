"""Operations on the new tokens of a step, compiled; `program.py` runs them.

An operation is a kernel whose parameters are named: those in `STEP` are what all operations of a
step share, the others are its own.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from causalrn.model.ops.cpu import bfloat16, jit
from causalrn.model.ops.cpu.records import BOOL, F32, I32, I64, Record, call_native, n_words, reader

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
    "likeliest": I64[::1],
    "n_threads": I64,
}
"""What all operations of a step share, in the order of its record: `causalrn.model.step.Step`, and

- `token_ids`, `starts`, `context_lens`, `slots`, `block_tables`, `state_tables` of its batch;
- `rows` `[M]`, the new tokens after which logits are wanted, and `logits` `[M, V]` and `likeliest`
  `[M]`, see `causalrn.model.predictions.Predictions`;
- `n_threads`, that the work is dealt to.
"""

STEP_WORDS = sum(map(n_words, STEP.values()))


class Operation:
    """An operation.

    Args:
        function: the kernel.
        kinds: of its own parameters, by name; see `records.py`.
        roundings: which of these, all arrays of float32, may be bfloat16 together.
        name: of this operation; the function's if left out.

    Attributes:
        rounding: has the operations that take bfloat16 so, each under the names with "_" between.
        serial, parallel: its kernel, on the caller's thread alone and on all threads.
        entry: calls the kernel at the first of three addresses with what two records hold, that of
            the step and its own, which are at the others.

    Raises:
        TypeError: `kinds` has not exactly the parameters that are not in `STEP`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        kinds: Mapping[str, Any],
        roundings: Sequence[Sequence[str]] = (),
        name: str = "",
    ) -> None:
        name = name or function.__qualname__
        names = list(inspect.signature(function).parameters)
        if set(kinds) != set(names) - set(STEP):
            raise TypeError(f"{function.__qualname__}: need kinds of its own parameters")
        self._kinds = kinds
        self.rounding = SimpleNamespace()
        for rounded in roundings:
            others = {field: kinds[field].copy(dtype=bfloat16.KIND) for field in rounded}
            own = "_".join(rounded)
            operation = Operation(function, {**kinds, **others}, name=f"{name}.rounding.{own}")
            setattr(self.rounding, own, operation)
        places = {}
        for record, fields in enumerate((STEP, kinds)):
            at = 0
            for field, kind in fields.items():
                places[field] = record, at, kind
                at += n_words(kind)
        read = [places[name] for name in names]
        types = [kind for _, _, kind in read]
        home = f"{function.__module__}:{name}"
        self.serial, self.parallel = (
            jit.Form(
                f"{home}.{form}", jit.inside(function, name, parallel=form == "parallel"), types
            )
            for form in ("serial", "parallel")
        )
        digest = hashlib.sha256(repr(read).encode()).hexdigest()[:16]
        entry = jit.entry(_enter, f"{name}_{digest}", read=reader(read))
        self.entry = jit.Form(f"{home}.entry", entry, [I64, I64, I64])

    def fitting(self, values: Mapping[str, Any]) -> "Operation":
        """This operation, or the one that takes those of the values in bfloat16 that are so."""
        rounded = (
            field
            for field in self._kinds
            if isinstance(values[field], np.ndarray) and values[field].dtype == np.uint16
        )
        own = "_".join(rounded)
        found: Operation = getattr(self.rounding, own) if own else self
        return found

    def record(self, values: Mapping[str, Any]) -> Record:
        """A record of values for its own parameters."""
        return Record(self._kinds, values)


def _enter(kernel: Any, first: Any, second: Any) -> int:
    call_native(kernel, read(first, second))  # type: ignore[name-defined]  # noqa: F821
    return 0


def operation(*roundings: Sequence[str], **kinds: Any) -> Callable[[Callable[..., Any]], Operation]:
    """Compile an operation whose own parameters are of these kinds; see `Operation`."""
    return lambda function: Operation(function, kinds, roundings)


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
