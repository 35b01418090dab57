"""`POST /generate`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from causalrn.server.api.formats.generate import GenerateFormat
from causalrn.server.api.json_route import JsonRoute
from causalrn.server.api.openapi import GENERATION_ERRORS, describe_errors, describe_events
from causalrn.server.api.schemas.generate import GenerateChunk, GenerateRequest, GenerateResponse
from causalrn.server.api.submission import Submit

router = APIRouter(route_class=JsonRoute, tags=["generate"])

_ID = "gen-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6"
_EVENTS = (
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"h","token_ids":[104],'
    '"finish_reason":null}\n\n'
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"i","token_ids":[105],'
    '"finish_reason":null}\n\n'
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"","token_ids":[],'
    '"finish_reason":"stop","match":1.0,"verified":true,'
    '"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
    '"cached_tokens":0}}\n\n'
    "data: [DONE]\n\n"
)
_OK: dict[int | str, Any] = {
    200: {
        "description": "The generation: one JSON document or, with `stream`, server-sent events, "
        "each a `GenerateChunk`, then `[DONE]`. An error after the first event is sent as a "
        "last event, with an `error` in place of a chunk.",
        "content": describe_events(GenerateChunk, _EVENTS),
    }
}
_EXAMPLES: Any = {
    "copy": {"summary": "Copy a text", "value": {"prompt": "hello"}},
    "stream": {"summary": "Copy it token by token", "value": {"prompt": "hi", "stream": True}},
    "ids": {"summary": "Copy token ids", "value": {"token_ids": [104, 105]}},
    "recall": {
        "summary": "Go on with a passage that a session read",
        "value": {
            "session_id": "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d",
            "mode": "recall",
            "prompt": "It was the best of",
        },
    },
    "sample": {
        "summary": "Draw tokens, repeatably, up to a comma",
        "value": {
            "prompt": "one, two",
            "max_tokens": 16,
            "temperature": 0.7,
            "top_k": 40,
            "top_p": 0.9,
            "seed": 1,
            "stop": [","],
        },
    },
}


@router.post(
    "/generate",
    summary="Copy a text",
    response_model=GenerateResponse,
    responses=_OK | describe_errors(GENERATION_ERRORS),
)
async def generate(
    body: Annotated[GenerateRequest, Body(openapi_examples=_EXAMPLES)],
    submit: Submit,
) -> Response:
    """Generate from a prompt, at once or as a stream of server-sent events."""
    return await submit(body, GenerateFormat)
