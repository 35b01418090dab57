"""The reader's end of a generation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self


@dataclass(frozen=True)
class Delta:
    """What is new in a generation.

    Attributes:
        token_ids: new ids.
        text: new text; it may lag behind the ids by part of a character or of a stop string.
        finish_reason: why the generation is over; None while it is not.
    """

    token_ids: list[int]
    text: str
    finish_reason: Literal["stop", "length"] | None = None

    @classmethod
    def join(cls, deltas: Sequence["Delta"]) -> "Delta":
        """Several deltas, at least one, as one."""
        return cls(
            [token_id for delta in deltas for token_id in delta.token_ids],
            "".join(delta.text for delta in deltas),
            deltas[-1].finish_reason,
        )


class TokenStream:
    """An async iterator of deltas that aborts its generation when it is closed early.

    Deltas that nobody has read yet become one, so a reader that lags costs no more memory than its
    generation, and waits for nothing but its own tokens. Use it as `async with`; leaving it, by
    whatever way, is what frees the generation's place and memory. All methods belong to the event
    loop's thread.

    Attributes:
        id: of the generation.
        n_prompt_tokens: tokens that the model reads, special ones included.
        n_completion_tokens: tokens read from this stream so far.
    """

    def __init__(self, id: str, n_prompt_tokens: int, abort: Callable[[str], None]) -> None:
        self.id = id
        self.n_prompt_tokens = n_prompt_tokens
        self.n_completion_tokens = 0
        self._abort = abort
        self._unread: list[Delta] = []
        self._error: Exception | None = None
        self._over = False
        self._news = asyncio.Event()

    def push(self, delta: Delta) -> None:
        """Add what the engine made."""
        self._unread.append(delta)
        self._over = delta.finish_reason is not None
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the stream with an error, raised once what came before it is read."""
        self._error = error
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        delta, self._unread = Delta.join(self._unread), []
        self.n_completion_tokens += len(delta.token_ids)
        return delta

    async def aclose(self) -> None:
        """Abort the generation unless it is over; idempotent."""
        self._over = True
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
