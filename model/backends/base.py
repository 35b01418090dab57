"""What a backend is: where a decoder that serves keeps its memory, and what computes its steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.block import Block
from model.classifier import Classifier
from model.embedding import Embedding
from model.state import DecoderState, LayerSpec, LayerState, RaggedBatch
from model.step import Op, Step


class Backend(ABC):
    """Storage, scratch, and a step: embed, one call a block, logits.

    Attributes:
        promise: what holds for the bits of its results, in a sentence.
        ops: its operations by the names that mixers, embedding and MLP ask for.
    """

    promise: ClassVar[str]
    ops: ClassVar[Mapping[str, Op]]

    @abstractmethod
    def start(self) -> None:
        """Get ready to compute. A process calls this on its main thread, before all else."""

    @abstractmethod
    def set_threads(self, n: int) -> None:
        """Compute with so many threads of this machine from now on.

        Raises:
            ValueError: there are not so many.
        """

    @abstractmethod
    def new_state(
        self,
        specs: Sequence[LayerSpec],
        *,
        d_model: int,
        n_counters: int,
        n_pages: int,
        page_size: int,
        n_slots: int,
        n_rows: int,
    ) -> DecoderState:
        """Allocate storage.

        Args:
            specs: what each layer keeps.
            d_model: channels of the residual stream.
            n_counters: numbers a sequence that the embedding keeps.
            n_pages, page_size, n_slots, n_rows: see `DecoderState`.
        """

    @abstractmethod
    def embed(self, embedding: Embedding, batch: RaggedBatch, state: DecoderState) -> Step:
        """Begin a step with the embeddings of the new tokens."""

    def block(self, block: Block, step: Step, layer: LayerState) -> None:
        """Pass the residual stream of a step through one block."""
        self.activate(block, step)
        block.extend(step, layer)

    @abstractmethod
    def activate(self, block: Block, step: Step) -> None:
        """Set `step.active` and `step.n_pairs` for a block, by the phases in which it writes."""

    @abstractmethod
    def logits(self, classifier: Classifier, step: Step, rows: NDArray[np.int64]) -> Tensor:
        """Float32 logits `[M, vocab_size]`, on the CPU, after the tokens in `rows` `[M]`."""
