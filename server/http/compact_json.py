"""JSON as it is sent: compact, in UTF-8, without escapes that nobody needs."""

import json
from typing import Any

json_string = json.encoder.encode_basestring
"""A string as JSON."""


def compact_json(value: Any) -> str:
    """Any value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
