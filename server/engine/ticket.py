"""A request that is admitted, but not queued yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from causalrn.model.tokenizers.base import Tokenizer
from causalrn.server.engine.deltas import Progress
from causalrn.server.engine.drafter import draft_for
from causalrn.server.engine.generation import Generation, GenerationParams
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.sequence import Sequence

_PRIORITY_SECONDS = 10.0  # of waiting that count as much as one step of priority


@dataclass(frozen=True)
class Context:
    """Tokens that a request goes on from, whose memory the pool keeps after it for the next one.

    Attributes:
        key: the name of the memory; for a session, its id.
        token_ids: all tokens before the request's own prompt.
    """

    key: str
    token_ids: list[int]


@dataclass(frozen=True)
class Ticket:
    """What is known of an admitted request, for which room is reserved.

    Attributes:
        id: the engine's id of the request, unique.
        prompt: the framed prompt, without the context.
        params: what is asked for; `max_tokens` is a number.
        context: what the request goes on from; None for nothing.
        owner: whose memory it may share.
        judge: judges the answers; None if nothing is expected of them.
    """

    id: str
    prompt: list[int]
    params: GenerationParams
    context: Context | None
    owner: str
    judge: Judge | None = None

    @property
    def n_context(self) -> int:
        """Tokens of the context."""
        return 0 if self.context is None else len(self.context.token_ids)

    @property
    def may_find_nothing(self) -> bool:
        """Whether there may be no answer, after which the context is as if nobody had asked."""
        return self.judge is not None and self.judge.may_refuse

    @property
    def n_read(self) -> int:
        """Tokens that the model reads: context and prompt."""
        return self.n_context + len(self.prompt)

    @property
    def most_tokens(self) -> int:
        """Most tokens that the model reads, and generates in all samples."""
        assert self.params.max_tokens is not None
        return self.n_read + self.params.n * self.params.max_tokens

    def first_sample(
        self, tokenizer: Tokenizer, arrivals: Iterator[int], progress: Progress, max_draft: int
    ) -> Generation:
        """The request as the core takes it: its first sample, which knows the others.

        Args:
            tokenizer: the model's.
            arrivals: rising numbers, one taken for each sample, which break ties between ranks.
            progress: how far the request has got, for the engine to write.
            max_draft: tokens that may be guessed at a time.
        """
        params = self.params
        assert params.max_tokens is not None
        due = progress.arrived + _PRIORITY_SECONDS * params.priority
        known = ([] if self.context is None else self.context.token_ids) + self.prompt
        first, *others = (
            Sequence(
                f"{self.id}-{index}",
                list(known),
                params.max_tokens,
                rank=(due, next(arrivals)),
                reusable=not (params.echo and params.logprobs is not None),
                owner=self.owner,
                session=None if self.context is None else self.context.key,
                goes_back_to=self.n_context if self.may_find_nothing else None,
            )
            for index in range(params.n)
        )
        if max_draft and params.speculate:
            for sequence in (first, *others):
                sequence.drafter = draft_for(
                    sequence.token_ids, len(self.prompt), tokenizer, max_draft
                )
        sample = partial(
            Generation,
            self.id,
            params=params,
            tokenizer=tokenizer,
            progress=progress,
            n_context=self.n_context,
            judge=self.judge,
        )
        rest = [sample(sequence, index=index) for index, sequence in enumerate(others, 1)]
        return sample(first, others=rest)
