"""What requests that generate demand of several fields together, as JSON Schema.

Pydantic checks it in Python, which its own JSON Schema cannot say; the OpenAPI document does.
"""

from typing import Any

_Schema = dict[str, Any]

_NULL: _Schema = {"type": "null"}
_NO: _Schema = {"enum": [False, None]}
_YES: _Schema = {"const": True}


def generate_rules(session_id: str) -> _Schema:
    """Those of `POST /generate`.

    Args:
        session_id: regular expression that ids of sessions match.
    """
    not_empty = {"properties": {"prompt": {"minLength": 1}, "token_ids": {"minItems": 1}}}
    one_of_two = [
        {"required": [given], "properties": {given: {"not": _NULL}, absent: _NULL}}
        for given, absent in (("prompt", "token_ids"), ("token_ids", "prompt"))
    ]
    alone: list[_Schema] = [not_empty]
    in_session = [{"anyOf": [_with("mode", {"const": "raw"}), not_empty]}]
    return {"allOf": [{"oneOf": one_of_two}, _sessions(session_id, alone, in_session)]}


def completion_rules(session_id: str, text: _Schema, ids: _Schema) -> _Schema:
    """Those of `POST /v1/completions`, where `null` stands for a field that is not there.

    How many choices there may be in all is told in words: JSON Schema cannot multiply.

    Args:
        session_id: regular expression that ids of sessions match.
        text: what a text has to be, if it is not empty.
        ids: the same of token ids.
    """
    text, ids = text | {"minLength": 1}, ids | {"minItems": 1}
    several = [_array(text), _array(ids)]
    not_empty = _prompt(text, ids, *several)
    single = [text, ids, *(_array(one, most=1) for one in (text, ids))]
    empty_ids = ids | {"minItems": 0}
    alone = [not_empty]
    in_session = [
        {
            "anyOf": [
                _prompt(*single),
                # In raw mode, which is that of ids, a prompt may be empty.
                {
                    "properties": {
                        "prompt": {"anyOf": [empty_ids, _array(empty_ids, most=1)]},
                        "mode": {"enum": ["raw", None]},
                    }
                },
                _with("mode", {"const": "raw"}) | {"allOf": [_prompt({"enum": ["", [""]]})]},
            ]
        }
    ]
    return {
        "allOf": [
            _sessions(session_id, alone, in_session),
            {"anyOf": [{"properties": {"stream_options": _NULL}}, _with("stream", _YES)]},
        ]
    }


def allow_null(schema: _Schema) -> None:
    """Let every field of an object that may be left out be null."""
    for name, field in schema["properties"].items():
        if name not in schema["required"] and _NULL not in field.get("anyOf", ()):
            described = {key: field.pop(key) for key in ("title", "description") if key in field}
            schema["properties"][name] = {"anyOf": [field, _NULL], **described}


def _sessions(session_id: str, alone: list[_Schema], in_session: list[_Schema]) -> _Schema:
    """What is demanded without a session or in one, besides what the arguments say."""
    return {
        "anyOf": [
            {
                "title": "Without a session",
                "properties": {"session_id": _NULL, "wait_for_session": _NO},
                "allOf": [
                    *alone,
                    {
                        "anyOf": [
                            {"properties": {"max_tokens": {"anyOf": [_NULL, {"minimum": 1}]}}},
                            _with("echo", _YES),
                        ]
                    },
                ],
            },
            {
                "title": "In a session",
                "required": ["session_id"],
                "properties": {
                    "session_id": {"type": "string", "pattern": f"^{session_id}$"},
                    "n": {"enum": [1, None]},
                },
                "allOf": [
                    *in_session,
                    {"anyOf": [{"properties": {"echo": _NO}}, {"properties": {"logprobs": _NULL}}]},
                ],
            },
        ]
    }


def _with(name: str, field: _Schema) -> _Schema:
    """An object that has a field."""
    return {"required": [name], "properties": {name: field}}


def _prompt(*forms: _Schema) -> _Schema:
    return {"properties": {"prompt": {"anyOf": list(forms)}}}


def _array(items: _Schema, *, most: int | None = None) -> _Schema:
    bound = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": items, "minItems": 1, **bound}
