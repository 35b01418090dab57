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

        What is None is not sent, and so is the server's default.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            token_ids: The prompt as token ids, without special ones.
            max_tokens: How many tokens to write at the most; 0, to read the prompt only, needs
                `echo`.
            n: How many samples to write; they share the reading of the prompt.
            temperature: 0 for the most likely token each time.
            top_k: Draw from this many most likely tokens only; 0 for all.
            top_p: Draw from the most likely tokens that have this much probability together.
            min_p: Draw only from tokens at least this share as likely as the likeliest; 0 for all.
            seed: Makes a draw repeatable; each sample draws in its own way.
            stop: Text, or texts, to stop before.
            ignore_eos: Go on after the end-of-sequence token, as if it were any other.
            logprobs: Give the log-probability of every token, and of this many of the likeliest in
                its place, 0 to 20; None for no log-probabilities.
            echo: Begin what is written with the prompt; with `logprobs`, with those of its tokens.
            priority: -10 to 10; the lower, the sooner the server takes the request.
            deadline: Seconds after which the server gives the request up. The server counts them,
                anew when the request is sent again. Its API has them as `timeout`, which is the
                client's own limit here, and holds as well.
            request_id: A name for the request, to find it in the server's log.

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
        return parse_answer(self._send(call, stream=False), Generation)

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
    ) -> Stream:
        """Generates, and hands out what is written as it is written.

        The arguments are those of `generate`; the chunks of several samples come mixed, told apart
        by their `index`. Use the stream in a `with` block, so that it ends when you stop reading.
        It raises a `StreamError` when the generation fails on the server (its type is
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
