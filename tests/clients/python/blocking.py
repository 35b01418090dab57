"""The async client behind the face of the sync one, so that both take the same tests."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal

from causalrn_client import (
    AdminModel,
    AsyncClient,
    AsyncSession,
    AsyncStream,
    Chunk,
    Client,
    Generation,
    Health,
    Model,
    Score,
    ServerInfo,
    Session,
    SessionInfo,
    Stream,
    Tokenization,
    TokenizerInfo,
)


class BlockingStream:
    def __init__(self, portal: BlockingPortal, stream: AsyncStream) -> None:
        self._portal = portal
        self._stream = stream

    def __enter__(self) -> Self:
        self._portal.call(self._stream.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal.call(self._stream.__aexit__, *error)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            return self._portal.call(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def result(self) -> Generation:
        return self._portal.call(self._stream.result)

    def close(self) -> None:
        self._portal.call(self._stream.close)


class BlockingSession:
    def __init__(self, portal: BlockingPortal, session: AsyncSession) -> None:
        self._portal = portal
        self._session = session

    def __repr__(self) -> str:
        return repr(self._session)

    def __enter__(self) -> Self:
        self._portal.call(self._session.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal.call(self._session.__aexit__, *error)

    @property
    def id(self) -> str:
        return self._session.id

    def open(self) -> Self:
        self._portal.call(self._session.open)
        return self

    def close(self) -> None:
        self._portal.call(self._session.close)

    def delete(self) -> None:
        self._portal.call(self._session.delete)

    def generate(self, *args: Any, **options: Any) -> Generation:
        return self._portal.call(partial(self._session.generate, *args, **options))

    def stream(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._portal, self._session.stream(*args, **options))

    def recall(self, *args: Any, **options: Any) -> Generation:
        return self._portal.call(partial(self._session.recall, *args, **options))

    def read(self, *args: Any, **options: Any) -> Generation:
        return self._portal.call(partial(self._session.read, *args, **options))

    def fork(self, **options: Any) -> "BlockingSession":
        return BlockingSession(
            self._portal, self._portal.call(partial(self._session.fork, **options))
        )

    def info(self, **options: Any) -> SessionInfo:
        return self._portal.call(partial(self._session.info, **options))

    def snapshot(self, *args: Any, **options: Any) -> Any:
        return self._portal.call(partial(self._session.snapshot, *args, **options))


class BlockingAsyncClient:
    def __init__(self, portal: BlockingPortal, *args: Any, **options: Any) -> None:
        self._portal = portal
        self._client = AsyncClient(*args, **options)

    def __enter__(self) -> Self:
        self._portal.call(self._client.__aenter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self._portal.call(self._client.__aexit__, *error)

    def generate(self, *args: Any, **options: Any) -> Generation:
        return self._portal.call(partial(self._client.generate, *args, **options))

    def stream(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._portal, self._client.stream(*args, **options))

    def session(self, *args: Any, **options: Any) -> BlockingSession:
        return BlockingSession(self._portal, self._client.session(*args, **options))

    def sessions(self, **options: Any) -> Iterator[SessionInfo]:
        sessions = self._client.sessions(**options)
        while True:
            try:
                yield self._portal.call(sessions.__anext__)
            except StopAsyncIteration:
                return

    def restore(self, *args: Any, **options: Any) -> BlockingSession:
        restored = self._portal.call(partial(self._client.restore, *args, **options))
        return BlockingSession(self._portal, restored)

    def __repr__(self) -> str:
        return repr(self._client)

    def generate_many(self, *args: Any, **options: Any) -> list[Generation]:
        return self._portal.call(partial(self._client.generate_many, *args, **options))

    def score(self, *args: Any, **options: Any) -> Score:
        return self._portal.call(partial(self._client.score, *args, **options))

    def score_many(self, *args: Any, **options: Any) -> list[Score]:
        return self._portal.call(partial(self._client.score_many, *args, **options))

    def tokenize(self, *args: Any, **options: Any) -> Tokenization:
        return self._portal.call(partial(self._client.tokenize, *args, **options))

    def detokenize(self, *args: Any, **options: Any) -> str:
        return self._portal.call(partial(self._client.detokenize, *args, **options))

    def tokenizer_info(self, **options: Any) -> TokenizerInfo:
        return self._portal.call(partial(self._client.tokenizer_info, **options))

    def models(self) -> list[Model]:
        return self._portal.call(self._client.models)

    def admin_models(self) -> list[AdminModel]:
        return self._portal.call(self._client.admin_models)

    def load_model(self, name: str) -> AdminModel:
        return self._portal.call(self._client.load_model, name)

    def unload_model(self, name: str) -> None:
        self._portal.call(self._client.unload_model, name)

    def info(self, **options: Any) -> ServerInfo:
        return self._portal.call(partial(self._client.info, **options))

    def health(self) -> Health:
        return self._portal.call(self._client.health)

    def ready(self) -> bool:
        return self._portal.call(self._client.ready)

    def close(self) -> None:
        self._portal.call(self._client.close)


AnyClient = Client | BlockingAsyncClient
AnyStream = Stream | BlockingStream
AnySession = Session | BlockingSession


def http_clients_of(client: AnyClient | AsyncClient) -> list[httpx.Client | httpx.AsyncClient]:
    """The client of `httpx` that keeps its connections, and that which does not."""
    inner = client._client if isinstance(client, BlockingAsyncClient) else client
    kept, fresh = inner._connection.http, inner._connection.fresh
    return [kept] if kept is fresh else [kept, fresh]


def open_connections(client: AnyClient | AsyncClient) -> list[str]:
    """Connections of the client's pools, as their state: empty once it is closed."""
    found = []
    for http in http_clients_of(client):
        transport = http._transport
        assert isinstance(transport, httpx.HTTPTransport | httpx.AsyncHTTPTransport)
        found += [connection.info() for connection in transport._pool.connections]
    return found


def busy_connections(client: AnyClient | AsyncClient) -> list[str]:
    """Those that some request still holds."""
    return [
        info for info in open_connections(client) if "IDLE" not in info and "CLOSED" not in info
    ]


def expect_the_rest_within(client: AnyClient, seconds: float) -> None:
    """Wait longer for the head of an answer, as a busy machine needs it, than for what follows.

    What a server sends together with the head is there with it.
    """
    (http,) = http_clients_of(client)  # one that was given

    def shorten(response: httpx.Response) -> None:
        response.request.extensions["timeout"]["read"] = seconds

    async def shorten_async(response: httpx.Response) -> None:
        shorten(response)

    hook = shorten if isinstance(http, httpx.Client) else shorten_async
    http.event_hooks = {"response": [hook]}
