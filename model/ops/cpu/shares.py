"""A step in shares: each has some of its sequences, and all operations, one after the other.

No sequence has anything to do with the others of a step, so threads that have a share each never
wait for each other but once, at the end. Whichever thread is there takes a share: one that comes
too late, because another program has its core, holds up nobody.

What threads tell each other lies in a mailbox: how many shares are left to take, how many are done,
the address of the step's record, and those of the shares' own.
"""

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, look, now, pause, publish
from causalrn.model.ops.cpu.operations import STEP
from causalrn.model.ops.cpu.program import run_here
from causalrn.model.ops.cpu.records import BOOL, F32, F64, I64, n_words, reader, writer

LEFT, DONE, STEP_AT, SHARES_AT = 0, 16, 32, 33  # places in a mailbox; the first two are hot
MAILBOX_WORDS = 256
MOST_SHARES = MAILBOX_WORDS - SHARES_AT

BATCH = {
    name: STEP[name]
    for name in (
        "token_ids", "starts", "context_lens", "slots", "block_tables", "state_tables", "rows",
        "logits", "likeliest",
    )
}  # fmt: skip
"""What the shares of a step have in common, in the order of its record."""

BATCH_WORDS = sum(map(n_words, BATCH.values()))

SHARE = {
    "program": I64[:, ::1],
    "record": I64[::1],
    "bounds": I64[::1],
    "own_starts": I64[::1],
    "own_rows": I64[::1],
    "x": F32[:, ::1],
    "phases": I64[::1],
    "reaches": I64[::1],
    "active": BOOL[::1],
}
"""What a share has of its own, in the order of its record:

- `program` and `record`, see `program.run`, with all serial forms compiled;
- `bounds` `[2]`, the first of its sequences and the one after the last;
- `own_starts` and `own_rows`, scratch, as long as those of the longest step need be;
- `x`, `phases`, `reaches`, `active`, scratch for its new tokens, or longer.
"""

_UNEVEN = 1.5  # a share with more of the work than so many times its part is not worth the others


_read = reader(
    [
        (record, sum(map(n_words, list(fields.values())[:number])), kind)
        for record, fields in enumerate((BATCH, SHARE))
        for number, kind in enumerate(fields.values())
    ]
)
_write = writer(list(BATCH.values()))


@jit.inline
def _compute(batch, share):
    """Compute a share, given the addresses of the step's record and its own."""
    (
        token_ids, starts, context_lens, slots, block_tables, state_tables, rows, logits, likeliest,
        program, record, bounds, own_starts, own_rows, x, phases, reaches, active,
    ) = _read(batch, share)  # fmt: skip
    first, last = bounds[0], bounds[1]
    begin, end = starts[first], starts[last]
    for s in range(first, last + 1):
        own_starts[s - first] = starts[s] - begin
    low = np.searchsorted(rows, begin)
    high = np.searchsorted(rows, end)
    for i in range(low, high):
        own_rows[i - low] = rows[i] - begin
    run_here(
        program, record, 0, program.shape[0], 0, 1, np.inf, token_ids[begin:end],
        own_starts[: last - first + 1], context_lens[first:last], slots[first:last],
        block_tables[first:last], state_tables[first:last], own_rows[: high - low], x, phases,
        reaches, active, logits[low:high], likeliest[low:high],
    )  # fmt: skip


@jit.inline
def _help(mailbox):
    """Take a share that is left and compute it; returns whether there was one."""
    share = add(mailbox, LEFT, -1) - 1
    if share < 0:
        return False
    _compute(mailbox[STEP_AT], mailbox[SHARES_AT + share])
    add(mailbox, DONE, 1)
    return True


@jit.inline
def _divide(starts, context_lens, rows, n_shares, per_row, per_pair, least_work, bounds):
    """Write the bounds of shares of about the same work; returns whether that is worth it."""
    for i in range(1, rows.shape[0]):
        if rows[i] <= rows[i - 1]:
            return False
    n_sequences = context_lens.shape[0]
    total = 0.0
    for s in range(n_sequences):
        n = starts[s + 1] - starts[s]
        total += n * (per_row + per_pair * (context_lens[s] + n))
    if total < least_work:
        return False
    s, done = 0, 0.0
    for share in range(n_shares):
        bounds[share, 0] = s
        before = done
        while s < n_sequences - (n_shares - 1 - share):
            n = starts[s + 1] - starts[s]
            more = n * (per_row + per_pair * (context_lens[s] + n))
            is_enough = done + more / 2.0 > total * (share + 1) / n_shares
            if s > bounds[share, 0] and is_enough and share < n_shares - 1:
                break
            done += more
            s += 1
        bounds[share, 1] = s
        if done - before > _UNEVEN * total / n_shares:
            return False
    return True


@jit.sequential
def lead(
    mailbox, record, bounds, n_shares, per_row, per_pair, least_work, token_ids, starts,
    context_lens, slots, block_tables, state_tables, rows, logits, likeliest,
):  # fmt: skip
    """Compute a step in shares, if that is worth it.

    Args:
        mailbox: `[MAILBOX_WORDS]` int64, with the address of `record`, and of the shares'.
        record: `[BATCH_WORDS]` int64, overwritten.
        bounds: `[n_shares or more, 2]` int64, those of the shares, overwritten.
        n_shares: no more than there are sequences.
        per_row, per_pair: what all operations cost (`operations.Work`), float64.
        least_work: of a step that is worth it, float64.
        The others are those of the step.

    Returns:
        Whether the step is computed; else nothing has been done.
    """
    if not _divide(starts, context_lens, rows, n_shares, per_row, per_pair, least_work, bounds):
        return False
    _write(
        record,
        (
            token_ids, starts, context_lens, slots, block_tables, state_tables, rows, logits,
            likeliest,
        ),
    )  # fmt: skip
    publish(mailbox, DONE, 0)
    publish(mailbox, LEFT, n_shares)
    while _help(mailbox):
        pass
    while look(mailbox, DONE) < n_shares:
        pause()
    return True


@jit.sequential
def follow(mailbox, patience):
    """Take shares, until there has been none for some time.

    Args:
        mailbox: as for `lead`.
        patience: how long to look for one, in nanoseconds.
    """
    latest = now()
    while now() - latest < patience:
        if look(mailbox, LEFT) > 0 and _help(mailbox):
            latest = now()
        else:
            pause()


LEAD = jit.Form(
    f"{__name__}:LEAD",
    lead,
    [I64[::1], I64[::1], I64[:, ::1], I64, F64, F64, F64, *BATCH.values()],
)
FOLLOW = jit.Form(f"{__name__}:FOLLOW", follow, [I64[::1], I64])
