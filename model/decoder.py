"""The decoder: embed, blocks, logits. `forward` trains; `extend` serves."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import Mixer, ModelConfig
from model.embedding import Embedding
from model.mixers.base import RelationMixer
from model.mixers.normalized_relation import NormalizedRelation
from model.mixers.separable_relation import SeparableRelation
from model.ops.extend import classify
from model.ops.norm import norm
from model.ops.positions import RECALL, STATE_SIZE, advance
from model.ops.relation.cpu import SEGMENT
from model.state import DecoderState, RaggedBatch
from model.weights import WeightViews

_MIXERS: dict[Mixer, type[RelationMixer]] = {
    "normalized": NormalizedRelation,
    "separable": SeparableRelation,
}


class Decoder(nn.Module):
    """A CausalRN: pre-norm residual blocks of one relation mixer each, and nothing else.

    Args:
        config: the shape. Parameters are drawn from torch's global generator.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.mixers = nn.ModuleList(
            _MIXERS[name](config, layer) for layer, name in enumerate(config.mixers)
        )
        self.classifier = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.02)
        self._weights = WeightViews((self.classifier, "weight"))

    def match_places(self) -> None:
        """Let the normalized layers start out looking for the source of the next output token.

        For coupled positions, before training; see `RelationMixer.match_places`.
        """
        for mixer in self.mixers:
            if isinstance(mixer, NormalizedRelation):
                mixer.match_places(self.config.d_position)

    def forward(self, token_ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Logits for every token of whole sequences; differentiable, O(T) memory.

        Args:
            token_ids: `[B, T]` int64.
            offsets: `[B]` int64, tokens that positions pretend to have seen before; for training
                coupled positions everywhere. Zeros if left out.

        Returns:
            float32 logits `[B, T, vocab_size]`.
        """
        x, phases = self.embedding(token_ids, offsets)
        is_recall = (phases == RECALL)[..., None]
        for layer, mixer in enumerate(self.mixers):
            written = mixer(norm(x, self.config.norm_eps))
            x = x + (written * is_recall if layer < self.config.recall_layers else written)
        return self._logits(x)

    def new_state(self, *, n_pages: int, page_size: int, n_slots: int) -> DecoderState:
        """Allocate storage for up to `n_slots` sequences that share `n_pages` pages."""
        specs = [
            _MIXERS[name].spec(self.config, layer) for layer, name in enumerate(self.config.mixers)
        ]
        return DecoderState(
            specs,
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_counters=STATE_SIZE,
            d_model=self.config.d_model,
            d_relation=self.config.d_relation,
        )

    def counters(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """The counters `[C]` of a sequence of these tokens, as `extend` leaves them."""
        config, n = self.config, len(token_ids)
        counters = np.zeros((1, STATE_SIZE), np.int64)
        advance(
            np.array(token_ids, np.int64), np.array([0, n]), config.bos_id, config.sep_id,
            config.positions == "coupled", config.recall, counters,
            np.empty(n, np.int64), np.empty(n, np.int64), np.empty((n, 0), np.float32), work=n,
        )  # fmt: skip
        own: NDArray[np.int64] = counters[0]
        return own

    def extend(
        self, batch: RaggedBatch, state: DecoderState, rows: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Continue a ragged batch of sequences: prefill, chunked prefill and decode alike.

        Any chunking of a sequence gives what `forward` gives on the whole up to rounding, and the
        same bits as any other chunking, whatever else is in the batch.

        Args:
            batch: the new tokens and where their sequences' memory lies.
            state: storage, updated in place. Its scratch makes it one thread's at a time.
            rows: `[M]`, the new tokens after which logits are wanted; by default each sequence's
                last.

        Returns:
            float32 logits `[M, vocab_size]`.
        """
        space = state.workspace
        if rows is None:
            rows = batch.starts[1:] - 1
        counts = batch.starts[1:] - batch.starts[:-1]
        lengths = batch.context_lens + counts
        n_pairs = int(counts @ lengths)
        space.make_room(len(batch.token_ids), -(-int(lengths.max()) // SEGMENT))
        self.embedding.extend(batch, state)
        in_recall = space.phases[: len(batch.token_ids)] == RECALL
        n_recall_pairs = n_pairs if in_recall.any() else 0
        for i, (mixer, layer) in enumerate(zip(self.mixers, state.layers, strict=True)):
            work = (in_recall, n_recall_pairs)
            if i >= self.config.recall_layers:
                work = (space.all_active, n_pairs)
            cast(RelationMixer, mixer).extend(batch, state, layer, *work)
        logits = np.empty((len(rows), self.config.vocab_size), np.float32)
        classify(
            space.x, rows, self.config.norm_eps, *self._weights(),
            space.z, logits, work=logits.size * self.config.d_model // 8,
        )  # fmt: skip
        return torch.from_numpy(logits)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(norm(x, self.config.norm_eps))
        return logits
