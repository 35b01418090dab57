"""Typed sync and async client for a CausalRN inference server.

>>> from causalrn_client import Client
>>> with Client("http://127.0.0.1:8000") as client:
...     print(client.generate("hello").text)
"""

from causalrn_client._version import __version__
from causalrn_client.async_client import AsyncClient
from causalrn_client.async_stream import AsyncStream
from causalrn_client.client import Client
from causalrn_client.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    CausalRNError,
    DeadlineExceededError,
    IncompleteStreamError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    RequestTooLargeError,
    ResponseFormatError,
    ServiceUnavailableError,
    StreamError,
    UnprocessableEntityError,
)
from causalrn_client.models import (
    Chunk,
    Generation,
    Sample,
    ServerInfo,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from causalrn_client.stream import Stream

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AsyncStream",
    "BadRequestError",
    "CausalRNError",
    "Chunk",
    "Client",
    "DeadlineExceededError",
    "Generation",
    "IncompleteStreamError",
    "InternalServerError",
    "InvalidRequestError",
    "NotFoundError",
    "RateLimitError",
    "RequestTooLargeError",
    "ResponseFormatError",
    "Sample",
    "ServerInfo",
    "ServiceUnavailableError",
    "Stream",
    "StreamError",
    "TokenLogprob",
    "TopLogprob",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
]
