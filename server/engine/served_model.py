"""What the server needs of a model; `causalrn.model.checkpoint.Checkpoint` is one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causalrn.model.config import ModelConfig
from causalrn.model.draws import RowDraw
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch
from causalrn.model.tasks.base import Task
from causalrn.model.tokenizers.base import Tokenizer


class ServedDecoder(Protocol):
    """Continues ragged batches of sequences; see `causalrn.model.decoder.Decoder`."""

    @property
    def specs(self) -> Sequence[LayerSpec]:
        """What each layer keeps of a sequence."""

    @property
    def n_products(self) -> int:
        """Multiply-adds of the matrix products of one token, about."""

    @property
    def n_pair_numbers(self) -> int:
        """Numbers of a memory that a token of a prompt is compared with; 0 if it compares none."""

    @property
    def samples(self) -> bool:
        """Whether `extend` makes the draws that it is given."""

    @property
    def runs_ahead(self) -> bool:
        """Whether `extend` does not wait for a step, and takes tokens that nobody knows yet."""

    def new_state(
        self, *, n_pages: int, page_size: int, n_slots: int, n_rows: int = 0
    ) -> DecoderState:
        """Allocate storage for up to `n_slots` sequences that share `n_pages` pages."""

    def prepare(self, state: DecoderState) -> None:
        """Do beforehand what first steps with some storage would wait for."""

    def counters(self, token_ids: Sequence[int]) -> NDArray[np.int64]:
        """The counters `[C]` of these tokens; see `causalrn.model.state.SequenceMemory`."""

    def extend(
        self,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64] | None = None,
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        """What comes after the new tokens in `rows`, by default after each sequence's last."""

    def match(self, state: DecoderState, slot: int) -> float | None:
        """How well the sequence in a slot has found what it looked for since the last SEP.

        Between 0 and 1; None if this decoder cannot tell, or the sequence has not looked for
        anything. The least over the tokens of the turn so far, as of the last `extend`.
        """


class ServedModel(Protocol):
    """A decoder with everything that serving it takes."""

    @property
    def name(self) -> str:
        """What clients call it."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, hexadecimal."""

    @property
    def config(self) -> ModelConfig:
        """Shape of the decoder."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns text into content ids, and back."""

    @property
    def task(self) -> Task:
        """What it was trained for: its modes, how prompts are framed, how long answers are."""

    @property
    def decoder(self) -> ServedDecoder:
        """The network."""
