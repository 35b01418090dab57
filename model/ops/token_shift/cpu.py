"""The convolution with a few taps on the CPU: of whole sequences, and of tokens that follow."""

from model.ops.cpu import jit
from model.ops.cpu.lanes import fma
from model.ops.token_shift.cpu_lanes import add_taps


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
    """Convolve `x` `[B, T, D]` with `weight` `[2, W, D]` into `out` `[2, B, T, D]`.

    A token sees as many of those before it as its reach, `[B, T]` int64, says.
    """
    n_sequences, length = x.shape[:2]
    width = weight.shape[1]
    for s in jit.prange(n_sequences):
        for t in range(length):
            for c in range(2):
                _set_tap(x[s, t], weight[c, 0], out[c, s, t])
                for k in range(1, min(width, t + 1, reaches[s, t] + 1)):
                    _add_tap(x[s, t - k], weight[c, k], out[c, s, t])


@jit.kernel
def backward(x, weight, reaches, g, dx, dw):
    """Write the gradients `dx` `[B, T, D]` and `dw` `[B, 2, W, D]` that follow from `g`.

    `g` `[2, B, T, D]` is the gradient of the output of `forward`.
    """
    n_sequences, length, d = x.shape
    width = weight.shape[1]
    for s in jit.prange(n_sequences):
        dx[s] = 0.0
        dw[s] = 0.0
        for t in range(length):
            for c in range(2):
                for k in range(min(width, t + 1, reaches[s, t] + 1)):
                    for i in range(d):
                        u = g[c, s, t, i]
                        dx[s, t - k, i] = fma(u, weight[c, k, i], dx[s, t - k, i])
                        dw[s, c, k, i] = fma(u, x[s, t - k, i], dw[s, c, k, i])


@jit.inline
def _shift_row(x, n, begin, channel, taps, reach, tail, out):
    """Convolve row n with `taps` `[W, C]`; the rows before `begin` are those of the tail."""
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
    """Convolve rows `first` to `last - 1` of one sequence, whose new rows begin at `begin`.

    Args:
        x: `[N, D]` float32, with all rows from `begin` on.
        channel: the first of the C channels that are convolved; the others pass unchanged.
        weight: `[2, W, C]`.
        reaches: `[N]` int64, how many tokens before its own each row sees at most.
        active: `[N]` bool, rows whose readers are wanted.
        tail: `[W - 1, C]`, the sequence's last rows before `begin`, oldest first.
        readers, memories: `[N, D]`, written.
    """
    of_readers, of_memories = weight[0], weight[1]
    for n in range(first, last):
        _shift_row(x, n, begin, channel, of_memories, reaches[n], tail, memories)
        if active[n]:
            _shift_row(x, n, begin, channel, of_readers, reaches[n], tail, readers)


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
