"""The embedding of new tokens on a device. Where tokens stand, the host has found out."""

from typing import Any

import triton
import triton.language as tl

from causalrn.model.ops.positions import NOWHERE
from causalrn.model.step import Step

_NOWHERE = tl.constexpr(NOWHERE)


@triton.jit
def _splitmix64(x):
    z = x + 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit
def embed_rows(
    token_ids, before, indices, phases, tokens, places, phase_vectors, x, d, d_token, n_bits,
    HAS_PLACES: tl.constexpr, HAS_PHASES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the embedding of each row to `x` `[N, D]`.

    Args:
        token_ids, indices, phases: `[N]` int32. `~k` stands for entry k of `before`. If that
            is below 0, nobody wants what follows from it, and any id will do.
        before: int64, what the step before has found.
        tokens: `[V, d_token]`; the other channels hold the codes of places, ±1.
        places, phase_vectors: `[L, D]` and `[n_phases, D]`, if there are any.
        n_bits: of a code; the channels behind them hold the negatives of the first ones.
    """
    row = tl.program_id(0)
    channel = tl.arange(0, CHANNELS)
    is_channel, is_token = channel < d, channel < d_token
    index = tl.load(indices + row)
    token = tl.load(token_ids + row).to(tl.int64)
    taken = tl.load(before - 1 - token, token < 0, 0)
    token = tl.where(token < 0, tl.maximum(taken, 0), token)
    own = tl.load(tokens + token * d_token + channel, is_token, 0.0)
    bit = tl.maximum(channel - d_token, 0)
    sign = tl.where(bit < n_bits, 1.0, -1.0)
    bit = tl.where(bit < n_bits, bit, bit - n_bits)
    word = tl.maximum(index, 0).to(tl.uint64) * 64 + (bit // 64).to(tl.uint64)
    is_one = (_splitmix64(word) >> (bit % 64).to(tl.uint64)) & 1 == 1
    code = tl.where(index == _NOWHERE, 0.0, tl.where(is_one, sign, -sign))
    own = tl.where(is_token, own, code)
    if HAS_PLACES:
        own += tl.load(places + index.to(tl.int64) * d + channel, is_channel, 0.0)
    if HAS_PHASES:
        phase = tl.load(phases + row).to(tl.int64)
        own += tl.load(phase_vectors + phase * d + channel, is_channel, 0.0)
    tl.store(x + row.to(tl.int64) * d + channel, own, is_channel)


def embed(embedding: Any, step: Step, layer: None) -> None:  # noqa: ARG001
    """Write the embeddings of a step's new tokens; see `causalrn.model.embedding.Embedding`."""
    batch, config, tokens = step.scratch.batch, embedding.config, embedding.token.weight
    learned, coupled = config.positions == "learned", config.positions == "coupled"
    n_bits = config.d_position // 2 if config.balanced_places else config.d_position
    embed_rows[(batch.n_rows,)](
        batch.token_ids, step.scratch.found, batch.indices, batch.phases, tokens,
        embedding.position.weight if learned else tokens,
        embedding.phase.weight if coupled else tokens,
        step.x, config.d_model, tokens.shape[1], n_bits, HAS_PLACES=learned, HAS_PHASES=coupled,
        CHANNELS=triton.next_power_of_2(config.d_model),
    )  # fmt: skip
