"""The embedding of new tokens on the CPU, one compiled call for a whole batch."""

from typing import Any

from model.ops.cpu import jit
from model.ops.positions.cpu import step as advance_position
from model.ops.positions.cpu import write_code
from model.step import Step


def embed(embedding: Any, step: Step) -> None:
    """The operation that a `model.embedding.Embedding` asks for: writes the rows of a new step.

    That is `step.x`, `step.phases` and `step.reaches`. Advances the counters of the sequences.
    """
    config, batch, state = embedding.config, step.batch, step.state
    _embed(
        batch.token_ids, batch.starts, batch.context_lens, batch.slots, batch.state_tables,
        state.page_size, config.bos_id, config.sep_id, config.positions == "coupled",
        config.recall, config.balanced_places, state.counter_array, *embedding.tables(), step.x,
        step.phases, step.reaches,
        work=step.x.size,
    )  # fmt: skip


@jit.dealt_kernel
def _embed(
    token_ids, starts, context_lens, slots, state_tables, page_size,
    bos_id, sep_id, coupled, recall, balanced, counters, tokens, places, phase_vectors,
    x, phases, reaches,
):  # fmt: skip
    """Write the embeddings of the new tokens to `x` and advance the counters.

    Args:
        token_ids: `[N]` int64.
        starts, context_lens, slots, state_tables: as in `model.state.RaggedBatch`.
        page_size: in tokens.
        bos_id, sep_id, coupled, recall, balanced: as for `positions.advance`.
        counters: `[n_states, STATE_SIZE]` int64, updated in place.
        tokens: `[V, D - P]` float32, the table of tokens; the other P channels hold codes.
        places: `[L, D]`, the table of learned positions, or no rows.
        phase_vectors: `[n_phases, D]`, or no rows.
        x: `[N, D]`, written.
        phases, reaches: `[N]` int64, written.
    """
    d_token = tokens.shape[1]
    for s in jit.prange(slots.shape[0]):
        own = counters[slots[s]]
        for n in range(starts[s], starts[s + 1]):
            index, phases[n], reaches[n] = advance_position(
                token_ids[n], bos_id, sep_id, coupled, recall, own
            )  # fmt: skip
            for i in range(d_token):
                x[n, i] = tokens[token_ids[n], i]
            write_code(index, balanced, x[n, d_token:])
            if places.shape[0]:
                for i in range(x.shape[1]):
                    x[n, i] += places[index, i]
            if phase_vectors.shape[0]:
                for i in range(x.shape[1]):
                    x[n, i] += phase_vectors[phases[n], i]
            held = context_lens[s] + n - starts[s] + 1
            if held % page_size == 0:
                row = state_tables[s, held // page_size - 1]
                if row >= 0:
                    counters[row] = own
