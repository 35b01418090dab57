"""The copying task: `BOS s SEP s EOS`; the loss is on what comes after SEP."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from model.config import ModelConfig
from model.tasks.strings import Ids, Source

IGNORED = -100  # target of the tokens that bear no loss


@dataclass(frozen=True)
class CopyBatch:
    """Teacher-forced strings to copy.

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
    n_tokens: int,
    max_strings: int,
    max_offset: int,
    corruption: float,
) -> CopyBatch:
    """Draw a batch of strings of similar length, so that little of it is padding.

    Half the time the longest length is uniform within bounds, half the time its logarithm is;
    the others lie between three quarters of it and it.

    Args:
        rng: everything is drawn from it.
        config: of the decoder, for its special ids.
        source: makes a string of a given length.
        lengths: shortest and longest string.
        n_tokens: about how many tokens a batch holds.
        max_strings: strings at most, which bounds batches of short ones.
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
    n_strings = int(np.clip(n_tokens // (2 * limit + 2), 2, max_strings))
    drawn = rng.integers(max(shortest, limit * 3 // 4), limit + 1, n_strings)
    token_ids = np.full((n_strings, 2 * drawn.max() + 2), config.eos_id, np.int64)
    targets = np.full_like(token_ids, IGNORED)
    for row, n in enumerate(drawn):
        string = source(rng, int(n))
        output = _corrupt(rng, config, string, corruption)
        token_ids[row, : 2 * n + 2] = [config.bos_id, *string, config.sep_id, *output]
        targets[row, n + 1 : 2 * n + 2] = [*string, config.eos_id]
    offsets = rng.integers(0, rng.integers(1, max_offset + 1), n_strings)
    return CopyBatch(*(torch.from_numpy(array) for array in (token_ids, targets, offsets)))


def _corrupt(rng: Generator, config: ModelConfig, string: Ids, share: float) -> Ids:
    """Replace a share of a string, half by others of its own tokens, half by any content ids."""
    hit = rng.random(len(string)) < share
    specials = [config.bos_id, config.sep_id, config.eos_id]
    content = np.setdiff1d(np.arange(config.vocab_size), specials)
    own = rng.random(len(string)) < 0.5
    others = np.where(own, rng.choice(string, len(string)), rng.choice(content, len(string)))
    return np.where(hit, others, string)
