"""What a backend is: it holds the memory of a decoder that serves, and computes its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
    """Allocates the storage of one decoder, and computes its steps: embed, each block, logits.

    Attributes:
        promise: when results have the same bits, as a sentence for people.
        ops: its operations, by the names under which embedding, mixers and MLPs ask for them.
    """

    promise: ClassVar[str]
    ops: ClassVar[Mapping[str, Op]]

    @abstractmethod
    def start(self, report: Callable[[str], object]) -> None:
        """Get ready to compute. To be called on the main thread, before anything is computed.

        Args:
            report: is told, on any thread and in a sentence for people, what takes long from now
                on, such as compiling.
        """

    @abstractmethod
    def set_threads(self, n: int) -> None:
        """Compute with n threads of this machine from now on, in the whole process.

        Raises:
            ValueError: n is less than 1, or more than there are.
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
            n_counters: int64 counters a sequence, which the embedding keeps.
            n_pages, page_size, n_slots, n_rows: see `DecoderState`.
        """

    @abstractmethod
    def embed(self, embedding: Embedding, batch: RaggedBatch, state: DecoderState) -> Step:
        """Begin a step: embed the new tokens.

        Args:
            embedding: of the decoder; its `extend` asks the step for the operation `embed`.
            batch: the new tokens.
            state: storage that this backend allocated.
        """

    def block(self, block: Block, step: Step, layer: LayerState) -> None:
        """Run a step through one block."""
        self.activate(block, step)
        block.extend(step, layer)

    @abstractmethod
    def activate(self, block: Block, step: Step) -> None:
        """Set `step.active` and `step.n_pairs` for a block, by the phases in which it writes."""

    @abstractmethod
    def logits(self, classifier: Classifier, step: Step, rows: NDArray[np.int64]) -> Tensor:
        """End a step: the logits after some of the new tokens.

        Args:
            classifier: of the decoder.
            step: as the last block left it.
            rows: `[M]`, the tokens that are wanted, all different.

        Returns:
            float32 `[M, vocab_size]`, on the CPU.
        """
