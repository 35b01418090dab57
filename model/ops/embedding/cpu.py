"""The embedding of new tokens on the CPU."""

from typing import Any

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import take_near
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import BOOL, F32, I64
from causalrn.model.ops.positions.cpu import locate, write_code
from causalrn.model.state import DecoderState

_TILE = 8  # rows that one thread takes at a time


def embedding_work(embedding: Any, layer: None, state: DecoderState) -> Work:  # noqa: ARG001
    """What a `causalrn.model.embedding.Embedding` asks for: what a step begins with."""
    config = embedding.config
    tokens, places, phase_vectors = embedding.tables()
    values = {
        "page_size": state.page_size,
        "bos_id": config.bos_id,
        "sep_id": config.sep_id,
        "coupled": config.positions == "coupled",
        "recall": config.recall,
        "balanced": config.balanced_places,
        "counters": state.counter_array,
        "tokens": tokens,
        "places": places,
        "phase_vectors": phase_vectors,
    }
    return Work(values, per_row=4 * config.d_model)  # as measured


@operation(
    page_size=I64, bos_id=I64, sep_id=I64, coupled=BOOL, recall=BOOL, balanced=BOOL,
    counters=I64[:, ::1], tokens=F32[:, ::1], places=F32[:, ::1], phase_vectors=F32[:, ::1],
)  # fmt: skip
def embed(
    token_ids, starts, context_lens, slots, state_tables, n_threads, x, phases, reaches, page_size,
    bos_id, sep_id, coupled, recall, balanced, counters, tokens, places, phase_vectors,
):  # fmt: skip
    """Write the embeddings of the new tokens, their phases and reaches, and advance the counters.

    Args:
        page_size: in tokens.
        bos_id, sep_id, coupled, recall, balanced: as for `positions.advance`.
        counters: `[n_states, STATE_SIZE]` int64, updated in place.
        tokens: `[V, D - P]` float32, the table of tokens; the other P channels hold codes.
        places: `[L, D]`, the table of learned positions, or no rows.
        phase_vectors: `[n_phases, D]`, or no rows.
        The others are those of the step.
    """
    d_token, n_rows = tokens.shape[1], token_ids.shape[0]
    indices = np.empty(n_rows, np.int64)
    locate(
        token_ids, starts, context_lens, slots, state_tables, page_size, bos_id, sep_id, coupled,
        recall, counters, indices, phases, reaches,
    )  # fmt: skip
    n_tiles = (n_rows + _TILE - 1) // _TILE
    taken = np.zeros(n_threads, np.int64)
    for thread in jit.prange(n_threads):
        tile = take_near(taken, thread, n_threads, n_tiles)
        while tile < n_tiles:
            for n in range(tile * _TILE, min((tile + 1) * _TILE, n_rows)):
                token, index, phase = token_ids[n], indices[n], phases[n]
                for i in range(d_token):
                    x[n, i] = tokens[token, i]
                write_code(index, balanced, x[n, d_token:])
                if places.shape[0]:
                    for i in range(x.shape[1]):
                        x[n, i] += places[index, i]
                if phase_vectors.shape[0]:
                    for i in range(x.shape[1]):
                        x[n, i] += phase_vectors[phase, i]
            tile = take_near(taken, thread, n_threads, n_tiles)
