"""The client for synchronous code."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import BinaryIO, Self

import httpx

from causalrn_client.connection import Connection
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
from causalrn_client.session import Session
from causalrn_client.session_id import new_session_id
from causalrn_client.session_info import SessionInfo, SessionPage
from causalrn_client.session_requests import list_call, restore_call
from causalrn_client.stream import Stream
from causalrn_client.turn_options import Mode
from causalrn_client.upload import Progress, uploading


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
        http = http_client if http_client is not None else httpx.Client()
        self._connection = Connection(http, endpoint, retries)

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
            self._connection.http.close()

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
        mode: Mode | None = None,
        session_id: str | None = None,
        wait_for_session: bool | None = None,
    ) -> Generation:
        """Generates, and returns when all is written.

        What is None is not sent, and so is the server's default.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            token_ids: The prompt as token ids, without special ones.
            max_tokens: How many tokens to write at the most; 0, to read the prompt only, needs
                `echo` or a session.
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
            mode: What the prompt is. `copy`, the default: a text to write out. `recall`: the first
                words of a passage that the session has read, to go on from. `raw`: tokens to go on
                from as they are, special ones too; none at all for where the session stands.
            session_id: The session that the prompt and what is written are added to, and that they
                go on from; see `session`.
            wait_for_session: Wait while another request has the session, for as long as `deadline`
                allows, in place of raising a `SessionBusyError`.

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
        return parse_answer(self._connection.send(call), Generation)

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
            mode=mode,
            session_id=session_id,
            wait_for_session=wait_for_session,
        )
        return Stream(partial(self._connection.open_stream, call))

    def session(
        self, id: str | None = None, *, ttl: float | None = None, keep: bool = False
    ) -> Session:
        """Returns a session of the server's, to be opened by a `with` block or its `open`.

        Args:
            id: Of a session that the server has; it is left there. None to make one, which leaving
                the block deletes.
            ttl: Seconds without use after which the new session is gone; the server's default if
                None.
            keep: Whether leaving the block leaves the new session on the server.

        Raises:
            ValueError: `ttl` is given together with `id`.
        """
        if id is not None and ttl is not None:
            raise ValueError("ttl is for a session that is yet to be made, and this one has an id")
        return Session(self, self._connection, id, ttl=ttl, keep=keep or id is not None)

    def sessions(self, *, limit: int | None = None) -> Iterator[SessionInfo]:
        """Yields all sessions that the server keeps, and asks for each page when it is needed.

        Args:
            limit: How many a page has at the most, 1 to 1000; the server's default if None.

        Returns:
            An iterator in the order in which the sessions were made. One that is made or deleted
            meanwhile may be in it or not.
        """
        after: str | None = None
        while True:
            response = self._connection.send(list_call(after, limit))
            page = parse_answer(response, SessionPage)
            yield from page.sessions
            if page.next is None:
                return
            if page.next == after:
                raise ResponseFormatError(f"the page of sessions after {after} leads to itself")
            after = page.next

    def restore(
        self,
        source: str | os.PathLike[str] | bytes | BinaryIO,
        id: str | None = None,
        *,
        keep: bool = False,
        progress: Progress | None = None,
    ) -> Session:
        """Sends a snapshot to the server, and returns the session that it makes of it.

        Args:
            source: The path of a file, the bytes of one, or an open one that can seek. Files are
                read while they are sent.
            id: The session's name, `ses-` and 32 hexadecimal digits; one that has it already is
                replaced. It is left there. None for a new one, which leaving the block deletes.
            keep: Whether leaving the block leaves the new session on the server.
            progress: Told how many bytes were sent, and of how many. Begins again when the
                connection breaks and the request is sent again.

        Returns:
            The session, which is open.

        Raises:
            InvalidSnapshotError: The snapshot is damaged, or of other weights or another version.
            RequestTooLargeError: It is larger than the server takes.
            SessionBusyError: There is such a session, and another request has it.
            TooManySessionsError: The server holds as many as it may.
            OSError: The file cannot be read.
        """
        with uploading(source, progress) as upload:
            call = restore_call(new_session_id() if id is None else id, upload)
            info = parse_answer(self._connection.send(call), SessionInfo)
        keep = keep or id is not None
        return Session(self, self._connection, info.id, is_open=True, keep=keep)

    def info(self) -> ServerInfo:
        """Returns what the server says about its model and its limits."""
        return parse_answer(self._connection.send(INFO), ServerInfo)

    def ready(self) -> bool:
        """Tells whether the server can take requests now; asks once, without retries.

        False when it cannot be reached, or says that it is starting, stalled or draining.
        """
        try:
            self._connection.send_once(READY)
        except APIConnectionError:
            return False
        except APIStatusError as error:
            if error.status_code in RETRIED_STATUSES:
                return False
            raise
        return True
