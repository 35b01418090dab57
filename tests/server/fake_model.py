"""A model without weights that copies through the real storage, and checks how it is used.

Its pool holds the token ids themselves. What it answers comes from nowhere else, so a page that
two sequences share, a slot that was not reset or a token written in the wrong place is either
refused here or shows in what a client gets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.config import ModelConfig
from model.state import DecoderState, LayerSpec, RaggedBatch
from model.tokenizer import ByteTokenizer, LetterTokenizer, StreamDecoder, Tokenizer

_POOL_OF_IDS = LayerSpec(pool_width=1, n_head=1, sum_width=0, tail_shape=(0, 1))


class MisuseError(AssertionError):
    """The engine broke the decoder's contract."""


class FakeDecoder:
    """Copies: after `BOS a b c SEP` it wants `a b c EOS`.

    Attributes:
        before_extend: called with every batch, on the engine's thread; it may block, or raise.
        batches: sizes of all batches so far, as `(sequences, tokens)`.
        misuses: what was wrong so far.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.before_extend: Callable[[RaggedBatch], None] = lambda _: None
        self.batches: list[tuple[int, int]] = []
        self.misuses: list[str] = []
        self._written: dict[int, list[int]] = {}

    def new_state(self, *, n_pages: int, page_size: int, n_slots: int) -> DecoderState:
        state = DecoderState(
            [_POOL_OF_IDS], n_pages=n_pages, page_size=page_size, n_slots=n_slots, n_counters=1
        )
        # Never-written memory equals no token.
        state.layers[0].pool.fill_(float("nan"))
        return state

    def extend(self, batch: RaggedBatch, state: DecoderState) -> Tensor:
        self.before_extend(batch)
        try:
            return self._extend(batch, state)
        except MisuseError as error:
            self.misuses.append(str(error))
            raise

    def _extend(self, batch: RaggedBatch, state: DecoderState) -> Tensor:
        n_sequences = len(batch.slots)
        _require(len(batch.starts) == n_sequences + 1, "starts must have S + 1 entries")
        _require(
            batch.starts[0] == 0 and batch.starts[-1] == len(batch.token_ids), "starts must cover"
        )
        _require(len(set(batch.slots.tolist())) == n_sequences, "two sequences share a slot")
        self.batches.append((n_sequences, len(batch.token_ids)))
        taken: set[int] = set()
        logits = torch.zeros(n_sequences, self.config.vocab_size)
        for s, slot in enumerate(batch.slots.tolist()):
            new = batch.token_ids[batch.starts[s] : batch.starts[s + 1]].tolist()
            context = int(batch.context_lens[s])
            _require(len(new) >= 1, "a sequence brings no token")
            _require(0 <= slot < state.n_slots, "no such slot")
            _require(context + len(new) <= self.config.max_seq_len, "longer than the model holds")
            if int(state.counters[slot, 0]) == 0:
                self._written[slot] = []
            written = self._written[slot]
            _require(
                len(written) == context,
                f"slot {slot} has {len(written)} tokens, the batch says {context}",
            )
            pages = batch.block_tables[s, : -(-(context + len(new)) // state.page_size)].tolist()
            _require(
                all(0 <= page < state.n_pages for page in pages) and len(set(pages)) == len(pages),
                "pages must be different pages of the pool",
            )
            _require(taken.isdisjoint(pages), "two sequences share a page")
            taken.update(pages)
            held = self._write(state, pages, context, new)
            written += new
            _require(held == written, f"the pages of slot {slot} hold another sequence's tokens")
            state.counters[slot, 0] = len(written)
            logits[s, self._next(held)] = 8.0
        return logits

    def _write(
        self, state: DecoderState, pages: list[int], context: int, new: list[int]
    ) -> list[float]:
        pool = state.layers[0].pool.view(state.n_pages, state.page_size)
        for place, token_id in enumerate(new, start=context):
            page, offset = pages[place // state.page_size], place % state.page_size
            pool[page, offset] = token_id
        held: list[float] = pool[pages].flatten()[: context + len(new)].tolist()
        return held

    def _next(self, held: list[float]) -> int:
        if self.config.sep_id not in held:
            return self.config.bos_id
        sep = held.index(self.config.sep_id)
        wanted = 1 + len(held) - 1 - sep
        return int(held[wanted]) if wanted < sep else self.config.eos_id


@dataclass
class FakeModel:
    """What `create_app` and `Engine` take in place of a checkpoint."""

    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)
    max_seq_len: int = 4096
    name: str = "fake-copy"
    fingerprint: str = "0" * 64
    config: ModelConfig = field(init=False)
    decoder: FakeDecoder = field(init=False)

    def __post_init__(self) -> None:
        self.config = ModelConfig(
            vocab_size=self.tokenizer.vocab_size,
            bos_id=self.tokenizer.bos_id,
            sep_id=self.tokenizer.sep_id,
            eos_id=self.tokenizer.eos_id,
            d_model=8,
            d_relation=8,
            n_head=1,
            mixers=("normalized",),
            positions="none",
            d_position=0,
            shift_width=1,
            max_seq_len=self.max_seq_len,
        )
        self.decoder = FakeDecoder(self.config)

    def wrap(self, ids: Sequence[int]) -> list[int]:
        return [self.config.bos_id, *ids, self.config.sep_id]


class VerboseTokenizer(ByteTokenizer):
    """Bytes whose text is ten thousand times as long, to fill a socket with few tokens."""

    expansion = 10_000

    def stream_decoder(self) -> StreamDecoder:
        return _VerboseDecoder()


class _VerboseDecoder:
    def push(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) * VerboseTokenizer.expansion for i in ids)

    def flush(self) -> str:
        return ""


def letters() -> FakeModel:
    """A model that knows the letters a to z only."""
    return FakeModel(LetterTokenizer())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise MisuseError(message)
