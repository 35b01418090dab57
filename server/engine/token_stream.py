"""The reader's end of a generation."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from model.sampling import TokenLogprob
from model.tokenizer import Tokenizer

if TYPE_CHECKING:  # which needs what is defined here
    from server.sessions.journal import JournaledTurn

FinishReason = Literal["stop", "length"]
"""`stop`: the model ended, or a stop string came. `length`: `max_tokens` were generated."""


@dataclass(frozen=True)
class Delta:
    """What is new in one sample of a request.

    Attributes:
        token_ids: new ids.
        text: new text; it may lag behind the ids by part of a character or of a stop string.
        finish_reason: why the sample is over; None while it is not.
        index: of the sample.
        logprobs: one a new id, if they were asked for.
        n_echoed: how many of the ids, the first ones, are the prompt's.
        is_eos: whether the model ended the sample, with an id that is not among these.
        eos_logprob: of that id, if log-probabilities were asked for.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    n_echoed: int = 0
    is_eos: bool = False
    eos_logprob: TokenLogprob | None = None

    @property
    def n_generated(self) -> int:
        """How many of the ids were generated."""
        return len(self.token_ids) - self.n_echoed

    @classmethod
    def join(cls, deltas: Sequence["Delta"]) -> "Delta":
        """Several deltas of one sample, at least one, as one."""
        if len(deltas) == 1:
            return deltas[0]
        return cls(
            [token_id for delta in deltas for token_id in delta.token_ids],
            "".join(delta.text for delta in deltas),
            deltas[-1].finish_reason,
            deltas[-1].index,
            None
            if deltas[-1].logprobs is None
            else [logprob for delta in deltas for logprob in delta.logprobs or ()],
            sum(delta.n_echoed for delta in deltas),
            deltas[-1].is_eos,
            deltas[-1].eos_logprob,
        )


@dataclass
class Progress:
    """When a request got where, in seconds of the monotonic clock. The engine writes it.

    Attributes:
        arrived: it was submitted.
        scheduled: it took part in a step for the first time.
        first_token, last_token: the first and the latest token of any sample.
        n_cached: tokens of the prompt that were not computed for it.
    """

    arrived: float
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    n_cached: int = 0


class TokenStream:
    """An async iterator of deltas that aborts its request when it is closed early.

    Deltas of a sample that nobody has read yet become one, so a reader that lags costs no more
    memory than its tokens, and waits for nothing but these. Use it as `async with`; leaving it, by
    whatever way, is what frees the request's place and memory. All methods belong to the event
    loop's thread.

    Attributes:
        id: of the request.
        model: name of the model.
        tokenizer: of the model.
        n_prompt_tokens: tokens that the model reads, special ones included.
        n_completion_tokens: tokens generated so far, of all samples.
        n_samples: samples that it yields.
        progress: when the request got where.
        model: name of the model that makes it.
        turn: of the session that the request goes on, if it has one.
    """

    def __init__(
        self,
        id: str,
        n_prompt_tokens: int,
        abort: Callable[[str], None],
        *,
        n_samples: int = 1,
        progress: Progress | None = None,
        model: str = "",
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.id = id
        self.model = model
        self.tokenizer = tokenizer
        self.n_prompt_tokens = n_prompt_tokens
        self.n_completion_tokens = 0
        self.n_samples = n_samples
        self.progress = progress or Progress(time.monotonic())
        self.turn: JournaledTurn | None = None
        self._abort = abort
        self._unread: dict[int, list[Delta]] = {}
        self._running = n_samples
        self._error: Exception | None = None
        self._closed = False
        self._news = asyncio.Event()

    @property
    def n_cached(self) -> int:
        """Tokens of the prompt that were not computed for it."""
        return self.progress.n_cached

    @property
    def is_complete(self) -> bool:
        """Whether every sample is finished, read or not."""
        return not self._running

    def push(self, delta: Delta, *, wake: bool = True) -> None:
        """Add what the engine made; the reader sees it now, or when it is woken."""
        self.n_completion_tokens += delta.n_generated
        self._unread.setdefault(delta.index, []).append(delta)
        self._running -= delta.finish_reason is not None
        if wake:
            self.wake()

    def wake(self) -> None:
        """Let the reader see what there is."""
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the stream with an error, raised once what came before it is read."""
        self._error = error
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._unread or not self._news.is_set():
            if not self._unread:
                if self._error is not None:
                    raise self._error
                if self._closed or not self._running:
                    raise StopAsyncIteration
                self._news.clear()
            await self._news.wait()
        index = next(iter(self._unread))
        delta = Delta.join(self._unread.pop(index))
        if not self._unread and self._running and self._error is None:
            self._news.clear()
        return delta

    async def aclose(self) -> None:
        """Abort the request unless it is over; idempotent."""
        self._closed = True
        self._news.set()
        self._abort(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
