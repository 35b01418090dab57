"""A model without weights that copies through the real storage, and checks how it is used.

Its pool holds the token ids themselves. What it answers comes from nowhere else, so a page that
two sequences share, a slot that was not reset or a token written in the wrong place is either
refused here or shows in what a client gets.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalrn.model.blueprint import SPECIALS
from causalrn.model.config import ModelConfig
from causalrn.model.draws import RowDraw
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch, TensorSpec
from causalrn.model.tasks.base import Task
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from causalrn.model.tokenizers.base import StreamDecoder, Tokenizer
from causalrn.model.tokenizers.byte import ByteTokenizer

_POOL_OF_IDS = LayerSpec(pool=(TensorSpec("pool", (1,)),))


class MisuseError(AssertionError):
    """The engine broke the decoder's contract."""


class FakeDecoder:
    """Copies: after `BOS a b c SEP` it wants `a b c EOS`, and the least likely token is BOS.

    Only the last turn counts. If the model knows recall, `BOS SEP a b` goes on with what came after
    the first `a b` before this turn, up to the next special id. If it can tell, its match is the
    share of what stands after SEP that came before, in one piece and from its beginning.

    A slot keeps the number of its tokens and a hash of them; so does every full page, for those who
    go on from it. What a sequence finds in its pages must have that hash.

    Attributes:
        before_extend: called with every batch, on the engine's thread; it may block, or raise.
        batches: sizes of all batches so far, as `(sequences, tokens)`.
        misuses: what was wrong so far.
        state: the storage that was made last, which this keeps nobody from giving up.
    """

    samples = runs_ahead = False

    def __init__(self, config: ModelConfig, *, tells_match: bool = False) -> None:
        self.config = config
        self._tells_match = tells_match
        self.before_extend: Callable[[RaggedBatch], None] = lambda _: None
        self.batches: list[tuple[int, int]] = []
        self.misuses: list[str] = []
        self._held: dict[int, list[float]] = {}
        self.state: weakref.ref[DecoderState]

    def prepare(self, state: DecoderState) -> None:
        pass

    @property
    def specs(self) -> list[LayerSpec]:
        return [_POOL_OF_IDS]

    @property
    def n_products(self) -> int:
        return 3 * 8 * 8

    @property
    def n_pair_numbers(self) -> int:
        return prod(_POOL_OF_IDS.pool[0].shape)

    def new_state(
        self, *, n_pages: int, page_size: int, n_slots: int, n_rows: int = 0
    ) -> DecoderState:
        state = DecoderState(
            self.specs,
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_rows=n_rows,
            n_counters=2,
        )
        self.state = weakref.ref(state)
        # Never-written memory equals no token.
        state.layers[0].pool["pool"].fill_(float("nan"))
        return state

    def counters(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        return np.array([len(token_ids), _hash(token_ids)])

    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64] | None = None,
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        _require(not draws, "this decoder leaves draws to others")
        self.before_extend(batch)
        try:
            logits = self._extend(batch, state)
        except MisuseError as error:
            self.misuses.append(str(error))
            raise
        wanted = torch.from_numpy(batch.starts[1:] - 1 if rows is None else rows)
        return Predictions.of(logits[wanted])

    def _extend(self, batch: RaggedBatch, state: DecoderState) -> Tensor:
        n_sequences = len(batch.slots)
        _require(len(batch.starts) == n_sequences + 1, "starts must have S + 1 entries")
        _require(
            batch.starts[0] == 0 and batch.starts[-1] == len(batch.token_ids), "starts must cover"
        )
        _require(len(set(batch.slots.tolist())) == n_sequences, "two sequences share a slot")
        self.batches.append((n_sequences, len(batch.token_ids)))
        size = state.page_size
        tables = []
        for s, context in enumerate(batch.context_lens.tolist()):
            n_held = context + int(batch.starts[s + 1] - batch.starts[s])
            tables.append(batch.block_tables[s, : -(-n_held // size)].tolist())
            pages = tables[-1]
            _require(
                all(0 <= page < state.n_pages for page in pages) and len(set(pages)) == len(pages),
                "pages must be different pages of the pool",
            )
        for s, context in enumerate(batch.context_lens.tolist()):
            written = set(tables[s][context // size :])
            others = {page for i, pages in enumerate(tables) if i != s for page in pages}
            _require(written.isdisjoint(others), "a page that is written is another's as well")
        logits = torch.zeros(len(batch.token_ids), self.config.vocab_size)
        for s, slot in enumerate(batch.slots.tolist()):
            first, last = batch.starts[s : s + 2].tolist()
            context = int(batch.context_lens[s])
            _require(last > first, "a sequence brings no token")
            _require(0 <= slot < state.n_slots, "no such slot")
            _require(context + last - first <= self.config.max_seq_len, "longer than the model")
            pool = state.layers[0].pool["pool"].view(state.n_pages, size)
            held: list[float] = pool[tables[s]].flatten()[:context].tolist()
            counters = state.counters[slot].tolist()
            _require(
                counters == [context, _hash(held)],
                f"slot {slot} holds another sequence than its pages",
            )
            for row in range(first, last):
                token_id = int(batch.token_ids[row])
                page, offset = tables[s][len(held) // size], len(held) % size
                pool[page, offset] = token_id
                held.append(token_id)
                state.counters[slot, 0] = len(held)
                state.counters[slot, 1] = _hash(held)
                kept = int(batch.state_tables[s, (len(held) - 1) // size])
                if len(held) % size == 0 and kept >= 0:
                    state.counters[kept] = state.counters[slot]
                logits[row, self._next(held)] = 8.0
                logits[row, self.config.bos_id] -= 1.0
            self._held[slot] = held
        return logits

    def match(self, state: DecoderState, slot: int) -> float | None:
        if not self._tells_match:
            return None
        held = self._held[slot]
        _require(int(state.counters[slot, 0]) == len(held), f"slot {slot} was not extended last")
        sep = _last(held, self.config.sep_id)
        begin = _last(held[: max(sep, 0)], self.config.bos_id) + 1
        if sep < 0 or not (words := held[sep + 1 :]):
            return None
        past = held[: sep - 1] if begin == sep else held[begin:sep]
        for n in range(len(words), 0, -1):
            if any(past[i : i + n] == words[:n] for i in range(len(past) - n + 1)):
                return n / len(words)
        return 0.0

    def _next(self, held: list[float]) -> int:
        config = self.config
        if config.sep_id not in held:
            return config.bos_id
        sep = _last(held, config.sep_id)
        begin = _last(held[:sep], config.bos_id) + 1
        if config.recall and begin == sep:
            return self._recalled(held[: sep - 1], held[sep + 1 :])
        wanted = begin + len(held) - 1 - sep
        return int(held[wanted]) if wanted < sep else config.eos_id

    def _recalled(self, past: list[float], words: list[float]) -> int:
        specials = (self.config.bos_id, self.config.sep_id, self.config.eos_id)
        for end in range(len(words), len(past)):
            if past[end - len(words) : end] == words:
                token_id = int(past[end])
                return self.config.eos_id if token_id in specials else token_id
        return self.config.eos_id


@dataclass
class FakeModel:
    """What `create_app` and `Engine` take in place of a checkpoint.

    With `min_match`, it can tell how well it found something, and a recall needs that much.
    """

    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)
    max_seq_len: int = 4096
    name: str = "fake-copy"
    fingerprint: str = "0" * 64
    recall: bool = False
    min_match: float | None = None
    config: ModelConfig = field(init=False)
    task: Task = field(init=False)
    decoder: FakeDecoder = field(init=False)

    def __post_init__(self) -> None:
        specials = {name: getattr(self.tokenizer, name) for name in SPECIALS}
        self.config = ModelConfig.from_dict(
            specials
            | {
                "d_model": 8,
                "blocks": [{"mixer": "normalized", "params": {"d_relation": 8}}],
                "positions": "coupled" if self.recall else "none",
                "d_position": 4 if self.recall else 0,
                "max_seq_len": self.max_seq_len,
                "recall": self.recall,
            }
        )
        params = CopyingParams(max_length=1, min_match=self.min_match or 0.0)
        self.task = Copying(params, self.tokenizer, self.config)
        self.decoder = FakeDecoder(self.config, tells_match=self.min_match is not None)


class VerboseTokenizer(ByteTokenizer):
    """Bytes whose text is ten thousand times as long, to fill a socket with few tokens."""

    expansion = 10_000

    def stream_decoder(self, after: Sequence[int] = ()) -> StreamDecoder:  # noqa: ARG002
        return _VerboseDecoder()


class _VerboseDecoder:
    def push(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) * VerboseTokenizer.expansion for i in ids)

    def flush(self) -> str:
        return ""


def _last(held: list[float], token_id: int) -> int:
    """The last place of an id; -1 if it is nowhere."""
    return next((i for i in range(len(held) - 1, -1, -1) if held[i] == token_id), -1)


def _hash(held: Sequence[float]) -> int:
    return hash(tuple(map(int, held))) if held else 0


def letters() -> FakeModel:
    """A model that knows the letters a to z only."""
    return FakeModel(LetterTokenizer())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise MisuseError(message)
