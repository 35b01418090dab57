"""Sessions: sequences that go on turn by turn, decoded greedily through the path that serves."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from model.checkpoint import Checkpoint
from model.state import RaggedBatch

_PAGE_SIZE = 64
_STEP_TOKENS = 2048  # that one call of the decoder takes, for scratch of a bounded size


class Sessions:
    """Some sequences in one state, each with pages of its own.

    Args:
        checkpoint: the model.
        sizes: tokens that each sequence may come to hold, those of a fork's origin not counted.

    """

    def __init__(self, checkpoint: Checkpoint, sizes: Sequence[int]) -> None:
        self._checkpoint = checkpoint
        # One more: a fork begins with a copy of a page that may be almost full.
        counts = [-(-size // _PAGE_SIZE) + 1 for size in sizes]
        self._own = np.split(np.arange(sum(counts), dtype=np.int32), np.cumsum(counts)[:-1])
        self._tables = list(self._own)
        self._state = checkpoint.decoder.new_state(
            n_pages=sum(counts), page_size=_PAGE_SIZE, n_slots=len(sizes)
        )
        self._unread: dict[int, list[int]] = {}
        self._lengths = np.zeros(len(sizes), np.int64)

    def length(self, sequence: int) -> int:
        """Tokens that a sequence holds, with the last one that it wrote."""
        return int(self._lengths[sequence]) + len(self._unread.get(sequence, []))

    def fork(self, origin: int, into: int) -> None:
        """Let a sequence begin with all that another one has read so far.

        Args:
            origin: goes on as before; its pages that are full are shared.
            into: forgets what it held.
        """
        full = int(self._lengths[origin]) // _PAGE_SIZE
        last = min(full, len(self._tables[origin]) - 1)
        self._state.fork(origin, into, int(self._tables[origin][last]), int(self._own[into][0]))
        self._tables[into] = np.concatenate([self._tables[origin][:full], self._own[into]])
        self._unread[into] = list(self._unread.get(origin, []))
        self._lengths[into] = self._lengths[origin]

    def read(self, new: Mapping[int, Sequence[int]]) -> dict[int, int]:
        """Read tokens into some of the sequences, which may take several steps.

        Args:
            new: at least one token for each sequence that is to read.

        Returns:
            The token that each of them finds likeliest to come next.
        """
        left = {s: [*self._unread.pop(s, []), *tokens] for s, tokens in new.items()}
        likeliest: dict[int, int] = {}
        while left:
            parts: dict[int, list[int]] = {}
            budget = _STEP_TOKENS
            for s in left:
                parts[s] = left[s][:budget]
                del left[s][:budget]
                budget -= len(parts[s])
                if not budget:
                    break
            likeliest |= self._step(parts)
            left = {s: tokens for s, tokens in left.items() if tokens}
        return likeliest

    def answer(
        self, prompts: Mapping[int, Sequence[int]], goes_on: Callable[[int, list[int]], bool]
    ) -> dict[int, list[int]]:
        """Continue some of the sequences until each ends with EOS or is stopped.

        What is written stays in the sequence. Its last token is read with the next turn.

        Args:
            prompts: tokens of each sequence to read first, at least one.
            goes_on: told a sequence and what it has written, which does not end with EOS, says
                whether it may write more.

        Returns:
            What each has written, EOS included.
        """
        written: dict[int, list[int]] = {s: [] for s in prompts}
        new: Mapping[int, Sequence[int]] = prompts
        while new:
            for s, token in self.read(new).items():
                written[s].append(token)
            new = {
                s: written[s][-1:]
                for s in new
                if written[s][-1] != self._checkpoint.config.eos_id and goes_on(s, written[s])
            }
        self._unread |= {s: tokens[-1:] for s, tokens in written.items()}
        return written

    def _step(self, new: Mapping[int, list[int]]) -> dict[int, int]:
        slots = np.array(list(new))
        counts = [len(tokens) for tokens in new.values()]
        width = max(len(self._tables[s]) for s in new)
        tables = np.full((len(slots), width), -1, np.int32)
        for row, s in enumerate(new):
            tables[row, : len(self._tables[s])] = self._tables[s]
        logits = self._checkpoint.decoder.extend(
            RaggedBatch(
                token_ids=np.concatenate(list(new.values())),
                starts=np.cumsum([0, *counts]),
                context_lens=self._lengths[slots],
                slots=slots,
                block_tables=tables,
            ),
            self._state,
        )
        self._lengths[slots] += counts
        return dict(zip(new, logits.argmax(-1).tolist(), strict=True))
