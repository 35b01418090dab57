"""Running a checkpoint without a server: sequences with pages of their own, driven by `extend`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.draws import RowDraw
from causalrn.model.predictions import Predictions
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.state import RaggedBatch, SequenceMemory

_PAGE_SIZE = 64
_STEP_TOKENS = 2048  # most tokens in one call of the decoder, which bounds its scratch


class Runner:
    """Several sequences of one checkpoint, each of which reads and writes turn by turn.

    Args:
        checkpoint: the model.
        sizes: for each sequence, how many tokens it may come to hold. A fork needs room only for
            what it adds to its origin.
    """

    def __init__(self, checkpoint: Checkpoint, sizes: Sequence[int]) -> None:
        self._checkpoint = checkpoint
        # One page more: a fork begins with a copy of a page that may be almost full.
        counts = [-(-size // _PAGE_SIZE) + 1 for size in sizes]
        self._own = np.split(np.arange(sum(counts), dtype=np.int32), np.cumsum(counts)[:-1])
        self._tables = list(self._own)
        self._state = checkpoint.decoder.new_state(
            n_pages=sum(counts), page_size=_PAGE_SIZE, n_slots=max(1, len(sizes))
        )
        self._unread: dict[int, list[int]] = {}
        self._lengths = np.zeros(len(sizes), np.int64)

    def length(self, sequence: int) -> int:
        """Tokens that a sequence holds, including the last one that it wrote."""
        return int(self._lengths[sequence]) + len(self._unread.get(sequence, []))

    def match(self, sequence: int) -> float | None:
        """How well a sequence has found what it looked for since its turn began.

        That is `Decoder.match` for what it has read so far; a last token that it wrote and has not
        read yet does not count. None for models that do not tell.
        """
        return self._checkpoint.decoder.match(self._state, sequence)

    def fork(self, origin: int, into: int) -> None:
        """Start a sequence over as a copy of another one.

        Args:
            origin: goes on as before; its full pages are shared.
            into: loses what it held.
        """
        full = int(self._lengths[origin]) // _PAGE_SIZE
        last = min(full, len(self._tables[origin]) - 1)
        self._state.copy_state(origin, into)
        self._state.copy_page(int(self._tables[origin][last]), int(self._own[into][0]))
        self._tables[into] = np.concatenate([self._tables[origin][:full], self._own[into]])
        self._unread[into] = list(self._unread.get(origin, []))
        self._lengths[into] = self._lengths[origin]

    def export(self, sequence: int) -> SequenceMemory:
        """A copy of what is remembered of a sequence, of the tokens that it has read."""
        n = int(self._lengths[sequence])
        return self._state.export(self._pages(sequence, n), n, sequence)

    def load(self, sequence: int, memory: SequenceMemory, n_tokens: int) -> None:
        """Let a sequence go on from what `export` gave, here or elsewhere.

        Args:
            sequence: loses what it held.
            memory: of a sequence of the same model.
            n_tokens: how many tokens it is of.
        """
        self._tables[sequence] = self._own[sequence]
        self._unread.pop(sequence, None)
        self._state.load(self._pages(sequence, n_tokens), memory, sequence)
        self._lengths[sequence] = n_tokens

    def _pages(self, sequence: int, n_tokens: int) -> list[int]:
        pages: list[int] = self._tables[sequence][: -(-n_tokens // _PAGE_SIZE)].tolist()
        return pages

    def read(self, new: Mapping[int, Sequence[int]]) -> dict[int, NDArray[np.float32]]:
        """Append tokens to some of the sequences, in as many steps as that takes.

        Args:
            new: at least one token for each sequence that is to read.

        Returns:
            For each of these sequences, the logits `[V]` of what comes next.
        """
        return {s: following.logits for s, following in self._read(new, {}).items()}

    def _read(
        self, new: Mapping[int, Sequence[int]], samplers: Mapping[int, Sampler]
    ) -> dict[int, "_Following"]:
        left = {s: [*self._unread.pop(s, []), *tokens] for s, tokens in new.items()}
        found: dict[int, _Following] = {}
        while left:
            parts: dict[int, list[int]] = {}
            budget = _STEP_TOKENS
            for s in left:
                parts[s] = left[s][:budget]
                del left[s][:budget]
                budget -= len(parts[s])
                if not budget:
                    break
            new_found = self._step(parts, samplers)
            left = {s: tokens for s, tokens in left.items() if tokens}
            if left:
                for following in new_found.values():
                    following.keep()
            found |= new_found
        return found

    def write(
        self,
        prompts: Mapping[int, Sequence[int]],
        goes_on: Callable[[int, list[int]], bool],
        samplers: Mapping[int, Sampler] | None = None,
    ) -> Iterator[dict[int, int]]:
        """Continue some of the sequences, one token a step, until each has ended or is stopped.

        What is written stays in the sequence; its last token is read with the next turn.

        Args:
            prompts: at least one token for each sequence to read first.
            goes_on: decides whether a sequence writes another token. It is given the sequence and
                what that has written since the prompt, and is not asked after EOS.
            samplers: choose the tokens of each sequence; the likeliest ones if left out.

        Yields:
            For each step, the new token of each sequence that took part in it, EOS included.
        """
        written: dict[int, list[int]] = {s: [] for s in prompts}
        samplers = samplers or dict.fromkeys(prompts, Sampler(SamplingParams()))
        new: Mapping[int, Sequence[int]] = prompts
        while new:
            chosen = {s: one.choose(samplers[s]) for s, one in self._read(new, samplers).items()}
            self._unread |= {s: [token] for s, token in chosen.items()}
            for s, token in chosen.items():
                written[s].append(token)
            yield chosen
            # What was chosen waits to be read, so there is nothing to add to it.
            new = {
                s: []
                for s, token in chosen.items()
                if token != self._checkpoint.config.eos_id and goes_on(s, written[s])
            }

    def answer(
        self, prompts: Mapping[int, Sequence[int]], goes_on: Callable[[int, list[int]], bool]
    ) -> dict[int, list[int]]:
        """All that `write` writes with the likeliest tokens, by sequence, EOS included."""
        written: dict[int, list[int]] = {s: [] for s in prompts}
        for tokens in self.write(prompts, goes_on):
            for s, token in tokens.items():
                written[s].append(token)
        return written

    def _step(
        self, new: Mapping[int, list[int]], samplers: Mapping[int, Sampler]
    ) -> dict[int, "_Following"]:
        decoder = self._checkpoint.decoder
        slots = np.array(list(new))
        counts = [len(tokens) for tokens in new.values()]
        width = max(len(self._tables[s]) for s in new)
        tables = np.full((len(slots), width), -1, np.int32)
        for row, s in enumerate(new):
            tables[row, : len(self._tables[s])] = self._tables[s]
        draws = []
        if decoder.samples:
            drawing = {row: samplers[s] for row, s in enumerate(new) if s in samplers}
            draws = [
                RowDraw(row, *sampler.draws([], [None]))
                for row, sampler in drawing.items()
                if not sampler.is_greedy
            ]
        found = decoder.extend(
            RaggedBatch(
                token_ids=np.concatenate(list(new.values())),
                starts=np.cumsum([0, *counts]),
                context_lens=self._lengths[slots],
                slots=slots,
                block_tables=tables,
            ),
            self._state,
            draws=draws,
        )
        self._lengths[slots] += counts
        chosen = [] if found.chosen is None else found.chosen.tolist()
        tokens = dict(zip((one.row for one in draws), chosen, strict=True))
        return {s: _Following(found, row, tokens.get(row, -1)) for row, s in enumerate(new)}


class _Following(NamedTuple):
    """What comes next in a sequence: a row of predictions.

    Attributes:
        chosen: the token that the decoder drew from it; -1 if it did not.
    """

    predictions: Predictions
    row: int
    chosen: int

    @property
    def logits(self) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.predictions.logits.numpy()[self.row]
        return found

    def keep(self) -> None:
        """Copy what the decoder's next step may write over."""
        self.predictions.logits.numpy()

    def choose(self, sampler: Sampler) -> int:
        token_id = self.chosen
        if sampler.is_greedy:
            token_id = int(self.predictions.likeliest[self.row])
        if token_id < 0:
            return sampler.sample(self.logits)
        sampler.take(token_id)
        return token_id
