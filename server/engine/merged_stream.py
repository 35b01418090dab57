"""The streams of several requests, read as one."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from causalrn.model.tokenizers.base import Tokenizer
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.token_stream import TokenStream


class MergedStream:
    """Deltas of several requests as they come, with samples numbered as those of one request.

    The next delta is taken from a stream only when the last one has been read, so a slow reader
    costs no more memory than with one stream. The first error of a request is raised, and ends all
    of them. Use it as `async with`; leaving it closes every stream.

    Args:
        streams: at least one, all of one model and with the same number of samples.

    Attributes:
        id: the first request's.
        model: name of the model.
        tokenizer: the model's.
        n_samples: how many samples there are in all.
    """

    def __init__(self, streams: Sequence[TokenStream]) -> None:
        self._streams = streams
        self.id = streams[0].id
        self.model = streams[0].model
        self.tokenizer: Tokenizer | None = streams[0].tokenizer
        self.n_samples = sum(stream.n_samples for stream in streams)
        self._news: asyncio.Queue[Delta | Exception | None] = asyncio.Queue(1)
        self._pumps: list[asyncio.Task[None]] = []
        self._n_open = len(streams)

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens that the model reads, special ones included."""
        return sum(stream.n_prompt_tokens for stream in self._streams)

    @property
    def n_completion_tokens(self) -> int:
        """Tokens generated so far."""
        return sum(stream.n_completion_tokens for stream in self._streams)

    @property
    def n_cached(self) -> int:
        """Tokens of the prompts that did not have to be computed."""
        return sum(stream.n_cached for stream in self._streams)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while self._n_open:
            news = await self._news.get()
            if isinstance(news, Delta):
                return news
            if news is not None:
                raise news
            self._n_open -= 1
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        first = 0
        for stream in self._streams:
            self._pumps.append(asyncio.create_task(self._pump(stream, first)))
            first += stream.n_samples
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in self._streams:
            await stream.aclose()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pump(self, stream: TokenStream, first: int) -> None:
        try:
            async for delta in stream:
                await self._news.put(replace(delta, index=first + delta.index))
        except Exception as error:
            await self._news.put(error)
        else:
            await self._news.put(None)
