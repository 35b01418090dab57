"""What a backend is: it holds the memory of a decoder that serves, and computes its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from causalrn.model.block import Block
from causalrn.model.classifier import Classifier
from causalrn.model.draws import RowDraw
from causalrn.model.embedding import Embedding
from causalrn.model.predictions import Predictions
from causalrn.model.state import DecoderState, LayerSpec, RaggedBatch
from causalrn.model.step import Op


@dataclass(frozen=True)
class Parts:
    """What a step goes through, in this order.

    Each part names the operation that serves it, and so does a block's MLP. A block's mixer names
    one, too, unless it overrides `Mixer.extend`.
    """

    embedding: Embedding
    blocks: Sequence[Block]
    classifier: Classifier


class Backend(ABC):
    """Allocates the storage of one decoder, and computes its steps.

    Attributes:
        promise: when results have the same bits, as a sentence for people.
        ops: its operations, by the names under which the parts of a decoder ask for them.
        device: where the weights of a decoder are.
        trains_as_on_device: whether whole sequences, too, go to the kernels of devices, wherever
            the weights are.
        samples: whether `extend` makes the draws that it is given.
        runs_ahead: whether `extend` does not wait for a step, but leaves that to those who look at
            its predictions; and takes tokens that nobody knows yet, see `RaggedBatch`. Such a
            backend samples.
    """

    promise: ClassVar[str]
    ops: ClassVar[Mapping[str, Op]]
    device = torch.device("cpu")
    trains_as_on_device: ClassVar[bool] = False
    samples: ClassVar[bool] = False
    runs_ahead: ClassVar[bool] = False

    def guard(self) -> AbstractContextManager[object]:
        """To be entered around whatever touches a device: raises `DeviceError` if it has failed."""
        return nullcontext()

    @abstractmethod
    def start(self, report: Callable[[str], object], *, in_a_hurry: bool = False) -> None:
        """Get ready to compute. To be called on the main thread, before anything is computed.

        Args:
            report: is told, on any thread and in a sentence for people, what takes long from now
                on, such as compiling.
            in_a_hurry: whether to compute slowly for a while rather than to wait longer.
        """

    def prepare(self, parts: Parts, state: DecoderState) -> None:  # noqa: B027
        """Do beforehand what first steps with some storage would wait for; nothing by default.

        Args:
            parts: of the decoder.
            state: storage that this backend allocated.
        """

    @property
    def is_compiling(self) -> bool:
        """Whether a thread compiles what nobody waits for; Python must not end meanwhile."""
        return False

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
    def extend(
        self,
        parts: Parts,
        batch: RaggedBatch,
        state: DecoderState,
        rows: NDArray[np.int64],
        draws: Sequence[RowDraw] = (),
    ) -> Predictions:
        """Compute a step; see `Decoder.extend`.

        Args:
            parts: of the decoder.
            batch: the new tokens.
            state: storage that this backend allocated.
            rows: `[M]`, the tokens after which predictions are wanted, all different.
            draws: to be made if this backend `samples`.

        Returns:
            What comes next, after each of these tokens.

        Raises:
            ValueError: a sequence is longer than a table of learned positions.
            UnsupportedOpError: there is no operation that one of the parts needs.
        """
