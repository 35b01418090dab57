"""The rules that the document has for several fields together are those of the server."""

from itertools import product

import jsonschema_rs
from pydantic import ValidationError

from server.schemas import GenerateRequest

ABSENT = object()
SESSION = "ses-019aa9c5c0d2f4a1c2d3e4f5a64f0c9d"
FIELDS = {
    "prompt": [ABSENT, None, "", "a"],
    "token_ids": [ABSENT, None, [], [97]],
    "mode": [ABSENT, "copy", "recall", "raw"],
    "session_id": [ABSENT, None, SESSION, "ses-1"],
    "wait_for_session": [ABSENT, True],
    "max_tokens": [ABSENT, None, 0, 1],
    "n": [ABSENT, 1, 2],
    "echo": [ABSENT, False, True],
    "logprobs": [ABSENT, None, 0],
}


def is_taken(body: dict[str, object]) -> bool:
    try:
        GenerateRequest.model_validate(body)
    except ValidationError:
        return False
    return True


def test_what_the_document_allows_is_what_the_server_takes() -> None:
    validator = jsonschema_rs.validator_for(GenerateRequest.model_json_schema())
    bodies = [
        {name: value for name, value in zip(FIELDS, values, strict=True) if value is not ABSENT}
        for values in product(*FIELDS.values())
    ]
    taken = [body for body in bodies if is_taken(body)]
    assert [body for body in bodies if validator.is_valid(body)] == taken
    assert 1000 < len(taken) < len(bodies) - 1000
