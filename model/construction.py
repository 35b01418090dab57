"""Decoders whose relations are set by formulas, so that they find exactly what they look for.

A token's vector has three parts: the digits of its id, one-hot, a code of the token's own, and the
code of its place. Codes are ±1, half of each, so that all vectors have the same sum and norm, and
normalization leaves codes alike. A reader's key is what it looks for, a memory's key the same with
the other sign: where they match they cancel, to the last bit.

- *Copying*, a block that works on output: the key is the place. Coupled positions give an output
  token the place of its source; the token shift gives a memory that of its predecessor.
- *Recall*, a block that works in turns of recall: the key is a sum over the last tokens of the
  turn. Each tap of the token shift turns the signs of a code in a way of its own and weighs it by
  `decay` to the power of its age; a memory's taps are one token behind. The more of the last tokens
  of two places agree, the less is left of the sum of their keys.

Values are the digits, each a spike of the same height, and readers are silent on them: a pair that
matches is nothing but the value of its memory. `model/ops/relation/README.md` derives how sure a
match that makes. What is left to learn is to read values out.
"""

import torch
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor

from model.config import ModelConfig
from model.decoder import Decoder
from model.embedding import Embedding
from model.mixers.normalized import NormalizedParams, NormalizedRelation
from model.ops.positions import RECALL
from model.validation import STRICT


class ConstructionError(ValueError):
    """A decoder that cannot be constructed. The message says what it would need."""


class Construction(BaseModel):
    """How a decoder is constructed.

    Attributes:
        base: of the digits that ids are written in; that of the whole vocabulary, or more, makes
            values one-hot.
        loudness: height of a digit in a token's vector, where codes are ±1.
        spike: height of a digit in a memory, where a place's code is ±1.
        decay: what a token counts in a key of recall, against the one after it.
    """

    model_config = STRICT

    base: PositiveInt = Field(default=16, ge=2)
    loudness: float = Field(default=12.0, gt=0)
    spike: float = Field(default=0.25, gt=0)
    decay: float = Field(default=0.84, gt=0, lt=1)


def digits(n_ids: int, base: int) -> Tensor:
    """The digits of all ids, one-hot side by side: `[n_ids, channels]`, the last digits first."""
    places = torch.arange(n_ids)
    columns = []
    while True:
        columns.append(torch.nn.functional.one_hot(places % base, min(base, n_ids)))
        places = places // base
        if not places.any():
            return torch.cat([part[:, part.any(0)] for part in columns], 1).float()


def balanced_codes(n: int, width: int) -> Tensor:
    """Random codes `[n, width]` of as many 1 as -1 each."""
    halves = torch.cat([torch.ones(width // 2), -torch.ones(width // 2)])
    return torch.stack([halves[torch.randperm(width)] for _ in range(n)])


def construct(decoder: Decoder, construction: Construction) -> None:
    """Set the embedding and the relations of a decoder; output and classifier stay random.

    Draws signs and codes from torch's global generator.

    Args:
        decoder: of coupled, balanced places, whose blocks `check` accepts.
        construction: how.

    Raises:
        ConstructionError: the decoder cannot be constructed.
    """
    config = decoder.config
    d_code = check(config, construction)
    values = digits(config.vocab_size, construction.base)
    with torch.no_grad():
        row = _embed(decoder.embedding, construction, values, d_code)
        one = 1 / row.std(correction=0)  # what 1 becomes when a token's vector is normalized
        for block, mixer in zip(config.blocks, decoder.mixers, strict=True):
            assert isinstance(mixer, NormalizedRelation)
            _set_relation(mixer, construction, values.shape[1], float(one))
            if block.phases == ("recall",):
                _look_for_tokens(mixer, construction.decay)
            else:
                _look_for_places(mixer)


def check(config: ModelConfig, construction: Construction) -> int:
    """Check that a decoder can be constructed.

    Args:
        config: its shape. Every block must be a keyed relation with silent values and tied keys
            that works on output alone, shifts all codes of places and has a key for each of their
            channels; or in recalls alone, shifts the channels in front of those, and has a key for
            each.
        construction: how.

    Returns:
        Channels of the codes of tokens.

    Raises:
        ConstructionError: it cannot; says what is in the way.
    """
    if config.positions != "coupled" or not config.balanced_places:
        raise ConstructionError("positions must be coupled, and balanced_places true")
    d_code, first_place = 0, config.d_model - config.d_position
    n_values = digits(config.vocab_size, construction.base).shape[1]
    for number, block in enumerate(config.blocks):
        where, params = f"blocks.{number}", block.params
        if not isinstance(params, NormalizedParams) or not (
            params.silent_values and params.tied_keys and params.within_turn
        ):
            raise ConstructionError(
                f"{where} must be a normalized relation with silent_values, tied_keys, within_turn"
            )
        if block.phases not in (("output",), ("recall",)):
            raise ConstructionError(f"{where}.phases must be output alone, or recall alone")
        first, end = params.shifted(config.d_model)
        wanted = first_place if block.phases == ("recall",) else config.d_model
        if end != wanted or params.n_keys != end - first or params.n_values < n_values:
            raise ConstructionError(
                f"{where} must shift channels that end at {wanted}, and have a key for each of "
                f"them and at least {n_values} values"
            )
        if block.phases == ("recall",):
            d_code = max(d_code, end - first)
        elif first != first_place or params.shift_width != 2:
            raise ConstructionError(
                f"{where} must shift all {config.d_position} channels by 2 taps"
            )
    if d_code % 2 or n_values >= first_place - d_code:
        raise ConstructionError(
            f"d_model must be at least {n_values + 1 + d_code + config.d_position}, for digits, a "
            f"channel that is always 0, and the codes of tokens, an even number, and of places"
        )
    return d_code


def _embed(embedding: Embedding, construction: Construction, values: Tensor, d_code: int) -> Tensor:
    """Set the vectors of tokens and phases; returns the vector of one token at some place."""
    config = embedding.config
    n, d_position = config.vocab_size, config.d_position
    codes = balanced_codes(n, d_code)
    codes[config.sep_id] = codes[config.bos_id]  # where a turn's parts begin, all alike
    table = torch.zeros_like(embedding.token.weight)
    table[:, : values.shape[1]] = construction.loudness * values
    table[:, table.shape[1] - d_code :] = codes
    embedding.token.weight.copy_(table)
    phases = torch.zeros_like(embedding.phase.weight)
    place = balanced_codes(1, d_position)[0]
    if config.recall:  # a recall has no place, and its vectors must be as long
        phases[RECALL, -d_position:] = place
    embedding.phase.weight.copy_(phases)
    return torch.cat([table[0], place])


def _set_relation(
    mixer: NormalizedRelation, construction: Construction, n_values: int, one: float
) -> None:
    """Set keys that cancel, one for each channel that is shifted, and values of one height."""
    first, end = mixer.params.shifted(mixer.d_model)
    mixer.reader.weight.zero_()
    mixer.reader.bias.zero_()
    mixer.reader.weight[:, first:end] = torch.eye(end - first) / one
    height = construction.spike / (construction.loudness * one)
    mixer.memory.weight.zero_()
    mixer.memory.weight[:n_values, :n_values] = height * torch.eye(n_values)
    mixer.memory.weight[:n_values, n_values] = -height  # always 0 but for the norm's mean
    mixer.output.bias.zero_()


def _look_for_places(mixer: NormalizedRelation) -> None:
    """Give a memory the place of its predecessor."""
    assert mixer.shift is not None
    mixer.shift.weight.zero_()
    mixer.shift.weight[0, 0] = mixer.shift.weight[1, 1] = 1
    if mixer.params.tells_match:
        mixer.tap_energy.fill_(mixer.params.n_keys)


def _look_for_tokens(mixer: NormalizedRelation, decay: float) -> None:
    """Sum up the tokens before, in readers with the token itself; older ones count less."""
    assert mixer.shift is not None
    taps = mixer.shift.weight
    n, n_channels = taps.shape[1] - 1, taps.shape[2]
    weights = decay ** torch.arange(n, dtype=torch.float64)
    signs = torch.randint(2, (n, n_channels)) * 2 - 1
    taps.zero_()
    taps[0, :-1] = taps[1, 1:] = (signs * weights[:, None]).float()
    if mixer.params.tells_match:
        mixer.tap_energy.copy_(n_channels * weights**2)
