"""`POST /generate`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from starlette.requests import ClientDisconnect

from model.sampling import SamplingParams
from server.dependencies import ModelsDependency, RequestId, SessionsDependency
from server.errors import (
    BodyTooLargeError,
    DeadlineExceededError,
    EngineError,
    InvalidRequestError,
    MalformedBodyError,
    ModelNotFoundError,
    OverloadedError,
    RequestTooLargeError,
    SessionBusyError,
    SessionDamagedError,
    SessionEmptyError,
    SessionFullError,
    SessionNotFoundError,
    SessionOfOtherWeightsError,
    ShuttingDownError,
    StoreUnavailableError,
    UnsupportedMediaTypeError,
)
from server.generation import GenerationParams
from server.json_body import JsonRoute
from server.openapi import SESSION_ERRORS, describe_errors, describe_events
from server.schemas import GenerateChunk, GenerateRequest, GenerateResponse
from server.streaming import EventStream, nobody_reads, unless_disconnected, whole_response

router = APIRouter(route_class=JsonRoute, tags=["generate"])

_ID = "gen-4f0c9d3e7a5b4d21b3f4a1c2d3e4f5a6"
_EVENTS = (
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"h","token_ids":[104],'
    '"finish_reason":null}\n\n'
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"i","token_ids":[105],'
    '"finish_reason":null}\n\n'
    f'data: {{"id":"{_ID}","model":"copy-bytes","index":0,"text":"","token_ids":[],'
    '"finish_reason":"stop",'
    '"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,'
    '"cached_tokens":0}}\n\n'
    "data: [DONE]\n\n"
)
_STREAM = describe_events(GenerateChunk)
_STREAM["text/event-stream"]["example"] = _EVENTS
_OK: dict[int | str, Any] = {
    200: {
        "description": "The generation: one JSON document or, with `stream`, server-sent events, "
        "each a `GenerateChunk`, then `[DONE]`. An error after the first event is an event with "
        "an `error` in place of a chunk, and the last one.",
        "content": _STREAM,
    }
}
_ERRORS = describe_errors(
    {
        MalformedBodyError: ("the key 'prompt' appears twice", None),
        BodyTooLargeError: ("the body is larger than the limit of 1048576 bytes", None),
        RequestTooLargeError: (
            "the request may hold 9000 tokens, the server's memory pool holds 8192; shorten it "
            "or lower max_tokens",
            "prompt",
        ),
        UnsupportedMediaTypeError: (
            "the body must be JSON in UTF-8, sent with 'content-type: application/json'",
            None,
        ),
        InvalidRequestError: ("give either 'prompt' or 'token_ids', not both", "prompt"),
        EngineError: ("the engine failed while it worked on this request; try again", None),
        OverloadedError: ("too many requests are waiting; try again later", None),
        ShuttingDownError: ("the server is shutting down", None),
        DeadlineExceededError: ("the request took longer than 2 s", None),
        ModelNotFoundError: ("there is no model 'copy-all'; served are copy-bytes", "model"),
        SessionNotFoundError: SESSION_ERRORS[SessionNotFoundError],
        SessionBusyError: SESSION_ERRORS[SessionBusyError],
        SessionEmptyError: (
            "session ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d is empty, there is nothing to go on from",
            "prompt",
        ),
        SessionOfOtherWeightsError: SESSION_ERRORS[SessionOfOtherWeightsError],
        SessionFullError: (
            "prompt: is 900 tokens long; the session has 16000 already, it takes at most 381 more",
            "prompt",
        ),
        SessionDamagedError: SESSION_ERRORS[SessionDamagedError],
        StoreUnavailableError: SESSION_ERRORS[StoreUnavailableError],
    }
)
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
    responses=_OK | _ERRORS,
)
async def generate(
    body: Annotated[GenerateRequest, Body(openapi_examples=_EXAMPLES)],
    models: ModelsDependency,
    request_id: RequestId,
    request: Request,
    sessions: SessionsDependency,
) -> Response:
    """Generate from a prompt, at once or as a stream of server-sent events."""
    engine = models.get(body.model)
    source = body.prompt if body.prompt is not None else body.token_ids
    assert source is not None
    params = GenerationParams(
        max_tokens=body.max_tokens,
        mode=body.mode,
        sampling=SamplingParams(
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            min_p=body.min_p,
            seed=body.seed,
        ),
        stop=body.stop or (),
        n=body.n,
        logprobs=body.logprobs,
        echo=body.echo,
        ignore_eos=body.ignore_eos,
        priority=body.priority,
        timeout=body.timeout,
    )
    if body.session_id is None:
        stream = engine.submit(source, params, request_id=request_id)
    else:
        turn = sessions.submit(
            body.session_id,
            source,
            params,
            wait=body.wait_for_session,
            request_id=request_id,
        )
        try:
            stream = await unless_disconnected(request.receive, turn)
        except ClientDisconnect:
            return nobody_reads()
    if body.stream:
        return EventStream(stream, engine.model.name)
    return await whole_response(stream, engine.model.name, request.receive)
