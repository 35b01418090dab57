"""JSON as it is sent: compact, in UTF-8, without escapes that nobody needs."""

import json
from typing import Any

# Nothing in JSON asks for these to be escaped, but to many programs that read lines, such as the
# lines of an event, they end one. All other line ends are control characters, always escaped.
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}

_ITEMS = 1024  # of a list, that are written at a time


def compact_json(value: Any) -> str:
    """Any value as JSON, on what every program takes for one line."""
    return _on_one_line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def compact_json_in_pieces(value: Any) -> str:
    """The same as `compact_json`, for large values, on a thread beside the event loop.

    Encoded as a whole, a megabyte would keep all other threads from running until it is done.
    """
    if isinstance(value, dict):
        items = (
            f"{json_string(key)}:{compact_json_in_pieces(item)}" for key, item in value.items()
        )
        return f"{{{','.join(items)}}}"
    if not isinstance(value, list) or not value:
        return compact_json(value)
    if isinstance(value[0], list | dict):
        return f"[{','.join(map(compact_json_in_pieces, value))}]"
    pieces = (value[begin : begin + _ITEMS] for begin in range(0, len(value), _ITEMS))
    return f"[{','.join(compact_json(piece)[1:-1] for piece in pieces)}]"


def json_string(text: str) -> str:
    """A string as JSON, as `compact_json` writes it."""
    return _on_one_line(json.encoder.encode_basestring(text))


def _on_one_line(json: str) -> str:
    if not json.isascii():
        for end, escaped in _LINE_ENDS.items():
            json = json.replace(end, escaped)
    return json
