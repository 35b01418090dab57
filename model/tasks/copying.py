"""The copying task: turns of `BOS s SEP s EOS`; the loss is on what comes after each SEP."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from model.config import ModelConfig
from model.tasks.strings import Ids, Source

IGNORED = -100  # target of the tokens that bear no loss
_RELATED = 0.3  # share of the later strings of a context that resemble an earlier one


@dataclass(frozen=True)
class CopyBatch:
    """Teacher-forced contexts of one or several strings to copy.

    Attributes:
        token_ids: `[B, T]` int64, padded with EOS.
        targets: `[B, T]` int64, the next token after SEP and each output token, else `IGNORED`.
        offsets: `[B]` int64, where positions begin.
    """

    token_ids: Tensor
    targets: Tensor
    offsets: Tensor


def copy_batch(
    rng: Generator,
    config: ModelConfig,
    source: Source,
    *,
    lengths: tuple[int, int],
    max_turns: int,
    max_context: int,
    n_tokens: int,
    max_strings: int,
    max_offset: int,
    corruption: float,
) -> CopyBatch:
    """Draw a batch of contexts of similar size, so that little of it is padding.

    Half the time the longest length is uniform within bounds, half the time its logarithm is;
    the other strings lie between three quarters of it and it. The logarithm of the number of turns
    is uniform.

    Args:
        rng: everything is drawn from it.
        config: of the decoder, for its special ids.
        source: makes a string of a given length.
        lengths: shortest and longest string.
        max_turns: strings of one context at most. Some of the later ones are an earlier one again,
            whole or in part, with changes.
        max_context: tokens that several strings of one context may take.
        n_tokens: about how many tokens a batch holds.
        max_strings: contexts of a batch at most, which bounds batches of short ones.
        max_offset: positions begin at a random number below a random bound of at most this.
        corruption: share of the output tokens that are read as another token, though the right
            one stays the target of the token before. What was written last then tells nothing
            about what comes next; its place does.
    """
    shortest, longest = lengths
    if rng.random() < 0.5:
        limit = int(rng.integers(shortest, longest + 1))
    else:
        limit = int(np.exp(rng.uniform(np.log(shortest), np.log(longest + 1))))
    n_turns = 1
    if max_turns > 1:
        most = min(max_turns, max(1, max_context // (2 * limit + 3)))
        n_turns = int(np.exp(rng.uniform(0, np.log(most + 1))))
    n_rows = int(np.clip(n_tokens // (n_turns * (2 * limit + 3) - 1), 2, max_strings))
    drawn = rng.integers(max(shortest, limit * 3 // 4), limit + 1, (n_rows, n_turns))
    width = int((2 * drawn + 3).sum(1).max()) - 1  # the last EOS is not read
    token_ids = np.full((n_rows, width + 1), config.eos_id, np.int64)
    targets = np.full_like(token_ids, IGNORED)
    for row in range(n_rows):
        begin = 0
        strings: list[Ids] = []
        for n in drawn[row].tolist():
            string = source(rng, n)
            if strings and rng.random() < _RELATED:
                string = _relative(rng, strings[rng.integers(len(strings))], string)
            strings.append(string)
            output = _corrupt(rng, config, string, corruption)
            end = begin + 2 * n + 3
            turn = [config.bos_id, *string, config.sep_id, *output, config.eos_id]
            token_ids[row, begin:end] = turn
            targets[row, begin + n + 1 : end - 1] = [*string, config.eos_id]
            begin = end
    offsets = rng.integers(0, rng.integers(1, max_offset + 1), n_rows)
    return CopyBatch(
        torch.from_numpy(token_ids[:, :width].copy()),
        torch.from_numpy(targets[:, :width].copy()),
        torch.from_numpy(offsets),
    )


def _relative(rng: Generator, earlier: Ids, fresh: Ids) -> Ids:
    """A string as long as `fresh` that goes on like `earlier` from some place on, with changes."""
    n = len(fresh)
    begin = rng.integers(len(earlier)) if rng.random() < 0.5 else 0
    string = np.resize(np.roll(earlier, -begin), n)
    changed = rng.random(n) < rng.choice([0.0, 0.05, 0.3])
    return np.where(changed, fresh, string)


def _corrupt(rng: Generator, config: ModelConfig, string: Ids, share: float) -> Ids:
    """Replace a share of a string, half by others of its own tokens, half by any content ids."""
    hit = rng.random(len(string)) < share
    specials = [config.bos_id, config.sep_id, config.eos_id]
    content = np.setdiff1d(np.arange(config.vocab_size), specials)
    own = rng.random(len(string)) < 0.5
    others = np.where(own, rng.choice(string, len(string)), rng.choice(content, len(string)))
    return np.where(hit, others, string)
