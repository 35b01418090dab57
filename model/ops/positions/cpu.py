"""Positions, phases and codes on the CPU."""

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.positions import NOWHERE, OUTPUT, RECALL, SOURCE

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_WORD = np.uint64(64)
_ONE = np.uint64(1)


@jit.inline
def _splitmix64(x):
    """One output of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) for the state x."""
    z = x + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@jit.inline
def step(token_id, bos_id, sep_id, coupled, recall, counters):
    """Advance a sequence's counters `[STATE_SIZE]` over one token.

    Returns the position, the phase and the reach of that token.
    """
    seen, opened, index = counters
    reach = seen
    if coupled and token_id == bos_id:
        opened = index = seen
        reach = 0
    elif coupled and opened >= 0:
        reach = seen - opened
        if token_id == sep_id:
            index = opened
            if recall and reach == 1:
                index, reach = NOWHERE, 0
            opened = -1 - opened
    elif coupled:
        reach = (seen - 1 if index == NOWHERE else index) + 1 + opened
    counters[0], counters[1] = seen + 1, opened
    counters[2] = NOWHERE if index == NOWHERE else index + 1
    phase = SOURCE if opened >= 0 else RECALL if index == NOWHERE else OUTPUT
    return index, phase, reach


@jit.inline
def locate(
    token_ids, starts, context_lens, slots, state_tables, page_size, bos_id, sep_id, coupled,
    recall, counters, indices, phases, reaches,
):  # fmt: skip
    """Say where the new tokens of a step stand, and advance the counters of their sequences.

    Args:
        token_ids, starts, context_lens, slots, state_tables: see
            `causalrn.model.state.RaggedBatch`.
        page_size: in tokens.
        bos_id, sep_id, coupled, recall: as for `advance`.
        counters: `[n_states, STATE_SIZE]` int64, updated in place, and kept where pages fill.
        indices, phases, reaches: `[N]` int64, written.
    """
    for s in range(slots.shape[0]):  # token by token, but a few instructions each
        own = counters[slots[s]]
        for n in range(starts[s], starts[s + 1]):
            indices[n], phases[n], reaches[n] = step(
                token_ids[n], bos_id, sep_id, coupled, recall, own
            )  # fmt: skip
            held = context_lens[s] + n - starts[s] + 1
            if held % page_size == 0:
                row = state_tables[s, held // page_size - 1]
                if row >= 0:
                    counters[row] = own


@jit.sequential
def locate_alone(
    token_ids, starts, context_lens, slots, state_tables, page_size, bos_id, sep_id, coupled,
    recall, counters, indices, phases, reaches,
):  # fmt: skip
    """See `locate`; to be called from Python."""
    locate(
        token_ids, starts, context_lens, slots, state_tables, page_size, bos_id, sep_id, coupled,
        recall, counters, indices, phases, reaches,
    )  # fmt: skip


@jit.inline
def write_code(index, balanced, code):
    """Write the code of a position, `[P]` of ±1, or zeros for `NOWHERE`.

    The second half of a balanced code is the negative of the first.
    """
    if index == NOWHERE:
        code[:] = 0.0
        return
    n = code.shape[0] // 2 if balanced else code.shape[0]
    for word in range((n + 63) // 64):
        bits = _splitmix64(np.uint64(index) * _WORD + np.uint64(word))
        first = 64 * word
        for i in range(first, min(first + 64, n)):
            bit = (bits >> np.uint64(i - first)) & _ONE  # by itself, so that this becomes SIMD code
            code[i] = np.float32(1.0) if bit else np.float32(-1.0)
    for i in range(n, code.shape[0]):
        code[i] = -code[i - n]


@jit.kernel
def advance(
    token_ids, starts, bos_id, sep_id, coupled, recall, balanced, counters,
    indices, phases, reaches, codes,
):  # fmt: skip
    """Advance each sequence's counters over its tokens and say where each token stands.

    Args:
        token_ids: `[N]` int64, one sequence after the other.
        starts: `[S + 1]` int64; sequence s has tokens `starts[s]:starts[s + 1]`.
        bos_id, sep_id: ids that open a turn and its output.
        coupled: whether BOS and SEP set the position; else it is the number of tokens before.
        recall: whether a SEP right after its BOS opens a turn of recall.
        balanced: whether the second half of a code is the negative of the first.
        counters: `[S, STATE_SIZE]` int64, updated in place.
        indices: `[N]` int64, written: positions.
        phases: `[N]` int64, written.
        reaches: `[N]` int64, written.
        codes: `[N, P]` float32, written: the code of each position.
    """
    for s in jit.prange(counters.shape[0]):
        for n in range(starts[s], starts[s + 1]):
            indices[n], phases[n], reaches[n] = step(
                token_ids[n], bos_id, sep_id, coupled, recall, counters[s]
            )  # fmt: skip
            write_code(indices[n], balanced, codes[n])
