"""Everything that can go wrong, as types. All of them can be pickled."""

from typing import Literal

import httpx

TimeoutPhase = Literal["connect", "read", "write", "pool"]


class CausalRNError(Exception):
    """Base of every error that this package raises itself."""


class InvalidRequestError(CausalRNError, ValueError):
    """The request cannot be put on the wire: a lone surrogate, a NaN, an impossible header."""


class APIConnectionError(CausalRNError):
    """The server could not be reached, or the connection broke."""


class APITimeoutError(APIConnectionError):
    """The server took longer than the time-out allows.

    Attributes:
        phase: What was waited for: `connect`, `read`, `write`, or `pool` (a free connection of
            the client's own pool).
    """

    def __init__(self, message: str, phase: TimeoutPhase) -> None:
        super().__init__(message, phase)
        self.phase = phase

    def __str__(self) -> str:
        return str(self.args[0])


class IncompleteStreamError(APIConnectionError):
    """A stream ended, or was closed, before it was complete."""


class ResponseFormatError(CausalRNError):
    """An answer is not what a CausalRN server sends; is another program at this address?"""


class StreamError(CausalRNError):
    """The server reported an error in mid-stream, after the first byte of its answer.

    Attributes:
        type: The kind of error, such as `engine_error` or `deadline_exceeded`.
        message: What happened.
        param: The field of the request that is to blame, if one is.
    """

    def __init__(self, error_type: str, message: str, param: str | None = None) -> None:
        super().__init__(error_type, message, param)
        self.type = error_type
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class APIStatusError(CausalRNError):
    """The server refused the request.

    Attributes:
        status_code: The HTTP status.
        type: The kind of error; None if the answer was not in the server's error shape.
        message: What is wrong.
        param: The field of the request that is to blame, if one is.
        request_id: The request's id, to be found in the server's log.
        headers: The answer's headers.
    """

    def __init__(
        self,
        status_code: int,
        error_type: str | None,
        message: str,
        param: str | None,
        headers: httpx.Headers,
    ) -> None:
        super().__init__(status_code, error_type, message, param, headers)
        self.status_code = status_code
        self.type = error_type
        self.message = message
        self.param = param
        self.request_id: str | None = headers.get("x-request-id")
        self.headers = headers

    def __str__(self) -> str:
        kind = f" {self.type}" if self.type else ""
        hint = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.status_code}{kind}: {self.message}{hint}"


class BadRequestError(APIStatusError):
    """400: the request is not well formed."""


class NotFoundError(APIStatusError):
    """404: no such resource; often a wrong `base_url`."""


class RequestTooLargeError(APIStatusError):
    """413: the request is larger than the server, or the model, can take."""


class UnprocessableEntityError(APIStatusError):
    """422: a field has a value that the server cannot accept; `param` names it."""


class RateLimitError(APIStatusError):
    """429: too many requests from this client."""


class InternalServerError(APIStatusError):
    """500: the server failed."""


class ServiceUnavailableError(APIStatusError):
    """503: the server is full, draining or not ready."""


class DeadlineExceededError(APIStatusError):
    """504 from the server itself: the request was not finished within its `deadline`.

    Any other 504 is a proxy's, and a plain `APIStatusError`.
    """


STATUS_ERRORS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    404: NotFoundError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: InternalServerError,
    503: ServiceUnavailableError,
}
"""The type of error for a status; any other status is a plain `APIStatusError`."""
