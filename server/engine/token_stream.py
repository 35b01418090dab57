"""The reader's end of a generation."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from causalrn.model.tokenizers.base import Tokenizer
from causalrn.server.engine.deltas import Delta, Progress


class TokenStream:
    """An async iterator of deltas that aborts its request when it is closed early.

    Deltas of a sample that nobody has read yet become one, so a slow reader costs no more memory
    than its tokens. Use it as `async with`: leaving it, in whatever way, frees the request's place
    and memory. All methods belong to the event loop's thread.

    Attributes:
        id: the request's.
        model: name of the model.
        tokenizer: the model's.
        n_prompt_tokens: tokens that the model reads, special ones included.
        n_completion_tokens: tokens generated so far, of all samples.
        n_samples: how many samples the request has.
        progress: how far the request has got, and when.
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
        self._abort = abort
        self._unread: dict[int, list[Delta]] = {}
        self._running = n_samples
        self._error: Exception | None = None
        self._closed = False
        self._news = asyncio.Event()

    @property
    def n_cached(self) -> int:
        """Tokens of the prompt that did not have to be computed."""
        return self.progress.n_cached

    @property
    def is_complete(self) -> bool:
        """Whether every sample is finished, read or not."""
        return not self._running

    def push(self, delta: Delta, *, wake: bool = True) -> None:
        """Add what the engine made; the reader sees it at once, or when `wake` is called."""
        self.n_completion_tokens += delta.n_generated
        self._unread.setdefault(delta.index, []).append(delta)
        self._running -= delta.finish_reason is not None
        if wake:
            self.wake()

    def wake(self) -> None:
        """Let the reader see what there is by now."""
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the stream with an error, which is raised after what came before it was read."""
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
