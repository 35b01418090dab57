"""The client for synchronous code."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import httpx

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
from causalrn_client.stream import Stream


class Client:
    """Talks to one CausalRN server. May be shared between threads; its streams may not.

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
        http_client: httpx.Client | None = None,
    ) -> None:
        """Makes a client; connects to nothing yet.

        Args:
            base_url: Address of the server; may hold a path.
            timeout: Seconds, or an `httpx.Timeout`; None to wait for ever. It bounds the wait for a
                connection, and the wait for each next piece of an answer, not the whole.
            max_retries: How many times a request is sent again after a connection error or a status
                429, 502, 503 or 504, as long as nothing of its answer was handed out.
            headers: Sent with every request.
            http_client: Sends the requests, and stays open when this client is closed; `timeout`
                and `headers` apply all the same.

        Raises:
            ValueError: `base_url` is not an address, or `max_retries` is negative.
        """
        self._endpoint = Endpoint.parse(base_url, headers, timeout)
        self._retries = RetryPolicy(max_retries)
        self._owns_http = http_client is None
        self._http = http_client if http_client is not None else httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections, unless they belong to an `http_client` that was passed in."""
        if self._owns_http:
            self._http.close()

    def generate(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        request_id: str | None = None,
    ) -> Generation:
        """Generates, and returns when all is written.

        What is None is not sent, and so is the server's default.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            token_ids: The prompt as token ids, without special ones.
            max_tokens: How many tokens to write at the most.
            temperature: 0 for the most likely token each time.
            top_k: Draw from this many most likely tokens only; 0 for all.
            top_p: Draw from the most likely tokens that have this much probability together.
            seed: Makes a draw repeatable.
            stop: Text, or texts, to stop before.
            request_id: A name for the request, to find it in the server's log.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
        """
        call = generate_call(
            prompt,
            stream=False,
            token_ids=token_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
            request_id=request_id,
        )
        return parse_answer(self._send(call, stream=False), Generation)

    def stream(
        self,
        prompt: str | None = None,
        *,
        token_ids: Sequence[int] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        request_id: str | None = None,
    ) -> Stream:
        """Generates, and hands out what is written as it is written.

        The arguments are those of `generate`. Use the stream in a `with` block, so that it ends
        when you stop reading. It raises a `StreamError` when the generation fails on the server,
        and an `IncompleteStreamError` when the connection breaks.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
        """
        call = generate_call(
            prompt,
            stream=True,
            token_ids=token_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            stop=stop,
            request_id=request_id,
        )
        return Stream(partial(self._send, call, stream=True))

    def info(self) -> ServerInfo:
        """Returns what the server says about its model and its limits."""
        return parse_answer(self._send(INFO, stream=False), ServerInfo)

    def ready(self) -> bool:
        """Tells whether the server can take requests now; asks once, without retries.

        False when it cannot be reached, or says that it is starting, stalled or draining.
        """
        try:
            self._attempt(READY, stream=False)
        except APIConnectionError:
            return False
        except APIStatusError as error:
            if error.status_code in RETRIED_STATUSES:
                return False
            raise
        return True

    def _send(self, call: Call, *, stream: bool) -> httpx.Response:
        attempt = 0
        while True:
            try:
                return self._attempt(call, stream=stream)
            except CausalRNError as error:
                delay = self._retries.delay(error, attempt)
                if delay is None:
                    raise
            time.sleep(delay)
            attempt += 1

    def _attempt(self, call: Call, *, stream: bool) -> httpx.Response:
        request = self._endpoint.request(self._http, call)
        try:
            response = self._http.send(request, stream=stream)
            if stream and not response.is_success:
                with contextlib.closing(response):
                    response.read()
        except httpx.RequestError as error:
            raise failure(error) from error
        if not response.is_success:
            raise refusal(response)
        if stream and not is_event_stream(response):
            response.close()
            content_type = response.headers.get("content-type")
            raise ResponseFormatError(f"not a stream of events: content-type {content_type}")
        return response
