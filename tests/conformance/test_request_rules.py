"""The rules that the document has for several fields together are those of the server."""

from itertools import product
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, ValidationError

from server.api.schemas.completions import CompletionRequest
from server.api.schemas.generate import GenerateRequest

ABSENT = object()
SESSION = "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d"
COMMON: dict[str, list[Any]] = {
    "mode": [ABSENT, "copy", "raw"],
    "session_id": [ABSENT, None, SESSION, "ses-1"],
    "wait_for_session": [ABSENT, True],
    "max_tokens": [ABSENT, None, 0, 1],
    "n": [ABSENT, 1, 2],
    "echo": [ABSENT, False, True],
    "logprobs": [ABSENT, None, 0],
}
GENERATE = COMMON | {"prompt": [ABSENT, None, "", "a"], "token_ids": [ABSENT, None, [], [97]]}
TEXTS: list[Any] = ["", "a", [""], ["a"], ["a", ""], ["a", "b"], ["a", 97]]
IDS: list[Any] = [[], [97], [[]], [[97]], [[97], []], [[97], [98]], [97, "a"]]
COMPLETION = COMMON | {
    "prompt": [ABSENT, None, 5, *TEXTS, *IDS],
    "mode": [None, *COMMON["mode"]],
    "echo": [None, *COMMON["echo"]],
    "n": [ABSENT, None, 2],
    "wait_for_session": [None, True],
}
STREAMING = {
    "prompt": ["a"],
    "stream": [ABSENT, None, False, True],
    "stream_options": [ABSENT, None, {}, {"include_usage": True}, {"include_usage": None}],
}


def is_taken(request: type[BaseModel], body: dict[str, object]) -> bool:
    try:
        request.model_validate(body)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("request_class", "fields"),
    [
        (GenerateRequest, GENERATE),
        (CompletionRequest, COMPLETION),
        (CompletionRequest, STREAMING),
    ],
    ids=["generate", "completion", "streaming"],
)
def test_what_the_document_allows_is_what_the_server_takes(
    request_class: type[BaseModel], fields: dict[str, list[Any]]
) -> None:
    validator = jsonschema_rs.validator_for(request_class.model_json_schema())
    bodies = [
        {name: value for name, value in zip(fields, values, strict=True) if value is not ABSENT}
        for values in product(*fields.values())
    ]
    taken = [body for body in bodies if is_taken(request_class, body)]
    assert [body for body in bodies if validator.is_valid(body)] == taken
    assert 0 < len(taken) < len(bodies)
