"""Copying strings, and recalling them later in the same context."""

from collections.abc import Sequence
from typing import ClassVar

from numpy.random import Generator
from pydantic import BaseModel, Field
from torch import Tensor

from causalrn.model.config import ModelConfig
from causalrn.model.data.corpus import Corpus
from causalrn.model.tasks.base import IGNORED, Batch, TaskError
from causalrn.model.tasks.contexts import draw_contexts
from causalrn.model.tasks.passages import rest_of_passage
from causalrn.model.tasks.strings import half_each, passages_of, sources_of
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.model.validation import STRICT

_RECALL_TOKENS = 256  # of a recall by default: most passages end before


class CopyingParams(BaseModel):
    """Which strings are copied, and how they share a context.

    Attributes:
        strings: the kind of string, one of `causalrn.model.tasks.strings.sources_of` the tokenizer;
            None for the first of them.
        min_length, max_length: shortest and longest string, in tokens.
        first_length: longest string of the first tenth of the run; `max_length` if left out.
        growth: share of the run in which that limit then grows, linearly, to `max_length`; 0 for
            `max_length` from the first step on.
        batch_tokens: about how many tokens a batch holds.
        max_strings: most contexts in a batch, which bounds batches of short ones.
        max_turns: most strings in one context, one after the other.
        max_context: tokens that several strings of one context may take; room for one copy of
            `max_length` if left out.
        full: share of the batches whose contexts hold as many strings as they may.
        max_offset: positions begin anywhere below this; with 1, always at 0.
        corruption: share of the output tokens that the model reads as wrong ones.
        recall: share of the later turns of a context that recall earlier strings.
        window: how many of the last tokens a model goes by when it recalls the next one. Where
            these have been followed by different tokens, a recall bears no loss.
        min_match: how well a recall must have found its prefix, from 0 to 1; below it there is no
            answer. It is calibrated for a trained model, and 0 before.
    """

    model_config = STRICT

    strings: str | None = None
    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(default=64, ge=1)
    first_length: int = Field(default_factory=lambda known: known.get("max_length", 1), ge=1)
    growth: float = Field(default=0.0, ge=0, le=0.9)
    batch_tokens: int = Field(default=8192, ge=1)
    max_strings: int = Field(default=128, ge=1)
    max_turns: int = Field(default=1, ge=1)
    max_context: int = Field(default_factory=lambda known: 2 * known.get("max_length", 1) + 2, ge=1)
    full: float = Field(default=0.0, ge=0, le=1)
    max_offset: int = Field(default=4096, ge=1)
    corruption: float = Field(default=0.0, ge=0, le=1)
    recall: float = Field(default=0.0, ge=0, le=1)
    window: int = Field(default=8, ge=1)
    min_match: float = Field(default=0.0, ge=0, le=1)


class Copying:
    """Write out a string after `BOS string SEP`, or go on after `BOS SEP prefix`.

    The second is a recall: the context holds a string that begins with the prefix. Only models
    whose embedding knows turns of recall have that mode.
    """

    name: ClassVar[str] = "copying"
    Params: ClassVar[type[BaseModel]] = CopyingParams

    def __init__(self, params: CopyingParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
        _check(params, tokenizer, config)
        sources = sources_of(tokenizer)
        self.params = params
        self._source = sources[params.strings or next(iter(sources))]
        self._config = config

    @property
    def needs_data(self) -> bool:
        """See `ReadsData.needs_data`: there are strings without."""
        return False

    def read(self, corpus: Corpus) -> None:
        """Let half of the strings be passages of these texts; see `ReadsData.read`."""
        config = self._config
        specials = (config.bos_id, config.sep_id, config.eos_id)
        self._source = half_each(self._source, passages_of(corpus.train, specials))

    @property
    def modes(self) -> tuple[str, ...]:
        """`copy`, and `recall` if the model knows such turns."""
        return ("copy", "recall") if self._config.recall else ("copy",)

    def length_limit(self, share: float) -> int:
        """Longest string that may be drawn when that share of the run is done.

        `first_length + s · (max_length - first_length)`, rounded, where s goes from 0 to 1 linearly
        over a share `growth` of the run that begins after its first tenth:
        `s = (share - 0.1) / growth`, kept within 0 and 1. Without growth, always `max_length`.
        """
        params = self.params
        grown = 1.0
        if params.growth:
            grown = min(1.0, max(0.0, (share - 0.1) / params.growth))
        return round(params.first_length + grown * (params.max_length - params.first_length))

    def batch(self, rng: Generator, share: float) -> Batch:
        """See `Task.batch`. Notes the longest string that could be drawn as `length_limit`."""
        params = self.params
        return draw_contexts(
            rng,
            self._config,
            self._source,
            lengths=(params.min_length, self.length_limit(share)),
            max_turns=params.max_turns,
            max_context=params.max_context,
            full=params.full,
            n_tokens=params.batch_tokens,
            max_strings=params.max_strings,
            max_offset=params.max_offset,
            corruption=params.corruption,
            recall=params.recall,
            window=params.window,
        )

    def score(self, logits: Tensor, batch: Batch) -> dict[str, float]:
        """The share of the targets that are the likeliest token, as `accuracy`."""
        wanted = batch.targets != IGNORED
        right = logits[wanted].argmax(-1) == batch.targets[wanted]
        return {"accuracy": right.double().mean().item()}

    def frame(self, ids: Sequence[int], mode: str) -> list[int]:
        """`BOS ids SEP` for a copy, `BOS SEP ids` for a recall."""
        bos, sep = self._config.bos_id, self._config.sep_id
        return [bos, sep, *ids] if mode == "recall" else [bos, *ids, sep]

    def needs_context(self, mode: str) -> bool:
        """A recall goes back to what a session read; a copy stands alone."""
        return mode == "recall"

    def answer_length(self, mode: str, n_prompt: int, n_context: int) -> int:
        """A copy is as long as the prompt, a recall at most as long as the context; then EOS."""
        return min(n_context + 1, _RECALL_TOKENS) if mode == "recall" else n_prompt + 1

    def needs_room(self, mode: str) -> bool:
        """A copy that is cut off is none; a recall is right as far as it goes."""
        return mode != "recall"

    def least_match(self, mode: str) -> float:
        """`min_match` for a recall; a copy is always given."""
        return self.params.min_match if mode == "recall" else 0.0

    def verify(
        self, ids: Sequence[int], answer: Sequence[int], mode: str, context: Sequence[int]
    ) -> bool | None:
        """See `Task.verify`.

        A copy is right if it is the prompt, and cannot be told if it is only a beginning of it. A
        recall is right if it is what follows the prefix in the latest passage that has it, to the
        end of the passage, or as far as the recall goes if something cut it off.
        """
        is_ended = bool(answer) and answer[-1] == self._config.eos_id
        written = list(answer[:-1] if is_ended else answer)
        if mode == "recall":
            rest = rest_of_passage(context, ids, self._config)
            if rest is None:
                return False
            return written == (rest if is_ended else rest[: len(written)])
        if is_ended:
            return written == list(ids)
        return None if written == list(ids[: len(written)]) else False


def _check(params: CopyingParams, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Refuse what contradicts itself, or what the model has no room or no ids for."""
    sources, holds = sources_of(tokenizer), config.max_seq_len
    longest = 2 * params.max_length + 2
    context = max(longest, params.max_context) if params.max_turns > 1 else longest
    furthest = holds - context + 1
    problems = {
        "strings": params.strings not in {None, *sources}
        and f"must be one of {', '.join(sources)} for the {tokenizer.name!r} tokenizer",
        "first_length": not params.min_length <= params.first_length <= params.max_length
        and f"must lie between min_length = {params.min_length} and max_length = "
        f"{params.max_length}",
        "recall": params.recall > 0
        and not (config.recall and params.max_turns > 1)
        and "needs model.recall = true and max_turns of at least 2",
        "max_length": longest > holds
        and f"must be at most {(holds - 2) // 2} for a model of max_seq_len = {holds}",
        "max_context": context > holds and f"must be at most max_seq_len = {holds} of the model",
        "max_offset": config.positions == "learned"
        and params.max_offset > furthest
        and f"must be at most {furthest} for learned positions",
    }
    for key, problem in problems.items():
        if problem:
            raise TaskError(f"{key} {problem}, got {getattr(params, key)!r}", key)
