"""The client for synchronous code."""

import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import httpx

from causalrn_client.batch import DEFAULT_CONCURRENCY, Batch, Report
from causalrn_client.connection import Connection
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
from causalrn_client.run_batch import run_batch
from causalrn_client.score import Score, read_score, score_call
from causalrn_client.session import Session
from causalrn_client.session_id import new_session_id
from causalrn_client.session_info import SessionInfo, SessionPage
from causalrn_client.session_requests import list_call, restore_call
from causalrn_client.stream import Stream
from causalrn_client.upload import Progress, uploading


class Client:
    """Talks to one CausalRN server. May be shared between threads; its streams may not.

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
        http_client: httpx.Client | None = None,
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
        http = http_client if http_client is not None else httpx.Client()
        self._connection = Connection(http, endpoint, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._connection.address)!r})"

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
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Generates, and returns when all is written.

        Args:
            prompt: The text to read. Either this or `token_ids`.
            options: See `GenerateOptions`.

        Raises:
            InvalidRequestError: A value cannot be put on the wire, such as a lone surrogate.
            DeadlineExceededError: It was not finished within `deadline`.
        """
        call = self._generate_call(prompt, options, stream=False)
        return parse_answer(self._connection.send(call), Generation)

    def stream(
        self,
        prompt: str | None = None,
        **options: Unpack[GenerateOptions],
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
        call = self._generate_call(prompt, options, stream=True)
        return Stream(self._connection, call)

    def generate_many(
        self,
        prompts: Iterable[str | Sequence[int]],
        *,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        progress: Report[Generation] | None = None,
        **options: Unpack[BatchOptions],
    ) -> list[Generation]:
        """Generates from many prompts, several at a time; one that fails does not stop the others.

        What holds for all (a key or a model that the server does not know) is not asked again:
        those that are left then fail at once.

        Args:
            prompts: Texts, or token ids.
            max_concurrency: How many requests may be under way at the same time.
            progress: Called in this thread after each, with its place and its generation or error.
            options: The keywords of `generate` that many prompts can share.

        Returns:
            The generations, in the order of their prompts.

        Raises:
            BatchError: Some failed; `results` has the generations of the others.
            ValueError: `max_concurrency` is less than 1.
        """
        asked = [source(prompt) for prompt in prompts]
        batch = Batch[Generation](len(asked), max_concurrency, progress)
        return run_batch(batch, lambda i: self.generate(**asked[i], **options))

    def score(
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

        Args:
            prompt: The text before it, or token ids that are taken as they are, special ones too:
                `score(ids[:1], ids[1:])` scores all ids of a text but the first.
            completion: The text to score, or token ids.
            model: Name of the model; the client's default if None.
            mode: What a prompt that is a text is; see `generate`. For token ids nothing.
            priority: See `generate`.
            deadline: See there.
            request_id: See there.

        Raises:
            InvalidRequestError: One of both is empty.
        """
        model = model_for(model, self._model, None)
        context = self._ids(prompt, model, special=True, mode=mode)
        ids = self._ids(completion, model, special=False, mode=mode)
        call = score_call(
            context, ids, model=model, priority=priority, deadline=deadline, request_id=request_id
        )
        return read_score(parse_answer(self._connection.send(call), Generation), ids)

    def score_many(
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

        Args:
            pairs: Of a prompt and its completion; see `score`.
            max_concurrency: See `generate_many`.
            progress: See there.
            model: See `score`.
            mode: See there.
            priority: See there.
            deadline: See there.

        Returns:
            The scores, in the order of their pairs.

        Raises:
            BatchError: Some failed; `results` has the scores of the others.
            ValueError: `max_concurrency` is less than 1.
        """
        texts = list(pairs)
        batch = Batch[Score](len(texts), max_concurrency, progress)
        return run_batch(
            batch,
            lambda i: self.score(
                *texts[i], model=model, mode=mode, priority=priority, deadline=deadline
            ),
        )

    def tokenize(
        self,
        text: str,
        *,
        model: str | None = None,
        add_special_tokens: bool = True,
        mode: str | None = None,
        return_token_strs: bool = False,
    ) -> Tokenization:
        """Returns the token ids of a text.

        Args:
            text: To be read by the model.
            model: Name of the model; the client's default if None.
            add_special_tokens: Whether those are among them that would wrap it as a prompt.
            mode: What it would be as a prompt; see `generate`.
            return_token_strs: Whether to say the text of each token.
        """
        call = tokenize_call(
            text,
            model=model_for(model, self._model, None),
            special=add_special_tokens,
            mode=mode,
            strings=return_token_strs,
        )
        return parse_answer(self._connection.send(call), Tokenization)

    def detokenize(self, tokens: Sequence[int], *, model: str | None = None) -> str:
        """Returns the text of token ids.

        Args:
            tokens: The ids, without special ones, which have no text.
            model: Name of the model; the client's default if None.
        """
        call = detokenize_call(tokens, model=model_for(model, self._model, None))
        return parse_answer(self._connection.send(call), Detokenization).prompt

    def tokenizer_info(self, *, model: str | None = None) -> TokenizerInfo:
        """Returns what the server says about the tokenizer of a model."""
        call = tokenizer_info_call(model_for(model, self._model, None))
        return parse_answer(self._connection.send(call), TokenizerInfo)

    def models(self) -> list[Model]:
        """Returns the models that are served, the default one first."""
        return parse_answer(self._connection.send(MODELS), ModelList).data

    def admin_models(self) -> list[AdminModel]:
        """Returns the models that are served, and those that could be; for administrators."""
        return parse_answer(self._connection.send(ADMIN_MODELS), AdminModelList).models

    def load_model(self, name: str) -> AdminModel:
        """Loads a model and serves it, if it is not served already; for administrators.

        Returns once it is served, which can take longer than `timeout`: it is loaded all the same.

        Raises:
            ModelNotFoundError: The server has no checkpoint of this name.
            ModelLoadError: It has one that cannot be loaded; what is served goes on.
        """
        return parse_answer(self._connection.send(load_call(name)), AdminModel)

    def unload_model(self, name: str) -> None:
        """Lets the requests of a model finish, and serves it no more; for administrators.

        Raises:
            ConflictError: It is the default one, which stays.
            ModelNotFoundError: It is not served.
        """
        self._connection.delete(unload_call(name))

    def session(
        self,
        id: str | None = None,
        *,
        model: str | None = None,
        ttl: float | None = None,
        keep: bool = False,
    ) -> Session:
        """Returns a session of the server's, to be opened by a `with` block or its `open`.

        Args:
            id: Of a session that the server has; it is left there. None to make one, which leaving
                the block deletes.
            model: Name of the model that the new session is for; the client's default if None.
                All its turns go to that one.
            ttl: Seconds without use after which the new session is gone; the server's default if
                None.
            keep: Whether leaving the block leaves the new session on the server.

        Raises:
            ValueError: `model` or `ttl` is given together with `id`.
        """
        for name, value in {"model": model, "ttl": ttl}.items():
            if id is not None and value is not None:
                raise ValueError(
                    f"{name} is for a session that is yet to be made, and this one has an id"
                )
        model = model_for(model, self._model, id)
        keep = keep or id is not None
        return Session(self._connection, id, model=model, ttl=ttl, keep=keep)

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
        return Session(self._connection, info.id, is_open=True, keep=keep)

    def info(self, *, model: str | None = None) -> ServerInfo:
        """Returns what the server says about a model, the client's default if None, and its limits.

        Raises:
            ModelNotFoundError: It is not served.
        """
        call = info_call(model_for(model, self._model, None))
        return parse_answer(self._connection.send(call), ServerInfo)

    def health(self) -> Health:
        """Returns how busy the server is; asks once, without retries.

        Raises:
            ServiceUnavailableError: It is starting, stalled or draining.
        """
        return parse_answer(self._connection.send_once(HEALTH), Health)

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

    def _generate_call(self, prompt: str | None, options: GenerateOptions, *, stream: bool) -> Call:
        options["model"] = model_for(options.get("model"), self._model, options.get("session_id"))
        return generate_call(prompt, stream=stream, **options)

    def _ids(
        self, source: str | Sequence[int], model: str | None, *, special: bool, mode: str | None
    ) -> list[int]:
        if not isinstance(source, str):
            return [operator.index(token_id) for token_id in source]
        return self.tokenize(source, model=model, add_special_tokens=special, mode=mode).tokens
