"""The decoder: embed, blocks, logits. `forward` trains; `extend` serves."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from causalrn.model.backends.base import Parts
from causalrn.model.backends.registry import BACKENDS, DEFAULT
from causalrn.model.block import Block
from causalrn.model.classifier import Classifier
from causalrn.model.config import ModelConfig
from causalrn.model.draws import RowDraw
from causalrn.model.embedding import Embedding
from causalrn.model.mixers.base import MatchesPlaces
from causalrn.model.mixers.registry import MIXERS
from causalrn.model.mlp import Mlp
from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.positions import SOURCE, STATE_SIZE
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch


class Decoder(nn.Module):
    """A CausalRN: pre-norm residual blocks, each a sequence mixer and, optionally, a channel MLP.

    Args:
        config: the shape. Parameters are drawn from torch's global generator.
        backend: name of the backend that `extend` computes with; see
            `causalrn.model.backends.registry`.
        pool_dtype: what `extend` keeps memories in: "float32", or "bfloat16" for half the bytes.
            `forward` rounds nothing.

    Attributes:
        backend: an instance of that backend, this decoder's own.
        pool_dtype: as it was given.
        blocks: the blocks in order. Their modules are in `mixers` and, by the block's number, in
            `mlps`.
        specs: what each block keeps of its sequences.
        parts: what a step goes through.

    Raises:
        UnknownNameError: there is no such backend.
    """

    def __init__(
        self, config: ModelConfig, backend: str = DEFAULT, pool_dtype: PoolDtype = "float32"
    ) -> None:
        super().__init__()
        self.config, self.pool_dtype = config, pool_dtype
        self.backend = BACKENDS.find(backend)()
        self.embedding = Embedding(config)
        self.mixers = nn.ModuleList()
        self.mlps = nn.ModuleDict()
        self.blocks: list[Block] = []
        self.specs: list[LayerSpec] = []
        shared: dict[str, Any] = {"norm_eps": config.norm_eps, "n_blocks": len(config.blocks)}
        for number, block in enumerate(config.blocks):
            kind = MIXERS.find(block.mixer)
            mixer = kind(block.params, config.d_model, **shared)
            self.mixers.append(mixer)
            mlp = None
            if block.mlp is not None:
                mlp = self.mlps[str(number)] = Mlp(block.mlp, config.d_model, **shared)
            self.blocks.append(Block(block, mixer, mlp, config.norm_eps))
            spec = Block.spec(block, config.d_model)
            self.specs.append(spec.rounded() if pool_dtype == "bfloat16" else spec)
        self.classifier = Classifier(config.d_model, config.vocab_size, norm_eps=config.norm_eps)
        self.parts = Parts(self.embedding, self.blocks, self.classifier)

    @property
    def n_products(self) -> int:
        """Multiply-adds of the blocks' matrices for one token."""
        blocks = (self.mixers, self.mlps)
        return sum(p.numel() for part in blocks for p in part.parameters() if p.ndim == 2)

    @property
    def n_pair_numbers(self) -> int:
        """Numbers of a memory that a token of a prompt is compared with, in all blocks together.

        Blocks that only remember such tokens compare none.
        """
        return sum(
            prod(tensor.shape)
            for block, spec in zip(self.blocks, self.specs, strict=True)
            if block.phases is None or SOURCE in block.phases
            for tensor in spec.pool
        )

    def match_places(self) -> None:
        """Set initial weights so that mixers look for the source of the next output token.

        Only for coupled positions, and before training. Mixers that cannot do so stay as they are.

        Raises:
            ValueError: a mixer could do so, but its parameters do not allow it.
        """
        for block in self.blocks:
            if isinstance(block.mixer, MatchesPlaces):
                block.mixer.match_places(self.config.d_position)

    def forward(self, token_ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Logits for every token of whole sequences; differentiable, O(T) memory.

        They are computed where the weights are, and on a device by its own kernels.

        Args:
            token_ids: `[B, T]` int64.
            offsets: `[B]` int64, how many tokens each sequence pretends to have seen before, so
                that training reaches positions far from 0. Zeros if left out.

        Returns:
            float32 logits `[B, T, vocab_size]`.

        Raises:
            ValueError: a sequence is longer than the table of learned positions.
        """
        with as_on_device(self.backend.trains_as_on_device):
            x, phases, reaches = self.embedding(token_ids, offsets)
            for block in self.blocks:
                x = block.forward(x, phases, reaches)
            logits: Tensor = self.classifier(x)
        return logits

    def new_state(
        self, *, n_pages: int, page_size: int, n_slots: int, n_rows: int = 0
    ) -> DecoderState:
        """Allocate storage for up to `n_slots` sequences that share `n_pages` pages.

        Args:
            n_pages, page_size, n_slots: see `DecoderState`.
            n_rows: how many states can be kept, each as it was at the end of a page.
        """
        return self.backend.new_state(
            self.specs,
            d_model=self.config.d_model,
            n_counters=STATE_SIZE,
            n_pages=n_pages,
            page_size=page_size,
            n_slots=n_slots,
            n_rows=n_rows,
        )

    def prepare(self, state: DecoderState) -> None:
        """Do beforehand what first steps with some storage would wait for."""
        self.backend.prepare(self.parts, state)

    def match(self, state: DecoderState, slot: int) -> float | None:
        """How well a sequence found what it looked for since the last border of a turn.

        Args:
            state: where the sequence is.
            slot: its slot.

        Returns:
            What a full match would leave of the keys, as a share of what the best memory left: the
            least over the tokens of the turn so far, 1 at most. None if no mixer tells, or the
            turn has not looked for anything.
        """
        with self.backend.guard():
            found = [
                block.mixer.match(layer, slot)
                for block, layer in zip(self.blocks, state.layers, strict=True)
            ]
        return min((match for match in found if match is not None), default=None)

    def counters(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """The counters `[C]` of a sequence of these tokens, as `extend` leaves them."""
        return self.embedding.counters(token_ids)

    @property
    def samples(self) -> bool:
        """Whether `extend` makes the draws that it is given."""
        return self.backend.samples

    @property
    def runs_ahead(self) -> bool:
        """Whether `extend` does not wait for a step, and takes tokens that nobody knows yet."""
        return self.backend.runs_ahead

    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64] | None = None,
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        """Continue a ragged batch of sequences: prefill, chunked prefill and decode alike.

        However a sequence is cut into chunks, its logits are those of `forward` on the whole, up
        to rounding, which is coarser where memories are kept in bfloat16. When they have the same
        bits is the backend's promise: on the CPU, in any chunking, whatever else is in the batch.

        Args:
            batch: the new tokens and where their sequences' memory lies.
            state: storage, updated in place. Its scratch makes it one thread's at a time.
            rows: `[M]`, the new tokens after which predictions are wanted, all different; by
                default each sequence's last.
            draws: tokens to choose from these predictions, if this decoder `samples`.

        Returns:
            What comes next, after each of these tokens.

        Raises:
            ValueError: a sequence is longer than a table of learned positions.
            UnsupportedOpError: the backend lacks an operation that a block needs.
        """
        if rows is None:
            rows = batch.starts[1:] - 1
        return self.backend.extend(self.parts, batch, state, rows, draws)
