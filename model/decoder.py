"""The decoder: embed, blocks, logits. `forward` trains; `extend` serves."""

from typing import cast

import torch
from torch import Tensor, nn

from model.config import Mixer, ModelConfig
from model.embedding import Embedding
from model.mixers.base import RelationMixer
from model.mixers.normalized_relation import NormalizedRelation
from model.mixers.separable_relation import SeparableRelation
from model.ops.norm import norm
from model.ops.positions import STATE_SIZE
from model.state import DecoderState, RaggedBatch

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
        self.mixers = nn.ModuleList(_MIXERS[name](config) for name in config.mixers)
        self.classifier = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.02)

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
        x = self.embedding(token_ids, offsets)
        for mixer in self.mixers:
            x = x + mixer(norm(x, self.config.norm_eps))
        return self._logits(x)

    def new_state(self, *, n_pages: int, page_size: int, n_slots: int) -> DecoderState:
        """Allocate storage for up to `n_slots` sequences that share `n_pages` pages."""
        specs = [_MIXERS[name].spec(self.config) for name in self.config.mixers]
        return DecoderState(
            specs, n_pages=n_pages, page_size=page_size, n_slots=n_slots, n_counters=STATE_SIZE
        )

    @torch.inference_mode()
    def extend(
        self, batch: RaggedBatch, state: DecoderState, *, every_token: bool = False
    ) -> Tensor:
        """Continue a ragged batch of sequences: prefill, chunked prefill and decode alike.

        Any chunking of a sequence gives what `forward` gives on the whole.

        Args:
            batch: the new tokens and where their sequences' memory lies.
            state: storage, updated in place.
            every_token: logits after every new token, not only after each sequence's last.

        Returns:
            float32 logits `[S, vocab_size]`, or `[N, vocab_size]` for `every_token`.
        """
        x = self.embedding.extend(batch, state.counters)
        for mixer, layer in zip(self.mixers, state.layers, strict=True):
            x = x + cast(RelationMixer, mixer).extend(norm(x, self.config.norm_eps), batch, layer)
        if not every_token:
            x = x[torch.from_numpy(batch.starts[1:] - 1)]
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(norm(x, self.config.norm_eps))
        return logits
