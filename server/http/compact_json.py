"""JSON as it is sent: compact, in UTF-8, without escapes that nobody needs."""

import json
from typing import Any

# Nothing in JSON asks for these to be escaped, but to many programs that read lines, such as the
# lines of an event, they end one. All other line ends are control characters, always escaped.
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def compact_json(value: Any) -> str:
    """Any value as JSON, on what every program takes for one line."""
    return _on_one_line(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def json_string(text: str) -> str:
    """A string as JSON, as `compact_json` writes it."""
    return _on_one_line(json.encoder.encode_basestring(text))


def _on_one_line(json: str) -> str:
    if not json.isascii():
        for end, escaped in _LINE_ENDS.items():
            json = json.replace(end, escaped)
    return json
