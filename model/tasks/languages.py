"""In-context regular languages: strings of an automaton that only the strings themselves tell.

Source: Akyürek et al., "In-Context Language Learning: Architectures and Algorithms" (arXiv
2401.12973).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt, model_validator
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.tasks.base import Batch, TaskError
from causalrn.model.tasks.symbols import Ids, SymbolParams, SymbolTask
from causalrn.model.tokenizers.base import Tokenizer

_MOST_WAYS = 4  # out of a state
_MOST_STEPS = 50  # of a string


class LanguageParams(SymbolParams):
    """Parameters of regular languages.

    Attributes:
        length: tokens of a sequence.
        min_states, max_states: of an automaton.
        n_symbols: from which strings are made.
    """

    length: PositiveInt = 128
    min_states: PositiveInt = 4
    max_states: PositiveInt = 12
    n_symbols: int = Field(default=18, ge=_MOST_WAYS)

    @model_validator(mode="after")
    def _check_states(self) -> Self:
        if self.min_states > self.max_states:
            raise ValueError(f"min_states must be at most max_states = {self.max_states}")
        return self


@dataclass(frozen=True, kw_only=True)
class LanguageBatch(Batch):
    """Also knows which symbols may come next.

    Attributes:
        allowed: `[B, T, V]` bool, on the CPU.
    """

    allowed: Tensor


class RegularLanguages(SymbolTask):
    """Random walks through a random automaton, from its first state, with SEP between them."""

    name: ClassVar[str] = "languages"
    Params: ClassVar[type[BaseModel]] = LanguageParams
    params: LanguageParams

    def __init__(self, params: LanguageParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(params, tokenizer, config)
        if params.n_symbols > len(self.symbols):
            raise TaskError(
                f"n_symbols must be at most {len(self.symbols)}, which the tokenizer has, got "
                f"{params.n_symbols}",
                "n_symbols",
            )
        self._vocab_size = config.vocab_size

    @property
    def n_tokens(self) -> int:
        """See `SymbolTask.n_tokens`."""
        return self.params.length

    def draw(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """See `SymbolTask.draw`."""
        ids, allowed = self._walks(rng)
        return ids, np.any(allowed, axis=1)

    def batch(self, rng: Generator, share: float) -> Batch:  # noqa: ARG002
        """See `Task.batch`."""
        walks = [self._walks(rng) for _ in range(self.params.n_sequences)]
        ids, allowed = (np.stack(column) for column in zip(*walks, strict=True))
        plain = self._batch_of(ids, np.any(allowed, axis=2))
        return LanguageBatch(**vars(plain), allowed=torch.from_numpy(allowed))

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """The share of likeliest tokens that the automaton allows, as `accuracy`."""
        assert isinstance(batch, LanguageBatch)
        guesses = logits.argmax(-1, keepdim=True).cpu()
        wanted = batch.allowed.any(-1)
        right = batch.allowed.gather(-1, guesses)[..., 0][wanted]
        return {"accuracy": right.double().mean().item()}

    def _walks(self, rng: Generator) -> tuple[Ids, NDArray[np.bool_]]:
        """Tokens `[length]`, and which may stand in place of each, `[length, V]`.

        Nothing may in place of SEP: a walk ends wherever it does.
        """
        params = self.params
        n_states = int(rng.integers(params.min_states, params.max_states + 1))
        symbols = rng.choice(self.symbols, params.n_symbols, replace=False)
        ways = [
            rng.choice(symbols, rng.integers(1, _MOST_WAYS + 1), replace=False)
            for _ in range(n_states)
        ]
        targets = [rng.integers(n_states, size=len(way)) for way in ways]
        ids = np.full(params.length, self._sep)
        allowed = np.zeros((params.length, self._vocab_size), np.bool_)
        place = 0
        while place < params.length:
            state = 0
            for _ in range(rng.integers(1, _MOST_STEPS + 1)):
                if place == params.length:
                    break
                way = rng.integers(len(ways[state]))
                ids[place] = ways[state][way]
                allowed[place, ways[state]] = True
                state = int(targets[state][way])
                place += 1
            place += 1
        return ids, allowed
