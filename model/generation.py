"""Free-running decoding of a few prompts at once, without a server."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.framing import frame
from model.sampling import Sampler, SamplingParams
from model.state import RaggedBatch

_PAGE_SIZE = 64


def generate(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: Sequence[int],
    sampling: SamplingParams | None = None,
) -> Iterator[dict[int, int]]:
    """Continue wrapped prompts until EOS or their limit, all of them one token a step.

    Args:
        checkpoint: the model.
        prompts: content ids; wrapped as the checkpoint wants them.
        max_tokens: limit of each prompt.
        sampling: greedy if left out. Each prompt draws from a generator of its own.

    Returns:
        For each step its new tokens, by the index of their prompt. EOS is not among them; a prompt
        that is missing has ended, by EOS or at its limit.

    Raises:
        ValueError: a prompt with its limit exceeds the model's `max_seq_len`.
    """
    wrapped = [np.array(frame(checkpoint.config, prompt), np.int64) for prompt in prompts]
    lengths = [len(ids) + limit for ids, limit in zip(wrapped, max_tokens, strict=True)]
    longest = checkpoint.config.max_seq_len
    if max(lengths, default=0) > longest:
        raise ValueError(
            f"prompt and output may take up to {max(lengths)} tokens, "
            f"{checkpoint.name} holds {longest}"
        )
    samplers = [Sampler(sampling or SamplingParams(), prompt=ids.tolist()) for ids in wrapped]
    return _steps(checkpoint, wrapped, list(max_tokens), samplers, _block_tables(lengths))


def _block_tables(lengths: Sequence[int]) -> NDArray[np.int32]:
    """Pages of their own for sequences of these lengths: 0, 1, 2, … in order; -1 where unused."""
    counts = np.array([-(-length // _PAGE_SIZE) for length in lengths], np.int32)
    entries = np.arange(counts.max(initial=0), dtype=np.int32)
    firsts = np.cumsum(counts, dtype=np.int32) - counts
    return np.where(entries < counts[:, None], firsts[:, None] + entries, np.int32(-1))


def _steps(
    checkpoint: Checkpoint,
    new: list[NDArray[np.int64]],
    left: list[int],
    samplers: list[Sampler],
    block_tables: NDArray[np.int32],
) -> Iterator[dict[int, int]]:
    state = checkpoint.decoder.new_state(
        n_pages=int(block_tables.max(initial=-1)) + 1,
        page_size=_PAGE_SIZE,
        n_slots=max(1, len(new)),
    )
    context_lens = np.zeros(len(new), np.int64)
    running = [row for row in range(len(new)) if left[row] > 0]
    while running:
        slots = np.array(running)
        counts = [len(new[row]) for row in running]
        logits = checkpoint.decoder.extend(
            RaggedBatch(
                token_ids=np.concatenate([new[row] for row in running]),
                starts=np.concatenate([[0], np.cumsum(counts)]),
                context_lens=context_lens[slots],
                slots=slots,
                block_tables=block_tables[slots],
            ),
            state,
        ).numpy()
        context_lens[slots] += counts
        tokens = {row: samplers[row].sample(logits[i]) for i, row in enumerate(running)}
        tokens = {row: t for row, t in tokens.items() if t != checkpoint.config.eos_id}
        for row, token in tokens.items():
            new[row] = np.array([token], np.int64)
            left[row] -= 1
        yield tokens
        running = [row for row in tokens if left[row] > 0]
