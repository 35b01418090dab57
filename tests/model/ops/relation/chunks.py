"""Sequences that go on chunk by chunk on a device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from causalrn.model.backends.gpu_inputs import DeviceBatch, Inputs
from causalrn.model.state import RaggedBatch

Spans = list[tuple[int, slice]]
"""Sequences of a chunk, and which of their tokens are new."""


def batches(
    n: int, length: int, page_size: int, seed: int, reaches: Tensor | None = None
) -> Iterator[tuple[DeviceBatch, Spans]]:
    """Random chunks of n sequences, some of them at a time, in pages in any order.

    Args:
        n, length: how many sequences, and their tokens.
        page_size: of the pages.
        seed: of all that is random.
        reaches: `[n, length]`; zeros if left out.
    """
    rng = np.random.default_rng(seed)
    n_tables = -(-length // page_size)
    pages = rng.permutation(n * n_tables).astype(np.int32).reshape(n, -1)
    done = np.zeros(n, np.int64)
    while (done < length).any():
        waiting = np.flatnonzero(done < length)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        counts = np.array([rng.integers(1, length - done[s] + 1) for s in chosen])
        spans = [(s, slice(done[s], done[s] + m)) for s, m in zip(chosen, counts, strict=True)]
        located = np.zeros((3, counts.sum()), np.int64)
        if reaches is not None:
            located[2] = torch.cat([reaches[s, span] for s, span in spans]).numpy()
        batch = RaggedBatch(
            token_ids=located[0],
            starts=np.cumsum([0, *counts]),
            context_lens=done[chosen],
            slots=chosen,
            block_tables=pages[chosen],
        )
        yield Inputs.alone(batch, torch.device("cpu"), located=located).batch, spans
        done[chosen] += counts


def put(made: Tensor, spans: Spans, out: Tensor) -> None:
    """Put what was made of the rows of a chunk to its places in `out` `[n, length, *]`."""
    counts = [span.stop - span.start for _, span in spans]
    for (s, span), part in zip(spans, made.split(counts), strict=True):
        out[s, span] = part.view(out[s, span].shape)
