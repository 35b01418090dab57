"""Errors on the wire: the status, the headers and the JSON of each.

There are two shapes. Under `/v1`, errors look as programs that speak OpenAI's API expect them:
`{"error": {"message", "type", "param", "code"}}`. Everywhere else they are
`{"error": {"type", "message", "param"}}`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from causalrn.server import errors
from causalrn.server.errors import ServiceError
from causalrn.server.http.compact_json import compact_json
from causalrn.server.printable import printable

OPENAI_PREFIX = "/v1"

_STATUSES: dict[type[ServiceError], HTTPStatus] = {
    ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.MalformedRequestError: HTTPStatus.BAD_REQUEST,
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.SessionNotFoundError: HTTPStatus.NOT_FOUND,
    errors.RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.DefaultModelError: HTTPStatus.CONFLICT,
    errors.SessionBusyError: HTTPStatus.CONFLICT,
    errors.SessionTakenError: HTTPStatus.CONFLICT,
    errors.SessionExistsError: HTTPStatus.CONFLICT,
    errors.SessionEmptyError: HTTPStatus.CONFLICT,
    errors.SessionOfOtherWeightsError: HTTPStatus.CONFLICT,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RequestTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.SessionFullError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UrlTooLongError: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.MisdirectedRequestError: HTTPStatus.MISDIRECTED_REQUEST,
    errors.InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidSnapshotError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelLoadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManySessionsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.HeadersTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
}
"""A class that is not here has the status of the one that it derives from."""

_HEADERS: dict[type[ServiceError], dict[str, str]] = {
    errors.UnauthorizedError: {"www-authenticate": "Bearer"},
    errors.RequestTimeoutError: {"connection": "close"},
    errors.UnsupportedEncodingError: {"accept-encoding": "identity"},
}

_OPENAI_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded",
}


def status_of(error: ServiceError | type[ServiceError], *, openai: bool = False) -> int:
    """The status of an error; under `/v1`, whatever is wrong with a request is 400 and not 422."""
    classes = (error if isinstance(error, type) else type(error)).__mro__
    status = next(_STATUSES[one] for one in classes if one in _STATUSES)
    return _openai_status(status) if openai else int(status)


def error_body(type: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The shape of errors outside `/v1`, as JSON values."""
    return {"error": {"type": type, "message": printable(message), "param": param}}


def openai_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The shape of errors under `/v1`, as JSON values.

    Args:
        status: of the answer, from which OpenAI's few types of errors follow.
        code: what is called `type` outside `/v1`.
        message: a sentence for people.
        param: the field at fault; None if no single field is.
    """
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    type = _OPENAI_TYPES.get(status, "server_error" if is_ours else "invalid_request_error")
    return {"error": {"message": printable(message), "type": type, "param": param, "code": code}}


def error_response(scope: Scope, error: ServiceError) -> Response:
    """The answer to a request that failed; see `answer`."""
    headers = next((_HEADERS[one] for one in type(error).__mro__ if one in _HEADERS), {})
    if error.retry_after is not None:
        headers = headers | {"retry-after": str(error.retry_after)}
    return answer(scope, status_of(error), error.type, error.message, error.param, headers)


def answer(
    scope: Scope,
    status: int,
    type: str,
    message: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as the answer to a request, in the shape that belongs to its path.

    Args:
        scope: of the request; empty if it was never complete, which counts as outside `/v1`.
        status: of the answer, outside `/v1`.
        type: a word for programs.
        message: a sentence for people.
        param: the field at fault; None if no single field is.
        headers: to send besides those that every error has.
    """
    scope.setdefault("state", {})["error"] = type, param  # for the log and the figures
    headers = {"cache-control": "no-store", **(headers or {})}
    if is_openai(scope):
        status = _openai_status(status)
        body = openai_body(status, type, message, param)
    else:
        body = error_body(type, message, param)
    headers |= _retry_advice(status, headers)
    return Response(compact_json(body).encode(), status, headers, media_type="application/json")


def is_openai(scope: Scope) -> bool:
    """Whether answers to a request have OpenAI's shape."""
    path: str = scope.get("path", "")
    path = "/" + path.removeprefix(scope.get("root_path", "")).lstrip("/")
    return path == OPENAI_PREFIX or path.startswith(OPENAI_PREFIX + "/")


def _openai_status(status: int) -> int:
    is_invalid = status == HTTPStatus.UNPROCESSABLE_ENTITY
    return int(HTTPStatus.BAD_REQUEST if is_invalid else status)


def _retry_advice(status: int, headers: Mapping[str, str]) -> dict[str, str]:
    """Tell clients when not to send the same request again, as OpenAI's and this project's heed it.

    They repeat every request that got 408, 409, 429 or a failure of the server. Here that is worth
    it only for errors with `retry-after`; others may have added to a session, or would fail again.
    """
    repeated = status in (408, 409, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if not repeated or any(name.lower() == "retry-after" for name in headers):
        return {}
    return {"x-should-retry": "false"}
