"""Error responses in the OpenAPI document."""

from typing import Any

from server.errors import (
    ApiError,
    SessionBusyError,
    SessionDamagedError,
    SessionEmptyError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
    StoreUnavailableError,
    TooManySessionsError,
    error_body,
)
from server.schemas import ErrorResponse

_ID = "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d"
SESSION_ERRORS: dict[type[ApiError], tuple[str, str | None]] = {
    SessionNotFoundError: (f"there is no session {_ID}", None),
    SessionBusyError: (
        f"session {_ID} is busy with another request; try again, or send 'wait_for_session': true",
        None,
    ),
    SessionEmptyError: (f"session {_ID} is empty, there is nothing to save", None),
    SessionOfOtherWeightsError: (
        f"session {_ID} belongs to weights 4f0c9d3e7a5b (copy-az), this server has 91be02c6d7aa "
        "(copy-bytes)",
        None,
    ),
    SessionDamagedError: (f"the log of session {_ID} is damaged in the store", None),
    TooManySessionsError: ("there are 100000 sessions, as many as this server keeps", None),
    StoreUnavailableError: ("sessions are unavailable: the disk is full", None),
}
"""Examples of what can go wrong with sessions, for `describe_errors`."""


def describe_errors(examples: dict[type[ApiError], tuple[str, str | None]]) -> dict[int | str, Any]:
    """FastAPI's `responses` for the errors of a route.

    Args:
        examples: message and field of an example of every error that the route answers with.
    """
    responses: dict[int | str, Any] = {}
    for error, (message, param) in examples.items():
        summary = (error.__doc__ or "").partition("\n")[0]
        response = responses.setdefault(
            int(error.status),
            {
                "model": ErrorResponse,
                "description": summary,
                "content": {"application/json": {"examples": {}}},
            },
        )
        if response["description"] != summary:
            response["description"] += " " + summary
        response["content"]["application/json"]["examples"][error.type] = {
            "summary": summary,
            "value": error_body(error.type, message, param),
        }
    return responses
