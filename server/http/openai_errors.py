"""Errors as programs that speak OpenAI's API expect them; for every path under `/v1`."""

from http import HTTPStatus
from typing import Any

PREFIX = "/v1"

_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded",
}


def is_openai(path: str) -> bool:
    """Whether the answers of a path have OpenAI's shape."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def openai_status(status: int) -> int:
    """The status that OpenAI has for one of ours: what is wrong with a request is 400."""
    return HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status


def openai_body(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`.

    Args:
        status: ours, or OpenAI's.
        code: the type of the error elsewhere.
        message: a sentence for people.
        param: the field at fault, if it is one.
    """
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    type = _TYPES.get(status, "server_error" if is_ours else "invalid_request_error")
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def retry_headers(status: int, headers: dict[str, str]) -> dict[str, str]:
    """What tells OpenAI's clients which errors are over when the same is sent again.

    By themselves they repeat whatever is 408, 409 or a failure of the server. Here only errors with
    `retry-after` are worth it; anything else may have added to a session, or fails again.
    """
    repeated = status in (408, 409, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if not repeated or any(name.lower() == "retry-after" for name in headers):
        return headers
    return headers | {"x-should-retry": "false"}
