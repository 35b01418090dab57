"""Contexts of copying: turns of `BOS s SEP s EOS`, and of `BOS SEP prefix rest EOS` that recall.

The loss is on what a model has to write: the copy after SEP, the rest after a prefix.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import Generator

from causalrn.model.config import ModelConfig
from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tasks.strings import Ids, Source

_RELATED = 0.3  # share of the later strings of a context that resemble an earlier one
_LEAST_RECALL = 8  # tokens of a turn of recall, for which there must be room
_CUT = 0.25  # share of the copies in contexts with recall that end early, half of them at once
_LONGEST_SURE = 8  # tokens of a context that are told apart one by one, see `_Followers`


def draw_contexts(
    rng: Generator,
    config: ModelConfig,
    source: Source,
    *,
    lengths: tuple[int, int],
    max_turns: int,
    max_context: int,
    full: float,
    n_tokens: int,
    max_strings: int,
    max_offset: int,
    corruption: float,
    recall: float,
    window: int,
) -> Batch:
    """Draw a batch of contexts of similar size, so that little of it is padding.

    Half the time the longest length is uniform within bounds, half the time its logarithm is; every
    string has at least three quarters of it. The logarithm of the number of turns is uniform,
    except in contexts that are full.

    Args:
        rng: the source of all randomness.
        config: of the decoder, for its special ids.
        source: makes a string of a given length.
        lengths: shortest and longest string.
        max_turns: most strings in one context. Some of the later ones repeat an earlier one, whole
            or in part, with changes.
        max_context: tokens that several strings of one context may take.
        full: share of the batches whose contexts hold as many strings as both bounds allow.
        n_tokens: about how many tokens a batch holds.
        max_strings: most contexts in a batch, which bounds batches of short ones.
        max_offset: positions begin at a random number below a random bound, which is at most this.
        corruption: share of the output tokens that are read as another token, though the right
            one stays the target of the token before. What was written last then tells nothing
            about what comes next; its place does.
        recall: share of the later turns that recall a string of the context from a part of it. In
            such contexts some copies are cut short, and some strings are only read.
        window: tokens by which a recall finds what comes next. Where they have been followed by
            different tokens, it bears no loss.
    """
    shortest, longest = lengths
    if rng.random() < 0.5:
        limit = int(rng.integers(shortest, longest + 1))
    else:
        limit = int(np.exp(rng.uniform(np.log(shortest), np.log(longest + 1))))
    n_turns = 1
    if max_turns > 1:
        most = min(max_turns, max(1, max_context // (2 * limit + 3)))
        # Drawn only if asked for, so that recipes without it draw what they always drew.
        is_full = full > 0 and rng.random() < full
        n_turns = most if is_full else int(np.exp(rng.uniform(0, np.log(most + 1))))
    n_rows = int(np.clip(n_tokens // (n_turns * (2 * limit + 3) - 1), 1, max_strings))
    drawn = rng.integers(max(shortest, limit * 3 // 4), limit + 1, (n_rows, n_turns))
    width = int((2 * drawn + 3).sum(1).max()) - 1  # the last EOS is not read
    token_ids = np.full((n_rows, width + 1), config.eos_id, np.int64)
    targets = np.full_like(token_ids, IGNORED)
    for row in range(n_rows):
        begin = 0
        strings: list[Ids] = []
        followers = _Followers(window, config.eos_id)
        for n in drawn[row].tolist():
            if recall and strings and rng.random() < recall:
                for turn, wanted in _recalls(rng, config, strings, followers, window, 2 * n + 3):
                    end = begin + len(turn)
                    token_ids[row, begin:end], targets[row, begin:end] = turn, wanted
                    begin = end
                continue
            string = source(rng, n)
            if strings and rng.random() < _RELATED:
                string = _relative(rng, strings[rng.integers(len(strings))], string)
            strings.append(string)
            if recall:
                followers.add(string)
            output = _corrupt(rng, config, string, corruption)
            turn = np.array([config.bos_id, *string, config.sep_id, *output, config.eos_id])
            wanted = np.full_like(turn, IGNORED)
            wanted[n + 1 : -1] = [*string, config.eos_id]
            if recall and rng.random() < _CUT:
                kept = n + 2 + (int(rng.integers(n + 1)) if rng.random() < 0.5 else 0)
                turn, wanted = turn[:kept], wanted[:kept]
            end = begin + len(turn)
            token_ids[row, begin:end], targets[row, begin:end] = turn, wanted
            begin = end
    offsets = rng.integers(0, rng.integers(1, max_offset + 1), n_rows)
    return Batch(
        torch.from_numpy(token_ids[:, :width].copy()),
        torch.from_numpy(targets[:, :width].copy()),
        torch.from_numpy(offsets),
        {"length_limit": longest},
    )


def _recalls(
    rng: Generator,
    config: ModelConfig,
    strings: list[Ids],
    followers: "_Followers",
    window: int,
    room: int,
) -> Iterator[tuple[Ids, Ids]]:
    """Turns of recall and their targets, as many as have room.

    A prefix of one to `window` tokens may begin anywhere. What follows it bears a loss where the
    last `window` tokens leave no doubt about the next one.
    """
    while room >= _LEAST_RECALL:
        string = strings[rng.integers(len(strings))]
        begin = int(rng.integers(len(string))) if rng.random() < 0.5 else 0
        part = string[begin : begin + room - 3]
        n_prefix = int(rng.integers(1, window + 1))
        turn = np.array([config.bos_id, config.sep_id, *part, config.eos_id])
        wanted = np.full_like(turn, IGNORED)
        following = [*string.tolist(), config.eos_id][begin + 1 : begin + len(part) + 1]
        for n, token in enumerate(following, 1):
            if n >= n_prefix and followers.is_certain(part[:n].tolist()):
                wanted[n + 1] = token
        yield turn, wanted
        room -= len(turn)


class _Followers:
    """What follows the sequences of tokens in some strings, `end` after the last.

    Only sequences of `width` tokens are kept, and those of up to `_LONGEST_SURE`, which stand in
    for the lengths in between.
    """

    def __init__(self, width: int, end: int) -> None:
        self._width, self._end = width, end
        self._known: dict[tuple[int, ...], int | None] = {}

    def add(self, string: Ids) -> None:
        """Note what follows what in a string."""
        tokens = string.tolist()
        for place, token in enumerate([*tokens[1:], self._end], 1):
            for n in (*range(1, min(_LONGEST_SURE, place) + 1), self._width):
                if n > place:
                    break
                key = tuple(tokens[place - n : place])
                if self._known.setdefault(key, token) != token:
                    self._known[key] = None

    def is_certain(self, tokens: list[int]) -> bool:
        """Whether one token alone follows these."""
        n = self._width if len(tokens) >= self._width else min(_LONGEST_SURE, len(tokens))
        return self._known.get(tuple(tokens[-n:])) is not None


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
