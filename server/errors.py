"""Everything that can go wrong, and the one shape in which a client is told."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from server.http.compact_json import compact_json
from server.http.openai_errors import PREFIX, is_openai, openai_body, openai_status, retry_headers

LONGEST_ECHO = 100  # characters of a client's own words that an error repeats


class StartupError(RuntimeError):
    """The server cannot start; the message says why and what to do, in one line."""


class ServiceError(HTTPException):
    """An error that a client is told.

    Attributes:
        type: a word for programs; every subclass has its own.
        message: a sentence for people.
        param: the field of the request that is at fault, if one is.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    type = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(self.status, message, dict(headers or {}))
        self.message = message
        self.param = param

    def body(self) -> dict[str, Any]:
        """The error as JSON values: `{"error": {"type", "message", "param"}}`."""
        return error_body(self.type, self.message, self.param)

    def response(self, scope: Scope) -> Response:
        """The error as the answer to a request; see `answer_with`."""
        return answer_with(
            scope, self.status_code, self.type, self.message, self.param, self.headers
        )


class MalformedRequestError(ServiceError):
    """Something that is not HTTP."""

    status = HTTPStatus.BAD_REQUEST
    type = "malformed_request"


class MalformedBodyError(ServiceError):
    """A body that is not JSON."""

    status = HTTPStatus.BAD_REQUEST
    type = "malformed_body"


class BodyTooLargeError(ServiceError):
    """A body of more bytes than the server reads."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "body_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """A body that does not call itself JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    type = "unsupported_media_type"


class InvalidRequestError(ServiceError):
    """Well-formed JSON that asks for something impossible."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    type = "invalid_request"


class RequestTooLargeError(ServiceError):
    """A valid request that needs more memory than the server has."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "request_too_large"


class UnavailableError(ServiceError):
    """The server cannot take this request now; `Retry-After` says when to come back."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    type = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after)})


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

    status = HTTPStatus.UNAUTHORIZED
    type = "unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"www-authenticate": "Bearer"})


class ForbiddenError(ServiceError):
    """The API key may not do this."""

    status = HTTPStatus.FORBIDDEN
    type = "forbidden"


class RateLimitedError(ServiceError):
    """The API key has used up one of its quotas; `Retry-After` says when to come back."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "rate_limited"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after)})


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time; the connection is closed."""

    status = HTTPStatus.REQUEST_TIMEOUT
    type = "request_timeout"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"connection": "close"})


class HeadersTooLargeError(ServiceError):
    """The request has more headers than the server reads."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    type = "headers_too_large"


class UrlTooLongError(ServiceError):
    """The request's URL is longer than the server reads."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    type = "url_too_long"


class EngineError(ServiceError):
    """A step of the engine failed, and this request with it."""

    type = "engine_error"


class ModelNotFoundError(ServiceError):
    """No model of this name is served."""

    status = HTTPStatus.NOT_FOUND
    type = "model_not_found"


class ModelLoadError(ServiceError):
    """The checkpoint cannot be served; what is served goes on."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    type = "model_load_failed"


class DefaultModelError(ServiceError):
    """The default model is served as long as the server runs."""

    status = HTTPStatus.CONFLICT
    type = "default_model"


class SessionNotFoundError(ServiceError):
    """There is no such session: it never was, was deleted, or its time-to-live is over."""

    status = HTTPStatus.NOT_FOUND
    type = "session_not_found"


class SessionBusyError(ServiceError):
    """Another request has the session."""

    status = HTTPStatus.CONFLICT
    type = "session_busy"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"retry-after": "1"})


class SessionTakenError(ServiceError):
    """Another server took the session in the middle of this request, whose prompt is in its log."""

    status = HTTPStatus.CONFLICT
    type = "session_taken"


class SessionExistsError(ServiceError):
    """There is a session of that id already."""

    status = HTTPStatus.CONFLICT
    type = "session_exists"


class SessionEmptyError(ServiceError):
    """There is nothing in the session to save, or to go on from."""

    status = HTTPStatus.CONFLICT
    type = "session_empty"


class SessionOfOtherWeightsError(ServiceError):
    """The session belongs to other weights than those that are served."""

    status = HTTPStatus.CONFLICT
    type = "session_of_other_weights"


class SessionFullError(ServiceError):
    """The session's log would grow beyond what the model or the server holds."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "session_full"


class SessionDamagedError(ServiceError):
    """The store gives back another log than was written."""

    type = "session_damaged"


class TooManySessionsError(ServiceError):
    """The server holds as many sessions as it may."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "too_many_sessions"

    def __init__(self, message: str, *, retry_after: int = 60) -> None:
        super().__init__(message, headers={"retry-after": str(retry_after)})


class InvalidSnapshotError(ServiceError):
    """A snapshot that is damaged, or does not fit this server."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    type = "invalid_snapshot"


class StoreUnavailableError(UnavailableError):
    """The store of sessions cannot be used now; requests without a session are served."""

    type = "session_store_unavailable"


class DeadlineExceededError(ServiceError):
    """The request was not finished within the time that it allowed."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    type = "deadline_exceeded"


def error_body(type: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The one shape of an error, outside `/v1`."""
    return {"error": {"type": type, "message": printable(message), "param": param}}


def answer_with(
    scope: Scope,
    status: int,
    type: str,
    message: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as an HTTP response, in the one shape that the paths of its kind have.

    Args:
        scope: of the request; what is under `/v1` is answered as OpenAI does.
        status: of the answer; OpenAI's own is made of it.
        type: a word for programs.
        message: a sentence for people.
        param: the field at fault, if it is one.
        headers: of the answer.
    """
    headers = {"cache-control": "no-store", **(headers or {})}
    if is_openai(path_of(scope)):
        status = openai_status(status)
        body = openai_body(status, type, printable(message), param)
        headers = retry_headers(status, headers)
    else:
        body = error_body(type, message, param)
    return Response(compact_json(body).encode(), status, headers, media_type="application/json")


def path_of(scope: Scope) -> str:
    """The path of a request within the app; empty for one whose path is not known."""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))


def printable(text: str, longest: int | None = None) -> str:
    """Text that UTF-8 can carry (lone surrogates are spelled out), shortened to `longest`."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if longest is None or len(text) <= longest else text[:longest] + "…"


def install_handlers(app: FastAPI) -> None:
    """Answer every error of an app, whose routers are `app.state.routers`, in the one shape."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    scope, status = request.scope, error.status_code
    if isinstance(error, ServiceError):
        return error.response(scope)
    where = printable(f"{request.method} {request.url.path}", LONGEST_ECHO)
    if status == HTTPStatus.NOT_FOUND:
        message = f"{where}: there is nothing here; {_elsewhere(request)}"
        return answer_with(scope, status, "not_found", message)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        message = f"{where}: use {allowed}"
        return answer_with(scope, status, "method_not_allowed", message, headers={"allow": allowed})
    return answer_with(scope, status, "http_error", str(error.detail), headers=error.headers)


def _elsewhere(request: Request) -> str:
    """What there is in place of what was asked for."""
    if not is_openai(path_of(request.scope)):
        return "see /docs"
    there = [
        f"{method} {route.path}"
        for router in request.app.state.routers
        for route in router.routes
        for method in sorted(route.methods)
        if route.path.startswith(PREFIX)
    ]
    return f"of OpenAI's API, this server has {', '.join(there)}"


def _methods(request: Request) -> list[str]:
    """The methods of all routes that have the path of a request."""
    routes = [route for router in request.app.state.routers for route in router.routes]
    fitting = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    methods = {method for route in fitting for method in route.methods}
    return sorted(methods) or ["GET"]  # the documentation's own routes are not among these


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _explain(error.errors()[0]).response(request.scope)


def _explain(problem: Mapping[str, Any]) -> InvalidRequestError:
    """One of pydantic's findings, in our words where they say more than its own."""
    path = problem["loc"][1:]  # the first is "body"
    if path[-1:] == ("[key]",) and problem["type"] != "extra_forbidden":
        path = path[:-1]  # what is wrong with a key of an object is at that key
    param = _dotted(path) or problem.get("ctx", {}).get("param")
    match problem["type"]:
        case "extra_forbidden":
            message = f"unknown field '{param}'"
        case "string_unicode":
            text = problem["input"]
            place = next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
            message = (
                f"{param or 'the name of a field'}: the character {text[place]!r} at position "
                f"{place} is a lone surrogate, which no text can hold"
            )
        case "missing" | "model_attributes_type" | "model_type" if not path:
            message = "the body must be a JSON object"
        case _:
            message = str(problem["msg"])
            message = f"{param}: {message[0].lower()}{message[1:]}" if path else message
    return InvalidRequestError(message, param=param)


def _dotted(path: tuple[str | int, ...]) -> str | None:
    """`("stop", 2)` as `stop[2]`."""
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return printable(dotted.removeprefix("."), LONGEST_ECHO) or None
