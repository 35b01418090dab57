"""Typed sync and async client for a CausalRN inference server.

>>> from causalrn_client import Client
>>> with Client("http://127.0.0.1:8000") as client:
...     print(client.generate("hello").text)

Each name is loaded when it is first used. The commands in `causalrn_client.cli` can thus answer
`--help` and the Tab key without importing httpx and pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from causalrn_client._version import __version__

if TYPE_CHECKING:
    from causalrn_client._async.client import AsyncClient
    from causalrn_client._async.session import AsyncSession
    from causalrn_client._async.stream import AsyncStream
    from causalrn_client._sync.client import Client
    from causalrn_client._sync.session import Session
    from causalrn_client._sync.stream import Stream
    from causalrn_client.errors import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BatchError,
        CausalRNError,
        ConfigurationError,
        ConflictError,
        DeadlineExceededError,
        IncompleteStreamError,
        InternalServerError,
        InvalidRequestError,
        InvalidSnapshotError,
        ModelLoadError,
        ModelNotFoundError,
        NotFoundError,
        NotOpenError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
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
    from causalrn_client.generation_options import (
        BatchOptions,
        GenerateOptions,
        SamplingOptions,
        TurnOptions,
    )
    from causalrn_client.model_info import (
        AdminModel,
        Health,
        Model,
        Tokenization,
        TokenizerInfo,
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
    from causalrn_client.score import Score, ScoredToken
    from causalrn_client.session_info import SessionInfo

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AdminModel",
    "AsyncClient",
    "AsyncSession",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "BatchOptions",
    "CausalRNError",
    "Chunk",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "DeadlineExceededError",
    "GenerateOptions",
    "Generation",
    "Health",
    "IncompleteStreamError",
    "InternalServerError",
    "InvalidRequestError",
    "InvalidSnapshotError",
    "Model",
    "ModelLoadError",
    "ModelNotFoundError",
    "NotFoundError",
    "NotOpenError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ResponseFormatError",
    "Sample",
    "SamplingOptions",
    "Score",
    "ScoredToken",
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
    "Tokenization",
    "TokenizerInfo",
    "TooManySessionsError",
    "TopLogprob",
    "TurnOptions",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
]

_HOMES = {
    "_async.client": ("AsyncClient",),
    "_async.session": ("AsyncSession",),
    "_async.stream": ("AsyncStream",),
    "_sync.client": ("Client",),
    "generation_options": ("BatchOptions", "GenerateOptions", "SamplingOptions", "TurnOptions"),
    "model_info": ("AdminModel", "Health", "Model", "Tokenization", "TokenizerInfo"),
    "models": (
        "Chunk",
        "Generation",
        "Sample",
        "ServerInfo",
        "SessionUsage",
        "TokenLogprob",
        "TopLogprob",
        "Usage",
    ),
    "score": ("Score", "ScoredToken"),
    "_sync.session": ("Session",),
    "session_info": ("SessionInfo",),
    "_sync.stream": ("Stream",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOME_OF.get(name, 'errors')}")
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | set(__all__))
