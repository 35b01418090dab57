"""Decoders whose relations are set by formulas, so that they find exactly what they look for.

A token's vector has three parts: the digits of its id, one-hot, a code of the token's own, and the
code of its place. Codes are ±1, half of each, so that all vectors have the same sum and norm, and
normalization leaves codes alike. (Tokens at which the parts of a turn begin and end have no code of
their own, but two channels that have its norm in its stead.) A reader's key is what it looks for, a
memory's key the same with the other sign: where they match they cancel, to the last bit.

- *Copying*, a block that works on output: the key is the place. Coupled positions give an output
  token the place of its source; the token shift gives a memory that of its predecessor.
- *Recall*, a block that works in turns of recall: the key is a sum over the last tokens of the
  turn. The code of a token repeats a word of `WORD` signs. Each tap of the token shift takes one of
  these repetitions, turns its signs in a way of its own and weighs it by `decay` to the power of
  its age; a memory's taps are one token behind. The more of the last tokens of two places agree,
  the less is left of the sum of their keys. Since only every so many taps share channels, it hardly
  depends on the tokens how much a tap adds to that: so it shows whether all of a prefix agrees.

Values are the digits, each a spike of the same height, and readers are silent on them: a pair that
matches is nothing but the value of its memory. `model/ops/relation/README.md` derives how sure a
match that makes. What is left to learn is to read values out.
"""

import math

import torch
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.embedding import Embedding
from causalrn.model.mixers.normalized import NormalizedParams, NormalizedRelation
from causalrn.model.ops.positions import RECALL
from causalrn.model.validation import STRICT

WORD = 16
"""Signs that tell a token from others, and channels of a key that one token takes."""

# Generates the octacode, a self-dual code over the integers modulo 4. Its 256 words, two bits a
# letter by Gray's map, are the Nordstrom-Robinson code. Source: Hammons, Kumar, Calderbank, Sloane
# and Solé, "The Z4-linearity of Kerdock, Preparata, Goethals, and related codes" (1994).
_OCTACODE = torch.tensor(
    [
        [1, 0, 0, 0, 3, 1, 2, 1],
        [0, 1, 0, 0, 1, 2, 3, 1],
        [0, 0, 1, 0, 3, 3, 3, 2],
        [0, 0, 0, 1, 2, 3, 1, 1],
    ]
)
_N_WORDS = 256
_GRAY = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])


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


def words() -> Tensor:
    """256 words of `WORD` signs, `[256, WORD]`; any two differ in six signs or more."""
    messages = torch.arange(_N_WORDS)[:, None] // 4 ** torch.arange(len(_OCTACODE)) % 4
    return _GRAY[messages @ _OCTACODE % 4].flatten(1)


def balanced_codes(n: int, width: int) -> Tensor:
    """Random codes `[n, width]` of as many 1 as -1 each."""
    halves = torch.cat([torch.ones(width // 2), -torch.ones(width // 2)])
    return torch.stack([halves[torch.randperm(width)] for _ in range(n)])


def token_codes(n: int, width: int) -> Tensor:
    """Codes of tokens, `[n, width]`: repetitions of a word side by side, every other one negated.

    Args:
        n: how many, at most 256.
        width: an even number of words.
    """
    n_groups = width // WORD
    signs = 1 - 2 * (torch.arange(n_groups) % 2)
    return (words()[:n, :, None] * signs).flatten(1)


def recall_taps(n: int, width: int, decay: float) -> Tensor:
    """Weights `[n, width]` that make codes of the last n tokens a key; see the module's text.

    Each tap takes a word's channels, the one after it the next word's, and so on in turn. Taps that
    share channels turn signs in orthogonal ways.
    """
    n_groups = width // WORD
    turns = [_orthogonal_signs(WORD) for _ in range(n_groups)]
    taps = torch.zeros(n, width)
    for tap in range(n):
        group, row = tap % n_groups, tap // n_groups % WORD
        taps[tap, group::n_groups] = decay**tap * turns[group][row]
    return taps


def _orthogonal_signs(n: int) -> Tensor:
    """A random matrix `[n, n]` of ±1 whose rows are orthogonal; n is a power of 2."""
    signs = torch.ones(1, 1)
    while len(signs) < n:
        signs = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), signs)
    return signs[:, torch.randperm(n)] * (torch.randint(2, (n,)) * 2 - 1)


def construct(decoder: Decoder, construction: Construction) -> None:
    """Set the embedding and the relations of a decoder; output and classifier stay random.

    Draws signs from torch's global generator.

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
            channels; or in recalls alone, shifts channels in front of those, twice `WORD` times a
            square, and has a key for each.
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
            if d_code not in (0, end - first):
                raise ConstructionError("blocks that recall must shift the same channels")
            d_code = end - first
        elif first != first_place or params.shift_width != 2:
            raise ConstructionError(
                f"{where} must shift all {config.d_position} channels by 2 taps"
            )
    pairs = d_code // (2 * WORD)
    if pairs * 2 * WORD != d_code or math.isqrt(pairs) ** 2 != pairs:  # so that roots are integers
        raise ConstructionError(
            f"a block that recalls must shift {2 * WORD} channels times 1, 4 or 9, got {d_code}"
        )
    n_borders = len(_borders(config))
    if d_code and config.vocab_size - n_borders > _N_WORDS:
        raise ConstructionError(
            f"a vocabulary must have at most {_N_WORDS + n_borders} tokens to be recalled, "
            f"got {config.vocab_size}"
        )
    n_spare = 3 if d_code else 1
    if first_place - d_code < n_values + n_spare:
        raise ConstructionError(
            f"d_model must be at least {n_values + n_spare + d_code + config.d_position}, for "
            f"digits, {n_spare} beside them, and the codes of tokens and of places"
        )
    return d_code


def _borders(config: ModelConfig) -> list[int]:
    """Tokens at which the parts of a turn begin and end, in ascending order."""
    return sorted((config.bos_id, config.sep_id, config.eos_id))


def _embed(embedding: Embedding, construction: Construction, values: Tensor, d_code: int) -> Tensor:
    """Set the vectors of tokens and phases; returns the vector of one token at some place."""
    config = embedding.config
    n, n_values, d_position = config.vocab_size, values.shape[1], config.d_position
    table = torch.zeros_like(embedding.token.weight)
    table[:, :n_values] = construction.loudness * values
    if d_code:
        borders = _borders(config)
        others = [id for id in range(n) if id not in borders]
        table[others, -d_code:] = token_codes(len(others), d_code)
        root = math.isqrt(d_code // 2)
        table[borders, n_values + 1], table[borders, n_values + 2] = root, -root
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
    taps.zero_()
    taps[0, :-1] = taps[1, 1:] = recall_taps(n, n_channels, decay)
    if mixer.params.tells_match:
        ages = torch.arange(n, dtype=torch.float64)
        mixer.tap_energy.copy_(WORD * decay ** (2 * ages))
