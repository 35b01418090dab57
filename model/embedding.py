"""Token ids to vectors, with one of three kinds of position."""

import numpy as np
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.ops.positions import STATE_SIZE, advance
from model.state import RaggedBatch


class Embedding(nn.Module):
    """Token table, plus learned positions, or coupled codes in channels of their own.

    With coupled positions the last `d_position` channels hold the code, the others the token; a
    learned vector says whether a token is source or output.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.d_model - config.d_position)
        if config.positions == "learned":
            self.position = nn.Embedding(config.max_seq_len, config.d_model)
        if config.positions == "coupled":
            self.phase = nn.Embedding(2, config.d_model)
            nn.init.normal_(self.phase.weight, std=0.02)

    def forward(self, token_ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Embed whole sequences `[B, T]` as `[B, T, D]`; `offsets` `[B]` shift their positions."""
        n_sequences, length = token_ids.shape
        counters = np.zeros((n_sequences, STATE_SIZE), np.int64)
        if offsets is not None:
            counters[:] = offsets.numpy()[:, None]
        starts = np.arange(n_sequences + 1, dtype=np.int64) * length
        slots = np.arange(n_sequences, dtype=np.int64)
        flat = token_ids.reshape(-1)
        return self._embed(flat, starts, slots, counters).view(n_sequences, length, -1)

    def extend(self, batch: RaggedBatch, counters: Tensor) -> Tensor:
        """Embed new tokens as `[N, D]`, advancing the `[n_slots, STATE_SIZE]` counters."""
        ids = torch.from_numpy(batch.token_ids)
        return self._embed(ids, batch.starts, batch.slots, counters.numpy())

    def _embed(
        self, ids: Tensor, starts: np.ndarray, slots: np.ndarray, counters: np.ndarray
    ) -> Tensor:
        config = self.config
        indices = np.empty(len(ids), np.int64)
        phases = np.empty(len(ids), np.int64)
        codes = torch.empty(len(ids), config.d_position)
        specials = config.bos_id, config.sep_id
        coupled = config.positions == "coupled"
        arrays = counters, indices, phases, codes.numpy()
        advance(ids.numpy(), starts, slots, *specials, coupled, *arrays, work=codes.numel())
        x: Tensor = self.token(ids)
        if config.positions == "learned":
            if indices.max() >= config.max_seq_len:
                raise ValueError(
                    f"position {indices.max()} is beyond the table of {config.max_seq_len}"
                )
            return x + self.position(torch.from_numpy(indices))  # type: ignore[no-any-return]
        if coupled:
            codes = codes.to(x.dtype)
            return torch.cat([x, codes], -1) + self.phase(torch.from_numpy(phases))  # type: ignore[no-any-return]
        return x
