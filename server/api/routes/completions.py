"""`POST /v1/completions`."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from causalrn.server.api.formats.completions import CompletionFormat
from causalrn.server.api.json_route import JsonRoute
from causalrn.server.api.openapi import GENERATION_ERRORS, describe_errors, describe_events
from causalrn.server.api.schemas.completions import (
    Completion,
    CompletionRequest,
    StreamOptions,
)
from causalrn.server.api.schemas.errors import OpenAIErrorResponse
from causalrn.server.api.submission import Submit

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["openai"])

_HEAD = (
    'data: {"id":"cmpl-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6","object":"text_completion",'
    '"created":1760000000,"model":"copy-bytes",'
)
_EVENTS = (
    f'{_HEAD}"choices":[{{"index":0,"text":"h","token_ids":[104],"logprobs":null,'
    '"finish_reason":null}]}\n\n'
    f'{_HEAD}"choices":[{{"index":0,"text":"i","token_ids":[105],"logprobs":null,'
    '"finish_reason":null}]}\n\n'
    f'{_HEAD}"choices":[{{"index":0,"text":"","token_ids":[],"logprobs":null,'
    '"finish_reason":"stop","match":1.0,"verified":true}]}\n\n'
    "data: [DONE]\n\n"
)
_OK: dict[int | str, Any] = {
    200: {
        "description": "The completion: one JSON document or, with `stream`, server-sent events, "
        "each a completion with what is new, then `[DONE]`. An error after the first event is "
        "sent as a last event, with an `error`.",
        "content": describe_events(Completion, _EVENTS, error=OpenAIErrorResponse),
    }
}
_EXAMPLES: Any = {
    "copy": {"summary": "Copy a text", "value": {"model": "copy-bytes", "prompt": "hello"}},
    "texts": {"summary": "Copy several", "value": {"prompt": ["one", "two"], "stream": True}},
    "score": {
        "summary": "Score the ids of a text",
        "value": {
            "prompt": [256, 104, 105, 257, 104],
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        },
    },
}


@router.post(
    "/completions",
    summary="Complete a prompt",
    response_model=Completion,
    responses=_OK | describe_errors(GENERATION_ERRORS, openai=True),
)
async def complete(
    body: Annotated[CompletionRequest, Body(openapi_examples=_EXAMPLES)],
    submit: Submit,
) -> Response:
    """Copy texts or go on from them, in the form of OpenAI's API."""
    options = body.stream_options or StreamOptions()
    write = partial(
        CompletionFormat,
        include_usage=options.include_usage,
        continuous_usage=options.continuous_usage_stats,
    )
    return await submit(body, write, user=body.user)
