"""The client for asyncio."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import BinaryIO, Self

import httpx

from causalrn_client.async_connection import AsyncConnection
from causalrn_client.async_session import AsyncSession
from causalrn_client.async_stream import AsyncStream
from causalrn_client.errors import APIConnectionError, APIStatusError, ResponseFormatError
from causalrn_client.models import Generation, ServerInfo
from causalrn_client.requests import (
    DEFAULT_BASE_URL,
    DEFAULT_TIMEOUT,
    INFO,
    READY,
    Endpoint,
    generate_call,
)
from causalrn_client.responses import parse_answer
from causalrn_client.retry import RETRIED_STATUSES, RetryPolicy
from causalrn_client.session_id import new_session_id
from causalrn_client.session_info import SessionInfo, SessionPage
from causalrn_client.session_requests import list_call, restore_call
from causalrn_client.turn_options import Mode
from causalrn_client.upload import Progress, uploading


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
                `DeadlineExceededError`. What adds to a session, or makes one, only where the server
                has certainly not done it yet.
            headers: Sent with every request.
            http_client: Sends the requests, and stays open when this client is closed; `timeout`
                and `headers` apply all the same.

        Raises:
            ValueError: `base_url` is not an address, or `max_retries` is negative.
        """
        endpoint = Endpoint.parse(base_url, headers, timeout)
        retries = RetryPolicy(max_retries)
        self._owns_http = http_client is None
        http = http_client if http_client is not None else httpx.AsyncClient()
        self._connection = AsyncConnection(http, endpoint, retries)

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
        try:
            await self._connection.finish()
        finally:
            if self._owns_http:
                await self._connection.http.aclose()

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
        mode: Mode | None = None,
        session_id: str | None = None,
        wait_for_session: bool | None = None,
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
            mode=mode,
            session_id=session_id,
            wait_for_session=wait_for_session,
        )
        return parse_answer(await self._connection.send(call), Generation)

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
        mode: Mode | None = None,
        session_id: str | None = None,
        wait_for_session: bool | None = None,
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
            mode=mode,
            session_id=session_id,
            wait_for_session=wait_for_session,
        )
        return AsyncStream(partial(self._connection.open_stream, call))

    def session(
        self, id: str | None = None, *, ttl: float | None = None, keep: bool = False
    ) -> AsyncSession:
        """Returns a session of the server's, to be opened by an `async with` block or its `open`.

        The arguments and the errors are those of `Client.session`.
        """
        if id is not None and ttl is not None:
            raise ValueError("ttl is for a session that is yet to be made, and this one has an id")
        return AsyncSession(self, self._connection, id, ttl=ttl, keep=keep or id is not None)

    async def sessions(self, *, limit: int | None = None) -> AsyncIterator[SessionInfo]:
        """Yields all sessions that the server keeps, and asks for each page when it is needed.

        The arguments and the order are those of `Client.sessions`.
        """
        after: str | None = None
        while True:
            response = await self._connection.send(list_call(after, limit))
            page = parse_answer(response, SessionPage)
            for session in page.sessions:
                yield session
            if page.next is None:
                return
            if page.next == after:
                raise ResponseFormatError(f"the page of sessions after {after} leads to itself")
            after = page.next

    async def restore(
        self,
        source: str | os.PathLike[str] | bytes | BinaryIO,
        id: str | None = None,
        *,
        keep: bool = False,
        progress: Progress | None = None,
    ) -> AsyncSession:
        """Sends a snapshot to the server, and returns the session that it makes of it.

        The arguments, the result and the errors are those of `Client.restore`; `progress` is
        called, not awaited.
        """
        with uploading(source, progress) as upload:
            call = restore_call(new_session_id() if id is None else id, upload)
            info = parse_answer(await self._connection.send(call), SessionInfo)
        keep = keep or id is not None
        return AsyncSession(self, self._connection, info.id, is_open=True, keep=keep)

    async def info(self) -> ServerInfo:
        """Returns what the server says about its model and its limits."""
        return parse_answer(await self._connection.send(INFO), ServerInfo)

    async def ready(self) -> bool:
        """Tells whether the server can take requests now; asks once, without retries.

        False when it cannot be reached, or says that it is starting, stalled or draining.
        """
        try:
            await self._connection.send_once(READY)
        except APIConnectionError:
            return False
        except APIStatusError as error:
            if error.status_code in RETRIED_STATUSES:
                return False
            raise
        return True
