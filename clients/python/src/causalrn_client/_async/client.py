"""The client."""

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import httpx

from causalrn_client._async.connection import AsyncConnection
from causalrn_client._async.session import AsyncSession
from causalrn_client._async.stream import AsyncStream
from causalrn_client.arguments import integers
from causalrn_client.async_run_batch import async_run_batch
from causalrn_client.batch import DEFAULT_CONCURRENCY, Batch, Report
from causalrn_client.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    InvalidRequestError,
    ResponseFormatError,
)
from causalrn_client.generation_options import BatchOptions, GenerateOptions
from causalrn_client.http_options import FRESH, KEPT, http_options
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
from causalrn_client.proxy import EnvironmentProxy
from causalrn_client.requests import (
    DEFAULT_TIMEOUT,
    HEALTH,
    READY,
    Call,
    Endpoint,
    generate_call,
    model_for,
    source,
    sources,
)
from causalrn_client.responses import parse_answer
from causalrn_client.retry import RETRIED_STATUSES, RetryPolicy
from causalrn_client.score import Score, read_score, score_call, score_pairs
from causalrn_client.session_id import new_session_id
from causalrn_client.session_info import SessionInfo, SessionPage
from causalrn_client.session_requests import list_call, restore_call
from causalrn_client.upload import Progress, uploading


class AsyncClient:
    """Talks to one CausalRN server.

    Threads can share a client, or tasks with asyncio, but not its streams. Close it when you no
    longer need it, or use it in an `async with` block.

    Every method raises a `CausalRNError` when something goes wrong: an `APIStatusError` when the
    server refuses, an `APIConnectionError` when it cannot be reached, an `APITimeoutError` when it
    takes too long, and a `ResponseFormatError` when the answer is not one of a CausalRN server.
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
        """Prepares a client, without connecting to the server yet.

        Args:
            base_url: The server's address, which can include a path. If None, it comes from the
                environment variable CAUSALRN_BASE_URL, or is http://127.0.0.1:8000 without one.
            api_key: The key to send with every request; it is never shown anywhere. If None, it
                comes from the environment variable CAUSALRN_API_KEY, or no key is sent.
            model: The name of the model to use for calls that do not name one. If None, the server
                uses its own default.
            timeout: How long to wait for a connection, and for each further piece of an answer, in
                seconds or as an `httpx.Timeout`. None waits forever. It does not limit how long
                a whole answer takes.
            max_retries: How many times to retry a request after a connection error or a status 408,
                429, 502, 503 or 504. A request is not retried once part of its answer has been
                handed out, after a `DeadlineExceededError`, or if the server asks to be left alone
                for more than a minute. One that makes a session or adds to it is retried only if
                the server has certainly not acted on it.
            headers: Headers to send with every request. They take precedence over `api_key`.
            http_client: The client of `httpx` to send requests with. It stays open when this client
                is closed. `timeout` and `headers` still apply. Without one, the environment says
                which proxy to use (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and whom to trust
                (SSL_CERT_FILE, SSL_CERT_DIR). Servers on this machine are reached without a proxy.

        Raises:
            ConfigurationError: An argument, or a variable of the environment, is unusable; the
                message names it.
        """
        endpoint = Endpoint.parse(base_url, api_key, headers, timeout)
        retries = RetryPolicy(max_retries)
        self._model = model
        self._owns_http = http_client is None
        if http_client is None:
            proxy = EnvironmentProxy.to(endpoint.base_url)
            options = http_options(endpoint.base_url, proxy)
            http = httpx.AsyncClient(**options, limits=KEPT)
            fresh = httpx.AsyncClient(**options, limits=FRESH)
        elif isinstance(http_client, httpx.AsyncClient):
            http = fresh = http_client
            proxy = None
        else:
            raise ConfigurationError(
                f"http_client must be an httpx.AsyncClient, not {type(http_client).__name__}"
            )
        self._connection = AsyncConnection(http, fresh, proxy, endpoint, retries)

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
        """Closes the client's connections, except those of an `http_client` that you passed in."""
        try:
            await self._connection.shield.finish()
        finally:
            if self._owns_http:
                await self._connection.http.aclose()
                await self._connection.fresh.aclose()

    async def generate(
        self, prompt: str | None = None, **options: Unpack[GenerateOptions]
    ) -> Generation:
        """Generates, and returns the whole answer once it is complete.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            options: See `GenerateOptions`.

        Raises:
            InvalidRequestError: A value cannot be sent, such as a lone surrogate.
            DeadlineExceededError: The answer was not complete within `deadline`.
        """
        call = self._generate_call(prompt, options, stream=False)
        return await self._connection.ask(call, Generation)

    def stream(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> AsyncStream:
        """Generates, and returns a stream that yields the answer while it is being written.

        Use the stream in an `async with` block, so that the server stops when you stop reading. It
        raises a `StreamError` if the generation fails on the server, with the type
        `deadline_exceeded` if it was not complete within `deadline`, and an
        `IncompleteStreamError` if the connection breaks.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            options: See `GenerateOptions`. With `n`, the chunks of all samples come mixed; their
                `index` tells them apart.

        Raises:
            InvalidRequestError: A value cannot be sent, such as a lone surrogate.
        """
        return AsyncStream(self._connection, self._generate_call(prompt, options, stream=True))

    async def generate_many(
        self,
        prompts: Iterable[str | Sequence[int]],
        *,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        progress: Report[Generation] | None = None,
        **options: Unpack[BatchOptions],
    ) -> list[Generation]:
        """Generates from many prompts, several at a time, and returns the answers in their order.

        A prompt that fails does not stop the others. Only an error that applies to all of them, an
        API key or a model that the server does not know, makes the rest fail without being sent.
        With asyncio, cancelling the task stops the requests in progress. Without it, Ctrl-C waits
        for them.

        Args:
            prompts: Texts, or lists of token ids.
            max_concurrency: How many requests can be in progress at the same time.
            progress: A plain function. Called in this thread after each request, with the position
                of its prompt and the generation or the error.
            options: See `BatchOptions`.

        Raises:
            BatchError: Some prompts failed; its `results` include the answers to the others.
            InvalidRequestError: A prompt is neither a text nor a list of token ids, or
                `max_concurrency` is less than 1.
        """
        asked = sources(prompts)
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
        """Computes how likely the model finds a completion after a prompt. Writes nothing.

        Args:
            prompt: The text before the completion; or token ids, which are used exactly as they
                are, so that `score(ids[:1], ids[1:])` scores all of a text but its first token.
            completion: The text to score, or its token ids.
            model: The name of the model; the client's default if None.
            mode: What a prompt that is a text is; see `BatchOptions`. Does not affect token ids.
            priority: See `SamplingOptions`.
            deadline: See `SamplingOptions`.
            request_id: See `TurnOptions`.

        Raises:
            InvalidRequestError: The prompt or the completion is empty.
        """
        model = model_for(model, self._model, None)
        context = await self._ids(prompt, model, special=True, mode=mode)
        ids = await self._ids(completion, model, special=False, mode=mode)
        call = score_call(
            context, ids, model=model, priority=priority, deadline=deadline, request_id=request_id
        )
        return read_score(await self._connection.ask(call, Generation), ids)

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
        """Scores many completions, several at a time, and returns the scores in their order.

        Errors, cancellation and Ctrl-C are handled as in `generate_many`.

        Args:
            pairs: Prompts with their completions; see `score`.
            max_concurrency: How many requests can be in progress at the same time.
            progress: A plain function. Called in this thread after each request, with the position
                of its pair and the score or the error.
            model: The name of the model; the client's default if None.
            mode: See `score`.
            priority: See `SamplingOptions`.
            deadline: See `SamplingOptions`.

        Raises:
            BatchError: Some pairs failed; its `results` include the scores of the others.
            InvalidRequestError: They are not pairs, or `max_concurrency` is less than 1.
        """
        texts = score_pairs(pairs)
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
        """Turns a text into token ids.

        Args:
            text: The text.
            model: The name of the model; the client's default if None.
            add_special_tokens: Whether to include the special tokens that the model needs around
                a prompt.
            mode: The mode of the prompt, which decides on its special tokens; see `BatchOptions`.
            return_token_strs: Whether to return the text of each token as well.
        """
        call = tokenize_call(
            text,
            model=model_for(model, self._model, None),
            special=add_special_tokens,
            mode=mode,
            strings=return_token_strs,
        )
        return await self._connection.ask(call, Tokenization)

    async def detokenize(self, tokens: Sequence[int], *, model: str | None = None) -> str:
        """Turns token ids into a text.

        Args:
            tokens: The ids, without special ones, which have no text.
            model: The name of the model; the client's default if None.
        """
        call = detokenize_call(tokens, model=model_for(model, self._model, None))
        return (await self._connection.ask(call, Detokenization)).prompt

    async def tokenizer_info(self, *, model: str | None = None) -> TokenizerInfo:
        """Describes the tokenizer of a model, the client's default if None."""
        call = tokenizer_info_call(model_for(model, self._model, None))
        return await self._connection.ask(call, TokenizerInfo)

    async def models(self) -> list[Model]:
        """Lists the models that the server serves, its default first."""
        return (await self._connection.ask(MODELS, ModelList)).data

    async def admin_models(self) -> list[AdminModel]:
        """Lists the models that the server serves and those it could load. For administrators."""
        return (await self._connection.ask(ADMIN_MODELS, AdminModelList)).models

    async def load_model(self, name: str) -> AdminModel:
        """Loads a model, unless it is loaded already, and serves it. For administrators.

        Returns once the model is served. If that takes longer than `timeout`, this raises an
        `APITimeoutError`, and the server goes on loading.

        Raises:
            ModelNotFoundError: The server has no checkpoint of this name.
            ModelLoadError: The checkpoint cannot be loaded. The other models are not affected.
        """
        return await self._connection.ask(load_call(name), AdminModel)

    async def unload_model(self, name: str) -> None:
        """Stops serving a model once its requests are finished. For administrators.

        Raises:
            ConflictError: It is the server's default model, which cannot be unloaded.
            ModelNotFoundError: The server does not serve this model.
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
        """Returns a session, which an `async with` block or its method `open` then opens.

        Args:
            id: The id of a session that the server already has. It stays on the server when the
                block is left. Without an id, opening makes a new session, and leaving the block
                deletes it.
            model: The name of the model for all turns of a new session; the client's default if
                None.
            ttl: Seconds without use after which the server drops a new session; the server's
                default if None.
            keep: Whether a new session stays on the server when the block is left.

        Raises:
            InvalidRequestError: `model` or `ttl` is given together with `id`.
        """
        for name, value in {"model": model, "ttl": ttl}.items():
            if id is not None and value is not None:
                raise InvalidRequestError(
                    f"{name} is for a session that is yet to be made, and this one has an id"
                )
        model = model_for(model, self._model, id)
        keep = keep or id is not None
        return AsyncSession(self._connection, id, model=model, ttl=ttl, keep=keep)

    async def sessions(self, *, limit: int | None = None) -> AsyncIterator[SessionInfo]:
        """Yields all sessions on the server, oldest first, and fetches each page when needed.

        Sessions that are made or deleted in the meantime may or may not be included.

        Args:
            limit: How many sessions to fetch at a time, 1 to 1000; the server's default if None.
        """
        after: str | None = None
        while True:
            page = await self._connection.ask(list_call(after, limit), SessionPage)
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
        """Uploads a snapshot, and returns the session that the server makes from it, open.

        Args:
            source: The snapshot: the path of a file, its content, or an open file that can seek.
                Files are read while they are being sent.
            id: The id for the session, `ses-` and 32 hexadecimal digits. It replaces a session that
                has this id already, and stays on the server when its block is left. None makes a
                new id, and leaving the block deletes the session.
            keep: Whether a session with a new id stays on the server when its block is left.
            progress: A plain function. Called with the number of bytes that were sent and the
                total; from 0 again when the connection breaks and the request is retried.

        Raises:
            InvalidSnapshotError: The snapshot is damaged, or was made with other weights or by
                another version.
            RequestTooLargeError: It is larger than the server accepts.
            SessionBusyError: There is a session with this id, and another request is using it.
            TooManySessionsError: The server holds as many sessions as it may.
            OSError: The file cannot be read.
        """
        with uploading(source, progress) as upload:
            call = restore_call(new_session_id() if id is None else id, upload)
            info = await self._connection.ask(call, SessionInfo)
        keep = keep or id is not None
        return AsyncSession(self._connection, info.id, is_open=True, keep=keep)

    async def info(self, *, model: str | None = None) -> ServerInfo:
        """Describes a model, the client's default if None, and the limits of the server.

        Raises:
            ModelNotFoundError: The server does not serve this model.
        """
        return await self._connection.ask(
            info_call(model_for(model, self._model, None)), ServerInfo
        )

    async def health(self) -> Health:
        """Returns how busy the server is. Asks once, without retries.

        Raises:
            ServiceUnavailableError: The server is starting, stalled or shutting down.
        """
        return parse_answer(await self._connection.send_once(HEALTH), Health)

    async def ready(self) -> bool:
        """Tells whether the server can take requests now. Asks once, without retries.

        Returns False if the server cannot be reached, or is starting, stalled or shutting down.
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
        self, given: str | Sequence[int], model: str | None, *, special: bool, mode: str | None
    ) -> list[int]:
        asked = source(given)
        if "token_ids" in asked:
            return integers("token_ids", asked["token_ids"])
        found = await self.tokenize(
            asked["prompt"], model=model, add_special_tokens=special, mode=mode
        )
        return found.tokens
