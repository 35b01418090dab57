"""Error responses in the OpenAPI document."""

from typing import Any

from server.errors import ApiError, error_body
from server.schemas import ErrorResponse


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
