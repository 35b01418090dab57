"""The one compiled call of a step: it runs operations, one after the other, by their addresses."""

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.operations import STEP
from causalrn.model.ops.cpu.records import F64, I64, call, writer
from causalrn.model.ops.positions import EVERY_PHASE

SERIAL, PARALLEL, ENTRY, OWN, PER_ROW, PER_PAIR, PHASES = range(7)
N_COLUMNS = 7
SAME_ROWS = -2
NOTHING = -1


_write = writer(list(STEP.values()))


@jit.inline
def _activate(mask, phases, starts, context_lens, active):
    """Write which tokens are in the phases of a mask; returns how many pairs they are in."""
    n_pairs = 0
    for s in range(context_lens.shape[0]):
        n_active = 0
        for n in range(starts[s], starts[s + 1]):
            active[n] = mask == EVERY_PHASE or (mask >> phases[n]) & 1
            n_active += active[n]
        n_pairs += n_active * (context_lens[s] + starts[s + 1] - starts[s])
    return n_pairs


@jit.inline
def run_here(
    program, record, first, last, n_pairs, n_threads, least_work, token_ids, starts, context_lens,
    slots, block_tables, state_tables, rows, x, phases, reaches, active, logits, likeliest,
):  # fmt: skip
    """Run some operations of a program, one after the other, on this thread or from it.

    Args:
        program: `[n, N_COLUMNS]` int64. Of each operation: the addresses of its two forms, 0 for
            one that is not there yet, or `NOTHING` where there is nothing to run; those of its
            entry and of its own record; what it costs per row and per pair (`operations.Work`); and
            the phases of the rows that are active from here on, as a mask, or `EVERY_PHASE`, or
            `SAME_ROWS`.
        record: `[STEP_WORDS]` int64, overwritten.
        first, last: which operations.
        n_pairs: of the rows that are active at first.
        n_threads: that they may use.
        least_work: of an operation that uses them, as its costs are counted; float64.
        x, phases, reaches, active: may be longer than the batch.
        The others are those of the step.

    Returns:
        The first operation that did not run, because the form that it needs is not there yet, or
        `last` if all have run; pairs of the rows that are active then; and that form.
    """
    n_rows = token_ids.shape[0]
    _write(
        record,
        (
            token_ids, starts, context_lens, slots, block_tables, state_tables, rows, x[:n_rows],
            phases[:n_rows], reaches[:n_rows], active[:n_rows], logits, likeliest, n_threads,
        ),
    )  # fmt: skip
    for i in range(first, last):
        own = program[i]
        if own[PHASES] != SAME_ROWS:
            n_pairs = _activate(own[PHASES], phases, starts, context_lens, active)
        work = n_rows * own[PER_ROW] + n_pairs * own[PER_PAIR]
        form = PARALLEL if work >= least_work else SERIAL
        if own[form] == 0:
            return i, n_pairs, form
        if own[form] > 0:
            call(own[ENTRY], own[form], record.ctypes.data, own[OWN])
    return last, n_pairs, SERIAL


@jit.sequential
def run(
    program, record, first, last, n_pairs, n_threads, least_work, token_ids, starts, context_lens,
    slots, block_tables, state_tables, rows, x, phases, reaches, active, logits, likeliest,
):  # fmt: skip
    """See `run_here`."""
    return run_here(
        program, record, first, last, n_pairs, n_threads, least_work, token_ids, starts,
        context_lens, slots, block_tables, state_tables, rows, x, phases, reaches, active, logits,
        likeliest,
    )  # fmt: skip


_KINDS = [kind for name, kind in STEP.items() if name != "n_threads"]
RUN = jit.Form(f"{__name__}:RUN", run, [I64[:, ::1], I64[::1], *[I64] * 4, F64, *_KINDS])
"""`run` for what steps give it."""
