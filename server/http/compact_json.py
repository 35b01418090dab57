"""JSON as it is sent: compact, in UTF-8, without escapes that nobody needs."""

import json
from typing import Any

json_string = json.encoder.encode_basestring
"""A string as JSON."""


def compact_json(value: Any) -> str:
    """Any value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_ITEMS = 1024


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
