"""The client for asyncio."""

import operator
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import httpx

from causalrn_client.async_connection import AsyncConnection
from causalrn_client.async_run_batch import async_run_batch
from causalrn_client.async_session import AsyncSession
from causalrn_client.async_stream import AsyncStream
from causalrn_client.batch import DEFAULT_CONCURRENCY, Batch, Report
from causalrn_client.errors import APIConnectionError, APIStatusError, ResponseFormatError
from causalrn_client.generation_options import BatchOptions, GenerateOptions
from causalrn_client.model_info import (
    AdminModel,
    AdminModelList,
    Detokenization,
    Health,
    Model,
    ModelList,
    Tokenization,
    TokenizerInfo,
)
from causalrn_client.model_requests import (
    ADMIN_MODELS,
    MODELS,
    detokenize_call,
    info_call,
    load_call,
    tokenize_call,
    tokenizer_info_call,
    unload_call,
)
from causalrn_client.models import Generation, ServerInfo
from causalrn_client.requests import (
    DEFAULT_TIMEOUT,
    HEALTH,
    READY,
    Call,
    Endpoint,
    generate_call,
    model_for,
    source,
)
from causalrn_client.responses import parse_answer
from causalrn_client.retry import RETRIED_STATUSES, RetryPolicy
from causalrn_client.score import Score, read_score, score_call
from causalrn_client.session_id import new_session_id
from causalrn_client.session_info import SessionInfo, SessionPage
from causalrn_client.session_requests import list_call, restore_call
from causalrn_client.upload import Progress, uploading


class AsyncClient:
    """Talks to one CausalRN server. May be shared between tasks; its streams may not.

    Every method raises a `CausalRNError` when something goes wrong: an `APIStatusError` when the
    server refuses, an `APIConnectionError` when it cannot be reached, an `APITimeoutError` when it
    takes too long, a `ResponseFormatError` when it does not speak the contract.
    """

    def __init__(
        self,
        base_url: str | httpx.URL | None = None,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float | httpx.Timeout | None = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Makes a client; connects to nothing yet.

        Args:
            base_url: Address of the server; may hold a path. If left out, that in the environment
                variable CAUSALRN_BASE_URL, or else http://127.0.0.1:8000.
            api_key: Sent with every request, and shown nowhere. If left out, that in the
                environment variable CAUSALRN_API_KEY; without one, none is sent.
            model: Name of the model for whatever names none itself; the server's default if None.
            timeout: Seconds, or an `httpx.Timeout`; None to wait for ever. It bounds the wait for a
                connection, and the wait for each next piece of an answer, not the whole.
            max_retries: How many times a request is sent again after a connection error or a status
                408, 429, 502, 503 or 504, as long as nothing of its answer was handed out. Not
                after a `DeadlineExceededError`, nor where the server wants to be left alone for
                more than a minute. What adds to a session, or makes one, only where the server has
                certainly not done it yet.
            headers: Sent with every request; they come before what `api_key` would send.
            http_client: Sends the requests, and stays open when this client is closed; `timeout`
                and `headers` apply all the same.

        Raises:
            ValueError: `base_url` is not an address, `api_key` cannot be a key, or `max_retries` is
                negative.
        """
        endpoint = Endpoint.parse(base_url, api_key, headers, timeout)
        retries = RetryPolicy(max_retries)
        self._model = model
        self._owns_http = http_client is None
        http = http_client if http_client is not None else httpx.AsyncClient()
        self._connection = AsyncConnection(http, endpoint, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._connection.address)!r})"

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
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Generates, and returns when all is written.

        The arguments are those of `Client.generate`.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
            DeadlineExceededError: It was not finished within `deadline`.
        """
        call = self._generate_call(prompt, options, stream=False)
        return parse_answer(await self._connection.send(call), Generation)

    def stream(
        self,
        prompt: str | None = None,
        **options: Unpack[GenerateOptions],
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
        call = self._generate_call(prompt, options, stream=True)
        return AsyncStream(self._connection, call)

    async def generate_many(
        self,
        prompts: Iterable[str | Sequence[int]],
        *,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        progress: Report[Generation] | None = None,
        **options: Unpack[BatchOptions],
    ) -> list[Generation]:
        """Generates from many prompts, several at a time; one that fails does not stop the others.

        The arguments, the result and the errors are those of `Client.generate_many`; `progress` is
        called, not awaited. Cancelling the task ends the requests that are under way.
        """
        asked = [source(prompt) for prompt in prompts]
        batch = Batch[Generation](len(asked), max_concurrency, progress)
        return await async_run_batch(batch, lambda i: self.generate(**asked[i], **options))

    async def score(
        self,
        prompt: str | Sequence[int],
        completion: str | Sequence[int],
        *,
        model: str | None = None,
        mode: str | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Score:
        """Tells how likely a completion is to the model, given a prompt; writes nothing.

        The arguments and the errors are those of `Client.score`.
        """
        model = model_for(model, self._model, None)
        context = await self._ids(prompt, model, special=True, mode=mode)
        ids = await self._ids(completion, model, special=False, mode=mode)
        call = score_call(
            context, ids, model=model, priority=priority, deadline=deadline, request_id=request_id
        )
        return read_score(parse_answer(await self._connection.send(call), Generation), ids)

    async def score_many(
        self,
        pairs: Iterable[tuple[str | Sequence[int], str | Sequence[int]]],
        *,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        progress: Report[Score] | None = None,
        model: str | None = None,
        mode: str | None = None,
        priority: int | None = None,
        deadline: float | None = None,
    ) -> list[Score]:
        """Scores many completions, several at a time; one that fails does not stop the others.

        The arguments, the result and the errors are those of `Client.score_many`; `progress` is
        called, not awaited. Cancelling the task ends the requests that are under way.
        """
        texts = list(pairs)
        batch = Batch[Score](len(texts), max_concurrency, progress)
        return await async_run_batch(
            batch,
            lambda i: self.score(
                *texts[i], model=model, mode=mode, priority=priority, deadline=deadline
            ),
        )

    async def tokenize(
        self,
        text: str,
        *,
        model: str | None = None,
        add_special_tokens: bool = True,
        mode: str | None = None,
        return_token_strs: bool = False,
    ) -> Tokenization:
        """Returns the token ids of a text.

        The arguments are those of `Client.tokenize`.
        """
        call = tokenize_call(
            text,
            model=model_for(model, self._model, None),
            special=add_special_tokens,
            mode=mode,
            strings=return_token_strs,
        )
        return parse_answer(await self._connection.send(call), Tokenization)

    async def detokenize(self, tokens: Sequence[int], *, model: str | None = None) -> str:
        """Returns the text of token ids.

        The arguments are those of `Client.detokenize`.
        """
        call = detokenize_call(tokens, model=model_for(model, self._model, None))
        return parse_answer(await self._connection.send(call), Detokenization).prompt

    async def tokenizer_info(self, *, model: str | None = None) -> TokenizerInfo:
        """Returns what the server says about the tokenizer of a model."""
        call = tokenizer_info_call(model_for(model, self._model, None))
        return parse_answer(await self._connection.send(call), TokenizerInfo)

    async def models(self) -> list[Model]:
        """Returns the models that are served, the default one first."""
        return parse_answer(await self._connection.send(MODELS), ModelList).data

    async def admin_models(self) -> list[AdminModel]:
        """Returns the models that are served, and those that could be; for administrators."""
        return parse_answer(await self._connection.send(ADMIN_MODELS), AdminModelList).models

    async def load_model(self, name: str) -> AdminModel:
        """Loads a model and serves it, if it is not served already; for administrators.

        Returns once it is served, which can take longer than `timeout`: it is loaded all the same.

        Raises:
            ModelNotFoundError: The server has no checkpoint of this name.
        """
        return parse_answer(await self._connection.send(load_call(name)), AdminModel)

    async def unload_model(self, name: str) -> None:
        """Lets the requests of a model finish, and serves it no more; for administrators.

        Raises:
            ConflictError: It is the default one, which stays.
            ModelNotFoundError: It is not served.
        """
        await self._connection.delete(unload_call(name))

    def session(
        self,
        id: str | None = None,
        *,
        model: str | None = None,
        ttl: float | None = None,
        keep: bool = False,
    ) -> AsyncSession:
        """Returns a session of the server's, to be opened by an `async with` block or its `open`.

        The arguments and the errors are those of `Client.session`.
        """
        for name, value in {"model": model, "ttl": ttl}.items():
            if id is not None and value is not None:
                raise ValueError(
                    f"{name} is for a session that is yet to be made, and this one has an id"
                )
        model = model_for(model, self._model, id)
        keep = keep or id is not None
        return AsyncSession(self._connection, id, model=model, ttl=ttl, keep=keep)

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
        return AsyncSession(self._connection, info.id, is_open=True, keep=keep)

    async def info(self, *, model: str | None = None) -> ServerInfo:
        """Returns what the server says about a model, the client's default if None, and its limits.

        Raises:
            ModelNotFoundError: It is not served.
        """
        call = info_call(model_for(model, self._model, None))
        return parse_answer(await self._connection.send(call), ServerInfo)

    async def health(self) -> Health:
        """Returns how busy the server is; asks once, without retries.

        Raises:
            ServiceUnavailableError: It is starting, stalled or draining.
        """
        return parse_answer(await self._connection.send_once(HEALTH), Health)

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

    def _generate_call(self, prompt: str | None, options: GenerateOptions, *, stream: bool) -> Call:
        options["model"] = model_for(options.get("model"), self._model, options.get("session_id"))
        return generate_call(prompt, stream=stream, **options)

    async def _ids(
        self, source: str | Sequence[int], model: str | None, *, special: bool, mode: str | None
    ) -> list[int]:
        if not isinstance(source, str):
            return [operator.index(token_id) for token_id in source]
        found = await self.tokenize(source, model=model, add_special_tokens=special, mode=mode)
        return found.tokens
