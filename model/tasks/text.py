"""Language modelling: what comes next in the texts of a user?"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn

from causalrn.model.config import ModelConfig
from causalrn.model.data.corpus import Corpus, Part
from causalrn.model.data.errors import DataError
from causalrn.model.tasks.base import Batch, TaskError
from causalrn.model.tasks.strings import Ids
from causalrn.model.tokenizers.base import Tokenizer, special_tokens
from causalrn.model.validation import STRICT

_ANSWER = 256  # tokens of a continuation by default
_WINDOWS = 32  # sequences that a model in training is scored by
_BEGINNING = 24  # tokens that a sample goes on from


class TextParams(BaseModel):
    """Parameters of language modelling.

    Attributes:
        context: tokens that a model reads of each sequence.
        n_sequences: in a batch.
        repeats: share of the sequences in which a passage comes twice, so that what comes next can
            be found in the context.
    """

    model_config = STRICT

    context: PositiveInt = 256
    n_sequences: PositiveInt = 16
    repeats: Annotated[float, Field(ge=0, le=1)] = 0.0


class Text:
    """Passages of documents, which begin with BOS and end with EOS: every next token is a target.

    Sequences begin anywhere in the documents, one after the other as they are.
    """

    name: ClassVar[str] = "text"
    Params: ClassVar[type[BaseModel]] = TextParams
    modes = ("continue",)

    def __init__(self, params: TextParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
        if params.context > config.max_seq_len:
            raise TaskError(
                f"context must be at most max_seq_len = {config.max_seq_len} of the model, got "
                f"{params.context}",
                "context",
            )
        self.params = params
        self._bos, self._specials = config.bos_id, special_tokens(tokenizer).keys()
        self._corpus: Corpus | None = None

    def read(self, corpus: Corpus) -> None:
        """See `ReadsData.read`.

        Raises:
            DataError: there are fewer tokens than a sequence has.
        """
        for part, name in ((corpus.train, "to train on"), (corpus.validation, "held out")):
            if len(part.token_ids) < 2:
                raise DataError(f"there are too few tokens {name}: {len(part.token_ids)}")
        n, least = len(corpus.train.token_ids), self.params.context + 1
        if n < least:
            raise DataError(
                f"there are {n} tokens to train on, fewer than the {least} of one sequence; give "
                f"more text, or --set task.context={max(1, n // 4)}"
            )
        self._corpus = corpus

    @property
    def corpus(self) -> Corpus:
        """What it has read.

        Raises:
            TaskError: nothing.
        """
        if self._corpus is None:
            raise TaskError("has no text to train on; give files or folders with --data")
        return self._corpus

    @property
    def needs_data(self) -> bool:
        """See `ReadsData.needs_data`: there is no text without."""
        return True

    def validate(self, predict: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Bits for each byte of held-out text, as `held_out_bits_per_byte`."""
        part, nats, n = self.corpus.validation, 0.0, 0
        for ids in windows(part, self.params.context, _WINDOWS):
            drawn = torch.from_numpy(ids)[None]
            with torch.no_grad():
                logits = predict(drawn[:, :-1])
            targets = drawn[0, 1:].to(logits.device)
            nats += nn.functional.cross_entropy(logits[0], targets, reduction="sum").item()
            n += len(targets)
        return {"held_out_bits_per_byte": nats / n / math.log(2) / part.bytes_per_token}

    def beginning(self) -> list[int]:
        """See `Validates.beginning`: that of a document that is held out."""
        ids = self.corpus.validation.token_ids[: _BEGINNING + 1]
        return [int(i) for i in ids if i not in self._specials][:_BEGINNING]

    def batch(self, rng: Generator, share: float) -> Batch:  # noqa: ARG002
        """See `Task.batch`."""
        params, tokens = self.params, self.corpus.train.token_ids
        begins = rng.integers(0, len(tokens) - params.context, params.n_sequences)
        ids = np.stack([tokens[begin : begin + params.context + 1] for begin in begins])
        ids = ids.astype(np.int64)
        for row in np.flatnonzero(rng.random(params.n_sequences) < params.repeats):
            _repeat(rng, ids[row])
        drawn = torch.from_numpy(ids)
        offsets = torch.zeros(params.n_sequences, dtype=torch.int64)
        return Batch(drawn[:, :-1], drawn[:, 1:], offsets)

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """Bits for each byte of text, as `bits_per_byte`."""
        nats = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()).item()
        return {"bits_per_byte": nats / math.log(2) / self.corpus.train.bytes_per_token}

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:  # noqa: ARG002
        """`BOS ids`: the beginning of a document."""
        return [self._bos, *ids]

    def needs_context(self, mode: str) -> bool:  # noqa: ARG002
        """A text stands alone."""
        return False

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:  # noqa: ARG002
        """A passage, which EOS may end before."""
        return _ANSWER

    def needs_room(self, mode: str) -> bool:  # noqa: ARG002
        """A text goes on as far as there is room."""
        return False

    def least_match(self, mode: str) -> float:  # noqa: ARG002
        """An answer is always given."""
        return 0.0

    def verify(self, *_: object) -> bool | None:
        """See `Task.verify`: no text is right or wrong."""
        return None


def windows(part: Part, context: int, most: int) -> Iterator[Ids]:
    """Passages of `context + 1` tokens at even distances, each of which goes on from the last.

    Args:
        part: what they are of; one that is shorter is a passage itself.
        context: tokens that a model reads of each.
        most: how many there are at most.
    """
    n = max(1, (len(part.token_ids) - 1) // context)
    for number in np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)):
        begin = number * context
        yield part.token_ids[begin : begin + context + 1].astype(np.int64)


def _repeat(rng: Generator, ids: Ids) -> None:
    """Let a passage come twice, the second time at the end."""
    length = int(rng.integers(1, len(ids) // 2 + 1))
    begin = int(rng.integers(0, len(ids) - 2 * length + 1))
    ids[-length:] = ids[begin : begin + length]
