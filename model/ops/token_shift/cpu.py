"""The convolution with a few taps on the CPU: of whole sequences, and of tokens that follow."""

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import take
from causalrn.model.ops.cpu.lanes import fma
from causalrn.model.ops.token_shift.cpu_lanes import add_taps


@jit.inline
def _set_tap(row, taps, out):
    for i in range(taps.shape[0]):
        out[i] = row[i] * taps[i]


@jit.inline
def _add_tap(row, taps, out):
    for i in range(taps.shape[0]):
        out[i] = fma(row[i], taps[i], out[i])


@jit.kernel
def forward(x, weight, reaches, out):
    """Convolve `x` `[B, T, D]` with `weight` `[O, W, D]` into `out` `[O, B, T, D]`.

    A token sees as many of those before it as its reach, `[B, T]` int64, says.
    """
    n_sequences, length = x.shape[:2]
    n_outputs, width = weight.shape[:2]
    for s in jit.prange(n_sequences):
        for t in range(length):
            for c in range(n_outputs):
                _set_tap(x[s, t], weight[c, 0], out[c, s, t])
                for k in range(1, min(width, t + 1, reaches[s, t] + 1)):
                    _add_tap(x[s, t - k], weight[c, k], out[c, s, t])


@jit.kernel
def backward(x, weight, reaches, g, dx, dw):
    """Write the gradients `dx` `[B, T, D]` and `dw` `[B, O, W, D]` that follow from `g`.

    `g` `[O, B, T, D]` is the gradient of the output of `forward`.
    """
    n_sequences, length, d = x.shape
    n_outputs, width = weight.shape[:2]
    for s in jit.prange(n_sequences):
        dx[s] = 0.0
        dw[s] = 0.0
        for t in range(length):
            for c in range(n_outputs):
                for k in range(min(width, t + 1, reaches[s, t] + 1)):
                    for i in range(d):
                        u = g[c, s, t, i]
                        dx[s, t - k, i] = fma(u, weight[c, k, i], dx[s, t - k, i])
                        dw[s, c, k, i] = fma(u, x[s, t - k, i], dw[s, c, k, i])


@jit.inline
def shift_row(x, n, begin, channel, taps, reach, tail, out):
    """Convolve row n with `taps` `[W, C]`; the rows before `begin` are those of the tail.

    It sees `reach` of the tokens before its own at most. The others are as for `shift_rows`.
    """
    for i in range(x.shape[1]):
        out[n, i] = x[n, i]
    for i in range(taps.shape[1]):
        out[n, channel + i] *= taps[0, i]
    n_taps = min(taps.shape[0], reach + 1)
    n_new = min(n - begin + 1, n_taps)  # the first of which has been set
    add_taps(x, n - 1, channel, taps, 1, n_new - 1, out, n, channel)
    newest = tail.shape[0] - n_new + n - begin
    add_taps(tail, newest, 0, taps, n_new, n_taps - n_new, out, n, channel)


@jit.inline
def shift_rows(
    x, first, last, begin, channel, weight, reaches, active, tail, readers, memories
):  # fmt: skip
    """Convolve rows `first` to `last - 1` of one sequence for readers and memories.

    Args:
        x: `[N, D]` float32, with all rows from `begin` on.
        begin: the first new row of the sequence.
        channel: the first of the C channels that are convolved; the others pass unchanged.
        weight: `[2, W, C]`.
        reaches: `[N]` int64, how many tokens before its own each row sees at most.
        active: `[N]` bool, rows whose readers are wanted.
        tail: `[W - 1, C]`, the sequence's last rows before `begin`, oldest first.
        readers, memories: `[N, D]`, written.
    """
    of_readers, of_memories = weight[0], weight[1]
    for n in range(first, last):
        shift_row(x, n, begin, channel, of_memories, reaches[n], tail, memories)
        if active[n]:
            shift_row(x, n, begin, channel, of_readers, reaches[n], tail, readers)


@jit.inline
def extend_tail(x, first, last, channel, tail, out):
    """Let a tail, as for `shift_rows`, go on with rows `first` to `last - 1`, at least one.

    Args:
        out: `[W - 1, C]`, written; it may be the tail itself.
        The others are as for `shift_rows`.
    """
    n_rows, n_channels = tail.shape
    kept = max(0, n_rows - (last - first))
    for row in range(kept):  # which move up before they are overwritten: oldest first
        for i in range(n_channels):
            out[row, i] = tail[row + (last - first), i]
    for row in range(kept, n_rows):
        for i in range(n_channels):
            out[row, i] = x[last - n_rows + row, channel + i]


@jit.inline
def keep_tails(taken, starts, context_lens, slots, state_tables, page_size, channel, tails, z):
    """Let tails go on with the new rows, page by page, once all of these are convolved.

    The next piece is the last counter of `taken`: of each sequence its tail, with all that goes on
    from what this was before; and each page that needs nothing but new rows.

    Args:
        taken: `[1 or more]` int64.
        starts, context_lens, slots, state_tables: as in `causalrn.model.state.RaggedBatch`.
        page_size: in tokens.
        channel: the first of the C channels that are convolved.
        tails: `[n_states, W - 1, C]`, updated in place.
        z: `[N, D]` float32, the new rows.
    """
    counter = taken.shape[0] - 1
    piece, at = take(taken, counter), 0
    for s in range(slots.shape[0]):
        tail, first, end = tails[slots[s]], starts[s], starts[s + 1]
        page = context_lens[s] // page_size
        last = first + (page + 1) * page_size - context_lens[s]
        is_taken = piece == at
        while last <= end and last - first < tail.shape[0]:
            row = state_tables[s, page]
            if is_taken and row >= 0:
                extend_tail(z, first, last, channel, tail, tails[row])
            page, last = page + 1, last + page_size
        if is_taken:
            extend_tail(z, first, end, channel, tail, tail)
            piece = take(taken, counter)
        at += 1
        while last <= end:
            if piece == at:
                row = state_tables[s, page]
                if row >= 0:
                    extend_tail(z, first, last, channel, tail, tails[row])
                piece = take(taken, counter)
            page, last, at = page + 1, last + page_size, at + 1
