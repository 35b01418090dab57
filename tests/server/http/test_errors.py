from collections.abc import Iterator
from typing import Any

import pytest

from causalrn.server.api.schemas.errors import OpenAIErrorResponse
from causalrn.server.errors import (
    RequestTimeoutError,
    ServiceError,
    SessionBusyError,
    TooManySessionsError,
    UnauthorizedError,
    UnavailableError,
)
from causalrn.server.http.errors import answer, error_response, is_openai, status_of

TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "overloaded",
    "server_error",
}


def every(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for one in error.__subclasses__():
        yield one
        yield from every(one)


@pytest.mark.parametrize("error", list(every(ServiceError)), ids=lambda error: error.__name__)
def test_every_error_has_a_type_and_a_code(error: type[ServiceError]) -> None:
    response = error_response({"path": "/v1/completions"}, error("why", param="field"))
    told = OpenAIErrorResponse.model_validate_json(bytes(response.body)).error
    assert response.status_code == status_of(error, openai=True)
    assert response.status_code != 422
    assert told.type in TYPES
    assert (told.type in {"server_error", "overloaded"}) == (status_of(error) >= 500)
    assert (told.message, told.param, told.code) == ("why", "field", error.type)


def test_no_two_errors_have_the_same_type() -> None:
    types = [error.type for error in every(ServiceError)]
    assert len(set(types)) == len(types)


def test_headers_follow_from_the_error() -> None:
    def headers(error: ServiceError) -> dict[str, str]:
        found = dict(error_response({"path": "/info"}, error).headers)
        assert found.pop("cache-control") == "no-store"
        return {name: found[name] for name in found if not name.startswith("content-")}

    assert headers(ServiceError("why")) == {"x-should-retry": "false"}
    assert headers(ServiceError("why", retry_after=7)) == {"retry-after": "7"}
    assert headers(UnavailableError("why")) == {"retry-after": "1"}
    assert headers(UnavailableError("why", retry_after=7)) == {"retry-after": "7"}
    assert headers(SessionBusyError("why")) == {"retry-after": "1"}
    assert headers(TooManySessionsError("why")) == {"x-should-retry": "false"}
    assert headers(UnauthorizedError("why")) == {"www-authenticate": "Bearer"}
    assert headers(RequestTimeoutError("why")) == {"connection": "close", "retry-after": "1"}


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (408, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (431, "invalid_request_error"),
        (500, "server_error"),
        (503, "overloaded"),
        (504, "server_error"),
    ],
)
def test_types_follow_from_statuses(status: int, type: str) -> None:
    response = answer({"path": "/v1"}, status, "word", "why")
    assert OpenAIErrorResponse.model_validate_json(bytes(response.body)).error.type == type


@pytest.mark.parametrize(
    ("status", "headers", "wanted"),
    [
        (400, {}, None),
        (404, {}, None),
        (409, {}, "false"),
        (500, {}, "false"),
        (504, {}, "false"),
        (503, {"retry-after": "1"}, None),
        (409, {"Retry-After": "1"}, None),
        (429, {"retry-after": "1"}, None),
    ],
)
def test_only_what_is_worth_it_is_sent_again(
    status: int, headers: dict[str, str], wanted: str | None
) -> None:
    response = answer({"path": "/v1/models"}, status, "word", "why", headers=headers)
    assert response.headers.get("x-should-retry") == wanted
    own = answer({"path": "/info"}, status, "word", "why", headers=headers)
    assert own.headers.get("x-should-retry") == wanted


@pytest.mark.parametrize(
    ("scope", "openai"),
    [
        ({"path": "/v1"}, True),
        ({"path": "/v1/completions"}, True),
        ({"path": "/v10"}, False),
        ({"path": "/generate"}, False),
        ({"path": "/proxy/v1/models", "root_path": "/proxy"}, True),
        ({}, False),
    ],
)
def test_the_shape_follows_from_the_path(scope: dict[str, Any], openai: bool) -> None:
    response = answer(scope, 422, "word", "why")
    assert (b'"code":"word"' in bytes(response.body)) == openai
    assert response.status_code == (400 if openai else 422)
    assert is_openai(scope) == openai
