"""What FastAPI does not write into the OpenAPI document by itself: errors, and streams."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

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
from server.schemas import ErrorResponse, GenerateChunk

STREAMED: tuple[type[BaseModel], ...] = (GenerateChunk,)
"""What events of streams hold; no route returns it, so FastAPI does not know of it."""

_REF = "#/components/schemas/{model}"
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


def describe_events(chunk: type[BaseModel]) -> dict[str, Any]:
    """The `content` of a response that is a stream of server-sent events.

    Args:
        chunk: one of `STREAMED`, what an event holds that is neither an error nor `[DONE]`.
    """
    names = chunk.__name__, ErrorResponse.__name__
    content = {"anyOf": [{"$ref": _REF.format(model=name)} for name in names]}
    data = {
        "type": "string",
        "if": {"not": {"const": "[DONE]"}},
        "then": {"contentMediaType": "application/json", "contentSchema": content},
    }
    # One event, as FastAPI describes those of its own streams, and OpenAPI 3.2 all.
    event = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return {"text/event-stream": {"itemSchema": event}}


class DocumentedApp(FastAPI):
    """An app whose document has the models of `STREAMED`, too."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; it is made once."""
        is_made = self.openapi_schema is not None
        document = super().openapi()
        if not is_made:
            _, streamed = models_json_schema(
                [(model, "serialization") for model in STREAMED], ref_template=_REF
            )
            document["components"]["schemas"] |= streamed["$defs"]
        return document
