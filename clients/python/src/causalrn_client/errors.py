"""A class for everything that can go wrong. All of these errors can be pickled."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from causalrn_client.retry_after import parse_retry_after

TimeoutPhase = Literal["connect", "read", "write", "pool"]


class CausalRNError(Exception):
    """The base of all errors that this package raises."""


class InvalidRequestError(CausalRNError, ValueError):
    """The request cannot be sent, for example because of a lone surrogate or a NaN."""


class ConfigurationError(CausalRNError, ValueError):
    """The client cannot be made: an argument, or a variable of the environment, is unusable."""


class NotOpenError(CausalRNError, RuntimeError):
    """The client is closed, or the session has not been opened yet."""


class APIConnectionError(CausalRNError):
    """The server could not be reached, or the connection broke.

    Attributes:
        may_have_arrived: Whether the server may have received the request and acted on it.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class APITimeoutError(APIConnectionError):
    """The server took longer than the timeout allows.

    Attributes:
        phase: What the client was waiting for: `connect`, `read`, `write`, or `pool` (a free
            connection in its own pool).
    """

    def __init__(self, message: str, phase: TimeoutPhase) -> None:
        super().__init__(message, may_have_arrived=phase in {"read", "write"})
        self.args = (message, phase)  # pickle calls the class with these
        self.phase = phase

    def __str__(self) -> str:
        return str(self.args[0])


class IncompleteStreamError(APIConnectionError):
    """A stream ended, or was closed, before it was complete."""


class ResponseFormatError(CausalRNError):
    """The answer is not one of a CausalRN server. Perhaps another program has this address."""


class StreamError(CausalRNError):
    """The server reported an error in the middle of a stream.

    Attributes:
        type: The kind of error, such as `engine_error` or `deadline_exceeded`.
        message: What happened.
        param: The field of the request that caused it, or None.
    """

    def __init__(self, error_type: str, message: str, param: str | None = None) -> None:
        super().__init__(error_type, message, param)
        self.type = error_type
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class BatchError(CausalRNError):
    """Some requests of a batch failed.

    Attributes:
        results: The result or the error of each request, in the order of the requests.
        errors: Only the errors, by the positions of their requests.
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
        type: The kind of error, such as `invalid_request`; None if the answer does not look like
            an error of the server, and may come from a proxy.
        message: What is wrong.
        param: The field of the request that caused it, or None.
        request_id: The id of the request, to find it by in the server's log.
        retry_after: How many seconds the server wants you to wait before you try again; None if it
            does not say.
        headers: The headers of the answer.
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
    """400: the request is malformed."""


class AuthenticationError(APIStatusError):
    """401: the server requires an API key, and there was none or it is unknown."""


class PermissionDeniedError(APIStatusError):
    """403: the API key does not allow this, for example because it is not an administrator's."""


class NotFoundError(APIStatusError):
    """404: there is no such resource. Often the `base_url` is wrong."""


class RequestTimeoutError(APIStatusError):
    """408: the whole request did not arrive within the time that the server allows."""


class ConflictError(APIStatusError):
    """409: the request conflicts with the current state of a resource."""


class RequestTooLargeError(APIStatusError):
    """413: the request is too large for the server or the model."""


class UnprocessableEntityError(APIStatusError):
    """422: the server does not accept the value of a field, which `param` names."""


class RateLimitError(APIStatusError):
    """429: this client made too many requests; `retry_after` says how long to wait."""


class InternalServerError(APIStatusError):
    """500: the server failed."""


class ServiceUnavailableError(APIStatusError):
    """503: the server is full, not ready or shutting down."""


class DeadlineExceededError(APIStatusError):
    """504: the request was not finished within its `deadline`.

    A 504 of a proxy is a plain `APIStatusError`.
    """


class ModelNotFoundError(NotFoundError):
    """404: the server does not serve a model of this name, or has none to load."""


class SessionNotFoundError(NotFoundError):
    """404: there is no such session. It may have been deleted or have expired."""


class SessionBusyError(ConflictError):
    """409: another request is using the session."""


class SessionExistsError(ConflictError):
    """409: there already is a session with this id."""


class SessionOfOtherWeightsError(ConflictError):
    """409: the session belongs to other weights than the server now serves."""


class SessionFullError(RequestTooLargeError):
    """413: the session would hold more than the model, or the server, allows."""


class ModelLoadError(UnprocessableEntityError):
    """422: the checkpoint cannot be loaded, as the message explains. Others are unaffected."""


class InvalidSnapshotError(UnprocessableEntityError):
    """422: the snapshot is damaged, or does not match the server's weights or version."""


class TooManySessionsError(RateLimitError):
    """429: the server holds as many sessions as it may."""


class SessionDamagedError(InternalServerError):
    """500: the session in the server's store is not the one that was written there."""


class SessionStoreUnavailableError(ServiceUnavailableError):
    """503: the server cannot reach its session store. Requests without a session still work."""


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
"""The error for each status. Any other status is a plain `APIStatusError`."""

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
"""The error for each status and type of error that is more specific than the status alone."""
