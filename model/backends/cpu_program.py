"""What one decoder's steps are on the CPU: its operations in order, run by one compiled call.

Where a part has no operation of its own, as a mixer that somebody wrote in NumPy, the call ends
before it, and another one goes on after it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from causalrn.model.backends.base import Parts
from causalrn.model.backends.cpu_scratch import Scratch
from causalrn.model.backends.cpu_team import team
from causalrn.model.mixers.base import Mixer
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.compiling import compile_all, is_awaited
from causalrn.model.ops.cpu.operations import STEP_WORDS, Operation, Work
from causalrn.model.ops.cpu.program import (
    ENTRY,
    N_COLUMNS,
    NOTHING,
    OWN,
    PARALLEL,
    PER_PAIR,
    PER_ROW,
    PHASES,
    RUN,
    SAME_ROWS,
    SERIAL,
    run,
)
from causalrn.model.ops.cpu.records import Record
from causalrn.model.ops.cpu.shares import BATCH_WORDS, FOLLOW, LEAD, MOST_SHARES, SHARE
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerState, RaggedBatch
from causalrn.model.step import Op, Step, find_op

SHARES_WORK = 100_000
"""Exponentials, as `Work` counts, from which on a step of several sequences is dealt to threads."""

_NO_ROWS = np.empty(0, np.int64)
_NO_LOGITS = np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class CpuOp:
    """An operation of the CPU. It may also be called by itself, from a mixer written in Python.

    Attributes:
        operation: compiled.
        work: what it is to do for a module, on the layer of a state.
    """

    operation: Operation
    work: Callable[[Any, Any, DecoderState], Work]

    def __call__(self, module: Any, step: Step, layer: LayerState | None) -> None:
        """Run the operation; see `causalrn.model.step.Op`."""
        table = _Table([_Stage(self, module, layer)], step.state)
        everything = step.x, step.phases, step.reaches, step.active
        table.run(0, 1, step.n_pairs, step.batch, _NO_ROWS, *everything, _NO_LOGITS, _NO_ROWS)


@dataclass(frozen=True)
class _Stage:
    """One part of a decoder.

    Attributes:
        op: that serves it; None for a mixer that has its own `extend`.
        module, layer: that it serves.
        phases: of the tokens that are active from here on, as a mask; see `run`.
    """

    op: CpuOp | None
    module: Any
    layer: LayerState | None
    phases: int = SAME_ROWS


class _Table:
    """Stages as `run` takes them.

    Args:
        stages: in order.
        state: that they work on.
    """

    def __init__(self, stages: Sequence[_Stage], state: DecoderState) -> None:
        self._operations: dict[int, Operation] = {}  # by the numbers of their stages
        self._records: list[Record] = []
        self._rows = np.zeros((len(stages), N_COLUMNS), np.int64)
        self._step = np.empty(STEP_WORDS, np.int64)
        for number, (row, stage) in enumerate(zip(self._rows, stages, strict=True)):
            row[PHASES] = stage.phases
            if stage.op is None:
                row[[SERIAL, PARALLEL]] = NOTHING
                continue
            work = stage.op.work(stage.module, stage.layer, state)
            operation = self._operations[number] = stage.op.operation.fitting(work.values)
            record = operation.record(work.values)
            self._records.append(record)
            row[[OWN, PER_ROW, PER_PAIR]] = record.address, work.per_row, work.per_pair

    @property
    def costs(self) -> tuple[float, float]:
        """What all stages cost for a row, and for a pair; see `Work`."""
        per_row, per_pair = self._rows[:, [PER_ROW, PER_PAIR]].sum(0).tolist()
        return float(per_row), float(per_pair)

    def of_share(self) -> dict[str, NDArray[np.int64]]:
        """What a share has of this table, all of whose stages must have operations."""
        for number in range(len(self._rows)):
            self._compile(number, SERIAL)
        return {"program": self._rows, "record": self._step}

    def run(
        self,
        first: int,
        last: int,
        n_pairs: int,
        batch: RaggedBatch,
        rows: NDArray[np.int64],
        x: Any,
        phases: Any,
        reaches: Any,
        active: Any,
        logits: NDArray[np.float32],
        likeliest: NDArray[np.int64],
    ) -> int:
        """Run stages `first` to `last - 1`; see `causalrn.model.ops.cpu.program.run`.

        Returns:
            Pairs of the tokens that are active after these stages.
        """
        n_threads = jit.num_threads()
        least_work = float(jit.PARALLEL_WORK) if n_threads > 1 else math.inf
        while True:
            with jit.launch:
                first, n_pairs, form = run(
                    self._rows, self._step, first, last, n_pairs, n_threads, least_work,
                    batch.token_ids, batch.starts, batch.context_lens, batch.slots,
                    batch.block_tables, batch.state_tables, rows, x, phases, reaches, active,
                    logits, likeliest,
                )  # fmt: skip
            if first == last:
                return int(n_pairs)
            if not self._compile(first, form):
                least_work = math.inf  # on one thread, until it is there

    def prepare(self, n_rows: int, n_pairs: int) -> None:
        """Compile what steps of one row need, and those of so many active rows and pairs.

        What is not in the cache on disk is compiled by several processes at once, and what needs
        several threads may be there only later; see `compile_all`.
        """
        first, later = [], []
        for number, row in enumerate(self._rows):
            if row[SERIAL] == NOTHING:
                continue
            first.append((number, SERIAL))
            work = n_rows * row[PER_ROW] + n_pairs * row[PER_PAIR]
            if work >= jit.PARALLEL_WORK and jit.num_threads() > 1:
                later.append((number, PARALLEL))
        needed = [RUN, *(form for place in first for form in self._forms(*place))]
        if jit.num_threads() > 1:
            needed += [LEAD, FOLLOW]
        compile_all(needed, [self._forms(*place)[1] for place in later])
        for place in first + later:
            self._compile(*place)

    def _forms(self, number: int, form: int) -> tuple[jit.Form, jit.Form]:
        """The entry of an operation, and one of the forms of its kernel."""
        operation = self._operations[number]
        return operation.entry, operation.parallel if form == PARALLEL else operation.serial

    def _compile(self, number: int, form: int) -> bool:
        """Have a form of an operation, unless it is awaited; returns whether it is there."""
        entry, kernel = self._forms(number, form)
        if is_awaited(kernel):
            return False
        self._rows[number, [ENTRY, form]] = entry.c_address(), kernel.address()
        return True


class _Shares:
    """The shares that steps of a program may be computed in; see `causalrn.model.ops.cpu.shares`.

    Args:
        n: how many.
        stages: of the program, all with operations.
        state: that they work on, with a scratch that has room for the step.
    """

    def __init__(self, n: int, stages: Sequence[_Stage], state: DecoderState) -> None:
        space: Scratch = state.scratch
        self._batch = np.empty(BATCH_WORDS, np.int64)
        self._bounds = np.empty((n, 2), np.int64)
        self._tables: list[_Table] = []  # with the records that programs refer to
        self._records: list[Record] = []
        for bounds in self._bounds:
            view = copy(state)
            view.scratch = own = space.like()
            table = _Table(stages, view)
            scratch = {
                "bounds": bounds,
                "own_starts": np.empty(state.n_slots + 1, np.int64),
                "own_rows": np.empty(len(own.x), np.int64),
                **{name: getattr(own, name) for name in ("x", "phases", "reaches", "active")},
            }
            self._tables.append(table)
            self._records.append(Record(SHARE, table.of_share() | scratch))
        self._costs = table.costs
        self._addresses = [record.address for record in self._records]

    def run(
        self,
        batch: RaggedBatch,
        rows: NDArray[np.int64],
        logits: NDArray[np.float32],
        likeliest: NDArray[np.int64],
    ) -> bool:
        """Compute a step, if it is worth it; returns whether it was."""
        return team.compute(
            self._batch, self._addresses[: len(batch.slots)], self._bounds, *self._costs,
            float(SHARES_WORK), batch.token_ids, batch.starts, batch.context_lens, batch.slots,
            batch.block_tables, batch.state_tables, rows, logits, likeliest,
        )  # fmt: skip


class Program:
    """All stages of one decoder on one state, which holds it and is therefore not held by it.

    Args:
        parts: of the decoder.
        ops: of the backend.

    Raises:
        UnsupportedOpError: there is no operation that one of the parts needs.
    """

    def __init__(self, parts: Parts, ops: Mapping[str, Op]) -> None:
        self.parts = parts
        self._ops = ops
        modules = [
            parts.embedding,
            parts.classifier,
            *(part for block in parts.blocks for part in (block.mixer, block.mlp) if part),
        ]
        self._weights = [
            (one._parameters, name)
            for module in modules
            for one in module.modules()
            for name, parameter in one._parameters.items()
            if parameter is not None
        ]
        self._known: Any = None

    def run(self, batch: RaggedBatch, state: DecoderState, rows: NDArray[np.int64]) -> Predictions:
        """Compute a step; see `Backend.extend`."""
        space: Scratch = state.scratch
        space.make_room(batch, state.page_size)
        self._look(batch, state)
        logits = np.empty((len(rows), self._vocab_size), np.float32)
        likeliest = np.empty(len(rows), np.int64)
        found = Predictions(torch.from_numpy(logits), lambda: (likeliest, None))
        if len(batch.slots) > 1 and self._run_shares(batch, state, rows, logits, likeliest):
            return found
        arrays = space.x, space.phases, space.reaches, space.active
        first = n_pairs = 0
        for place in self._places:
            n_pairs = self._table.run(
                first, place + 1, n_pairs, batch, rows, *arrays, logits, likeliest
            )
            first = place + 1
            self._extend(self._stages[place], batch, state, n_pairs)
        self._table.run(first, len(self._stages), n_pairs, batch, rows, *arrays, logits, likeliest)
        return found

    def _run_shares(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        logits: NDArray[np.float32],
        likeliest: NDArray[np.int64],
    ) -> bool:
        """Compute a step in as many shares as there are threads, if that is worth it."""
        n = min(jit.num_threads(), MOST_SHARES)
        if n == 1 or self._places:
            return False
        shares = self._shares.get(n)
        if shares is None:
            shares = self._shares[n] = _Shares(n, self._stages, state)
        return shares.run(batch, rows, logits, likeliest)

    def _look(self, batch: RaggedBatch, state: DecoderState) -> None:
        """Begin anew if something has moved or weights have changed, or blocks' phases have.

        Operations may know more of weights than where they are: what they have zeros for.
        """
        space: Scratch = state.scratch
        weights = [own[name] for own, name in self._weights]
        places = [(one.data_ptr(), one._version) for one in weights]  # type: ignore[union-attr]
        known = space.n_moves, [block.phases for block in self.parts.blocks], places
        if known != self._known:
            self._stages = list(self._find_stages(state))
            self._table = _Table(self._stages, state)
            self._places = [n for n, stage in enumerate(self._stages) if stage.op is None]
            self._shares: dict[int, _Shares] = {}  # by how many they are
            self._vocab_size = self.parts.classifier.out_features
            self._known = known
            n_new = np.diff(batch.starts)
            n_pairs = int((n_new * (batch.context_lens + n_new)).sum())
            self._table.prepare(len(batch.token_ids), n_pairs)

    def _find_stages(self, state: DecoderState) -> Iterator[_Stage]:
        yield self._stage(self.parts.embedding)
        for block, layer in zip(self.parts.blocks, state.layers, strict=True):
            if type(block.mixer).extend is Mixer.extend:
                yield self._stage(block.mixer, layer, block.mask)
            else:
                yield _Stage(None, block.mixer, layer, block.mask)
            if block.mlp is not None:
                yield self._stage(block.mlp, layer)
        yield self._stage(self.parts.classifier)

    def _stage(self, part: Any, layer: LayerState | None = None, phases: int = SAME_ROWS) -> _Stage:
        op = find_op(self._ops, part.op)
        assert isinstance(op, CpuOp)
        return _Stage(op, part, layer, phases)

    def _extend(self, stage: _Stage, batch: RaggedBatch, state: DecoderState, n_pairs: int) -> None:
        space: Scratch = state.scratch
        n = len(batch.token_ids)
        step = Step(
            batch, state, self._ops, space.x[:n], space.phases[:n], space.reaches[:n],
            space.active[:n], n_pairs, space,
        )  # fmt: skip
        stage.module.extend(step, stage.layer)
