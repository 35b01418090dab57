"""What `GenerateRequest` demands of several fields together, as JSON Schema.

Pydantic checks it in Python, which its own JSON Schema cannot say; the OpenAPI document does.
"""

from typing import Any

_NULL: dict[str, Any] = {"type": "null"}
_NO: dict[str, Any] = {"const": False}
_NOT_EMPTY: dict[str, Any] = {
    "properties": {"prompt": {"minLength": 1}, "token_ids": {"minItems": 1}}
}


def _either_of_two(one: str, other: str) -> list[dict[str, Any]]:
    """Exactly one of two fields is there; null counts as absent."""
    return [
        {"required": [given], "properties": {given: {"not": _NULL}, absent: _NULL}}
        for given, absent in ((one, other), (other, one))
    ]


def generate_rules(session_id: str) -> dict[str, Any]:
    """The rules of `POST /generate`.

    Args:
        session_id: regular expression that ids of sessions match.
    """
    alone = {
        "title": "Without a session",
        "properties": {
            "session_id": _NULL,
            "mode": {"enum": ["copy", "raw"]},
            "wait_for_session": _NO,
        },
        "allOf": [_NOT_EMPTY],
        "anyOf": [
            {"properties": {"max_tokens": {"anyOf": [_NULL, {"minimum": 1}]}}},
            {"required": ["echo"], "properties": {"echo": {"const": True}}},
        ],
    }
    in_session = {
        "title": "In a session",
        "required": ["session_id"],
        "properties": {
            "session_id": {"type": "string", "pattern": f"^{session_id}$"},
            "n": {"const": 1},
        },
        "allOf": [
            {
                "anyOf": [
                    {"required": ["mode"], "properties": {"mode": {"const": "raw"}}},
                    _NOT_EMPTY,
                ]
            },
            {"anyOf": [{"properties": {"echo": _NO}}, {"properties": {"logprobs": _NULL}}]},
        ],
    }
    return {
        "allOf": [{"oneOf": _either_of_two("prompt", "token_ids")}, {"anyOf": [alone, in_session]}]
    }
