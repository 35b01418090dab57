"""Everything that can go wrong, as types. All of them can be pickled."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from causalrn_client.retry_after import parse_retry_after

TimeoutPhase = Literal["connect", "read", "write", "pool"]


class CausalRNError(Exception):
    """Base of every error that this package raises itself."""


class InvalidRequestError(CausalRNError, ValueError):
    """The request cannot be put on the wire: a lone surrogate, a NaN, an impossible header."""


class APIConnectionError(CausalRNError):
    """The server could not be reached, or the connection broke.

    Attributes:
        may_have_arrived: Whether the server may have received the request, and done what it asks.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class APITimeoutError(APIConnectionError):
    """The server took longer than the time-out allows.

    Attributes:
        phase: What was waited for: `connect`, `read`, `write`, or `pool` (a free connection of
            the client's own pool).
    """

    def __init__(self, message: str, phase: TimeoutPhase) -> None:
        super().__init__(message, may_have_arrived=phase in {"read", "write"})
        self.args = (message, phase)  # what pickle calls this with
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


class BatchError(CausalRNError):
    """Some of many requests failed; the others did not.

    Attributes:
        results: What came of each, in their order: its result, or its error.
        errors: The errors alone, by the places of their requests.
    """

    def __init__(self, results: Sequence[Any]) -> None:
        super().__init__(results)
        self.results = list(results)
        self.errors: Mapping[int, CausalRNError] = {
            place: result
            for place, result in enumerate(self.results)
            if isinstance(result, CausalRNError)
        }

    def __str__(self) -> str:
        place, error = next(iter(self.errors.items()))
        return (
            f"{len(self.errors)} of {len(self.results)} requests failed, the first at place "
            f"{place}: {error}"
        )


class APIStatusError(CausalRNError):
    """The server refused the request.

    Attributes:
        status_code: The HTTP status.
        type: The kind of error; None if the answer was not in the server's error shape.
        message: What is wrong.
        param: The field of the request that is to blame, if one is.
        request_id: The request's id, to be found in the server's log.
        retry_after: Seconds after which the server wants to be asked again; None where it does not
            say.
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
        self.retry_after = parse_retry_after(headers.get("retry-after"), now=time.time())
        self.headers = headers

    def __str__(self) -> str:
        kind = f" {self.type}" if self.type else ""
        hint = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.status_code}{kind}: {self.message}{hint}"


class BadRequestError(APIStatusError):
    """400: the request is not well formed."""


class AuthenticationError(APIStatusError):
    """401: the server wants an API key, and got none or one that it does not know."""


class PermissionDeniedError(APIStatusError):
    """403: the API key is not allowed to do this; the routes of administrators are such."""


class NotFoundError(APIStatusError):
    """404: no such resource; often a wrong `base_url`."""


class RequestTimeoutError(APIStatusError):
    """408: the request did not arrive as a whole in the time that the server gives it."""


class ConflictError(APIStatusError):
    """409: what the request asks for does not go together with the state of its resource."""


class RequestTooLargeError(APIStatusError):
    """413: the request is larger than the server, or the model, can take."""


class UnprocessableEntityError(APIStatusError):
    """422: a field has a value that the server cannot accept; `param` names it."""


class RateLimitError(APIStatusError):
    """429: too many requests from this client; `retry_after` says when there may be more."""


class InternalServerError(APIStatusError):
    """500: the server failed."""


class ServiceUnavailableError(APIStatusError):
    """503: the server is full, draining or not ready."""


class DeadlineExceededError(APIStatusError):
    """504 from the server itself: the request was not finished within its `deadline`.

    Any other 504 is a proxy's, and a plain `APIStatusError`.
    """


class ModelNotFoundError(NotFoundError):
    """404: no model of this name is served, or, where one is to be loaded, known."""


class SessionNotFoundError(NotFoundError):
    """404: there is no such session; it was deleted, or its time-to-live is over."""


class SessionBusyError(ConflictError):
    """409: another request has the session."""


class SessionExistsError(ConflictError):
    """409: there is a session of that id already."""


class SessionOfOtherWeightsError(ConflictError):
    """409: the session belongs to other weights than those that the server serves now."""


class SessionFullError(RequestTooLargeError):
    """413: the session would outgrow what the model, or the server, can hold."""


class ModelLoadError(UnprocessableEntityError):
    """422: the checkpoint cannot be loaded; the message says why, and what is served goes on."""


class InvalidSnapshotError(UnprocessableEntityError):
    """422: the snapshot is damaged, or of other weights or another version than the server's."""


class TooManySessionsError(RateLimitError):
    """429: the server holds as many sessions as it may."""


class SessionDamagedError(InternalServerError):
    """500: the server's store gives back another session than was written."""


class SessionStoreUnavailableError(ServiceUnavailableError):
    """503: the server cannot use its store of sessions now; without a session it still serves."""


STATUS_ERRORS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: InternalServerError,
    503: ServiceUnavailableError,
}
"""The type of error for a status; any other status is a plain `APIStatusError`."""

TYPED_ERRORS: dict[tuple[int, str | None], type[APIStatusError]] = {
    (404, "model_not_found"): ModelNotFoundError,
    (404, "session_not_found"): SessionNotFoundError,
    (409, "session_busy"): SessionBusyError,
    (409, "session_exists"): SessionExistsError,
    (409, "session_of_other_weights"): SessionOfOtherWeightsError,
    (413, "session_full"): SessionFullError,
    (422, "invalid_snapshot"): InvalidSnapshotError,
    (422, "model_load_failed"): ModelLoadError,
    (429, "too_many_sessions"): TooManySessionsError,
    (500, "session_damaged"): SessionDamagedError,
    (503, "session_store_unavailable"): SessionStoreUnavailableError,
    (504, "deadline_exceeded"): DeadlineExceededError,
}
"""The type of error for a status of the server's own, where its kind says more than the status."""
