"""Typed sync and async client for a CausalRN inference server.

>>> from causalrn_client import Client
>>> with Client("http://127.0.0.1:8000") as client:
...     print(client.generate("hello").text)

Each name is loaded when it is first used, so that `causalrn_client.cli`, which is inside, answers
`--help` and the Tab key without waiting for httpx and pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from causalrn_client._version import __version__

if TYPE_CHECKING:
    from causalrn_client.async_client import AsyncClient
    from causalrn_client.async_session import AsyncSession
    from causalrn_client.async_stream import AsyncStream
    from causalrn_client.client import Client
    from causalrn_client.errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        BadRequestError,
        CausalRNError,
        ConflictError,
        DeadlineExceededError,
        IncompleteStreamError,
        InternalServerError,
        InvalidRequestError,
        InvalidSnapshotError,
        NotFoundError,
        RateLimitError,
        RequestTooLargeError,
        ResponseFormatError,
        ServiceUnavailableError,
        SessionBusyError,
        SessionDamagedError,
        SessionExistsError,
        SessionFullError,
        SessionNotFoundError,
        SessionOfOtherWeightsError,
        SessionStoreUnavailableError,
        StreamError,
        TooManySessionsError,
        UnprocessableEntityError,
    )
    from causalrn_client.models import (
        Chunk,
        Generation,
        Sample,
        ServerInfo,
        SessionUsage,
        TokenLogprob,
        TopLogprob,
        Usage,
    )
    from causalrn_client.session import Session
    from causalrn_client.session_info import SessionInfo
    from causalrn_client.stream import Stream

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AsyncSession",
    "AsyncStream",
    "BadRequestError",
    "CausalRNError",
    "Chunk",
    "Client",
    "ConflictError",
    "DeadlineExceededError",
    "Generation",
    "IncompleteStreamError",
    "InternalServerError",
    "InvalidRequestError",
    "InvalidSnapshotError",
    "NotFoundError",
    "RateLimitError",
    "RequestTooLargeError",
    "ResponseFormatError",
    "Sample",
    "ServerInfo",
    "ServiceUnavailableError",
    "Session",
    "SessionBusyError",
    "SessionDamagedError",
    "SessionExistsError",
    "SessionFullError",
    "SessionInfo",
    "SessionNotFoundError",
    "SessionOfOtherWeightsError",
    "SessionStoreUnavailableError",
    "SessionUsage",
    "Stream",
    "StreamError",
    "TokenLogprob",
    "TooManySessionsError",
    "TopLogprob",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
]

_HOMES = {
    "AsyncClient": "async_client",
    "AsyncSession": "async_session",
    "AsyncStream": "async_stream",
    "Client": "client",
    "Session": "session",
    "SessionInfo": "session_info",
    "Stream": "stream",
} | dict.fromkeys(
    (
        "Chunk",
        "Generation",
        "Sample",
        "ServerInfo",
        "SessionUsage",
        "TokenLogprob",
        "TopLogprob",
        "Usage",
    ),
    "models",
)

if not TYPE_CHECKING:  # or else type checkers would believe in any name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | set(__all__))
