"""Adds to the OpenAPI document what FastAPI does not write by itself: errors, and streams."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from causalrn.server.api.schemas.errors import ErrorResponse, OpenAIErrorResponse
from causalrn.server.api.schemas.generate import GenerateChunk
from causalrn.server.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    EngineError,
    InvalidRequestError,
    MalformedBodyError,
    ModelNotFoundError,
    ModelUnloadedError,
    OverloadedError,
    RateLimitedError,
    RequestTooLargeError,
    ServiceError,
    SessionBusyError,
    SessionDamagedError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
    ShuttingDownError,
    StoreUnavailableError,
    TooManySessionsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from causalrn.server.http.errors import error_body, openai_body, status_of

STREAMED: tuple[type[BaseModel], ...] = (GenerateChunk,)
"""Models of the events of streams. No route returns them, so FastAPI does not know of them."""

_REF = "#/components/schemas/{model}"
_ID = "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d"
Examples = dict[type[ServiceError], tuple[str, str | None]]
"""For each error that a route can answer with, the message and the field of an example."""

SESSION_ERRORS: Examples = {
    SessionNotFoundError: (f"there is no session '{_ID}'", None),
    SessionBusyError: (
        f"session '{_ID}' is busy with another request; try again, or send "
        "'wait_for_session': true",
        None,
    ),
    SessionEmptyError: (f"session {_ID} is empty, there is nothing to save", None),
    SessionOfOtherWeightsError: (
        f"session {_ID} belongs to weights 4f0c9d3e7a5b (copy-az), this server has 91be02c6d7aa "
        "(copy-bytes)",
        None,
    ),
    SessionDamagedError: ("the session's log in the store is damaged; delete the session", None),
    TooManySessionsError: (
        "there are 100000 sessions, and there may be no more; delete one, or wait until one "
        "expires",
        None,
    ),
    StoreUnavailableError: (
        "the session store cannot be used now: the disk is full; free some space",
        None,
    ),
}
"""What can go wrong with sessions."""

MODEL_ERRORS: Examples = {
    ModelNotFoundError: ("there is no model 'copy-all'; this server has copy-bytes", "model")
}
"""What can go wrong where a model is named."""

MODEL_QUERY_ERRORS: Examples = MODEL_ERRORS | {
    InvalidRequestError: ("unknown field 'name'", "name")
}
"""What can go wrong where nothing but a model is named, in the query."""

BODY_ERRORS: Examples = {
    MalformedBodyError: ("the key 'model' appears twice", None),
    BodyTooLargeError: ("the body is larger than the limit of 1048576 bytes", None),
    UnsupportedMediaTypeError: (
        "the body must be JSON in UTF-8, sent with 'content-type: application/json'",
        None,
    ),
    OverloadedError: ("too many large bodies are on their way; try again later", None),
}
"""What can go wrong with any body, before its fields are looked at."""

PROMPT_ERRORS: Examples = MODEL_ERRORS | BODY_ERRORS
"""What can go wrong with a body that has a prompt for a model."""

GENERATION_ERRORS: Examples = PROMPT_ERRORS | {
    RequestTooLargeError: (
        "the request may hold 9000 tokens, the server's memory pool holds 8192; shorten it "
        "or lower max_tokens",
        "prompt",
    ),
    InvalidRequestError: ("max_tokens: must be at most 131072", "max_tokens"),
    EngineError: ("the engine failed while it worked on this request; try again", None),
    OverloadedError: ("too many requests are waiting; try again later", None),
    ModelUnloadedError: ("the model copy-az was unloaded before the request was finished", None),
    ShuttingDownError: ("the server is shutting down", None),
    DeadlineExceededError: ("the request took longer than 2 s", None),
    SessionNotFoundError: SESSION_ERRORS[SessionNotFoundError],
    SessionBusyError: SESSION_ERRORS[SessionBusyError],
    SessionEmptyError: (f"session {_ID} is empty, there is nothing to go on from", "prompt"),
    SessionOfOtherWeightsError: SESSION_ERRORS[SessionOfOtherWeightsError],
    SessionFullError: (
        "prompt: is 900 tokens long; the session has 16000 already, it takes at most 381 more",
        "prompt",
    ),
    SessionDamagedError: SESSION_ERRORS[SessionDamagedError],
    StoreUnavailableError: SESSION_ERRORS[StoreUnavailableError],
}
"""What can go wrong with a request that generates."""


def describe_errors(examples: Examples, *, openai: bool = False) -> dict[int | str, Any]:
    """FastAPI's `responses` for the errors of a route.

    Args:
        examples: the errors that the route can answer with.
        openai: whether the route belongs to OpenAI's API.
    """
    responses: dict[int | str, Any] = {}
    if openai:  # in place of the 422 that FastAPI would document
        responses["4XX"] = {
            "model": OpenAIErrorResponse,
            "description": "Anything else that is wrong with a request.",
        }
    for error, (message, param) in examples.items():
        summary = (error.__doc__ or "").partition("\n")[0]
        status = status_of(error, openai=openai)
        response = responses.setdefault(
            status,
            {
                "model": OpenAIErrorResponse if openai else ErrorResponse,
                "description": summary,
                "content": {"application/json": {"examples": {}}},
            },
        )
        if response["description"] != summary:
            response["description"] += " " + summary
        response["content"]["application/json"]["examples"][error.type] = {
            "summary": summary,
            "value": openai_body(status, error.type, message, param)
            if openai
            else error_body(error.type, message, param),
        }
    return responses


def describe_events(
    chunk: type[BaseModel], example: str, *, error: type[BaseModel] = ErrorResponse
) -> dict[str, Any]:
    """The `content` of a response that is a stream of server-sent events.

    Args:
        chunk: what each event holds but the last.
        example: a whole stream.
        error: what the last event holds if something goes wrong in the middle.
    """
    content = {"anyOf": [{"$ref": _REF.format(model=name.__name__)} for name in (chunk, error)]}
    data = {
        "type": "string",
        "if": {"not": {"const": "[DONE]"}},
        "then": {"contentMediaType": "application/json", "contentSchema": content},
    }
    # One event, as OpenAPI 3.2 describes it, and FastAPI for streams of its own.
    event = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return {"text/event-stream": {"itemSchema": event, "example": example}}


class DocumentedApp(FastAPI):
    """An app whose OpenAPI document also has the models in `STREAMED`."""

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


_KEY_ERRORS: Examples = {
    UnauthorizedError: ("an API key is needed: send 'Authorization: Bearer KEY'", None),
    RateLimitedError: (
        "this key may have 60 requests a minute, which are used up; try again in 12 s",
        None,
    ),
}
KEY_ERRORS = describe_errors(_KEY_ERRORS)
"""What can go wrong on every route that asks for a key."""

OPENAI_KEY_ERRORS = describe_errors(_KEY_ERRORS, openai=True)
"""The same for the routes of OpenAI's API."""
