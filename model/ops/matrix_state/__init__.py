"""Matrix states: what is kept of a sequence is one matrix a head. `README.md` has the formulas.

`matrix_state` takes whole sequences and is differentiable; `cpu_layers.py` continues ragged batches
of sequences from their states.
"""

import torch
from torch import Tensor

LEAST_SQUARE = 1e-6
"""Added to sums of squares of queries and keys before they are made unit vectors."""

LEAST_MEAN_SQUARE = 1e-5
"""Added to mean squares of what is read."""

_CHUNK = 64  # writes whose pairs are computed, rather than what they add to the state


def matrix_state(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, *, corrects: bool
) -> Tensor:
    """Read a matrix `S` of each head that every token first fades and then writes to, `n` times.

    Takes O(T) time, chunk by chunk.

    Args:
        q: `[B, T, H, K]`, float32 or float64.
        k: `[B, T, H, n, K]`.
        v: `[B, T, H, n, V]`.
        beta: `[B, T, H, n]`, how much of a write counts.
        log_decay: `[B, T, H]`, logarithms of what is left of `S` at a token; None if all of it.
        corrects: whether a write replaces what `S` has for its key (the delta rule), or is added.

    Returns:
        `[B, T, H, V]`: `Sᵀ q` after the writes of each token.
    """
    batch, length, heads, n, width = k.shape
    state = v.new_zeros(batch, heads, width, v.shape[-1])
    parts = []
    n_tokens = max(1, _CHUNK // n)
    for first in range(0, length, n_tokens):
        last = min(first + n_tokens, length)
        now = slice(first, last)
        # Writes in their order, `[B, H, (last - first)·n, ·]`.
        keys, values, weights = (
            x[:, now].transpose(1, 2).flatten(2, 3) for x in (k, v, beta[..., None])
        )
        queries = q[:, now].transpose(1, 2)
        if log_decay is None:
            fades = queries.new_zeros(queries.shape[:3])
        else:
            fades = log_decay[:, now].transpose(1, 2).cumsum(-1)
        of_writes = fades.repeat_interleave(n, -1)  # a token fades the state before its first write
        left, left_of_reads = of_writes.exp()[..., None], fades.exp()[..., None]
        written = weights * (values - left * (keys @ state)) if corrects else weights * values
        place = torch.arange(keys.shape[2], device=q.device)
        if corrects:
            between = _left_between(of_writes, of_writes, place[:, None] > place)
            mixed = torch.eye(len(place), dtype=q.dtype, device=q.device)
            mixed = mixed + weights * (keys @ keys.mT) * between
            written = torch.linalg.solve_triangular(mixed, written, upper=False, unitriangular=True)
        ends = torch.arange(1, last - first + 1, device=q.device)[:, None] * n
        between = _left_between(fades, of_writes, place < ends)
        parts.append(left_of_reads * (queries @ state) + (queries @ keys.mT * between) @ written)
        rest = (of_writes[..., -1:] - of_writes).exp()[..., None]
        state = left[..., -1:, :] * state + (rest * keys).mT @ written
    return torch.cat(parts, 2).transpose(1, 2)


def _left_between(later: Tensor, earlier: Tensor, counts: Tensor) -> Tensor:
    """What is left of earlier writes at later places, `[*, later, earlier]`; 0 unless it counts."""
    gone = (later[..., :, None] - earlier[..., None, :]).masked_fill(~counts, -torch.inf)
    return gone.exp()
