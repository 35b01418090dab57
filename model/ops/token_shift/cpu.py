"""The convolution with a few taps on the CPU: of whole sequences, and of tokens that follow."""

from model.ops.cpu import jit
from model.ops.cpu.lanes import fma


@jit.inline
def _set_tap(row, taps, out):
    for i in range(out.shape[0]):
        out[i] = row[i] * taps[i]


@jit.inline
def _add_tap(row, taps, out):
    for i in range(out.shape[0]):
        out[i] = fma(row[i], taps[i], out[i])


@jit.kernel
def forward(x, weight, out):
    """Convolve `x` `[B, T, D]` with `weight` `[2, W, D]` into `out` `[2, B, T, D]`."""
    n_sequences, length = x.shape[:2]
    width = weight.shape[1]
    for s in jit.prange(n_sequences):
        for t in range(length):
            for c in range(2):
                _set_tap(x[s, t], weight[c, 0], out[c, s, t])
                for k in range(1, min(width, t + 1)):
                    _add_tap(x[s, t - k], weight[c, k], out[c, s, t])


@jit.kernel
def backward(x, weight, g, dx, dw):
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
                for k in range(min(width, t + 1)):
                    for i in range(d):
                        u = g[c, s, t, i]
                        dx[s, t - k, i] = fma(u, weight[c, k, i], dx[s, t - k, i])
                        dw[s, c, k, i] = fma(u, x[s, t - k, i], dw[s, c, k, i])


@jit.inline
def extend_shift(x, first, last, weight, tail, readers, memories):
    """Convolve rows `first` to `last - 1` of one sequence, continuing from its tail.

    Args:
        x: `[N, D]` float32.
        first, last: rows, at least one.
        weight: `[2, W, D]`.
        tail: the sequence's last W - 1 rows before these, oldest first; updated in place.
        readers, memories: `[N, D]`, written.
    """
    width = weight.shape[1]
    for n in range(first, last):
        _set_tap(x[n], weight[0, 0], readers[n])
        _set_tap(x[n], weight[1, 0], memories[n])
        for k in range(1, width):
            row = x[n - k] if n - k >= first else tail[width - 1 + n - k - first]
            _add_tap(row, weight[0, k], readers[n])
            _add_tap(row, weight[1, k], memories[n])
    # Rows of the tail move up before they are overwritten: oldest first.
    kept = max(0, width - 1 - (last - first))
    for row in range(kept):
        tail[row] = tail[row + (last - first)]
    for row in range(kept, width - 1):
        tail[row] = x[last - (width - 1) + row]
