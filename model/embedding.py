"""The first part of a decoder: from token ids to vectors, with one of three kinds of position."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from causalrn.model.config import ModelConfig
from causalrn.model.ops.positions import STATE_SIZE
from causalrn.model.ops.positions.cpu import advance
from causalrn.model.state import RaggedBatch
from causalrn.model.weights import WeightViews


class Embedding(nn.Module):
    """Token table, plus learned positions, or coupled codes in channels of their own.

    With coupled positions the last `d_position` channels hold the code, the others the token; a
    learned vector says whether a token is source or output, or part of a recall.
    """

    op = "embed"
    """The operation of backends that serves it: it begins a step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.d_model - config.d_position)
        tables: list[nn.Module] = [self.token]
        if config.positions == "learned":
            self.position = nn.Embedding(config.max_seq_len, config.d_model)
            tables.append(self.position)
        if config.positions == "coupled":
            self.phase = nn.Embedding(3 if config.recall else 2, config.d_model)
            nn.init.normal_(self.phase.weight, std=0.02)
            tables.append(self.phase)
        self.views = WeightViews(*((table, "weight") for table in tables))
        self._none = np.empty((0, config.d_model), np.float32)

    def forward(
        self, token_ids: Tensor, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed whole sequences.

        Where tokens stand is found on the CPU, so that is the place for what is given.

        Args:
            token_ids: `[B, T]` int64.
            offsets: `[B]` int64, how many tokens each sequence pretends to have seen before.

        Returns:
            `[B, T, D]`, and the phases and reaches `[B, T]` int64 (`causalrn.model.ops.positions`),
            all of them where the weights are.

        Raises:
            ValueError: a sequence is longer than the table of learned positions.
        """
        config, device = self.config, self.token.weight.device
        n_sequences, length = token_ids.shape
        counters = np.zeros((n_sequences, STATE_SIZE), np.int64)
        if offsets is not None:
            counters[:] = offsets.cpu().numpy()[:, None]
        starts = np.arange(n_sequences + 1, dtype=np.int64) * length
        ids = token_ids.reshape(-1).cpu()
        indices = np.empty(len(ids), np.int64)
        phases = np.empty(len(ids), np.int64)
        reaches = np.empty(len(ids), np.int64)
        codes = torch.empty(len(ids), config.d_position)
        coupled = config.positions == "coupled"
        advance(
            ids.numpy(), starts, config.bos_id, config.sep_id, coupled, config.recall,
            config.balanced_places, counters, indices, phases, reaches, codes.numpy(),
            work=codes.numel(),
        )  # fmt: skip
        x: Tensor = self.token(ids.to(device))
        if config.positions == "learned":
            self._check_length(int(indices.max()) + 1)
            x = x + self.position(torch.from_numpy(indices).to(device))
        elif coupled:
            x = torch.cat([x, codes.to(x)], -1)
            x = x + self.phase(torch.from_numpy(phases).to(device))
        return (
            x.view(n_sequences, length, -1),
            torch.from_numpy(phases).view_as(token_ids).to(device),
            torch.from_numpy(reaches).view_as(token_ids).to(device),
        )

    def check(self, batch: RaggedBatch) -> None:
        """Return if the new tokens can be embedded.

        Raises:
            ValueError: a sequence is longer than the table of learned positions.
        """
        if self.config.positions == "learned":
            self._check_length(int((batch.context_lens + np.diff(batch.starts)).max()))

    def counters(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """The counters `[C]` of a sequence of these tokens, as `extend` leaves them."""
        config, n = self.config, len(token_ids)
        counters = np.zeros((1, STATE_SIZE), np.int64)
        advance(
            np.array(token_ids, np.int64), np.array([0, n]), config.bos_id, config.sep_id,
            config.positions == "coupled", config.recall, config.balanced_places, counters,
            *np.empty((3, n), np.int64), np.empty((n, 0), np.float32), work=n,
        )  # fmt: skip
        own: NDArray[np.int64] = counters[0]
        return own

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The tables of tokens, places and phases, each `[rows, channels]`, for the kernel.

        A table that this kind of position does without has no rows.
        """
        views = self.views()
        places = views[1] if self.config.positions == "learned" else self._none
        phases = views[1] if self.config.positions == "coupled" else self._none
        return views[0], places, phases

    def _check_length(self, n_tokens: int) -> None:
        if n_tokens > self.config.max_seq_len:
            raise ValueError(
                f"position {n_tokens - 1} is beyond the table of {self.config.max_seq_len}"
            )
