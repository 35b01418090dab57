"""Everything that can go wrong with a request, and with a start."""


class StartupError(RuntimeError):
    """The server cannot start; the message says why and what to do, in one line."""


class ServiceError(Exception):
    """A request failed, and whoever sent it is told why.

    How that looks on the wire, with which status and headers, is for `server.http.errors` to say.

    Args:
        message: a sentence for people.
        param: the field of the request that is at fault, if one is.
        retry_after: seconds after which the same request may succeed; None if it would fail again,
            or its class says how long.

    Attributes:
        type: a word for programs; every subclass has its own.
    """

    type = "internal_error"
    retry_after: int | None = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if retry_after is not None:
            self.retry_after = retry_after


class MalformedRequestError(ServiceError):
    """Something that is not HTTP."""

    type = "malformed_request"


class MalformedBodyError(ServiceError):
    """A body that is not JSON."""

    type = "malformed_body"


class BodyTooLargeError(ServiceError):
    """A body of more bytes than the server reads."""

    type = "body_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """A body that does not call itself JSON."""

    type = "unsupported_media_type"


class InvalidRequestError(ServiceError):
    """Well-formed JSON that asks for something impossible."""

    type = "invalid_request"


class RequestTooLargeError(ServiceError):
    """A valid request that needs more memory than the server has."""

    type = "request_too_large"


class UnavailableError(ServiceError):
    """The server cannot take this request now; `Retry-After` says when to come back."""

    type = "unavailable"
    retry_after = 1


class OverloadedError(UnavailableError):
    """The queue is full."""

    type = "overloaded"


class ShuttingDownError(UnavailableError):
    """The server is about to end."""

    type = "shutting_down"


class NotReadyError(UnavailableError):
    """The engine does not move."""

    type = "not_ready"


class ModelUnloadedError(UnavailableError):
    """The model is about to be served no more, though the server goes on."""

    type = "model_unloaded"


class UnauthorizedError(ServiceError):
    """The request has no API key, or one that is not known."""

    type = "unauthorized"


class ForbiddenError(ServiceError):
    """The API key may not do this."""

    type = "forbidden"


class RateLimitedError(ServiceError):
    """The API key has used up one of its quotas; `Retry-After` says when to come back."""

    type = "rate_limited"


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time; the connection is closed."""

    type = "request_timeout"


class HeadersTooLargeError(ServiceError):
    """The request has more headers than the server reads."""

    type = "headers_too_large"


class UrlTooLongError(ServiceError):
    """The request's URL is longer than the server reads."""

    type = "url_too_long"


class EngineError(ServiceError):
    """A step of the engine failed, and this request with it."""

    type = "engine_error"


class ModelNotFoundError(ServiceError):
    """No model of this name is served."""

    type = "model_not_found"


class ModelLoadError(ServiceError):
    """The checkpoint cannot be served; what is served goes on."""

    type = "model_load_failed"


class DefaultModelError(ServiceError):
    """The default model is served as long as the server runs."""

    type = "default_model"


class SessionNotFoundError(ServiceError):
    """There is no such session: it never was, was deleted, or its time-to-live is over."""

    type = "session_not_found"


class SessionBusyError(ServiceError):
    """Another request has the session."""

    type = "session_busy"
    retry_after = 1


class SessionTakenError(ServiceError):
    """Another server took the session in the middle of this request, whose prompt is in its log."""

    type = "session_taken"


class SessionExistsError(ServiceError):
    """There is a session of that id already."""

    type = "session_exists"


class SessionEmptyError(ServiceError):
    """There is nothing in the session to save, or to go on from."""

    type = "session_empty"


class SessionOfOtherWeightsError(ServiceError):
    """The session belongs to other weights than those that are served."""

    type = "session_of_other_weights"


class SessionFullError(ServiceError):
    """The session's log would grow beyond what the model or the server holds."""

    type = "session_full"


class SessionDamagedError(ServiceError):
    """The store gives back another log than was written."""

    type = "session_damaged"


class TooManySessionsError(ServiceError):
    """The server holds as many sessions as it may."""

    type = "too_many_sessions"
    retry_after = 60


class InvalidSnapshotError(ServiceError):
    """A snapshot that is damaged, or does not fit this server."""

    type = "invalid_snapshot"


class StoreUnavailableError(UnavailableError):
    """The store of sessions cannot be used now; requests without a session are served."""

    type = "session_store_unavailable"


class DeadlineExceededError(ServiceError):
    """The request was not finished within the time that it allowed."""

    type = "deadline_exceeded"
