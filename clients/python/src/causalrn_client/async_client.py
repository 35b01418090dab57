"""The client for asyncio."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import httpx

from causalrn_client.async_stream import AsyncStream
from causalrn_client.errors import (
    APIConnectionError,
    APIStatusError,
    CausalRNError,
    ResponseFormatError,
)
from causalrn_client.models import Generation, ServerInfo
from causalrn_client.requests import (
    DEFAULT_BASE_URL,
    DEFAULT_TIMEOUT,
    INFO,
    READY,
    Call,
    Endpoint,
    generate_call,
)
from causalrn_client.responses import failure, is_event_stream, parse_answer, refusal
from causalrn_client.retry import RETRIED_STATUSES, RetryPolicy


class AsyncClient:
    """Talks to one CausalRN server. May be shared between tasks; its streams may not.

    Every method raises a `CausalRNError` when something goes wrong: an `APIStatusError` when the
    server refuses, an `APIConnectionError` when it cannot be reached, an `APITimeoutError` when it
    takes too long, a `ResponseFormatError` when it does not speak the contract.
    """

    def __init__(
        self,
        base_url: str | httpx.URL = DEFAULT_BASE_URL,
        *,
        timeout: float | httpx.Timeout | None = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Makes a client; connects to nothing yet.

        Args:
            base_url: Address of the server; may hold a path.
            timeout: Seconds, or an `httpx.Timeout`; None to wait for ever. It bounds the wait for a
                connection, and the wait for each next piece of an answer, not the whole.
            max_retries: How many times a request is sent again after a connection error or a status
                429, 502, 503 or 504, as long as nothing of its answer was handed out. Not after a
                `DeadlineExceededError`.
            headers: Sent with every request.
            http_client: Sends the requests, and stays open when this client is closed; `timeout`
                and `headers` apply all the same.

        Raises:
            ValueError: `base_url` is not an address, or `max_retries` is negative.
        """
        self._endpoint = Endpoint.parse(base_url, headers, timeout)
        self._retries = RetryPolicy(max_retries)
        self._owns_http = http_client is None
        self._http = http_client if http_client is not None else httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections, unless they belong to an `http_client` that was passed in."""
        if self._owns_http:
            await self._http.aclose()

    async def generate(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        max_tokens: int | None = None,
        n: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool | None = None,
        logprobs: int | None = None,
        echo: bool | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Generation:
        """Generates, and returns when all is written.

        The arguments are those of `Client.generate`.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
            DeadlineExceededError: It was not finished within `deadline`.
        """
        call = generate_call(
            prompt,
            stream=False,
            token_ids=token_ids,
            max_tokens=max_tokens,
            n=n,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
            ignore_eos=ignore_eos,
            logprobs=logprobs,
            echo=echo,
            priority=priority,
            deadline=deadline,
            request_id=request_id,
        )
        return parse_answer(await self._send(call, stream=False), Generation)

    def stream(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        max_tokens: int | None = None,
        n: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        ignore_eos: bool | None = None,
        logprobs: int | None = None,
        echo: bool | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> AsyncStream:
        """Generates, and hands out what is written as it is written.

        The arguments are those of `Client.generate`; the chunks of several samples come mixed, told
        apart by their `index`. Use the stream in an `async with` block, so that it ends when you
        stop reading. It raises a `StreamError` when the generation fails on the server (its type is
        `deadline_exceeded` when it was not finished within `deadline`), and an
        `IncompleteStreamError` when the connection breaks.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
        """
        call = generate_call(
            prompt,
            stream=True,
            token_ids=token_ids,
            max_tokens=max_tokens,
            n=n,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
            ignore_eos=ignore_eos,
            logprobs=logprobs,
            echo=echo,
            priority=priority,
            deadline=deadline,
            request_id=request_id,
        )
        return AsyncStream(partial(self._send, call, stream=True))

    async def info(self) -> ServerInfo:
        """Returns what the server says about its model and its limits."""
        return parse_answer(await self._send(INFO, stream=False), ServerInfo)

    async def ready(self) -> bool:
        """Tells whether the server can take requests now; asks once, without retries.

        False when it cannot be reached, or says that it is starting, stalled or draining.
        """
        try:
            await self._attempt(READY, stream=False)
        except APIConnectionError:
            return False
        except APIStatusError as error:
            if error.status_code in RETRIED_STATUSES:
                return False
            raise
        return True

    async def _send(self, call: Call, *, stream: bool) -> httpx.Response:
        attempt = 0
        while True:
            try:
                return await self._attempt(call, stream=stream)
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, call: Call, *, stream: bool) -> httpx.Response:
        request = self._endpoint.request(self._http, call)
        try:
            response = await self._http.send(request, stream=stream)
            if stream and not response.is_success:
                async with contextlib.aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            raise failure(error) from error
        if not response.is_success:
            raise refusal(response)
        if stream and not is_event_stream(response):
            await response.aclose()
            content_type = response.headers.get("content-type")
            raise ResponseFormatError(f"not a stream of events: content-type {content_type}")
        return response
