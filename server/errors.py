"""Everything that can go wrong with a request, and with a start."""

DEVICE_FAILED = 4
"""The exit status of a server whose device failed."""


class StartupError(RuntimeError):
    """The server cannot start; the message says why and what to do, in one line."""


class ServiceError(Exception):
    """A request failed, and whoever sent it is told why.

    How that looks on the wire, with which status and headers, is for `causalrn.server.http.errors`
    to say.

    Args:
        message: a sentence for people.
        param: the field of the request that is at fault; None if no single field is.
        retry_after: seconds after which the same request may succeed; if left out, what the class
            says. None there means that it would fail again.

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
    """The request is not valid HTTP."""

    type = "malformed_request"


class MalformedBodyError(ServiceError):
    """The body is not JSON."""

    type = "malformed_body"


class BodyTooLargeError(ServiceError):
    """The body has more bytes than the server accepts."""

    type = "body_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The `content-type` of the body is not the one that is needed."""

    type = "unsupported_media_type"


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The body is compressed."""

    type = "unsupported_encoding"


class InvalidRequestError(ServiceError):
    """The request is well-formed, but asks for something impossible."""

    type = "invalid_request"


class RequestTooLargeError(ServiceError):
    """The request needs more memory than the server has."""

    type = "request_too_large"


class UnavailableError(ServiceError):
    """The server cannot take this request now; `Retry-After` says when to come back."""

    type = "unavailable"
    retry_after = 1


class OverloadedError(UnavailableError):
    """The queue is full."""

    type = "overloaded"


class ShuttingDownError(UnavailableError):
    """The server is shutting down."""

    type = "shutting_down"


class StartingError(UnavailableError):
    """The server is starting: it loads its models, and may compile their kernels first."""

    type = "starting"
    retry_after = 5


class NotReadyError(UnavailableError):
    """The engine is stuck, or not running."""

    type = "not_ready"


class ModelUnloadedError(UnavailableError):
    """The model is being unloaded; the server itself goes on."""

    type = "model_unloaded"


class UnauthorizedError(ServiceError):
    """The request has no API key, or one that is not known."""

    type = "unauthorized"


class ForbiddenError(ServiceError):
    """Whoever asks may not do this."""

    type = "forbidden"


class CrossSiteError(ForbiddenError):
    """A web page of another site asks for a change."""

    type = "cross_site_request"


class MisdirectedRequestError(ServiceError):
    """The request is for a host that this is not."""

    type = "misdirected_request"


class RateLimitedError(ServiceError):
    """The API key has used up one of its quotas; `Retry-After` says when to come back."""

    type = "rate_limited"


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time; the connection is closed."""

    type = "request_timeout"
    retry_after = 1


class HeadersTooLargeError(ServiceError):
    """The request has more headers than the server accepts."""

    type = "headers_too_large"


class UrlTooLongError(ServiceError):
    """The request's URL is longer than the server accepts."""

    type = "url_too_long"


class EngineError(ServiceError):
    """A step of the engine failed, and this request with it."""

    type = "engine_error"


class ModelNotFoundError(ServiceError):
    """No model of this name is served."""

    type = "model_not_found"


class ModelLoadError(ServiceError):
    """The checkpoint cannot be loaded; other models are served as before."""

    type = "model_load_failed"


class DefaultModelError(ServiceError):
    """The default model cannot be unloaded."""

    type = "default_model"


class SessionNotFoundError(ServiceError):
    """There is no such session: it never was, was deleted, or its time-to-live is over."""

    type = "session_not_found"


class SessionBusyError(ServiceError):
    """Another request is using the session."""

    type = "session_busy"
    retry_after = 1


class SessionTakenError(ServiceError):
    """Another server took the session over during this request. Its log may have the prompt."""

    type = "session_taken"


class SessionExistsError(ServiceError):
    """There is a session with this id already."""

    type = "session_exists"


class SessionEmptyError(ServiceError):
    """The session is empty, so there is nothing to save or to go on from."""

    type = "session_empty"


class SessionOfOtherWeightsError(ServiceError):
    """The session belongs to weights that are not served."""

    type = "session_of_other_weights"


class SessionFullError(ServiceError):
    """The session's log would become longer than the model or the server allows."""

    type = "session_full"


class SessionDamagedError(ServiceError):
    """The session's log is damaged in the store."""

    type = "session_damaged"


class TooManySessionsError(ServiceError):
    """The server, or the API key, has as many sessions as it may have."""

    type = "too_many_sessions"


class InvalidSnapshotError(ServiceError):
    """The snapshot is damaged, or does not fit this server."""

    type = "invalid_snapshot"


class StoreUnavailableError(UnavailableError):
    """The store of sessions cannot be used now; requests without a session are served."""

    type = "session_store_unavailable"


class DeadlineExceededError(ServiceError):
    """The request took longer than its `timeout` allows."""

    type = "deadline_exceeded"
